/* What is done about alarms: run.on_alarm.
 *
 * Going back takes the checkpoint that a run of the same settings has whenever it was killed: one of run.save_every, none that a signal or
 * run.save_minutes made. Checkpoints after it are removed first; then it is written again with the number of times that the run has gone back.
 * Whoever is killed in between goes on from there, or raises the same alarm again, and comes to the same. */
#include "train/run_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

bool run_alarms_state(Run *run, Checkpoint *checkpoint, Error *error) {
  Alarms *alarms = &run->alarms;
  if (checkpoint->loading && !checkpoint_has_int(checkpoint, "run.alarms.raised")) return true;
  return checkpoint_count(checkpoint, "run.alarms.raised", &alarms->raised, error) &&
         checkpoint_count(checkpoint, "run.alarms.pending", &alarms->pending, error) &&
         checkpoint_count(checkpoint, "run.alarms.since", &alarms->since, error) &&
         checkpoint_count(checkpoint, "run.alarms.rollbacks", &alarms->rollbacks, error);
}

void run_alarm(Run *run, int64_t step, AlarmKind kind, int64_t since, const char *format, ...) {
  Alarms *alarms = &run->alarms;
  const int64_t bit = (int64_t)1 << kind;
  if (!(run->watched & bit) || (alarms->raised & bit)) return;
  char reason[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, sizeof reason, format, arguments);
  va_end(arguments);
  snprintf(run->alarm, sizeof run->alarm, "update %" PRId64 ": alarm %s: %s; %s", step, alarm_name(kind),
           reason, alarm_remedy(kind));
  log_warning(run->log, "%s", run->alarm);
  alarms->raised |= bit;
  if (run->config->on_alarm == ON_ALARM_WARN) return;
  if (!alarms->pending || since < alarms->since) alarms->since = since > 0 ? since : 0;
  alarms->pending |= bit;
}

double run_caution(const Run *run) {
  return ldexp(1, (int)run->alarms.rollbacks);
}

/* "heldout, length" */
static void name_pending(const Run *run, char *out, size_t room) {
  size_t at = 0;
  out[0] = '\0';
  for (int k = 0; k < ALARM_KINDS && at < room; k++) {
    if (run->alarms.pending >> k & 1)
      at += (size_t)snprintf(out + at, room - at, "%s%s", at ? ", " : "", alarm_name((AlarmKind)k));
  }
}

/* The state is saved with the alarm in it, so that the same command does not run on unheard. */
static bool stop(Run *run, const char *why, int64_t step, RunState *state, void *stage, Compute *compute,
                 Error *error) {
  char names[160];
  name_pending(run, names, sizeof names);
  if (!run_save(run, step, state, stage, compute, error)) return false;
  return error_set(error, ERROR_ALARM,
                   "update %" PRId64
                   ": stopped by an alarm (%s)%s; it is saved in %s. With run.on_alarm warn the same "
                   "command goes on; drover export %s --step N makes a result of a checkpoint",
                   step, names, why, run->last_checkpoint, run->config->dir);
}

static bool load(Run *run, int64_t to, RunState *state, void *stage, Compute *compute, Error *error) {
  Checkpoint checkpoint;
  bool ok = checkpoint_open(&checkpoint, run->config->dir, to, run->log, error);
  checkpoint.compute = compute;
  ok = ok && run_whole_state(run, state, stage, &checkpoint, error);
  checkpoint_close(&checkpoint);
  comm_barrier(&run->comm); /* all have read it: it will be written again */
  return ok;
}

static bool go_back(Run *run, int64_t to, int64_t step, RunState *state, void *stage, Compute *compute,
                    Error *error) {
  const Best best = run->best; /* it was seen, whatever becomes of the updates since */
  const int64_t rollbacks = run->alarms.rollbacks + 1, since = run->alarms.since;
  char names[160];
  name_pending(run, names, sizeof names);
  if (!load(run, to, state, stage, compute, error) ||
      (run->comm.rank == 0 && !checkpoint_drop_after(run->config->dir, to, error))) {
    return false;
  }
  run->best = best;
  run->best.waited = 0;
  run->alarms.pending = 0;
  run->alarms.rollbacks = rollbacks;
  run->saved = -1;
  runlog_rewind(&run->runlog, to);
  if (*run->alarm)
    runlog_event(&run->runlog, LOG_WARNING, run->alarm); /* what was logged of it is of a later update */
  char late[100] = "";
  if (to > since)
    snprintf(late, sizeof late,
             ", for none from before update %" PRId64 " is left: a larger run.keep keeps some", since + 1);
  log_warning(run->log,
              "update %" PRId64 ": alarm (%s): the run has gone back to update %" PRId64 "%s, time %" PRId64
              " of run.rollbacks %" PRId64 ", and goes on with %g of the rates of its schedule%s",
              step, names, to, late, rollbacks, run->config->rollbacks, 1 / run_caution(run),
              strcmp(run->stage, "ppo") == 0 ? " and the coefficient of the KL divided by that" : "");
  return run_save(run, to, state, stage, compute, error);
}

bool run_heed_alarms(Run *run, int64_t step, RunState *state, void *stage, Compute *compute, Error *error) {
  comm_broadcast(&run->comm, 0, &run->alarms, sizeof run->alarms); /* rank 0 decides */
  if (!run->alarms.pending) return true;
  if (run->config->on_alarm == ON_ALARM_WARN) {
    run->alarms.pending = 0;
    return true;
  }
  int64_t to = step;
  const char *why = "";
  if (run->config->on_alarm == ON_ALARM_ROLLBACK && run->alarms.rollbacks >= run->config->rollbacks) {
    why = ", for run.rollbacks are used up";
  } else if (run->config->on_alarm == ON_ALARM_ROLLBACK) {
    if (!checkpoint_before(run->config->dir, run->alarms.since, run->config->save_every, &run->comm, &to,
                           error))
      return false;
    why = ", for no earlier checkpoint is left: a larger run.keep keeps some";
  }
  return to < step ? go_back(run, to, step, state, stage, compute, error)
                   : stop(run, why, step, state, stage, compute, error);
}
