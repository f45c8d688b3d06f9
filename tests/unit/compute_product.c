/* Products, of the library and on the matrix unit, against double precision. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "base/random.h"
#include "compute/amx/product.h"
#include "compute/compute.h"
#include "compute/product.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Sides {
  int64_t m, n, k, lda, ldb, ldc;
  bool a_across, b_across;
  float *a, *b, *c;
  uint16_t *narrow_a, *narrow_b;
} Sides;

static float noise(uint64_t i) {
  return random_normal(random_key(2, RANDOM_TEST), 0, i);
}

/* Elements that bf16 holds exactly, with gaps between the rows. */
static Sides sides_new(int64_t m, int64_t n, int64_t k, bool a_across, bool b_across) {
  Sides s = {
      .m = m, .n = n, .k = k, .lda = (a_across ? m : k) + 3, .ldb = (b_across ? n : k) + 5, .ldc = n + 7};
  s.a_across = a_across, s.b_across = b_across;
  size_t size_a = (size_t)((a_across ? k : m) * s.lda), size_b = (size_t)((b_across ? k : n) * s.ldb);
  size_t size_c = (size_t)(m * s.ldc);
  s.a = malloc(size_a * sizeof *s.a);
  s.b = malloc(size_b * sizeof *s.b);
  s.c = malloc(size_c * sizeof *s.c);
  s.narrow_a = malloc(size_a * sizeof *s.narrow_a);
  s.narrow_b = malloc(size_b * sizeof *s.narrow_b);
  for (size_t i = 0; i < size_a; i++) s.a[i] = float_from_bf16(s.narrow_a[i] = bf16_from_float(noise(i)));
  for (size_t i = 0; i < size_b; i++)
    s.b[i] = float_from_bf16(s.narrow_b[i] = bf16_from_float(noise(i + 90000)));
  for (size_t i = 0; i < size_c; i++) s.c[i] = noise(i + 500000);
  return s;
}

static void sides_free(Sides *s) {
  free(s->a);
  free(s->b);
  free(s->c);
  free(s->narrow_a);
  free(s->narrow_b);
}

static double link_of(const float *x, int64_t stride, bool across, int64_t row, int64_t l) {
  return (double)x[across ? l * stride + row : row * stride + l];
}

/* Which product computes: the library's, or the unit's of bf16 or of fp32 factors, which it rounds or takes whole. */
typedef enum Way { LIBRARY, UNIT, UNIT_ROUNDS, UNIT_WHOLE } Way;

static size_t count_a(const Sides *s) {
  return (size_t)((s->a_across ? s->k : s->m) * s->lda);
}

static size_t count_b(const Sides *s) {
  return (size_t)((s->b_across ? s->k : s->n) * s->ldb);
}

/* Elements with all the digits of fp32, for what does not round them. */
static Sides sides_for(Way way, int64_t m, int64_t n, int64_t k, bool a_across, bool b_across) {
  Sides s = sides_new(m, n, k, a_across, b_across);
  if (way != UNIT_WHOLE) return s;
  for (size_t i = 0; i < count_a(&s); i++) s.a[i] = noise(i + 1000000);
  for (size_t i = 0; i < count_b(&s); i++) s.b[i] = noise(i + 2000000);
  return s;
}

static void multiply(const Sides *s, Way way, int threads, float alpha, float beta) {
  if (way == LIBRARY) {
    product_f32(threads, s->a_across, !s->b_across, s->m, s->n, s->k, alpha, s->a, s->lda, s->b, s->ldb, beta,
                s->c, s->ldc);
    return;
  }
  const bool narrow = way == UNIT, whole = way == UNIT_WHOLE;
  const ProductFactor a = {
      .data = narrow ? (void *)s->narrow_a : s->a, .stride = s->lda, .narrow = narrow, .across = s->a_across};
  const ProductFactor b = {
      .data = narrow ? (void *)s->narrow_b : s->b, .stride = s->ldb, .narrow = narrow, .across = s->b_across};
  void *scratch = malloc(product_amx_scratch(threads, whole, s->m, s->n, s->k));
  product_amx(threads, whole, s->m, s->n, s->k, alpha, a, b, beta, s->c, s->ldc, scratch);
  free(scratch);
}

/* Of a whole product: beside the sum of magnitudes, so that neither a part left out nor a rounding to bf16 could pass. */
static double tolerance(Way way, int64_t k, double magnitudes) {
  return way == UNIT_WHOLE ? 2e-7 * magnitudes : 2e-6 * sqrt((double)k) * 2;
}

static bool agrees(double got, double expected, double most) {
  if (isnan(expected)) return isnan(got);
  return got == expected || (isfinite(expected) && fabs(got - expected) <= most);
}

static void check_product(Way way, Sides s, float alpha, float beta) {
  const int64_t m = s.m, n = s.n, k = s.k;
  float *before = malloc((size_t)(m * s.ldc) * sizeof *before);
  for (int64_t i = 0; i < m * s.ldc; i++) before[i] = s.c[i];
  for (int64_t i = 0; beta == 0 && i < m * s.ldc; i++) s.c[i] = i % s.ldc < n ? NAN : s.c[i];
  multiply(&s, way, 2, alpha, beta);
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < s.ldc; j++) {
      double sum = 0, magnitudes = 0;
      for (int64_t l = 0; j < n && l < k; l++) {
        const double link = link_of(s.a, s.lda, s.a_across, i, l) * link_of(s.b, s.ldb, s.b_across, j, l);
        sum += link;
        magnitudes += fabs(link);
      }
      double old = (double)before[i * s.ldc + j], got = (double)s.c[i * s.ldc + j];
      double more = beta == 0 ? 0 : (double)beta * old, expected = j < n ? (double)alpha * sum + more : old;
      magnitudes = fabs((double)alpha) * magnitudes + fabs(more);
      if (!agrees(got, expected, j < n ? tolerance(way, k, magnitudes) : 0)) {
        fail_msg("%d x %d x %d, at %d, %d: %g, expected %g", (int)m, (int)n, (int)k, (int)i, (int)j, got,
                 expected);
      }
    }
  }
  free(before);
  sides_free(&s);
}

static void check_shapes(Way way) {
  for (int layout = 0; layout < 4; layout++) {
    const bool a = layout & 1, b = layout & 2;
    check_product(way, sides_for(way, 1, 1, 1, a, b), 1, 0);
    check_product(way, sides_for(way, 1, 70, 33, a, b), 1, 0);
    check_product(way, sides_for(way, 17, 1, 64, a, b), 1, 1);
    check_product(way, sides_for(way, 33, 65, 100, a, b), 0.5f, -1.5f);
    check_product(way, sides_for(way, 64, 96, 31, a, b), 1, 1);
    check_product(way, sides_for(way, 128, 256, 64, a, b), 1, 0);
    check_product(way, sides_for(way, 40, 33, 5000, a, b), 1, 1); /* more links than are packed at once */
    check_product(way, sides_for(way, 40, 33, 5000, a, b), 0.5f, 2);
  }
}

static void test_f32(void **state) {
  (void)state;
  check_shapes(LIBRARY);
}

static bool unit(void) {
  if (product_has_matrix_unit()) return true;
  print_message("no matrix unit for bf16, or it is held back\n");
  return false;
}

static void test_unit(void **state) {
  (void)state;
  if (!unit()) skip();
  check_shapes(UNIT);
  check_shapes(UNIT_ROUNDS);
  check_shapes(UNIT_WHOLE);
}

static void check_order(Way way) {
  Sides s = sides_for(way, 130, 700, 2100, false, false);
  multiply(&s, way, 1, 1, 0);
  const size_t count = (size_t)(s.m * s.ldc);
  float *expected = malloc(count * sizeof *expected);
  memcpy(expected, s.c, count * sizeof *expected);
  for (int threads = 2; threads < 9; threads++) {
    multiply(&s, way, threads, 1, 0);
    assert_memory_equal(s.c, expected, count * sizeof *expected);
  }
  for (int64_t row = 0; row < 130; row += 43) {
    Sides one = s;
    one.m = 1;
    one.a += row * s.lda, one.narrow_a += row * s.lda;
    multiply(&one, way, 2, 1, 0);
    assert_memory_equal(one.c, expected + row * s.ldc, (size_t)s.n * sizeof *expected);
  }
  free(expected);
  sides_free(&s);
}

/* The same sums to the bit for any number of threads, and for a row beside any others. */
static void test_unit_order(void **state) {
  (void)state;
  if (!unit()) skip();
  check_order(UNIT);
  check_order(UNIT_WHOLE);
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static float without_subnormals(float x) {
  return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

/* A step of the unit (TDPBF16PS): 16 first links of pairs are a chain, 16 second ones another, and their sum is added. */
static float unit_step(const uint16_t *a, const uint16_t *b, int64_t links, float sum) {
  float chain[2] = {0, 0};
  for (int64_t l = 0; l < links; l++)
    chain[l % 2] = without_subnormals(fmaf(without_subnormals(float_from_bf16(a[l])),
                                           without_subnormals(float_from_bf16(b[l])), chain[l % 2]));
  return without_subnormals(without_subnormals(sum) + without_subnormals(chain[0] + chain[1]));
}

/* Values of all magnitudes, so that sums leave the normal numbers at both ends. */
static uint16_t any_magnitude(uint64_t i, unsigned lowest, unsigned count) {
  const RandomKey key = random_key(3, RANDOM_TEST);
  const uint32_t sign_and_digits = random_below(key, i, 0, 1 << 8);
  return (uint16_t)((sign_and_digits & 0x80) << 8 | (lowest + random_below(key, i, 1, count)) << 7 |
                    (sign_and_digits & 0x7f));
}

/* The same with all the digits of fp32. */
static float with_digits(uint16_t x, uint64_t i) {
  const uint32_t bits = (uint32_t)x << 16 | random_below(random_key(4, RANDOM_TEST), i, 0, 1 << 16);
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}

static float unit_sum(const Sides *s, int64_t i, int64_t j) {
  float sum = 0;
  for (int64_t l = 0; l < s->k; l += 32)
    sum = unit_step(s->narrow_a + i * s->lda + l, s->narrow_b + j * s->ldb + l, least(s->k - l, 32), sum);
  return sum;
}

/* The three parts of an element: highest first. */
static void split(float x, uint16_t parts[3]) {
  for (int part = 0; part < 3; part++) {
    parts[part] = bf16_from_float(without_subnormals(x));
    if (isinf(float_from_bf16(parts[part]))) parts[part] = x < 0 ? 0xff7f : 0x7f7f;
    x -= float_from_bf16(parts[part]);
  }
}

/* Six products of parts for each step of 32 links. */
static float whole_sum(const Sides *s, int64_t i, int64_t j) {
  static const int products[][2] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
  float sum = 0;
  for (int64_t l = 0; l < s->k; l += 32) {
    uint16_t a[3][32], b[3][32], parts[3];
    const int64_t links = least(s->k - l, 32);
    for (int64_t r = 0; r < links; r++) {
      split(s->a[i * s->lda + l + r], parts);
      for (int part = 0; part < 3; part++) a[part][r] = parts[part];
      split(s->b[j * s->ldb + l + r], parts);
      for (int part = 0; part < 3; part++) b[part][r] = parts[part];
    }
    for (int n = 0; n < 6; n++) sum = unit_step(a[products[n][0]], b[products[n][1]], links, sum);
  }
  return sum;
}

static void check_bits(Way way, unsigned lowest) {
  Sides s = sides_new(37, 70, 100, false, false);
  for (size_t i = 0; i < count_a(&s); i++) {
    s.narrow_a[i] = any_magnitude(i, lowest, 54);
    s.a[i] = with_digits(s.narrow_a[i], i);
  }
  for (size_t i = 0; i < count_b(&s); i++) {
    s.narrow_b[i] = any_magnitude(i + 70000, 90, 40);
    s.b[i] = with_digits(s.narrow_b[i], i + 70000);
  }
  multiply(&s, way, 2, 1, 0);
  for (int64_t i = 0; i < s.m; i++) {
    for (int64_t j = 0; j < s.n; j++) {
      const float sum = way == UNIT ? unit_sum(&s, i, j) : whole_sum(&s, i, j);
      if (memcmp(&sum, &s.c[i * s.ldc + j], sizeof sum) != 0)
        fail_msg("from 2^%d on, at %d, %d: %a, expected %a", (int)lowest - 127, (int)i, (int)j,
                 (double)s.c[i * s.ldc + j], (double)sum);
    }
  }
  sides_free(&s);
}

/* The definition, to the bit; of a unit in software too. */
static void test_unit_bits(void **state) {
  (void)state;
  if (!unit()) skip();
  for (unsigned lowest = 0; lowest < 200; lowest += 40) {
    check_bits(UNIT, lowest);
    check_bits(UNIT_WHOLE, lowest);
  }
}

static float times(float a, float b) {
  Sides s = {.m = 1, .n = 1, .k = 1, .lda = 1, .ldb = 1, .ldc = 1, .a = &a, .b = &b};
  float c = NAN;
  s.c = &c;
  multiply(&s, UNIT_WHOLE, 1, 1, 0);
  return c;
}

/* Parts are together the element, on either side, but for less than FLT_MIN of small ones. */
static void test_whole_elements(void **state) {
  (void)state;
  if (!unit()) skip();
  static const float ends[] = {FLT_MAX, -FLT_MAX, 0x1.fffefep127f, 0x1.fep127f, 0x1.ff0002p127f, 0};
  for (unsigned i = 0; i < 6; i++) {
    assert_true(times(ends[i], 1) == ends[i]);
    assert_true(times(1, ends[i]) == ends[i]);
  }
  for (unsigned i = 0; i < 20000; i++) {
    const float x = with_digits(any_magnitude(i, 0, 254), i);
    const bool exact = fabsf(x) >= 0x1p-103f;
    if (!(exact ? times(x, 1) == x && times(1, x) == x
                : fabsf(times(x, 1) - x) < FLT_MIN && fabsf(times(1, x) - x) < FLT_MIN))
      fail_msg("%a: %a and %a", (double)x, (double)times(x, 1), (double)times(1, x));
  }
}

/* Sums of finite elements that bf16 would round to infinity. */
static void test_whole_large(void **state) {
  (void)state;
  if (!unit()) skip();
  for (int across = 0; across < 2; across++) {
    Sides s = sides_for(UNIT_WHOLE, 40, 33, 70, across, across);
    for (size_t i = 0; i < count_a(&s); i++) s.a[i] = copysignf(FLT_MAX - (float)(i % 7) * 0x1p105f, s.a[i]);
    for (size_t i = 0; i < count_b(&s); i++) s.b[i] *= 1e-3f;
    check_product(UNIT_WHOLE, s, 1, 0);
  }
}

/* Infinities and NaNs beside elements of one part, of several, and zeros. */
static Sides sides_not_finite(int layout) {
  Sides s = sides_for(UNIT_WHOLE, 70, 97, 700, layout & 1, layout & 2);
  static const float values[] = {INFINITY, -INFINITY, NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < count_a(&s); i += 3) s.a[i] = i % 2 ? 0 : 1;
  for (size_t i = 0; i < count_b(&s); i += 5) s.b[i] = i % 2 ? 0 : -2;
  for (int64_t i = 0; i < 5; i++) {
    const int64_t row = 13 * i + 2, link = 131 * i + i % 2;
    s.a[s.a_across ? link * s.lda + row : row * s.lda + link] = values[i];
    s.b[s.b_across ? (link + 7) * s.ldb + row : row * s.ldb + link + 7] = values[4 - i];
  }
  s.a[s.a_across ? 9 * s.lda + 2 : 2 * s.lda + 9] = -INFINITY; /* a second one, of the other sign */
  return s;
}

/* What is not finite gives what it gives in fp32, and touches no other sums. */
static void test_whole_not_finite(void **state) {
  (void)state;
  if (!unit()) skip();
  for (int layout = 0; layout < 4; layout++) {
    check_product(UNIT_WHOLE, sides_not_finite(layout), 1, 0);
    check_product(UNIT_WHOLE, sides_not_finite(layout), 1, 1);
    check_product(UNIT_WHOLE, sides_not_finite(layout), -0.5f, 2);
    Sides s = sides_not_finite(layout), finite = sides_not_finite(layout);
    for (size_t i = 0; i < count_a(&s); i++) finite.a[i] = isfinite(s.a[i]) ? s.a[i] : 1;
    for (size_t i = 0; i < count_b(&s); i++) finite.b[i] = isfinite(s.b[i]) ? s.b[i] : 1;
    multiply(&s, UNIT_WHOLE, 2, 1, 0);
    multiply(&finite, UNIT_WHOLE, 2, 1, 0);
    for (int64_t i = 0; i < s.m * s.ldc; i++)
      assert_true(!isfinite(s.c[i]) || memcmp(&s.c[i], &finite.c[i], sizeof(float)) == 0);
    sides_free(&s);
    sides_free(&finite);
  }
}

/* Enough for a product is enough for a smaller one. */
static void test_unit_scratch(void **state) {
  (void)state;
  if (!unit()) skip(); /* its file is for such processors alone */
  for (int threads = 1; threads < 8; threads++) {
    size_t before[2] = {0, 0};
    for (int64_t m = 1; m < 3000; m += 31) {
      for (int whole = 0; whole < 2; whole++) {
        const size_t size = product_amx_scratch(threads, whole, m, 2000, m);
        assert_true(size >= before[whole]);
        before[whole] = size;
      }
    }
  }
}

/* DROVER_CPU counts: it is read when a device is opened, and must be before oneDNN is used. */
static int open_device(void **state) {
  (void)state;
  Compute c;
  Error error = {0};
  if (!compute_open(&c, DEVICE_CPU, 2, &error)) fail_msg("%s", error.message);
  compute_close(&c);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32),
                                     cmocka_unit_test(test_unit),
                                     cmocka_unit_test(test_unit_order),
                                     cmocka_unit_test(test_unit_bits),
                                     cmocka_unit_test(test_whole_elements),
                                     cmocka_unit_test(test_whole_large),
                                     cmocka_unit_test(test_whole_not_finite),
                                     cmocka_unit_test(test_unit_scratch)};
  return cmocka_run_group_tests(tests, open_device, NULL);
}
