#include "model/narrowed.h"

#include "base/memory.h"
#include "compute/nf4.h"
#include "compute/q8.h"

#include <math.h>
#include <string.h>

/* ---- opening ---- */

static Tensor *value_of(Narrowed *n, int index) {
  return &n->view.tensors[index].value;
}

static void add_copy(Narrowed *n, int of, int in, Tensor room) {
  *value_of(n, in) = room;
  n->copies[n->count++] = (NarrowCopy){of, in};
}

/* Where it is in whole blocks. */
static void add_narrow(Narrowed *n, int of, int in, Arena *arena) {
  const Tensor from = n->of->tensors[of].value;
  if (dtype_is_blocks(from.dtype)) return;
  const bool turned = n->of->arch->transposed && in < n->of->tensor_count;
  const int64_t outputs = from.dim[turned], inputs = from.dim[!turned];
  if (q8_fits(outputs, inputs)) add_copy(n, of, in, tensor_new_2d(arena, DTYPE_Q8, outputs, inputs));
}

static void add_linear(Narrowed *n, Linear linear, Arena *arena) {
  if (linear.id >= 0) add_narrow(n, linear.weight, linear.weight, arena);
}

/* What stays as it is of a block that is not always here. */
static void add_rest(Narrowed *n, int layer, Arena *arena) {
  for (int i = 0; i < n->of->tensor_count; i++) {
    const Tensor value = n->of->tensors[i].value;
    if (n->of->tensors[i].layer == layer && value_of(n, i)->dtype == value.dtype)
      add_copy(n, i, i, tensor_new_like(arena, value, value.dtype));
  }
}

/* In the order of the blocks. */
static void add_all(Narrowed *n, const LoraSet *adapter, Arena *arena) {
  const Model *model = n->of;
  add_linear(n, model->project_in, arena);
  add_linear(n, model->project_out, arena);
  for (int layer = 0; layer < model->spec.layers; layer++) {
    for (int role = 0; role < LINEAR_ROLES; role++) add_linear(n, model->blocks[layer].linear[role], arena);
    if (model->block_weights) add_rest(n, layer, arena);
  }
  if (model->head < 0 || lora_copy(adapter, model->head_id)) return;
  const int head = model->tensor_count, before = n->count;
  add_narrow(n, model->head, head, arena);
  if (n->count > before) n->view.head = head;
}

static bool any_narrow(Narrowed *n) {
  for (int i = 0; i < n->count; i++)
    if (dtype_is_blocks(value_of(n, n->copies[i].in)->dtype)) return true;
  return false;
}

bool narrowed_open(Narrowed *narrowed, const Model *model, const LoraSet *adapter, const Compute *compute,
                   Arena *arena, Error *error) {
  Narrowed *n = narrowed;
  const size_t count = (size_t)model->tensor_count + 1;
  *n = (Narrowed){.of = model};
  if (!compute_on_host(compute)) {
    return error_set(
        error, ERROR_USAGE,
        "weights in 8 bits beside those that are trained: expected the CPU, found %s, where they "
        "would become 16 bits again before each product: more memory, and no less time",
        compute_device_name(compute));
  }
  n->view = *model;
  n->view.block_weights = NULL;
  n->view.gradients = NULL;
  n->view.tensor_count++;
  n->view.tensors = memory_zeroed(count, sizeof *n->view.tensors);
  n->copies = memory_zeroed(count, sizeof *n->copies);
  if (!n->view.tensors || !n->copies) {
    narrowed_close(n);
    return error_out_of_memory(error, "a model in 8 bits", count * sizeof *n->view.tensors);
  }
  memcpy(n->view.tensors, model->tensors, (count - 1) * sizeof *n->view.tensors);
  add_all(n, adapter, arena);
  if (any_narrow(n)) return true;
  narrowed_close(n);
  return error_set(error, ERROR_USAGE,
                   "no linear of %s can be kept in 8 bits: that takes inputs in multiples of %d",
                   model->directory ? model->directory : "the model", Q8_BLOCK);
}

void narrowed_close(Narrowed *narrowed) {
  memory_free(narrowed->view.tensors);
  memory_free(narrowed->copies);
  *narrowed = (Narrowed){0};
}

/* ---- copying ---- */

/* Elements of a matrix in F32 or BF16, `step` apart. */
static void read_block(Tensor from, int64_t first, int64_t step, float *values) {
  for (int64_t i = 0; i < Q8_BLOCK; i++) {
    const int64_t at = first + i * step;
    values[i] = from.dtype == DTYPE_F32 ? ((const float *)from.data)[at]
                                        : float_from_bf16(((const uint16_t *)from.data)[at]);
  }
}

/* Whether all have a code. */
static bool write_block(const float *values, int8_t *codes, float *scale) {
  bool fit = true;
  for (int i = 0; i < Q8_BLOCK; i++) fit &= fabsf(values[i]) <= SCALE_MOST;
  q8_quantize(values, Q8_BLOCK, codes, scale);
  if (*scale < SCALE_LEAST) *scale = 0; /* kernels rely on the bounds (compute/nf4.h) */
  return fit;
}

/* Returns how many blocks have none. */
static int64_t quantize(Tensor out, Tensor from, bool turned) {
  const int64_t outputs = out.dim[0], inputs = out.dim[1], blocks = inputs / Q8_BLOCK;
  int8_t *codes = out.data;
  float *scales = (float *)(void *)(codes + q8_scales_at(outputs, inputs));
  const int64_t row_step = turned ? 1 : inputs, step = turned ? outputs : 1;
  int64_t broken = 0;
#pragma omp parallel for schedule(static) reduction(+ : broken)
  for (int64_t at = 0; at < outputs * blocks; at++) {
    const int64_t row = at / blocks, column = at % blocks * Q8_BLOCK;
    float values[Q8_BLOCK];
    read_block(from, row * row_step + column * step, step, values);
    broken += !write_block(values, codes + at * Q8_BLOCK, &scales[at]);
  }
  return broken;
}

static bool renew(Narrowed *n, NarrowCopy copy, Error *error) {
  const ModelTensor *from = &n->of->tensors[copy.of];
  const Tensor to = *value_of(n, copy.in);
  if (to.dtype != DTYPE_Q8) {
    memcpy(to.data, from->value.data, tensor_bytes(to));
    return true;
  }
  const bool turned = n->of->arch->transposed && copy.in == copy.of;
  return quantize(to, from->value, turned) == 0 ||
         error_set(error, ERROR_MODEL,
                   "%s: has weights that are not finite or beyond %g: no 8 bits hold those", from->name,
                   (double)SCALE_MOST);
}

bool narrowed_renew(Narrowed *narrowed, Compute *compute, Error *error) {
  Narrowed *n = narrowed;
  bool ok = true;
  for (int i = 0; i < n->count; i++) {
    const int layer = n->of->tensors[n->copies[i].of].layer;
    if (layer >= 0 && layer < n->of->spec.layers) model_use_block(n->of, compute, layer, layer + 1);
    ok = ok && renew(n, n->copies[i], error);
  }
  return ok;
}
