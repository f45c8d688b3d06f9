#include "train/runlog.h"

#include "base/memory.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, config TEXT NOT NULL,"
    "  version TEXT NOT NULL, host TEXT NOT NULL, started TEXT NOT NULL, ended TEXT, status TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS metric (run INTEGER NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL,"
    "  value REAL, PRIMARY KEY (run, name, step)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS sample (run INTEGER NOT NULL, step INTEGER NOT NULL, prompt TEXT NOT NULL,"
    "  response TEXT NOT NULL, reward REAL, kl REAL, length INTEGER NOT NULL, finished INTEGER NOT NULL);"
    "CREATE INDEX IF NOT EXISTS sample_step ON sample (run, step);"
    "CREATE TABLE IF NOT EXISTS checkpoint (run INTEGER NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL,"
    "  digest TEXT NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS event (run INTEGER NOT NULL, step INTEGER NOT NULL, level TEXT NOT NULL,"
    "  text TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS event_step ON event (run, step);";

#define NOW "strftime('%Y-%m-%dT%H:%M:%SZ','now')"

/* Each statement once: its name and its text. */
#define STATEMENTS(X)                                                                                     \
  X(RUN_LAST, "SELECT id FROM run WHERE stage = ? ORDER BY id DESC LIMIT 1")                              \
  X(RUN_BEGIN, "INSERT INTO run (stage, config, version, host, started, status) VALUES (?, ?, ?, ?, " NOW \
               ", 'running')")                                                                            \
  X(RUN_AGAIN, "UPDATE run SET status = 'running', ended = NULL, config = ? WHERE id = ?")                \
  X(RUN_END, "UPDATE run SET status = ?, ended = " NOW " WHERE id = ?")                                   \
  X(METRIC, "INSERT OR REPLACE INTO metric (run, step, name, value) VALUES (?, ?, ?, ?)")                 \
  X(SAMPLE, "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?)")                                         \
  X(CHECKPOINT, "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)")                                  \
  X(EVENT, "INSERT INTO event VALUES (?, ?, ?, ?)")                                                       \
  X(REWIND_METRIC, "DELETE FROM metric WHERE run = ? AND step > ?")                                       \
  X(REWIND_SAMPLE, "DELETE FROM sample WHERE run = ? AND step > ?")                                       \
  X(REWIND_CHECKPOINT, "DELETE FROM checkpoint WHERE run = ? AND step > ?")                               \
  X(REWIND_EVENT, "DELETE FROM event WHERE run = ? AND step > ?")

enum StatementName {
#define X(name, text) name,
  STATEMENTS(X)
#undef X
      STATEMENT_COUNT
};

static const char *const statement_text[] = {
#define X(name, text) text,
    STATEMENTS(X)
#undef X
};

struct RunLogHandle {
  sqlite3 *db;
  sqlite3_stmt *statement[STATEMENT_COUNT];
  bool open_transaction;
};

/* The first failure is kept; from then on the log does nothing. */
static void fail(RunLog *log) {
  if (log->failed) return;
  log->failed = true;
  snprintf(log->reason, sizeof log->reason, "%s", sqlite3_errmsg(log->handle->db));
}

static void execute(RunLog *log, const char *text) {
  if (!log->failed && sqlite3_exec(log->handle->db, text, NULL, NULL, NULL) != SQLITE_OK) fail(log);
}

/* A statement ready to be bound within the open transaction, or NULL when there is no log. */
static sqlite3_stmt *prepare(RunLog *log, enum StatementName name) {
  if (!log->handle || log->failed) return NULL;
  if (!log->handle->open_transaction) {
    execute(log, "BEGIN");
    log->handle->open_transaction = true;
  }
  return log->failed ? NULL : log->handle->statement[name];
}

static void finish(RunLog *log, sqlite3_stmt *statement) {
  int code = sqlite3_step(statement);
  if (code != SQLITE_DONE && code != SQLITE_ROW) fail(log);
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text) {
  sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_TRANSIENT);
}

/* SQLite has no NaN: a value that is not finite is stored as NULL. */
static void bind_number(sqlite3_stmt *statement, int at, double value) {
  if (isfinite(value)) sqlite3_bind_double(statement, at, value);
}

void runlog_flush(RunLog *log) {
  if (!log->handle || !log->handle->open_transaction) return;
  log->handle->open_transaction = false;
  execute(log, "COMMIT");
}

static void host_text(char *out, size_t size) {
  struct utsname name;
  if (uname(&name) != 0) memset(&name, 0, sizeof name);
  snprintf(out, size, "%s, %s %s %s, %ld cores", name.nodename, name.sysname, name.release, name.machine,
           sysconf(_SC_NPROCESSORS_ONLN));
}

static void begin_run(RunLog *log, const char *stage, const char *config, bool resume) {
  sqlite3_stmt *last = resume ? prepare(log, RUN_LAST) : NULL;
  if (last) {
    bind_text(last, 1, stage);
    if (sqlite3_step(last) == SQLITE_ROW) log->run = sqlite3_column_int64(last, 0);
    sqlite3_reset(last);
  }
  sqlite3_stmt *statement = prepare(log, log->run ? RUN_AGAIN : RUN_BEGIN);
  if (!statement) return;
  if (log->run) {
    bind_text(statement, 1, config);
    sqlite3_bind_int64(statement, 2, log->run);
    finish(log, statement);
    return;
  }
  char host[512];
  host_text(host, sizeof host);
  bind_text(statement, 1, stage);
  bind_text(statement, 2, config);
  bind_text(statement, 3, DROVER_VERSION);
  bind_text(statement, 4, host);
  finish(log, statement);
  log->run = sqlite3_last_insert_rowid(log->handle->db);
}

static void release(RunLog *log) {
  if (!log->handle) return;
  for (int i = 0; i < STATEMENT_COUNT; i++) sqlite3_finalize(log->handle->statement[i]);
  sqlite3_close(log->handle->db);
  memory_free(log->handle);
  log->handle = NULL;
}

bool runlog_open(RunLog *log, const char *path, const char *stage, const char *config, bool resume,
                 Error *error) {
  *log = (RunLog){.step = -1};
  log->handle = memory_zeroed(1, sizeof *log->handle);
  if (!log->handle) return error_out_of_memory(error, "run log", sizeof *log->handle);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (sqlite3_open_v2(path, &log->handle->db, flags, NULL) != SQLITE_OK) fail(log);
  sqlite3_busy_timeout(log->handle->db, 5000); /* someone may be reading it */
  execute(log, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
  execute(log, schema);
  for (int i = 0; i < STATEMENT_COUNT && !log->failed; i++) {
    if (sqlite3_prepare_v2(log->handle->db, statement_text[i], -1, &log->handle->statement[i], NULL) !=
        SQLITE_OK) {
      fail(log);
    }
  }
  begin_run(log, stage, config, resume);
  runlog_flush(log);
  if (!log->failed) return true;
  release(log);
  return error_set(error, ERROR_FILE, "cannot open the run log %s: %s", path, log->reason);
}

void runlog_rewind(RunLog *log, int64_t step) {
  static const enum StatementName tables[] = {REWIND_METRIC, REWIND_SAMPLE, REWIND_CHECKPOINT, REWIND_EVENT};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    sqlite3_stmt *statement = prepare(log, tables[i]);
    if (!statement) return;
    sqlite3_bind_int64(statement, 1, log->run);
    sqlite3_bind_int64(statement, 2, step);
    finish(log, statement);
  }
  log->step = step < 0 ? 0 : step;
  runlog_flush(log);
}

/* A statement whose first two places are run and step. */
static sqlite3_stmt *at_step(RunLog *log, enum StatementName name, int64_t step) {
  sqlite3_stmt *statement = prepare(log, name);
  if (!statement) return NULL;
  sqlite3_bind_int64(statement, 1, log->run);
  sqlite3_bind_int64(statement, 2, step);
  return statement;
}

void runlog_metric(RunLog *log, int64_t step, const char *name, double value) {
  sqlite3_stmt *statement = at_step(log, METRIC, step);
  if (!statement) return;
  bind_text(statement, 3, name);
  bind_number(statement, 4, value);
  finish(log, statement);
}

void runlog_sample(RunLog *log, int64_t step, const RunLogSample *sample) {
  sqlite3_stmt *statement = at_step(log, SAMPLE, step);
  if (!statement) return;
  bind_text(statement, 3, sample->prompt);
  bind_text(statement, 4, sample->response);
  bind_number(statement, 5, sample->reward);
  bind_number(statement, 6, sample->kl);
  sqlite3_bind_int64(statement, 7, sample->length);
  sqlite3_bind_int64(statement, 8, sample->finished);
  finish(log, statement);
}

void runlog_checkpoint(RunLog *log, int64_t step, const char *path, const char *digest) {
  sqlite3_stmt *statement = at_step(log, CHECKPOINT, step);
  if (!statement) return;
  bind_text(statement, 3, path);
  bind_text(statement, 4, digest);
  finish(log, statement);
}

void runlog_event(RunLog *log, LogLevel level, const char *text) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  sqlite3_stmt *statement = at_step(log, EVENT, log->step);
  if (!statement) return;
  bind_text(statement, 3, names[level]);
  bind_text(statement, 4, text);
  finish(log, statement);
}

void runlog_sink(void *context, LogLevel level, const char *text) {
  runlog_event(context, level, text);
}

void runlog_close(RunLog *log, const char *status) {
  sqlite3_stmt *statement = prepare(log, RUN_END);
  if (statement) {
    bind_text(statement, 1, status);
    sqlite3_bind_int64(statement, 2, log->run);
    finish(log, statement);
  }
  runlog_flush(log);
  release(log);
}
