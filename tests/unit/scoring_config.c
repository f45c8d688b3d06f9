/* The list of reward sources: what is taken, and what is said of what is not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "scoring/config.h"
#include "scoring/source.h"

#include <string.h>

/* NULL: it is read. */
static void expect(char *sources, const char *message) {
  ScoringConfig config;
  Error error = {0};
  const bool ok = scoring_config_read(&config, &(RewardConfig){.sources = sources}, NULL, &error);
  if (ok != !message) fail_msg("%s: %s", sources, ok ? "was read" : error.message);
  if (message && !strstr(error.message, message)) fail_msg("'%s' is not in: %s", message, error.message);
  if (!ok) assert_int_equal(error.code, ERROR_USAGE);
  scoring_config_free(&config);
}

#define RULE "\"kind\": \"rules\", \"json\": \"any\""

static void lists(void **state) {
  (void)state;
  expect("[{" RULE "}]", NULL);
  expect("[{" RULE ", \"weight\": -0.5}, {\"kind\": \"model\", \"path\": \"rm\"}]", NULL);
  expect("[{" RULE "}, {" RULE "}]",
         "reward.sources[1]: 'name': 'rules' is the name of reward.sources[0] already");
  expect("[{" RULE ", \"name\": \"a/b\"}]",
         "'name': expected up to 40 letters, digits, _, - and ., found 'a/b'");
  expect("[{" RULE ", \"name\": \"\"}]", "'name': expected up to 40");
  expect("[{\"path\": \"rm\"}]", "reward.sources[0]: 'kind': expected one of model, ");
  expect("[{\"kind\": \"modle\"}]", "'modle' is not one of model, ");
  expect("[{\"kind\": \"modle\"}]", "did you mean 'model'?");
  expect("[{\"kind\": \"model\"}]", "reward.sources[0]: 'path' is required (reward model, ");
  expect("[{" RULE "}, {\"kind\": \"model\", \"path\": \"rm\", \"adaptor\": \"x\"}]",
         "reward.sources[1]: unknown key 'adaptor'; did you mean 'adapter'?");
  expect("[{\"kind\": \"model\", \"path\": 7}]",
         "reward.sources[0]: 'path': expected a string, found a number (7)");
}

static void rules(void **state) {
  (void)state;
  expect("[{\"kind\": \"rules\"}]",
         "reward.sources[0]: no rule is given: expected length, repetition, format, exact or json");
  expect("[{\"kind\": \"rules\", \"format\": \"(a\"}]",
         "reward.sources[0]: 'format': missing closing parenthesis at byte 2");
  expect("[{\"kind\": \"rules\", \"exact_extract\": \"a\", \"length\": 3}]",
         "'exact_extract' is given without 'exact', which says what it is compared with");
  expect("[{\"kind\": \"rules\", \"exact\": \"reference\", \"exact_extract_reference\": \"[\"}]",
         "'exact_extract_reference': missing terminating ]");
  expect("[{\"kind\": \"rules\", \"length\": -1}]", "'length': -1 is out of range");
  expect("[{\"kind\": \"rules\", \"json\": \"yes\"}]", "'yes' is not one of none, any, object, list");
}

static void the_short_form(void **state) {
  (void)state;
  ScoringConfig config;
  Error error = {0};
  char path[] = "rm", adapter[] = "a", policy[] = "p", other[] = "c";
  const ModelPlace model = {path, adapter}, none = {0}, actor = {policy, NULL}, critic = {other, NULL};
  assert_true(scoring_config_read(&config, &(RewardConfig){.model = model}, NULL, &error));
  assert_true(config.count == 1 && config.items[0].brief && config.items[0].kind == &model_source);
  CriticStart start = critic_start(&config, false, &none, &actor);
  assert_true(start.is_reward);
  assert_string_equal(start.place.path, "rm");
  assert_string_equal(start.place.adapter, "a");
  start = critic_start(&config, false, &critic, &actor);
  assert_true(!start.is_reward && start.place.path == other && !start.place.adapter);
  scoring_config_free(&config);

  /* Several sources, or one that is no model: there is no one model to begin as. */
  assert_true(scoring_config_read(&config, &(RewardConfig){.sources = "[{" RULE "}]"}, NULL, &error));
  start = critic_start(&config, false, &none, &actor);
  assert_true(!start.is_reward && start.place.path == policy);
  scoring_config_free(&config);

  assert_false(scoring_config_read(&config, &(RewardConfig){0}, NULL, &error));
  assert_non_null(strstr(error.message, "'reward.path' or 'reward.sources' is required"));
  scoring_config_free(&config);
}

/* Costs stand behind the rewards, with names of their own; each critic looks at its sort alone. */
static void costs(void **state) {
  (void)state;
  ScoringConfig config;
  Error error = {0};
  char path[] = "rm", other[] = "cm", policy[] = "p";
  const ModelPlace none = {0}, actor = {policy, NULL};
  const RewardConfig reward = {.model = {path, NULL}}, cost = {.model = {other, NULL}};
  assert_true(scoring_config_read(&config, &reward, &cost, &error));
  assert_true(config.count == 2 && config.rewards == 1);
  for (size_t i = 0; i < 2; i++) {
    const SourceConfig *item = &config.items[i];
    const SourceCommon *common = item->options;
    assert_true(item->brief && item->cost == (i == 1));
    assert_string_equal(common->name, i ? "cost_model" : "model");
    const CriticStart start = critic_start(&config, i == 1, &none, &actor);
    assert_true(start.is_reward);
    assert_string_equal(start.place.path, i ? "cm" : "rm");
  }
  scoring_config_free(&config);

  const RewardConfig rules = {.sources = "[{" RULE "}, {" RULE ", \"name\": \"two\"}]"};
  assert_true(scoring_config_read(&config, &reward, &rules, &error));
  assert_true(config.count == 3 && config.rewards == 1 && !config.items[2].brief);
  assert_true(critic_start(&config, false, &none, &actor).is_reward);
  assert_string_equal(critic_start(&config, true, &none, &actor).place.path, "p");
  scoring_config_free(&config);

  assert_true(scoring_config_read(&config, &reward, &(RewardConfig){0}, &error) && config.count == 1);
  scoring_config_free(&config);
  assert_false(scoring_config_read(&config, &(RewardConfig){0}, &cost, &error));
  assert_non_null(strstr(error.message, "'reward.path' or 'reward.sources' is required"));
  scoring_config_free(&config);
  error = (Error){0};
  const RewardConfig named = {.sources = "[{" RULE "}, {" RULE ", \"name\": \"model\"}]"};
  assert_false(scoring_config_read(&config, &reward, &named, &error));
  assert_non_null(
      strstr(error.message, "cost.sources[1]: 'name': 'model' is the name of reward.sources[0] already"));
  scoring_config_free(&config);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(lists), cmocka_unit_test(rules),
                                     cmocka_unit_test(the_short_form), cmocka_unit_test(costs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
