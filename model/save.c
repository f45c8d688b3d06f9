/* Models out: a Hugging Face directory that Transformers loads as it is. */
#include "base/draft.h"
#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/weights.h"

#include <string.h>

static const uint64_t shard_bytes = 5000000000u;

enum { CHUNK = 1 << 20 };

/* ---- config.json ---- */

/* Classification in Transformers reads the score at the last token that is no padding, so it must know one. */
static void set_pad_token(json_t *config) {
  if (json_is_integer(json_object_get(config, "pad_token_id"))) return;
  json_t *eos = json_object_get(config, "eos_token_id");
  if (json_is_array(eos)) eos = json_array_get(eos, 0);
  if (json_is_integer(eos)) json_object_set(config, "pad_token_id", eos);
}

static void set_labels(json_t *config, ScoreZero zero) {
  json_object_del(config, "num_labels"); /* follows from id2label */
  json_object_set_new(config, "id2label", json_pack("{s:s}", "0", "LABEL_0"));
  json_object_set_new(config, "label2id", json_pack("{s:i}", "LABEL_0", 0));
  json_object_set_new(config, "score_shift", json_real((double)zero.shift));
  json_object_set_new(config, "score_zero_point", json_boolean(zero.known));
}

static bool config_write(const Model *model, const ScoreHead *head, DType dtype, const char *directory,
                         Error *error) {
  json_t *config = json_deep_copy(model->config);
  char *path = path_join(directory, "config.json");
  bool ok = (config && path) || error_out_of_memory(error, "config.json", 0);
  if (ok) {
    const char *name = head ? model->arch->score_class : model->arch->causal_class;
    const char *key =
        json_object_get(config, "dtype") ? "dtype" : "torch_dtype"; /* the newer, the older spelling */
    json_object_set_new(config, "architectures", json_pack("[s]", name));
    json_object_set_new(config, key, json_string(dtype_torch_name(dtype)));
    if (head) {
      set_labels(config, head->zero);
      set_pad_token(config);
    } else {
      json_object_del(config, "score_shift");
      json_object_del(config, "score_zero_point");
    }
    ok = json_file_write(path, config, error);
  }
  json_decref(config);
  memory_free(path);
  return ok;
}

static bool copy_companions(const char *source, const char *directory, Error *error) {
  static const char *const names[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "tokenizer.model",
                                      "vocab.json",
                                      "merges.txt",
                                      "added_tokens.json",
                                      "chat_template.jinja",
                                      "generation_config.json"};
  bool ok = true;
  for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++) {
    char *from = path_join(source, names[i]), *to = path_join(directory, names[i]);
    ok = (from && to) || error_out_of_memory(error, "paths", 0);
    if (ok && file_exists(from) && strcmp(from, to) != 0) ok = file_copy(from, to, error);
    memory_free(from);
    memory_free(to);
  }
  return ok;
}

/* ---- weights ---- */

typedef struct Saving {
  const Model *model;
  const ScoreHead *head;
  const LoraSet *adapter;
  DType dtype;
  Compute *compute;
  SafetensorsWriter writer;
  int *module;         /* [tensor_count] the linear a tensor is the weight of, or -1 */
  int *order;          /* [declared] tensor index; tensor_count stands for the score head */
  char *raw, *rounded; /* CHUNK elements each */
} Saving;

static void map_modules(const Saving *s) {
  for (int i = 0; i < s->model->tensor_count; i++) s->module[i] = -1;
  for (int64_t layer = 0; layer < s->model->spec.layers; layer++)
    for (int role = 0; role < LINEAR_ROLES; role++) {
      const Linear *linear = &s->model->blocks[layer].linear[role];
      if (linear->weight >= 0) s->module[linear->weight] = linear->id;
    }
}

static Tensor saved_tensor(const Saving *s, int index) {
  return index == s->model->tensor_count ? s->head->weight : s->model->tensors[index].value;
}

static bool declare_all(Saving *s, Error *error) {
  const Model *m = s->model;
  int declared = 0;
  bool ok = true;
  for (int i = 0; ok && i < m->tensor_count; i++) {
    bool lm_head = i == m->head && i != m->embedding;
    if (s->head && (lm_head || (m->head_bias >= 0 && i == m->head_bias))) continue;
    const Tensor *value = &m->tensors[i].value;
    ok = safetensors_writer_declare(&s->writer, m->tensors[i].name, s->dtype, value->rank, value->dim, error);
    s->order[declared++] = i;
  }
  if (ok && s->head) {
    ok = safetensors_writer_declare(&s->writer, "score.weight", s->dtype, 2, s->head->weight.dim, error);
    s->order[declared] = m->tensor_count;
  }
  return ok;
}

static bool write_values(Saving *s, const char *values, DType dtype, int64_t count, Error *error) {
  if (dtype == s->dtype)
    return safetensors_writer_write(&s->writer, values, (size_t)count * dtype_size(dtype), error);
  for (int64_t first = 0; first < count; first += CHUNK) {
    size_t n = (size_t)(count - first < CHUNK ? count - first : CHUNK);
    dtype_convert(s->rounded, s->dtype, values + (size_t)first * dtype_size(dtype), dtype, n);
    if (!safetensors_writer_write(&s->writer, s->rounded, n * dtype_size(s->dtype), error)) return false;
  }
  return true;
}

static bool write_plain(Saving *s, Tensor tensor, Error *error) {
  const int64_t total = tensor_count(tensor);
  const Tensor flat = tensor_1d(tensor.data, tensor.dtype, total);
  bool ok = true;
  for (int64_t first = 0; ok && first < total; first += CHUNK) {
    int64_t n = total - first < CHUNK ? total - first : CHUNK;
    compute_download(s->compute, s->raw, tensor_rows(flat, first, n));
    ok = write_values(s, s->raw, tensor.dtype, n, error);
  }
  return ok;
}

/* One weight at a time is held in fp32 for its delta. */
static bool write_merged(Saving *s, Tensor tensor, int module, Error *error) {
  const int64_t total = tensor_count(tensor);
  const Tensor flat = tensor_1d(tensor.data, tensor.dtype, total);
  float *whole = memory_alloc((size_t)total * sizeof *whole);
  if (!whole) return error_out_of_memory(error, "merging a weight", (size_t)total * sizeof *whole);
  for (int64_t first = 0; first < total; first += CHUNK) {
    int64_t n = total - first < CHUNK ? total - first : CHUNK;
    compute_download(s->compute, s->raw, tensor_rows(flat, first, n));
    dtype_convert(whole + first, DTYPE_F32, s->raw, tensor.dtype, (size_t)n);
  }
  bool ok = lora_merge(s->adapter, module, whole, s->compute, error) &&
            write_values(s, (const char *)whole, DTYPE_F32, total, error);
  memory_free(whole);
  return ok;
}

static bool write_weights(Saving *s, const char *directory, Error *error) {
  if (!declare_all(s, error) ||
      !safetensors_writer_begin_sharded(&s->writer, directory, "model", shard_bytes, error))
    return false;
  const SafetensorsEntry *next;
  while ((next = safetensors_writer_next(&s->writer)) != NULL) {
    int index = s->order[next->index];
    int module = s->adapter && index < s->model->tensor_count ? s->module[index] : -1;
    bool adapted = module >= 0 && !tensor_is_none(s->adapter->pairs[module].a.value);
    bool ok = adapted ? write_merged(s, saved_tensor(s, index), module, error)
                      : write_plain(s, saved_tensor(s, index), error);
    if (!ok) return false;
  }
  return safetensors_writer_finish(&s->writer, error);
}

static bool save_weights(Saving *s, const char *directory, Error *error) {
  const size_t count = (size_t)s->model->tensor_count + 1;
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
  return save_weights(s, directory, error) && (!source || copy_companions(source, directory, error)) &&
         config_write(s->model, s->head, s->dtype, directory, error);
}

static bool save_new(Saving *s, const char *source, const char *directory, Error *error) {
  Draft draft;
  const bool ok = draft_directory(&draft, directory, error) && save_into(s, source, draft.path, error) &&
                  directory_replace(draft.path, directory, error);
  draft_drop(&draft);
  return ok;
}

bool model_save(const Model *model, const ScoreHead *head, const LoraSet *adapter, const char *source,
                const char *directory, DType dtype, Compute *compute, Error *error) {
  if (!head && model->head < 0)
    return error_set(error, ERROR_MODEL,
                     "%s: this model has no LM head: it can only be saved with a score head", directory);
  Saving saving = {.model = model, .head = head, .adapter = adapter, .dtype = dtype, .compute = compute};
  return directory_exists(directory) ? save_into(&saving, source, directory, error)
                                     : save_new(&saving, source, directory, error);
}
