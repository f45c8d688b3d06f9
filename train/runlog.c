#include "train/runlog.h"

#include "base/file.h"
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
    "  response TEXT NOT NULL, reward REAL, kl REAL, length INTEGER NOT NULL, finished INTEGER NOT NULL,"
    "  prompt_ids TEXT, response_ids TEXT, parts TEXT);"
    "CREATE INDEX IF NOT EXISTS sample_step ON sample (run, step);"
    "CREATE TABLE IF NOT EXISTS checkpoint (run INTEGER NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL,"
    "  digest TEXT NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS event (run INTEGER NOT NULL, step INTEGER NOT NULL, level TEXT NOT NULL,"
    "  text TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS event_step ON event (run, step);"
    "CREATE TABLE IF NOT EXISTS example (run INTEGER NOT NULL, data TEXT NOT NULL, number INTEGER NOT NULL,"
    "  sequence TEXT NOT NULL, path TEXT NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL, ids TEXT NOT "
    "NULL,"
    "  PRIMARY KEY (run, data, number, sequence)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS reward (run INTEGER NOT NULL, source TEXT NOT NULL, step INTEGER NOT NULL,"
    "  id INTEGER NOT NULL, digest TEXT NOT NULL, score REAL NOT NULL, parts TEXT,"
    "  PRIMARY KEY (run, source, step, id)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS reward_digest ON reward (run, source, digest);";

#define NOW "strftime('%Y-%m-%dT%H:%M:%SZ','now')"

/* Each statement once: its name and its text. */
#define STATEMENTS(X)                                                                                        \
  X(RUN_LAST, "SELECT id FROM run WHERE stage = ? ORDER BY id DESC LIMIT 1")                                 \
  X(RUN_BEGIN, "INSERT INTO run (stage, config, version, host, started, status) VALUES (?, ?, ?, ?, " NOW    \
               ", 'running')")                                                                               \
  X(RUN_AGAIN, "UPDATE run SET status = 'running', ended = NULL, config = ? WHERE id = ?")                   \
  X(RUN_FIND, "SELECT 1 FROM run WHERE id = ?")                                                              \
  X(RUN_END, "UPDATE run SET status = ?, ended = " NOW " WHERE id = ?")                                      \
  X(METRIC, "INSERT OR REPLACE INTO metric (run, step, name, value) VALUES (?, ?, ?, ?)")                    \
  X(COURSE, "SELECT step, value FROM metric WHERE run = ? AND name = ? ORDER BY step")                       \
  X(SAMPLE,                                                                                                  \
    "INSERT INTO sample (run, step, prompt, response, reward, kl, length, finished, prompt_ids, "            \
    "response_ids, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                                         \
  X(CHECKPOINT, "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)")                                     \
  X(EVENT, "INSERT INTO event VALUES (?, ?, ?, ?)")                                                          \
  X(EXAMPLE, "INSERT OR REPLACE INTO example VALUES (?, ?, ?, ?, ?, ?, ?, ?)")                               \
  X(REWARD, "INSERT OR REPLACE INTO reward VALUES (?, ?, ?, ?, ?, ?, ?)")                                    \
  X(REWARD_KEPT,                                                                                             \
    "SELECT score, parts FROM reward WHERE run = ? AND source = ? AND digest = ? AND step = ? AND id = ?")   \
  X(REWARD_ANYWHERE,                                                                                         \
    "SELECT score, parts FROM reward WHERE run = ? AND source = ? AND digest = ? ORDER BY step, id LIMIT 1") \
  X(REWIND_METRIC, "DELETE FROM metric WHERE run = ? AND step > ?")                                          \
  X(REWIND_SAMPLE, "DELETE FROM sample WHERE run = ? AND step > ?")                                          \
  X(REWIND_CHECKPOINT, "DELETE FROM checkpoint WHERE run = ? AND step > ?")                                  \
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
  Log *said;
  char *path;
  const char *stage, *config;
  bool resume;
  sqlite3 *db; /* NULL while the file cannot be used */
  sqlite3_stmt *statement[STATEMENT_COUNT];
  bool open_transaction;
  bool trying;      /* to connect, or saying that it failed: what is said meanwhile must not try in turn */
  int64_t pending;  /* rows in it */
  int64_t lost;     /* rows since the file could last be used */
  double retry_at;  /* time_monotonic */
  bool must_rewind; /* to `rewind`, as soon as the file can be used */
  int64_t rewind;
  char reason[256]; /* of the last failure */
};

enum { PATIENCE = 5000, LITTLE_PATIENCE = 500 }; /* milliseconds to wait for another process's lock */

static void disconnect(struct RunLogHandle *handle) {
  for (int i = 0; i < STATEMENT_COUNT; i++) sqlite3_finalize(handle->statement[i]);
  memset(handle->statement, 0, sizeof handle->statement);
  sqlite3_close(handle->db); /* rolls back */
  handle->db = NULL;
  handle->open_transaction = false;
}

/* What was to be written is lost; nothing is tried for a while. */
static void fail(RunLog *log) {
  struct RunLogHandle *handle = log->handle;
  if (!handle->db) return;
  snprintf(handle->reason, sizeof handle->reason, "%s", sqlite3_errmsg(handle->db));
  const bool first = handle->lost == 0;
  handle->lost += handle->pending;
  handle->pending = 0;
  handle->retry_at = time_monotonic() + log->retry_seconds;
  disconnect(handle);
  if (first) {
    const bool trying = handle->trying;
    handle->trying = true;
    log_warning(handle->said,
                "the run log %s cannot be written now (%s): the run goes on without, and it is tried again",
                handle->path, handle->reason);
    handle->trying = trying;
  }
}

static bool execute(RunLog *log, const char *text) {
  sqlite3 *db = log->handle->db;
  if (!db) return false;
  if (sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK) return true;
  fail(log);
  return false;
}

static bool connect_again(RunLog *log);

/* A statement ready to be bound within the open transaction, or NULL when there is no log now. */
static sqlite3_stmt *prepare(RunLog *log, enum StatementName name) {
  struct RunLogHandle *handle = log->handle;
  if (!handle) return NULL;
  if (!handle->db && (handle->trying || !connect_again(log))) {
    handle->lost++;
    return NULL;
  }
  if (!handle->open_transaction) {
    if (!execute(log, "BEGIN")) {
      handle->lost++;
      return NULL;
    }
    handle->open_transaction = true;
  }
  handle->pending++;
  return handle->statement[name];
}

static void finish(RunLog *log, sqlite3_stmt *statement) {
  const int code = sqlite3_step(statement);
  if (code != SQLITE_DONE && code != SQLITE_ROW) {
    fail(log);
    return;
  }
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
}

static void bind_bytes(sqlite3_stmt *statement, int at, const char *text, size_t bytes) {
  sqlite3_bind_text64(statement, at, text, bytes, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static void bind_ids(sqlite3_stmt *statement, int at, const int32_t *ids, int64_t count) {
  sqlite3_str *list = sqlite3_str_new(NULL);
  for (int64_t i = 0; i < count; i++) sqlite3_str_appendf(list, i ? ",%d" : "%d", ids[i]);
  sqlite3_bind_text(statement, at, sqlite3_str_finish(list), -1, sqlite3_free);
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text) {
  sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_TRANSIENT);
}

/* SQLite has no NaN: a value that is not finite is stored as NULL. */
static void bind_number(sqlite3_stmt *statement, int at, double value) {
  if (isfinite(value)) sqlite3_bind_double(statement, at, value);
}

void runlog_flush(RunLog *log) {
  struct RunLogHandle *handle = log->handle;
  if (!handle || !handle->open_transaction) return;
  handle->open_transaction = false;
  if (execute(log, "COMMIT")) handle->pending = 0;
}

/* Commits are fast because they are not synced one by one (synchronous = NORMAL); here the file they all went to is. */
void runlog_sync(RunLog *log) {
  sqlite3_file *journal = NULL;
  runlog_flush(log);
  if (!log->handle || !log->handle->db) return;
  sqlite3_file_control(log->handle->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &journal);
  if (!journal || !journal->pMethods) return; /* nothing written yet */
  if (journal->pMethods->xSync(journal, SQLITE_SYNC_NORMAL) != SQLITE_OK) fail(log);
}

static void host_text(char *out, size_t size) {
  struct utsname name;
  if (uname(&name) != 0) memset(&name, 0, sizeof name);
  snprintf(out, size, "%s, %s %s %s, %ld cores", name.nodename, name.sysname, name.release, name.machine,
           sysconf(_SC_NPROCESSORS_ONLN));
}

static void new_run(RunLog *log) {
  char host[512];
  const struct RunLogHandle *handle = log->handle;
  sqlite3_stmt *statement = prepare(log, RUN_BEGIN);
  if (!statement) return;
  host_text(host, sizeof host);
  bind_text(statement, 1, handle->stage);
  bind_text(statement, 2, handle->config);
  bind_text(statement, 3, DROVER_VERSION);
  bind_text(statement, 4, host);
  finish(log, statement);
  if (handle->db) log->run = sqlite3_last_insert_rowid(handle->db);
}

static void same_run(RunLog *log) {
  sqlite3_stmt *statement = prepare(log, RUN_AGAIN);
  if (!statement) return;
  bind_text(statement, 1, log->handle->config);
  sqlite3_bind_int64(statement, 2, log->run);
  finish(log, statement);
}

/* Whether the statement, bound, finds a row; *id is its first column. */
static bool find_run(RunLog *log, sqlite3_stmt *statement, int64_t *id) {
  const int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) *id = sqlite3_column_int64(statement, 0);
  if (code != SQLITE_ROW && code != SQLITE_DONE) {
    fail(log);
    return false;
  }
  sqlite3_reset(statement);
  return code == SQLITE_ROW;
}

/* The row of this run: the one it had in this file, the last one of the stage, or a new one. */
static void begin_run(RunLog *log) {
  const struct RunLogHandle *handle = log->handle;
  int64_t id = 0;
  bool found = false;
  sqlite3_stmt *statement = NULL;
  if (log->run) {
    if (!(statement = prepare(log, RUN_FIND))) return;
    sqlite3_bind_int64(statement, 1, log->run);
    found = find_run(log, statement, &id);
  } else if (handle->resume) {
    if (!(statement = prepare(log, RUN_LAST))) return;
    bind_text(statement, 1, handle->stage);
    found = find_run(log, statement, &log->run);
  }
  if (!handle->db) return;
  if (found) {
    same_run(log);
  } else {
    new_run(log);
  }
}

static void delete_later(RunLog *log, int64_t step);

/* A log that an earlier version began has no ids or parts in its samples. */
static bool add_columns(sqlite3 *db) {
  static const char *const columns[] = {"prompt_ids", "response_ids", "parts"};
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
    char text[80];
    if (sqlite3_table_column_metadata(db, NULL, "sample", columns[i], NULL, NULL, NULL, NULL, NULL) ==
        SQLITE_OK)
      continue;
    snprintf(text, sizeof text, "ALTER TABLE sample ADD COLUMN %s TEXT", columns[i]);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) return false;
  }
  return true;
}

static bool is_damage(sqlite3 *db) {
  const int code = db ? sqlite3_errcode(db) : SQLITE_OK;
  return code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
}

/* Opens the file and makes everything ready. On failure the connection is still there, with its reason. */
static bool attach(RunLog *log, int patience) {
  struct RunLogHandle *handle = log->handle;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (sqlite3_open_v2(handle->path, &handle->db, flags, NULL) != SQLITE_OK) return false;
  sqlite3_busy_timeout(handle->db, patience); /* someone may be reading it */
  if (sqlite3_exec(handle->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", NULL, NULL, NULL) ||
      sqlite3_exec(handle->db, schema, NULL, NULL, NULL) || !add_columns(handle->db)) {
    return false;
  }
  for (int i = 0; i < STATEMENT_COUNT; i++) {
    if (sqlite3_prepare_v2(handle->db, statement_text[i], -1, &handle->statement[i], NULL) != SQLITE_OK) {
      return false;
    }
  }
  return true;
}

/* A damaged file keeps what can still be read of it, under another name. */
static bool set_aside(RunLog *log) {
  static const char *const ends[] = {"", "-wal", "-shm"};
  struct RunLogHandle *handle = log->handle;
  char reason[128];
  snprintf(reason, sizeof reason, "%s", sqlite3_errmsg(handle->db));
  disconnect(handle);
  char *place = NULL;
  for (int number = 1; !place || file_exists(place); number++) {
    memory_free(place);
    place = memory_format("%s.damaged-%d", handle->path, number);
    if (!place) return false;
  }
  bool ok = true;
  for (int i = 0; i < 3; i++) {
    char *from = memory_format("%s%s", handle->path, ends[i]), *to = memory_format("%s%s", place, ends[i]);
    ok = ok && from && to && (rename(from, to) == 0 || i > 0);
    memory_free(from);
    memory_free(to);
  }
  if (ok) {
    log_warning(handle->said, "the run log %s is damaged (%s): it is set aside as %s, and a new one begun",
                handle->path, reason, place);
  }
  memory_free(place);
  return ok;
}

static bool connect(RunLog *log, int patience) {
  struct RunLogHandle *handle = log->handle;
  handle->trying = true;
  bool ok = attach(log, patience);
  if (!ok && is_damage(handle->db)) ok = set_aside(log) && attach(log, patience);
  if (ok) {
    begin_run(log);
    if (handle->db && handle->must_rewind) delete_later(log, handle->rewind);
    runlog_flush(log);
  } else {
    fail(log);
    handle->retry_at = time_monotonic() + log->retry_seconds;
  }
  handle->trying = false;
  if (handle->db) handle->must_rewind = false;
  return handle->db != NULL;
}

static bool connect_again(RunLog *log) {
  struct RunLogHandle *handle = log->handle;
  if (time_monotonic() < handle->retry_at) return false;
  if (!connect(log, LITTLE_PATIENCE)) return false;
  const int64_t lost = handle->lost;
  handle->lost = 0;
  log_warning(handle->said, "the run log is written again; %lld rows are missing (%s)", (long long)lost,
              handle->reason);
  return handle->db != NULL;
}

bool runlog_open(RunLog *log, const char *path, const char *stage, const char *config, bool resume, Log *said,
                 Error *error) {
  *log = (RunLog){.step = -1, .retry_seconds = 60};
  log->handle = memory_zeroed(1, sizeof *log->handle);
  char *copy = memory_copy_string(path);
  if (!log->handle || !copy) {
    memory_free(log->handle);
    memory_free(copy);
    log->handle = NULL;
    return error_out_of_memory(error, "run log", sizeof *log->handle);
  }
  *log->handle =
      (struct RunLogHandle){.said = said, .path = copy, .stage = stage, .config = config, .resume = resume};
  connect(log, PATIENCE);
  return true;
}

/* Rows of this run after `step` go, within the open transaction. */
static void delete_later(RunLog *log, int64_t step) {
  static const enum StatementName tables[] = {REWIND_METRIC, REWIND_SAMPLE, REWIND_CHECKPOINT, REWIND_EVENT};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    sqlite3_stmt *statement = prepare(log, tables[i]);
    if (!statement) return;
    sqlite3_bind_int64(statement, 1, log->run);
    sqlite3_bind_int64(statement, 2, step);
    finish(log, statement);
  }
}

void runlog_rewind(RunLog *log, int64_t step) {
  struct RunLogHandle *handle = log->handle;
  if (!handle) return;
  handle->rewind = step;
  if (handle->db) delete_later(log, step);
  runlog_flush(log);
  handle->must_rewind = handle->db == NULL;
  log->step = step < 0 ? 0 : step;
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

static void take_value(RunLogCourse *course, int64_t step, double value) {
  if (course->count == 0) course->first = value;
  if (course->count == 0 || value < course->smallest) {
    course->smallest = value;
    course->smallest_step = step;
  }
  if (course->count == 0 || value > course->largest) {
    course->largest = value;
    course->largest_step = step;
  }
  course->last = value;
  course->count++;
}

bool runlog_course(const RunLog *log, const char *name, RunLogCourse *course) {
  *course = (RunLogCourse){0};
  if (!log->handle || !log->handle->db) return false;
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(log->handle->db, statement_text[COURSE], -1, &statement, NULL) != SQLITE_OK)
    return false;
  sqlite3_bind_int64(statement, 1, log->run);
  bind_text(statement, 2, name);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    if (sqlite3_column_type(statement, 1) == SQLITE_NULL) continue;
    take_value(course, sqlite3_column_int64(statement, 0), sqlite3_column_double(statement, 1));
  }
  sqlite3_finalize(statement);
  return course->count > 0;
}

bool runlog_read(const char *path, const char *name, double *values, int64_t most, int64_t *count,
                 Error *error) {
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  *count = 0;
  int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
  if (code == SQLITE_OK) {
    sqlite3_busy_timeout(db, PATIENCE);
    code = sqlite3_prepare_v2(db,
                              "SELECT value FROM metric WHERE name = ? AND run = (SELECT max(id) FROM run) "
                              "AND value IS NOT NULL ORDER BY step",
                              -1, &statement, NULL);
  }
  if (code == SQLITE_OK) {
    bind_text(statement, 1, name);
    while (*count < most && (code = sqlite3_step(statement)) == SQLITE_ROW)
      values[(*count)++] = sqlite3_column_double(statement, 0);
  }
  const bool ok = code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE ||
                  error_set(error, ERROR_FILE, "%s: %s", path, sqlite3_errmsg(db));
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return ok;
}

void runlog_sample(RunLog *log, int64_t step, const RunLogSample *sample) {
  sqlite3_stmt *statement = at_step(log, SAMPLE, step);
  if (!statement) return;
  bind_bytes(statement, 3, sample->prompt, sample->prompt_bytes);
  bind_bytes(statement, 4, sample->response, sample->response_bytes);
  bind_number(statement, 5, sample->reward);
  bind_number(statement, 6, sample->kl);
  sqlite3_bind_int64(statement, 7, sample->length);
  sqlite3_bind_int64(statement, 8, sample->finished);
  bind_ids(statement, 9, sample->prompt_ids, sample->prompt_length);
  bind_ids(statement, 10, sample->response_ids, sample->length);
  if (sample->parts) bind_text(statement, 11, sample->parts);
  finish(log, statement);
}

void runlog_example(RunLog *log, const RunLogExample *example) {
  sqlite3_stmt *statement = prepare(log, EXAMPLE);
  if (!statement) return;
  sqlite3_bind_int64(statement, 1, log->run);
  bind_text(statement, 2, example->data);
  sqlite3_bind_int64(statement, 3, example->number);
  bind_text(statement, 4, example->sequence);
  bind_text(statement, 5, example->path);
  sqlite3_bind_int64(statement, 6, example->line);
  bind_bytes(statement, 7, example->text, example->text_bytes);
  bind_ids(statement, 8, example->ids, example->count);
  finish(log, statement);
}

void runlog_checkpoint(RunLog *log, int64_t step, const char *path, const char *digest) {
  sqlite3_stmt *statement = at_step(log, CHECKPOINT, step);
  if (!statement) return;
  bind_text(statement, 3, path);
  bind_text(statement, 4, digest);
  finish(log, statement);
}

void runlog_reward(RunLog *log, const RunLogReward *reward) {
  sqlite3_stmt *statement = prepare(log, REWARD);
  if (!statement) return;
  sqlite3_bind_int64(statement, 1, log->run);
  bind_text(statement, 2, reward->source);
  sqlite3_bind_int64(statement, 3, reward->step);
  sqlite3_bind_int64(statement, 4, reward->id);
  bind_text(statement, 5, reward->digest);
  bind_number(statement, 6, reward->score);
  if (reward->parts) bind_text(statement, 7, reward->parts);
  finish(log, statement);
}

bool runlog_kept_reward(RunLog *log, RunLogReward *reward, bool anywhere) {
  if (!log->handle || !log->handle->db) return false;
  sqlite3_stmt *statement = log->handle->statement[anywhere ? REWARD_ANYWHERE : REWARD_KEPT];
  sqlite3_bind_int64(statement, 1, log->run);
  bind_text(statement, 2, reward->source);
  bind_text(statement, 3, reward->digest);
  if (!anywhere) {
    sqlite3_bind_int64(statement, 4, reward->step);
    sqlite3_bind_int64(statement, 5, reward->id);
  }
  const bool found = sqlite3_step(statement) == SQLITE_ROW;
  if (found) {
    const char *parts = (const char *)sqlite3_column_text(statement, 1);
    reward->score = sqlite3_column_double(statement, 0);
    reward->parts = parts ? memory_copy_string(parts) : NULL;
  }
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return found;
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
  struct RunLogHandle *handle = log->handle;
  if (!handle) return;
  handle->retry_at = 0; /* the last chance */
  sqlite3_stmt *statement = prepare(log, RUN_END);
  if (statement) {
    bind_text(statement, 1, status);
    sqlite3_bind_int64(statement, 2, log->run);
    finish(log, statement);
  }
  runlog_flush(log);
  if (handle->lost) {
    log_warning(handle->said, "the run log %s is incomplete: %lld rows are missing (%s)", handle->path,
                (long long)handle->lost, handle->reason);
  }
  disconnect(handle);
  memory_free(handle->path);
  memory_free(handle);
  log->handle = NULL;
}

void runlog_settle(const char *path, const char *stage) {
  static const char text[] = "UPDATE run SET status = 'done', ended = coalesce(ended, " NOW
                             ") WHERE id = (SELECT max(id) FROM run WHERE stage = ?) AND status <> 'done'";
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
    sqlite3_busy_timeout(db, LITTLE_PATIENCE);
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK) {
      bind_text(statement, 1, stage);
      sqlite3_step(statement);
    }
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
}
