/* Optimiser steps: one pass over memory each, over all tensors of the list. Gradients are scaled (clipped) on
 * the way in and left zero. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"
#include "compute/dynamic_map.h"

#include <math.h>

/* One step of n neighbours: p, m, v (NULL where there is none) and the gradient. */
typedef void (*Loop)(const void *step, bool decay, float *p, float *m, float *v, const float *grad,
                     int64_t n);

static void adamw_loop(const void *context, bool decay, float *p, float *m, float *v, const float *grad,
                       int64_t n) {
  const AdamStep step = *(const AdamStep *)context;
  float keep = 1.0f - step.lr * (decay ? step.weight_decay : 0);
  float rate = step.lr / step.correction1;
  float root = sqrtf(step.correction2);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float g = grad[i] * step.grad_scale;
    m[i] = step.beta1 * m[i] + (1.0f - step.beta1) * g;
    v[i] = step.beta2 * v[i] + (1.0f - step.beta2) * g * g;
    float denominator = sqrtf(v[i]) / root + step.eps;
    p[i] = p[i] * keep - rate * m[i] / denominator;
  }
}

static void lion_loop(const void *context, bool decay, float *p, float *m, float *v, const float *grad,
                      int64_t n) {
  (void)v;
  const LionStep step = *(const LionStep *)context;
  float keep = 1.0f - step.lr * (decay ? step.weight_decay : 0);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float g = grad[i] * step.grad_scale;
    float u = step.beta1 * m[i] + (1.0f - step.beta1) * g;
    float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : 0.0f;
    p[i] = p[i] * keep - step.lr * sign;
    m[i] = step.beta2 * m[i] + (1.0f - step.beta2) * g;
  }
}

static void sgd_loop(const void *context, bool decay, float *p, float *m, float *v, const float *grad,
                     int64_t n) {
  (void)v;
  const SgdStep step = *(const SgdStep *)context;
  float weight_decay = decay ? step.weight_decay : 0;
  for (int64_t i = 0; i < n; i++) {
    float d = grad[i] * step.grad_scale + weight_decay * p[i];
    if (m) d = m[i] = step.momentum * m[i] + d;
    p[i] -= step.lr * d;
  }
}

static void round_into(uint16_t *value, const float *p, int64_t n) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    vec_store_bf16_part(value + i, vec_load_part(p + i, part), part);
  }
}

/* -- 8-bit state ------------------------------------------------------------------------------------------ */

typedef struct Values { /* of the codes */
  float of_signed[256], of_unsigned[256];
} Values;

static Values all_values(void) {
  Values values;
  for (int i = 0; i < 256; i++) {
    values.of_signed[i] = dynamic_signed_value((uint8_t)i);
    values.of_unsigned[i] = dynamic_unsigned_value((uint8_t)i);
  }
  return values;
}

static void decode(float *out, OptimState state, int64_t block, const float *values) {
  const uint8_t *codes = (const uint8_t *)state.data.data + block * STATE_BLOCK;
  float absmax = f32(state.absmax)[block];
  for (int i = 0; i < STATE_BLOCK; i++) out[i] = values[codes[i]] * absmax;
}

static float highest(const float *x, int64_t n) {
  float most = 0;
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  return most;
}

static void encode_signed(OptimState state, int64_t block, const float *x, int64_t n) {
  uint8_t *codes = (uint8_t *)state.data.data + block * STATE_BLOCK;
  float absmax = highest(x, n), inverse = dynamic_inverse(absmax);
  f32(state.absmax)[block] = absmax;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) codes[i] = dynamic_signed_code(x[i] * inverse);
}

static void encode_unsigned(OptimState state, int64_t block, const float *x, int64_t n) {
  uint8_t *codes = (uint8_t *)state.data.data + block * STATE_BLOCK;
  float absmax = highest(x, n), inverse = dynamic_inverse(absmax);
  f32(state.absmax)[block] = absmax;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) codes[i] = dynamic_unsigned_code(x[i] * inverse);
}

/* One block of the state, of n elements that begin at p: the step is made in fp32, and only what stays of m and v
 * is rounded. */
static void update_block(const OptimTensor *t, int64_t block, float *p, const float *grad, int64_t n,
                         Loop loop, const void *step, const Values *values) {
  float m[STATE_BLOCK], v[STATE_BLOCK];
  bool has_v = !tensor_is_none(t->v.data);
  decode(m, t->m, block, values->of_signed);
  if (has_v) decode(v, t->v, block, values->of_unsigned);
  loop(step, t->decay, p, m, has_v ? v : NULL, grad, n);
  encode_signed(t->m, block, m, n);
  if (has_v) encode_unsigned(t->v, block, v, n);
}

/* -- the list --------------------------------------------------------------------------------------------- */

static bool has_codes(const OptimTensor *t) {
  return !tensor_is_none(t->m.data) && t->m.data.dtype == DTYPE_U8;
}

static float *floats_at(Tensor x, int64_t first) {
  return tensor_is_none(x) ? NULL : f32(x) + first;
}

/* Elements first .. first+n-1 of one tensor. */
static void update(const OptimTensor *t, int64_t first, int64_t n, Loop loop, const void *step,
                   const Values *values) {
  float *p = f32(t->p) + first, *grad = f32(t->grad) + first;
  if (has_codes(t)) {
    for (int64_t i = 0; i < n; i += STATE_BLOCK) {
      update_block(t, (first + i) / STATE_BLOCK, p + i, grad + i, min64(STATE_BLOCK, n - i), loop, step,
                   values);
    }
  } else {
    loop(step, t->decay, p, floats_at(t->m.data, first), floats_at(t->v.data, first), grad, n);
  }
  if (!tensor_is_none(t->value)) round_into((uint16_t *)t->value.data + first, p, n);
  memset(grad, 0, (size_t)n * sizeof *grad);
}

static int64_t spans_in(const OptimTensor *t) {
  _Static_assert(SPAN % STATE_BLOCK == 0, "a span has whole blocks");
  ASSERT(t->p.dtype == DTYPE_F32 && tensor_count(t->grad) == tensor_count(t->p));
  return (tensor_count(t->p) + SPAN - 1) / SPAN;
}

/* Every thread takes an equal stretch of the list's spans. */
static void run(Compute *c, const OptimTensor *list, int64_t count, Loop loop, const void *step) {
  if (c->dry) return;
  int64_t total = 0;
  const Values values = all_values();
  for (int64_t t = 0; t < count; t++) total += spans_in(&list[t]);
#pragma omp parallel num_threads(c->threads) if (total > 1)
  {
    int64_t begin = total * omp_get_thread_num() / omp_get_num_threads();
    int64_t end = total * (omp_get_thread_num() + 1) / omp_get_num_threads();
    for (int64_t t = 0, base = 0; t < count && base < end; t++) {
      int64_t spans = spans_in(&list[t]), n = tensor_count(list[t].p);
      for (int64_t i = max64(begin - base, 0); i < min64(end - base, spans); i++) {
        update(&list[t], i * SPAN, min64(SPAN, n - i * SPAN), loop, step, &values);
      }
      base += spans;
    }
  }
}

void CPU(adamw)(Compute *c, const OptimTensor *list, int64_t count, AdamStep step) {
  run(c, list, count, adamw_loop, &step);
}

void CPU(lion)(Compute *c, const OptimTensor *list, int64_t count, LionStep step) {
  run(c, list, count, lion_loop, &step);
}

void CPU(sgd)(Compute *c, const OptimTensor *list, int64_t count, SgdStep step) {
  for (int64_t i = 0; i < count; i++) ASSERT(step.momentum == 0 || !tensor_is_none(list[i].m.data));
  run(c, list, count, sgd_loop, &step);
}
