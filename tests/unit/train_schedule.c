/* Learning rates against transformers.get_*_schedule_with_warmup (transformers 5; lr 3e-4, read before each step). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train/schedule.h"

#include <stdio.h>
#include <stdlib.h>

static void compare(Schedule schedule, const double *expected, int count) {
  for (int step = 0; step < count; step++) {
    double found = schedule_rate(&schedule, step);
    if (!(fabs(found - expected[step]) <= 1e-18)) {
      fail_msg("step %d: expected %.17g, found %.17g", step, expected[step], found);
    }
  }
}

static void constant_with_warmup(void **state) {
  (void)state;
  static const double expected[] = {0, 1e-4, 2e-4, 3e-4, 3e-4, 3e-4};
  compare((Schedule){SCHEDULE_CONSTANT, 3e-4, 0, 3, 6, 0}, expected, 6);
}

/* PPO's: Transformers' rates of a warm-up that is one update longer, begun at its second. */
static void no_update_at_rate_zero(void **state) {
  (void)state;
  static const double expected[] = {1e-4, 2e-4, 3e-4, 2e-4, 1e-4, 0};
  compare((Schedule){SCHEDULE_LINEAR, 3e-4, 0, 2, 5, 1}, expected, 6);
  static const double none[] = {3e-4, 1.5e-4, 0};
  compare((Schedule){SCHEDULE_LINEAR, 3e-4, 0, 0, 2, 1}, none, 3);
}

static void linear(void **state) {
  (void)state;
  static const double expected[] = {0, 1e-4, 2e-4, 3e-4, 2.25e-4, 1.5e-4, 7.5e-5, 0, 0};
  compare((Schedule){SCHEDULE_LINEAR, 3e-4, 0, 3, 7, 0}, expected, 9);
  static const double single[] = {3e-4, 0};
  compare((Schedule){SCHEDULE_LINEAR, 3e-4, 0, 0, 1, 0}, single, 2);
}

static void cosine(void **state) {
  (void)state;
  static const double expected[] = {0,
                                    0.00014999999999999999,
                                    0.00029999999999999997,
                                    0.00027135254915624211,
                                    0.00019635254915624211,
                                    0.00010364745084375789,
                                    2.8647450843757897e-05,
                                    0};
  compare((Schedule){SCHEDULE_COSINE, 3e-4, 0, 2, 7, 0}, expected, 8);
  compare((Schedule){SCHEDULE_COSINE, 3e-4, 0, 0, 5, 0}, expected + 2, 6);
}

/* get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate 0.1 */
static void cosine_with_floor(void **state) {
  (void)state;
  static const double expected[] = {0,
                                    0.00014999999999999999,
                                    0.00029999999999999997,
                                    0.00027421729424061787,
                                    0.00020671729424061788,
                                    0.00012328270575938212,
                                    5.5782705759382111e-05,
                                    2.9999999999999997e-05};
  compare((Schedule){SCHEDULE_COSINE, 3e-4, 0.1, 2, 7, 0}, expected, 8);
}

static void expect_said_of(OptimizerKind kind, Schedule schedule, const char *expected) {
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  Log log;
  log_init(&log, stream, LOG_INFO);
  schedule_report(&schedule, kind, &log);
  fclose(stream);
  assert_string_equal(text, expected);
  free(text);
}

static void expect_said(Schedule schedule, const char *expected) {
  expect_said_of(OPTIMIZER_ADAMW, schedule, expected);
}

/* As transformers.TrainingArguments.get_warmup_steps. */
static void warmup_as_a_share(void **state) {
  (void)state;
  assert_int_equal(schedule_of(&(OptimConfig){.warmup_ratio = 0.03}, 101).warmup, 4);
  assert_int_equal(schedule_of(&(OptimConfig){.warmup_ratio = 0.1}, 100).warmup, 10);
  assert_int_equal(schedule_of(&(OptimConfig){.warmup_ratio = 1}, 7).warmup, 7);
  assert_int_equal(schedule_of(&(OptimConfig){.warmup_steps = 3}, 100).warmup, 3);
}

static void what_is_said(void **state) {
  (void)state;
  const char *zero = "the first update of the warm-up has rate 0, as in Transformers' schedules\n";
  expect_said((Schedule){SCHEDULE_COSINE, 3e-4, 0, 0, 7, 0}, "");
  expect_said((Schedule){SCHEDULE_COSINE, 3e-4, 0, 6, 7, 0}, zero);
  expect_said((Schedule){SCHEDULE_COSINE, 3e-4, 0, 6, 7, 1}, "");
  expect_said(
      (Schedule){SCHEDULE_LINEAR, 3e-4, 0, 4, 4, 1},
      "warning: a warm-up of 4 updates is not less than the run's 4 updates: it ends while it warms up, at "
      "0.8 of optim.lr\n");
}

/* A rate at which nothing moves, or all at once. */
static void rates_that_are_hardly_meant(void **state) {
  (void)state;
  const char *still = "warning: optim.lr 0: no update changes anything: the weights stay as they are\n";
  const char *wild =
      "warning: optim.lr 2: lion moves each weight by up to about as much in every update, and "
      "weights are far below 1\n";
  expect_said((Schedule){SCHEDULE_COSINE, 0, 0, 0, 7, 0}, still);
  expect_said((Schedule){SCHEDULE_COSINE, 0, 0, 7, 7, 1}, still);
  expect_said_of(OPTIMIZER_LION, (Schedule){SCHEDULE_CONSTANT, 2, 0, 0, 7, 0}, wild);
  expect_said_of(OPTIMIZER_SGD, (Schedule){SCHEDULE_CONSTANT, 2, 0, 0, 7, 0}, "");
  expect_said((Schedule){SCHEDULE_CONSTANT, 0.9, 0, 0, 7, 0}, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(constant_with_warmup),   cmocka_unit_test(linear),
      cmocka_unit_test(no_update_at_rate_zero), cmocka_unit_test(cosine),
      cmocka_unit_test(cosine_with_floor),      cmocka_unit_test(what_is_said),
      cmocka_unit_test(warmup_as_a_share),      cmocka_unit_test(rates_that_are_hardly_meant),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
