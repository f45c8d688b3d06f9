/* The best evaluation of a run: which it is, how long there was none better, and that RUN/best is that one's, whenever the process was
 * killed. A model is a number here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ppo/alarms.h"
#include "tests/folder.h"
#include "train/learning.h"
#include "train/run.h"

#include <math.h>
#include <string.h>

static const char *const choices[] = {"none", "auto", "loss", "accuracy", NULL};
static RunConfig config;
static Compute compute;
static char said[1024];

static void which_is_the_best(void **state) {
  (void)state;
  Best best = best_of(choices, BEST_AUTO, BEST_MEASURES);
  assert_string_equal(best_measure(&best), "loss");
  const double losses[] = {NAN, 2, 1.5, 1.5, 1.75, INFINITY, 1.25};
  const int64_t at[] = {-1, 2, 3, 3, 3, 3, 7}, waited[] = {1, 0, 0, 1, 2, 3, 0};
  for (int i = 0; i < 7; i++) {
    best.unsaved = false;
    best_take(&best, i + 1, losses[i]);
    assert_int_equal(best.step, at[i]);
    assert_int_equal(best.waited, waited[i]);
    assert_int_equal(best.unsaved, best.step == i + 1);
  }
  assert_true(best.value == 1.25);
  best = best_of(choices, BEST_MEASURES + 1, BEST_MEASURES);
  best_take(&best, 1, 0.5);
  best_take(&best, 2, 0.75);
  best_take(&best, 3, 0.25);
  assert_int_equal(best.step, 2);
}

static void what_cannot_be(void **state) {
  (void)state;
  static const struct {
    RunConfig config;
    bool has_eval;
    const char *message; /* NULL: it can */
  } cases[] = {{{0}, false, NULL},
               {{.keep_best = BEST_AUTO, .eval_every = 5, .patience = 2}, true, NULL},
               {{.patience = 2, .eval_every = 5}, true, "run.patience: expected run.keep_best with it"},
               {{.keep_best = BEST_AUTO, .eval_every = 5}, false, "run.keep_best: expected data.eval"},
               {{.keep_best = BEST_AUTO}, true, "run.keep_best: expected run.eval_every"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    assert_int_equal(run_config_check(&cases[i].config, cases[i].has_eval, &error), !cases[i].message);
    if (cases[i].message) assert_non_null(strstr(error.message, cases[i].message));
  }
}

/* -- a run ------------------------------------------------------------------------------------------------ */

static void note_said(void *context, LogLevel level, const char *text) {
  (void)context;
  if (level == LOG_WARNING) snprintf(said, sizeof said, "%s", text);
}

static bool no_state(void *stage, Checkpoint *checkpoint, Error *error) {
  return checkpoint_count(checkpoint, "count", stage, error);
}

static bool keep(void *stage, const char *place, const char *about, Error *error) {
  (void)stage;
  char path[600];
  if (!directory_create(place, error)) return false;
  snprintf(path, sizeof path, "%s/best.json", place);
  return file_write_text(path, about, error);
}

static void lose_the_best(void) {
  Error error = {0};
  assert_true(directory_remove_all(temporary_path(&folder, "best"), &error));
}

/* A process: goes on, if there is something to go on from. */
static void begin(Run *run, Log *log) {
  Error error = {0};
  const Comm one = comm_single();
  int64_t count = 0;
  log_init(log, stderr, LOG_SILENT);
  said[0] = '\0';
  if (!run_open(run, "sft", &config, (Settings){"{}", "{}"}, &one, log, &error) || !run_begin(run, &error))
    fail_msg("%s", error.message);
  log->sink = note_said;
  run_best_begin(run, choices, BEST_MEASURES);
  if (!run_load(run, INT64_MAX, no_state, &count, &compute, &error)) fail_msg("%s", error.message);
}

static void judge(Run *run, int64_t step, double loss) {
  const double values[] = {loss, 0};
  Error error = {0};
  assert_true(run_judged(run, step, values, &error));
}

static void must_update(Run *run, int64_t step, bool last) {
  Error error = {0};
  int64_t count = step;
  if (!run_updated(run, step, last, no_state, &count, &compute, &error)) fail_msg("%s", error.message);
}

static void must_keep(Run *run) {
  Error error = {0};
  assert_true(run_keep_best(run, keep, NULL, &error));
}

static void expect_best(const Run *run, int64_t step, double value, int64_t waited) {
  assert_int_equal(run->best.step, step);
  assert_true(step < 0 || run->best.value == value);
  assert_int_equal(run->best.waited, waited);
}

static void at_every_moment(void **state) {
  (void)state;
  Run run;
  Log log;
  begin(&run, &log);
  expect_best(&run, -1, 0, 0);
  Error error = {0};
  assert_false(run_judged(&run, 1, (double[]){NAN, 0}, &error));
  assert_non_null(strstr(error.message, "eval/loss (run.keep_best) is NaN at step 1"));
  judge(&run, 1, 3.25);
  must_update(&run, 1, false);
  assert_int_equal(run.saved, 1); /* a checkpoint with the best, whatever run.save_every says */
  run_close(&run, NULL);          /* killed before RUN/best */

  begin(&run, &log);
  expect_best(&run, 1, 3.25, 0);
  assert_true(run.best.unsaved);
  must_keep(&run);
  judge(&run, 2, 4);
  must_update(&run, 2, true);
  must_keep(&run);
  run_close(&run, NULL);

  begin(&run, &log);
  expect_best(&run, 1, 3.25, 1);
  assert_false(run.best.unsaved);
  judge(&run, 2, 2.125); /* the last evaluation, after the last checkpoint */
  must_keep(&run);
  run_close(&run, NULL);

  begin(&run, &log);
  expect_best(&run, 2, 2.125, 0);
  assert_string_equal(said, "");
  judge(&run, 3, 2.5);
  must_update(&run, 3, true);
  lose_the_best();
  run_close(&run, NULL);

  begin(&run, &log);
  expect_best(&run, -1, 0, 0);
  assert_non_null(strstr(said, "/best is not the model of update 2, the best so far"));
  judge(&run, 4, 9);
  must_update(&run, 4, false);
  must_keep(&run);
  run_close(&run, NULL);

  config.keep_best = BEST_MEASURES + 1; /* by accuracy: what the loss was says nothing */
  begin(&run, &log);
  expect_best(&run, -1, 0, 0);
  assert_string_equal(said, "");
  run_close(&run, NULL);
}

static int open_run_folder(void **state) {
  Error error = {0};
  open_folder(state);
  config = (RunConfig){.dir = folder.directory,
                       .resume = true,
                       .keep = 2,
                       .log_every = 1,
                       .eval_every = 1,
                       .keep_best = BEST_AUTO};
  return compute_open(&compute, DEVICE_CPU, 1, &error) && run_signals_install(false, &error) ? 0 : -1;
}

static int close_run_folder(void **state) {
  compute_close(&compute);
  return close_folder(state);
}

static bool watched_state(void *stage, Checkpoint *checkpoint, Error *error) {
  Learning learning = {0};
  PpoAlarms alarms = {0};
  return no_state(stage, checkpoint, error) && learning_state(&learning, checkpoint, error) &&
         ppo_alarms_state(&alarms, checkpoint, error);
}

/* A checkpoint from before there was a best or an alarm has nothing of either: the run goes on, and begins to watch. */
static void before_there_was_any(void **state) {
  (void)state;
  Checkpoint old;
  Error error = {0};
  int64_t none = 0, count = 7;
  Run run;
  Log log;
  begin(&run, &log); /* whose directory it is */
  run_close(&run, NULL);
  assert_true(checkpoint_begin(&old, "sft", 7, "{}", &compute, &error));
  assert_true(checkpoint_count(&old, "run.skipped", &none, &error) &&
              checkpoint_count(&old, "run.last_skipped", &none, &error) &&
              checkpoint_count(&old, "run.skipped_in_a_row", &none, &error) &&
              no_state(&count, &old, &error));
  if (!checkpoint_commit(&old, config.dir, (CheckpointKeep){.keep = 2}, &error))
    fail_msg("%s", error.message);
  checkpoint_close(&old);

  const Comm one = comm_single();
  count = 0;
  log_init(&log, stderr, LOG_SILENT);
  if (!run_open(&run, "sft", &config, (Settings){"{}", "{}"}, &one, &log, &error) || !run_begin(&run, &error))
    fail_msg("%s", error.message);
  run_best_begin(&run, choices, BEST_MEASURES);
  if (!run_load(&run, INT64_MAX, watched_state, &count, &compute, &error)) fail_msg("%s", error.message);
  assert_int_equal(count, 7);
  expect_best(&run, -1, 0, 0);
  assert_int_equal(run.alarms.raised, 0);
  judge(&run, 8, 2.5);
  must_update(&run, 8, false);
  expect_best(&run, 8, 2.5, 0);
  run_close(&run, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(which_is_the_best),
      cmocka_unit_test(what_cannot_be),
      cmocka_unit_test_setup_teardown(at_every_moment, open_run_folder, close_run_folder),
      cmocka_unit_test_setup_teardown(before_there_was_any, open_run_folder, close_run_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
