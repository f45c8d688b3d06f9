/* The run directory and its log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/folder.h"
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

static Log log_to_nowhere;
static RunConfig config;

static int open_run_folder(void **state) {
  open_folder(state);
  log_init(&log_to_nowhere, stderr, LOG_ERROR + 1);
  config = (RunConfig){.dir = folder.directory, .resume = true, .keep = 2, .save_every = 2, .log_every = 1};
  return 0;
}

static const Comm one_rank = {.size = 1, .neighbours = 1, .sharing = 1};

static void must_open(Run *run, const char *with) {
  Error error = {0};
  if (!run_open(run, "sft", &config, (Settings){with, "{}"}, &one_rank, &log_to_nowhere, &error))
    fail_msg("%s", error.message);
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
  assert_false(
      run_open(&other, "sft", &config, (Settings){settings, "{}"}, &one_rank, &log_to_nowhere, &error));
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
  assert_true(run_resume(&run, INT64_MAX, &c, &compute, &found, &error));
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

  static const char other[] = "{\"optim\":{\"lr\":0.2,\"max_steps\":4,\"schedule\":\"constant\"}}";
  assert_false(run_open(&run, "sft", &config, (Settings){other, "{}"}, &one_rank, &log_to_nowhere,
                        &error)); /* its result is not that one */
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
  assert_true(
      file_write_text(temporary_path(&folder, "lock"), "drover run\n", &made)); /* a run's directory */
  char text[2048];
  Run run;
  for (int i = 0; i < 3; i++) {
    Error error = {0};
    snprintf(text, sizeof text, "{\"data\":{\"train\":[{\"path\":\"%s\",\"weight\":1}]}}",
             temporary_path(&folder, inside[i]));
    assert_false(run_open(&run, "sft", &config, (Settings){text, "{}"}, &one_rank, &log_to_nowhere, &error));
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

/* A file named lock makes a directory nobody's. */
static void what_no_run_made_is_left_alone(void **state) {
  (void)state;
  static const char *const names[] = {"config.json", "model/a", "adapter/a", "lock"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Error error = {0};
    char *path = path_join(config.dir, names[i]), *folder_of = path_parent(path);
    assert_true(directory_create(folder_of, &error));
    assert_true(file_write_text(path, "mine", &error));
    Run run;
    assert_false(
        run_open(&run, "sft", &config, (Settings){settings, "{}"}, &one_rank, &log_to_nowhere, &error));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_non_null(strstr(error.message, "is no run's"));
    run_close(&run, &error);
    if (i < 3) assert_false(file_exists(temporary_path(&folder, "lock")));
    if (i < 3) { /* nor does an empty one */
      Error again = {0};
      assert_true(file_write_text(temporary_path(&folder, "lock"), "", &again));
      assert_false(
          run_open(&run, "sft", &config, (Settings){settings, "{}"}, &one_rank, &log_to_nowhere, &again));
      assert_int_equal(again.code, ERROR_USAGE);
      run_close(&run, &again);
    }
    Error none = {0};
    assert_true(directory_remove_all(config.dir, &none));
    memory_free(path);
    memory_free(folder_of);
  }
  Run run;
  must_open(&run, settings);
  run_close(&run, NULL);
}

/* People remove a lock that a killed process seems to have left. */
static void a_run_without_its_lock_is_one_by_its_checkpoints(void **state) {
  (void)state;
  Compute compute;
  Error error = {0};
  Run run;
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  must_begin(&run, settings);
  checkpoint_of(&run, &compute, 2);
  run_close(&run, NULL);
  assert_int_equal(unlink(temporary_path(&folder, "lock")), 0);
  must_open(&run, settings);
  assert_int_equal(run.start, RUN_RESUME);
  run_close(&run, NULL);
  assert_true(file_exists(temporary_path(&folder, "lock")));
  compute_close(&compute);
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
  Run run = {.config = &config, .saved_at = time_monotonic()};
  assert_false(run_checkpoint_due(&run, 1));
  assert_true(run_checkpoint_due(&run, 4));
  assert_false(run_eval_due(&run, 4)); /* eval_every 0 */
  assert_true(run_log_due(&run, 1));
  config.save_minutes = 5;
  assert_false(run_checkpoint_due(&run, 1));
  run.saved_at -= 301;
  assert_true(run_checkpoint_due(&run, 1));
}

static bool no_state(void *stage, Checkpoint *checkpoint, Error *error) {
  return checkpoint_count(checkpoint, "count", stage, error);
}

static void must_update(Run *run, Compute *compute, int64_t step, bool last) {
  Error error = {0};
  int64_t count = step;
  if (!run_updated(run, step, last, no_state, &count, compute, &error)) fail_msg("%s", error.message);
}

/* Every second update, and the last one whatever it is; a run that is to go on goes on from there. */
static void checkpoints_are_made(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  Compute compute;
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error) && run_signals_install(false, &error));
  must_begin(&run, settings);
  for (int step = 1; step < 4; step++) {
    must_update(&run, &compute, step, false);
    assert_int_equal(run.saved, step < 2 ? -1 : 2);
  }
  must_update(&run, &compute, 5, true);
  assert_int_equal(run.saved, 5);
  assert_true(run_finish(&run, "{\"steps\": 5}", &error));
  run_close(&run, NULL);
  must_begin(&run, longer);
  int64_t count = 0;
  assert_true(run_load(&run, INT64_MAX, no_state, &count, &compute, &error));
  assert_int_equal(count, 5);
  assert_int_equal(run.saved, 5);
  run_close(&run, NULL);
  /* Without one it does not begin again as if nothing had been. */
  assert_true(directory_remove_all(temporary_path(&folder, "checkpoints"), &error));
  assert_false(run_open(&run, "sft", &config, (Settings){longer, "{}"}, &one_rank, &log_to_nowhere, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "has no checkpoint to go on from"));
  run_close(&run, &error);
  compute_close(&compute);
}

static void updates_are_left_out_up_to_a_limit(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  Compute compute;
  config.max_skipped = 2;
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error) && run_signals_install(false, &error));
  must_begin(&run, settings);
  assert_true(run_skip(&run, 1, "the loss is NaN", &error) && run_skip(&run, 2, "the loss is NaN", &error));
  must_update(&run, &compute, 2, false);
  run_close(&run, NULL);
  must_begin(&run, settings);
  int64_t count = 0;
  assert_true(run_load(&run, INT64_MAX, no_state, &count, &compute, &error));
  assert_false(
      run_skip(&run, 3, "the gradient is not finite, first in x", &error)); /* two were left out before */
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(
      strstr(error.message, "update 3: the gradient is not finite, first in x. 3 steps were left out"));
  assert_non_null(strstr(error.message, "step-2. A lower optim.lr"));
  run_close(&run, &error);
  compute_close(&compute);
}

static void a_run_that_ends_broken_has_no_result(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  config.max_skipped = 9;
  must_begin(&run, settings);
  assert_true(run_skip(&run, 2, "x", &error) && run_skip(&run, 4, "x", &error) &&
              run_skip(&run, 5, "x", &error));
  assert_true(run_check_learned(&run, 5, &error) && run_check_learned(&run, 6, &error));
  assert_true(run_skip(&run, 6, "x", &error));
  assert_true(run_check_learned(&run, 7, &error));
  assert_false(run_check_learned(&run, 6, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "the last 3 updates made no step"));
  run_close(&run, NULL);
  config.resume = false;
  must_begin(&run, settings);
  error = (Error){0};
  assert_true(run_skip(&run, 1, "x", &error));
  assert_false(run_check_learned(&run, 1, &error));
  run_close(&run, NULL);
}

/* done.json alone is no result. */
static void a_result_that_is_gone_is_said(void **state) {
  (void)state;
  Run run;
  Error error = {0};
  char result[512];
  assert_true(directory_create(temporary_path(&folder, "model"), &error));
  assert_int_equal(rmdir(temporary_path(&folder, "model")), 0);
  must_begin(&run, settings);
  assert_true(directory_create(temporary_path(&folder, "model"), &error));
  snprintf(result, sizeof result, "{\"output\": \"somewhere/else/model\"}");
  assert_true(run_finish(&run, result, &error));
  run_close(&run, NULL);
  must_open(&run, settings); /* a run directory may be moved */
  assert_int_equal(run.start, RUN_FINISHED);
  run_close(&run, NULL);
  assert_int_equal(rmdir(temporary_path(&folder, "model")), 0);
  assert_false(
      run_open(&run, "sft", &config, (Settings){settings, "{}"}, &one_rank, &log_to_nowhere, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "its result"));
  assert_non_null(strstr(error.message, "is gone"));
  run_close(&run, &error);
}

static void what_killed_runs_left_goes_too(void **state) {
  (void)state;
  static const char *const left[] = {"model.drover-draft-0123456789abcdef",
                                     "done.json.drover-draft-0123456789abcdef",
                                     "adapter.drover-former-0123456789abcdef", "run.db.damaged-1"};
  static const char *const kept[] = {"models", "model.backup", "notes.txt", "run.dbx", "cache"};
  enum { LEFT = sizeof left / sizeof *left, KEPT = sizeof kept / sizeof *kept };
  Run run;
  Error error = {0};
  must_begin(&run, settings);
  run_close(&run, NULL);
  for (int i = 0; i < LEFT; i++) assert_true(directory_create(temporary_path(&folder, left[i]), &error));
  for (int i = 0; i < KEPT; i++) assert_true(directory_create(temporary_path(&folder, kept[i]), &error));
  config.resume = false;
  must_begin(&run, settings);
  run_close(&run, NULL);
  for (int i = 0; i < LEFT; i++) assert_false(directory_exists(temporary_path(&folder, left[i])));
  for (int i = 0; i < KEPT; i++) assert_true(directory_exists(temporary_path(&folder, kept[i])));
}

/* No thread but one may take them: a handler's frame on the stack of a thread in a matrix kernel lands in the heap. */
static void signals_are_noted(void **state) {
  (void)state;
  Error error = {0};
  assert_true(run_signals_install(false, &error));
  assert_int_equal(run_stop_signal(), 0);
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  assert_true(sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGTERM) == 1 &&
              sigismember(&blocked, SIGHUP) == 1 && sigismember(&blocked, SIGUSR1) == 1);
  kill(getpid(), SIGTERM);
  const struct timespec moment = {.tv_nsec = 1000000};
  for (int i = 0; i < 10000 && !run_stop_signal(); i++) nanosleep(&moment, NULL);
  assert_int_equal(run_stop_signal(), SIGTERM);
  static const struct {
    int number, code;
  } cases[] = {{SIGTERM, 143}, {SIGINT, 130}, {SIGHUP, 129}, {SIGUSR1, 138}};
  Run run = {.config = &config};
  for (int i = 0; i < 8; i++) {
    config.resume = i < 4;
    error = (Error){0};
    assert_false(run_interrupted_error(&run, cases[i % 4].number, &error));
    assert_int_equal(error.code, cases[i % 4].code);
    assert_non_null(
        strstr(error.message, i < 4 ? "the same command goes on" : "the same command starts over"));
  }
}

/* In a child: what it writes to standard error at once when the signal comes; how it ended goes to *status. */
static void answer_to(int number, bool ignored, bool quiet, char *out, size_t size, int *status) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    Error error = {0};
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    if (ignored) signal(number, SIG_IGN);
    if (!run_signals_install(quiet, &error)) _exit(1);
    run_signals_wait_for("the tea");
    kill(getpid(), number);
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; i < (ignored ? 50 : 10000) && !run_stop_signal(); i++) nanosleep(&moment, NULL);
    const int noted = run_stop_signal();
    if (noted) nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* for the other thread to say so */
    _exit(noted == number ? 3 : 4);
  }
  close(ends[1]);
  size_t got = 0;
  ssize_t count;
  while ((count = read(ends[0], out + got, size - 1 - got)) > 0) got += (size_t)count;
  out[got] = '\0';
  close(ends[0]);
  assert_int_equal(waitpid(child, status, 0), child);
}

static void a_signal_is_answered_at_once(void **state) {
  (void)state;
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
  char text[1024];
  int status;
  for (int i = 0; i < 4; i++) {
    answer_to(numbers[i], false, false, text, sizeof text, &status);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    assert_non_null(strstr(text, "waiting for the tea, then saving"));
    const bool last = numbers[i] != SIGUSR1; /* after which another one comes */
    assert_int_equal(strstr(text, "; a second signal") != NULL, last);
    assert_int_equal(strstr(text, "loses what was done so far") != NULL, last);
  }
  answer_to(SIGHUP, true, false, text, sizeof text, &status); /* under nohup */
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 4);
  assert_string_equal(text, "");
  answer_to(SIGTERM, false, true, text, sizeof text, &status); /* where rank 0 says it */
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
  assert_string_equal(text, "");
}

/* In a child: the signals in this order, each once the one before is noted, 0 for more than a second; how it ended. */
static int after_signals(const int *numbers, int count) {
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    Error error = {0};
    if (!run_signals_install(true, &error)) _exit(1);
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; i < count; i++) {
      const int before = run_stop_signal();
      if (numbers[i] == 0) nanosleep(&(struct timespec){1, 100000000}, NULL);
      if (numbers[i] == 0) continue;
      kill(getpid(), numbers[i]);
      for (int k = 0; k < 100 && (before == numbers[i] || run_stop_signal() != numbers[i]); k++) {
        nanosleep(&moment, NULL);
      }
    }
    _exit(100 + run_stop_signal());
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void the_second_signal_ends_the_process(void **state) {
  (void)state;
  int status = after_signals((const int[]){SIGINT, SIGTERM}, 2);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  status = after_signals((const int[]){SIGINT, SIGINT}, 2); /* from a launcher and from the terminal */
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 100 + SIGINT);
}

static void a_warning_of_the_scheduler_is_no_signal_too_many(void **state) {
  (void)state;
  int status = after_signals((const int[]){SIGUSR1, SIGUSR1, SIGTERM}, 3);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 100 + SIGTERM);
  status = after_signals((const int[]){SIGTERM, SIGUSR1}, 2);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 100 + SIGTERM);
  status = after_signals((const int[]){SIGUSR1, SIGTERM, 0, SIGTERM}, 4);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_process_at_a_time, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(begins_goes_on_and_is_done, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_was_said_before_goes_to_the_log, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(inputs_within_outputs_are_refused, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_no_run_made_is_left_alone, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_run_without_its_lock_is_one_by_its_checkpoints, open_run_folder,
                                      close_folder),
      cmocka_unit_test_setup_teardown(a_loss_that_is_not_finite_says_where_it_was_good, open_run_folder,
                                      close_folder),
      cmocka_unit_test_setup_teardown(what_is_due, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_run_that_ends_broken_has_no_result, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_result_that_is_gone_is_said, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_killed_runs_left_goes_too, open_run_folder, close_folder),
      cmocka_unit_test(a_signal_is_answered_at_once),
      /* first: they fork before there is a thread */
      cmocka_unit_test(the_second_signal_ends_the_process),
      cmocka_unit_test(a_warning_of_the_scheduler_is_no_signal_too_many),
      cmocka_unit_test_setup_teardown(checkpoints_are_made, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(updates_are_left_out_up_to_a_limit, open_run_folder, close_folder),
      cmocka_unit_test_setup_teardown(signals_are_noted, open_run_folder, close_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
