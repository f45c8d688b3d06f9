/* Filling a model: from safetensors, or with fresh random numbers. */
#include "model/weights.h"

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "lora/lora.h"
#include "model/quantize.h"
#include "model/source.h"
#include "model/unit_rows.h"
#include "model/weight_pages.h"
#include "model/weights_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

enum {
  PIECE = 1 << 16, /* elements that a thread takes on in a row */
  CHUNK = 1 << 20 /* that all threads do before pages are given back; staged for a device of its own memory */
};

/* On all threads: weight_read_counted. */
static size_t read_parallel(const WeightEntry *entry, size_t first, size_t count, DType type, char *out) {
  size_t broken = 0;
#pragma omp parallel for schedule(static) reduction(+ : broken) if (count > PIECE)
  for (size_t done = 0; done < count; done += PIECE) {
    const size_t n = count - done < PIECE ? count - done : PIECE;
    broken += weight_read_counted(entry, first + done, n, type, out ? out + done * dtype_size(type) : NULL);
  }
  return broken;
}

/* After the last piece. What is not in order lies all over the tensor, and has been fetched again since its own pieces. */
static void release_rest(const WeightEntry *entry) {
  if (entry->read) weight_release(entry, 0, entry->count);
}

/* Pages of the file are given back as they have been read, or the process would count the file too. */
static size_t read_whole(const WeightEntry *entry, DType type, char *out) {
  size_t broken = 0;
  for (size_t first = 0; first < entry->count; first += CHUNK) {
    const size_t n = entry->count - first < CHUNK ? entry->count - first : CHUNK;
    broken += read_parallel(entry, first, n, type, out ? out + first * dtype_size(type) : NULL);
    weight_release(entry, first, n);
  }
  release_rest(entry);
  return broken;
}

/* By way of `staging` (CHUNK elements), or from the mapping where it has the type. */
static size_t upload_tensor(Tensor out, const WeightEntry *entry, void *staging, Compute *compute) {
  const Tensor flat = tensor_1d(out.data, out.dtype, (int64_t)entry->count);
  const bool as_it_is = !entry->read && entry->dtype == out.dtype;
  size_t broken = 0;
  for (size_t first = 0; first < entry->count; first += CHUNK) {
    const size_t n = entry->count - first < CHUNK ? entry->count - first : CHUNK;
    broken += read_parallel(entry, first, n, out.dtype, as_it_is ? NULL : staging);
    const char *mapped = (const char *)entry->data + first * dtype_size(entry->dtype);
    compute_upload(compute, tensor_rows(flat, (int64_t)first, (int64_t)n), as_it_is ? mapped : staging);
    weight_release(entry, first, n);
  }
  release_rest(entry);
  return broken;
}

/* Where the stripes of a tensor that is quantised come from. */
typedef struct Pieces {
  const WeightEntry *entry;
  size_t broken;
} Pieces;

static void read_stripe(void *context, int64_t first, int64_t count, float *values) {
  Pieces *pieces = context;
  pieces->broken += read_parallel(pieces->entry, (size_t)first, (size_t)count, DTYPE_F32, (char *)values);
  weight_release(pieces->entry, (size_t)first, (size_t)count);
}

/* Of a whole tensor in floats. */
static void copy_stripe(void *context, int64_t first, int64_t count, float *values) {
  memcpy(values, (const float *)context + first, (size_t)count * sizeof *values);
}

/* [I,O] to [O,I]; NULL when memory is out. Frees `values`. */
static float *turned(float *values, int64_t inputs, int64_t outputs) {
  float *out = memory_alloc((size_t)(inputs * outputs) * sizeof *out);
#pragma omp parallel for schedule(static) if (out)
  for (int64_t o = 0; o < (out ? outputs : 0); o++)
    for (int64_t i = 0; i < inputs; i++) out[o * inputs + i] = values[i * outputs + o];
  memory_free(values);
  return out;
}

static bool quantize_turned(const ModelTensor *tensor, bool nested, const WeightEntry *entry,
                            Compute *compute, Error *error) {
  const size_t bytes = entry->count * sizeof(float);
  float *values = memory_alloc(bytes);
  if (!values) return error_out_of_memory(error, tensor->name, bytes);
  const size_t broken = read_whole(entry, DTYPE_F32, (char *)values);
  bool ok = broken == 0 || weight_not_finite(entry, broken, error);
  if (ok) {
    values = turned(values, tensor->value.dim[1], tensor->value.dim[0]);
    ok = values || error_out_of_memory(error, tensor->name, bytes);
  }
  ok = ok && quantize_tensor(tensor->value, nested, entry, copy_stripe, values, compute, error);
  memory_free(values);
  return ok;
}

static bool load_quantized(const ModelTensor *tensor, bool nested, const WeightEntry *entry, Compute *compute,
                           Error *error) {
  /* 8 bits are made of whatever the files say, 4-bit codes too. */
  const BnbCodes *codes = tensor->value.dtype == DTYPE_Q8 ? NULL : bnb_codes(entry);
  if (tensor->turned && !codes) return quantize_turned(tensor, nested, entry, compute, error);
  Pieces pieces = {.entry = entry};
  const bool ok = codes ? quantize_take(tensor->value, entry, codes, compute, error)
                        : quantize_tensor(tensor->value, nested, entry, read_stripe, &pieces, compute, error);
  release_rest(entry);
  return ok && (pieces.broken == 0 || weight_not_finite(entry, pieces.broken, error));
}

bool model_check(const Model *model, const char *directory, Error *error) {
  WeightFiles files;
  if (!weights_open_checked(&files, model, directory, error)) return false;
  weight_files_close(&files);
  return true;
}

static bool check_values(const WeightEntry *entry, Error *error) {
  const size_t broken = read_whole(entry, entry->dtype, NULL);
  return broken == 0 || weight_not_finite(entry, broken, error);
}

bool model_check_values(const Model *model, const char *directory, Error *error) {
  WeightFiles files;
  if (!weights_open_checked(&files, model, directory, error)) return false;
  bool ok = true;
  for (int i = 0; ok && i < model->tensor_count; i++)
    ok = check_values(weights_entry(&files, model, i), error);
  weight_files_close(&files);
  return ok;
}

static int64_t bytes_to_read(const WeightFiles *files, const Model *model) {
  size_t bytes = 0;
  for (int i = 0; i < model->tensor_count; i++) bytes += weights_entry(files, model, i)->bytes;
  return (int64_t)bytes;
}

static bool in_block(const Model *model, const ModelTensor *tensor) {
  return tensor->layer >= 0 && tensor->layer < model->spec.layers;
}

/* Blocks have been looked at and are read again when they are used. */
static void leave_blocks(Model *model, WeightFiles *files) {
  for (int i = 0; i < model->tensor_count; i++) {
    const ModelTensor *tensor = &model->tensors[i];
    if (in_block(model, tensor))
      filed_blocks_add(model->filed, tensor->layer, weights_entry(files, model, i), tensor->value);
  }
  filed_blocks_take(model->filed, files);
}

/* Tensors of a block are neighbours in the list. */
static bool ends_block(const Model *model, int i) {
  const ModelTensor *tensor = &model->tensors[i];
  return in_block(model, tensor) && (i + 1 == model->tensor_count || tensor[1].layer != tensor->layer);
}

static bool upload(const ModelTensor *tensor, const WeightEntry *entry, void *staging, Compute *compute,
                   Error *error) {
  const size_t broken = upload_tensor(tensor->value, entry, staging, compute);
  return broken == 0 || weight_not_finite(entry, broken, error);
}

/* What lies where the CPU computes is put off, to be read together. */
static bool read_tensors(Model *model, const WeightFiles *files, WeightPages *pages, void *staging,
                         Compute *compute, Progress *progress, Error *error) {
  bool ok = true;
  for (int i = 0; ok && i < model->tensor_count; i++) {
    const ModelTensor *tensor = &model->tensors[i];
    const WeightEntry *entry = weights_entry(files, model, i);
    const bool blocks = dtype_is_blocks(tensor->value.dtype), later = !blocks && compute_on_host(compute);
    if (later)
      weight_pages_add(pages, entry, tensor->value);
    else if (blocks)
      ok = load_quantized(tensor, !model->format.plain_scales, entry, compute, error);
    else
      ok = upload(tensor, entry, staging, compute, error);
    if (!later) progress_update(progress, progress->done + (int64_t)entry->bytes, NULL);
    if (ok && (model->block_weights || model->filed) && ends_block(model, i))
      ok = weight_pages_read(pages, compute->threads, progress, error) &&
           model_keep_block(model, compute, tensor->layer, error);
  }
  return ok && weight_pages_read(pages, compute->threads, progress, error);
}

bool model_read(Model *model, const char *directory, Compute *compute, Log *log, Error *error) {
  WeightFiles files;
  if (!weights_open_checked(&files, model, directory, error)) return false;
  WeightPages pages;
  void *staging = memory_alloc(CHUNK * dtype_size(model->dtype));
  bool ok = staging || error_out_of_memory(error, "reading a model", CHUNK * dtype_size(model->dtype));
  ok = weight_pages_open(&pages, (size_t)model->tensor_count, error) && ok;
  Progress progress;
  progress_start_brief(&progress, log, "reading weights", progress_bytes, bytes_to_read(&files, model));
  ok = ok && read_tensors(model, &files, &pages, staging, compute, &progress, error);
  progress_finish(&progress);
  if (ok && model->spec.head_normalized && model->head >= 0)
    ok = unit_rows(model->tensors[model->head].value, compute, error);
  weight_pages_close(&pages);
  memory_free(staging);
  if (ok && model->filed) leave_blocks(model, &files);
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
  if (!model_weights_open(&files, directory, error)) return false;
  const WeightEntry *entry = weight_files_find(&files, "score.weight");
  bool ok = true;
  out->found = entry != NULL;
  if (entry) {
    ok = weights_check_entry(entry, tensor_2d(out->weight, DTYPE_F32, 1, hidden), error) &&
         read_score_zero(directory, &out->zero, error);
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
  if (ok && arena->dry && !file_exists(adapter) && !model_weights_exist(directory))
    values.found = true; /* planned by config.json alone */
  else if (ok && file_exists(adapter))
    ok = lora_read_score(directory, hidden, values.weight, &values.zero, &values.found, error);
  else if (ok)
    ok = read_score(&values, directory, hidden, error);
  if (ok && !values.found && must_exist)
    ok = error_set(
        error, ERROR_MODEL,
        "%s: tensor score.weight is missing: not a reward model; drover reward makes one of a model, or an "
        "adapter over it",
        directory);
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

static bool is_bias(const char *name) {
  const char *last = strrchr(name, '.');
  return last && strcmp(last, ".bias") == 0;
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
      how.value = is_bias(tensor->name) ? 0 : 1 - model->spec.norm.weight_offset;
    else if (model->arch->residual_init && is_residual(model, i))
      how.value = residual;
    fill_tensor(tensor->value, how, key, (uint64_t)i, compute);
  }
}
