/* RUN/best: the model of the best evaluation, beside the last one. Its best.json says of which update it is.
 *
 * A checkpoint is made at an evaluation that is better than any (run_updated), and RUN/best is written after it. So the state of the
 * newest checkpoint and RUN/best differ in two cases alone: the process was killed between the two, and then the checkpoint has the model
 * itself; or the evaluation was the last, which comes after the checkpoint, and then RUN/best knows more. */
#include "train/program.h"
#include "train/run_parts.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void run_best_begin(Run *run, const char *const *choices, int standard) {
  run->best = best_of(choices, run->config->keep_best, standard);
}

/* -- what is in RUN/best -------------------------------------------------------------------------------- */

typedef struct Kept {
  int64_t step; /* -1: nothing, or of another measure */
  double value;
} Kept;

static Kept read_kept(const Run *run) {
  Kept kept = {.step = -1};
  char metric[64];
  char *path = run_path(run, "best/best.json");
  json_t *about = path ? json_load_file(path, 0, NULL) : NULL;
  const char *found = json_string_value(json_object_get(about, "metric"));
  snprintf(metric, sizeof metric, "eval/%s", best_measure(&run->best));
  if (found && strcmp(found, metric) == 0 && json_is_integer(json_object_get(about, "step"))) {
    kept.step = json_integer_value(json_object_get(about, "step"));
    kept.value = json_number_value(json_object_get(about, "value"));
  }
  json_decref(about);
  memory_free(path);
  return kept;
}

void run_best_meet(Run *run, int64_t at) {
  Best *best = &run->best;
  Kept kept = {.step = -1};
  if (best->measure == BEST_NONE) return;
  if (run->comm.rank == 0) kept = read_kept(run);
  comm_broadcast(&run->comm, 0, &kept, sizeof kept);
  if (kept.step == best->step) return;
  if (best->step >= 0 && best->step == at) {
    best->unsaved = true;
  } else if (kept.step >= 0 && kept.step == at) {
    best->step = kept.step;
    best->value = kept.value;
    best->waited = 0;
  } else if (best->step >= 0) {
    log_warning(run->log,
                "%s/best is not the model of update %" PRId64
                ", the best so far: it is looked for anew from here on",
                run->config->dir, best->step);
    best->step = -1;
    best->waited = 0;
  }
}

bool run_best_state(Run *run, Checkpoint *checkpoint, Error *error) {
  Best *best = &run->best, stored = *best;
  if (checkpoint->loading && !checkpoint_has_int(checkpoint, "run.best.step")) return true;
  if (!checkpoint_count(checkpoint, "run.best.measure", &stored.measure, error) ||
      !checkpoint_int(checkpoint, "run.best.step", &stored.step, error) ||
      !checkpoint_float(checkpoint, "run.best.value", &stored.value, error) ||
      !checkpoint_count(checkpoint, "run.best.waited", &stored.waited, error)) {
    return false;
  }
  if (stored.measure == best->measure) *best = stored; /* else it is another one's */
  return true;
}

/* -- in the course of a run ----------------------------------------------------------------------------- */

bool run_judged(Run *run, int64_t step, const double *values, Error *error) {
  char what[64];
  if (run->best.measure == BEST_NONE) return true;
  double value = values[run->best.measure - BEST_MEASURES];
  comm_broadcast(&run->comm, 0, &value, sizeof value);
  snprintf(what, sizeof what, "eval/%s (run.keep_best)", best_measure(&run->best));
  if (!run_check_finite(run, what, value, step, error)) return false;
  best_take(&run->best, step, value);
  return true;
}

bool run_has_waited(const Run *run) {
  return run->config->patience > 0 && run->best.waited >= run->config->patience;
}

void run_say_waited(const Run *run) {
  const Best *best = &run->best;
  if (!run_has_waited(run)) return;
  log_info(run->log,
           "the run ends here, by run.patience: the last %" PRId64
           " evaluation%s not better than eval/%s %.6g of "
           "update %" PRId64,
           best->waited, best->waited == 1 ? " was" : "s were", best_measure(best), best->value, best->step);
}

/* {"stage": "sft", "step": 12, "metric": "eval/loss", "value": 1.25}, a new string. */
static char *about_best(const Run *run) {
  const Best *best = &run->best;
  char metric[64];
  snprintf(metric, sizeof metric, "eval/%s", best_measure(best));
  json_t *about = json_pack("{s:s, s:I, s:s, s:f}", "stage", run->stage, "step", (json_int_t)best->step,
                            "metric", metric, "value", best->value);
  char *text = about ? json_dumps(about, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
  json_decref(about);
  return text;
}

bool run_keep_best(Run *run, RunKeep *keep, void *stage, Error *error) {
  if (!run->best.unsaved) return true;
  progress_phase(&run->progress, "saving the best");
  char *place = run_path(run, "best"), *about = about_best(run);
  const bool ok =
      ((place && about) || error_out_of_memory(error, "path", 0)) && keep(stage, place, about, error);
  free(about);
  memory_free(place);
  run->best.unsaved = false;
  return ok;
}

bool run_best_result(const Run *run, Buffer *json, Error *error) {
  const Best *best = &run->best;
  if (best->step < 0) return true;
  char *place = run_path(run, "best");
  const bool ok =
      (place || error_out_of_memory(error, "path", 0)) &&
      buffer_text(json, ", \"best\": {\"output\": ", error) && result_string(json, place, error) &&
      buffer_format(json, error, ", \"step\": %" PRId64 ", \"metric\": \"eval/%s\", \"value\": %.9g}",
                    best->step, best_measure(best), best->value);
  memory_free(place);
  return ok;
}

bool run_best_words(const Run *run, Buffer *text, Error *error) {
  const Best *best = &run->best;
  return best->step < 0 || buffer_format(text, error, "\nbest: update %" PRId64 ", eval/%s %.4g: %s/best",
                                         best->step, best_measure(best), best->value, run->config->dir);
}
