#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "dpo/config.h"
#include "ppo/config.h"
#include "reward/config.h"
#include "sft/config.h"
#include "tools/sample/config.h"
#include "train/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char base[] =
    "{\"model\":{\"path\":\"m\",\"recompute\":false},\"optim\":{\"lr\":1e-4,\"schedule\":\"cosine\","
    "\"epochs\":1,"
    "\"max_steps\":0},\"run\":{\"dir\":\"a\",\"seed\":1,\"keep\":2},\"device\":{\"threads\":0}}";

/* Of a stage whose options have no defaults. */
static Settings settings(const char *text) {
  return (Settings){text, "{}"};
}

static void same_settings_pass(void **state) {
  (void)state;
  Error error = {0};
  assert_true(settings_check(base, settings(base), "here", NULL, &error));
  assert_true(settings_same_end(base, base));
}

static void free_keys_may_differ(void **state) {
  (void)state;
  Error error = {0};
  static const char now[] =
      "{\"model\":{\"path\":\"m\",\"recompute\":true},\"optim\":{\"lr\":0.0001,\"schedule\":\"cosine\","
      "\"epochs\":1.0,"
      "\"max_steps\":0,\"micro_batch_tokens\":5},\"run\":{\"dir\":\"b\",\"seed\":1,\"keep\":9},"
      "\"device\":{\"threads\":2}}";
  assert_true(settings_check(base, settings(now), "here", NULL, &error));
}

static void expect(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("'%s' is not in: %s", part, text);
}

static void differences_are_named(void **state) {
  (void)state;
  Error error = {0};
  StringList told = {0};
  static const char now[] =
      "{\"model\":{\"path\":\"n\"},\"optim\":{\"lr\":2e-4,\"schedule\":\"cosine\",\"batch_size\":3},"
      "\"run\":{\"seed\":2}}";
  assert_false(settings_check(base, settings(now), "step-3", &told, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  expect(error.message, "step-3");
  expect(error.message, "model.path (was \"m\", is \"n\")");
  expect(error.message, "optim.batch_size (was unset, is 3)");
  expect(error.message, "run.seed (was 1, is 2)");
  assert_null(strstr(error.message, "run.dir (was"));
  assert_null(strstr(error.message, "optim.lr (was"));
  string_list_free(&told);
}

/* What messages advise after a gradient that was not finite can be done. */
static void another_course_is_told(void **state) {
  (void)state;
  Error error = {0};
  StringList told = {0};
  static const char now[] =
      "{\"model\":{\"path\":\"m\",\"dtype\":\"f32\"},\"optim\":{\"lr\":2e-4,\"schedule\":\"linear\","
      "\"epochs\":2,"
      "\"max_steps\":0,\"warmup_steps\":9},\"run\":{\"seed\":1,\"max_skipped\":7},\"data\":{\"eval\":\"e\"}}";
  assert_true(settings_check(base, settings(now), "here", &told, &error));
  static const char *const parts[] = {"optim.lr (was 0.0001, is 0.0002): the rates",
                                      "optim.schedule (was \"cosine\", is \"linear\"): the rates",
                                      "optim.epochs (was 1, is 2): the run has another length",
                                      "model.dtype (was unset, is \"f32\"): the fp32 values go on",
                                      "optim.warmup_steps (was unset, is 9): the rates",
                                      "data.eval (was unset, is \"e\"): evaluations"};
  assert_int_equal(told.count, sizeof parts / sizeof *parts);
  for (size_t i = 0; i < told.count; i++) expect(told.items[i], parts[i]);
  string_list_free(&told);
  /* A result is that of its configuration. */
  assert_false(settings_check(base, settings(now), "here", NULL, &error));
  expect(error.message, "optim.lr (was 0.0001, is 0.0002)");
}

static void an_older_checkpoint_goes_on(void **state) {
  (void)state;
  Error error = {0};
  static const char before[] = "{\"ppo\":{\"lam\":0.9},\"rollout\":{\"batch\":4}}";
  static const char now[] =
      "{\"ppo\":{\"lam\":0.9,\"advantage\":\"gae\",\"samples_per_prompt\":1},"
      "\"rollout\":{\"batch\":4,\"cache_dtype\":\"auto\"}}";
  static const char other[] =
      "{\"ppo\":{\"lam\":0.9,\"advantage\":\"gae\",\"samples_per_prompt\":2},"
      "\"rollout\":{\"batch\":4}}";
  static const char defaults[] =
      "{\"ppo\":{\"lam\":0.95,\"advantage\":\"gae\",\"samples_per_prompt\":1},"
      "\"rollout\":{\"batch\":64,\"cache_dtype\":\"auto\"}}";
  assert_true(settings_check(before, (Settings){now, defaults}, "here", NULL, &error));
  assert_false(settings_check(before, (Settings){other, defaults}, "here", NULL, &error));
  expect(error.message, "ppo.samples_per_prompt (was 1, is 2)");
  assert_null(strstr(error.message, "ppo.advantage"));
}

/* Of each stage and each of its options: a checkpoint from before that option goes on, and so does one from before all of them, but
 * for those that have to be given. */
static void check_older(const Option *table, size_t count, void *config, int argc, char **argv) {
  Error error = {0};
  OptionRequest request;
  Buffer text = {0}, none = {0};
  if (!options_parse(table, count, config, argc, argv, &request, &error)) fail_msg("%s", error.message);
  assert_true(options_json(table, count, config, &text, &error));
  options_free(table, count, config);
  assert_true(options_recall(table, count, config, "{}", "defaults", &error) &&
              options_json(table, count, config, &none, &error));
  options_free(table, count, config);
  const Settings now = {text.data, none.data};
  json_t *whole = json_loads(text.data, 0, NULL), *oldest = json_deep_copy(whole);
  for (size_t i = 0; i < count; i++) {
    const char *name = strchr(table[i].key, '.') + 1;
    char section[80], given[160];
    snprintf(section, sizeof section, "%.*s", (int)(name - 1 - table[i].key), table[i].key);
    snprintf(given, sizeof given, "--%s=x", table[i].key);
    bool is_given = false;
    for (int k = 1; k < argc; k++) is_given |= !strcmp(argv[k], given);
    if (is_given) continue;
    json_t *before = json_deep_copy(whole);
    json_object_del(json_object_get(before, section), name);
    json_object_del(json_object_get(oldest, section), name);
    char *dumped = json_dumps(before, 0);
    if (!settings_check(dumped, now, table[i].key, NULL, &error)) fail_msg("%s", error.message);
    free(dumped);
    json_decref(before);
  }
  char *dumped = json_dumps(oldest, 0);
  if (!settings_check(dumped, now, "the oldest", NULL, &error)) fail_msg("%s", error.message);
  free(dumped);
  json_decref(oldest);
  json_decref(whole);
  buffer_free(&text);
  buffer_free(&none);
}

static void every_option_may_be_newer(void **state) {
  (void)state;
  SupervisedConfig sft = {0};
  RewardStageConfig reward = {0};
  DpoStageConfig dpo = {0};
  PpoConfig ppo = {0};
  SampleConfig sample = {0};
  char *learns[] = {"x", "--model.path=x", "--data.train=x", "--run.dir=x"};
  char *scored[] = {"x", "--model.path=x", "--reward.path=x", "--data.prompts=x", "--run.dir=x"};
  check_older(sft_options, sft_option_count, &sft, 4, learns);
  check_older(reward_options, reward_option_count, &reward, 4, learns);
  check_older(dpo_options, dpo_option_count, &dpo, 4, learns);
  check_older(ppo_options, ppo_option_count, &ppo, 5, scored);
  check_older(sample_options, sample_option_count, &sample, 5, scored);
}

/* Of lists of objects each member has its own rule. */
static void members_of_lists(void **state) {
  (void)state;
  Error error = {0};
  StringList told = {0};
#define LIST(url, more)                                                                                     \
  "{\"reward\":{\"sources\":[{\"kind\":\"rules\",\"length\":5},{\"kind\":\"http\",\"url\":\"" url "\"" more \
  "}]}}"
  assert_true(settings_check(LIST("a", ",\"timeout\":3"), settings(LIST("a", ",\"timeout\":4,\"retries\":2")),
                             "here", NULL, &error));
  assert_true(settings_check(LIST("a", ""), settings(LIST("b", "")), "here", &told, &error));
  assert_int_equal(told.count, 1);
  expect(told.items[0], "reward.sources[1].url (was \"a\", is \"b\"): the answers to come are judged there");
  string_list_free(&told);
  assert_false(settings_check(LIST("a", ""), settings(LIST("b", "")), "here", NULL, &error));
  error = (Error){0};
  assert_false(settings_check(LIST("a", ",\"timeout\":3"), settings(LIST("a", ",\"weight\":2")), "here",
                              &told, &error));
  expect(error.message, "reward.sources[1].weight (was unset, is 2)");
  assert_null(strstr(error.message, "timeout"));
  error = (Error){0};
  assert_false(settings_check(LIST("a", ""),
                              settings("{\"reward\":{\"sources\":[{\"kind\":\"rules\",\"length\":5}]}}"),
                              "here", &told, &error));
  expect(error.message, "reward.sources (was [");
  string_list_free(&told);
}

static void a_run_may_end_elsewhere(void **state) {
  (void)state;
  static const char steps[] = "{\"optim\":{\"max_steps\":5}}", more_steps[] = "{\"optim\":{\"max_steps\":9}}";
  assert_false(settings_same_end(steps, more_steps));
  static const char few[] = "{\"ppo\":{\"total_episodes\":8}}", many[] = "{\"ppo\":{\"total_episodes\":16}}";
  assert_false(settings_same_end(few, many));
}

/* Evaluations and checkpoints decide where a run ends, goes or goes back to only with settings of other keys, before or now. */
static void free_keys_that_decide_the_course(void **state) {
  (void)state;
#define RUN(every, keep, best, alarm)                                                                   \
  "{\"run\":{\"eval_every\":" every ",\"save_every\":" every ",\"keep\":" keep ",\"keep_best\":\"" best \
  "\",\"on_alarm\":\"" alarm "\"}}"
  static const struct {
    const char *before, *now, *told[3];
  } cases[] = {
      {RUN("2", "2", "none", "warn"), RUN("3", "3", "none", "warn"), {NULL}},
      {RUN("2", "2", "loss", "warn"),
       RUN("3", "2", "loss", "warn"),
       {"run.eval_every (was 2, is 3): when the model is judged"}},
      {RUN("2", "2", "none", "stop"),
       RUN("3", "3", "none", "stop"),
       {"run.eval_every (was 2, is 3): alarms"}},
      {RUN("2", "2", "none", "rollback"),
       RUN("3", "3", "none", "rollback"),
       {"run.eval_every (was 2, is 3): alarms", "run.save_every (was 2, is 3): these are the checkpoints",
        "run.keep (was 2, is 3): these are the checkpoints"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    StringList told = {0};
    assert_true(settings_check(cases[i].before, settings(cases[i].now), "here", &told, &error));
    size_t expected = 0;
    while (expected < 3 && cases[i].told[expected]) expected++;
    assert_int_equal(told.count, expected);
    for (size_t k = 0; k < expected; k++) expect(told.items[k], cases[i].told[k]);
    string_list_free(&told);
    /* A result is that of its configuration. */
    assert_true(settings_check(cases[i].before, settings(cases[i].now), "here", NULL, &error) == !expected);
  }
#undef RUN
}

static bool is_option(const Option *table, size_t count, const char *key) {
  for (size_t i = 0; i < count; i++) {
    if (!strncmp(table[i].key, key, strcspn(key, "["))) return true;
  }
  return false;
}

/* The table names options that there are, and docs/sft.md has all of it. */
static void the_table_is_printed(void **state) {
  (void)state;
  Error error = {0};
  Buffer page = {0};
  assert_true(file_read("../docs/sft.md", &page, &error));
  for (size_t i = 0; i < settings_key_count; i++) {
    const SettingsKey *key = &settings_keys[i];
    assert_true(is_option(sft_options, sft_option_count, key->key) ||
                is_option(ppo_options, ppo_option_count, key->key) ||
                is_option(sample_options, sample_option_count, key->key));
    char row[512];
    snprintf(row, sizeof row, "| %s |", key->why);
    expect(page.data, row);
    snprintf(row, sizeof row, "`%s`", key->key);
    if (key->key[strlen(key->key) - 1] != '.') expect(page.data, row);
  }
  for (size_t i = 0; i < settings_course_count; i++) {
    char row[512];
    snprintf(row, sizeof row, "| %s |", settings_courses[i].why);
    expect(page.data, row);
    assert_true(is_option(ppo_options, ppo_option_count, settings_courses[i].key) &&
                is_option(ppo_options, ppo_option_count, settings_courses[i].with));
  }
  buffer_free(&page);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_settings_pass),
      cmocka_unit_test(free_keys_may_differ),
      cmocka_unit_test(differences_are_named),
      cmocka_unit_test(another_course_is_told),
      cmocka_unit_test(an_older_checkpoint_goes_on),
      cmocka_unit_test(a_run_may_end_elsewhere),
      cmocka_unit_test(free_keys_that_decide_the_course),
      cmocka_unit_test(every_option_may_be_newer),
      cmocka_unit_test(the_table_is_printed),
      cmocka_unit_test(members_of_lists),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
