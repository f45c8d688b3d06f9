#include "tools/convert/convert.h"

#include <string.h>

const char *const dialect_names[] = {"axolotl", "llamafactory", "trl", NULL};
const char *const stage_names[] = {"sft", "reward", "dpo", "ppo", NULL};

/* Keys that only one of them has. */
static const char *const axolotl_keys[] = {"base_model", "micro_batch_size", "sequence_len", "num_epochs"};
static const char *const factory_keys[] = {"finetuning_type", "cutoff_len", "dataset_dir", "lora_rank",
                                           "stage",           "template",   "pref_beta"};

static bool has_any(const Conversion *c, const char *const *keys, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (json_object_get(c->file.root, keys[i])) return true;
  }
  return false;
}

bool find_dialect(Conversion *c, Error *error) {
  if (c->config->from > 0) {
    c->from = (Dialect)(c->config->from - 1);
  } else if (has_any(c, axolotl_keys, sizeof axolotl_keys / sizeof *axolotl_keys)) {
    c->from = AXOLOTL;
  } else if (has_any(c, factory_keys, sizeof factory_keys / sizeof *factory_keys)) {
    c->from = FACTORY;
  } else if (json_object_get(c->file.root, "model_name_or_path")) {
    c->from = TRL;
  } else {
    return error_set(error, ERROR_USAGE,
                     "%s has neither base_model nor model_name_or_path: expected a configuration of axolotl, "
                     "LLaMA-Factory or "
                     "TRL; --from says whose it is",
                     c->file.path);
  }
  return true;
}

/* A word of theirs that says the stage. */
typedef struct StageWord {
  const char *word, *stage;
} StageWord;

static const char *stage_by_word(const StageWord *words, const json_t *value) {
  const char *text = json_string_value(value);
  for (; text && words->word; words++) {
    if (strcmp(words->word, text) == 0) return words->stage;
  }
  return NULL;
}

static bool find_axolotl(Conversion *c, Error *error) {
  static const StageWord words[] = {{"dpo", "dpo"},   {"ipo", "dpo"}, {"orpo", "dpo"},
                                    {"simpo", "dpo"}, {"kto", "dpo"}, {NULL, NULL}};
  const json_t *rl = theirs(c, "rl");
  c->stage = json_is_true(theirs(c, "reward_model")) ? "reward" : rl ? stage_by_word(words, rl) : "sft";
  if (!c->stage)
    return error_set(error, ERROR_USAGE,
                     "%s: 'rl': '%s' has no equal here: expected dpo, ipo, orpo, simpo or kto", c->file.path,
                     json_string_value(rl) ? json_string_value(rl) : json_kind(rl));
  return see(c, "reward_model", error);
}

static bool find_factory(Conversion *c, Error *error) {
  static const StageWord words[] = {{"sft", "sft"}, {"pt", "sft"},  {"rm", "reward"}, {"dpo", "dpo"},
                                    {"ppo", "ppo"}, {"kto", "dpo"}, {NULL, NULL}};
  const json_t *stage = theirs(c, "stage");
  c->stage = stage ? stage_by_word(words, stage) : "sft";
  if (!c->stage)
    return error_set(error, ERROR_USAGE,
                     "%s: 'stage': '%s' has no equal here: expected pt, sft, rm, dpo, ppo or kto",
                     c->file.path, json_string_value(stage) ? json_string_value(stage) : json_kind(stage));
  const bool kto = json_is_string(stage) && strcmp(json_string_value(stage), "kto") == 0;
  return (!kto || put_take(c, "dpo.loss", json_string("kto"), NULL, error)) && see(c, "stage", error);
}

bool find_stage(Conversion *c, Error *error) {
  if (c->from == AXOLOTL && !find_axolotl(c, error)) return false;
  if (c->from == FACTORY && !find_factory(c, error)) return false;
  if (c->config->stage > 0) c->stage = stage_names[c->config->stage - 1];
  return c->stage ||
         error_set(
             error, ERROR_USAGE,
             "%s does not say for which trainer it is, as `trl sft` does: give --stage sft, reward or dpo",
             c->file.path);
}
