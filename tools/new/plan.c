#include "tools/new/new.h"

#include "base/file.h"
#include "train/model_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- advice --------------------------------------------------------------------------------------------- */

/* "8", "true" or "nf4" as a value of a configuration. */
static json_t *value_of(const char *text) {
  json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
  return value ? value : json_string(text);
}

/* Takes over "KEY VALUE with KEY VALUE, KEY VALUE and KEY VALUE (1.2 GiB)" of train/plan.c. */
static bool take_advice(Draught *d, const char *advice, Error *error) {
  char key[64], text[64];
  int length;
  while (sscanf(advice, " %63s %63[^, (]%n", key, text, &length) == 2) {
    if (!json_put_take(d->own, key, value_of(text), error) ||
        !json_put_take(d->all, key, value_of(text), error))
      return false;
    advice += length;
    advice += strspn(advice, ", ");
    if (*advice == '(') return true;
    if (strncmp(advice, "with ", 5) == 0) advice += 5;
    if (strncmp(advice, "and ", 4) == 0) advice += 4;
  }
  return error_set(error, ERROR_MEMORY, "an advice that is not understood: %.200s", advice);
}

/* What is said after "it fits with", or NULL; of several the first that leaves what was asked for. */
static const char *find_advice(const Answer *answer, bool full) {
  const char *advice = strstr(answer->log.data, "it fits with ");
  if (!advice) return NULL;
  advice += strlen("it fits with ");
  const char *adapter = strstr(advice, "lora.enabled true"), *end = strchr(advice, '(');
  return full && adapter && end && adapter < end ? NULL : advice;
}

/* "1.20 GiB of 20.80 GiB" of the last table of a plan. */
static void note_memory(Draught *d, const Answer *answer) {
  const char *line = answer->log.data, *found = NULL;
  for (; (line = strstr(line, "\n  total ")); line++) found = line + strlen("\n  total ");
  if (!found) return;
  found += strspn(found, " ");
  snprintf(d->memory, sizeof d->memory, "%.*s", (int)strcspn(found, "\n"), found);
}

/* -- the reward model that is not there yet ------------------------------------------------------------- */

/* A directory with the model's configuration alone, which a plan takes for one with a score head (train/absent.h). */
static bool make_judge(const New *new, char **judge, Error *error) {
  ModelPath model;
  if (!model_path_open(&model, "--model", OPTION_NAMES_MODEL, new->config->model, NULL, error)) return false;
  char *from = path_join(model.path, "config.json"), *to = NULL;
  *judge = path_join(new->scratch, "judge");
  bool ok = (from && *judge) || error_out_of_memory(error, "path", 0);
  ok = ok && directory_create(*judge, error);
  to = ok ? path_join(*judge, "config.json") : NULL;
  ok = ok && (to || error_out_of_memory(error, "path", 0)) && file_copy(from, to, error);
  memory_free(from);
  memory_free(to);
  model_path_close(&model);
  return ok;
}

/* -- the plan ------------------------------------------------------------------------------------------- */

/* In a directory of no run: what stands in that of the configuration is no part of a plan. */
static bool check(Draught *d, const New *new, const char *judge, Answer *answer, Error *error) {
  char *file = draught_write(d, new, error), *cache = path_join(new->scratch, "cache"),
       *run = path_join(new->scratch, "run");
  const char *const arguments[] = {"--config", file,        "--check", "--data.cache",
                                   cache,      "--run.dir", run,       judge ? "--reward.path" : NULL,
                                   judge,      NULL};
  const bool ok = file && ((cache && run) || error_out_of_memory(error, "path", 0)) &&
                  ask(answer, d->stage, arguments, error);
  memory_free(file);
  memory_free(cache);
  memory_free(run);
  return ok;
}

/* Each advice fits, so that a second round is the last but where a plan and its advice disagree by a page. */
static bool fit(Draught *d, const New *new, const char *judge, Error *error) {
  enum { ROUNDS = 4 };
  Answer answer = {0};
  bool ok = true, fits = false;
  for (int round = 0; ok && !fits && round < ROUNDS; round++) {
    ok = check(d, new, judge, &answer, error);
    if (!ok) break;
    fits = answer.status == 0;
    const char *advice = answer.status == ERROR_MEMORY ? find_advice(&answer, new->config->full) : NULL;
    if (fits) {
      note_memory(d, &answer);
    } else {
      ok = advice && round + 1 < ROUNDS ? take_advice(d, advice, error) : answer_refused(&answer, error);
    }
  }
  answer_free(&answer);
  return ok;
}

bool draught_plan(Draught *draught, const New *new, Error *error) {
  char *judge = NULL;
  if (!new->model.known) return true;
  log_info(new->log, "planning the memory of %s", draught->stage);
  const bool absent = strcmp(draught->stage, "ppo") == 0 && !new->config->reward;
  const bool ok = (!absent || make_judge(new, &judge, error)) && fit(draught, new, judge, error);
  memory_free(judge);
  return ok;
}
