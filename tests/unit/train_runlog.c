#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/temporary.h"
#include "train/runlog.h"

#include <math.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

static Temporary folder;

static int open_folder(void **state) {
  (void)state;
  temporary_open(&folder);
  return 0;
}

static int close_folder(void **state) {
  (void)state;
  temporary_close(&folder);
  return 0;
}

/* The first column of the first row, as text. */
static const char *query(const char *text) {
  static char out[256];
  sqlite3 *db;
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_open(temporary_path(&folder, "run.db"), &db), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  const char *value = (const char *)sqlite3_column_text(statement, 0);
  snprintf(out, sizeof out, "%s", value ? value : "NULL");
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return out;
}

static void must_open(RunLog *log, bool resume) {
  Error error = {0};
  if (!runlog_open(log, temporary_path(&folder, "run.db"), "sft", "{}", resume, &error)) {
    fail_msg("%s", error.message);
  }
}

static void rows_are_stored(void **state) {
  (void)state;
  RunLog log;
  must_open(&log, true);
  runlog_metric(&log, 1, "train/loss", 2.5);
  runlog_metric(&log, 1, "train/loss", 2.25); /* the last one counts */
  runlog_metric(&log, 2, "train/loss", NAN);
  runlog_sample(&log, 2,
                &(RunLogSample){
                    .prompt = "p", .response = "r's", .reward = 1, .kl = 0.5, .length = 7, .finished = true});
  runlog_checkpoint(&log, 2, "checkpoints/step-2", "abc");
  log.step = 2;
  runlog_event(&log, LOG_WARNING, "careful");
  runlog_close(&log, "done");
  assert_false(log.failed);
  assert_string_equal(query("SELECT value FROM metric WHERE step = 1"), "2.25");
  assert_string_equal(query("SELECT value FROM metric WHERE step = 2"), "NULL");
  assert_string_equal(query("SELECT response || length || finished FROM sample"), "r's71");
  assert_string_equal(query("SELECT path || digest FROM checkpoint"), "checkpoints/step-2abc");
  assert_string_equal(query("SELECT step || level || text FROM event"), "2warningcareful");
  assert_string_equal(query("SELECT stage || status FROM run WHERE ended >= started"), "sftdone");
}

static void a_resumed_run_writes_its_rows_again(void **state) {
  (void)state;
  RunLog log;
  must_open(&log, true);
  for (int step = 1; step <= 5; step++) runlog_metric(&log, step, "train/loss", step);
  runlog_close(&log, "interrupted");
  must_open(&log, true);
  assert_int_equal(log.run, 1);
  runlog_rewind(&log, 3);
  assert_string_equal(query("SELECT max(step) FROM metric"), "3");
  runlog_metric(&log, 4, "train/loss", 40);
  runlog_close(&log, "done");
  assert_string_equal(query("SELECT sum(value) FROM metric"), "46.0");
  assert_string_equal(query("SELECT count(*) FROM run"), "1");
  must_open(&log, false); /* another run in the same file */
  assert_int_equal(log.run, 2);
  runlog_close(&log, "done");
}

/* A process that dies leaves the steps that it flushed, whole. */
static void a_killed_run_leaves_whole_steps(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    RunLog log;
    must_open(&log, true);
    for (int step = 1; step <= 3; step++) {
      runlog_metric(&log, step, "a", step);
      if (step == 3) raise(SIGKILL);
      runlog_metric(&log, step, "b", step);
      runlog_flush(&log);
    }
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status));
  assert_string_equal(query("SELECT count(*) FROM metric"), "4");
  assert_string_equal(query("SELECT max(step) FROM metric"), "2");
  assert_string_equal(query("SELECT status FROM run"), "running");
}

static void a_file_that_is_no_database_is_an_error(void **state) {
  (void)state;
  Error error = {0};
  RunLog log;
  assert_true(
      file_write_text(temporary_path(&folder, "run.db"), "this is not a database, but some text", &error));
  assert_false(runlog_open(&log, temporary_path(&folder, "run.db"), "sft", "{}", true, &error));
  assert_int_equal(error.code, ERROR_FILE);
  runlog_metric(&log, 1, "train/loss", 1); /* no log: nothing happens */
  runlog_close(&log, "failed");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(rows_are_stored, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_resumed_run_writes_its_rows_again, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_killed_run_leaves_whole_steps, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(a_file_that_is_no_database_is_an_error, open_folder, close_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
