/* merge: adds an adapter to its base: a Hugging Face directory that gives the same outputs without it.
 *
 * An adapter over a base in 4 bits was trained over the values that the 4 bits stand for. They are what it is added to, unless --into names
 * the model in 16 or 32 bits that they were made from. How far the result is from what was trained is measured, of the directory
 * as it was written. */
#include "base/process.h"
#include "base/file.h"
#include "base/room.h"
#include "model/source.h"
#include "model/weights.h"
#include "tools/merge/distance.h"
#include "tools/merge/weights.h"
#include "train/identity.h"
#include "train/plan.h"
#include "train/program.h"
#include "train/saved_tokens.h"

#include <string.h>

typedef struct MergeConfig {
  char *model, *adapter, *into, *out, *prompts;
  int64_t memory_limit;
  bool distance;
  int dtype, quantize, tables;
} MergeConfig;

static const char *const dtypes[] = {"auto", "f32", "bf16", "f16", NULL};

/* clang-format off */
static const Option options[] = {
  ROW_STRING_REQUIRED("model", MergeConfig, model, "directory of the base model that the adapter was trained over", .names = OPTION_NAMES_MODEL),
  ROW_STRING_REQUIRED("adapter", MergeConfig, adapter, "directory of the adapter (PEFT)", .names = OPTION_NAMES_ADAPTER),
  ROW_STRING_REQUIRED("out", MergeConfig, out, "directory to write", .names = OPTION_NAMES_PATH),
  ROW_CHOICE("dtype", MergeConfig, dtype, "auto", dtypes, "type of the weights in the file; auto = as in the base"),
  ROW_CHOICE("quantize", MergeConfig, quantize, "auto", merge_quantize_choices,
      "what model.quantize was in the training: with nf4 or int8 the adapter is added to the dequantised weights; auto = as "
      "identity.json beside the adapter says, else none"),
  ROW_CHOICE("quantize-tables", MergeConfig, tables, "none", model_tables_choices,
      "what model.quantize_tables was", .when = "quantize != none"),
  ROW_STRING("into", MergeConfig, into, NULL,
      "directory in 16 or 32 bits that a base in 4 or 8 bits was made from: the adapter is added to its weights instead", .names = OPTION_NAMES_MODEL),
  ROW_BOOL("distance", MergeConfig, distance, "true",
      "read a few texts before and after, and print how far apart the answers are"),
  ROW_STRING("prompts", MergeConfig, prompts, NULL,
      "JSONL file with other texts for that: \"prompt\" or \"text\" of each record", .when = "distance", .names = OPTION_NAMES_PATH),
  ROW_BYTES("memory-limit", MergeConfig, memory_limit, "0", "0 = what the machine has free"),
};
/* clang-format on */

/* The models that are opened, one after the other. */
typedef enum Part {
  PART_TRAINED, /* the base as it was trained over, under the adapter */
  PART_INTO,    /* --into, and the adapter */
  PART_WRITTEN, /* what was written, read again */
  PARTS
} Part;

static const char *const part_names[] = {"the base under the adapter", "the model to merge into",
                                         "the merged model"};

typedef struct Merge {
  const MergeConfig *config;
  Log *log;
  Compute compute;
  MergeWeights weights;
  DType written;
  LoraSpec spec;
  SavedTokens tokens;
  Tokenizer *tokenizer; /* or NULL */
  bool measures;        /* the distance */
  Distance distance;
  TrainMemory memory[PARTS]; /* dry until a part is opened */
  size_t sum_bytes[PARTS],
      head_bytes[PARTS]; /* what they take besides, and a head of its own within the weights */
  const char *class_name;

  /* The part that is open. */
  Model model;
  LoraSet adapter;
  ScoreHead head;
  bool scores; /* the result is a reward model */
} Merge;

/* Whose weights take the adapter's part. */
static Part merged_part(const Merge *m) {
  return m->config->into ? PART_INTO : PART_TRAINED;
}

static const char *merged_directory(const Merge *m) {
  return m->config->into ? m->config->into : m->config->model;
}

static bool is_needed(const Merge *m, Part part) {
  return part == merged_part(m) || (m->measures && part != PART_INTO);
}

/* ---- a part ---- */

static void close_part(Merge *m, Part part) {
  lora_free(&m->adapter);
  base_close(&m->model);
  m->adapter = (LoraSet){0};
  if (!m->memory[part].weights.dry) train_memory_free(&m->memory[part], &m->compute);
}

static bool open_adapter(Merge *m, Part part, Error *error) {
  return lora_open(&m->adapter, &m->spec, m->model.modules, m->model.module_count, m->model.dtype, false,
                   &m->compute, &m->memory[part].adapters, error) &&
         lora_read(&m->adapter, m->config->adapter, &m->compute, error);
}

/* In the memory of the part, dry or not. What is not written yet is planned by what it is made from. */
static bool open_part(Merge *m, Part part, Error *error) {
  const MergeConfig *c = m->config;
  TrainMemory *memory = &m->memory[part];
  const bool read = part == PART_WRITTEN && !memory->weights.dry;
  const char *directory = read ? c->out : part == PART_TRAINED ? c->model : merged_directory(m);
  WeightFormat format = m->weights.trained;
  if (part == PART_INTO) format = (WeightFormat){.dtype = m->weights.into_loaded};
  if (part == PART_WRITTEN)
    format = (WeightFormat){.dtype = m->written == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32};
  if (!base_open(&m->model, directory, NULL, format, &m->compute, memory, error) ||
      (part != PART_WRITTEN && !open_adapter(m, part, error)))
    return false;
  /* The score head comes with a reward adapter, or is that of a base that only scores. */
  m->scores = m->spec.sequence_classification || m->model.head < 0;
  const char *from = read ? c->out : m->spec.sequence_classification ? c->adapter : directory;
  return !m->scores ||
         score_head_open(&m->head, &m->model, from, true, 0, &m->compute, &memory->adapters, error);
}

static Measured measured(Merge *m, Part part) {
  return (Measured){.compute = &m->compute,
                    .model = &m->model,
                    .adapter = part == PART_WRITTEN ? NULL : &m->adapter,
                    .head = &m->head,
                    .step = &m->memory[part].step};
}

/* ---- memory ---- */

static size_t larger(size_t a, size_t b) {
  return a > b ? a : b;
}

/* Weights take their delta one at a time, in fp32; a copy of a whole weight is read beside it, and what is quantised is unpacked on the
 * host, and turned where files have it so. */
static size_t largest_sum(const Merge *m) {
  size_t largest = 0;
  for (int id = 0; id < m->model.module_count; id++) {
    const LoraModule *module = &m->model.modules[id];
    const int64_t parts = lora_copy(&m->adapter, id) ? 2 : lora_pair(&m->adapter, id) ? 1 : 0;
    largest = larger(largest, (size_t)(parts * module->inputs * module->outputs) * sizeof(float));
  }
  for (int i = 0; i < m->model.tensor_count; i++) {
    const ModelTensor *tensor = &m->model.tensors[i];
    const size_t floats = (size_t)tensor_count(tensor->value) * sizeof(float);
    if (dtype_is_blocks(tensor->value.dtype))
      largest = larger(largest, floats + (tensor->turned ? floats : tensor_bytes(tensor->value)));
  }
  return largest;
}

/* A head that the adapter sets apart from a tied table. */
static size_t untied_head(const Merge *m, bool untied) {
  if (!untied) return 0;
  const Tensor head = m->model.tensors[m->model.head].value;
  return (size_t)tensor_count(head) * dtype_size(m->model.dtype);
}

/* Opens the texts where the first part is planned: they have to be the model's. */
static bool open_texts(Merge *m, Error *error) {
  const ModelSpec *spec = &m->model.spec;
  if (m->tokenizer) saved_tokens_find_pad(&m->tokens, m->tokenizer, spec->vocab);
  if (!m->measures || m->distance.places) return true;
  if (!distance_open(&m->distance, m->config->prompts, m->tokenizer, spec->vocab, spec->max_positions,
                     m->scores, error))
    return false;
  m->measures = m->distance.places > 0;
  if (!m->measures)
    log_info(m->log, "the distance is not measured: no text is left that the model has ids for");
  return true;
}

/* In dry memory. check: what reading would find of the base's values too; of the adapter's files it is found in any case. */
static bool plan_part(Merge *m, Part part, bool *untied, bool check, Error *error) {
  compute_dry_begin(&m->compute);
  bool ok = open_part(m, part, error) && open_texts(m, error);
  if (ok && part != PART_WRITTEN)
    *untied = !m->scores && m->model.spec.tied &&
              !lora_keeps_tie(&m->adapter, m->model.embedding_id, m->model.head_id);
  if (ok && m->measures && part != PART_INTO) {
    const Measured what = measured(m, part);
    model_set_context(&m->model, &m->compute, m->distance.longest);
    ok = distance_plan(&m->distance, &what, error);
  }
  if (ok && check && part != PART_WRITTEN) ok = model_check_values(&m->model, m->model.directory, error);
  if (ok && part == merged_part(m)) {
    m->sum_bytes[part] = largest_sum(m);
    ok = directory_check_room(m->config->out,
                              (uint64_t)model_parameter_count(&m->model) * dtype_size(m->written), error);
  }
  if (ok && part == PART_WRITTEN) m->head_bytes[part] = untied_head(m, *untied);
  close_part(m, part);
  return compute_dry_end(&m->compute, error) && ok;
}

/* Each part has to fit by itself, beside what lasts. */
static bool check_memory(Merge *m, Part part, Error *error) {
  MemoryPlan plan = {0};
  Error why = {0};
  m->memory[part].weights.peak += m->head_bytes[part];
  plan_add_memory(&plan, &m->memory[part], &m->compute);
  plan_add(&plan, "the largest sum in fp32", m->sum_bytes[part]);
  if (m->measures) plan_add(&plan, "log-probabilities of the texts", distance_bytes(&m->distance));
  if (plan_fits(&plan, device_limit(&m->compute), NULL, m->log, &why)) return true;
  return error_set(error, why.code, "%s: %s%s", part_names[part], why.message,
                   m->measures ? "; --distance false does without reading texts" : "");
}

/* ---- writing ---- */

static bool save_into(Merge *m, const char *directory, Error *error) {
  const MergeConfig *config = m->config;
  Identity identity = {0};
  const char *from;
  return model_save(&m->model, m->scores ? &m->head : NULL, &m->adapter, &m->tokens, config->model, directory,
                    m->written, &m->compute, error) &&
         saved_tokenizer_write(config->model, directory, error) &&
         identity_read_text(config->model, config->adapter, &identity.text, &from, error) &&
         (from == config->model || template_copy(from, directory, error)) &&
         identity_write(&identity, directory, error);
}

/* A new directory is there when it is complete. */
static bool save(Merge *m, Error *error) {
  const char *out = m->config->out;
  m->class_name = m->scores ? m->model.arch->score_class : m->model.arch->causal_class;
  if (directory_exists(out)) return save_into(m, out, error);
  Draft draft;
  const bool ok = draft_directory(&draft, out, error) && save_into(m, draft.path, error) &&
                  directory_replace(draft.path, out, error);
  draft_drop(&draft);
  return ok;
}

static bool has_file(const char *directory, const char *name, bool *has, Error *error) {
  char *path = path_join(directory, name);
  *has = path && file_exists(path);
  memory_free(path);
  return path || error_out_of_memory(error, "path", 0);
}

/* The ends that the adapter was trained with are beside it; the tokenizer is the base's, if it has one that can be read: a
 * tokenizer.json must be. */
static bool find_tokens(Merge *m, Error *error) {
  const MergeConfig *config = m->config;
  Error why = {0};
  bool must;
  m->tokens = (SavedTokens){.pad = -1};
  if (!generation_config_ends(&m->tokens, config->adapter, error) ||
      !has_file(config->model, "tokenizer.json", &must, error))
    return false;
  m->tokenizer = tokenizer_open(config->model, &why);
  m->measures = config->distance && m->tokenizer;
  if (m->tokenizer) return true;
  if (must || config->prompts || why.code == ERROR_MEMORY)
    return error_set(error, why.code, "%s", why.message);
  if (config->distance)
    log_info(m->log, "the distance is not measured, which takes a tokenizer: %s", why.message);
  return true;
}

/* ---- the course ---- */

static bool do_part(Merge *m, Part part, Error *error) {
  TrainMemory *memory = &m->memory[part];
  if (!is_needed(m, part)) return true;
  bool ok = train_memory_allocate(memory, &m->compute, m->log, error) && open_part(m, part, error);
  if (ok && m->measures && part != PART_INTO) {
    const Measured what = measured(m, part);
    model_set_context(&m->model, &m->compute, m->distance.longest);
    ok = part == PART_TRAINED ? distance_before(&m->distance, &what, error)
                              : distance_after(&m->distance, &what, error);
  }
  ok = ok && (part != merged_part(m) || save(m, error));
  close_part(m, part);
  return ok;
}

static bool merge_all(Merge *m, bool check, Error *error) {
  const MergeConfig *c = m->config;
  bool untied = false; /* the adapter sets table and head apart */
  bool ok =
      identity_check_adapter(c->adapter, c->model, m->log, error) &&
      merge_weights_find(&m->weights, c->model, c->adapter, c->into, c->quantize, c->tables, m->log, error) &&
      lora_spec_read(&m->spec, c->adapter, error) && find_tokens(m, error);
  m->written = m->weights.filed;
  if (c->dtype && !dtype_parse(dtypes[c->dtype], &m->written)) abort();
  for (Part part = 0; ok && part < PARTS; part++)
    ok = !is_needed(m, part) || plan_part(m, part, &untied, check, error);
  for (Part part = 0; ok && part < PARTS; part++) ok = !is_needed(m, part) || check_memory(m, part, error);
  if (!ok || check) return ok;
  ok = !m->measures || distance_allocate(&m->distance, error);
  for (Part part = 0; ok && part < PARTS; part++) ok = do_part(m, part, error);
  return ok;
}

/* Writing over what is being read would lose the base. */
static bool refuse_same(const char *out, const char *source, const char *option, Error *error) {
  return !source || !path_same(out, source) ||
         error_set(error, ERROR_USAGE, "--out %s is the directory of --%s", out, option);
}

/* A model that is there already stays. */
static bool refuse_existing(const char *out, Error *error) {
  bool there;
  return has_file(out, "config.json", &there, error) &&
         (!there ||
          error_set(error, ERROR_USAGE, "--out %s: expected a new directory, found a model in it", out));
}

static bool check_paths(const MergeConfig *config, Error *error) {
  return refuse_same(config->out, config->model, "model", error) &&
         refuse_same(config->out, config->adapter, "adapter", error) &&
         refuse_same(config->out, config->into, "into", error) && refuse_existing(config->out, error);
}

static bool show(const Merge *m, ProgramResult *result, Error *error) {
  const char *dtype = dtype_name(m->written), *out = m->config->out;
  bool ok = buffer_format(&result->text, error, "%s: %s, %s", out, m->class_name, dtype) &&
            buffer_text(&result->json, "{\"out\":", error) && result_string(&result->json, out, error) &&
            buffer_format(&result->json, error, ",\"dtype\":\"%s\"", dtype);
  if (ok && m->measures)
    ok = buffer_text(&result->text, "\n", error) && distance_text(&m->distance, &result->text, error) &&
         buffer_text(&result->json, ",\"distance\":", error) &&
         distance_json(&m->distance, &result->json, error);
  return ok && buffer_text(&result->json, "}", error);
}

static bool merge_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  Merge m = {.config = call->config, .log = call->log};
  for (int part = 0; part < PARTS; part++) train_memory_dry(&m.memory[part]);
  if (!check_paths(m.config, error) || !compute_open(&m.compute, DEVICE_CPU, 0, error)) return false;
  m.compute.memory_limit = (size_t)m.config->memory_limit;
  const bool ok = merge_all(&m, call->check, error) && (call->check || show(&m, result, error));
  distance_free(&m.distance);
  tokenizer_free(m.tokenizer);
  lora_spec_free(&m.spec);
  compute_close(&m.compute);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "merge",
                           .summary = "Adds an adapter to its base model.",
                           .example = "drover merge --model my-model --adapter runs/sft/adapter --out merged",
                           .options = options,
                           .option_count = sizeof options / sizeof *options,
                           .config_size = sizeof(MergeConfig),
                           .run = merge_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
