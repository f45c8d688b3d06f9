#include "tools/new/new.h"

#include "base/yaml_write.h"

#include <stdio.h>
#include <string.h>

/* When a line is shown. */
typedef enum Shown {
  ALWAYS,   /* where the stage has the option */
  ADAPTING, /* with lora.enabled */
  DECIDED,  /* where it was decided, not left to its default */
  SUGGESTED /* as a comment where it is not set */
} Shown;

typedef struct Row {
  const char *key;
  Shown shown;
  const char *note;    /* NULL: of the facts (note_of) */
  const char *instead; /* what is suggested */
} Row;

static const Row rows[] = {
    {"model.path", ALWAYS, NULL, NULL},
    {"model.adapter", SUGGESTED, "the adapter that sft left, to go on from", "runs/sft/adapter"},
    {"model.dtype", ALWAYS, "auto: bf16 on a GPU for a model in 16 bits, else f32", NULL},
    {"model.quantize", ADAPTING, "nf4, int8: the frozen model in 4 bits, or in 8", NULL},
    {"model.quantize_tables", DECIDED, "int8: its embedding table too", NULL},
    {"model.recompute", ALWAYS, "true: less memory, about a third more time", NULL},
    {"model.offload", DECIDED, "what recomputation keeps lies in the host's memory", NULL},
    {"reward.path", ALWAYS, "the reward model, or the model under its adapter", NULL},
    {"reward.adapter", SUGGESTED, "the adapter that reward left", "runs/reward/adapter"},
    {"lora.enabled", ALWAYS, "false: all weights are trained", NULL},
    {"lora.r", ADAPTING, "rank", NULL},
    {"lora.alpha", ADAPTING, "scale: alpha / r", NULL},
    {"lora.targets", ADAPTING, "", NULL},
    {"data.train", ALWAYS, NULL, NULL},
    {"data.prompts", ALWAYS, NULL, NULL},
    {"data.eval_fraction", ALWAYS, "share held out for evaluation", NULL},
    {"data.template", ALWAYS, NULL, NULL},
    {"data.max_length", ALWAYS, NULL, NULL},
    {"optim.lr", ALWAYS, NULL, NULL},
    {"optim.schedule", ALWAYS, "", NULL},
    {"optim.warmup_ratio", DECIDED, "share of the updates", NULL},
    {"optim.batch_size", ALWAYS, "examples an update", NULL},
    {"optim.micro_batch_tokens", ALWAYS, NULL, NULL},
    {"optim.epochs", ALWAYS, "passes over the data", NULL},
    {"optim.state", DECIDED, "8bit: a quarter of the memory of the moments", NULL},
    {"optim.offload", DECIDED, "masters and moments lie in the host's memory", NULL},
    {"dpo.loss", ALWAYS, "or ipo, orpo, simpo", NULL},
    {"dpo.beta", ALWAYS, "how closely the model is held to where it began", NULL},
    {"rollout.max_new_tokens", ALWAYS, "longest answer, tokens", NULL},
    {"rollout.temperature", ALWAYS, "", NULL},
    {"rollout.batch", DECIDED, "answers at once: memory, not the result", NULL},
    {"rollout.cache_dtype", DECIDED, "int8: half of the cache's memory or less", NULL},
    {"ppo.total_episodes", ALWAYS, "answers over the whole run", NULL},
    {"ppo.batch_size", ALWAYS, "answers a rollout", NULL},
    {"ppo.minibatches", ALWAYS, "updates in each pass over a rollout", NULL},
    {"ppo.epochs", ALWAYS, "passes over a rollout", NULL},
    {"ppo.kl_coef", ALWAYS, "what it costs to leave where the model began", NULL},
    {"run.dir", ALWAYS, "log, checkpoints, result", NULL},
    {"run.eval_every", DECIDED, "updates", NULL},
    {"device.memory_limit", DECIDED, "what the plan was made for", NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* -- notes of what was found ---------------------------------------------------------------------------- */

static void note_length(const Draught *d, char *out, size_t size) {
  const int64_t length = json_integer_value(json_at(d->all, "data.max_length"));
  if (!d->data.known) {
    snprintf(out, size, "tokens; longer examples are left out");
  } else {
    snprintf(out, size, "tokens; the longest has %lld%s", (long long)d->data.longest,
             d->data.longest > length ? ", longer ones are left out" : "");
  }
}

static void note_of(const Draught *d, const New *new, const char *key, char *out, size_t size) {
  const bool adapter = json_is_true(json_at(d->all, "lora.enabled"));
  char number[32];
  *out = '\0';
  if (strcmp(key, "model.path") == 0 && new->model.known) {
    snprintf(out, size, "%s, %s parameters", new->model.class, grouped_number(new->model.parameters, number));
  } else if (strncmp(key, "data.t", 6) != 0 && strcmp(key, "data.prompts") != 0) {
    if (strcmp(key, "data.max_length") == 0) note_length(d, out, size);
    if (strcmp(key, "optim.lr") == 0)
      snprintf(out, size, adapter ? "of an adapter; all weights want a tenth or less" : "of all weights");
    if (strcmp(key, "optim.micro_batch_tokens") == 0)
      snprintf(out, size, "memory, not the result%s%s%s", *d->memory ? ": " : "", d->memory,
               *d->memory ? " planned" : "");
  } else if (strcmp(key, "data.template") == 0) {
    snprintf(out, size,
             strcmp(new->model.template, "auto") == 0 ? "the model's own" : "the model has none of its own");
  } else if (d->data.known) {
    snprintf(out, size, "%s examples (%s)", grouped_number(d->data.examples, number), d->data.formats);
  }
}

/* -- lines ---------------------------------------------------------------------------------------------- */

/* Of a list of sources with weights 1 the paths, of a single one its path: as one would write it. */
static json_t *plain_value(const json_t *value) {
  json_t *list = json_array();
  for (size_t i = 0; i < json_array_size(value); i++) {
    json_t *item = json_array_get(value, i), *path = json_object_get(item, "path");
    json_array_append(list, path ? path : item);
  }
  json_t *plain = json_array_size(list) == 1 ? json_incref(json_array_get(list, 0)) : json_incref(list);
  json_decref(list);
  return plain;
}

static bool is_set_by_pipeline(const char *key) {
  static const char *const keys[] = {"model.path", "model.adapter", "reward.path", "reward.adapter",
                                     "run.dir"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    if (strcmp(key, keys[i]) == 0) return true;
  }
  return false;
}

/* The value that the row shows, a new reference; NULL: none. *off: as a comment. */
static json_t *shown_value(const Draught *d, const Row *row, bool alone, bool *off) {
  json_t *value = json_at(d->all, row->key);
  *off = false;
  if (!alone && is_set_by_pipeline(row->key)) return NULL;
  if (row->shown == DECIDED && !json_at(d->own, row->key)) return NULL;
  if (row->shown == ADAPTING && !json_is_true(json_at(d->all, "lora.enabled"))) return NULL;
  if (row->shown == SUGGESTED && !value) {
    *off = strcmp(d->stage, "sft") != 0 &&
           (strncmp(row->key, "reward.", 7) != 0 || strcmp(d->stage, "ppo") == 0);
    return *off ? json_string(row->instead) : NULL;
  }
  return json_is_array(value) ? plain_value(value) : json_incref(value);
}

bool draught_show(const Draught *draught, const New *new, bool alone, int indent, Buffer *out, Error *error) {
  YamlLine lines[ROWS];
  json_t *values[ROWS];
  char notes[ROWS][256];
  size_t count = 0;
  for (size_t i = 0; i < ROWS; i++) {
    bool off;
    values[count] = shown_value(draught, &rows[i], alone, &off);
    if (!values[count]) continue;
    if (draught_is_place(values[count])) {
      *notes[count] = '\0'; /* it says what belongs there */
    } else if (rows[i].note) {
      snprintf(notes[count], sizeof notes[count], "%s", rows[i].note);
    } else {
      note_of(draught, new, rows[i].key, notes[count], sizeof notes[count]);
    }
    lines[count] = (YamlLine){.key = rows[i].key, .value = values[count], .note = notes[count], .off = off};
    count++;
  }
  const bool ok = yaml_write(out, lines, count, indent, error);
  for (size_t i = 0; i < count; i++) json_decref(values[i]);
  return ok;
}
