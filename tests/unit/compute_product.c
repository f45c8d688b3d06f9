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

/* Which product computes: the library's, or the unit's of bf16 or of fp32 factors. */
typedef enum Way { LIBRARY, UNIT, UNIT_ROUNDS } Way;

static void multiply(const Sides *s, Way way, int threads, float alpha, float beta) {
  if (way == LIBRARY) {
    product_f32(threads, s->a_across, !s->b_across, s->m, s->n, s->k, alpha, s->a, s->lda, s->b, s->ldb, beta,
                s->c, s->ldc);
    return;
  }
  const bool narrow = way == UNIT;
  const ProductFactor a = {
      .data = narrow ? (void *)s->narrow_a : s->a, .stride = s->lda, .narrow = narrow, .across = s->a_across};
  const ProductFactor b = {
      .data = narrow ? (void *)s->narrow_b : s->b, .stride = s->ldb, .narrow = narrow, .across = s->b_across};
  void *scratch = malloc(product_amx_scratch(threads, s->m, s->n, s->k));
  product_amx(threads, s->m, s->n, s->k, alpha, a, b, beta, s->c, s->ldc, scratch);
  free(scratch);
}

static void check_product(Way way, Sides s, float alpha, float beta) {
  const int64_t m = s.m, n = s.n, k = s.k;
  float *before = malloc((size_t)(m * s.ldc) * sizeof *before);
  for (int64_t i = 0; i < m * s.ldc; i++) before[i] = s.c[i];
  for (int64_t i = 0; beta == 0 && i < m * s.ldc; i++) s.c[i] = i % s.ldc < n ? NAN : s.c[i];
  multiply(&s, way, 2, alpha, beta);
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < s.ldc; j++) {
      double sum = 0;
      for (int64_t l = 0; j < n && l < k; l++)
        sum += link_of(s.a, s.lda, s.a_across, i, l) * link_of(s.b, s.ldb, s.b_across, j, l);
      double old = (double)before[i * s.ldc + j], got = (double)s.c[i * s.ldc + j];
      double expected = j < n ? (double)alpha * sum + (beta == 0 ? 0 : (double)beta * old) : old;
      if (!(fabs(got - expected) <= (j < n ? 2e-6 * sqrt((double)k) * 2 : 0))) {
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
    check_product(way, sides_new(1, 1, 1, a, b), 1, 0);
    check_product(way, sides_new(1, 70, 33, a, b), 1, 0);
    check_product(way, sides_new(17, 1, 64, a, b), 1, 1);
    check_product(way, sides_new(33, 65, 100, a, b), 0.5f, -1.5f);
    check_product(way, sides_new(64, 96, 31, a, b), 1, 1);
    check_product(way, sides_new(128, 256, 64, a, b), 1, 0);
    check_product(way, sides_new(40, 33, 5000, a, b), 1, 1); /* more links than are packed at once */
    check_product(way, sides_new(40, 33, 5000, a, b), 0.5f, 2);
  }
}

static void test_f32(void **state) {
  (void)state;
  check_shapes(LIBRARY);
}

static bool unit(void) {
  if (product_bf16_is_fast()) return true;
  print_message("no matrix unit for bf16, or it is held back\n");
  return false;
}

static void test_unit(void **state) {
  (void)state;
  if (!unit()) skip();
  check_shapes(UNIT);
  check_shapes(UNIT_ROUNDS);
}

/* The same sums to the bit for any number of threads, and for a row beside any others. */
static void test_unit_order(void **state) {
  (void)state;
  if (!unit()) skip();
  Sides s = sides_new(130, 700, 2100, false, false);
  multiply(&s, UNIT, 1, 1, 0);
  const size_t count = (size_t)(s.m * s.ldc);
  float *expected = malloc(count * sizeof *expected);
  memcpy(expected, s.c, count * sizeof *expected);
  for (int threads = 2; threads < 9; threads++) {
    multiply(&s, UNIT, threads, 1, 0);
    assert_memory_equal(s.c, expected, count * sizeof *expected);
  }
  for (int64_t row = 0; row < 130; row += 43) {
    Sides one = s;
    one.m = 1;
    one.a += row * s.lda, one.narrow_a += row * s.lda;
    multiply(&one, UNIT, 2, 1, 0);
    assert_memory_equal(one.c, expected + row * s.ldc, (size_t)s.n * sizeof *expected);
  }
  free(expected);
  sides_free(&s);
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

/* The definition, to the bit; of a unit in software too. */
static void test_unit_bits(void **state) {
  (void)state;
  if (!unit()) skip();
  for (unsigned lowest = 0; lowest < 200; lowest += 40) {
    Sides s = sides_new(37, 70, 100, false, false);
    for (int64_t i = 0; i < s.m * s.lda; i++) s.narrow_a[i] = any_magnitude((uint64_t)i, lowest, 54);
    for (int64_t i = 0; i < s.n * s.ldb; i++) s.narrow_b[i] = any_magnitude((uint64_t)i + 70000, 90, 40);
    multiply(&s, UNIT, 2, 1, 0);
    for (int64_t i = 0; i < s.m; i++) {
      for (int64_t j = 0; j < s.n; j++) {
        float sum = 0;
        for (int64_t l = 0; l < s.k; l += 32)
          sum = unit_step(s.narrow_a + i * s.lda + l, s.narrow_b + j * s.ldb + l, s.k - l < 32 ? s.k - l : 32,
                          sum);
        if (memcmp(&sum, &s.c[i * s.ldc + j], sizeof sum) != 0)
          fail_msg("from 2^%d on, at %d, %d: %a, expected %a", (int)lowest - 127, (int)i, (int)j,
                   (double)s.c[i * s.ldc + j], (double)sum);
      }
    }
    sides_free(&s);
  }
}

/* Enough for a product is enough for a smaller one. */
static void test_unit_scratch(void **state) {
  (void)state;
  if (!unit()) skip(); /* its file is for such processors alone */
  for (int threads = 1; threads < 8; threads++) {
    size_t before = 0;
    for (int64_t m = 1; m < 3000; m += 31) {
      const size_t size = product_amx_scratch(threads, m, 2000, m);
      assert_true(size >= before);
      before = size;
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_unit),
                                     cmocka_unit_test(test_unit_order), cmocka_unit_test(test_unit_bits),
                                     cmocka_unit_test(test_unit_scratch)};
  return cmocka_run_group_tests(tests, open_device, NULL);
}
