/* activation, gated and their backwards, axpby, fill, clamp, clamp_backward, dropout, softcap. Sizes: rows,
 * columns, kind of activation. */
#ifndef TESTS_COMPUTE_OPS_POINTWISE_H
#define TESTS_COMPUTE_OPS_POINTWISE_H

#include "harness.h"
#include "tests/support/draws.h"

static inline double curve_ref(Activation kind, double x) {
  switch (kind) {
    case ACTIVATION_SILU:
      return x / (1 + exp(-x));
    case ACTIVATION_GELU:
      return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACTIVATION_GELU_TANH:
      return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_RELU:
      return x > 0 ? x : 0;
    case ACTIVATION_RELU_SQUARED:
      return x > 0 ? x * x : 0;
  }
  return 0;
}

typedef struct CurveRef {
  int64_t n;
  Activation kind;
  double *x, *up, *dy; /* up or NULL */
} CurveRef;

static inline double curve_loss(void *context) {
  CurveRef *r = context;
  double sum = 0;
  for (int64_t i = 0; i < r->n; i++) sum += curve_ref(r->kind, r->x[i]) * (r->up ? r->up[i] : 1) * r->dy[i];
  return sum;
}

typedef struct CurveCase {
  Tensor x, up, out, dy, dx;
  CurveRef ref;
  double *expected;
} CurveCase;

/* Zero and inputs far out on both sides among them; but none near the kink of relu (or of the slope of
 * its square), where a difference over a step takes in both sides. */
static inline CurveCase curve_case(Test *t) {
  int64_t rows = t->shape.size[0], columns = t->shape.size[1];
  CurveCase k = {.x = random_2d(t, rows, columns),
                 .up = random_2d(t, rows, columns),
                 .out = random_2d(t, rows, columns),
                 .dy = random_2d(t, rows, columns),
                 .dx = random_2d(t, rows, columns)};
  int64_t n = rows * columns;
  for (int64_t i = 0; i < n; i++) {
    double spread = i == 0 ? 0 : i % 7 == 0 ? 6 : i % 11 == 0 ? 60 : 1, x = spread * at(t, k.x, i);
    if (t->shape.size[2] >= ACTIVATION_RELU && fabs(x) < 0.01) x += 0.02;
    store(t, k.x, offset_of(k.x, i), x);
  }
  k.ref = (CurveRef){.n = n, .kind = (Activation)t->shape.size[2]};
  k.ref.x = doubles(t, k.x);
  k.ref.dy = doubles(t, k.dy);
  k.expected = zeros(t, n);
  return k;
}

static void test_activation(Test *t) {
  CurveCase k = curve_case(t);
  for (int64_t i = 0; i < k.ref.n; i++) k.expected[i] = curve_ref(k.ref.kind, k.ref.x[i]);
  poison(t, k.out);
  RUN(t, op_activation(&t->c, k.out, k.x, k.ref.kind));
  compare(t, "out", k.expected, k.out);
  RUN(t, op_activation(&t->c, k.x, k.x, k.ref.kind));
  compare(t, "out in place", k.expected, k.x);
}

static void test_activation_backward(Test *t) {
  CurveCase k = curve_case(t);
  poison(t, k.dx);
  RUN(t, op_activation_backward(&t->c, k.dx, k.dy, k.x, k.ref.kind));
  compare_gradient(t, "dx", k.ref.x, k.dx, 1, NULL, 0, curve_loss, &k.ref);
  RUN(t, op_activation_backward(&t->c, k.dy, k.dy, k.x, k.ref.kind));
  compare_gradient(t, "dx in place", k.ref.x, k.dy, 1, NULL, 0, curve_loss, &k.ref);
}

static void test_gated(Test *t) {
  CurveCase k = curve_case(t);
  for (int64_t i = 0; i < k.ref.n; i++) k.expected[i] = curve_ref(k.ref.kind, k.ref.x[i]) * at(t, k.up, i);
  poison(t, k.out);
  RUN(t, op_gated(&t->c, k.out, k.x, k.up, k.ref.kind));
  compare(t, "out", k.expected, k.out);
  RUN(t, op_gated(&t->c, k.up, k.x, k.up, k.ref.kind));
  compare(t, "out in place", k.expected, k.up);
}

static void test_gated_backward(Test *t) {
  CurveCase k = curve_case(t);
  k.ref.up = doubles(t, k.up);
  poison(t, k.dx);
  poison(t, k.out);
  RUN(t, op_gated_backward(&t->c, k.dx, k.out, k.dy, k.x, k.up, k.ref.kind));
  compare_gradient(t, "dgate", k.ref.x, k.dx, 1, NULL, 0, curve_loss, &k.ref);
  compare_gradient(t, "dup", k.ref.up, k.out, 1, NULL, 0, curve_loss, &k.ref);
  RUN(t, op_gated_backward(&t->c, k.x, k.up, k.dy, k.x, k.up, k.ref.kind));
  compare_gradient(t, "dgate in place", k.ref.x, k.x, 1, NULL, 0, curve_loss, &k.ref);
  compare_gradient(t, "dup in place", k.ref.up, k.up, 1, NULL, 0, curve_loss, &k.ref);
}

static void test_axpby(Test *t) {
  int64_t rows = t->shape.size[0], columns = t->shape.size[1], n = rows * columns;
  DType from = t->shape.flags & F16 ? DTYPE_F16 : t->shape.flags & BF16 ? DTYPE_BF16 : DTYPE_F32;
  for (int to = 0; to < 2; to++) {
    DType into = to ? DTYPE_BF16 : DTYPE_F32;
    Tensor x = random_tensor(t, from, 2, rows, columns, 1, 1),
           out = random_tensor(t, into, 2, rows, columns, 1, 1);
    double *expected = doubles(t, x), *before = doubles(t, out);
    for (int64_t i = 0; i < n; i++) expected[i] = 2 * expected[i] - 0.5 * before[i];
    RUN(t, op_axpby(&t->c, out, out, 0.5f, 0.5f)); /* leaves it as it is */
    RUN(t, op_axpby(&t->c, out, x, 2.0f, -0.5f));
    compare(t, "out", expected, out);
    poison(t, out);
    RUN(t, op_axpby(&t->c, out, x, 1.0f, 0.0f));
    expected = doubles(t, x);
    for (int64_t i = 0; i < n; i++) expected[i] = rounded(into, expected[i]);
    compare_exact(t, "cast", expected, out);
  }
}

static void test_fill(Test *t) {
  Tensor x = random_2d(t, t->shape.size[0], t->shape.size[1]);
  double *expected = doubles(t, x);
  for (int64_t i = 0; i < tensor_count(x); i++) expected[i] = -1.5;
  poison(t, x);
  RUN(t, op_fill(&t->c, x, -1.5f));
  compare(t, "x", expected, x);
}

static void test_clamp(Test *t) {
  Tensor x = random_2d(t, t->shape.size[0], t->shape.size[1]);
  double *expected = doubles(t, x);
  for (int64_t i = 0; i < tensor_count(x); i++) expected[i] = fmax(-0.75, fmin(0.75, expected[i]));
  RUN(t, op_clamp(&t->c, x, 0.75f));
  compare(t, "x", expected, x);
}

static void test_clamp_backward(Test *t) {
  Tensor y = random_2d(t, t->shape.size[0], t->shape.size[1]);
  Tensor dx = random_2d(t, t->shape.size[0], t->shape.size[1]);
  RUN(t, op_clamp(&t->c, y, 0.75f));
  double *expected = doubles(t, dx);
  for (int64_t i = 0; i < tensor_count(y); i++) {
    if (fabs(at(t, y, i)) >= 0.75) expected[i] = 0;
  }
  RUN(t, op_clamp_backward(&t->c, dx, y, 0.75f));
  compare(t, "dx", expected, dx);
}

static void test_dropout(Test *t) {
  int64_t rows = t->shape.size[0], columns = t->shape.size[1];
  Tensor x = random_2d(t, rows, columns), out = random_2d(t, rows, columns);
  DropoutSpec spec = {.p = 0.3f,
                      .key = random_key(3, RANDOM_DROPOUT),
                      .site = 17,
                      .draws = ids_tensor(t, rows),
                      .positions = ids_tensor(t, rows)};
  int32_t *draws = ids_of(t, spec.draws), *positions = ids_of(t, spec.positions);
  double *expected = doubles(t, x), *added = doubles(t, x);
  Tensor sum = random_2d(t, rows, columns);
  double *before = doubles(t, sum);
  for (int64_t row = 0; row < rows; row++) {
    draws[row] = (int32_t)(row - 2); /* the largest numbers too */
    positions[row] = (int32_t)(7 * row);
    for (int64_t i = 0; i < columns; i++) {
      const int64_t at = row * columns + i;
      const bool kept = dropout_draw(spec.key, 17, draws[row], positions[row], i) >= 0.3f;
      expected[at] = kept ? expected[at] / 0.7 : 0;
      added[at] = expected[at] - 1.5 * before[at];
    }
  }
  poison(t, out);
  RUN(t, op_dropout(&t->c, out, x, spec, 0));
  compare(t, "out", expected, out);
  RUN(t, op_dropout(&t->c, sum, x, spec, -1.5f));
  compare(t, "out with beta", added, sum);
  RUN(t, op_dropout(&t->c, x, x, spec, 0));
  compare(t, "out in place", expected, x);
}

static void test_softcap(Test *t) {
  Tensor x = random_2d(t, t->shape.size[0], t->shape.size[1]);
  double *expected = doubles(t, x);
  for (int64_t i = 0; i < tensor_count(x); i++) expected[i] = 0.5 * tanh(expected[i] / 0.5);
  RUN(t, op_softcap(&t->c, x, 0.5f));
  compare(t, "x", expected, x);
}

#define POINTWISE_SHAPES(op, run, f, tolerance)                                                              \
  {op, run, {{1, 1, 0}, f}, tolerance}, {op, run, {{1, 20, 0}, f}, tolerance},                               \
      {op, run, {{13, 33, 0}, f | STRIDED}, tolerance}, {op, run, {{3, 5000, 0}, f | STRIDED}, tolerance},   \
      {op, run, {{5, 3001, 0}, f}, tolerance}, {op, run, {{6, 264, 0}, f | STRIDED | ALIGNED}, tolerance}, { \
    op, run, {{0, 20, 0}, f}, tolerance                                                                      \
  }

#define CURVE_SHAPES(op, run, f, tolerance)                                    \
  {op, run, {{1, 1, ACTIVATION_SILU}, f}, tolerance},                          \
      {op, run, {{7, 33, ACTIVATION_SILU}, f | STRIDED}, tolerance},           \
      {op, run, {{7, 33, ACTIVATION_GELU}, f | STRIDED}, tolerance},           \
      {op, run, {{7, 33, ACTIVATION_GELU_TANH}, f | STRIDED}, tolerance},      \
      {op, run, {{7, 33, ACTIVATION_RELU}, f | STRIDED}, tolerance},           \
      {op, run, {{7, 33, ACTIVATION_RELU_SQUARED}, f | STRIDED}, tolerance},   \
      {op, run, {{5, 72, ACTIVATION_SILU}, f | STRIDED | ALIGNED}, tolerance}, \
      {op, run, {{2, 5000, ACTIVATION_GELU}, f}, tolerance}, {                 \
    op, run, {{0, 20, ACTIVATION_GELU_TANH}, f}, tolerance                     \
  }

#define CURVE_CASES(f)                                                                              \
  CURVE_SHAPES("activation", test_activation, f, 5e-7),                                             \
      CURVE_SHAPES("activation_backward", test_activation_backward, f, 1e-6),                       \
      CURVE_SHAPES("gated", test_gated, f, 5e-7),                                                   \
      CURVE_SHAPES("gated_backward", test_gated_backward, f, 1e-6),                                 \
      POINTWISE_SHAPES("fill", test_fill, f, 1e-9), POINTWISE_SHAPES("clamp", test_clamp, f, 1e-9), \
      POINTWISE_SHAPES("clamp_backward", test_clamp_backward, f, 1e-9),                             \
      POINTWISE_SHAPES("dropout", test_dropout, f, 2e-7)

/* axpby goes through both types by itself; what softcap works on is always F32. */
#define POINTWISE_CASES                                                                \
  CURVE_CASES(0), CURVE_CASES(NARROW), POINTWISE_SHAPES("axpby", test_axpby, 0, 1e-6), \
      {"axpby", test_axpby, {{9, 35, 0}, BF16 | STRIDED}, 1e-6},                       \
      {"axpby", test_axpby, {{9, 40, 0}, BF16 | STRIDED | ALIGNED}, 1e-6},             \
      {"axpby", test_axpby, {{9, 35, 0}, F16 | STRIDED}, 1e-6},                        \
      POINTWISE_SHAPES("softcap", test_softcap, 0, 5e-7)

#endif
