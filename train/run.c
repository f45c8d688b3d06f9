#include "base/file.h"
#include "train/run_parts.h"
#include "train/settings.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *run_path(const Run *run, const char *name) {
  return path_join(run->config->dir, name);
}

static Settings run_settings(const Run *run) {
  return (Settings){run->settings, run->defaults};
}

static bool path_error(Error *error) {
  return error_out_of_memory(error, "path", 0);
}

/* -- configuration -------------------------------------------------------------------------------------- */

static bool check_alarms(const RunConfig *config, Error *error) {
  int64_t set;
  if (!alarm_set(&config->alarms, &set, error)) return false;
  return config->on_alarm != ON_ALARM_ROLLBACK || config->save_every > 0 ||
         error_set(error, ERROR_USAGE,
                   "run.on_alarm rollback: expected run.save_every of 1 or more, which makes the checkpoints "
                   "that it goes back to; found 0");
}

bool run_config_check(const RunConfig *config, bool has_eval, Error *error) {
  if (!check_alarms(config, error)) return false;
  if (config->keep_best == BEST_NONE) {
    return config->patience == 0 ||
           error_set(error, ERROR_USAGE,
                     "run.patience: expected run.keep_best with it, which says what is to become better");
  }
  if (!has_eval)
    return error_set(error, ERROR_USAGE,
                     "run.keep_best: expected data.eval, which it chooses by; found none");
  return config->eval_every > 0 ||
         error_set(error, ERROR_USAGE,
                   "run.keep_best: expected run.eval_every of 1 or more: of one evaluation, at the end, "
                   "there is nothing to choose; found 0");
}

/* -- opening -------------------------------------------------------------------------------------------- */

/* The result that done.json names must be there still: "output" in it is RUN/model, RUN/adapter or a file in RUN, however the run
 * directory was written or wherever it lies now. */
static bool check_output(const Run *run, const json_t *result, Error *error) {
  const char *output = json_string_value(json_object_get(result, "output"));
  if (!output) return true;
  char *path = run_path(run, path_name(output));
  bool ok = path || path_error(error);
  if (ok && !directory_exists(path) && !file_exists(path)) {
    ok = error_set(error, ERROR_FILE,
                   "the run in %s is finished, but its result %s is gone. Remove done.json to have it made "
                   "again from the last checkpoint; run.resume false starts over",
                   run->config->dir, path);
  }
  memory_free(path);
  return ok;
}

/* What a finished run means for this one: its result, or, when this one is to end elsewhere, where it goes on from. */
static bool take_finished(Run *run, const char *path, const json_t *done, Error *error) {
  char *before = json_dumps(json_object_get(done, "config"), JSON_REAL_PRECISION(17));
  /* 15 digits: numbers come out as they were written. */
  char *result = json_dumps(json_object_get(done, "result"), JSON_REAL_PRECISION(15));
  bool ok =
      (before && result) ||
      error_set(
          error, ERROR_MODEL,
          "%s is damaged. Remove it, and the same command makes the result again from the last checkpoint",
          path);
  if (ok && settings_same_end(before, run->settings)) {
    ok = settings_check(before, run_settings(run), path, NULL, error) &&
         check_output(run, json_object_get(done, "result"), error);
    run->start = RUN_FINISHED;
    run->result = ok ? memory_copy_string(result) : NULL;
    ok = ok && (run->result || error_out_of_memory(error, "result", strlen(result)));
  } else if (ok) {
    bool any;
    ok = checkpoint_any(run->config->dir, &any, error);
    if (ok && !any) {
      ok = error_set(error, ERROR_MODEL,
                     "%s: the finished run has no checkpoint to go on from; run.resume false starts over",
                     path);
    }
  }
  free(before);
  free(result);
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
    ok = ok && take_finished(run, path, done, error);
    json_decref(done);
  }
  buffer_free(&text);
  memory_free(path);
  return ok;
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
  bool ok =
      path ? runlog_open(&run->runlog, path, run->stage, run->settings, run->config->resume, run->log, error)
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

/* A run that was killed between done.json and its last row in the log is done all the same. */
static bool settle_log(const Run *run, Error *error) {
  char *path = run_path(run, "run.db");
  if (!path) return path_error(error);
  if (file_exists(path)) runlog_settle(path, run->stage);
  memory_free(path);
  return true;
}

/* Of the rank that has the directory. */
static bool open_directory(Run *run, Error *error) {
  const RunConfig *config = run->config;
  bool going_on = false;
  if (!directory_create(config->dir, error) || !run_directory_check(run, error) ||
      !run_directory_lock(run, error) || !run_directory_check_inputs(run, error) ||
      (config->resume && !(check_finished(run, error) && checkpoint_any(config->dir, &going_on, error)))) {
    return false;
  }
  if (run->start == RUN_FINISHED) return settle_log(run, error);
  run->start = going_on ? RUN_RESUME : RUN_FRESH;
  run->log->sink = keep_line;
  run->log->sink_context = run;
  return true;
}

bool run_open(Run *run, const char *stage, const RunConfig *config, Settings settings, const Comm *comm,
              Log *log, Error *error) {
  *run = (Run){.stage = stage,
               .config = config,
               .comm = *comm,
               .log = log,
               .lock = -1,
               .saved = -1,
               .opened_at = time_monotonic()};
  run->settings = memory_copy_string(settings.text);
  run->defaults = memory_copy_string(settings.defaults);
  if (!run->settings || !run->defaults) return error_out_of_memory(error, "settings", strlen(settings.text));
  if (!alarm_set(&config->alarms, &run->watched, error)) return false;
  if (comm->rank == 0 && !open_directory(run, error)) return false;
  comm_broadcast(comm, 0, &run->start, sizeof run->start);
  return true;
}

bool run_look(const char *stage, const RunConfig *config, Settings settings, Log *log, Error *error) {
  if (!config->dir || !directory_exists(config->dir)) return true;
  Run run = {.stage = stage, .config = config, .comm = comm_single(), .log = log, .lock = -1};
  Checkpoint checkpoint = {0};
  bool any;
  run.settings = memory_copy_string(settings.text);
  run.defaults = memory_copy_string(settings.defaults);
  bool ok =
      ((run.settings && run.defaults) || error_out_of_memory(error, "settings", strlen(settings.text))) &&
      run_directory_check(&run, error) && run_directory_check_inputs(&run, error) &&
      (!config->resume || check_finished(&run, error));
  if (ok && run.start == RUN_FINISHED) {
    log_info(log, "%s is finished already", config->dir);
  } else if (ok && config->resume) {
    ok = checkpoint_find(&checkpoint, config->dir, stage, settings, NULL, log, &any, error);
  }
  checkpoint_close(&checkpoint);
  memory_free(run.settings);
  memory_free(run.defaults);
  memory_free(run.result);
  return ok;
}

static bool start_over(Run *run, Error *error) {
  bool any;
  if (!run_directory_clear(run, &any, error)) return false;
  if (any) log_warning(run->log, "run.resume is false: what was in %s is removed", run->config->dir);
  return true;
}

static bool begin_directory(Run *run, Error *error) {
  if (!run->config->resume && !start_over(run, error)) return false;
  /* The settings of a run that goes on are written once its checkpoint has been found to fit them. */
  if (run->start == RUN_FRESH && !write_settings(run, error)) return false;
  return open_log(run, error);
}

bool run_begin(Run *run, Error *error) {
  ASSERT(run->start != RUN_FINISHED && !run->runlog.handle);
  if (run->comm.rank == 0 && !begin_directory(run, error)) return false;
  run->saved_at = time_monotonic();
  comm_barrier(&run->comm); /* what a former run left is gone */
  return true;
}

static const char *outcome(const Error *error) {
  if (!error || !error->code) return "done";
  return error_is_signal(error) ? "interrupted" : error->code == ERROR_ALARM ? "stopped" : "failed";
}

void run_close(Run *run, const Error *error) {
  ErrorCode code = error ? error->code : ERROR_NONE;
  if (run->log) run->log->sink = NULL;
  if (run->runlog.handle) {
    if (code) runlog_event(&run->runlog, LOG_ERROR, error->message);
    runlog_close(&run->runlog, outcome(error));
  }
  if (run->lock >= 0) close(run->lock);
  buffer_free(&run->said);
  memory_free(run->settings);
  memory_free(run->defaults);
  memory_free(run->result);
  memory_free(run->last_checkpoint);
  *run = (Run){.lock = -1, .saved = -1};
}

/* -- what to do about numbers that are not finite ------------------------------------------------------- */

#define ADVICE  "A lower optim.lr, more optim.warmup_steps or model.dtype f32 may help"
#define AND_HOW ": the same command with one of them goes on from there"

static const char *last_checkpoint(const Run *run) {
  return run->last_checkpoint ? run->last_checkpoint : "none";
}

/* -- steps ---------------------------------------------------------------------------------------------- */

static bool due(int64_t every, int64_t step) {
  return every > 0 && step % every == 0;
}

bool run_checkpoint_due(const Run *run, int64_t step) {
  const double minutes = (time_monotonic() - run->saved_at) / 60;
  return due(run->config->save_every, step) ||
         (run->config->save_minutes > 0 && minutes >= run->config->save_minutes);
}

bool run_eval_due(const Run *run, int64_t step) {
  return due(run->config->eval_every, step);
}

bool run_log_due(const Run *run, int64_t step) {
  return due(run->config->log_every, step);
}

static void note_saved(Run *run, int64_t step) {
  run->saved = step;
  run->saved_at = time_monotonic();
  run_signals_saved(step);
}

static bool note_checkpoint(Run *run, const Checkpoint *checkpoint, Error *error) {
  char *path = memory_copy_string(checkpoint->path);
  if (!path) return error_out_of_memory(error, "path", strlen(checkpoint->path));
  memory_free(run->last_checkpoint);
  run->last_checkpoint = path;
  note_saved(run, checkpoint->step);
  runlog_checkpoint(&run->runlog, checkpoint->step, path, checkpoint->digest);
  runlog_flush(&run->runlog);
  return true;
}

bool run_checkpoint(Run *run, Checkpoint *checkpoint, Error *error) {
  Error why = {0};
  runlog_sync(&run->runlog); /* the rows up to this step are on the disk before the checkpoint is */
  const bool goes_back = run->config->on_alarm == ON_ALARM_ROLLBACK;
  const CheckpointKeep keep = {run->config->keep, goes_back ? run->config->save_every : 0};
  if (checkpoint_commit(checkpoint, run->config->dir, keep, &why))
    return note_checkpoint(run, checkpoint, error);
  if (why.code != ERROR_MODEL) return error_set(error, why.code, "%s", why.message);
  return error_set(error, ERROR_MODEL, "%s; the last good checkpoint: %s. " ADVICE AND_HOW, why.message,
                   last_checkpoint(run));
}

bool run_resume(Run *run, int64_t total, Checkpoint *checkpoint, Compute *compute, bool *found,
                Error *error) {
  if (!checkpoint_find(checkpoint, run->config->dir, run->stage, run_settings(run), compute, run->log, found,
                       error)) {
    return false;
  }
  if (*found && checkpoint->step > total) {
    return error_set(error, ERROR_USAGE,
                     "%s is of update %" PRId64 ", and the run is to end with update %" PRId64
                     ". For a model of an earlier update: drover export %s --step N",
                     checkpoint->path, checkpoint->step, total, run->config->dir);
  }
  runlog_rewind(&run->runlog, *found ? checkpoint->step : -1);
  if (*found) log_info(run->log, "going on from %s", checkpoint->path);
  return (run->comm.rank > 0 || write_settings(run, error)) &&
         (!*found || note_checkpoint(run, checkpoint, error));
}

bool run_whole_state(Run *run, RunState *state, void *stage, Checkpoint *checkpoint, Error *error) {
  return checkpoint_count(checkpoint, "run.skipped", &run->skipped, error) &&
         checkpoint_count(checkpoint, "run.last_skipped", &run->last_skipped, error) &&
         checkpoint_count(checkpoint, "run.skipped_in_a_row", &run->in_a_row, error) &&
         run_best_state(run, checkpoint, error) && run_alarms_state(run, checkpoint, error) &&
         state(stage, checkpoint, error);
}

bool run_save(Run *run, int64_t step, RunState *state, void *stage, Compute *compute, Error *error) {
  if (step == run->saved) return true;
  Checkpoint checkpoint;
  progress_phase(&run->progress, "saving");
  const bool ok = checkpoint_begin(&checkpoint, run->stage, step, run->settings, compute, error) &&
                  run_whole_state(run, state, stage, &checkpoint, error) &&
                  run_checkpoint(run, &checkpoint, error);
  checkpoint_close(&checkpoint);
  return ok;
}

bool run_load(Run *run, int64_t total, RunState *state, void *stage, Compute *compute, Error *error) {
  Checkpoint checkpoint;
  bool found;
  const bool ok = run_resume(run, total, &checkpoint, compute, &found, error) &&
                  (!found || run_whole_state(run, state, stage, &checkpoint, error));
  if (ok) run_best_meet(run, found ? checkpoint.step : -1);
  checkpoint_close(&checkpoint);
  run->sent = comm_sent(&run->comm);
  const bool goes_back = run->config->on_alarm == ON_ALARM_ROLLBACK;
  return ok && (found || !goes_back || run_save(run, 0, state, stage, compute, error));
}

/* What this rank told the others since the last update. */
static void log_sent(Run *run, int64_t step) {
  const int64_t before = run->sent;
  run->sent = comm_sent(&run->comm);
  if (run->comm.size > 1 && run_log_due(run, step))
    runlog_metric(&run->runlog, step, "train/sent_bytes", (double)(run->sent - before));
}

bool run_updated(Run *run, int64_t step, bool last, RunState *state, void *stage, Compute *compute,
                 Error *error) {
  int64_t asked[2] = {run_stop_signal(), run_checkpoint_due(run, step) || run->best.unsaved};
  comm_all_reduce(&run->comm, COMM_MAX, DTYPE_I64, asked, 2);
  const int number = (int)asked[0];
  log_sent(run, step);
  runlog_flush(&run->runlog);
  if ((number || last || asked[1]) && !run_save(run, step, state, stage, compute, error)) {
    return false;
  }
  return !number || run_interrupted_error(run, number, error);
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
  return error_set(error, ERROR_MODEL, "%s is %s at step %" PRId64 "; the last good checkpoint: %s. " ADVICE,
                   what, isnan(value) ? "NaN" : "infinite", step, last_checkpoint(run));
}

bool run_skip(Run *run, int64_t step, const char *why, Error *error) {
  run->skipped++;
  if (run->last_skipped != step) run->in_a_row = run->last_skipped == step - 1 ? run->in_a_row + 1 : 1;
  run->last_skipped = step;
  runlog_metric(&run->runlog, step, "train/skipped", (double)run->skipped);
  log_warning(run->log, "update %" PRId64 ": a step is left out: %s", step, why);
  if (run->skipped <= run->config->max_skipped) return true;
  return error_set(error, ERROR_MODEL,
                   "update %" PRId64 ": %s. %" PRId64 " steps were left out, and run.max_skipped is %" PRId64
                   "; the last good checkpoint: %s. " ADVICE AND_HOW,
                   step, why, run->skipped, run->config->max_skipped, last_checkpoint(run));
}

bool run_check_learned(const Run *run, int64_t steps, Error *error) {
  const int64_t many = steps < 3 ? steps : 3;
  if (steps == 0 || run->last_skipped != steps || run->in_a_row < many) return true;
  return error_set(error, ERROR_MODEL,
                   "the last %" PRId64
                   " updates made no step, for their loss or gradient was not finite: the run "
                   "ends without a result. " ADVICE,
                   run->in_a_row);
}
