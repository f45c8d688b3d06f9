/* merge: adds an adapter to its base: a Hugging Face directory that gives the same outputs without it. */
#include "base/process.h"
#include "base/file.h"
#include "formats/weight_files.h"
#include "model/source.h"
#include "model/weights.h"
#include "train/identity.h"
#include "train/model_path.h"
#include "train/plan.h"
#include "train/program.h"
#include "train/saved_tokens.h"

#include <string.h>

typedef struct MergeConfig {
  char *model, *adapter, *out;
  int64_t memory_limit;
  int dtype;
} MergeConfig;

static const char *const dtypes[] = {"auto", "f32", "bf16", "f16", NULL};

static const Option options[] = {
    {.key = "model",
     .type = OPTION_STRING,
     .offset = offsetof(MergeConfig, model),
     .required = true,
     .help = "directory of the base model"},
    {.key = "adapter",
     .type = OPTION_STRING,
     .offset = offsetof(MergeConfig, adapter),
     .required = true,
     .help = "directory of the adapter (PEFT)"},
    {.key = "out",
     .type = OPTION_STRING,
     .offset = offsetof(MergeConfig, out),
     .required = true,
     .help = "directory to write"},
    {.key = "dtype",
     .type = OPTION_CHOICE,
     .offset = offsetof(MergeConfig, dtype),
     .fallback = "auto",
     .choices = dtypes,
     .help = "type of the weights in the file; auto = as in the base"},
    ROW_BYTES("memory-limit", MergeConfig, memory_limit, "0", "0 = what the machine has free")};

/* All that is merged, in one arena. */
typedef struct Merge {
  const MergeConfig *config;
  Compute compute;
  Arena arena;
  DType loaded, written;
  Model model;
  LoraSpec spec;
  LoraSet adapter;
  ScoreHead head;
  bool scores; /* the result is a reward model */
} Merge;

/* The type of the base's files decides: bf16 files are held as they are, all others in fp32. */
static bool choose_types(Merge *m, Error *error) {
  WeightFiles files;
  if (!model_weights_open(&files, m->config->model, error)) return false;
  bool all_bf16 = true, all_f16 = true;
  for (size_t i = 0; i < files.count; i++) {
    if (strcmp(files.entries[i].name, "score.weight") == 0) continue; /* F32 in any file of ours */
    all_bf16 &= files.entries[i].dtype == DTYPE_BF16;
    all_f16 &= files.entries[i].dtype == DTYPE_F16;
  }
  weight_files_close(&files);
  m->loaded = all_bf16 ? DTYPE_BF16 : DTYPE_F32;
  m->written = all_bf16 ? DTYPE_BF16 : all_f16 ? DTYPE_F16 : DTYPE_F32;
  if (m->config->dtype && !dtype_parse(dtypes[m->config->dtype], &m->written)) abort();
  return true;
}

/* The same twice: to count the memory, and to have it. */
static bool open_all(Merge *m, Arena *arena, Error *error) {
  const MergeConfig *c = m->config;
  if (!model_open(&m->model, c->model, (WeightFormat){.dtype = m->loaded}, &m->compute, arena, error) ||
      !lora_open(&m->adapter, &m->spec, m->model.modules, m->model.module_count, m->model.dtype, false,
                 &m->compute, arena, error))
    return false;
  /* The score head comes with a reward adapter, or is that of a base that only scores. */
  m->scores = m->spec.sequence_classification || m->model.head < 0;
  const char *from = m->spec.sequence_classification ? c->adapter : c->model;
  return !m->scores || score_head_open(&m->head, &m->model, from, true, 0, &m->compute, arena, error);
}

static void close_all(Merge *m) {
  lora_free(&m->adapter);
  model_free(&m->model);
}

static bool save_into(Merge *m, const SavedTokens *tokens, const char *directory, Error *error) {
  const MergeConfig *config = m->config;
  Identity identity = {0};
  const char *from;
  return model_save(&m->model, m->scores ? &m->head : NULL, &m->adapter, tokens, config->model, directory,
                    m->written, &m->compute, error) &&
         saved_tokenizer_write(config->model, directory, error) &&
         identity_read_text(config->model, config->adapter, &identity.text, &from, error) &&
         (from == config->model || template_copy(from, directory, error)) &&
         identity_write(&identity, directory, error);
}

/* A new directory is there when it is complete. */
static bool save(Merge *m, const SavedTokens *tokens, Error *error) {
  const char *out = m->config->out;
  if (directory_exists(out)) return save_into(m, tokens, out, error);
  Draft draft;
  const bool ok = draft_directory(&draft, out, error) && save_into(m, tokens, draft.path, error) &&
                  directory_replace(draft.path, out, error);
  draft_drop(&draft);
  return ok;
}

/* The ends that the adapter was trained with are beside it; the tokenizer is the base's, if it has one. */
static bool find_tokens(SavedTokens *tokens, const Merge *m, Error *error) {
  *tokens = (SavedTokens){.pad = -1};
  if (!generation_config_ends(tokens, m->config->adapter, error)) return false;
  char *path = path_join(m->config->model, "tokenizer.json");
  if (!path) return error_out_of_memory(error, "path", 0);
  const bool there = file_exists(path);
  memory_free(path);
  if (!there) return true;
  Tokenizer *tokenizer = tokenizer_open(m->config->model, error);
  if (tokenizer) saved_tokens_find_pad(tokens, tokenizer, m->model.spec.vocab);
  tokenizer_free(tokenizer);
  return tokenizer != NULL;
}

/* Weights take their delta one at a time, in fp32; a copy of a whole weight is read beside it. */
static size_t largest_sum(const Merge *m) {
  int64_t largest = 0;
  for (int id = 0; id < m->model.module_count; id++) {
    const LoraModule *module = &m->model.modules[id];
    const int64_t parts = lora_copy(&m->adapter, id) ? 2 : lora_pair(&m->adapter, id) ? 1 : 0;
    const int64_t count = parts * module->inputs * module->outputs;
    if (count > largest) largest = count;
  }
  return (size_t)largest * sizeof(float);
}

static bool check_memory(const Merge *m, size_t weights, Log *log, Error *error) {
  MemoryPlan plan = {0};
  plan_add(&plan, "model and adapter", weights);
  plan_add(&plan, "the largest sum in fp32", largest_sum(m));
  plan_add_program(&plan, &m->compute);
  return plan_fits(&plan, device_limit(&m->compute), NULL, log, error);
}

/* What reading would find: of the adapter's files in a dry set, and of the base's values. */
static bool check_values(Merge *m, Error *error) {
  compute_dry_begin(&m->compute);
  const bool ok = lora_read(&m->adapter, m->config->adapter, &m->compute, error) &&
                  model_check_values(&m->model, m->config->model, error);
  return compute_dry_end(&m->compute, error) && ok;
}

static bool merge_all(Merge *m, bool check, Log *log, Error *error) {
  SavedTokens tokens;
  Arena plan;
  arena_init_dry(&plan, "plan");
  bool ok = identity_check_adapter(m->config->adapter, m->config->model, log, error) &&
            choose_types(m, error) && lora_spec_read(&m->spec, m->config->adapter, error) &&
            open_all(m, &plan, error) && find_tokens(&tokens, m, error) &&
            check_memory(m, plan.peak, log, error) && (!check || check_values(m, error));
  close_all(m);
  if (!ok || check) return ok;
  return compute_arena(&m->compute, &m->arena, "model", plan.peak, error) && open_all(m, &m->arena, error) &&
         lora_read(&m->adapter, m->config->adapter, &m->compute, error) &&
         model_read(&m->model, m->config->model, &m->compute, error) && save(m, &tokens, error);
}

/* Writing over what is being read would lose the base. */
static bool refuse_same(const char *out, const char *source, const char *option, Error *error) {
  return !path_same(out, source) ||
         error_set(error, ERROR_USAGE, "--out %s is the directory of --%s", out, option);
}

/* A model that is there already stays. */
static bool refuse_existing(const char *out, Error *error) {
  char *config = path_join(out, "config.json");
  if (!config) return error_out_of_memory(error, "path", 0);
  const bool there = file_exists(config);
  memory_free(config);
  return !there ||
         error_set(error, ERROR_USAGE, "--out %s: expected a new directory, found a model in it", out);
}

static bool merge_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  Merge m = {.config = call->config};
  if (!model_path_check("--model", m.config->model, error) ||
      !model_path_check("--adapter", m.config->adapter, error) ||
      !refuse_same(m.config->out, m.config->model, "model", error) ||
      !refuse_same(m.config->out, m.config->adapter, "adapter", error) ||
      !refuse_existing(m.config->out, error) || !compute_open(&m.compute, DEVICE_CPU, 0, error))
    return false;
  m.compute.memory_limit = (size_t)m.config->memory_limit;
  bool ok = merge_all(&m, call->check, call->log, error);
  if (ok && !call->check)
    ok = buffer_format(&result->text, error, "%s: %s, %s", m.config->out,
                       m.scores ? m.model.arch->score_class : m.model.arch->causal_class,
                       dtype_name(m.written)) &&
         buffer_text(&result->json, "{\"out\":", error) &&
         result_string(&result->json, m.config->out, error) &&
         buffer_format(&result->json, error, ",\"dtype\":\"%s\"}", dtype_name(m.written));
  close_all(&m);
  lora_spec_free(&m.spec);
  compute_arena_free(&m.compute, &m.arena);
  compute_close(&m.compute);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "merge",
                           .summary = "Adds an adapter to its base model.",
                           .options = options,
                           .option_count = sizeof options / sizeof *options,
                           .config_size = sizeof(MergeConfig),
                           .run = merge_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
