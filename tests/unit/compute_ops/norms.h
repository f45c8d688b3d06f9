/* norm, norm_pair, norm_backward, rotary. Sizes: rows (or T), H (heads; else 1), C (or D), rotary pairs. */
#ifndef TESTS_COMPUTE_OPS_NORMS_H
#define TESTS_COMPUTE_OPS_NORMS_H

#include "harness.h"

typedef struct NormRef {
  int64_t rows, n;
  double *x, *weight, *bias, *dy, *out;
  NormSpec spec;
} NormRef;

static inline void norm_ref(NormRef *r) {
  for (int64_t t = 0; t < r->rows; t++) {
    double *x = r->x + t * r->n, mean = 0, square = 0;
    for (int64_t i = 0; i < r->n; i++) mean += x[i] / (double)r->n;
    if (r->spec.kind == NORM_RMS) mean = 0;
    for (int64_t i = 0; i < r->n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)r->n;
    for (int64_t i = 0; i < r->n; i++) {
      double y = (x[i] - mean) / sqrt(square + (double)r->spec.eps);
      if (r->weight) y *= r->weight[i] + (double)r->spec.weight_offset;
      r->out[t * r->n + i] = y + (r->bias ? r->bias[i] : 0);
    }
  }
}

static inline double norm_loss(void *context) {
  NormRef *r = context;
  norm_ref(r);
  return dot(r->out, r->dy, r->rows * r->n);
}

typedef struct NormCase {
  Tensor x, y, mean, rstd, weight, bias;
  NormSpec spec;
  NormRef ref;
} NormCase;

static inline Tensor norm_tensor(Test *t) {
  const int64_t *s = t->shape.size;
  return t->shape.flags & HEADS ? random_3d(t, s[0], s[1], s[2]) : random_2d(t, s[0], s[2]);
}

static inline NormCase norm_case(Test *t) {
  int flags = t->shape.flags;
  int64_t n = t->shape.size[2];
  DType dtype = flags & BF16 ? DTYPE_BF16 : DTYPE_F32;
  NormCase k = {.x = norm_tensor(t), .y = norm_tensor(t)};
  k.spec = (NormSpec){.kind = flags & RMS ? NORM_RMS : NORM_LAYER,
                      .eps = 1e-5f,
                      .weight_offset = flags & OFFSET ? 1.0f : 0.0f};
  int64_t rows = tensor_count(k.x) / n;
  if (!(flags & NO_WEIGHT)) k.weight = random_1d(t, dtype, n, 1);
  if (flags & BIAS) k.bias = random_1d(t, dtype, n, 1);
  k.rstd = random_1d(t, DTYPE_F32, rows, 1);
  if (k.spec.kind == NORM_LAYER) k.mean = random_1d(t, DTYPE_F32, rows, 1);
  k.ref = (NormRef){.rows = rows, .n = n, .x = doubles(t, k.x), .dy = doubles(t, k.y), .spec = k.spec};
  k.ref.weight = flags & NO_WEIGHT ? NULL : doubles(t, k.weight);
  k.ref.bias = flags & BIAS ? doubles(t, k.bias) : NULL;
  k.ref.out = zeros(t, rows * n);
  return k;
}

static void test_norm(Test *t) {
  NormCase k = norm_case(t);
  poison(t, k.y);
  RUN(t, op_norm(&t->c, k.y, k.mean, k.rstd, k.x, k.weight, k.bias, k.spec));
  norm_ref(&k.ref);
  compare(t, "out", k.ref.out, k.y);
  Tensor none = {0}, again = norm_tensor(t);
  RUN(t, op_norm(&t->c, again, none, none, k.x, k.weight, k.bias, k.spec));
  compare(t, "out without statistics", k.ref.out, again);
}

/* The second has one head more than the first. */
static void test_norm_pair(Test *t) {
  NormCase k[2];
  for (int i = 0; i < 2; i++) {
    k[i] = norm_case(t);
    poison(t, k[i].y);
    t->shape.size[1]++;
  }
  t->shape.size[1] -= 2;
  NormTerms terms[2];
  for (int i = 0; i < 2; i++)
    terms[i] = (NormTerms){k[i].y, k[i].mean, k[i].rstd, k[i].x, k[i].weight, k[i].bias};
  RUN(t, op_norm_pair(&t->c, terms[0], terms[1], k[0].spec));
  for (int i = 0; i < 2; i++) {
    norm_ref(&k[i].ref);
    compare(t, i ? "second" : "first", k[i].ref.out, k[i].y);
    double *rstd = doubles(t, k[i].rstd), *out = doubles(t, k[i].y);
    RUN(t, op_norm(&t->c, k[i].y, k[i].mean, k[i].rstd, k[i].x, k[i].weight, k[i].bias, k[i].spec));
    compare_exact(t, "as norm", out, k[i].y);
    compare_exact(t, "statistics as of norm", rstd, k[i].rstd);
  }
}

static void test_norm_backward(Test *t) {
  NormCase k = norm_case(t);
  Tensor out = norm_tensor(t), dx = norm_tensor(t), dweight = {0}, dbias = {0};
  double *weight_before = NULL, *bias_before = NULL;
  if (k.ref.weight) {
    dweight = random_1d(t, DTYPE_F32, k.ref.n, 1);
    weight_before = doubles(t, dweight);
  }
  if (k.ref.bias) {
    dbias = random_1d(t, DTYPE_F32, k.ref.n, 1);
    bias_before = doubles(t, dbias);
  }
  RUN(t, op_norm(&t->c, out, k.mean, k.rstd, k.x, k.weight, k.bias, k.spec));
  double *before = doubles(t, dx);
  RUN(t, op_norm_backward(&t->c, dx, dweight, dbias, k.y, k.x, k.mean, k.rstd, k.weight, k.spec, 0.5f));
  compare_gradient(t, "dx", k.ref.x, dx, 1, before, 0.5, norm_loss, &k.ref);
  if (k.ref.weight) {
    compare_gradient(t, "dweight", k.ref.weight, dweight, 1, weight_before, 1, norm_loss, &k.ref);
  }
  if (k.ref.bias) compare_gradient(t, "dbias", k.ref.bias, dbias, 1, bias_before, 1, norm_loss, &k.ref);
  /* in place of dy, nothing else wanted */
  Tensor none = {0};
  RUN(t, op_norm_backward(&t->c, k.y, none, none, k.y, k.x, k.mean, k.rstd, k.weight, k.spec, 0.0f));
  compare_gradient(t, "dx in place", k.ref.x, k.y, 1, NULL, 0, norm_loss, &k.ref);
}

/* In place on x[T*H, D]; the inverse is the transpose. */
static inline void rotary_ref(const Test *t, double *x, const int32_t *positions, const float *frequencies,
                              double scale, bool inverse) {
  int64_t T = t->shape.size[0], H = t->shape.size[1], D = t->shape.size[2], pairs = t->shape.size[3];
  bool interleaved = t->shape.flags & INTERLEAVED;
  for (int64_t r = 0; r < T * H; r++) {
    for (int64_t i = 0; i < pairs; i++) {
      /* the angle is an fp32 product by definition */
      double angle = (double)((float)positions[r / H] * frequencies[i]);
      double sine = inverse ? -sin(angle) : sin(angle), cosine = cos(angle);
      double *a = x + r * D + (interleaved ? 2 * i : i), *b = a + (interleaved ? 1 : pairs);
      double first = *a, second = *b;
      *a = scale * (first * cosine - second * sine);
      *b = scale * (second * cosine + first * sine);
    }
  }
}

static void test_rotary(Test *t) {
  int64_t T = t->shape.size[0], H = t->shape.size[1], D = t->shape.size[2], pairs = t->shape.size[3];
  Tensor x = random_3d(t, T, H, D), positions = ids_tensor(t, T);
  Tensor frequency = random_1d(t, DTYPE_F32, pairs, 1);
  float *frequencies = host_of(t, frequency.data);
  for (int64_t i = 0; i < pairs; i++) frequencies[i] = powf(10000.0f, -(float)i / (float)pairs);
  for (int64_t i = 0; i < T; i++) ids_of(t, positions)[i] = (int32_t)(i * i * 31 % 5003);
  RotarySpec spec = {
      .inverse_frequency = frequency, .scale = 1.25f, .interleaved = t->shape.flags & INTERLEAVED};
  double *expected = doubles(t, x);
  rotary_ref(t, expected, ids_of(t, positions), frequencies, 1.25, false);
  RUN(t, op_rotary(&t->c, x, positions, spec, false));
  compare(t, "x", expected, x);
  expected = doubles(t, x);
  rotary_ref(t, expected, ids_of(t, positions), frequencies, 1.25, true);
  RUN(t, op_rotary(&t->c, x, positions, spec, true));
  compare(t, "x rotated back", expected, x);
}

#define NORM_SHAPES(op, run, f, tolerance)                                                               \
  {op, run, {{1, 1, 20}, f | BIAS}, tolerance}, {op, run, {{37, 1, 48}, f | BIAS | STRIDED}, tolerance}, \
      {op, run, {{5, 1, 7}, f | NO_WEIGHT}, tolerance},                                                  \
      {op, run, {{6, 1, 300}, f | RMS | STRIDED}, tolerance},                                            \
      {op, run, {{6, 1, 33}, f | RMS | OFFSET | BF16}, tolerance},                                       \
      {op, run, {{6, 1, 33}, f | BIAS | BF16}, tolerance},                                               \
      {op, run, {{5, 1, 1544}, f | RMS | BF16}, tolerance},                                              \
      {op, run, {{3, 1, 1032}, f | BIAS | BF16 | STRIDED | ALIGNED}, tolerance},                         \
      {op, run, {{3, 5, 20}, f | HEADS | STRIDED | RMS}, tolerance},                                     \
      {op, run, {{9, 2, 64}, f | HEADS | STRIDED | ALIGNED | RMS | BF16}, tolerance},                    \
      {op, run, {{4, 3, 16}, f | HEADS | BIAS}, tolerance}, {                                            \
    op, run, {{0, 1, 16}, f | BIAS}, tolerance                                                           \
  }

#define NORM_PAIR_SHAPES(f)                                                                          \
  {"norm_pair", test_norm_pair, {{3, 5, 20}, f | HEADS | STRIDED | RMS}, 2e-6},                      \
      {"norm_pair", test_norm_pair, {{9, 2, 64}, f | HEADS | STRIDED | ALIGNED | RMS | BF16}, 2e-6}, \
      {"norm_pair", test_norm_pair, {{9, 2, 128}, f | HEADS | RMS | OFFSET}, 2e-6},                  \
      {"norm_pair", test_norm_pair, {{2, 1, 256}, f | HEADS | RMS}, 2e-6}, {                         \
    "norm_pair", test_norm_pair, {{4, 3, 16}, f | HEADS | BIAS}, 2e-6                                \
  }

#define ROTARY_SHAPES(f)                                                           \
  {"rotary", test_rotary, {{1, 1, 2, 1}, f}, 1e-6},                                \
      {"rotary", test_rotary, {{17, 3, 64, 32}, f | STRIDED}, 1e-6},               \
      {"rotary", test_rotary, {{17, 3, 128, 64}, f | STRIDED | ALIGNED}, 1e-6},    \
      {"rotary", test_rotary, {{17, 3, 20, 5}, f | STRIDED}, 1e-6},                \
      {"rotary", test_rotary, {{9, 4, 24, 12}, f | INTERLEAVED}, 1e-6},            \
      {"rotary", test_rotary, {{9, 4, 25, 8}, f | INTERLEAVED | STRIDED}, 1e-6}, { \
    "rotary", test_rotary, {{0, 4, 24, 8}, f}, 1e-6                                \
  }

#define NORM_CASES                                                                                    \
  NORM_SHAPES("norm", test_norm, 0, 2e-6), NORM_SHAPES("norm_backward", test_norm_backward, 0, 5e-6), \
      NORM_PAIR_SHAPES(0), NORM_PAIR_SHAPES(NARROW), NORM_SHAPES("norm", test_norm, NARROW, 2e-6),    \
      NORM_SHAPES("norm_backward", test_norm_backward, NARROW, 5e-6), ROTARY_SHAPES(0),               \
      ROTARY_SHAPES(NARROW)

#endif
