/* Optimiser steps: one pass over memory each. Gradients are scaled (clipped) on the way in. */
#include "compute/cpu/cpu.h"

#include <math.h>

void CPU(adamw)(Compute *c, Tensor p, Tensor m, Tensor v, Tensor grad, AdamStep step) {
  if (c->dry) return;
  float *pp = f32(p), *pm = f32(m), *pv = f32(v);
  const float *pg = f32(grad);
  float keep = 1.0f - step.lr * step.weight_decay;
  float rate = step.lr / step.correction1;
  float root = sqrtf(step.correction2);
  Spans spans = spans_of(p, p);
  ASSERT(spans.rows == 1 && tensor_count(grad) == spans.columns);
  FOR_SPANS(c, k, spans) {
    Span s = span_at(spans, k);
#pragma omp simd
    for (int64_t i = s.first; i < s.first + s.size; i++) {
      float g = pg[i] * step.grad_scale;
      pm[i] = step.beta1 * pm[i] + (1.0f - step.beta1) * g;
      pv[i] = step.beta2 * pv[i] + (1.0f - step.beta2) * g * g;
      float denominator = sqrtf(pv[i]) / root + step.eps;
      pp[i] = pp[i] * keep - rate * pm[i] / denominator;
    }
  }
}

void CPU(lion)(Compute *c, Tensor p, Tensor m, Tensor grad, LionStep step) {
  if (c->dry) return;
  float *pp = f32(p), *pm = f32(m);
  const float *pg = f32(grad);
  float keep = 1.0f - step.lr * step.weight_decay;
  Spans spans = spans_of(p, p);
  ASSERT(spans.rows == 1 && tensor_count(grad) == spans.columns);
  FOR_SPANS(c, k, spans) {
    Span s = span_at(spans, k);
#pragma omp simd
    for (int64_t i = s.first; i < s.first + s.size; i++) {
      float g = pg[i] * step.grad_scale;
      float u = step.beta1 * pm[i] + (1.0f - step.beta1) * g;
      float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : 0.0f;
      pp[i] = pp[i] * keep - step.lr * sign;
      pm[i] = step.beta2 * pm[i] + (1.0f - step.beta2) * g;
    }
  }
}

void CPU(sgd)(Compute *c, Tensor p, Tensor m, Tensor grad, SgdStep step) {
  if (c->dry) return;
  float *pp = f32(p), *pm = f32(m);
  const float *pg = f32(grad);
  ASSERT(pm || step.momentum == 0);
  Spans spans = spans_of(p, p);
  ASSERT(spans.rows == 1 && tensor_count(grad) == spans.columns);
  FOR_SPANS(c, k, spans) {
    Span s = span_at(spans, k);
    for (int64_t i = s.first; i < s.first + s.size; i++) {
      float d = pg[i] * step.grad_scale + step.weight_decay * pp[i];
      if (pm) d = pm[i] = step.momentum * pm[i] + d;
      pp[i] -= step.lr * d;
    }
  }
}
