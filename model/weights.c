/* Filling a model: from safetensors, or with fresh random numbers. */
#include "model/weights.h"

#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "formats/weight_files.h"
#include "lora/lora.h"
#include "model/unit_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements converted at a time: small beside any model, large beside the cost of a call. */
enum { CHUNK = 1 << 20 };

/* ---- which tensors a directory may have ---- */

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

bool weights_is_buffer(const char *name) {
  static const char *const buffers[] = {".attn.bias",           ".attn.masked_bias",
                                        ".attention.bias",      ".attention.masked_bias",
                                        ".rotary_emb.inv_freq", ".rotary_pos_emb.inv_freq"};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
    if (ends_with(name, buffers[i])) return true;
  return false;
}

/* Buffers, and heads that a language model does without. */
static bool is_passed_over(const char *name) {
  return weights_is_buffer(name) || strcmp(name, "score.weight") == 0 || strncmp(name, "v_head.", 7) == 0;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const WeightEntry *find_head(const Model *model, const WeightFiles *files) {
  char name[64];
  snprintf(name, sizeof name, "%s.weight", model->arch->head);
  return weight_files_find(files, name);
}

/* The tensor in the file. A table that is also the head may stand under the head's name alone: of tied tensors
 * safetensors' save_model keeps the one whose name is first in the alphabet, "lm_head.weight" before "model...". */
static const WeightEntry *find_entry(const Model *model, const WeightFiles *files, int tensor) {
  const WeightEntry *entry = weight_files_find(files, model->tensors[tensor].name);
  const bool tied = tensor == model->embedding && model->head == tensor;
  return entry || !tied ? entry : find_head(model, files);
}

/* Whether both hold the same numbers once they are `dtype`; a is of floating point. */
static bool same_values(const WeightEntry *a, const WeightEntry *b, DType dtype) {
  enum { PIECE = 4096 };
  char left[PIECE * sizeof(float)], right[PIECE * sizeof(float)];
  if (!dtype_is_float(b->dtype) || a->rank != b->rank ||
      memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) != 0)
    return false;
  if (a->data == b->data && a->dtype == b->dtype && !a->read && !b->read)
    return true; /* one storage, two names */
  for (size_t first = 0; first < a->count; first += PIECE) {
    const size_t n = a->count - first < PIECE ? a->count - first : PIECE;
    weight_read(a, first, n, dtype, left);
    weight_read(b, first, n, dtype, right);
    if (memcmp(left, right, n * dtype_size(dtype)) != 0) return false;
  }
  return true;
}

/* A copy of the tied table under the head's name is fine when it is one; in files of two dtypes it is one in the dtype
 * of the model. Transformers decides likewise (tie_weights). */
static bool check_tied_copy(const Model *model, const WeightFiles *files, const WeightEntry *copy,
                            Error *error) {
  const WeightEntry *table = find_entry(model, files, model->embedding);
  if (table == copy || same_values(table, copy, model->dtype)) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: %s differs from %s, but config.json ties them (\"tie_word_embeddings\")", copy->path,
                   copy->name, table->name);
}

static bool check_unexpected(const Model *model, const WeightFiles *files, Error *error) {
  const size_t count = (size_t)model->tensor_count;
  const char **names = memory_alloc(count * sizeof *names);
  char *head = memory_format("%s.weight", model->arch->head);
  bool ok = (names && head) || error_out_of_memory(error, "tensor names", count * sizeof *names);
  if (ok) {
    for (size_t i = 0; i < count; i++) names[i] = model->tensors[i].name;
    qsort(names, count, sizeof *names, compare_names);
  }
  for (size_t i = 0; ok && i < files->count; i++) {
    const WeightEntry *entry = &files->entries[i];
    if (bsearch(&entry->name, names, count, sizeof *names, compare_names) || is_passed_over(entry->name))
      continue;
    if (strcmp(entry->name, head) == 0 && model->head < 0) continue;
    if (strcmp(entry->name, head) == 0)
      ok = check_tied_copy(model, files, entry, error);
    else
      ok = error_set(error, ERROR_MODEL, "%s: unexpected tensor %s for a model of type \"%s\"", entry->path,
                     entry->name, model->arch->model_type);
  }
  memory_free(names);
  memory_free(head);
  return ok;
}

static bool check_tensor(const WeightEntry *entry, const char *directory, const ModelTensor *tensor,
                         Error *error) {
  char expected[64], found[128];
  safetensors_shape_text(tensor->value.rank, tensor->value.dim, expected, sizeof expected);
  if (!entry)
    return error_set(error, ERROR_MODEL, "%s: tensor %s %s is missing", directory, tensor->name, expected);
  bool same = entry->rank == tensor->value.rank;
  for (int d = 0; same && d < entry->rank; d++) same = entry->shape[d] == tensor->value.dim[d];
  safetensors_shape_text(entry->rank, entry->shape, found, sizeof found);
  if (!same)
    return error_set(error, ERROR_MODEL, "%s: %s: expected the shape %s by config.json, found %s",
                     entry->path, tensor->name, expected, found);
  if (dtype_is_float(entry->dtype)) return true;
  return error_set(error, ERROR_MODEL, "%s: %s: expected F32, F16 or BF16, found %s", entry->path,
                   tensor->name, entry->kind);
}

/* ---- reading ---- */

enum { GRAIN = 1 << 12 }; /* elements of one thread at a time: they stay in its cache */

/* Elements first to first + count - 1 as `type` into `out`, which may be NULL: then they are only looked at. Returns how many are not
 * finite. */
static size_t read_parallel(const WeightEntry *entry, size_t first, size_t count, DType type, char *out) {
  const size_t size = dtype_size(entry->dtype);
  size_t broken = 0;
#pragma omp parallel for schedule(static) reduction(+ : broken)
  for (size_t done = 0; done < count; done += GRAIN) {
    const size_t n = count - done < GRAIN ? count - done : GRAIN;
    double undone[GRAIN]; /* of the widest type */
    const void *values = (const char *)entry->data + (first + done) * size;
    if (entry->read) {
      entry->read(entry, first + done, n, undone);
      values = undone;
    }
    broken += dtype_count_not_finite(values, entry->dtype, n);
    if (out) dtype_convert(out + done * dtype_size(type), type, values, entry->dtype, n);
  }
  return broken;
}

/* From the mapping to the device, by way of `staging` (CHUNK elements), so that no second copy of the model
 * exists. */
static bool load_tensor(Tensor out, const WeightEntry *entry, void *staging, Compute *compute, Error *error) {
  const size_t total = entry->count, size = dtype_size(entry->dtype);
  const Tensor flat = tensor_1d(out.data, out.dtype, (int64_t)total);
  const bool as_it_is = !entry->read && entry->dtype == out.dtype;
  size_t broken = 0;
  for (size_t first = 0; first < total; first += CHUNK) {
    const size_t n = total - first < CHUNK ? total - first : CHUNK;
    broken += read_parallel(entry, first, n, out.dtype, as_it_is ? NULL : staging);
    compute_upload(compute, tensor_rows(flat, (int64_t)first, (int64_t)n),
                   as_it_is ? (const char *)entry->data + first * size : staging);
    weight_release(entry, first, n); /* or the process would count the file too */
  }
  return broken == 0 || weight_not_finite(entry, broken, error);
}

/* Opens the weights and sees that they are those of the model. */
static bool open_checked(WeightFiles *files, const Model *model, const char *directory, Error *error) {
  if (!weight_files_open(files, directory, error)) return false;
  bool ok = true;
  for (int i = 0; ok && i < model->tensor_count; i++)
    ok = check_tensor(find_entry(model, files, i), directory, &model->tensors[i], error);
  ok = ok && check_unexpected(model, files, error);
  if (!ok) weight_files_close(files);
  return ok;
}

bool model_check(const Model *model, const char *directory, Error *error) {
  WeightFiles files;
  if (!open_checked(&files, model, directory, error)) return false;
  weight_files_close(&files);
  return true;
}

static bool check_values(const WeightEntry *entry, Error *error) {
  size_t broken = 0;
  for (size_t first = 0; first < entry->count; first += CHUNK) {
    const size_t n = entry->count - first < CHUNK ? entry->count - first : CHUNK;
    broken += read_parallel(entry, first, n, entry->dtype, NULL);
    weight_release(entry, first, n);
  }
  return broken == 0 || weight_not_finite(entry, broken, error);
}

bool model_check_values(const Model *model, const char *directory, Error *error) {
  WeightFiles files;
  if (!open_checked(&files, model, directory, error)) return false;
  bool ok = true;
  for (int i = 0; ok && i < model->tensor_count; i++) ok = check_values(find_entry(model, &files, i), error);
  weight_files_close(&files);
  return ok;
}

bool model_read(Model *model, const char *directory, Compute *compute, Error *error) {
  WeightFiles files;
  if (!open_checked(&files, model, directory, error)) return false;
  void *staging = memory_alloc(CHUNK * dtype_size(model->dtype));
  bool ok = staging || error_out_of_memory(error, "reading a model", CHUNK * dtype_size(model->dtype));
  for (int i = 0; ok && i < model->tensor_count; i++) {
    ModelTensor *tensor = &model->tensors[i];
    ok = load_tensor(tensor->value, find_entry(model, &files, i), staging, compute, error);
  }
  if (ok && model->spec.head_normalized && model->head >= 0)
    ok = unit_rows(model->tensors[model->head].value, compute, error);
  memory_free(staging);
  weight_files_close(&files);
  return ok;
}

/* ---- the score head ---- */

typedef struct ScoreValues {
  float *weight; /* [hidden] */
  ScoreZero zero;
  bool found;
} ScoreValues;

static bool read_score_zero(const char *directory, ScoreZero *zero, Error *error) {
  char *path = path_join(directory, "config.json");
  json_t *config = path ? json_file_read(path, error) : NULL;
  const Reader top = reader_top(path, config);
  double value = 0;
  bool ok = (path || error_out_of_memory(error, "path", 0)) && config &&
            reader_number(&top, "score_shift", -1e30, 1e30, 0, &value, error) &&
            reader_bool(&top, "score_zero_point", false, &zero->known, error);
  zero->shift = (float)value;
  json_decref(config);
  memory_free(path);
  return ok;
}

static bool read_score(ScoreValues *out, const char *directory, int64_t hidden, Error *error) {
  WeightFiles files;
  if (!weight_files_open(&files, directory, error)) return false;
  const WeightEntry *entry = weight_files_find(&files, "score.weight");
  bool ok = true;
  out->found = entry != NULL;
  if (entry) {
    const ModelTensor tensor = {.name = (char *)"score.weight",
                                .value = tensor_2d(out->weight, DTYPE_F32, 1, hidden)};
    ok = check_tensor(entry, directory, &tensor, error) && read_score_zero(directory, &out->zero, error);
    if (ok) weight_read(entry, 0, (size_t)hidden, DTYPE_F32, out->weight);
    const size_t broken = ok ? dtype_count_not_finite(out->weight, DTYPE_F32, (size_t)hidden) : 0;
    ok = ok && (broken == 0 || weight_not_finite(entry, broken, error));
  }
  weight_files_close(&files);
  return ok;
}

bool score_head_open(ScoreHead *head, const Model *model, const char *directory, bool must_exist,
                     uint64_t seed, Compute *compute, Arena *arena, Error *error) {
  const int64_t hidden = model_width(&model->spec);
  *head = (ScoreHead){.weight = tensor_new_2d(arena, DTYPE_F32, 1, hidden)};
  ScoreValues values = {.weight = memory_alloc((size_t)hidden * sizeof(float))};
  char *adapter = path_join(directory, "adapter_config.json");
  bool ok =
      (values.weight && adapter) || error_out_of_memory(error, "score head", (size_t)hidden * sizeof(float));
  if (ok && file_exists(adapter))
    ok = lora_read_score(directory, hidden, values.weight, &values.zero, &values.found, error);
  else if (ok)
    ok = read_score(&values, directory, hidden, error);
  if (ok && !values.found && must_exist)
    ok = error_set(error, ERROR_MODEL, "%s: tensor score.weight is missing: not a reward model", directory);
  if (ok && !values.found) {
    RandomKey key = random_key(seed, RANDOM_INIT);
    const float deviation = 1 / sqrtf((float)hidden + 1);
    for (int64_t i = 0; i < hidden; i++)
      values.weight[i] =
          deviation * random_normal(key, UINT32_MAX, (uint64_t)i); /* no tensor has that number */
  }
  if (ok && !arena->dry) compute_upload(compute, head->weight, values.weight);
  head->zero = values.zero;
  memory_free(values.weight);
  memory_free(adapter);
  return ok;
}

/* ---- fresh weights ---- */

typedef struct Filling {
  bool constant;
  float value; /* the constant, or the standard deviation */
} Filling;

static void fill_tensor(Tensor out, Filling how, RandomKey key, uint64_t sample, Compute *compute) {
  enum { PIECE = 1 << 16 };
  float values[PIECE];
  uint16_t rounded[PIECE];
  const int64_t total = tensor_count(out);
  const Tensor flat = tensor_1d(out.data, out.dtype, total);
  for (int64_t first = 0; first < total; first += PIECE) {
    int64_t n = total - first < PIECE ? total - first : PIECE;
#pragma omp parallel for schedule(static) if (!how.constant)
    for (int64_t i = 0; i < n; i++) {
      values[i] = how.value;
      if (!how.constant) values[i] *= random_normal(key, sample, (uint64_t)(first + i));
      if (out.dtype == DTYPE_BF16) rounded[i] = bf16_from_float(values[i]);
    }
    compute_upload(compute, tensor_rows(flat, first, n), out.dtype == DTYPE_BF16 ? (void *)rounded : values);
  }
}

/* GPT-2's paper: the products that end in the residual stream start smaller, by the number of them. */
static bool is_residual(const Model *model, int tensor) {
  for (int64_t i = 0; i < model->spec.layers; i++) {
    const Linear *linear = model->blocks[i].linear;
    if (linear[LINEAR_O].weight == tensor || linear[LINEAR_DOWN].weight == tensor) return true;
  }
  return false;
}

void model_initialize(Model *model, Compute *compute, uint64_t seed) {
  RandomKey key = random_key(seed, RANDOM_INIT);
  const json_t *range = json_object_get(model->config, "initializer_range");
  const float deviation = json_is_number(range) ? (float)json_number_value(range) : 0.02f;
  const float residual = deviation / sqrtf(2 * (float)model->spec.layers);
  for (int i = 0; i < model->tensor_count; i++) {
    const ModelTensor *tensor = &model->tensors[i];
    Filling how = {.constant = tensor->value.rank == 1, .value = deviation};
    if (how.constant)
      how.value = ends_with(tensor->name, ".bias") ? 0 : 1 - model->spec.norm.weight_offset;
    else if (model->arch->residual_init && is_residual(model, i))
      how.value = residual;
    fill_tensor(tensor->value, how, key, (uint64_t)i, compute);
  }
}
