/* adamw, lion, sgd, sum_squares. Sizes: elements, steps. */
#ifndef TESTS_COMPUTE_OPS_OPTIMIZERS_H
#define TESTS_COMPUTE_OPS_OPTIMIZERS_H

#include "harness.h"

typedef struct StepCase {
  int64_t n, steps;
  Tensor p, m, v, grad;
  double *p_ref, *m_ref, *v_ref;
} StepCase;

static inline StepCase step_case(Test *t) {
  StepCase k = {.n = t->shape.size[0], .steps = t->shape.size[1]};
  k.p = random_1d(t, DTYPE_F32, k.n, 1);
  k.m = random_1d(t, DTYPE_F32, k.n, 0);
  k.v = random_1d(t, DTYPE_F32, k.n, 0);
  k.grad = random_1d(t, DTYPE_F32, k.n, 1);
  k.p_ref = doubles(t, k.p);
  k.m_ref = zeros(t, k.n);
  k.v_ref = zeros(t, k.n);
  return k;
}

static void test_adamw(Test *t) {
  StepCase k = step_case(t);
  for (int64_t s = 1; s <= k.steps; s++) {
    AdamStep step = {
        .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-3f, .weight_decay = 0.1f, .grad_scale = 0.5f};
    double b1 = (double)step.beta1, b2 = (double)step.beta2, lr = (double)step.lr;
    double c1 = 1 - pow(b1, (double)s), c2 = 1 - pow(b2, (double)s);
    step.correction1 = (float)c1;
    step.correction2 = (float)c2;
    for (int64_t i = 0; i < k.n; i++) {
      store(t, k.grad, i, draw_normal(t));
      double g = 0.5 * at(t, k.grad, i);
      k.p_ref[i] *= 1 - lr * (double)step.weight_decay;
      k.m_ref[i] = b1 * k.m_ref[i] + (1 - b1) * g;
      k.v_ref[i] = b2 * k.v_ref[i] + (1 - b2) * g * g;
      k.p_ref[i] -= lr * (k.m_ref[i] / c1) / (sqrt(k.v_ref[i] / c2) + (double)step.eps);
    }
    RUN(t, op_adamw(&t->c, k.p, k.m, k.v, k.grad, step));
  }
  compare(t, "p", k.p_ref, k.p);
  compare(t, "m", k.m_ref, k.m);
  compare(t, "v", k.v_ref, k.v);
}

static void test_lion(Test *t) {
  StepCase k = step_case(t);
  LionStep step = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .weight_decay = 0.1f, .grad_scale = 0.5f};
  double b1 = (double)step.beta1, b2 = (double)step.beta2, lr = (double)step.lr;
  for (int64_t s = 1; s <= k.steps; s++) {
    for (int64_t i = 0; i < k.n; i++) {
      store(t, k.grad, i, i % 10 == 9 ? 0 : draw_normal(t)); /* the sign of 0 is 0 */
      double g = 0.5 * at(t, k.grad, i), u = b1 * k.m_ref[i] + (1 - b1) * g;
      k.p_ref[i] = k.p_ref[i] * (1 - lr * (double)step.weight_decay) - lr * (u > 0 ? 1 : u < 0 ? -1 : 0);
      k.m_ref[i] = b2 * k.m_ref[i] + (1 - b2) * g;
    }
    RUN(t, op_lion(&t->c, k.p, k.m, k.grad, step));
  }
  compare(t, "p", k.p_ref, k.p);
  compare(t, "m", k.m_ref, k.m);
}

static void test_sgd(Test *t) {
  StepCase k = step_case(t);
  SgdStep step = {.lr = 0.01f, .momentum = 0.9f, .weight_decay = 0.1f, .grad_scale = 0.5f};
  if (t->shape.flags & NO_WEIGHT) {
    step.momentum = 0;
    k.m = (Tensor){0};
  }
  for (int64_t s = 1; s <= k.steps; s++) {
    for (int64_t i = 0; i < k.n; i++) {
      store(t, k.grad, i, draw_normal(t));
      double g = 0.5 * at(t, k.grad, i) + (double)step.weight_decay * k.p_ref[i];
      k.m_ref[i] = (double)step.momentum * k.m_ref[i] + g;
      k.p_ref[i] -= (double)step.lr * k.m_ref[i];
    }
    RUN(t, op_sgd(&t->c, k.p, k.m, k.grad, step));
  }
  compare(t, "p", k.p_ref, k.p);
  if (step.momentum > 0) compare(t, "m", k.m_ref, k.m);
}

static void test_sum_squares(Test *t) {
  Tensor x = random_1d(t, DTYPE_F32, t->shape.size[0], 1), out = tensor_new_1d(&t->arena, DTYPE_F64, 1);
  double *values = doubles(t, x), expected = 3 + dot(values, values, x.dim[0]);
  store(t, out, 0, 3);
  RUN(t, op_sum_squares(&t->c, out, x));
  compare(t, "sum", &expected, out);
}

#define STEP_SHAPES(op, run, tolerance)                                  \
  {op, run, {{1, 1}, 0}, tolerance}, {op, run, {{20, 5}, 0}, tolerance}, \
      {op, run, {{9001, 3}, 0}, tolerance}, {                            \
    op, run, {{0, 1}, 0}, tolerance                                      \
  }

#define OPTIMIZER_CASES                                                                  \
  STEP_SHAPES("adamw", test_adamw, 2e-6), STEP_SHAPES("lion", test_lion, 2e-6),          \
      STEP_SHAPES("sgd", test_sgd, 2e-6), {"sgd", test_sgd, {{33, 4}, NO_WEIGHT}, 2e-6}, \
      STEP_SHAPES("sum_squares", test_sum_squares, 1e-12)

#endif
