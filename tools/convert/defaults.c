#include "tools/convert/convert.h"

#include <string.h>

/* Their defaults, where the file leaves them out, by whose and for which stages; transformers.TrainingArguments and TRL 1.9's configurations,
 * LLaMA-Factory's hparams, axolotl's schemas. Only what is another one here. */
typedef struct Default {
  const char *from, *stages; /* as text: those that it is for */
  const char *key, *value;   /* JSON */
} Default;

static const Default defaults[] = {
    {"trl", "sft", "optim.lr", "2e-5"},
    {"trl", "reward", "optim.lr", "1e-4"},
    {"trl", "dpo", "optim.lr", "1e-6"},
    {"llamafactory", "sft reward dpo ppo", "optim.lr", "5e-5"},
    {"trl llamafactory", "sft reward dpo ppo", "optim.schedule", "\"linear\""},
    {"axolotl", "sft reward dpo", "optim.schedule", "\"cosine\""},
    {"trl llamafactory", "sft reward dpo", "optim.epochs", "3"},
    {"axolotl", "sft reward dpo", "optim.epochs", "1"},
    {"trl llamafactory axolotl", "sft reward dpo ppo", "optim.eps", "1e-8"},
    {"trl llamafactory axolotl", "sft reward dpo ppo", "optim.clip", "1"},
    {"trl llamafactory axolotl", "sft reward dpo ppo", "run.seed", "42"},
    {"trl", "sft reward dpo", "data.max_length", "1024"},
    {"llamafactory", "sft reward dpo ppo", "data.max_length", "2048"},
    {"axolotl", "sft reward dpo", "data.max_length", "512"},
    {"trl llamafactory", "sft reward dpo", "data.truncation", "\"truncate\""},
    {"llamafactory", "sft reward dpo ppo", "lora.enabled", "true"},
    {"trl llamafactory", "sft reward dpo ppo", "model.recompute", "true"},
    {"llamafactory", "ppo", "ppo.epochs", "4"},
};

/* Of adapters alone. */
static const Default adapters[] = {
    {"trl", "sft reward dpo ppo", "lora.r", "16"},
    {"trl", "sft reward dpo ppo", "lora.alpha", "32"},
    {"trl", "sft reward dpo ppo", "lora.dropout", "0.05"},
    {"llamafactory axolotl", "sft reward dpo ppo", "lora.r", "8"},
    {"llamafactory axolotl", "sft reward dpo ppo", "lora.dropout", "0"},
    {"llamafactory", "sft reward dpo ppo", "lora.targets", "\"all-linear\""},
    {"trl axolotl", "sft reward dpo ppo", "lora.targets",
     "[\"q_proj\", \"v_proj\"]"}, /* PEFT's for Llama and its kin */
};

static bool take(Conversion *c, const Default *list, size_t count, Error *error) {
  for (size_t i = 0; i < count; i++) {
    const Default *row = &list[i];
    if (!strstr(row->from, dialect_names[c->from]) || !strstr(row->stages, c->stage)) continue;
    if (!put_take(c, row->key, json_loads(row->value, JSON_DECODE_ANY, NULL),
                  "left out there, where it is the default", error))
      return false;
  }
  return true;
}

/* axolotl warms up over 3 % of the updates when nothing is said. */
static bool take_warmup(Conversion *c, Error *error) {
  if (c->from != AXOLOTL || is_made(c, "optim.warmup_steps") || is_made(c, "optim.warmup_ratio") ||
      theirs(c, "warmup_steps"))
    return true;
  return put_take(c, "optim.warmup_ratio", json_real(0.03), "left out there: 3 %, and 100 updates at most",
                  error);
}

static bool take_alpha(Conversion *c, Error *error) {
  if (c->from != FACTORY) return true;
  const double r = json_number_value(json_at(c->made, "lora.r"));
  return put_take(c, "lora.alpha", json_real(2 * (r > 0 ? r : 8)),
                  "left out there, where it is twice the rank", error);
}

bool take_defaults(Conversion *c, Error *error) {
  if (!take(c, defaults, sizeof defaults / sizeof *defaults, error) || !take_warmup(c, error)) return false;
  if (!json_is_true(json_at(c->made, "lora.enabled"))) return true;
  return take(c, adapters, sizeof adapters / sizeof *adapters, error) && take_alpha(c, error);
}
