/* Which of the sampled answers `drover sample` writes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/sample/choose.h"

#include <string.h>

enum { N = 6 };

/* Texts and scores of the answers to a prompt, as sampled: "c" did not end, "a" and "B" came twice. */
static int64_t sorted(const SampleChoice *choice, SampledAnswer out[N], SampleDropped *dropped) {
  static const char *const texts[N] = {"a", "B", "a", "c", "B", "d"};
  static const double scores[N] = {1, 3, 1, 9, 3, 1};
  for (int64_t i = 0; i < N; i++) {
    out[i] = (SampledAnswer){.text = texts[i],
                             .bytes = 1,
                             .finished = i == 3   ? "length"
                                         : i == 4 ? "stop"
                                                  : "eos",
                             .score = scores[i],
                             .number = i};
  }
  *dropped = (SampleDropped){0};
  return sample_sort(choice, out, N, dropped);
}

static void expect_numbers(const SampledAnswer *answers, int64_t count, const char *expected) {
  char text[N + 1] = "";
  for (int64_t i = 0; i < count; i++) text[i] = (char)('0' + answers[i].number);
  assert_string_equal(text, expected);
}

static void best_first_and_what_is_left_out(void **state) {
  (void)state;
  SampledAnswer answers[N];
  SampleDropped dropped;
  SampleChoice choice = {.n = N, .threshold = NO_THRESHOLD};
  expect_numbers(answers, sorted(&choice, answers, &dropped), "105"); /* equal ones as sampled */
  assert_int_equal(dropped.unfinished, 1);
  assert_int_equal(dropped.duplicates, 2);
  choice.duplicates = CARE_KEEP;
  expect_numbers(answers, sorted(&choice, answers, &dropped), "14025");
  assert_int_equal(dropped.duplicates, 0);
  choice.unfinished = CARE_KEEP;
  expect_numbers(answers, sorted(&choice, answers, &dropped), "314025");
  assert_int_equal(dropped.unfinished, 0);
}

static void the_best_k_above_a_threshold(void **state) {
  (void)state;
  SampledAnswer answers[N];
  SampleDropped dropped;
  SampleChoice choice = {.n = N, .keep = 1, .threshold = NO_THRESHOLD};
  const int64_t count = sorted(&choice, answers, &dropped); /* 3 1 1 */
  assert_int_equal(sample_kept(&choice, answers, count), 1);
  choice.keep = 2;
  assert_int_equal(sample_kept(&choice, answers, count), 2);
  choice.keep = 0;
  assert_int_equal(sample_kept(&choice, answers, count), 3);
  choice.threshold = 1;
  assert_int_equal(sample_kept(&choice, answers, count), 3);
  choice.threshold = 1.5;
  assert_int_equal(sample_kept(&choice, answers, count), 1);
  choice.threshold = 4;
  assert_int_equal(sample_kept(&choice, answers, count), 0);
  assert_int_equal(sample_kept(&choice, answers, 0), 0);
}

static void pairs(void **state) {
  (void)state;
  const SampledAnswer answers[] = {{.score = 3}, {.score = 2.5}, {.score = 1}, {.score = 1}};
  SampleChoice choice = {.pairs = PAIRS_BEST_WORST};
  assert_true(sample_pair(&choice, answers, 4, 0, 3));
  assert_false(sample_pair(&choice, answers, 4, 0, 1) || sample_pair(&choice, answers, 4, 1, 3));
  choice.pairs = PAIRS_ALL;
  assert_true(sample_pair(&choice, answers, 4, 0, 1) && sample_pair(&choice, answers, 4, 1, 2));
  assert_false(sample_pair(&choice, answers, 4, 2, 3)); /* equal ones are no pair */
  choice.margin = 1.5;
  assert_true(sample_pair(&choice, answers, 4, 1, 2));
  assert_false(sample_pair(&choice, answers, 4, 0, 1));
  choice.margin = 1.6;
  assert_false(sample_pair(&choice, answers, 4, 1, 2));
}

static void options_that_do_not_go_together(void **state) {
  (void)state;
  const struct {
    SampleChoice choice;
    const char *message;
  } cases[] = {
      {{.n = 1, .format = SAMPLE_SFT, .threshold = NO_THRESHOLD}, NULL},
      {{.n = 1, .format = SAMPLE_PREFERENCE}, "sample.n: expected at least 2"},
      {{.n = 1, .format = SAMPLE_RANKING}, "sample.n: expected at least 2"},
      {{.n = 64, .format = SAMPLE_RANKING}, NULL},
      {{.n = 65, .format = SAMPLE_RANKING}, "at most 64"},
      {{.n = 65, .format = SAMPLE_PREFERENCE}, NULL},
      {{.n = 1, .format = SAMPLE_UNPAIRED, .threshold = NO_THRESHOLD}, "sample.threshold: expected"},
      {{.n = 1, .format = SAMPLE_UNPAIRED, .threshold = -5}, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    assert_int_equal(sample_choice_check(&cases[i].choice, &error), cases[i].message == NULL);
    if (cases[i].message) assert_non_null(strstr(error.message, cases[i].message));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(best_first_and_what_is_left_out),
                                     cmocka_unit_test(the_best_k_above_a_threshold), cmocka_unit_test(pairs),
                                     cmocka_unit_test(options_that_do_not_go_together)};
  return cmocka_run_group_tests_name("tools/sample", tests, NULL, NULL);
}
