/* Models out: a Hugging Face directory that Transformers loads as it is. */
#include "base/companions.h"
#include "base/draft.h"
#include "base/file.h"
#include "formats/safetensors.h"
#include "model/quantize.h"
#include "model/saved_config.h"

#include <string.h>

static const uint64_t shard_bytes = 5000000000u;

enum { CHUNK = 1 << 20 };

/* ---- weights ---- */

typedef struct Saving {
  const Model *model;
  const ScoreHead *head;
  const LoraSet *adapter;
  const SavedTokens *tokens;
  DType dtype;
  Compute *compute;
  SafetensorsWriter writer;
  bool untied;         /* the adapter sets apart the head and the table, which are one tensor of the model */
  int *module;         /* [tensor_count + 2] the module a tensor is the weight or bias of, or -1 */
  int *order;          /* [declared] tensor index; tensor_count and the next: see below */
  int layer;           /* the block that was asked for last, or -1 */
  char *raw, *rounded; /* CHUNK elements each */
} Saving;

static void map_module(const Saving *s, const Linear *linear) {
  if (linear->weight >= 0) s->module[linear->weight] = linear->id;
}

/* What stands behind the model's tensors in the numbering: the score head, and the head of an untied model. */
static int score_index(const Saving *s) {
  return s->model->tensor_count;
}

static int untied_index(const Saving *s) {
  return s->model->tensor_count + 1;
}

static void map_modules(const Saving *s) {
  const Model *m = s->model;
  for (int i = 0; i <= untied_index(s); i++) s->module[i] = -1;
  s->module[m->embedding] = m->embedding_id;
  if (m->head_bias >= 0) s->module[m->head_bias] = m->head_id;
  if (m->head >= 0) s->module[m->spec.tied ? untied_index(s) : m->head] = m->head_id;
  for (int64_t layer = 0; layer < s->model->spec.layers; layer++)
    for (int role = 0; role < LINEAR_ROLES; role++) map_module(s, &s->model->blocks[layer].linear[role]);
  map_module(s, &s->model->project_in);
  map_module(s, &s->model->project_out);
}

static Tensor saved_tensor(const Saving *s, int index) {
  if (index == untied_index(s)) return s->model->tensors[s->model->head].value;
  return index == score_index(s) ? s->head->weight : s->model->tensors[index].value;
}

/* Whether it is quantised in another layout than files have. */
static bool is_turned(const Saving *s, int index) {
  return index < s->model->tensor_count && s->model->tensors[index].turned;
}

static bool declare_untied(Saving *s, Error *error) {
  const Tensor value = saved_tensor(s, untied_index(s));
  char *name = memory_format("%s.weight", s->model->arch->head);
  const bool ok = name ? safetensors_writer_declare(&s->writer, name, s->dtype, value.rank, value.dim, error)
                       : error_out_of_memory(error, "tensor name", 0);
  memory_free(name);
  return ok;
}

static bool declare_all(Saving *s, Error *error) {
  const Model *m = s->model;
  int declared = 0;
  bool ok = true;
  for (int i = 0; ok && i < m->tensor_count; i++) {
    bool lm_head = i == m->head && i != m->embedding;
    if (s->head && (lm_head || (m->head_bias >= 0 && i == m->head_bias))) continue;
    const Tensor *value = &m->tensors[i].value;
    const int64_t turned[] = {value->dim[1], value->dim[0]};
    ok = safetensors_writer_declare(&s->writer, m->tensors[i].name, s->dtype, value->rank,
                                    is_turned(s, i) ? turned : value->dim, error);
    s->order[declared++] = i;
  }
  if (ok && s->head) {
    /* Rounded, it would give other scores than those that made the zero point. */
    ok = safetensors_writer_declare(&s->writer, "score.weight", DTYPE_F32, 2, s->head->weight.dim, error);
    s->order[declared] = score_index(s);
  } else if (ok && s->untied) {
    ok = declare_untied(s, error);
    s->order[declared] = untied_index(s);
  }
  return ok;
}

static bool write_values(Saving *s, const SafetensorsEntry *entry, const char *values, DType dtype,
                         int64_t count, Error *error) {
  if (dtype == entry->dtype)
    return safetensors_writer_write_finite(&s->writer, values, (size_t)count * dtype_size(dtype), error);
  for (int64_t first = 0; first < count; first += CHUNK) {
    const int64_t n = count - first < CHUNK ? count - first : CHUNK;
    const char *from = values + (size_t)first * dtype_size(dtype);
    dtype_convert(s->rounded, entry->dtype, from, dtype, (size_t)n);
    const size_t overflows = dtype_count_not_finite(s->rounded, entry->dtype, (size_t)n) -
                             dtype_count_not_finite(from, dtype, (size_t)n);
    if (overflows)
      return error_set(error, ERROR_MODEL,
                       "%s: %zu numbers are beyond what %s can hold: write the weights as f32 or bf16",
                       entry->name, overflows, dtype_file_name(entry->dtype));
    if (!safetensors_writer_write_finite(&s->writer, s->rounded, (size_t)n * dtype_size(entry->dtype), error))
      return false;
  }
  return true;
}

static bool write_plain(Saving *s, const SafetensorsEntry *entry, Tensor tensor, Error *error) {
  const int64_t total = tensor_count(tensor);
  const Tensor flat = tensor_1d(tensor.data, tensor.dtype, total);
  bool ok = true;
  for (int64_t first = 0; ok && first < total; first += CHUNK) {
    int64_t n = total - first < CHUNK ? total - first : CHUNK;
    compute_download(s->compute, s->raw, tensor_rows(flat, first, n));
    ok = write_values(s, entry, s->raw, tensor.dtype, n, error);
  }
  return ok;
}

static bool check_merged(const SafetensorsEntry *entry, const float *values, int64_t count, Error *error) {
  const size_t wrong = dtype_count_not_finite(values, DTYPE_F32, (size_t)count);
  return wrong == 0 ||
         error_set(error, ERROR_MODEL,
                   "%s: with the adapter added, %zu numbers are infinite or NaN: is its lora_alpha right?",
                   entry->name, wrong);
}

/* [O,I] to [I,O]; NULL when memory is out. Frees `values`. */
static float *turn(float *values, int64_t outputs, int64_t inputs) {
  float *out = memory_alloc((size_t)(inputs * outputs) * sizeof *out);
#pragma omp parallel for schedule(static) if (out)
  for (int64_t i = 0; i < (out ? inputs : 0); i++)
    for (int64_t o = 0; o < outputs; o++) out[i * outputs + o] = values[o * inputs + i];
  memory_free(values);
  return out;
}

/* The values of a tensor in fp32 as files have them, to be freed. */
static float *whole_tensor(Saving *s, int index, Error *error) {
  const Tensor tensor = saved_tensor(s, index);
  const int64_t total = tensor_count(tensor);
  const size_t bytes = (size_t)total * sizeof(float);
  float *whole = memory_alloc(bytes);
  if (!whole) {
    error_out_of_memory(error, "saving a weight", bytes);
  } else if (dtype_is_blocks(tensor.dtype)) {
    if (!dequantize_tensor(tensor, whole, s->compute, error)) {
      memory_free(whole);
      return NULL;
    }
    if (is_turned(s, index)) whole = turn(whole, tensor.dim[0], tensor.dim[1]);
    if (!whole) error_out_of_memory(error, "saving a weight", bytes);
  } else {
    const Tensor flat = tensor_1d(tensor.data, tensor.dtype, total);
    for (int64_t first = 0; first < total; first += CHUNK) {
      const int64_t n = total - first < CHUNK ? total - first : CHUNK;
      compute_download(s->compute, s->raw, tensor_rows(flat, first, n));
      dtype_convert(whole + first, DTYPE_F32, s->raw, tensor.dtype, (size_t)n);
    }
  }
  return whole;
}

/* One weight at a time is held in fp32: for the adapter's part, where it has one (else module is -1), and for what is quantised. */
static bool write_whole(Saving *s, const SafetensorsEntry *entry, int index, int module, Error *error) {
  const Tensor tensor = saved_tensor(s, index);
  const int64_t total = tensor_count(tensor);
  float *whole = whole_tensor(s, index, error);
  if (!whole) return false;
  bool ok = true;
  if (module >= 0) {
    ok = (tensor.rank == 1 ? lora_merge_bias(s->adapter, module, whole, s->compute, error)
                           : lora_merge(s->adapter, module, whole, s->compute, error)) &&
         check_merged(entry, whole, total, error);
  }
  ok = ok && write_values(s, entry, (const char *)whole, DTYPE_F32, total, error);
  memory_free(whole);
  return ok;
}

/* A block that is sliced over ranks comes here; tensors are written block by block. */
static void bring(Saving *s, int index) {
  const Model *m = s->model;
  const int layer = index < m->tensor_count ? m->tensors[index].layer : BEHIND_BLOCKS;
  if (!m->block_weights || layer < 0 || layer >= m->spec.layers || layer == s->layer) return;
  block_weights_ask(m->block_weights, s->compute, layer);
  s->layer = layer;
}

static bool write_weights(Saving *s, const char *directory, Error *error) {
  if (!declare_all(s, error) ||
      !safetensors_writer_begin_sharded(&s->writer, directory, "model", shard_bytes, error))
    return false;
  const SafetensorsEntry *next;
  while ((next = safetensors_writer_next(&s->writer)) != NULL) {
    int index = s->order[next->index];
    bring(s, index);
    const Tensor tensor = saved_tensor(s, index);
    const int module = s->module[index];
    const bool adapted = lora_pair(s->adapter, module) || lora_copy(s->adapter, module);
    const bool ok = adapted || dtype_is_blocks(tensor.dtype)
                        ? write_whole(s, next, index, adapted ? module : -1, error)
                        : write_plain(s, next, tensor, error);
    if (!ok) return false;
  }
  return safetensors_writer_finish(&s->writer, error);
}

static bool save_weights(Saving *s, const char *directory, Error *error) {
  const size_t count = (size_t)s->model->tensor_count + 2;
  s->module = memory_alloc(count * sizeof *s->module);
  s->order = memory_alloc(count * sizeof *s->order);
  s->raw = memory_alloc(CHUNK * sizeof(float));
  s->rounded = memory_alloc(CHUNK * sizeof(float));
  bool ok = (s->module && s->order && s->raw && s->rounded) ||
            error_out_of_memory(error, "saving a model", 2 * CHUNK * sizeof(float));
  if (ok) map_modules(s);
  ok = ok && write_weights(s, directory, error);
  safetensors_writer_free(&s->writer);
  memory_free(s->module);
  memory_free(s->order);
  memory_free(s->raw);
  memory_free(s->rounded);
  return ok;
}

/* ---- the directory ---- */

static bool save_into(Saving *s, const char *source, const char *directory, Error *error) {
  return save_weights(s, directory, error) && (!source || companions_copy(source, directory, error)) &&
         generation_config_save(s->model->config, s->tokens, source, directory, error) &&
         saved_config_write(s->model, s->head, s->untied, s->tokens, s->dtype, source, directory, error);
}

static bool save_new(Saving *s, const char *source, const char *directory, Error *error) {
  Draft draft;
  const bool ok = draft_directory(&draft, directory, error) && save_into(s, source, draft.path, error) &&
                  directory_replace(draft.path, directory, error);
  draft_drop(&draft);
  return ok;
}

bool model_save(const Model *model, const ScoreHead *head, const LoraSet *adapter, const SavedTokens *tokens,
                const char *source, const char *directory, DType dtype, Compute *compute, Error *error) {
  if (!head && model->head < 0)
    return error_set(error, ERROR_MODEL,
                     "%s: this model has no LM head: it can only be saved with a score head", directory);
  Saving saving = {.model = model,
                   .head = head,
                   .adapter = adapter,
                   .tokens = tokens,
                   .dtype = dtype,
                   .compute = compute,
                   .layer = -1};
  saving.untied =
      !head && adapter && model->spec.tied && !lora_keeps_tie(adapter, model->embedding_id, model->head_id);
  if (saving.untied && !saved_config_can_untie(model, error)) return false;
  return directory_exists(directory) ? save_into(&saving, source, directory, error)
                                     : save_new(&saving, source, directory, error);
}
