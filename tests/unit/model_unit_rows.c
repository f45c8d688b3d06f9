/* Rows of length 1, as NormHead of Baichuan 2 has them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "model/unit_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 700, SIZE = 3000 }; /* more than one piece */

static Compute compute;

static double length_of(const float *row) {
  double squares = 0;
  for (int i = 0; i < SIZE; i++) squares += (double)row[i] * row[i];
  return sqrt(squares);
}

static void unit(void *values, DType dtype) {
  Error error = {0};
  if (!unit_rows(tensor_2d(values, dtype, ROWS, SIZE), &compute, &error)) fail_msg("%s", error.message);
}

static float *table_new(void) {
  float *t = malloc(sizeof *t * ROWS * SIZE);
  assert_non_null(t);
  for (int i = 0; i < ROWS * SIZE; i++) t[i] = (float)(i / SIZE + 1) * sinf((float)i);
  memset(t + 5 * SIZE, 0, sizeof *t * SIZE);
  return t;
}

static void rows_become_unit_length_and_keep_their_direction(void **state) {
  (void)state;
  float *t = table_new(), *before = table_new();
  unit(t, DTYPE_F32);
  for (int r = 0; r < ROWS; r++) {
    const double length = length_of(before + r * SIZE);
    assert_true(r == 5 ? length_of(t + r * SIZE) == 0 : fabs(length_of(t + r * SIZE) - 1) < 1e-6);
    for (int i = 0; i < SIZE && r != 5; i++)
      assert_true(fabs(t[r * SIZE + i] - before[r * SIZE + i] / length) < 1e-8);
  }
  memcpy(before, t, sizeof *t * ROWS * SIZE);
  unit(t, DTYPE_F32);
  assert_memory_equal(t, before, sizeof *t * ROWS * SIZE);
  free(t);
  free(before);
}

static void rounded_rows_are_read_as_they_were_saved(void **state) {
  (void)state;
  const size_t count = (size_t)ROWS * SIZE;
  float *t = table_new();
  uint16_t *first = malloc(count * sizeof *first), *second = malloc(count * sizeof *second);
  assert_true(first && second);
  dtype_convert(first, DTYPE_BF16, t, DTYPE_F32, count);
  unit(first, DTYPE_BF16);
  dtype_convert(t, DTYPE_F32, first, DTYPE_BF16, count);
  assert_true(fabs(length_of(t) - 1) < 1e-3);
  assert_true(fabs(length_of(t + (ROWS - 1) * SIZE) - 1) < 1e-3);
  memcpy(second, first, count * sizeof *first);
  unit(second, DTYPE_BF16);
  assert_memory_equal(first, second, count * sizeof *first);
  free(t);
  free(first);
  free(second);
}

static int open_compute(void **state) {
  (void)state;
  Error error = {0};
  return compute_open(&compute, DEVICE_CPU, 1, &error) ? 0 : -1;
}

static int close_compute(void **state) {
  (void)state;
  compute_close(&compute);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(rows_become_unit_length_and_keep_their_direction),
                                     cmocka_unit_test(rounded_rows_are_read_as_they_were_saved)};
  return cmocka_run_group_tests_name("unit/model_unit_rows", tests, open_compute, close_compute);
}
