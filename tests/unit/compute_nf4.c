/* 4-bit and 8-bit matrices: codes, scales and values beside bitsandbytes', and the layouts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/nf4.h"
#include "compute/q8.h"
#include "compute/tensor.h"
#include "tests/support/fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const cases[] = {"small", "wide", "tall", "odd", "edges"};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct Case {
  const float *values, *absmax, *group;
  const uint8_t *packed, *scales;
  const uint16_t *plain, *nested;
  const float *map;
  float mean;
  int64_t outputs, inputs, blocks;
} Case;

static const void *array(Fixture *f, const char *name, const char *part, const SafetensorsEntry **out) {
  char key[64];
  snprintf(key, sizeof key, "%s.%s", name, part);
  const SafetensorsEntry *entry = safetensors_file_find(&f->file, key);
  assert_non_null(entry);
  if (out) *out = entry;
  return entry->data;
}

static Case open_case(Fixture *f, const char *name) {
  const SafetensorsEntry *values;
  Case c = {.values = array(f, name, "values", &values),
            .absmax = array(f, name, "absmax", NULL),
            .group = array(f, name, "group", NULL),
            .packed = array(f, name, "packed", NULL),
            .scales = array(f, name, "scales", NULL),
            .plain = array(f, name, "plain", NULL),
            .nested = array(f, name, "nested", NULL),
            .map = fixture_floats(f, "map", NULL)};
  memcpy(&c.mean, array(f, name, "mean", NULL), sizeof c.mean);
  c.outputs = values->shape[0], c.inputs = values->shape[1];
  c.blocks = c.outputs * (c.inputs / NF4_BLOCK);
  return c;
}

static void test_map(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "nf4/blocks");
  float map[NF4_MAP];
  nf4_dynamic_map(map);
  assert_memory_equal(map, fixture_floats(&f, "map", NULL), sizeof map);
  fixture_close(&f);
}

/* map * group is somewhat more than p in F32, and p + mean half way between two BF16 numbers: rounded twice the scale becomes the even
 * one, which is below, and rounded once the one above. All codes are those of 1. */
static void test_two_roundings_of_a_scale(void **state) {
  (void)state;
  enum { O = 16, I = 64 };
  static const float group = 1.1f, mean = -3;
  float factors[64], below[64];
  int count = 0;
  for (int n = 0; n < 64; n++) {
    const float even = 1 + (float)n / 64, p = even + 1.0f / 256 - mean, factor = p / group;
    const double product = (double)factor * (double)group;
    if ((float)product != p || product - (double)p < 0x1.2p-24) continue;
    factors[count] = factor;
    below[count++] = even;
  }
  assert_true(count > 8);
  for (int layout = 0; layout < 2; layout++) {
    const Nf4Parts at = nf4_parts(DTYPE_NF4, O, I);
    uint8_t *data = test_malloc(at.end);
    uint16_t row[I];
    memset(data, 0xff, at.scales);
    for (int o = 0; o < O; o++) data[at.scales + o] = (uint8_t)o;
    for (int i = 0; i < NF4_MAP; i++)
      memcpy(data + at.map + i * sizeof(float), &factors[i % count], sizeof(float));
    memcpy(data + at.group, &group, sizeof group);
    memcpy(data + at.mean, &mean, sizeof mean);
    for (int o = 0; o < O; o++) {
      nf4_dequantize_row(data, DTYPE_NF4, layout ? NF4_LAYOUT_TILES : NF4_LAYOUT_ROWS, O, I, o, row);
      for (int i = 0; i < I; i++) assert_int_equal(row[i], bf16_from_float(below[o % count]));
    }
    test_free(data);
  }
}

/* Half way between two values of the map the lower one is taken, as the first of the nearest. */
static void test_ties_of_scales(void **state) {
  (void)state;
  float map[NF4_MAP], absmax[NF4_GROUP], group;
  uint8_t scales[NF4_GROUP];
  int ties = 0;
  nf4_dynamic_map(map);
  absmax[0] = 1; /* the largest, so that the others stay as they are */
  for (int k = 1; k < NF4_GROUP; k++) absmax[k] = (map[k - 1] + map[k]) / 2;
  nf4_compress(absmax, NF4_GROUP, 0, scales, &group);
  assert_true(group == 1);
  for (int k = 1; k < NF4_GROUP; k++) {
    if (absmax[k] - map[k - 1] != map[k] - absmax[k]) continue; /* rounded, it is no tie */
    assert_int_equal(scales[k], k - 1);
    ties++;
  }
  assert_true(ties > 50);
}

/* A whole matrix, stripe by stripe. from: 0 values, 1 bitsandbytes' codes and absmax, 2 the same with its nested scales. */
static uint8_t *written(const Case *c, DType dtype, Nf4Layout layout, int from) {
  const int64_t stripe = NF4_STRIPE * c->inputs;
  const Tensor shape = tensor_2d(NULL, dtype, c->outputs, c->inputs);
  uint8_t *data = test_malloc(tensor_bytes(shape));
  Nf4Writer writer;
  Error error = {0};
  assert_true(nf4_writer_init(&writer, dtype, layout, c->outputs, c->inputs, &error));
  for (int64_t o = 0; o < c->outputs; o += NF4_STRIPE) {
    uint8_t *codes = data + o * c->inputs / 2;
    if (from == 0)
      nf4_write_rows(&writer, c->values + o * c->inputs, o, NF4_STRIPE, codes);
    else
      nf4_write_packed(&writer, c->packed + o / NF4_STRIPE * stripe / 2, NF4_STRIPE, codes);
  }
  if (from == 0)
    assert_memory_equal(writer.absmax, c->absmax, (size_t)c->blocks * sizeof(float));
  else
    memcpy(writer.absmax, c->absmax, (size_t)c->blocks * sizeof(float));
  const Nf4Nested nested = {c->scales, c->group, c->map, c->mean};
  nf4_write_tail(&writer, from == 2 ? &nested : NULL, data + c->outputs * c->inputs / 2);
  nf4_writer_free(&writer);
  return data;
}

static void check_values(const Case *c, const uint8_t *data, DType dtype, Nf4Layout layout,
                         const uint16_t *want) {
  uint16_t row[1024];
  assert_true(c->inputs <= 1024);
  for (int64_t o = 0; o < c->outputs; o++) {
    nf4_dequantize_row(data, dtype, layout, c->outputs, c->inputs, o, row);
    assert_memory_equal(row, want + o * c->inputs, (size_t)c->inputs * sizeof *row);
  }
}

static void test_as_bitsandbytes(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "nf4/blocks");
  for (int i = 0; i < CASES; i++) {
    const Case c = open_case(&f, cases[i]);
    for (int layout = NF4_LAYOUT_ROWS; layout <= NF4_LAYOUT_TILES; layout++) {
      for (int from = 0; from < 2; from++) {
        uint8_t *data = written(&c, DTYPE_NF4_PLAIN, (Nf4Layout)layout, from);
        check_values(&c, data, DTYPE_NF4_PLAIN, (Nf4Layout)layout, c.plain);
        test_free(data);
      }
      uint8_t *data = written(&c, DTYPE_NF4, (Nf4Layout)layout, 2);
      check_values(&c, data, DTYPE_NF4, (Nf4Layout)layout, c.nested);
      test_free(data);
    }
  }
  fixture_close(&f);
}

static void test_scales_as_bitsandbytes(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "nf4/blocks");
  for (int i = 0; i < CASES; i++) {
    const Case c = open_case(&f, cases[i]);
    const int64_t groups = (c.blocks + NF4_GROUP - 1) / NF4_GROUP;
    uint8_t *scales = test_malloc((size_t)c.blocks);
    float *group = test_malloc((size_t)groups * sizeof *group);
    nf4_compress(c.absmax, c.blocks, c.mean, scales, group);
    assert_memory_equal(scales, c.scales, (size_t)c.blocks);
    assert_memory_equal(group, c.group, (size_t)groups * sizeof *group);
    test_free(scales);
    test_free(group);
  }
  fixture_close(&f);
}

/* What is quantised here has the library's scales but for the last bit of their mean, whose sum it takes in another order; so both
 * layouts hold the same values, and the codes are the library's. */
static void test_own_scales(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "nf4/blocks");
  for (int i = 0; i < CASES; i++) {
    const Case c = open_case(&f, cases[i]);
    const Nf4Parts at = nf4_parts(DTYPE_NF4, c.outputs, c.inputs);
    uint8_t *rows = written(&c, DTYPE_NF4, NF4_LAYOUT_ROWS, 0);
    uint8_t *tiles = written(&c, DTYPE_NF4, NF4_LAYOUT_TILES, 0);
    float mean;
    memcpy(&mean, rows + at.mean, sizeof mean);
    assert_true(fabsf(mean - c.mean) <= 2e-7f * fabsf(c.mean));
    uint16_t row[1024], other[1024];
    for (int64_t o = 0; o < c.outputs; o++) {
      nf4_dequantize_row(rows, DTYPE_NF4, NF4_LAYOUT_ROWS, c.outputs, c.inputs, o, row);
      nf4_dequantize_row(tiles, DTYPE_NF4, NF4_LAYOUT_TILES, c.outputs, c.inputs, o, other);
      assert_memory_equal(row, other, (size_t)c.inputs * sizeof *row);
    }
    /* wide scales, nested before they are written */
    uint8_t *plain = written(&c, DTYPE_NF4_PLAIN, NF4_LAYOUT_ROWS, 0);
    float *scales = (float *)(void *)(plain + nf4_parts(DTYPE_NF4_PLAIN, c.outputs, c.inputs).scales);
    nf4_nest_scales(scales, c.blocks);
    for (int64_t o = 0; o < c.outputs; o++) {
      nf4_dequantize_row(rows, DTYPE_NF4, NF4_LAYOUT_ROWS, c.outputs, c.inputs, o, row);
      nf4_dequantize_row(plain, DTYPE_NF4_PLAIN, NF4_LAYOUT_ROWS, c.outputs, c.inputs, o, other);
      assert_memory_equal(row, other, (size_t)c.inputs * sizeof *row);
    }
    test_free(plain);
    test_free(rows);
    test_free(tiles);
  }
  fixture_close(&f);
}

/* The page's map of lanes to fragments of mma.m16n8k16, element by element. */
static void test_tiles_are_fragments(void **state) {
  (void)state;
  static float values[16 * 64];
  for (int i = 0; i < 16 * 64; i++)
    values[i] = nf4_table[(i * 7 + i / 64) % 16]; /* absmax 1: codes are known */
  for (int o = 0; o < 16; o++) values[o * 64 + 63] = 1;
  const Case c = {.values = values, .outputs = 16, .inputs = 64, .blocks = 16};
  uint8_t *data = test_malloc(nf4_bytes(DTYPE_NF4_PLAIN, 16, 64));
  Nf4Writer writer;
  Error error = {0};
  assert_true(nf4_writer_init(&writer, DTYPE_NF4_PLAIN, NF4_LAYOUT_TILES, 16, 64, &error));
  nf4_write_rows(&writer, c.values, 0, 16, data);
  nf4_writer_free(&writer);
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int s = 0; s < 4; s++) {
      /* a0 a1: (g, 2t); a2 a3: (g+8, 2t); a4 a5: (g, 2t+8); a6 a7: (g+8, 2t+8), of the product of columns 16s .. */
      static const int row[4] = {0, 8, 0, 8}, column[4] = {0, 0, 8, 8};
      for (int i = 0; i < 4; i++) {
        const uint8_t pair = data[16 * lane + 4 * s + i];
        const float *want = values + (g + row[i]) * 64 + 16 * s + 2 * t + column[i];
        assert_true(nf4_table[pair & 15] == want[0] && nf4_table[pair >> 4] == want[1]);
      }
    }
  }
  test_free(data);
}

static void test_bits_per_weight(void **state) {
  (void)state;
  const int64_t O = 4096, I = 11008;
  const double bits = 8.0 / (double)(O * I);
  assert_true(fabs((double)tensor_bytes(tensor_2d(NULL, DTYPE_NF4, O, I)) * bits - 4.127) < 1e-3);
  assert_true(fabs((double)tensor_bytes(tensor_2d(NULL, DTYPE_NF4_PLAIN, O, I)) * bits - 4.5) < 1e-3);
  assert_true(fabs((double)tensor_bytes(tensor_2d(NULL, DTYPE_Q8, O, I)) * bits - 8.5) < 1e-3);
}

static void test_q8(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "nf4/blocks");
  for (int i = 0; i < CASES; i++) {
    const Case c = open_case(&f, cases[i]);
    const int64_t count = c.outputs * c.inputs;
    int8_t *codes = test_malloc((size_t)count);
    float *scales = test_malloc((size_t)c.blocks * sizeof *scales);
    uint16_t *out = test_malloc((size_t)count * sizeof *out);
    q8_quantize(c.values, count, codes, scales);
    q8_dequantize(codes, scales, count, out);
    for (int64_t n = 0; n < count; n++) {
      const float absmax = c.absmax[n / Q8_BLOCK], got = float_from_bf16(out[n]);
      /* half a step of 1/127 and BF16's rounding, which below all normal numbers is half of 2^-133 */
      assert_true(fabsf(got - c.values[n]) <= absmax * (0.5f / 127 + 1.0f / 256) + 0x1p-133f);
      assert_true(codes[n] >= -127);
    }
    test_free(codes);
    test_free(scales);
    test_free(out);
  }
  fixture_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_map),
      cmocka_unit_test(test_ties_of_scales),
      cmocka_unit_test(test_two_roundings_of_a_scale),
      cmocka_unit_test(test_as_bitsandbytes),
      cmocka_unit_test(test_scales_as_bitsandbytes),
      cmocka_unit_test(test_own_scales),
      cmocka_unit_test(test_tiles_are_fragments),
      cmocka_unit_test(test_bits_per_weight),
      cmocka_unit_test(test_q8),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
