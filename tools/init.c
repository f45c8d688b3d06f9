/* init: a new model directory with random weights, from a configuration and a tokenizer. */
#include "base/process.h"
#include "base/file.h"
#include "base/json.h"
#include "base/room.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"
#include "train/plan.h"
#include "train/program.h"

#include <stdlib.h>
#include <string.h>

typedef struct InitConfig {
  char *config, *tokenizer, *out;
  int64_t seed, memory_limit;
  int dtype;
} InitConfig;

static const char *const dtypes[] = {"f32", "bf16", NULL};

static const Option options[] = {
    {.key = "config",
     .type = OPTION_STRING,
     .offset = offsetof(InitConfig, config),
     .required = true,
     .help = "config.json of the new model, as Transformers writes it; keys about tokens may be left out"},
    {.key = "tokenizer",
     .type = OPTION_STRING,
     .offset = offsetof(InitConfig, tokenizer),
     .required = true,
     .help = "directory with tokenizer.json; its files are copied"},
    {.key = "out",
     .type = OPTION_STRING,
     .offset = offsetof(InitConfig, out),
     .required = true,
     .help = "directory to write, without a model in it"},
    {.key = "seed",
     .type = OPTION_INT,
     .offset = offsetof(InitConfig, seed),
     .fallback = "0",
     .max = 4294967295.0,
     .help = "the weights are a function of it"},
    {.key = "dtype",
     .type = OPTION_CHOICE,
     .offset = offsetof(InitConfig, dtype),
     .fallback = "f32",
     .choices = dtypes,
     .help = "type of the weights in the file"},
    ROW_BYTES("memory-limit", InitConfig, memory_limit, "0", "0 = what the machine has free")};

static void set_default(json_t *config, const char *key, int value) {
  if (value >= 0 && !json_object_get(config, key)) json_object_set_new(config, key, json_integer(value));
}

/* What fresh weights are drawn with. */
static bool check_range(const json_t *config, Error *error) {
  static const char key[] = "initializer_range";
  const json_t *value = json_object_get(config, key);
  const double range = json_number_value(value);
  if (!value || json_is_null(value) || (json_is_number(value) && range >= 0 && range <= 100)) return true;
  char *found = json_dumps(value, JSON_ENCODE_ANY);
  error_set(error, ERROR_MODEL, "\"%s\": expected a standard deviation from 0 to 100, found %.60s", key,
            found ? found : "?");
  free(found);
  return false;
}

/* No id that the configuration names, and none that the tokenizer puts around a text, may be outside the table. */
static bool check_special(const json_t *config, const Tokenizer *tokenizer, json_int_t vocab, Error *error) {
  static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const json_t *value = json_object_get(config, keys[i]);
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t k = 0; k < count; k++) {
      const json_int_t id = json_integer_value(json_is_array(value) ? json_array_get(value, k) : value);
      if (id < vocab) continue;
      return error_set(error, ERROR_MODEL, "\"%s\" is %lld, and \"vocab_size\" %lld", keys[i], (long long)id,
                       (long long)vocab);
    }
  }
  IntArray ids = {0};
  bool ok = tokenizer_encode(tokenizer, "", 0, true, &ids, error);
  for (size_t i = 0; ok && i < ids.size; i++) {
    if (ids.data[i] >= vocab)
      ok = error_set(error, ERROR_MODEL,
                     "the tokenizer in %s puts the id %d around texts, and \"vocab_size\" is %lld",
                     tokenizer_directory(tokenizer), ids.data[i], (long long)vocab);
  }
  int_array_free(&ids);
  return ok;
}

/* Puts in what the configuration leaves to the tokenizer. */
static bool complete(json_t *config, const char *directory, Error *error) {
  Tokenizer *tokenizer = tokenizer_open(directory, error);
  if (!tokenizer) return false;
  const int size = tokenizer_vocab_size(tokenizer);
  set_default(config, "vocab_size", size);
  set_default(config, "bos_token_id", tokenizer_bos(tokenizer));
  set_default(config, "eos_token_id", tokenizer_eos(tokenizer));
  set_default(config, "pad_token_id", tokenizer_pad(tokenizer));
  const json_t *value = json_object_get(config, "vocab_size");
  const json_int_t vocab = json_integer_value(value);
  bool ok = true;
  if (json_is_integer(value)) { /* else named on reading */
    ok = vocab >= size
             ? check_special(config, tokenizer, vocab, error)
             : error_set(error, ERROR_MODEL, "\"vocab_size\" is %lld, but the tokenizer in %s has %d tokens",
                         (long long)vocab, directory, size);
  }
  tokenizer_free(tokenizer);
  return ok;
}

static bool refuse_existing(const char *out, Error *error) {
  char *path = path_join(out, "config.json");
  if (!path) return error_out_of_memory(error, "path", strlen(out));
  bool ok =
      !file_exists(path) || error_set(error, ERROR_USAGE, "--out %s: there is a model in it already", out);
  memory_free(path);
  return ok;
}

/* The bytes that the weights take, if there is room for them in memory and on the disk. */
static bool plan_memory(const json_t *json, const char *out, DType dtype, Compute *compute, Log *log,
                        size_t *bytes, Error *error) {
  Model model = {0};
  MemoryPlan plan = {0};
  Arena dry;
  arena_init_dry(&dry, "weights");
  if (!model_open_config(&model, json, (WeightFormat){.dtype = dtype}, compute, &dry, error)) return false;
  const bool room =
      directory_check_room(out, (uint64_t)model_parameter_count(&model) * dtype_size(dtype), error);
  model_free(&model);
  if (!room) return false;
  *bytes = dry.peak;
  plan_add(&plan, dry.name, dry.peak);
  plan_add_program(&plan, compute);
  return plan_fits(&plan, device_limit(compute), "less is needed with --dtype bf16", log, error);
}

static bool make_model(Model *model, Arena *arena, size_t bytes, const json_t *json, const InitConfig *config,
                       DType dtype, Compute *compute, Error *error) {
  if (!compute_arena(compute, arena, "model", bytes, error) ||
      !model_open_config(model, json, (WeightFormat){.dtype = dtype}, compute, arena, error))
    return false;
  model_initialize(model, compute, (uint64_t)config->seed);
  return model_save(model, NULL, NULL, NULL, config->tokenizer, config->out, dtype, compute, error);
}

static bool report(const Model *model, const InitConfig *config, ProgramResult *result, Error *error) {
  const long long count = (long long)model_parameter_count(model);
  return buffer_format(&result->text, error, "%s: %s with %lld parameters", config->out,
                       model->arch->causal_class, count) &&
         buffer_text(&result->json, "{\"out\":", error) && result_string(&result->json, config->out, error) &&
         buffer_format(&result->json, error, ",\"parameters\":%lld}", count);
}

static bool init_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InitConfig *config = call->config;
  Compute compute;
  Arena arena = {0};
  Model model = {0};
  ModelSpec spec;
  const DType dtype = config->dtype ? DTYPE_BF16 : DTYPE_F32;
  size_t bytes;
  if (!refuse_existing(config->out, error) || !compute_open(&compute, DEVICE_CPU, 0, error)) return false;
  compute.memory_limit = (size_t)config->memory_limit;
  json_t *json = json_file_read(config->config, error);
  const Architecture *arch = json ? architecture_find(json, error) : NULL;
  bool ok = arch && check_range(json, error) && complete(json, config->tokenizer, error) &&
            architecture_read(arch, json, &spec, error);
  if (!ok && json) error_context(error, "%s", config->config);
  ok = ok && plan_memory(json, config->out, dtype, &compute, call->log, &bytes, error);
  if (ok && !call->check)
    ok = make_model(&model, &arena, bytes, json, config, dtype, &compute, error) &&
         report(&model, config, result, error);
  json_decref(json);
  model_free(&model);
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {
      .name = "init",
      .summary = "A new model directory with random weights.",
      .example = "drover init --config config.json --tokenizer my-tokenizer --out my-model",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(InitConfig),
      .run = init_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
