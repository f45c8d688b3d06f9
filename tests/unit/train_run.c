/* The run directory and its log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/temporary.h"
#include "train/run.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <sqlite3.h>

static const char settings[] = "{\"optim\":{\"lr\":0.1,\"max_steps\":4,\"schedule\":\"constant\"}}";
static const char longer[] = "{\"optim\":{\"lr\":0.1,\"max_steps\":8,\"schedule\":\"constant\"}}";

static Temporary folder;
static Log log_to_nowhere;
static RunConfig config;

static int open_folder(void **state) {
  (void)state;
  temporary_open(&folder);
  log_init(&log_to_nowhere, stderr, LOG_ERROR + 1);
  config = (RunConfig){.dir = folder.directory, .resume = true, .keep = 2, .save_every = 2, .log_every = 1};
  return 0;
}

static int close_folder(void **state) {
  (void)state;
  temporary_close(&folder);
  return 0;
}

static void must_open(Run *run, const char *with) {
  Error error = {0};
  if (!run_open(run, "sft", &config, with, &log_to_nowhere, &error)) fail_msg("%s", error.message);
}

static void must_begin(Run *run, const char *with) {
  Error error = {0};
  must_open(run, with);
  if (!run_begin(run, &error)) fail_msg("%s", error.message);
}

static void checkpoint_of(Run *run, Compute *compute, int64_t step) {
  Error error = {0};
  Checkpoint c;
  assert_true(checkpoint_begin(&c, "sft", step, run->settings, compute, &error));
  if (!run_checkpoint(run, &c, &error)) fail_msg("%s", error.message);
  checkpoint_close(&c);
}

static void one_process_at_a_time(void **state) {
  (void)state;
  Run run, other;
  Error error = {0};
  must_open(&run, settings);
  assert_false(run_open(&other, "sft", &config, settings, &log_to_nowhere, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "in use by another process"));
  run_close(&other, &error);
  run_close(&run, NULL);
  must_open(&run, settings);
  run_close(&run, NULL);
}

static void begins_goes_on_and_is_done(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  Compute compute;
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  must_begin(&run, settings);
  assert_int_equal(run.start, RUN_FRESH);
  assert_true(file_exists(temporary_path(&folder, "config.json")));
  checkpoint_of(&run, &compute, 2);
  run_close(&run, NULL);

  must_begin(&run, settings);
  assert_int_equal(run.start, RUN_RESUME);
  Checkpoint c;
  bool found;
  assert_true(run_resume(&run, &c, &compute, &found, &error));
  assert_true(found && c.step == 2);
  checkpoint_close(&c);
  assert_true(run_finish(&run, "{\"steps\": 4}", &error));
  run_close(&run, NULL);

  must_open(&run, settings);
  assert_int_equal(run.start, RUN_FINISHED);
  assert_string_equal(run.result, "{\"steps\": 4}");
  run_close(&run, NULL);

  must_open(&run, longer); /* the schedule is constant: training goes on */
  assert_int_equal(run.start, RUN_RESUME);
  run_close(&run, NULL);

  assert_false(run_open(&run, "sft", &config, "{\"optim\":{\"lr\":0.2}}", &log_to_nowhere, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  run_close(&run, &error);

  config.resume = false;
  must_open(&run, "{\"optim\":{\"lr\":0.2}}");
  assert_int_equal(run.start, RUN_FRESH);
  run_close(&run, NULL); /* the data were wrong, say: what was there is there still */
  assert_true(directory_exists(temporary_path(&folder, "checkpoints")));
  assert_true(file_exists(temporary_path(&folder, "done.json")));
  must_begin(&run, "{\"optim\":{\"lr\":0.2}}");
  assert_false(file_exists(temporary_path(&folder, "done.json")));
  assert_false(directory_exists(temporary_path(&folder, "checkpoints")));
  run_close(&run, NULL);
  compute_close(&compute);
}

/* How many lines of run.db's table of events have this text at step -1. */
static int64_t events(const char *text) {
  sqlite3 *db;
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_open(temporary_path(&folder, "run.db"), &db), SQLITE_OK);
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT count(*) FROM event WHERE step = -1 AND text = ?", -1, &statement, NULL),
      SQLITE_OK);
  sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  const int64_t count = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return count;
}

static void what_was_said_before_goes_to_the_log(void **state) {
  (void)state;
  Run run;
  must_open(&run, settings);
  log_info(&log_to_nowhere, "the plan");
  log_warning(&log_to_nowhere, "the data");
  assert_false(file_exists(temporary_path(&folder, "run.db")));
  Error error = {0};
  assert_true(run_begin(&run, &error));
  log_info(&log_to_nowhere, "the weights");
  run_close(&run, NULL);
  log_info(&log_to_nowhere, "nobody listens");
  assert_int_equal(events("the plan"), 1);
  assert_int_equal(events("the data"), 1);
  assert_int_equal(events("the weights"), 1);
  assert_int_equal(events("nobody listens"), 0);
}

/* A run that would read and write the same files is refused, whatever way the path is written. */
static void inputs_within_outputs_are_refused(void **state) {
  (void)state;
  static const char *const inside[] = {"model", "checkpoints/../model", "adapter/deep"};
  Error made = {0};
  assert_true(directory_create(temporary_path(&folder, "model"), &made));
  assert_true(directory_create(temporary_path(&folder, "checkpoints"), &made));
  assert_true(directory_create(temporary_path(&folder, "adapter"), &made));
  assert_true(directory_create(temporary_path(&folder, "adapter/deep"), &made));
  assert_true(directory_create(temporary_path(&folder, "models"), &made));
  assert_true(file_write_text(temporary_path(&folder, "lock"), "", &made)); /* a run's directory */
  char text[2048];
  Run run;
  for (int i = 0; i < 3; i++) {
    Error error = {0};
    snprintf(text, sizeof text, "{\"data\":{\"train\":[{\"path\":\"%s\",\"weight\":1}]}}",
             temporary_path(&folder, inside[i]));
    assert_false(run_open(&run, "sft", &config, text, &log_to_nowhere, &error));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_non_null(strstr(error.message, "data.train.path: "));
    assert_non_null(strstr(error.message, "which this run writes"));
    run_close(&run, &error);
  }
  snprintf(text, sizeof text, "{\"model\":{\"path\":\"%s\"},\"run\":{\"dir\":\"%s\"}}",
           temporary_path(&folder, "models"), folder.directory);
  must_open(&run, text); /* beside it is allowed */
  run_close(&run, NULL);
}

static void what_no_run_made_is_left_alone(void **state) {
  (void)state;
  static const char *const names[] = {"config.json", "model/a", "adapter/a"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Error error = {0};
    char *path = path_join(config.dir, names[i]), *folder_of = path_parent(path);
    assert_true(directory_create(folder_of, &error));
    assert_true(file_write_text(path, "mine", &error));
    Run run;
    assert_false(run_open(&run, "sft", &config, settings, &log_to_nowhere, &error));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_non_null(strstr(error.message, "is no run's"));
    run_close(&run, &error);
    assert_false(file_exists(temporary_path(&folder, "lock")));
    Error none = {0};
    assert_true(directory_remove_all(config.dir, &none));
    memory_free(path);
    memory_free(folder_of);
  }
  Run run;
  must_open(&run, settings);
  run_close(&run, NULL);
}

static void a_loss_that_is_not_finite_says_where_it_was_good(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  must_open(&run, settings);
  assert_true(run_check_finite(&run, "the loss", 1.5, 7, &error));
  assert_false(run_check_finite(&run, "the loss", NAN, 7, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "the loss is NaN at step 7; the last good checkpoint: none"));
  run_close(&run, &error);
}

static void what_is_due(void **state) {
  (void)state;
  Run run = {.config = &config};
  assert_false(run_checkpoint_due(&run, 1));
  assert_true(run_checkpoint_due(&run, 4));
  assert_false(run_eval_due(&run, 4)); /* eval_every 0 */
  assert_true(run_log_due(&run, 1));
}

/* No thread but one may take them: a handler's frame on the stack of a thread in a matrix kernel lands in the heap. */
static void signals_are_noted(void **state) {
  (void)state;
  Error error = {0};
  assert_true(run_signals_install(&error));
  assert_int_equal(run_stop_signal(), 0);
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  assert_true(sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGTERM) == 1);
  kill(getpid(), SIGTERM);
  const struct timespec moment = {.tv_nsec = 1000000};
  for (int i = 0; i < 10000 && !run_stop_signal(); i++) nanosleep(&moment, NULL);
  assert_int_equal(run_stop_signal(), SIGTERM);
  assert_false(run_interrupted_error(SIGTERM, &error));
  assert_int_equal(error.code, 143);
  error = (Error){0};
  assert_false(run_interrupted_error(SIGINT, &error));
  assert_int_equal(error.code, 130);
}

static void the_second_signal_ends_the_process(void **state) {
  (void)state;
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    Error error = {0};
    if (!run_signals_install(&error)) _exit(1);
    const struct timespec moment = {.tv_nsec = 1000000};
    kill(getpid(), SIGINT);
    while (!run_stop_signal()) nanosleep(&moment, NULL);
    kill(getpid(), SIGTERM);
    for (int i = 0; i < 10000; i++) nanosleep(&moment, NULL);
    _exit(2);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_process_at_a_time, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(begins_goes_on_and_is_done, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_was_said_before_goes_to_the_log, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(inputs_within_outputs_are_refused, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_no_run_made_is_left_alone, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_loss_that_is_not_finite_says_where_it_was_good, open_folder,
                                      close_folder),
      cmocka_unit_test_setup_teardown(what_is_due, open_folder, close_folder),
      cmocka_unit_test(the_second_signal_ends_the_process), /* first: it forks before there is a thread */
      cmocka_unit_test(signals_are_noted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
