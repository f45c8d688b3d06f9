#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/temporary.h"
#include "train/summary.h"
#include "train/trend.h"

#include <string.h>

static const SummaryFigure figures[] = {
    {"train/loss", "loss", 3, 0}, {"eval/loss", "eval loss", 3, -1}, {"eval/accuracy", "accuracy", 2, 1}};

/* The summary of a run with these values of a metric at steps 1, 2, ... */
static void expect(Run *run, const char *metric, const double *values, int count, const char *expected) {
  Error error = {0};
  Buffer text = {0};
  for (int i = 0; i < count; i++) runlog_metric(&run->runlog, i + 1, metric, values[i]);
  run->opened_at = time_monotonic() - 86;
  assert_true(summary_write(run, 20, figures, 3, &text, &error));
  assert_string_equal(text.data, expected);
  buffer_free(&text);
}

static void what_was_learnt(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Error error = {0};
  Log log;
  log_init(&log, stderr, LOG_SILENT);
  Run run = {0};
  assert_true(runlog_open(&run.runlog, temporary_path(&t, "run.db"), "sft", "{}", true, &log, &error));
  expect(&run, "none", NULL, 0, "20 updates in 1m26s");
  expect(&run, "train/loss", (double[]){5.5481, NAN, 5.25, 5.4}, 4,
         "20 updates in 1m26s: loss 5.548 -> 5.400");
  expect(&run, "eval/loss", (double[]){5.5, 5.25, 5.4}, 3,
         "20 updates in 1m26s: loss 5.548 -> 5.400, eval loss 5.500 -> 5.400 (best 5.250 at update 2)");
  expect(&run, "eval/accuracy", (double[]){0.5, 0.75, 0.75, 0.25}, 4,
         "20 updates in 1m26s: loss 5.548 -> 5.400, eval loss 5.500 -> 5.400 (best 5.250 at update 2), "
         "accuracy 0.50 -> 0.25 (best 0.75 at update 2)");
  runlog_close(&run.runlog, "done");
  RunLogCourse course;
  assert_false(runlog_course(&run.runlog, "train/loss", &course));
  temporary_close(&t);
}

static void a_command_for_a_shell(void **state) {
  (void)state;
  Error error = {0};
  Buffer text = {0};
  assert_true(summary_try("models/it's mine", "runs/sft/adapter", true, true, &text, &error));
  assert_string_equal(text.data,
                      "\nnext: drover generate --model 'models/it'\\''s mine' --adapter runs/sft/adapter "
                      "--chat --prompt \"...\"");
  buffer_clear(&text);
  assert_true(summary_try("base", "", false, false, &text, &error));
  assert_string_equal(text.data, "\nnext: drover generate --model '' --prompt \"...\"");
  buffer_free(&text);
}

static void later_values_weigh_more(void **state) {
  (void)state;
  Trend trend = {0};
  assert_true(fabs(trend_add(&trend, 2) - 2) < 1e-15);
  assert_true(fabs(trend_add(&trend, 4) - (0.9 * 2 + 4) / 1.9) < 1e-15);
  assert_true(fabs(trend_add(&trend, NAN) - (0.9 * 2 + 4) / 1.9) < 1e-15);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_learnt),
      cmocka_unit_test(a_command_for_a_shell),
      cmocka_unit_test(later_values_weigh_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
