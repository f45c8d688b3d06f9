#include "train/run.h"

#include "base/file.h"
#include "train/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

char *run_path(const Run *run, const char *name) {
  return path_join(run->config->dir, name);
}

static bool path_error(Error *error) {
  return error_out_of_memory(error, "path", 0);
}

/* -- opening -------------------------------------------------------------------------------------------- */

static bool take_lock(Run *run, Error *error) {
  char *path = run_path(run, "lock");
  if (!path) return path_error(error);
  run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  bool ok = run->lock >= 0 || error_set(error, ERROR_FILE, "cannot open %s: %s", path, strerror(errno));
  if (ok && flock(run->lock, LOCK_EX | LOCK_NB) != 0) {
    ok = errno == EWOULDBLOCK
             ? error_set(error, ERROR_FILE, "run.dir %s is in use by another process", run->config->dir)
             : error_set(error, ERROR_FILE, "cannot lock %s: %s", path, strerror(errno));
  }
  memory_free(path);
  return ok;
}

static bool remove_names(const Run *run, const char *const *names, size_t count, bool *any, Error *error) {
  for (size_t i = 0; i < count; i++) {
    char *path = run_path(run, names[i]);
    if (!path) return path_error(error);
    bool there = directory_exists(path) || file_exists(path);
    bool ok = !there || directory_remove_all(path, error);
    *any |= there;
    memory_free(path);
    if (!ok) return false;
  }
  return true;
}

/* What a run writes in its directory, but for the cache of data. */
static const char *const written[] = {"done.json", "checkpoints", "model",      "adapter",    "ema",
                                      "run.db",    "run.db-wal",  "run.db-shm", "config.json"};
enum { WRITTEN = sizeof written / sizeof *written };

/* A directory that has what a run writes, and no run's lock, is somebody else's: a model, say, whose config.json would
 * be written over. */
static bool check_owner(const Run *run, Error *error) {
  char *lock = run_path(run, "lock");
  if (!lock) return path_error(error);
  const bool ours = file_exists(lock);
  memory_free(lock);
  bool ok = true;
  for (size_t i = 0; ok && !ours && i < WRITTEN; i++) {
    char *path = run_path(run, written[i]);
    if (!path) return path_error(error);
    if (file_exists(path) || directory_exists(path)) {
      ok = error_set(error, ERROR_USAGE,
                     "run.dir %s is no run's, and a run would write over its %s: choose another",
                     run->config->dir, written[i]);
    }
    memory_free(path);
  }
  return ok;
}

static bool start_over(Run *run, Error *error) {
  bool any = false;
  if (!remove_names(run, written, WRITTEN, &any, error)) return false;
  if (any) log_warning(run->log, "run.resume is false: what was in %s is removed", run->config->dir);
  return true;
}

static bool lies_in(const char *path, const char *place) {
  char *inner = realpath(path, NULL), *outer = realpath(place, NULL);
  const size_t length = outer ? strlen(outer) : 0;
  const bool in =
      inner && outer && !strncmp(inner, outer, length) && (inner[length] == '/' || !inner[length]);
  free(inner);
  free(outer);
  return in;
}

/* Nothing that is read may lie in what is written: the run would lose its own input. */
static bool check_path(const Run *run, const char *key, const char *path, Error *error) {
  bool ok = true;
  for (size_t i = 0; ok && i < WRITTEN; i++) {
    char *place = run_path(run, written[i]);
    if (!place) return path_error(error);
    if (lies_in(path, place)) {
      ok = error_set(error, ERROR_USAGE, "%s: %s lies in %s, which this run writes: choose another run.dir",
                     key, path, place);
    }
    memory_free(place);
  }
  return ok;
}

static bool check_paths(const Run *run, const char *key, const json_t *value, Error *error) {
  if (json_is_string(value)) return check_path(run, key, json_string_value(value), error);
  const char *name;
  json_t *member;
  size_t i;
  json_array_foreach(value, i, member) {
    if (!check_paths(run, key, member, error)) return false;
  }
  json_object_foreach((json_t *)value, name, member) {
    char inner[128];
    snprintf(inner, sizeof inner, "%s%s%s", key, *key ? "." : "", name);
    if (!check_paths(run, inner, member, error)) return false;
  }
  return true;
}

static bool check_inputs(const Run *run, Error *error) {
  json_t *settings = json_loads(run->settings, 0, NULL);
  ASSERT(settings); /* made by options_json */
  const bool ok = check_paths(run, "", settings, error);
  json_decref(settings);
  return ok;
}

/* Reads done.json when there is one: it holds the settings and the result of the finished run. */
static bool check_finished(Run *run, Error *error) {
  char *path = run_path(run, "done.json");
  if (!path) return path_error(error);
  Buffer text = {0};
  bool ok = true;
  if (file_exists(path)) {
    ok = file_read(path, &text, error);
    json_t *done = ok ? json_loadb(text.data, text.size, 0, NULL) : NULL;
    char *before = json_dumps(json_object_get(done, "config"), JSON_REAL_PRECISION(17));
    /* 15 digits: numbers come out as they were written. */
    char *result = json_dumps(json_object_get(done, "result"), JSON_REAL_PRECISION(15));
    if (ok && (!before || !result)) ok = error_set(error, ERROR_MODEL, "%s is damaged", path);
    ok = ok && settings_check(before, run->settings, path, error);
    if (ok && settings_same_end(before, run->settings)) {
      run->start = RUN_FINISHED;
      run->result = memory_copy_string(result);
      ok = run->result || error_out_of_memory(error, "result", strlen(result));
    }
    free(before);
    free(result);
    json_decref(done);
  }
  buffer_free(&text);
  memory_free(path);
  return ok;
}

static bool has_checkpoints(const Run *run) {
  char *path = run_path(run, "checkpoints");
  StringList names = {0};
  Error ignored = {0};
  bool any = path && directory_exists(path) && directory_list(path, &names, &ignored) && names.count > 0;
  string_list_free(&names);
  memory_free(path);
  return any;
}

static bool write_settings(const Run *run, Error *error) {
  char *path = run_path(run, "config.json");
  bool ok = path ? file_write_text(path, run->settings, error) : path_error(error);
  memory_free(path);
  return ok;
}

/* A LogSink for the time before there is a run.db. A line that finds no memory is only on the screen. */
static void keep_line(void *context, LogLevel level, const char *text) {
  Run *run = context;
  Error ignored = {0};
  const size_t before = run->said.size;
  const char mark = (char)level;
  if (!buffer_append(&run->said, &mark, 1, &ignored) ||
      !buffer_append(&run->said, text, strlen(text) + 1, &ignored)) {
    run->said.size = before;
  }
}

static bool open_log(Run *run, Error *error) {
  char *path = run_path(run, "run.db");
  bool ok = path ? runlog_open(&run->runlog, path, run->stage, run->settings, run->config->resume, error)
                 : path_error(error);
  memory_free(path);
  if (!ok) return false;
  for (size_t at = 0; at < run->said.size; at += strlen(run->said.data + at) + 1) {
    const LogLevel level = (LogLevel)run->said.data[at++];
    runlog_event(&run->runlog, level, run->said.data + at);
  }
  buffer_free(&run->said);
  run->log->sink = runlog_sink;
  run->log->sink_context = &run->runlog;
  return true;
}

bool run_open(Run *run, const char *stage, const RunConfig *config, const char *settings, Log *log,
              Error *error) {
  *run = (Run){.stage = stage, .config = config, .log = log, .lock = -1};
  run->settings = memory_copy_string(settings);
  if (!run->settings) return error_out_of_memory(error, "settings", strlen(settings));
  if (!directory_create(config->dir, error) || !check_owner(run, error) || !take_lock(run, error) ||
      !check_inputs(run, error)) {
    return false;
  }
  if (config->resume && !check_finished(run, error)) return false;
  if (run->start == RUN_FINISHED) return true;
  run->start = config->resume && has_checkpoints(run) ? RUN_RESUME : RUN_FRESH;
  log->sink = keep_line;
  log->sink_context = run;
  return true;
}

bool run_begin(Run *run, Error *error) {
  ASSERT(run->start != RUN_FINISHED && !run->runlog.handle);
  if (!run->config->resume && !start_over(run, error)) return false;
  /* The settings of a run that goes on are written once its checkpoint has been found to fit them. */
  if (run->start == RUN_FRESH && !write_settings(run, error)) return false;
  return open_log(run, error);
}

void run_close(Run *run, const Error *error) {
  ErrorCode code = error ? error->code : ERROR_NONE;
  if (run->log) run->log->sink = NULL;
  if (run->runlog.handle) {
    bool interrupted = code == ERROR_SIGINT || code == ERROR_SIGTERM;
    if (code) runlog_event(&run->runlog, LOG_ERROR, error->message);
    runlog_close(&run->runlog, interrupted ? "interrupted" : code ? "failed" : "done");
    if (run->runlog.failed) log_warning(run->log, "the run log is incomplete: %s", run->runlog.reason);
  }
  if (run->lock >= 0) close(run->lock);
  buffer_free(&run->said);
  memory_free(run->settings);
  memory_free(run->result);
  memory_free(run->last_checkpoint);
  *run = (Run){.lock = -1};
}

/* -- steps ---------------------------------------------------------------------------------------------- */

static bool due(int64_t every, int64_t step) {
  return every > 0 && step % every == 0;
}

bool run_checkpoint_due(const Run *run, int64_t step) {
  return due(run->config->save_every, step);
}

bool run_eval_due(const Run *run, int64_t step) {
  return due(run->config->eval_every, step);
}

bool run_log_due(const Run *run, int64_t step) {
  return due(run->config->log_every, step);
}

static bool note_checkpoint(Run *run, const Checkpoint *checkpoint, Error *error) {
  char *path = memory_copy_string(checkpoint->path);
  if (!path) return error_out_of_memory(error, "path", strlen(checkpoint->path));
  memory_free(run->last_checkpoint);
  run->last_checkpoint = path;
  runlog_checkpoint(&run->runlog, checkpoint->step, path, checkpoint->digest);
  runlog_flush(&run->runlog);
  return true;
}

bool run_checkpoint(Run *run, Checkpoint *checkpoint, Error *error) {
  runlog_flush(&run->runlog); /* the rows up to this step are in the log whenever the checkpoint is there */
  return checkpoint_commit(checkpoint, run->config->dir, run->config->keep, error) &&
         note_checkpoint(run, checkpoint, error);
}

bool run_resume(Run *run, Checkpoint *checkpoint, Compute *compute, bool *found, Error *error) {
  if (!checkpoint_find(checkpoint, run->config->dir, run->stage, run->settings, compute, run->log, found,
                       error)) {
    return false;
  }
  runlog_rewind(&run->runlog, *found ? checkpoint->step : -1);
  if (*found) log_info(run->log, "going on from %s", checkpoint->path);
  return write_settings(run, error) && (!*found || note_checkpoint(run, checkpoint, error));
}

bool run_save(Run *run, int64_t step, RunState *state, void *stage, Compute *compute, Error *error) {
  Checkpoint checkpoint;
  const bool ok = checkpoint_begin(&checkpoint, run->stage, step, run->settings, compute, error) &&
                  state(stage, &checkpoint, error) && run_checkpoint(run, &checkpoint, error);
  checkpoint_close(&checkpoint);
  return ok;
}

bool run_load(Run *run, RunState *state, void *stage, Compute *compute, Error *error) {
  Checkpoint checkpoint;
  bool found;
  const bool ok =
      run_resume(run, &checkpoint, compute, &found, error) && (!found || state(stage, &checkpoint, error));
  checkpoint_close(&checkpoint);
  return ok;
}

bool run_finish(Run *run, const char *result, Error *error) {
  json_t *settings = json_loads(run->settings, 0, NULL), *outcome = json_loads(result, 0, NULL);
  ASSERT(settings && outcome); /* both are made by this program */
  json_t *done = json_pack("{s:s, s:O, s:O}", "stage", run->stage, "config", settings, "result", outcome);
  char *text = done ? json_dumps(done, JSON_INDENT(2)) : NULL, *path = run_path(run, "done.json");
  bool ok = (text && path) || error_out_of_memory(error, "result", strlen(result));
  ok = ok && file_write_text(path, text, error);
  free(text);
  memory_free(path);
  json_decref(done);
  json_decref(settings);
  json_decref(outcome);
  return ok;
}

bool run_check_finite(const Run *run, const char *what, double value, int64_t step, Error *error) {
  if (isfinite(value)) return true;
  return error_set(error, ERROR_MODEL,
                   "%s is %s at step %" PRId64
                   "; the last good checkpoint: %s. A lower optim.lr, more "
                   "optim.warmup_steps or model.dtype f32 may help",
                   what, isnan(value) ? "NaN" : "infinite", step,
                   run->last_checkpoint ? run->last_checkpoint : "none");
}

/* -- signals -------------------------------------------------------------------------------------------- */

/* The one variable that outlives a call: what comes to the whole process has no other place. */
static atomic_int stop_signal;

static sigset_t stop_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

/* A thread of its own takes the signals, and all others block them. A handler would run on the stack of the thread that
 * the kernel happens to choose, and matrix kernels of oneDNN keep other things than the stack in the stack pointer: the
 * signal frame would be written into the middle of the heap. */
static void *wait_for_signals(void *unused) {
  (void)unused;
  const sigset_t set = stop_signals();
  for (;;) {
    int number;
    if (sigwait(&set, &number) != 0) continue;
    if (atomic_exchange(&stop_signal, number) == 0) continue;
    signal(number, SIG_DFL); /* the second one ends the process, as if nobody had waited */
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return NULL;
  }
}

bool run_signals_install(Error *error) {
  static atomic_bool installed;
  atomic_store(&stop_signal, 0);
  if (atomic_exchange(&installed, true)) return true;
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t thread;
  const int failure = pthread_create(&thread, NULL, wait_for_signals, NULL);
  if (failure) return error_set(error, ERROR_DEVICE, "cannot start a thread: %s", strerror(failure));
  pthread_detach(thread);
  return true;
}

int run_stop_signal(void) {
  return atomic_load(&stop_signal);
}

bool run_interrupted_error(int number, Error *error) {
  return number == SIGTERM
             ? error_set(error, ERROR_SIGTERM, "interrupted by SIGTERM; the same command goes on from here")
             : error_set(error, ERROR_SIGINT, "interrupted; the same command goes on from here");
}
