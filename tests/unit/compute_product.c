/* The library products against double precision. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "base/random.h"
#include "compute/compute.h"
#include "compute/product.h"

#include <math.h>
#include <stdlib.h>

typedef struct Sides {
  int64_t m, n, k, lda, ldb, ldc;
  float *a, *b, *c;
  uint16_t *narrow_a, *narrow_b;
} Sides;

static float noise(uint64_t i) {
  return random_normal(random_key(2, RANDOM_TEST), 0, i);
}

/* Elements that bf16 holds exactly, with gaps between the rows. */
static Sides sides_new(int64_t m, int64_t n, int64_t k, int64_t b_rows, int64_t b_columns) {
  Sides s = {.m = m, .n = n, .k = k, .lda = k + 3, .ldb = b_columns + 5, .ldc = n + 7};
  size_t size_a = (size_t)(m * s.lda), size_b = (size_t)(b_rows * s.ldb), size_c = (size_t)(m * s.ldc);
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

static void check_product(int64_t m, int64_t n, int64_t k, bool transpose, bool narrow, float alpha,
                          float beta) {
  Sides s = sides_new(m, n, k, transpose ? n : k, transpose ? k : n);
  float *before = malloc((size_t)(m * s.ldc) * sizeof *before);
  for (int64_t i = 0; i < m * s.ldc; i++) before[i] = s.c[i];
  for (int64_t i = 0; beta == 0 && i < m * s.ldc; i++) s.c[i] = i % s.ldc < n ? NAN : s.c[i];
  if (narrow) {
    product_bf16(2, transpose, m, n, k, alpha, s.narrow_a, s.lda, s.narrow_b, s.ldb, beta, s.c, s.ldc);
  } else {
    product_f32(2, false, transpose, m, n, k, alpha, s.a, s.lda, s.b, s.ldb, beta, s.c, s.ldc);
  }
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < s.ldc; j++) {
      double sum = 0;
      for (int64_t l = 0; j < n && l < k; l++) {
        sum += (double)s.a[i * s.lda + l] * (double)s.b[transpose ? j * s.ldb + l : l * s.ldb + j];
      }
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

static void check_shapes(bool narrow) {
  for (int transpose = 0; transpose < 2; transpose++) {
    check_product(1, 1, 1, transpose, narrow, 1, 0);
    check_product(1, 70, 33, transpose, narrow, 1, 0);
    check_product(17, 1, 64, transpose, narrow, 1, 1);
    check_product(33, 65, 100, transpose, narrow, 0.5f, -1.5f);
    check_product(128, 256, 64, transpose, narrow, 1, 0);
  }
}

static void test_f32(void **state) {
  (void)state;
  check_shapes(false);
}

static void test_bf16(void **state) {
  (void)state;
  if (!product_bf16_is_fast()) {
    print_message("no matrix unit for bf16, or it is held back\n");
    skip();
  }
  check_shapes(true);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
  return cmocka_run_group_tests(tests, open_device, NULL);
}
