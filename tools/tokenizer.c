/* tokenizer add MODEL --out DIR: a model whose vocabulary has more tokens. */
#include "base/file.h"
#include "base/process.h"
#include "base/room.h"
#include "model/source.h"
#include "model/weights.h"
#include "tokenizer/extend.h"
#include "train/plan.h"
#include "train/program.h"

#include <stdlib.h>
#include <string.h>

typedef struct AddConfig {
  char *model, *out;
  OptionStrings token, special;
  int64_t multiple, memory_limit;
} AddConfig;

/* clang-format off: one option a row */
static const Option add_options[] = {
    ROW_STRING_REQUIRED("model", AddConfig, model, "directory of the model; may stand first, without --model",
                        .names = OPTION_NAMES_MODEL),
    ROW_STRING_REQUIRED("out", AddConfig, out, "directory to write, without a model in it",
                        .names = OPTION_NAMES_PATH),
    ROW_STRINGS(
        "special", AddConfig, special, NULL,
        "special tokens, which decoding leaves out on demand: '<|im_start|>,<|im_end|>', or a JSON list"),
    ROW_STRINGS("token", AddConfig, token, NULL, "tokens that are text like any other"),
    ROW_INT("multiple", AddConfig, multiple, "1", 1, 1 << 16,
            "the embedding table gets rows up to a multiple of this number, when it grows"),
    ROW_BYTES("memory-limit", AddConfig, memory_limit, "0", "0 = what the machine has free"),
};
/* clang-format on */

/* Everything of one call: the model as it is and as it becomes. */
typedef struct Adding {
  const AddConfig *config;
  Compute compute;
  Arena before_arena, after_arena;
  Model before, after;
  DType loaded, written;
  NewToken *tokens;
  size_t count;
  int first;        /* id of the first new token */
  char *companions; /* a folder with the new tokenizer's files; they are copied from there */
} Adding;

/* The type of the files: bf16 is held as it is, all others in fp32. */
static bool choose_types(Adding *a, Error *error) {
  WeightFiles files;
  bool all_bf16 = true, all_f16 = true;
  if (!model_weights_open(&files, a->config->model, error)) return false;
  for (size_t i = 0; i < files.count; i++) {
    all_bf16 &= files.entries[i].dtype == DTYPE_BF16;
    all_f16 &= files.entries[i].dtype == DTYPE_F16;
  }
  weight_files_close(&files);
  a->loaded = all_bf16 ? DTYPE_BF16 : DTYPE_F32;
  a->written = all_bf16 ? DTYPE_BF16 : all_f16 ? DTYPE_F16 : DTYPE_F32;
  return true;
}

static bool list_tokens(Adding *a, Error *error) {
  const OptionStrings *lists[] = {&a->config->special, &a->config->token};
  a->count = lists[0]->count + lists[1]->count;
  if (a->count == 0)
    return error_set(error, ERROR_USAGE, "--special and --token: expected tokens in one of them, found none");
  a->tokens = memory_alloc(a->count * sizeof *a->tokens);
  if (!a->tokens) return error_out_of_memory(error, "tokens", a->count);
  size_t used = 0;
  for (size_t k = 0; k < 2; k++)
    for (size_t i = 0; i < lists[k]->count; i++) a->tokens[used++] = (NewToken){lists[k]->items[i], k == 0};
  return true;
}

static bool copy_generation(const char *from, const char *to, Error *error) {
  char *source = path_join(from, "generation_config.json"), *target = path_join(to, "generation_config.json");
  bool ok = (source && target) || error_out_of_memory(error, "path", 0);
  if (ok && file_exists(source)) ok = file_copy(source, target, error);
  memory_free(source);
  memory_free(target);
  return ok;
}

static bool make_companions(Adding *a, Error *error) {
  a->companions = directory_temporary("tokenizer", error);
  return a->companions &&
         tokenizer_extend(a->config->model, a->companions, a->tokens, a->count, &a->first, error) &&
         copy_generation(a->config->model, a->companions, error);
}

/* Rows of the table as it becomes: it grows only when a new token needs it to. */
static int64_t rows_after(const Adding *a, int64_t before) {
  const int64_t needed = a->first + (int64_t)a->count, multiple = a->config->multiple;
  if (needed <= before) return before;
  return (needed + multiple - 1) / multiple * multiple;
}

static bool open_after(Adding *a, Arena *arena, Error *error) {
  json_t *config = json_deep_copy(a->before.config);
  if (!config) return error_out_of_memory(error, "config.json", 0);
  static const char *const keys[] = {"vocab_size", "padded_vocab_size"};
  for (size_t i = 0; i < 2; i++)
    if (i == 0 || json_object_get(config, keys[i]))
      json_object_set_new(config, keys[i], json_integer(rows_after(a, a->before.spec.vocab)));
  const bool ok =
      model_open_config(&a->after, config, (WeightFormat){.dtype = a->loaded}, &a->compute, arena, error);
  json_decref(config);
  return ok;
}

static float value_at(const void *values, DType dtype, size_t index) {
  float out;
  dtype_convert(&out, DTYPE_F32, (const char *)values + index * dtype_size(dtype), dtype, 1);
  return out;
}

/* Copies a table [rows, width] and gives the rows of new tokens, and those that pad it, the mean of the old tokens' rows, summed
 * in double. */
static bool extend_rows(const Adding *a, Tensor from, Tensor to, Error *error) {
  const size_t width = from.rank > 1 ? (size_t)from.dim[1] : 1, size = dtype_size(from.dtype);
  const size_t rows = (size_t)from.dim[0], all = (size_t)to.dim[0];
  const size_t old =
      (size_t)a->first < rows ? (size_t)a->first : rows; /* rows that no token has are not learnt */
  float *mean = memory_alloc(width * sizeof *mean);
  if (!mean) return error_out_of_memory(error, "mean", width * sizeof *mean);
  for (size_t k = 0; k < width; k++) {
    double sum = 0;
    for (size_t row = 0; row < old; row++) sum += value_at(from.data, from.dtype, row * width + k);
    mean[k] = (float)(sum / (double)old);
  }
  memcpy(to.data, from.data, rows * width * size);
  for (size_t row = old; row < all; row++) {
    if (row >= rows || row < (size_t)a->first + a->count)
      dtype_convert((char *)to.data + row * width * size, to.dtype, mean, DTYPE_F32, width);
  }
  memory_free(mean);
  return true;
}

static bool copy_weights(const Adding *a, Error *error) {
  const Model *m = &a->before;
  for (int i = 0; i < m->tensor_count; i++) {
    const Tensor from = m->tensors[i].value, to = a->after.tensors[i].value;
    const bool table = i == m->embedding || i == m->head || (m->head_bias >= 0 && i == m->head_bias);
    if (!table)
      memcpy(to.data, from.data, (size_t)tensor_count(from) * dtype_size(from.dtype));
    else if (!extend_rows(a, from, to, error))
      return false;
  }
  return true;
}

static bool check_memory(const Adding *a, size_t weights, Log *log, Error *error) {
  MemoryPlan plan = {0};
  plan_add(&plan, "the model as it is and as it becomes", weights);
  plan_add_program(&plan, &a->compute);
  return plan_fits(&plan, device_limit(&a->compute), NULL, log, error);
}

/* Opens both models; their sizes are `bytes`. */
static bool plan(Adding *a, size_t bytes[2], Log *log, Error *error) {
  Arena dry[2];
  arena_init_dry(&dry[0], "before");
  arena_init_dry(&dry[1], "after");
  bool ok = model_open(&a->before, a->config->model, (WeightFormat){.dtype = a->loaded}, &a->compute, &dry[0],
                       error);
  if (ok && a->before.head < 0)
    ok = error_set(error, ERROR_MODEL,
                   "%s: a reward model has no LM head: extend the model that it was trained from",
                   a->config->model);
  ok = ok && open_after(a, &dry[1], error) &&
       directory_check_room(a->config->out,
                            (uint64_t)model_parameter_count(&a->after) * dtype_size(a->written), error);
  bytes[0] = dry[0].peak;
  bytes[1] = dry[1].peak;
  ok = ok && check_memory(a, dry[0].peak + dry[1].peak, log, error);
  model_free(&a->after);
  model_free(&a->before);
  return ok;
}

static bool make(Adding *a, const size_t bytes[2], Error *error) {
  return compute_arena(&a->compute, &a->before_arena, "model", bytes[0], error) &&
         compute_arena(&a->compute, &a->after_arena, "new model", bytes[1], error) &&
         model_open(&a->before, a->config->model, (WeightFormat){.dtype = a->loaded}, &a->compute,
                    &a->before_arena, error) &&
         open_after(a, &a->after_arena, error) &&
         model_read(&a->before, a->config->model, &a->compute, NULL, error) && copy_weights(a, error) &&
         model_save(&a->after, NULL, NULL, NULL, a->companions, a->config->out, a->written, &a->compute,
                    error);
}

static bool report(const Adding *a, ProgramResult *result, Error *error) {
  const long long last = a->first + (long long)a->count - 1, rows = (long long)a->after.spec.vocab;
  return buffer_format(&result->text, error, "%s: %zu tokens more, ids %d to %lld; %lld rows", a->config->out,
                       a->count, a->first, last, rows) &&
         buffer_text(&result->json, "{\"out\":", error) &&
         result_string(&result->json, a->config->out, error) &&
         buffer_format(&result->json, error, ",\"first\":%d,\"count\":%zu,\"rows\":%lld}", a->first, a->count,
                       rows);
}

static bool refuse_existing(const char *out, Error *error) {
  char *config = path_join(out, "config.json");
  if (!config) return error_out_of_memory(error, "path", 0);
  const bool there = file_exists(config);
  memory_free(config);
  return !there ||
         error_set(error, ERROR_USAGE, "--out %s: expected a new directory, found a model in it", out);
}

static bool add_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  Adding a = {.config = call->config};
  size_t bytes[2];
  if (!refuse_existing(a.config->out, error) || !compute_open(&a.compute, DEVICE_CPU, 0, error)) return false;
  a.compute.memory_limit = (size_t)a.config->memory_limit;
  bool ok = list_tokens(&a, error) && choose_types(&a, error) && make_companions(&a, error) &&
            plan(&a, bytes, call->log, error);
  if (ok && !call->check) ok = make(&a, bytes, error) && report(&a, result, error);
  Error left = {0};
  if (a.companions && !directory_remove_all(a.companions, &left)) log_warning(call->log, "%s", left.message);
  memory_free(a.companions);
  memory_free(a.tokens);
  model_free(&a.before);
  model_free(&a.after);
  compute_arena_free(&a.compute, &a.before_arena);
  compute_arena_free(&a.compute, &a.after_arena);
  compute_close(&a.compute);
  return ok;
}

static const Program add = {
    .name = "tokenizer add",
    .summary = "A model with further tokens, each the mean of the old ones.",
    .example = "drover tokenizer add my-model --out my-model-chat \\\n  --special '<|im_start|>,<|im_end|>'",
    .options = add_options,
    .option_count = sizeof add_options / sizeof *add_options,
    .config_size = sizeof(AddConfig),
    .run = add_run};

static void usage(FILE *out) {
  fprintf(out,
          "usage: drover tokenizer add MODEL --out DIR --special TOKENS --token TOKENS\n\n  add  %s\n\n"
          "tokenizer add --help lists the options.\n",
          add.summary);
}

int main(int argc, char **argv) {
  process_begin(argv);
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    usage(stdout);
    return 0;
  }
  if (argc < 2 || strcmp(argv[1], "add") != 0) {
    usage(stderr);
    return ERROR_USAGE;
  }
  char model[] = "--model", *spelled[64] = {argv[1], model};
  const bool bare = argc > 2 && argv[2][0] != '-' && argc < 62;
  if (bare) memcpy(spelled + 2, argv + 2, (size_t)(argc - 2) * sizeof *argv);
  return program_run(&add, bare ? argc : argc - 1, bare ? spelled : argv + 1, stdout, stderr);
}
