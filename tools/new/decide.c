#include "tools/new/new.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

/* What is decided here and why; everything else is the stage's default.
 *
 *   data.max_length     the longest example, in steps of 32; where it is beyond 2048 tokens, what leaves out no more than the longest hundredth
 *   optim.epochs        sft: 3 for fewer than 2000 examples, whose loss still falls in the second pass; reward, dpo: 1, they overfit after it
 *   optim.batch_size    smaller where an epoch would have fewer than 20 updates
 *   data.eval_fraction  2 % held out, of fewer than 500 examples 10 %, of fewer than 50 nothing
 *   ppo                 rollouts of 64 answers, as many as there are prompts if these are fewer; 100 of them
 *   run.eval_every      about ten evaluations
 *   optim.micro_batch_tokens   the default, doubled until the longest example (pair, answer) has room */
enum { SFT_MANY = 2000, LONG = 2048, STEP = 32, ROLLOUT = 64, ROLLOUTS = 100, ANSWER = 64 };

static bool is(const Draught *draught, const char *stage) {
  return strcmp(draught->stage, stage) == 0;
}

static bool put(Draught *draught, const char *key, json_t *value, Error *error) {
  return json_put_take(draught->own, key, value, error);
}

/* The text, or a place for it where it is missing. */
static bool put_path(Draught *draught, const char *key, const char *text, const char *place, Error *error) {
  if (!text && !place) return true;
  char *shown = text ? memory_copy_string(text) : memory_format("<%s>", place);
  const bool ok = shown ? put(draught, key, json_string(shown), error) : error_out_of_memory(error, key, 0);
  memory_free(shown);
  return ok;
}

static bool put_files(Draught *draught, const char *key, const OptionSources *files, const char *place,
                      Error *error) {
  if (files->count < 2)
    return put_path(draught, key, files->count ? files->items[0].path : NULL, place, error);
  json_t *list = json_array();
  for (size_t i = 0; list && i < files->count; i++)
    json_array_append_new(list, json_string(files->items[i].path));
  return put(draught, key, list, error);
}

/* -- data ----------------------------------------------------------------------------------------------- */

/* Of a sequence, `more` of whose tokens come later. */
static int64_t length_for(const DataFacts *data, const ModelFacts *model, int64_t more) {
  int64_t length = data->longest;
  if (strcmp(data->formats, "text") == 0 && length > LONG / 2) length = LONG / 2; /* it is cut into pieces */
  if (length > LONG && data->p99 < length) length = data->p99;
  length = (length + STEP - 1) / STEP * STEP;
  return length < model->positions - more ? length : model->positions - more;
}

static bool decide_data(Draught *d, const New *new, const OptionSources *files, Error *error) {
  const DataFacts *data = &d->data;
  const bool prompts = is(d, "ppo");
  const char *place = prompts ? "the prompts: a JSONL file of prompts"
                      : is(d, "sft")
                          ? "the data: a JSONL file of conversations or texts"
                          : "the preferences: a JSONL file of prompts with a chosen and a rejected answer";
  if (!put_files(d, prompts ? "data.prompts" : "data.train", files, place, error) ||
      !put(d, "data.template", json_string(new->model.template), error))
    return false;
  if (data->known &&
      !put(d, "data.max_length", json_integer(length_for(data, &new->model, prompts ? ANSWER : 0)), error))
    return false;
  const double share = !data->known || data->examples >= 500 ? 0.02 : data->examples >= 50 ? 0.1 : 0;
  return prompts || put(d, "data.eval_fraction", json_real(share), error);
}

/* -- models --------------------------------------------------------------------------------------------- */

static bool decide_models(Draught *d, const NewConfig *config, Error *error) {
  if (!put_path(d, "model.path", config->model, "the model: a directory, or a name like Qwen/Qwen2.5-0.5B",
                error) ||
      !put_path(d, "model.adapter", config->adapter, NULL, error) ||
      !put(d, "lora.enabled", json_boolean(!config->full), error))
    return false;
  return !is(d, "ppo") || (put_path(d, "reward.path", config->reward,
                                    "the reward model, or the model under its adapter", error) &&
                           put_path(d, "reward.adapter", config->reward_adapter, NULL, error));
}

/* -- the course ----------------------------------------------------------------------------------------- */

static bool decide_updates(Draught *d, Error *error) {
  const DataFacts *data = &d->data;
  const int64_t n = data->known ? data->examples : INT64_MAX;
  const int64_t batch = n < 160 ? 8 : n < 640 ? 16 : 0;
  return put(d, "optim.warmup_ratio", json_real(0.03), error) &&
         put(d, "optim.epochs", json_integer(is(d, "sft") && n < SFT_MANY ? 3 : 1), error) &&
         (batch == 0 || put(d, "optim.batch_size", json_integer(batch), error));
}

static bool decide_rollouts(Draught *d, Error *error) {
  const DataFacts *data = &d->data;
  int64_t answers = data->known && data->examples < ROLLOUT ? data->examples / 4 * 4 : ROLLOUT;
  if (answers < 4) answers = 4;
  return put(d, "rollout.max_new_tokens", json_integer(ANSWER), error) &&
         put(d, "ppo.total_episodes", json_integer(ROLLOUTS * answers), error) &&
         put(d, "ppo.batch_size", json_integer(answers), error) &&
         put(d, "ppo.minibatches", json_integer(4), error) && put(d, "ppo.epochs", json_integer(2), error);
}

/* -- with the stage's defaults -------------------------------------------------------------------------- */

bool draught_is_place(const json_t *value) {
  const char *text = json_string_value(value);
  return text && text[0] == '<' && text[strlen(text) - 1] == '>';
}

/* Without places, in which no program would find a file. */
static json_t *filled(const json_t *config) {
  json_t *copy = json_deep_copy(config), *members, *value;
  const char *section, *name;
  void *next;
  json_object_foreach(copy, section, members) {
    json_object_foreach_safe(members, next, name, value) {
      if (draught_is_place(value)) json_object_del(members, name);
    }
  }
  return copy;
}

char *draught_write(const Draught *draught, const New *new, Error *error) {
  json_t *config = filled(draught->own);
  char *path = path_join(new->scratch, "draught.json");
  const bool ok =
      config && path ? json_file_write(path, config, error) : error_out_of_memory(error, "configuration", 0);
  json_decref(config);
  if (ok) return path;
  memory_free(path);
  return NULL;
}

/* The stage's defaults under what is decided, and that over them. */
static bool ask_defaults(Draught *d, const New *new, Error *error) {
  char *file = draught_write(d, new, error);
  const char *const arguments[] = {"--config",
                                   file,
                                   "--model.path",
                                   "any",
                                   "--check",
                                   "--print-config",
                                   is(d, "ppo") ? "--reward.path" : NULL,
                                   "any",
                                   NULL};
  const bool ok = file && ask_json(&d->all, d->stage, arguments, error);
  memory_free(file);
  return ok && (json_object_update_recursive(d->all, d->own) == 0 ||
                error_out_of_memory(error, "configuration", 0));
}

/* What depends on the stage's defaults too. */
static bool put_both(Draught *d, const char *key, int64_t value, Error *error) {
  return put(d, key, json_integer(value), error) && json_put_take(d->all, key, json_integer(value), error);
}

static int64_t value_at(const Draught *d, const char *key) {
  return json_integer_value(json_at(d->all, key));
}

/* Without data the stage's length, where the model has positions for it. */
static bool decide_length(Draught *d, const New *new, Error *error) {
  const int64_t most = new->model.positions - value_at(d, "rollout.max_new_tokens");
  return value_at(d, "data.max_length") <= most || put_both(d, "data.max_length", most, error);
}

/* A micro-batch has room for the longest that has to stand in one. */
static bool decide_micro_batch(Draught *d, Error *error) {
  const int64_t sequence = value_at(d, "data.max_length") + value_at(d, "rollout.max_new_tokens"),
                least = (is(d, "reward") || is(d, "dpo") ? 2 : 1) * sequence;
  int64_t tokens = value_at(d, "optim.micro_batch_tokens");
  while (tokens < least) tokens *= 2;
  return put_both(d, "optim.micro_batch_tokens", tokens, error);
}

/* About ten evaluations. */
static bool decide_evaluations(Draught *d, Error *error) {
  const double share = json_number_value(json_at(d->all, "data.eval_fraction")),
               epochs = json_number_value(json_at(d->all, "optim.epochs"));
  if (!d->data.known || share == 0) return true;
  const double updates =
      (double)d->data.examples * (1 - share) * epochs / (double)value_at(d, "optim.batch_size");
  return put_both(d, "run.eval_every", updates < 20 ? 1 : (int64_t)(updates / 10), error);
}

/* "24GiB" */
static bool put_size(Draught *d, const char *key, int64_t bytes, Error *error) {
  static const char *const units[] = {"", "KiB", "MiB", "GiB"};
  char text[32];
  int unit = 0;
  for (; unit < 3 && bytes % 1024 == 0; unit++) bytes /= 1024;
  snprintf(text, sizeof text, "%lld%s", (long long)bytes, units[unit]);
  return put(d, key, json_string(text), error);
}

/* runs/KIND, or the first of runs/KIND-2 ... that no run has begun in. */
static char *free_directory(const char *stage) {
  char *directory = memory_format("runs/%s", stage);
  for (int number = 2; directory; number++) {
    char *log = path_join(directory, "run.db");
    const bool taken = log && file_exists(log);
    memory_free(log);
    if (!taken) break;
    memory_free(directory);
    directory = memory_format("runs/%s-%d", stage, number);
  }
  return directory;
}

static bool decide_place(Draught *d, const NewConfig *config, Error *error) {
  char *directory = config->run_dir ? memory_copy_string(config->run_dir) : free_directory(d->stage);
  const bool ok =
      directory ? put(d, "run.dir", json_string(directory), error) : error_out_of_memory(error, "path", 0);
  memory_free(directory);
  return ok && (config->memory_limit == 0 || put_size(d, "device.memory_limit", config->memory_limit, error));
}

bool draught_decide(Draught *draught, const New *new, const OptionSources *files, Error *error) {
  draught->own = json_object();
  if (!draught->own) return error_out_of_memory(error, "configuration", 0);
  return decide_models(draught, new->config, error) && decide_data(draught, new, files, error) &&
         (is(draught, "ppo") ? decide_rollouts(draught, error) : decide_updates(draught, error)) &&
         decide_place(draught, new->config, error) && ask_defaults(draught, new, error) &&
         decide_length(draught, new, error) && decide_micro_batch(draught, error) &&
         decide_evaluations(draught, error);
}

void draught_free(Draught *draught) {
  json_decref(draught->own);
  json_decref(draught->all);
  *draught = (Draught){0};
}
