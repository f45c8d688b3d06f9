/* Optimiser steps: one pass over memory each, over all tensors of the list. Gradients are scaled (clipped) on
 * the way in and left zero. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

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

static float *floats_at(Tensor x, int64_t first) {
  return tensor_is_none(x) ? NULL : f32(x) + first;
}

/* Elements first .. first+n-1 of one tensor. */
static void update(const OptimTensor *t, int64_t first, int64_t n, Loop loop, const void *step) {
  float *p = f32(t->p) + first, *grad = f32(t->grad) + first;
  loop(step, t->decay, p, floats_at(t->m.data, first), floats_at(t->v.data, first), grad, n);
  if (!tensor_is_none(t->value)) round_into((uint16_t *)t->value.data + first, p, n);
  memset(grad, 0, (size_t)n * sizeof *grad);
}

static int64_t spans_in(const OptimTensor *t) {
  ASSERT(t->p.dtype == DTYPE_F32 && tensor_count(t->grad) == tensor_count(t->p));
  return (tensor_count(t->p) + SPAN - 1) / SPAN;
}

/* Every thread takes an equal stretch of the list's spans. */
static void run(Compute *c, const OptimTensor *list, int64_t count, Loop loop, const void *step) {
  if (c->dry) return;
  int64_t total = 0;
  for (int64_t t = 0; t < count; t++) total += spans_in(&list[t]);
#pragma omp parallel num_threads(c->threads) if (total > 1)
  {
    int64_t begin = total * omp_get_thread_num() / omp_get_num_threads();
    int64_t end = total * (omp_get_thread_num() + 1) / omp_get_num_threads();
    for (int64_t t = 0, base = 0; t < count && base < end; t++) {
      int64_t spans = spans_in(&list[t]), n = tensor_count(list[t].p);
      for (int64_t i = max64(begin - base, 0); i < min64(end - base, spans); i++) {
        update(&list[t], i * SPAN, min64(SPAN, n - i * SPAN), loop, step);
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
