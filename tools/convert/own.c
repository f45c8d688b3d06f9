/* Keys that take more than a row of the table: models, batches, optimisers, what is counted otherwise. */
#include "tools/convert/convert.h"

#include <stdio.h>
#include <string.h>

static const char *text_of(const Conversion *c, const char *name) {
  return json_string_value(theirs(c, name));
}

/* A number, also one that YAML's readers in Python take for text. */
static double number_of(const Conversion *c, const char *name, double otherwise) {
  const json_t *value = theirs(c, name);
  double number;
  if (json_is_number(value)) return json_number_value(value);
  return json_is_string(value) && sscanf(json_string_value(value), "%lf", &number) == 1 ? number : otherwise;
}

/* "a,b" or a list, as a list. */
static json_t *list_of(const json_t *value) {
  json_t *list = json_array();
  char *copy = json_is_string(value) ? memory_copy_string(json_string_value(value)) : NULL, *rest = copy,
       *word;
  while (copy && (word = strsep(&rest, ","))) {
    word += strspn(word, " ");
    json_array_append_new(list, json_stringn(word, strcspn(word, " ")));
  }
  for (size_t i = 0; i < json_array_size(value); i++) json_array_append(list, json_array_get(value, i));
  memory_free(copy);
  return list;
}

/* -- model and adapter ---------------------------------------------------------------------------------- */

/* NAME and a revision other than main are NAME@REVISION. */
static bool take_revision(Conversion *c, Error *error) {
  const char *key = c->from == AXOLOTL ? "base_model" : "model_name_or_path",
             *revision_key = c->from == AXOLOTL ? "revision_of_model" : "model_revision",
             *name = text_of(c, key), *revision = text_of(c, revision_key);
  if (!see(c, revision_key, error)) return false;
  if (!name || !revision || strcmp(revision, "main") == 0) return true;
  char *whole = memory_format("%s@%s", name, revision);
  const bool ok =
      whole ? put_take(c, "model.path", json_string(whole), NULL, error) : error_out_of_memory(error, key, 0);
  memory_free(whole);
  return ok;
}

/* A tokenizer of another place, or with further tokens, would be another vocabulary. */
static bool take_tokenizer(Conversion *c, Error *error) {
  const char *tokenizer = text_of(c, "tokenizer_config"), *model = text_of(c, "base_model");
  const json_t *special = theirs(c, "special_tokens");
  const bool pad_alone = json_object_size(special) == 1 && json_object_get(special, "pad_token");
  if (tokenizer && model && strcmp(tokenizer, model) != 0 &&
      !problem(c, "tokenizer_config", error, "the tokenizer is the one beside the model's weights"))
    return false;
  if (!see(c, "tokenizer_config", error)) return false;
  if (pad_alone) return aside(c, "special_tokens", "nothing is padded", error);
  if (!is_off(special) && !problem(c, "special_tokens", error,
                                   "the tokenizer's files say them; drover tokenizer add makes further ones"))
    return false;
  return is_off(theirs(c, "tokens")) ||
         problem(c, "tokens", error, "drover tokenizer add gives a model further tokens, once, before a run");
}

static bool take_targets(Conversion *c, Error *error) {
  const char *key = c->from == FACTORY ? "lora_target" : "lora_target_modules",
             *copies = c->from == FACTORY ? "additional_target" : "lora_modules_to_save";
  const json_t *value = theirs(c, key), *saved = theirs(c, copies);
  const char *text = json_string_value(value);
  bool ok = see(c, key, error) && see(c, copies, error);
  if (ok && !is_off(value)) {
    const bool all = text && (strcmp(text, "all") == 0 || strcmp(text, "all-linear") == 0);
    ok = put_take(c, "lora.targets", all ? json_string("all-linear") : list_of(value), NULL, error);
  }
  return ok && (is_off(saved) || put_take(c, "lora.modules_to_save", list_of(saved), NULL, error));
}

static bool take_adapters(Conversion *c, Error *error) {
  const char *adapter = text_of(c, "adapter_name_or_path");
  if (adapter && strchr(adapter, ','))
    return problem(c, "adapter_name_or_path", error,
                   "several adapters: drover merge adds one after the other");
  if (c->from == AXOLOTL && theirs(c, "gradient_checkpointing") &&
      json_is_string(theirs(c, "gradient_checkpointing"))) {
    if (strcmp(text_of(c, "gradient_checkpointing"), "offload") != 0) return true; /* by the table */
    return see(c, "gradient_checkpointing", error) &&
           put_take(c, "model.recompute", json_true(), NULL, error) &&
           put_take(c, "model.offload", json_string("activations"), NULL, error);
  }
  return true;
}

/* Plugins that compute the same otherwise; others change what is learnt. */
static bool take_plugins(Conversion *c, Error *error) {
  static const char *const kernels[] = {".liger.", ".cut_cross_entropy.", ".kernels."};
  const json_t *plugins = theirs(c, "plugins");
  bool ok = true, other = false;
  for (size_t i = 0; ok && i < json_array_size(plugins); i++) {
    const char *plugin = json_string_value(json_array_get(plugins, i));
    bool known = false;
    for (size_t k = 0; plugin && k < sizeof kernels / sizeof *kernels; k++)
      known |= strstr(plugin, kernels[k]) != NULL;
    if (known) continue;
    other = true;
    ok = problem(c, "plugins", error, "'%s' has no equal here", plugin ? plugin : "a plugin without a name");
  }
  if (ok && !other && !is_off(plugins)) ok = aside(c, "plugins", "each backend has its own kernels", error);
  return ok && see(c, "plugins", error);
}

/* --data names the records themselves. */
static bool take_samples(Conversion *c, Error *error) {
  if (c->config->data.count == 0 || is_off(theirs(c, "max_samples"))) return true;
  return aside(c, "max_samples", "the files of --data are read whole", error);
}

bool take_model(Conversion *c, Error *error) {
  return take_revision(c, error) && take_tokenizer(c, error) && take_targets(c, error) &&
         take_adapters(c, error) && take_plugins(c, error) && take_samples(c, error);
}

/* -- batches -------------------------------------------------------------------------------------------- */

static bool packs(const Conversion *c) {
  return json_is_true(theirs(c, "sample_packing")) || json_is_true(theirs(c, "packing")) ||
         json_is_true(theirs(c, "neat_packing"));
}

/* With packing a batch counts rows that hold several examples. */
static bool take_packing(Conversion *c, Error *error) {
  const char *key = c->from == AXOLOTL                        ? "sample_packing"
                    : json_is_true(theirs(c, "neat_packing")) ? "neat_packing"
                                                              : "packing";
  if (!packs(c))
    return see(c, "sample_packing", error) && see(c, "packing", error) && see(c, "neat_packing", error);
  if (c->from == FACTORY && !json_is_true(theirs(c, "neat_packing")) &&
      !problem(c, key, error, "examples in a row see each other there, which they never do here"))
    return false;
  if (c->config->batch_size == 0 && !problem(c, key, error,
                                             "a batch counts rows that are full of examples there, and "
                                             "examples here: give the examples of an update as "
                                             "--batch-size: rows x how many fit in one"))
    return false;
  return see(c, "sample_packing", error) && see(c, "packing", error) && see(c, "neat_packing", error) &&
         put_take(c, "data.packing", json_true(), NULL, error);
}

static bool take_batch(Conversion *c, Error *error) {
  const bool axolotl = c->from == AXOLOTL, ppo = strcmp(c->stage, "ppo") == 0;
  const char *micro_key = axolotl ? "micro_batch_size" : "per_device_train_batch_size";
  const int64_t micro = (int64_t)number_of(c, micro_key, axolotl ? 1 : 8),
                steps = (int64_t)number_of(c, "gradient_accumulation_steps", 1), devices = c->config->devices,
                whole = (int64_t)number_of(c, "batch_size", 0),
                buffer = ppo ? (int64_t)number_of(c, "ppo_buffer_size", 1) : 1;
  char note[160];
  int64_t batch = micro * steps * devices * buffer;
  snprintf(note, sizeof note, "%s %lld x gradient_accumulation_steps %lld x devices %lld", micro_key,
           (long long)micro, (long long)steps, (long long)devices);
  if (axolotl && whole > 0 && !theirs(c, "gradient_accumulation_steps")) {
    batch = whole;
    snprintf(note, sizeof note, "batch_size");
  }
  if (c->config->batch_size > 0) {
    batch = c->config->batch_size;
    snprintf(note, sizeof note, "--batch-size");
  }
  return see(c, micro_key, error) && see(c, "gradient_accumulation_steps", error) &&
         see(c, "batch_size", error) && see(c, "ppo_buffer_size", error) &&
         put_take(c, ppo ? "ppo.batch_size" : "optim.batch_size", json_integer(batch), note, error) &&
         take_packing(c, error);
}

/* -- the optimiser -------------------------------------------------------------------------------------- */

static bool take_optimizer(Conversion *c, Error *error) {
  static const struct {
    const char *there, *here, *state;
  } names[] = {{"adamw_torch", "adamw", NULL},
               {"adamw_torch_fused", "adamw", NULL},
               {"adamw_hf", "adamw", NULL},
               {"adamw", "adamw", NULL},
               {"adamw_bnb_8bit", "adamw", "8bit"},
               {"adamw_8bit", "adamw", "8bit"},
               {"adamw_torch_8bit", "adamw", "8bit"},
               {"paged_adamw_32bit", "adamw", NULL},
               {"paged_adamw_8bit", "adamw", "8bit"},
               {"paged_adamw", "adamw", NULL},
               {"lion_32bit", "lion", NULL},
               {"lion_8bit", "lion", "8bit"},
               {"paged_lion_8bit", "lion", "8bit"},
               {"paged_lion_32bit", "lion", NULL},
               {"sgd", "sgd", NULL}};
  const char *key = c->from == AXOLOTL ? "optimizer" : "optim", *name = text_of(c, key);
  if (!see(c, key, error) || !name) return see(c, key, error);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(name, names[i].there) != 0) continue;
    return put_take(c, "optim.name", json_string(names[i].here), NULL, error) &&
           (!names[i].state || put_take(c, "optim.state", json_string(names[i].state), NULL, error));
  }
  return problem(c, key, error, "'%s' has no equal here: there are adamw, lion and sgd", name);
}

/* A number below 1 is a share of the updates, as in Transformers 5. "constant" has no warm-up there, whatever is given. */
static bool take_warmup(Conversion *c, Error *error) {
  const char *schedule = text_of(c, c->from == AXOLOTL ? "lr_scheduler" : "lr_scheduler_type");
  const double steps = number_of(c, "warmup_steps", 0);
  if (schedule && strcmp(schedule, "constant") == 0) {
    if (steps > 0 && !aside(c, "warmup_steps", "the constant schedule has no warm-up there", error))
      return false;
    if (number_of(c, "warmup_ratio", 0) > 0 &&
        !aside(c, "warmup_ratio", "the constant schedule has no warm-up there", error))
      return false;
    return see(c, "warmup_steps", error) && see(c, "warmup_ratio", error) &&
           put_take(c, "optim.warmup_steps", json_integer(0), NULL, error);
  }
  if (!see(c, "warmup_steps", error) || steps == 0) return true;
  if (!see(c, "warmup_ratio", error)) return false; /* the number of steps comes first there */
  return steps < 1 ? put_take(c, "optim.warmup_ratio", json_real(steps), NULL, error)
                   : put_take(c, "optim.warmup_steps", json_integer((int64_t)steps), NULL, error);
}

/* Those below 1 are shares of the run there. */
static bool take_count(Conversion *c, const char *name, const char *key, Error *error) {
  const double count = number_of(c, name, 0);
  if (!see(c, name, error) || count <= 0) return true;
  if (count < 1) return aside(c, name, "a share of the run there; here updates are counted", error);
  return put_take(c, key, json_integer((int64_t)count), NULL, error);
}

bool take_updates(Conversion *c, Error *error) {
  const bool ppo = strcmp(c->stage, "ppo") == 0;
  return take_batch(c, error) && take_optimizer(c, error) && take_warmup(c, error) &&
         (ppo || take_count(c, "max_steps", "optim.max_steps", error)) &&
         take_count(c, "save_steps", "run.save_every", error) &&
         take_count(c, "eval_steps", "run.eval_every", error) &&
         take_count(c, "logging_steps", "run.log_every", error);
}

/* -- rewards of LLaMA-Factory's ppo --------------------------------------------------------------------- */

static bool take_factory_judge(Conversion *c, Error *error) {
  const char *type = text_of(c, "reward_model_type"), *judge = text_of(c, "reward_model"),
             *adapters = text_of(c, "reward_model_adapters");
  if (!see(c, "reward_model_type", error) || !see(c, "reward_model", error) ||
      !see(c, "reward_model_adapters", error))
    return false;
  if (!judge) return true;
  if (type && strcmp(type, "api") == 0)
    return problem(c, "reward_model_type", error,
                   "a reward model behind an address has no equal in a conversion");
  if (type && strcmp(type, "full") == 0)
    return put_take(c, "reward.path", json_string(judge), NULL, error) &&
           (!adapters || put_take(c, "reward.adapter", json_string(adapters), NULL, error));
  const char *base = text_of(c, "model_name_or_path");
  return (!base || put_take(c, "reward.path", json_string(base), "the model under the adapter", error)) &&
         put_take(c, "reward.adapter", json_string(judge), NULL, error);
}

bool take_rewards(Conversion *c, Error *error) {
  if (strcmp(c->stage, "ppo") != 0) return true;
  const double target = number_of(c, "ppo_target", 6), epochs = number_of(c, "num_train_epochs", 3);
  char why[160];
  snprintf(why, sizeof why, "ppo.total_episodes counts answers: %g x the number of prompts", epochs);
  if (!problem(c, "num_train_epochs", error, "%s", why)) return false;
  return take_factory_judge(c, error) && see(c, "ppo_target", error) &&
         put_take(c, "ppo.kl_adaptive", json_true(), "as there", error) &&
         put_take(c, "ppo.kl_target", json_real(target), NULL, error);
}
