#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "tests/folder.h"
#include "train/runlog.h"

#include <math.h>
#include <sqlite3.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static Log listener; /* its last warning is kept */
static char heard[1024];

static void hear(void *context, LogLevel level, const char *text) {
  (void)context;
  if (level == LOG_WARNING) snprintf(heard, sizeof heard, "%s", text);
}

static void expect_heard(const char *part) {
  if (!strstr(heard, part)) fail_msg("'%s' is not in: %s", part, heard);
}

static int open_listening(void **state) {
  log_init(&listener, stderr, LOG_ERROR + 1);
  listener.sink = hear;
  heard[0] = '\0';
  return open_folder(state);
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
  if (!runlog_open(log, temporary_path(&folder, "run.db"), "sft", "{}", resume, &listener, &error)) {
    fail_msg("%s", error.message);
  }
  log->retry_seconds = 0;
}

static void rows_are_stored(void **state) {
  (void)state;
  RunLog log;
  must_open(&log, true);
  runlog_metric(&log, 1, "train/loss", 2.5);
  runlog_metric(&log, 1, "train/loss", 2.25); /* the last one counts */
  runlog_metric(&log, 2, "train/loss", NAN);
  runlog_sample(&log, 2,
                &(RunLogSample){.prompt = "p",
                                .prompt_bytes = 1,
                                .response = "r's\0more",
                                .response_bytes = 8,
                                .prompt_ids = (int32_t[]){5},
                                .prompt_length = 1,
                                .response_ids = (int32_t[]){17, 0, 2},
                                .length = 3,
                                .reward = 1,
                                .kl = 0.5,
                                .finished = true});
  runlog_checkpoint(&log, 2, "checkpoints/step-2", "abc");
  log.step = 2;
  runlog_event(&log, LOG_WARNING, "careful");
  runlog_close(&log, "done");
  assert_string_equal(heard, "");
  assert_string_equal(query("SELECT value FROM metric WHERE step = 1"), "2.25");
  assert_string_equal(query("SELECT value FROM metric WHERE step = 2"), "NULL");
  assert_string_equal(query("SELECT prompt || length || finished FROM sample"), "p31");
  assert_string_equal(query("SELECT hex(response) FROM sample"), "722773006D6F7265"); /* all of it */
  assert_string_equal(query("SELECT prompt_ids || ' ' || response_ids FROM sample"), "5 17,0,2");
  assert_string_equal(query("SELECT path || digest FROM checkpoint"), "checkpoints/step-2abc");
  assert_string_equal(query("SELECT step || level || text FROM event"), "2warningcareful");
  assert_string_equal(query("SELECT stage || status FROM run WHERE ended >= started"), "sftdone");
}

/* A log that was begun before samples had ids gets the columns. */
/* By another program: the values that are numbers, by step, of the last run alone. */
static void a_metric_is_read_back(void **state) {
  (void)state;
  RunLog log;
  double values[3];
  int64_t count;
  Error error = {0};
  must_open(&log, true);
  runlog_metric(&log, 1, "train/loss", 9);
  runlog_close(&log, "failed");
  must_open(&log, false);
  for (int step = 4; step > 0; step--)
    runlog_metric(&log, step, "train/loss", step == 2 ? (double)NAN : step);
  runlog_metric(&log, 1, "train/lr", 7);
  runlog_close(&log, "done");
  assert_true(runlog_read(temporary_path(&folder, "run.db"), "train/loss", values, 3, &count, &error));
  assert_int_equal(count, 3);
  assert_true(values[0] == 1 && values[1] == 3 && values[2] == 4);
  assert_true(runlog_read(temporary_path(&folder, "run.db"), "train/loss", values, 2, &count, &error) &&
              count == 2);
  assert_true(runlog_read(temporary_path(&folder, "run.db"), "none", values, 3, &count, &error) &&
              count == 0);
  assert_false(runlog_read(temporary_path(&folder, "absent.db"), "train/loss", values, 3, &count, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "absent.db"));
}

static void an_older_log_goes_on(void **state) {
  (void)state;
  sqlite3 *db;
  assert_int_equal(sqlite3_open(temporary_path(&folder, "run.db"), &db), SQLITE_OK);
  const char *old =
      "CREATE TABLE sample (run INTEGER NOT NULL, step INTEGER NOT NULL, prompt TEXT NOT NULL,"
      " response TEXT NOT NULL, reward REAL, kl REAL, length INTEGER NOT NULL, finished INTEGER NOT NULL);"
      "INSERT INTO sample VALUES (1, 1, 'p', 'r', 0, 0, 1, 1)";
  assert_int_equal(sqlite3_exec(db, old, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  RunLog log;
  must_open(&log, true);
  runlog_sample(&log, 2,
                &(RunLogSample){.prompt = "", .response = "", .response_ids = (int32_t[]){4}, .length = 1});
  runlog_close(&log, "done");
  assert_string_equal(heard, "");
  assert_string_equal(query("SELECT response_ids FROM sample WHERE step = 2"), "4");
  assert_string_equal(query("SELECT count(*) FROM sample"), "2");
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

static bool is_kept(RunLog *log, int64_t step, int64_t id, const char *digest, bool anywhere, double score,
                    const char *parts) {
  RunLogReward reward = {.source = "judge", .step = step, .id = id, .digest = digest};
  if (!runlog_kept_reward(log, &reward, anywhere)) return false;
  assert_true(reward.score == score);
  assert_int_equal(reward.parts != NULL, parts != NULL);
  if (parts) assert_string_equal(reward.parts, parts);
  memory_free(reward.parts);
  return true;
}

/* What was said of answers that will be sampled again is there when they are. */
static void rewards_are_kept(void **state) {
  (void)state;
  RunLog log;
  char parts[] = "{\"a\":0.5}";
  must_open(&log, true);
  runlog_reward(&log, &(RunLogReward){"judge", 4, 17, "d", 0.1 + 0.2, parts});
  runlog_reward(&log, &(RunLogReward){"judge", 6, 20, "d", 3, NULL});
  runlog_reward(&log, &(RunLogReward){"other", 4, 17, "d", 5, NULL});
  assert_true(is_kept(&log, 4, 17, "d", false, 0.1 + 0.2, parts)); /* before anything was flushed */
  runlog_close(&log, "interrupted");
  must_open(&log, true);
  runlog_rewind(&log, 3);
  assert_true(is_kept(&log, 4, 17, "d", false, 0.1 + 0.2, parts));
  assert_true(is_kept(&log, 6, 20, "d", false, 3, NULL));
  assert_false(is_kept(&log, 4, 17, "e", false, 0, NULL)); /* another question */
  assert_false(is_kept(&log, 4, 18, "d", false, 0, NULL));
  assert_false(is_kept(&log, 5, 17, "d", false, 0, NULL));
  assert_true(is_kept(&log, 9, 99, "d", true, 0.1 + 0.2, parts)); /* the first that was said of it */
  assert_false(is_kept(&log, 9, 99, "e", true, 0, NULL));
  runlog_reward(&log, &(RunLogReward){"judge", 4, 17, "d2", 7, NULL}); /* the last one counts */
  assert_true(is_kept(&log, 4, 17, "d2", false, 7, NULL));
  assert_false(is_kept(&log, 4, 17, "d", false, 0, NULL));
  runlog_close(&log, "done");
  must_open(&log, false); /* another run has its own */
  assert_false(is_kept(&log, 6, 20, "d", false, 0, NULL));
  assert_false(is_kept(&log, 6, 20, "d", true, 0, NULL));
  runlog_close(&log, "done");
  const RunLog none = {0};
  log = none;
  assert_false(is_kept(&log, 6, 20, "d", false, 0, NULL)); /* no log at all */
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

/* It is set aside, at the start of a run and in the middle of one, and the run has a log all the same. */
static void a_damaged_file_is_set_aside(void **state) {
  (void)state;
  Error error = {0};
  RunLog log;
  assert_true(
      file_write_text(temporary_path(&folder, "run.db"), "this is not a database, but some text", &error));
  must_open(&log, true);
  expect_heard("is damaged");
  expect_heard("run.db.damaged-1");
  runlog_metric(&log, 1, "train/loss", 1);
  runlog_close(&log, "interrupted");
  assert_string_equal(query("SELECT count(*) FROM metric"), "1");

  must_open(&log, true);
  runlog_metric(&log, 2, "train/loss", 1);
  runlog_flush(&log);
  sqlite3 *db; /* its pages are put on the disk, and then overwritten */
  assert_int_equal(sqlite3_open(temporary_path(&folder, "run.db"), &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  FILE *file = fopen(temporary_path(&folder, "run.db"), "r+b");
  assert_non_null(file);
  for (int i = 0; i < 40000; i++) fputc('x', file);
  fclose(file);
  for (int step = 3; step < 9; step++) {
    runlog_metric(&log, step, "train/loss", 1);
    runlog_flush(&log);
  }
  expect_heard("is written again");
  runlog_close(&log, "done");
  assert_true(file_exists(temporary_path(&folder, "run.db.damaged-2")));
  assert_string_equal(query("SELECT status FROM run"), "done");
  assert_string_equal(query("SELECT max(step) FROM metric"), "8");
}

/* Another process writes in the file: the run goes on, and so does its log when that process has done. */
static void a_locked_file_is_tried_again(void **state) {
  (void)state;
  RunLog log;
  sqlite3 *db;
  must_open(&log, true);
  runlog_metric(&log, 1, "train/loss", 1);
  runlog_flush(&log);
  runlog_close(&log, "interrupted");
  assert_int_equal(sqlite3_open(temporary_path(&folder, "run.db"), &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  must_open(&log, true); /* some seconds are waited, then it is done without */
  expect_heard("cannot be written now (database is locked)");
  runlog_rewind(&log, 0);
  log.retry_seconds = 3600;
  runlog_metric(&log, 1, "train/loss", 3); /* lost, and what comes before the next attempt too */
  assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  runlog_metric(&log, 2, "train/loss", 3);
  runlog_close(&log, "done"); /* the last attempt */
  expect_heard("rows are missing");
  assert_string_equal(query("SELECT count(*) FROM run"), "1");
  assert_string_equal(query("SELECT status FROM run"), "done");
  assert_string_equal(query("SELECT count(*) FROM metric"), "0"); /* it was rewound before */
}

/* Counts what reaches the disk: the library's calls come here too. */
static int syncs;
int fdatasync(int descriptor) {
  syncs++;
  return (int)syscall(SYS_fdatasync, descriptor);
}
int fsync(int descriptor) {
  syncs++;
  return (int)syscall(SYS_fsync, descriptor);
}

static void rows_are_on_the_disk_after_a_sync(void **state) {
  (void)state;
  RunLog log;
  must_open(&log, true);
  for (int step = 1; step < 4; step++) {
    runlog_metric(&log, step, "train/loss", 1);
    runlog_flush(&log);
    const int before = syncs;
    runlog_sync(&log);
    assert_true(syncs > before);
  }
  runlog_close(&log, "done");
}

static void a_finished_run_is_done_whenever_it_was_killed(void **state) {
  (void)state;
  RunLog log;
  must_open(&log, true);
  runlog_close(&log, "failed");
  runlog_settle(temporary_path(&folder, "run.db"), "reward");
  assert_string_equal(query("SELECT status FROM run"), "failed");
  runlog_settle(temporary_path(&folder, "run.db"), "sft");
  assert_string_equal(query("SELECT status || (ended IS NOT NULL) FROM run"), "done1");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(rows_are_stored, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_metric_is_read_back, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(an_older_log_goes_on, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_resumed_run_writes_its_rows_again, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(rewards_are_kept, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_killed_run_leaves_whole_steps, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_damaged_file_is_set_aside, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_locked_file_is_tried_again, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(rows_are_on_the_disk_after_a_sync, open_listening, close_folder),
      cmocka_unit_test_setup_teardown(a_finished_run_is_done_whenever_it_was_killed, open_listening,
                                      close_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
