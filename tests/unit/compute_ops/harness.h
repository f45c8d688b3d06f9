/* What the operation table test is made of: random tensors, their double-precision copies, a comparison that
 * is itself tested at every use, and finite differences.
 *
 * Gradients are checked against central differences of the double-precision forward reference of the same
 * operation, so a backward needs no second formula. */
#ifndef TESTS_COMPUTE_OPS_HARNESS_H
#define TESTS_COMPUTE_OPS_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "compute/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Options of a row; each kind of case reads those that concern it. */
enum {
  TRANSPOSED = 1,
  BF16 = 2,
  STRIDED = 4,
  BIAS = 8,
  ROWS = 16, /* Compute.row_invariant */
  NO_WEIGHT = 32,
  OFFSET = 64, /* 1 + w */
  HEADS = 128, /* a norm per head of [T,H,D] */
  RMS = 256,
  CAP = 512,
  ALIBI = 1024,
  INTERLEAVED = 2048,
  ENTROPY = 4096,
  F16 = 8192,
  TEMPERATURE = 16384,
  FEW = 32768 /* the reference is slow: finite differences at few elements */
};

typedef struct Shape {
  int64_t size[6];
  int flags;
} Shape;

typedef struct Test {
  Compute c;
  Arena arena;
  Shape shape;
  double tolerance;
  const char *op;
  uint64_t draws;
  int comparisons;
  Tensor guarded[32]; /* tensors with gaps between their rows, which nobody may touch */
  int guards;
} Test;

/* First the plan, then the real thing, as a stage does it. */
#define RUN(t, call)                                \
  do {                                              \
    Error error_ = {0};                             \
    compute_dry_begin(&(t)->c);                     \
    call;                                           \
    assert_true(compute_dry_end(&(t)->c, &error_)); \
    call;                                           \
    assert_int_equal((t)->c.scratch.used, 0);       \
  } while (0)

static inline double draw_normal(Test *t) {
  return (double)random_normal(random_key(7, RANDOM_TEST), 0, t->draws++);
}

static inline double draw_uniform(Test *t) {
  return (double)random_uniform(random_key(8, RANDOM_TEST), 0, t->draws++);
}

static inline double load(Tensor x, int64_t offset) {
  switch (x.dtype) {
    case DTYPE_F32:
      return (double)((float *)x.data)[offset];
    case DTYPE_BF16:
      return (double)float_from_bf16(((uint16_t *)x.data)[offset]);
    case DTYPE_F16:
      return (double)float_from_f16(((uint16_t *)x.data)[offset]);
    case DTYPE_F64:
      return ((double *)x.data)[offset];
    default:
      fail();
      return 0;
  }
}

static inline void store(Tensor x, int64_t offset, double value) {
  switch (x.dtype) {
    case DTYPE_F32:
      ((float *)x.data)[offset] = (float)value;
      break;
    case DTYPE_BF16:
      ((uint16_t *)x.data)[offset] = bf16_from_float((float)value);
      break;
    case DTYPE_F16:
      ((uint16_t *)x.data)[offset] = f16_from_float((float)value);
      break;
    default:
      fail();
  }
}

/* Memory offset of the i-th element in row-major order. */
static inline int64_t offset_of(Tensor x, int64_t i) {
  int64_t offset = 0;
  for (int k = x.rank - 1; k >= 0; k--) {
    offset += i % x.dim[k] * x.stride[k];
    i /= x.dim[k];
  }
  return offset;
}

static inline double at(Tensor x, int64_t i) {
  return load(x, offset_of(x, i));
}

static const float GAP = 12345.0f; /* what fills the gaps: representable in every type used */

/* Normal random numbers; with flag STRIDED in the test's shape, rows (or heads) lie apart. */
static inline Tensor random_tensor(Test *t, DType dtype, int rank, int64_t a, int64_t b, int64_t c,
                                   double scale) {
  bool apart = (t->shape.flags & STRIDED) && rank > 1;
  int64_t gap = apart ? 5 : 0, dim[] = {a, b, c};
  Tensor x = {.dtype = dtype, .rank = rank};
  int64_t stride = 1;
  for (int k = rank - 1; k >= 0; k--) {
    x.dim[k] = dim[k];
    x.stride[k] = stride;
    stride = stride * dim[k] + (k > 0 ? gap : 0);
  }
  Tensor whole = tensor_new_1d(&t->arena, dtype, stride + 8);
  for (int64_t i = 0; i < whole.dim[0]; i++) store(whole, i, (double)GAP);
  x.data = whole.data;
  for (int64_t i = 0; i < tensor_count(x); i++) store(x, offset_of(x, i), scale * draw_normal(t));
  assert_in_range(t->guards, 0, 30);
  t->guarded[t->guards++] = x;
  return x;
}

static inline Tensor random_1d(Test *t, DType dtype, int64_t n, double scale) {
  return random_tensor(t, dtype, 1, n, 1, 1, scale);
}
static inline Tensor random_2d(Test *t, int64_t a, int64_t b) {
  return random_tensor(t, DTYPE_F32, 2, a, b, 1, 1.0);
}
static inline Tensor random_3d(Test *t, int64_t a, int64_t b, int64_t c) {
  return random_tensor(t, DTYPE_F32, 3, a, b, c, 1.0);
}

/* What is overwritten must not be read: NaN would spread. */
static inline void poison(Tensor x) {
  for (int64_t i = 0; i < tensor_count(x); i++) store(x, offset_of(x, i), NAN);
}

static inline Tensor ids_tensor(Test *t, int64_t n) {
  return tensor_new_1d(&t->arena, DTYPE_I32, n);
}
static inline int32_t *ids_of(Tensor x) {
  return (int32_t *)x.data;
}

/* Every element that is not part of a tensor still holds GAP, beyond its end too. */
static inline void check_guards(Test *t) {
  for (int g = 0; g < t->guards; g++) {
    Tensor x = t->guarded[g];
    int64_t count = tensor_count(x), end = count ? offset_of(x, count - 1) + 1 : 0, next = 0;
    for (int64_t i = 0; i < count; i++) {
      int64_t offset = offset_of(x, i);
      for (; next < offset; next++) assert_true(load(x, next) == load(x, end)); /* both GAP */
      next = offset + 1;
    }
    Tensor gap = {.data = (float[1]){GAP}, .dtype = DTYPE_F32};
    if (x.dtype == DTYPE_F32) assert_true(load(x, end) == load(gap, 0));
  }
}

/* A contiguous double-precision copy. */
static inline double *doubles(Test *t, Tensor x) {
  int64_t n = tensor_is_none(x) ? 0 : tensor_count(x);
  double *copy = arena_alloc(&t->arena, (size_t)(n + 1) * sizeof *copy);
  for (int64_t i = 0; i < n; i++) copy[i] = at(x, i);
  return copy;
}

static inline double *zeros(Test *t, int64_t n) {
  double *x = arena_alloc(&t->arena, (size_t)(n + 1) * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = 0;
  return x;
}

/* -- the comparison -- */

/* Root mean square of x, and at least `floor`: what an error is measured by, beside the element itself. */
static inline double magnitude(const double *x, int64_t n, double floor) {
  double squares = 0;
  for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
  return fmax(sqrt(squares / (double)(n ? n : 1)), floor);
}

/* The largest |actual - expected| / (|expected| + magnitude); NaN counts as infinite. */
static inline double difference(const double *expected, const double *actual, int64_t n, double floor) {
  double worst = 0, base = magnitude(expected, n, floor);
  for (int64_t i = 0; i < n; i++) {
    double d = fabs(actual[i] - expected[i]) / (fabs(expected[i]) + base);
    if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
  }
  return worst;
}

/* Compares, and shows that the comparison can fail: one element moved by three tolerances must be noticed. */
static inline void compare_arrays(Test *t, const char *what, const double *expected, double *actual,
                                  int64_t n, double floor) {
  double worst = difference(expected, actual, n, floor);
  if (!(worst <= t->tolerance)) {
    print_error("%s, %s: %s differs by %g (tolerance %g)\n", t->op, t->c.backend->name, what, worst,
                t->tolerance);
    for (int i = 0; i < 6; i++) print_error("  size %d: %d\n", i, (int)t->shape.size[i]);
    print_error("  flags: %d\n", t->shape.flags);
    fail();
  }
  t->comparisons++;
  if (n == 0) return;
  int64_t i = (int64_t)(draw_uniform(t) * (double)n);
  double kept = actual[i];
  actual[i] += 3 * t->tolerance * (fabs(expected[i]) + magnitude(expected, n, floor));
  assert_true(difference(expected, actual, n, floor) > t->tolerance);
  actual[i] = NAN;
  assert_true(difference(expected, actual, n, floor) > t->tolerance);
  actual[i] = kept;
}

static const double TINY = 1e-30;

static inline void compare(Test *t, const char *what, const double *expected, Tensor actual) {
  compare_arrays(t, what, expected, doubles(t, actual), tensor_count(actual), TINY);
}

/* -- gradients -- */

/* The loss of a reference: sum of output * weights, from the double arrays in `context`. */
typedef double (*Loss)(void *context);

static inline double central_difference(double *x, Loss loss, void *context) {
  const double step = 1e-4;
  double kept = *x;
  *x = kept + step;
  double up = loss(context);
  *x = kept - step;
  double down = loss(context);
  *x = kept;
  return (up - down) / (2 * step);
}

/* Checks actual = factor * d loss / d x + beta * before (before may be NULL) at about 150 elements. */
static inline void compare_gradient(Test *t, const char *what, double *x, Tensor actual, double factor,
                                    const double *before, double beta, Loss loss, void *context) {
  int64_t n = tensor_count(actual), limit = t->shape.flags & FEW ? 4 : 150, step = n > limit ? n / limit : 1;
  double *expected = zeros(t, n), *got = zeros(t, n);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += step) {
    expected[count] = factor * central_difference(x + i, loss, context) + (before ? beta * before[i] : 0);
    got[count++] = at(actual, i);
  }
  /* Inputs are of order 1; a gradient that is exactly zero meets the noise of the differences. */
  compare_arrays(t, what, expected, got, count, 0.2);
}

static inline double dot(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* One row of the table. */
typedef struct Case {
  const char *op;
  void (*run)(Test *t);
  Shape shape;
  double tolerance;
} Case;

#endif
