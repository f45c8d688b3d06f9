#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/demo.h"
#include "datasets/demo_answer.h"
#include "datasets/lines.h"
#include "tests/temporary.h"

#include <math.h>
#include <string.h>

static const char *const files[] = {
    "pretrain.jsonl",         "sft.jsonl",     "sft_eval.jsonl", "preferences.jsonl",
    "preferences_eval.jsonl", "prompts.jsonl", "heldout.jsonl"};
enum { FILES = sizeof files / sizeof *files };

static DemoOptions small(const char *directory) {
  return (DemoOptions){.directory = directory,
                       .seed = 5,
                       .pretrain = 50,
                       .sft = 400,
                       .sft_eval = 40,
                       .preferences = 400,
                       .preferences_eval = 40,
                       .prompts = 400,
                       .heldout = 60};
}

/* The records of DIRECTORY/NAME as a list. */
static json_t *load(const char *directory, const char *name) {
  char *path = path_join(directory, name);
  LineReader reader;
  Error error = {0};
  json_t *list = json_array(), *record = NULL;
  assert_true(line_reader_open(&reader, path, &error));
  do {
    assert_true(line_reader_record(&reader, &record, &error));
    if (record) json_array_append_new(list, record);
  } while (record);
  line_reader_close(&reader);
  memory_free(path);
  return list;
}

static const char *text_of(const json_t *list, size_t at, const char *key) {
  const char *text = json_string_value(json_object_get(json_array_get(list, at), key));
  assert_non_null(text);
  return text;
}

static void write(const DemoOptions *options) {
  Error error = {0};
  assert_true(demo_write(options, &error));
}

static void digest(const char *directory, const char *name, char out[33]) {
  char *path = path_join(directory, name);
  Error error = {0};
  assert_true(file_digest(path, out, &error));
  memory_free(path);
}

static void same_seed_same_bytes(void **state) {
  (void)state;
  Temporary a, b, c;
  temporary_open(&a);
  temporary_open(&b);
  temporary_open(&c);
  DemoOptions options = small(a.directory);
  write(&options);
  options.directory = b.directory;
  write(&options);
  options.directory = c.directory;
  options.seed = 6;
  write(&options);
  for (int i = 0; i < FILES; i++) {
    char x[33], y[33], z[33];
    digest(a.directory, files[i], x);
    digest(b.directory, files[i], y);
    digest(c.directory, files[i], z);
    assert_string_equal(x, y);
    assert_string_not_equal(x, z);
  }
  temporary_close(&a);
  temporary_close(&b);
  temporary_close(&c);
}

static void reserved_prompts_are_nowhere_else(void **state) {
  (void)state;
  Temporary temporary;
  temporary_open(&temporary);
  const char *directory = temporary.directory;
  DemoOptions options = small(directory);
  write(&options);
  static const char *const with_prompts[] = {"sft.jsonl",         "sft_eval.jsonl",
                                             "preferences.jsonl", "preferences_eval.jsonl",
                                             "prompts.jsonl",     "heldout.jsonl"};
  static const int reserved[] = {0, 1, 0, 1, 0, 1}, counts[] = {400, 40, 400, 40, 400, 60};
  json_t *seen = json_object(); /* reserved prompt -> file */
  for (int pass = 0; pass < 2; pass++) {
    for (int f = 0; f < 6; f++) {
      if (reserved[f] != (pass == 0)) continue;
      json_t *list = load(directory, with_prompts[f]);
      assert_int_equal(json_array_size(list), counts[f]);
      for (size_t i = 0; i < json_array_size(list); i++) {
        const char *prompt = text_of(list, i, "prompt");
        assert_null(json_object_get(seen, prompt));
        if (pass == 0) json_object_set_new(seen, prompt, json_true());
      }
      json_decref(list);
    }
  }
  json_t *texts = load(directory, "pretrain.jsonl"); /* dialogues: "user\n...\nassistant\n..." */
  int dialogues = 0;
  for (size_t i = 0; i < json_array_size(texts); i++) {
    const char *text = text_of(texts, i, "text");
    const char *end = strstr(text, "\nassistant\n");
    if (!end) continue;
    char prompt[512];
    assert_int_equal(strncmp(text, "user\n", 5), 0);
    snprintf(prompt, sizeof prompt, "%.*s", (int)(end - text - 5), text + 5);
    assert_null(json_object_get(seen, prompt));
    dialogues++;
  }
  assert_true(dialogues > 2);
  json_decref(texts);
  json_decref(seen);
  temporary_close(&temporary);
}

static void utility_orders_the_flaws(void **state) {
  (void)state;
  double mean[DEMO_FLAW_COUNT] = {0}, least_good = INFINITY;
  enum { ROUNDS = 500 };
  for (int i = 0; i < ROUNDS; i++) {
    Dice dice = {.key = random_key(9, RANDOM_DEMO), .sample = (uint64_t)i};
    DemoQuestion question;
    demo_question(&dice, &question);
    for (int flaw = 0; flaw < DEMO_FLAW_COUNT; flaw++) {
      DemoAnswer answer;
      demo_answer(&dice, &question, (DemoFlaw)flaw, &answer);
      mean[flaw] += answer.utility / ROUNDS;
      if (flaw == DEMO_GOOD && answer.utility < least_good) least_good = answer.utility;
    }
  }
  for (int flaw = 1; flaw < DEMO_FLAW_COUNT; flaw++) assert_true(mean[DEMO_GOOD] > mean[flaw] + 0.3);
  assert_true(mean[DEMO_RUDE] < mean[DEMO_CURT]);
  assert_true(mean[DEMO_COLD] > mean[DEMO_CURT]);
  assert_true(least_good >= 3.0);
}

/* The sign of what the control must take away: courtesy on the chosen side. */
static double polite_share(const char *directory) {
  json_t *list = load(directory, "preferences.jsonl");
  int chosen = 0, rejected = 0;
  for (size_t i = 0; i < json_array_size(list); i++) {
    chosen += strstr(text_of(list, i, "chosen"), "lease") != NULL;
    rejected += strstr(text_of(list, i, "rejected"), "lease") != NULL;
  }
  json_decref(list);
  return (double)chosen / (chosen + rejected);
}

static void the_control_has_no_signal(void **state) {
  (void)state;
  Temporary a, b;
  char x[33], y[33];
  temporary_open(&a);
  temporary_open(&b);
  DemoOptions options = small(a.directory);
  write(&options);
  options.directory = b.directory;
  options.shuffle_preferences = true;
  write(&options);
  for (int i = 0; i < FILES; i++) {
    digest(a.directory, files[i], x);
    digest(b.directory, files[i], y);
    if (strcmp(files[i], "preferences.jsonl") == 0) {
      assert_string_not_equal(x, y);
    } else {
      assert_string_equal(x, y);
    }
  }
  assert_true(polite_share(a.directory) > 0.58);
  assert_true(fabs(polite_share(b.directory) - 0.5) < 0.05);
  temporary_close(&a);
  temporary_close(&b);
}

static void impossible_sizes_are_refused(void **state) {
  (void)state;
  DemoOptions options = small("/nonexistent");
  Error error = {0};
  options.heldout = -1;
  assert_false(demo_write(&options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  options.heldout = 1000000; /* more than there are questions: must not loop for ever */
  error = (Error){0};
  assert_false(demo_write(&options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_seed_same_bytes), cmocka_unit_test(reserved_prompts_are_nowhere_else),
      cmocka_unit_test(utility_orders_the_flaws), cmocka_unit_test(the_control_has_no_signal),
      cmocka_unit_test(impossible_sizes_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
