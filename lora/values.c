/* The numbers of an adapter: how they begin, their way to the host and back, and merging. */
#include "lora/lora.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* ---- to the host and back ---- */

/* out[columns, rows] = in[rows, columns]^T */
static void transpose(float *out, const float *in, int64_t rows, int64_t columns) {
  for (int64_t j = 0; j < columns; j++)
    for (int64_t i = 0; i < rows; i++) out[j * rows + i] = in[i * columns + j];
}

/* values, of a tensor [rows, columns], become those of its transpose; they are freed. NULL: out of memory. */
static float *transposed(float *values, int64_t rows, int64_t columns, Error *error) {
  const size_t bytes = (size_t)(rows * columns) * sizeof *values;
  float *out = memory_alloc(bytes);
  if (out)
    transpose(out, values, rows, columns);
  else
    error_out_of_memory(error, "adapter tensor", bytes);
  memory_free(values);
  return out;
}

float *lora_download(const LoraMatrix *matrix, Compute *compute, Error *error) {
  const Tensor exact = tensor_is_none(matrix->master) ? matrix->value : matrix->master;
  const size_t count = (size_t)tensor_count(exact), bytes = count * sizeof(float);
  float *values = memory_alloc(bytes);
  if (!values) {
    error_out_of_memory(error, "adapter tensor", bytes);
    return NULL;
  }
  /* A narrow tensor comes into the upper half and is widened from the front, which never overtakes it. */
  void *raw = (char *)values + (bytes - tensor_bytes(exact));
  compute_download(compute, raw, exact);
  if (exact.dtype != DTYPE_F32) dtype_convert(values, DTYPE_F32, raw, exact.dtype, count);
  return matrix->turned ? transposed(values, exact.dim[0], exact.dim[1], error) : values;
}

static bool upload(const LoraMatrix *matrix, const float *values, Compute *compute, Error *error) {
  const Tensor value = matrix->value;
  if (!tensor_is_none(matrix->master)) compute_upload(compute, matrix->master, values);
  if (value.dtype == DTYPE_F32) {
    compute_upload(compute, value, values);
    return true;
  }
  void *narrow = memory_alloc(tensor_bytes(value));
  if (!narrow) return error_out_of_memory(error, "adapter tensor", tensor_bytes(value));
  dtype_convert(narrow, value.dtype, values, DTYPE_F32, (size_t)tensor_count(value));
  compute_upload(compute, value, narrow);
  memory_free(narrow);
  return true;
}

bool lora_upload(const LoraMatrix *matrix, const float *values, Compute *compute, Error *error) {
  if (!matrix->turned) return upload(matrix, values, compute, error);
  const size_t bytes = (size_t)tensor_count(matrix->value) * sizeof *values;
  float *turned = memory_alloc(bytes);
  if (!turned) return error_out_of_memory(error, "adapter tensor", bytes);
  transpose(turned, values, matrix->value.dim[1], matrix->value.dim[0]);
  const bool ok = upload(matrix, turned, compute, error);
  memory_free(turned);
  return ok;
}

/* ---- beginning ---- */

/* Of a table's pair B has the random numbers: of an embedding's weights, or, where a tied head takes it for its A, of that. */
static bool fill_pair(const LoraPair *pair, bool tied, RandomKey key, int id, Compute *compute,
                      Error *error) {
  const LoraMatrix *random = pair->a.turned ? &pair->b : &pair->a,
                   *zero = pair->a.turned ? &pair->a : &pair->b;
  const size_t count = (size_t)tensor_count(random->value);
  const bool normal = pair->a.turned && !tied;
  const float bound = 1 / sqrtf((float)random->value.dim[pair->a.turned ? 0 : 1]);
  float *values = memory_alloc(count * sizeof *values);
  if (!values) return error_out_of_memory(error, "adapter tensor", count * sizeof *values);
  for (size_t i = 0; i < count; i++)
    values[i] =
        normal ? random_normal(key, (uint64_t)id, i) : bound * (2 * random_uniform(key, (uint64_t)id, i) - 1);
  const bool ok = lora_upload(random, values, compute, error);
  memory_free(values);
  op_fill(compute, zero->value, 0);
  if (!tensor_is_none(zero->master)) op_fill(compute, zero->master, 0);
  return ok;
}

/* out = base; either may be none */
static bool fill_copy(const LoraMatrix *out, Tensor base, Compute *compute, Error *error) {
  if (tensor_is_none(out->value)) return true;
  const LoraMatrix from = {.value = base};
  float *values = lora_download(&from, compute, error);
  const bool ok = values && lora_upload(out, values, compute, error);
  memory_free(values);
  return ok;
}

static bool has_shared_pair(const LoraSet *set) {
  for (int id = 0; id < set->count; id++)
    if (set->pairs[id].shared) return true;
  return false;
}

bool lora_initialize(LoraSet *set, Compute *compute, uint64_t seed, Error *error) {
  RandomKey key = random_key(seed, RANDOM_LORA_INIT);
  const bool tied = has_shared_pair(set);
  bool ok = true;
  for (int id = 0; ok && id < set->count; id++) {
    const LoraPair *pair = lora_pair(set, id);
    const LoraCopy *copy = lora_copy(set, id);
    if (pair && !pair->shared) ok = fill_pair(pair, tied, key, id, compute, error);
    if (ok && copy && !copy->shared)
      ok = fill_copy(&copy->weight, set->modules[id].weight, compute, error) &&
           fill_copy(&copy->bias, set->modules[id].bias, compute, error);
  }
  return ok;
}

/* ---- merging ---- */

static void add_product(float *weight, const float *a, const float *b, const LoraModule *module, int64_t r,
                        float scale) {
  const int64_t inputs = module->inputs, outputs = module->outputs;
  const bool turned = module->transposed;
  const int64_t rows = turned ? inputs : outputs, columns = turned ? outputs : inputs;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    float *w = weight + row * columns;
    for (int64_t k = 0; k < r; k++) {
      /* [O,I]: row o gets b[o,k] * a[k,:];  [I,O]: row i gets a[k,i] * b[:,k] */
      float factor = scale * (turned ? a[k * inputs + row] : b[row * r + k]);
      if (turned)
        for (int64_t j = 0; j < columns; j++) w[j] += factor * b[j * r + k];
      else
        for (int64_t j = 0; j < columns; j++) w[j] += factor * a[k * inputs + j];
    }
  }
}

static bool replace(float *out, const LoraMatrix *matrix, Compute *compute, Error *error) {
  float *values = lora_download(matrix, compute, error);
  if (values) memcpy(out, values, (size_t)tensor_count(matrix->value) * sizeof *values);
  memory_free(values);
  return values != NULL;
}

bool lora_merge(const LoraSet *set, int id, float *weight, Compute *compute, Error *error) {
  const LoraCopy *copy = lora_copy(set, id);
  if (copy && !replace(weight, &copy->weight, compute, error)) return false;
  const LoraPair *pair = lora_pair(set, id);
  if (!pair) return true;
  float *a = lora_download(&pair->a, compute, error), *b = a ? lora_download(&pair->b, compute, error) : NULL;
  const bool ok = a && b;
  if (ok) add_product(weight, a, b, &set->modules[id], pair->b.value.dim[1], pair->scale);
  memory_free(a);
  memory_free(b);
  return ok;
}

bool lora_merge_bias(const LoraSet *set, int id, float *bias, Compute *compute, Error *error) {
  const LoraCopy *copy = lora_copy(set, id);
  return !copy || tensor_is_none(copy->bias.value) || replace(bias, &copy->bias, compute, error);
}
