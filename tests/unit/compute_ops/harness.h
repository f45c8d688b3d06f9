/* What the operation table test is made of: random tensors, their double-precision copies, a comparison that
 * is itself tested at every use, and finite differences.
 *
 * Gradients are checked against central differences of the double-precision forward reference of the same
 * operation, so a backward needs no second formula.
 *
 * What an operation is given lies in device memory, in t->arena. The host reads and writes a mirror of that
 * arena (`load`, `store`, `ids_of` ...; on a CPU backend the mirror is the arena itself), which RUN copies to
 * the device before the call and back after it. Double-precision copies lie in t->host. */
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
  TRANSPOSED = 1 << 0,
  BF16 = 1 << 1, /* weights, caches */
  STRIDED = 1 << 2,
  BIAS = 1 << 3,
  ROWS = 1 << 4, /* Compute.row_invariant */
  NO_WEIGHT = 1 << 5,
  OFFSET = 1 << 6, /* 1 + w */
  HEADS = 1 << 7,  /* a norm per head of [T,H,D] */
  RMS = 1 << 8,
  CAP = 1 << 9,
  ALIBI = 1 << 10,
  INTERLEAVED = 1 << 11,
  ENTROPY = 1 << 12,
  F16 = 1 << 13,
  TEMPERATURE = 1 << 14,
  FEW = 1 << 15,       /* the reference is slow: finite differences at few elements */
  NARROW = 1 << 16,    /* activations are bf16: only where the backend has such */
  WIDE_OUT = 1 << 17,  /* F32 logits of bf16 activations */
  WIDE_BIAS = 1 << 18, /* F32 bias beside a bf16 weight */
  ALIGNED = 1 << 19,   /* with STRIDED: gaps of 48 or 96 bytes, as between the parts of a fused projection */
  THIN = 1 << 20,      /* a head with an adapter's product */
  BY_PLACE = 1 << 21,  /* with ALIBI: the bias by the key's place */
  EIGHT = 1 << 22,     /* a cache in 8 bits */
  PADDED = 1 << 23,    /* a head's table with zeros behind it */
  EDITED = 1 << 24     /* a head's logits, before they are a distribution */
};

typedef struct Shape {
  int64_t size[6];
  int flags;
} Shape;

typedef struct Test {
  Compute c;
  Arena arena;  /* device memory: tensors */
  char *mirror; /* of the arena, on the host */
  Arena host;   /* everything else */
  Shape shape;
  double tolerance;
  const char *op;
  uint64_t draws;
  int comparisons, failures;
  Tensor guarded[32]; /* tensors with gaps between their rows, which nobody may touch */
  int guards;
} Test;

static inline bool test_on_device(const Test *t) {
  return t->mirror != t->arena.base;
}

/* The part of the arena in use. */
static inline Tensor test_memory(const Test *t) {
  return tensor_1d(t->arena.base, DTYPE_U8, (int64_t)t->arena.used);
}

static inline void test_upload(Test *t) {
  if (test_on_device(t)) compute_upload(&t->c, test_memory(t), t->mirror);
}

static inline void test_download(Test *t) {
  if (test_on_device(t)) compute_download(&t->c, t->mirror, test_memory(t));
}

/* First the plan, then the real thing, as a stage does it. */
#define RUN(t, call)                                \
  do {                                              \
    Error error_ = {0};                             \
    compute_dry_begin(&(t)->c);                     \
    call;                                           \
    assert_true(compute_dry_end(&(t)->c, &error_)); \
    test_upload(t);                                 \
    call;                                           \
    test_download(t);                               \
    assert_int_equal((t)->c.scratch.used, 0);       \
  } while (0)

/* The host's place of what lies at a device address. */
static inline void *host_of(const Test *t, const void *device) {
  size_t offset = (size_t)((const char *)device - t->arena.base);
  assert_true(offset <= t->arena.used);
  return t->mirror + offset;
}

static inline double draw_normal(Test *t) {
  return (double)random_normal(random_key(7, RANDOM_TEST), 0, t->draws++);
}

static inline double draw_uniform(Test *t) {
  return (double)random_uniform(random_key(8, RANDOM_TEST), 0, t->draws++);
}

static inline double load(const Test *t, Tensor x, int64_t offset) {
  const void *data = host_of(t, x.data);
  switch (x.dtype) {
    case DTYPE_F32:
      return (double)((const float *)data)[offset];
    case DTYPE_BF16:
      return (double)float_from_bf16(((const uint16_t *)data)[offset]);
    case DTYPE_F16:
      return (double)float_from_f16(((const uint16_t *)data)[offset]);
    case DTYPE_F64:
      return ((const double *)data)[offset];
    case DTYPE_I8:
      return ((const int8_t *)data)[offset];
    default:
      fail();
      return 0;
  }
}

static inline void store(const Test *t, Tensor x, int64_t offset, double value) {
  void *data = host_of(t, x.data);
  switch (x.dtype) {
    case DTYPE_F32:
      ((float *)data)[offset] = (float)value;
      break;
    case DTYPE_BF16:
      ((uint16_t *)data)[offset] = bf16_from_float((float)value);
      break;
    case DTYPE_F16:
      ((uint16_t *)data)[offset] = f16_from_float((float)value);
      break;
    case DTYPE_F64:
      ((double *)data)[offset] = value;
      break;
    case DTYPE_I8:
      ((int8_t *)data)[offset] = (int8_t)value;
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

static inline double at(const Test *t, Tensor x, int64_t i) {
  return load(t, x, offset_of(x, i));
}

static const float GAP = 121.0f; /* what fills the gaps: representable in every type used */

/* Normal random numbers; with flag STRIDED in the test's shape, rows (or heads) lie apart. */
static inline Tensor random_tensor(Test *t, DType dtype, int rank, int64_t a, int64_t b, int64_t c,
                                   double scale) {
  bool apart = (t->shape.flags & STRIDED) && rank > 1;
  int64_t gap = apart ? (t->shape.flags & ALIGNED ? 24 : 5) : 0, dim[] = {a, b, c};
  Tensor x = {.dtype = dtype, .rank = rank};
  int64_t stride = 1;
  for (int k = rank - 1; k >= 0; k--) {
    x.dim[k] = dim[k];
    x.stride[k] = stride;
    stride = stride * dim[k] + (k > 0 ? gap : 0);
  }
  Tensor whole = tensor_new_1d(&t->arena, dtype, stride + 8);
  for (int64_t i = 0; i < whole.dim[0]; i++) store(t, whole, i, (double)GAP);
  x.data = whole.data;
  for (int64_t i = 0; i < tensor_count(x); i++) store(t, x, offset_of(x, i), scale * draw_normal(t));
  assert_in_range(t->guards, 0, 30);
  t->guarded[t->guards++] = x;
  return x;
}

static inline Tensor random_1d(Test *t, DType dtype, int64_t n, double scale) {
  return random_tensor(t, dtype, 1, n, 1, 1, scale);
}

/* Activations. */
static inline DType activation_dtype(const Test *t) {
  return t->shape.flags & NARROW ? DTYPE_BF16 : DTYPE_F32;
}
static inline Tensor random_2d(Test *t, int64_t a, int64_t b) {
  return random_tensor(t, activation_dtype(t), 2, a, b, 1, 1.0);
}
static inline Tensor random_3d(Test *t, int64_t a, int64_t b, int64_t c) {
  return random_tensor(t, activation_dtype(t), 3, a, b, c, 1.0);
}

/* What is overwritten must not be read: NaN would spread. */
static inline void poison(const Test *t, Tensor x) {
  for (int64_t i = 0; i < tensor_count(x); i++) store(t, x, offset_of(x, i), NAN);
}

static inline Tensor ids_tensor(Test *t, int64_t n) {
  return tensor_new_1d(&t->arena, DTYPE_I32, n);
}
static inline int32_t *ids_of(const Test *t, Tensor x) {
  return host_of(t, x.data);
}

static inline void report(Test *t, const char *what, double difference) {
  t->failures++;
  if (t->failures > 40) return;
  const int64_t *s = t->shape.size;
  print_error("%s, %s: %s differs by %g (tolerance %g); sizes %d %d %d %d %d %d, flags %#x\n", t->op,
              t->c.backend->name, what, difference, t->tolerance, (int)s[0], (int)s[1], (int)s[2], (int)s[3],
              (int)s[4], (int)s[5], t->shape.flags);
}

/* Every element that is not part of a tensor still holds GAP, beyond its end too. */
static inline void check_guards(Test *t) {
  for (int g = 0; g < t->guards; g++) {
    Tensor x = t->guarded[g];
    int64_t count = tensor_count(x), next = 0, touched = 0;
    for (int64_t i = 0; i <= count; i++) { /* up to element i; at last the 8 beyond the end */
      int64_t offset = i < count ? offset_of(x, i) : next + 8;
      for (; next < offset; next++) touched += load(t, x, next) != (double)GAP;
      next = offset + 1;
    }
    if (touched) report(t, "the gaps between rows", (double)touched);
  }
}

static inline double *zeros(Test *t, int64_t n) {
  double *x = arena_alloc(&t->host, (size_t)(n + 1) * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = 0;
  return x;
}

/* A contiguous double-precision copy. */
static inline double *doubles(Test *t, Tensor x) {
  int64_t n = tensor_is_none(x) ? 0 : tensor_count(x);
  double *copy = zeros(t, n);
  for (int64_t i = 0; i < n; i++) copy[i] = at(t, x, i);
  return copy;
}

/* -- the comparison -- */

/* Root mean square of x, and at least `floor`: what an error is measured by, beside the element itself. */
static inline double magnitude(const double *x, int64_t n, double floor) {
  double squares = 0;
  for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
  return fmax(sqrt(squares / (double)(n ? n : 1)), floor);
}

/* The most that rounding to nearest in the type may move a value: half the distance of its neighbours. That of
 * fp32 is part of the tolerances. */
static inline double rounding(DType type, double value) {
  int exponent = 0;
  if (type != DTYPE_BF16 || value == 0 || !isfinite(value)) return 0;
  frexp(value, &exponent);
  return ldexp(1, exponent - 9); /* eight bits of mantissa */
}

/* Where an operation rounds the terms of its sums to bf16 on their way into the tensor cores (which ops.h allows
 * for probabilities and for gradients of scores and logits): the root mean square of one term's relative error.
 * Uniform within 2^-8 over the mantissa, mantissas spread evenly over their logarithms. Errors of n terms add up as
 * their squares do, to that of sqrt(sum of the terms' squares), which a reference gives as `noise`. */
static const double TERM_ROUNDING = 1.66e-3;
/* Five times their root mean square is beyond what 10^6 results meet, and beyond the 2^-8 of a single term. */
static const double NOISE_LIMIT = 5;

/* What the i-th result may differ by before the tolerance: rounding to its type, and noise (or NULL). */
static inline double slack(DType type, const double *expected, const double *noise, int64_t i) {
  return rounding(type, expected[i]) + (noise ? NOISE_LIMIT * TERM_ROUNDING * noise[i] : 0);
}

/* The largest (|actual - expected| - slack) / (|expected| + magnitude); NaN counts as infinite. */
static inline double difference(DType type, const double *expected, const double *noise, const double *actual,
                                int64_t n, double floor) {
  double worst = 0, base = magnitude(expected, n, floor);
  for (int64_t i = 0; i < n; i++) {
    double d = fabs(actual[i] - expected[i]) - slack(type, expected, noise, i);
    d /= fabs(expected[i]) + base;
    if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
  }
  return worst;
}

/* Compares results of a type, and shows that the comparison can fail: one element moved by three tolerances (and
 * from one end of the slack to the other) must be noticed. */
static inline void compare_noisy(Test *t, const char *what, DType type, const double *expected,
                                 const double *noise, double *actual, int64_t n, double floor) {
  double worst = difference(type, expected, noise, actual, n, floor);
  t->comparisons++;
  if (!(worst <= t->tolerance)) {
    report(t, what, worst);
    return;
  }
  if (n == 0) return;
  int64_t i = (int64_t)(draw_uniform(t) * (double)n);
  double kept = actual[i];
  actual[i] += 3 * t->tolerance * (fabs(expected[i]) + magnitude(expected, n, floor)) +
               2 * slack(type, expected, noise, i);
  assert_true(difference(type, expected, noise, actual, n, floor) > t->tolerance);
  actual[i] = NAN;
  assert_true(difference(type, expected, noise, actual, n, floor) > t->tolerance);
  actual[i] = kept;
}

static inline void compare_arrays(Test *t, const char *what, DType type, const double *expected,
                                  double *actual, int64_t n, double floor) {
  compare_noisy(t, what, type, expected, NULL, actual, n, floor);
}

static const double TINY = 1e-30;

/* `expected` is the exact result: in the type of `actual` it may be rounded once. */
static inline void compare(Test *t, const char *what, const double *expected, Tensor actual) {
  compare_arrays(t, what, actual.dtype, expected, doubles(t, actual), tensor_count(actual), TINY);
}

/* `expected` is the result as rounded: for copies and casts. */
static inline void compare_exact(Test *t, const char *what, const double *expected, Tensor actual) {
  double tolerance = t->tolerance;
  t->tolerance = 1e-9;
  compare_arrays(t, what, DTYPE_F64, expected, doubles(t, actual), tensor_count(actual), TINY);
  t->tolerance = tolerance;
}

/* The value as a tensor of the type holds it. */
static inline double rounded(DType type, double value) {
  return type == DTYPE_BF16 ? (double)float_from_bf16(bf16_from_float((float)value)) : value;
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

/* Checks actual = factor * d loss / d x + beta * before (before may be NULL) at the first element, the last, and
 * some between, or at all where those are few. */
static inline void compare_gradient(Test *t, const char *what, double *x, Tensor actual, double factor,
                                    const double *before, double beta, Loss loss, void *context) {
  int64_t n = tensor_count(actual), limit = t->shape.flags & FEW ? 2 : 24, count = n < limit ? n : limit;
  double *expected = zeros(t, count), *got = zeros(t, count);
  for (int64_t k = 0; k < count; k++) {
    int64_t i = n <= limit || k == 0 ? k : k == 1 ? n - 1 : (int64_t)(draw_uniform(t) * (double)n);
    expected[k] = factor * central_difference(x + i, loss, context) + (before ? beta * before[i] : 0);
    got[k] = at(t, actual, i);
  }
  /* Inputs are of order 1; a gradient that is exactly zero meets the noise of the differences. */
  compare_arrays(t, what, actual.dtype, expected, got, count, 0.2);
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
