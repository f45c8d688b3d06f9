#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* The compiler's own half-precision type is the reference. */
static float reference_from_f16(uint16_t bits) {
  _Float16 half;
  memcpy(&half, &bits, sizeof half);
  return (float)half;
}

static uint16_t reference_to_f16(float value) {
  _Float16 half = (_Float16)value;
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

static void every_f16_reads_right(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 65536; i++) {
    float value = float_from_f16((uint16_t)i), expected = reference_from_f16((uint16_t)i);
    if (isnan(expected)) {
      assert_true(isnan(value));
      assert_true(isnan(float_from_f16(f16_from_float(value))));
    } else {
      assert_int_equal(bits_of(value), bits_of(expected));
      assert_int_equal(f16_from_float(value), i);
    }
  }
}

/* Around each representable value: the midpoint to the next one, and its neighbours on both sides. */
static void f16_rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 0x7c00; i++) {
    double low = (double)float_from_f16((uint16_t)i);
    double high = i + 1 == 0x7c00 ? 65536.0 : (double)float_from_f16((uint16_t)(i + 1));
    float middle = (float)((low + high) / 2); /* exact */
    const float near[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
    for (int k = 0; k < 3; k++) {
      assert_int_equal(f16_from_float(near[k]), reference_to_f16(near[k]));
      assert_int_equal(f16_from_float(-near[k]), reference_to_f16(-near[k]));
    }
  }
  assert_int_equal(f16_from_float(65519.996f), 0x7bff);
  assert_int_equal(f16_from_float(65520.0f), 0x7c00);
  assert_int_equal(f16_from_float(-1e30f), 0xfc00);
  assert_int_equal(f16_from_float(INFINITY), 0x7c00);
  assert_int_equal(f16_from_float(0x1p-25f), 0); /* tie to even */
  assert_int_equal(f16_from_float(nextafterf(0x1p-25f, 1)), 1);
  assert_int_equal(f16_from_float(-0.0f), 0x8000);
}

static void random_bits_agree_with_the_compiler(void **state) {
  (void)state;
  RandomKey key = random_key(1, RANDOM_TEST);
  for (uint32_t i = 0; i < 300000; i++) {
    float value = float_of(random_below(key, 0, i, UINT32_MAX));
    uint16_t found = f16_from_float(value);
    if (isnan(value)) {
      assert_true(isnan(float_from_f16(found)));
      assert_true(isnan(float_from_bf16(bf16_from_float(value))));
    } else {
      assert_int_equal(found, reference_to_f16(value));
    }
  }
}

static void bf16_rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 0x7f80; i++) {
    uint32_t even = i + (i & 1u);
    assert_int_equal(bf16_from_float(float_of(i << 16)), i);
    assert_int_equal(bf16_from_float(float_of(i << 16 | 0x7fff)), i);
    assert_int_equal(bf16_from_float(float_of(i << 16 | 0x8000)), even);
    assert_int_equal(bf16_from_float(float_of(i << 16 | 0x8001)), i + 1);
    assert_int_equal(bf16_from_float(-float_of(i << 16 | 0x8000)), even | 0x8000);
  }
  assert_int_equal(bf16_from_float(INFINITY), 0x7f80);
  assert_true(
      isnan(float_from_bf16(bf16_from_float(float_of(0x7f800001))))); /* a NaN that truncation loses */
}

static void names_and_sizes(void **state) {
  (void)state;
  DType type;
  for (int i = 0; i < DTYPE_COUNT; i++) {
    const char *names[] = {dtype_name((DType)i), dtype_file_name((DType)i), dtype_torch_name((DType)i)};
    for (int k = 0; k < 3; k++) {
      assert_true(dtype_parse(names[k], &type));
      assert_int_equal(type, i);
    }
  }
  assert_true(dtype_parse("bfloat16", &type));
  assert_int_equal(type, DTYPE_BF16);
  assert_int_equal(dtype_size(DTYPE_BF16), 2);
  assert_int_equal(dtype_size(DTYPE_I64), 8);
  assert_string_equal(dtype_name(DTYPE_F16), "f16");
  assert_string_equal(dtype_file_name(DTYPE_BOOL), "BOOL");
  assert_false(dtype_parse("F8_E4M3", &type));
  assert_false(dtype_parse("", &type));
}

/* Every pair of float types, at odd addresses, against the scalar functions. */
static void what_is_not_finite_is_counted(void **state) {
  (void)state;
  static const double values[] = {0, -1.5, INFINITY, 60000, -INFINITY, NAN, 1e-7, -60000};
  static const DType types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F64};
  enum { COUNT = sizeof values / sizeof *values };
  for (int i = 0; i < 4; i++) {
    char room[1 + COUNT * sizeof(double)]; /* at an odd address */
    dtype_convert(room + 1, types[i], values, DTYPE_F64, COUNT);
    assert_int_equal(dtype_count_not_finite(room + 1, types[i], COUNT), 3);
    assert_int_equal(dtype_count_not_finite(room + 1, types[i], 2), 0);
  }
}

static void convert_every_pair_unaligned(void **state) {
  (void)state;
  const DType types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F64};
  const float values[] = {0, -0.0f, 1, -2.5f, 3.14159f, 1e-6f, 65504, -1e20f, 0x1p-24f, INFINITY, 1.0009766f};
  enum { COUNT = sizeof values / sizeof *values };
  char from[8 * COUNT + 1], to[8 * COUNT + 1];
  double wide[COUNT], back[COUNT];
  for (int i = 0; i < COUNT; i++) wide[i] = (double)values[i];
  for (int a = 0; a < 4; a++) {
    for (int b = 0; b < 4; b++) {
      dtype_convert(from + 1, types[a], wide, DTYPE_F64, COUNT);
      dtype_convert(to + 1, types[b], from + 1, types[a], COUNT);
      dtype_convert(back, DTYPE_F64, to + 1, types[b], COUNT);
      for (int i = 0; i < COUNT; i++) {
        float expected = values[i];
        const DType chain[] = {types[a], types[b]};
        for (int k = 0; k < 2; k++) {
          if (chain[k] == DTYPE_BF16) expected = float_from_bf16(bf16_from_float(expected));
          if (chain[k] == DTYPE_F16) expected = float_from_f16(f16_from_float(expected));
        }
        assert_int_equal(bits_of((float)back[i]), bits_of(expected));
      }
    }
  }
  dtype_convert(to, DTYPE_F32, from, DTYPE_BF16, 0); /* nothing */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_f16_reads_right),
      cmocka_unit_test(f16_rounds_to_nearest_even),
      cmocka_unit_test(random_bits_agree_with_the_compiler),
      cmocka_unit_test(bf16_rounds_to_nearest_even),
      cmocka_unit_test(names_and_sizes),
      cmocka_unit_test(what_is_not_finite_is_counted),
      cmocka_unit_test(convert_every_pair_unaligned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
