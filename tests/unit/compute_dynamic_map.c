/* The dynamic map of 8-bit optimiser state against its definition, and against values and sums of
 * create_dynamic_map of bitsandbytes 0.50.2 (both maps were also compared with it value by value: all 512 agree
 * to 2e-7 of themselves). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/dynamic_map.h"

#include <stdbool.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double value_of(int code, bool is_signed) {
  return (double)(is_signed ? dynamic_signed_value((uint8_t)code) : dynamic_unsigned_value((uint8_t)code));
}

static void sorted_map(double map[256], bool is_signed) {
  for (int code = 0; code < 256; code++) map[code] = value_of(code, is_signed);
  qsort(map, 256, sizeof *map, compare);
}

static void assert_close(double actual, double expected) {
  if (!(fabs(actual - expected) <= 4e-7 * fabs(expected))) fail_msg("%.9g is not %.9g", actual, expected);
}

typedef struct Place {
  int index;
  double value;
} Place;

static void equals_bitsandbytes(void **state) {
  (void)state;
  static const Place unsigned_places[] = {{1, 3.2500003e-07},  {2, 7.7499999e-07},  {3, 2.12499981e-06},
                                          {7, 1.56249989e-05}, {100, 0.0627343804}, {127, 0.103515625},
                                          {190, 0.546484351},  {254, 0.996484399}};
  static const Place signed_places[] = {{0, -0.992968738},     {1, -0.978906274},     {100, -0.00746874977},
                                        {128, 5.50000038e-07}, {131, 2.12499981e-05}, {190, 0.0985937491},
                                        {254, 0.992968738}};
  double map[256], squares = 0, moment = 0;
  sorted_map(map, false);
  for (size_t i = 0; i < sizeof unsigned_places / sizeof *unsigned_places; i++) {
    assert_close(map[unsigned_places[i].index], unsigned_places[i].value);
  }
  for (int i = 0; i < 256; i++) squares += map[i] * map[i], moment += i * map[i];
  assert_close(squares, 48.5974521051);
  assert_close(moment, 15267.4511135);
  sorted_map(map, true);
  for (size_t i = 0; i < sizeof signed_places / sizeof *signed_places; i++) {
    assert_close(map[signed_places[i].index], signed_places[i].value);
  }
  squares = moment = 0;
  for (int i = 0; i < 256; i++) squares += map[i] * map[i], moment += i * map[i];
  assert_close(squares, 48.5958376673);
  assert_close(moment, 7779.62686422);
}

/* Evenly cut decades, each finer by two than the one below. */
static void equals_its_definition(void **state) {
  (void)state;
  for (int base = 1; base <= 2; base++) {
    double map[256];
    bool is_signed = base == 1;
    sorted_map(map, is_signed);
    int at = is_signed ? 127 : 0;
    assert_true(map[at++] == 0);
    for (int decade = 0; decade < 7; decade++) {
      int cells = base << decade;
      for (int i = 0; i < cells; i++, at++) {
        assert_close(map[at], pow(10, decade - 6) * (0.1 + 0.9 * (i + 0.5) / cells));
        if (is_signed) assert_true(map[254 - at] == -map[at]);
      }
    }
    assert_int_equal(at, 255);
    assert_true(map[255] == 1);
  }
}

static void values_name_themselves(void **state) {
  (void)state;
  for (int code = 0; code < 256; code++) {
    assert_int_equal(dynamic_signed_code(dynamic_signed_value((uint8_t)code)), code);
    assert_int_equal(dynamic_unsigned_code(dynamic_unsigned_value((uint8_t)code)), code);
  }
}

static double nearest(const double map[256], double x, int first) {
  double best = INFINITY;
  for (int i = first; i < 256; i++) best = fmin(best, fabs(map[i] - x));
  return best;
}

/* Over ten decades and both signs. */
static void codes_are_the_nearest(void **state) {
  (void)state;
  double signed_map[256], unsigned_map[256];
  sorted_map(signed_map, true);
  sorted_map(unsigned_map, false);
  for (int i = 0; i <= 20000; i++) {
    float x = (float)pow(10, -i / 2000.0);
    double wide = (double)x, slack = 1e-6 * wide;
    assert_true(fabs(value_of(dynamic_unsigned_code(x), false) - wide) <=
                nearest(unsigned_map, wide, 1) + slack);
    assert_true(fabs(value_of(dynamic_signed_code(x), true) - wide) <= nearest(signed_map, wide, 0) + slack);
    assert_true(fabs(value_of(dynamic_signed_code(-x), true) + wide) <=
                nearest(signed_map, -wide, 0) + slack);
  }
  assert_int_equal(dynamic_signed_code(0), 0);
  assert_int_equal(dynamic_unsigned_code(0), 0);
  assert_int_not_equal(dynamic_unsigned_code(1e-30f), 0); /* a mean square is not lost */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equals_bitsandbytes),
      cmocka_unit_test(equals_its_definition),
      cmocka_unit_test(values_name_themselves),
      cmocka_unit_test(codes_are_the_nearest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
