/* linear, linear_add, linear_adapted, linear_backward_input, linear_backward_weight. Sizes: T, I, O; of linear_adapted also the rank, the number of
 * terms, of which the second has twice the outputs, and one that is none, counted from 1. */
#ifndef TESTS_COMPUTE_OPS_PRODUCTS_H
#define TESTS_COMPUTE_OPS_PRODUCTS_H

#include "harness.h"

#include "compute/product.h"

typedef struct LinearRef {
  int64_t T, I, O;
  double *x, *w, *bias, *dy; /* w as stored */
  double *out;
  bool transposed;
  double alpha;
} LinearRef;

static inline void linear_ref(LinearRef *r) {
  for (int64_t t = 0; t < r->T; t++) {
    for (int64_t o = 0; o < r->O; o++) {
      double sum = 0;
      for (int64_t i = 0; i < r->I; i++) {
        sum += r->x[t * r->I + i] * r->w[r->transposed ? i * r->O + o : o * r->I + i];
      }
      r->out[t * r->O + o] = r->alpha * sum + (r->bias ? r->bias[o] : 0);
    }
  }
}

static inline double linear_loss(void *context) {
  LinearRef *r = context;
  linear_ref(r);
  return dot(r->out, r->dy, r->T * r->O);
}

typedef struct LinearCase {
  Tensor x, y, bias;
  Weight w;
  LinearRef ref;
} LinearCase;

static inline Weight random_weight(Test *t, int64_t I, int64_t O) {
  bool transposed = t->shape.flags & TRANSPOSED;
  DType dtype = t->shape.flags & BF16 ? DTYPE_BF16 : DTYPE_F32;
  double scale = 1 / sqrt((double)I);
  return (Weight){.data = random_tensor(t, dtype, 2, transposed ? I : O, transposed ? O : I, 1, scale),
                  .transposed = transposed};
}

static inline LinearCase linear_case(Test *t) {
  int64_t T = t->shape.size[0], I = t->shape.size[1], O = t->shape.size[2];
  const int flags = t->shape.flags;
  DType out = flags & WIDE_OUT ? DTYPE_F32 : activation_dtype(t);
  LinearCase l = {.x = random_2d(t, T, I), .w = random_weight(t, I, O)};
  l.y = random_tensor(t, out, 2, T, O, 1, 1);
  if (flags & BIAS) {
    l.bias = random_1d(t, (flags & (BF16 | WIDE_BIAS)) == BF16 ? DTYPE_BF16 : DTYPE_F32, O, 1);
  }
  l.ref = (LinearRef){.T = T, .I = I, .O = O, .transposed = l.w.transposed, .alpha = 1};
  l.ref.x = doubles(t, l.x);
  l.ref.w = doubles(t, l.w.data);
  l.ref.bias = t->shape.flags & BIAS ? doubles(t, l.bias) : NULL;
  l.ref.dy = doubles(t, l.y);
  l.ref.out = zeros(t, T * O);
  t->c.row_invariant = t->shape.flags & ROWS;
  return l;
}

/* A processor's matrix unit takes F32 activations (or their gradients) beside bf16 weights in bf16: of the numbers
 * rounded so, the product is as exact as any other. */
static inline bool on_matrix_unit(const Test *t) {
  return t->shape.flags & BF16 && !test_on_device(t) && product_has_matrix_unit();
}

static inline void round_for_matrix_unit(const Test *t, double *x, int64_t n) {
  for (int64_t i = 0; on_matrix_unit(t) && i < n; i++) x[i] = rounded(DTYPE_BF16, x[i]);
}

static void test_linear(Test *t) {
  LinearCase l = linear_case(t);
  round_for_matrix_unit(t, l.ref.x, l.ref.T * l.ref.I);
  poison(t, l.y);
  RUN(t, op_linear(&t->c, l.y, l.x, l.w, l.bias, 1.0f, 0.0f));
  linear_ref(&l.ref);
  compare(t, "out", l.ref.out, l.y);
  /* and with a scale, added to what is there */
  double *before = doubles(t, l.y);
  RUN(t, op_linear(&t->c, l.y, l.x, l.w, l.bias, 0.5f, -2.0f));
  l.ref.alpha = 0.5;
  linear_ref(&l.ref);
  for (int64_t i = 0; i < l.ref.T * l.ref.O; i++) l.ref.out[i] -= 2 * before[i];
  compare(t, "out, accumulated", l.ref.out, l.y);
}

static void test_linear_add(Test *t) {
  LinearCase l = linear_case(t);
  round_for_matrix_unit(t, l.ref.x, l.ref.T * l.ref.I);
  const Tensor addend = random_tensor(t, l.y.dtype, 2, l.ref.T, l.ref.O, 1, 1);
  double *before = doubles(t, addend);
  poison(t, l.y);
  RUN(t, op_linear_add(&t->c, l.y, addend, l.x, l.w, l.bias, 0.5f));
  l.ref.alpha = 0.5;
  linear_ref(&l.ref);
  for (int64_t i = 0; i < l.ref.T * l.ref.O; i++) l.ref.out[i] += before[i];
  compare(t, "out", l.ref.out, l.y);
  /* what a copy and a linear give */
  double *sum = doubles(t, l.y);
  RUN(t, op_linear(&t->c, addend, l.x, l.w, l.bias, 0.5f, 1.0f));
  compare_exact(t, "as a linear that adds", sum, addend);
}

static void test_linear_adapted(Test *t) {
  const int64_t R = t->shape.size[3], count = t->shape.size[4], part = t->shape.size[2];
  t->shape.size[2] = part * (count == 1 ? 1 : count + 1);
  LinearCase l = linear_case(t);
  t->shape.size[2] = part;
  const int64_t T = l.ref.T, O = l.ref.O;
  const Tensor u = random_2d(t, T, count * R);
  double *before = doubles(t, l.y);
  AdapterTerm terms[ADAPTER_TERMS];
  double *b[ADAPTER_TERMS], *columns[ADAPTER_TERMS];
  for (int i = 0; i < count; i++) {
    terms[i] = (AdapterTerm){.outputs = i == 1 ? 2 * part : part, .scale = 0.5f + (float)i};
    if (i + 1 == t->shape.size[5]) continue;
    terms[i].u = tensor_columns(u, i * R, R);
    terms[i].b = random_tensor(t, activation_dtype(t), 2, terms[i].outputs, R, 1, 1);
    b[i] = doubles(t, terms[i].b);
    columns[i] = doubles(t, terms[i].u);
  }
  RUN(t, op_linear_adapted(&t->c, l.y, l.x, l.w, l.bias, terms, (int)count, -0.5f));
  linear_ref(&l.ref);
  for (int64_t row = 0; row < T; row++) {
    int64_t o = 0;
    for (int i = 0; i < count; i++) {
      for (int64_t k = 0; k < terms[i].outputs; k++, o++) {
        double *out = &l.ref.out[row * O + o];
        *out -= 0.5 * before[row * O + o];
        if (!tensor_is_none(terms[i].u))
          *out += (double)terms[i].scale * dot(columns[i] + row * R, b[i] + k * R, R);
      }
    }
  }
  compare(t, "out", l.ref.out, l.y);
}

static void test_linear_backward_input(Test *t) {
  LinearCase l = linear_case(t);
  round_for_matrix_unit(t, l.ref.dy, l.ref.T * l.ref.O);
  Tensor dx = random_2d(t, l.ref.T, l.ref.I);
  l.ref.bias = NULL;
  poison(t, dx);
  RUN(t, op_linear_backward_input(&t->c, dx, l.y, l.w, 1.0f, 0.0f));
  compare_gradient(t, "dx", l.ref.x, dx, 1, NULL, 0, linear_loss, &l.ref);
  double *before = doubles(t, dx);
  RUN(t, op_linear_backward_input(&t->c, dx, l.y, l.w, 0.5f, 1.5f));
  compare_gradient(t, "dx, accumulated", l.ref.x, dx, 0.5, before, 1.5, linear_loss, &l.ref);
}

static void test_linear_backward_weight(Test *t) {
  LinearCase l = linear_case(t);
  Weight dw = l.w;
  dw.data = random_tensor(t, DTYPE_F32, 2, l.w.data.dim[0], l.w.data.dim[1], 1, 1);
  double *before = doubles(t, dw.data), *before_bias = NULL;
  Tensor dbias = {0};
  if (l.ref.bias) {
    dbias = random_1d(t, DTYPE_F32, l.ref.O, 1);
    before_bias = doubles(t, dbias);
  }
  dw.narrow = t->shape.flags & BF16;
  RUN(t, op_linear_backward_weight(&t->c, dw, dbias, l.y, l.x, 1.0f));
  /* dbias is of dy as it is */
  if (l.ref.bias) compare_gradient(t, "dbias", l.ref.bias, dbias, 1, before_bias, 1, linear_loss, &l.ref);
  round_for_matrix_unit(t, l.ref.x, l.ref.T * l.ref.I);
  round_for_matrix_unit(t, l.ref.dy, l.ref.T * l.ref.O);
  compare_gradient(t, "dw", l.ref.w, dw.data, 1, before, 1, linear_loss, &l.ref);
}

#define LINEAR_CASES(op, run, f)                                                \
  {op, run, {{1, 20, 7}, f | BIAS}, 2e-6}, {op, run, {{5, 1, 1}, f}, 2e-6},     \
      {op, run, {{33, 20, 65}, f | BIAS | STRIDED}, 2e-6},                      \
      {op, run, {{70, 48, 133}, f | TRANSPOSED | STRIDED}, 2e-6},               \
      {op, run, {{3, 100, 130}, f | TRANSPOSED | BIAS}, 2e-6},                  \
      {op, run, {{19, 100, 130}, f | BF16 | BIAS | STRIDED}, 2e-6},             \
      {op, run, {{7, 31, 90}, f | BF16 | TRANSPOSED | BIAS | STRIDED}, 2e-6}, { \
    op, run, {{0, 20, 7}, f | BIAS}, 2e-6                                       \
  }

#define LARGE_LINEAR_CASES(op, run)                           \
  {op, run, {{2, 2000, 1100}, BF16 | FEW}, 4e-6}, {           \
    op, run, {{2, 1100, 2000}, BF16 | TRANSPOSED | FEW}, 4e-6 \
  }

/* What tensor cores like (all multiples of 8, aligned), and dtypes that differ: bf16 activations and weights as in
 * training, F32 weights (an adapter or head that was kept so), F32 outputs or their gradients (logits, scores). */
#define NARROW_LINEAR_CASES(op, run)                                                   \
  LINEAR_CASES(op, run, NARROW), {op, run, {{64, 96, 128}, NARROW | BF16}, 2e-6},      \
      {op, run, {{3, 1100, 300}, NARROW | BF16 | FEW}, 4e-6},                          \
      {op, run, {{40, 64, 72}, NARROW | BF16 | BIAS | STRIDED | ALIGNED}, 2e-6},       \
      {op, run, {{24, 72, 64}, NARROW | BF16 | TRANSPOSED | STRIDED | ALIGNED}, 2e-6}, \
      {op, run, {{128, 64, 8}, NARROW | BF16}, 2e-6}, /* an adapter's thin products */ \
      {op, run, {{128, 8, 64}, NARROW | BF16}, 2e-6},                                  \
      {op, run, {{17, 40, 33}, NARROW | BF16 | BIAS | WIDE_BIAS}, 2e-6},               \
      {op, run, {{9, 64, 300}, NARROW | BF16 | WIDE_OUT | BIAS}, 2e-6},                \
      {op, run, {{70, 64, 1}, NARROW | BF16 | WIDE_OUT}, 2e-6},                        \
      {op, run, {{23, 33, 1}, NARROW | WIDE_OUT}, 2e-6}, {                             \
    op, run, {{0, 64, 1}, NARROW | BF16 | WIDE_OUT}, 2e-6                              \
  }

#define ROWS_LINEAR_CASES(op, run, f)                                                     \
  {op, run, {{1, 20, 7}, f | ROWS | BIAS}, 2e-6}, {op, run, {{5, 1, 1}, f | ROWS}, 2e-6}, \
      {op, run, {{33, 20, 65}, f | ROWS | BIAS | STRIDED}, 2e-6},                         \
      {op, run, {{18, 333, 200}, f | ROWS | TRANSPOSED | STRIDED}, 4e-6},                 \
      {op, run, {{3, 100, 130}, f | ROWS | TRANSPOSED | BIAS}, 2e-6},                     \
      {op, run, {{67, 100, 131}, f | ROWS | BF16 | BIAS | STRIDED}, 2e-6},                \
      {op, run, {{7, 31, 90}, f | ROWS | BF16 | TRANSPOSED | BIAS}, 2e-6},                \
      {op, run, {{2, 3000, 97}, f | ROWS | BF16}, 4e-6}, {                                \
    op, run, {{0, 20, 7}, f | ROWS}, 2e-6                                                 \
  }

#define ADAPTED_CASES(f)                                                                     \
  {"linear_adapted", test_linear_adapted, {{1, 64, 16, 8, 3, 0}, f}, 2e-6},                  \
      {"linear_adapted", test_linear_adapted, {{5, 192, 48, 4, 3, 2}, f | BIAS}, 2e-6},      \
      {"linear_adapted", test_linear_adapted, {{9, 72, 40, 3, 3, 3}, f | STRIDED}, 2e-6},    \
      {"linear_adapted", test_linear_adapted, {{3, 40, 17, 2, 1, 0}, f | TRANSPOSED}, 2e-6}, \
      {"linear_adapted", test_linear_adapted, {{3, 40, 17, 2, 1, 1}, f}, 2e-6}, {            \
    "linear_adapted", test_linear_adapted, {{0, 64, 16, 8, 1, 0}, f}, 2e-6                   \
  }

/* Sums that are rounded once, whatever the tile: that is what the kernels of BF16 rows do with an adapter. */
#define ROWS_ADAPTED_CASES(f)                                                                   \
  {"linear_adapted", test_linear_adapted, {{1, 64, 16, 8, 3, 0}, f}, 2e-6},                     \
      {"linear_adapted", test_linear_adapted, {{5, 192, 48, 4, 3, 2}, f | BIAS}, 2e-6},         \
      {"linear_adapted", test_linear_adapted, {{19, 128, 32, 18, 2, 0}, f}, 2e-6},              \
      {"linear_adapted", test_linear_adapted, {{33, 2048, 80, 16, 2, 0}, f | FEW}, 4e-6},       \
      {"linear_adapted", test_linear_adapted, {{70, 96, 64, 40, 1, 0}, f | BIAS}, 2e-6},        \
      {"linear_adapted", test_linear_adapted, {{130, 64, 128, 6, 3, 0}, f}, 2e-6},              \
      {"linear_adapted", test_linear_adapted, {{200, 64, 512, 64, 2, 1}, f}, 2e-6},             \
      {"linear_adapted", test_linear_adapted, {{9, 70, 48, 2, 3, 3}, f}, 2e-6},                 \
      {"linear_adapted", test_linear_adapted, {{3, 40, 17, 2, 1, 0}, f | TRANSPOSED}, 2e-6},    \
      {"linear_adapted", test_linear_adapted, {{40, 64, 96, 8, 1, 0}, f | TRANSPOSED}, 2e-6}, { \
    "linear_adapted", test_linear_adapted, {{0, 64, 16, 8, 1, 0}, f}, 2e-6                      \
  }

/* F32 products that a processor's matrix unit takes whole, in all three directions. */
#define WHOLE_LINEAR_CASES(op, run)                       \
  {op, run, {{150, 80, 70}, BIAS | STRIDED}, 2e-6}, {     \
    op, run, {{131, 70, 100}, TRANSPOSED | STRIDED}, 2e-6 \
  }

#define PRODUCT_CASES                                                                                     \
  WHOLE_LINEAR_CASES("linear", test_linear),                                                              \
      WHOLE_LINEAR_CASES("linear_backward_input", test_linear_backward_input),                            \
      WHOLE_LINEAR_CASES("linear_backward_weight", test_linear_backward_weight), ADAPTED_CASES(0),        \
      ADAPTED_CASES(ROWS), ROWS_ADAPTED_CASES(NARROW | ROWS | BF16),                                      \
      LINEAR_CASES("linear_add", test_linear_add, 0), NARROW_LINEAR_CASES("linear_add", test_linear_add), \
      LINEAR_CASES("linear", test_linear, 0), LARGE_LINEAR_CASES("linear", test_linear),                  \
      LINEAR_CASES("linear_backward_input", test_linear_backward_input, 0),                               \
      LARGE_LINEAR_CASES("linear_backward_input", test_linear_backward_input),                            \
      LINEAR_CASES("linear_backward_weight", test_linear_backward_weight, 0),                             \
      LARGE_LINEAR_CASES("linear_backward_weight", test_linear_backward_weight),                          \
      NARROW_LINEAR_CASES("linear", test_linear),                                                         \
      NARROW_LINEAR_CASES("linear_backward_input", test_linear_backward_input),                           \
      NARROW_LINEAR_CASES("linear_backward_weight", test_linear_backward_weight),                         \
      ROWS_LINEAR_CASES("linear", test_linear, 0), ROWS_LINEAR_CASES("linear", test_linear, NARROW),      \
      {"linear", test_linear, {{1, 256, 96}, NARROW | ROWS | BF16}, 2e-6}, {                              \
    "linear", test_linear, {{21, 128, 264}, NARROW | ROWS | BF16 | WIDE_OUT | BIAS}, 2e-6                 \
  }

#endif
