/* Attention over a paged cache with contexts of hundreds of keys, in calls of one row, of a few and of many: the
 * same bits in all of them, the values of a double-precision reference, and sensitive to every key that counts. Over a cache in
 * 8 bits: the bits of one that holds the codes' values. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "compute/ops.h"
#include "tests/support/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of two sequences, each at ROWS successive positions from FIRST[sequence] on, across ends of partitions. */
enum { LENGTH = 560, BLOCK = 16, BLOCKS = LENGTH / BLOCK, ROWS = 24, FIRST_A = 244, FIRST_B = LENGTH - ROWS };

typedef struct Shape {
  DType activations, cache;
  int64_t H, K, D;
  int window;
  bool slopes;
  float softcap;
} Shape;

typedef struct Bed {
  Compute c;
  Arena arena;
  Shape shape;
  PagedCache cache;
  AttentionSpec spec;
  Tensor q, sequence, position; /* of the 2 * ROWS rows */
  float *keys, *values, *queries,
      *slopes; /* [2, LENGTH, K, D], [2 * ROWS, H, D], [H] on the host, as stored */
} Bed;

#define RUN(bed, call)                                \
  do {                                                \
    Error error_ = {0};                               \
    compute_dry_begin(&(bed)->c);                     \
    call;                                             \
    assert_true(compute_dry_end(&(bed)->c, &error_)); \
    call;                                             \
  } while (0)

static Tensor upload_ids(Bed *bed, const int32_t *values, int64_t count) {
  const Tensor x = tensor_new_1d(&bed->arena, DTYPE_I32, count);
  compute_upload(&bed->c, x, values);
  return x;
}

/* Values that both the activations' type and the cache's can hold. */
static float *narrow_values(int64_t count, uint64_t sample) {
  float *x = malloc((size_t)count * sizeof *x);
  assert_non_null(x);
  for (int64_t i = 0; i < count; i++) {
    x[i] = float_from_bf16(bf16_from_float(random_normal(random_key(9, RANDOM_TEST), sample, (uint64_t)i)));
  }
  return x;
}

/* Stores bed->keys and bed->values. */
static void fill_cache(Bed *bed) {
  const Shape *s = &bed->shape;
  static int32_t sequence[2 * LENGTH], position[2 * LENGTH];
  for (int32_t i = 0; i < 2 * LENGTH; i++) {
    sequence[i] = i / LENGTH;
    position[i] = i % LENGTH;
  }
  const Tensor k = tensor_new_3d(&bed->arena, s->activations, 2 * LENGTH, s->K, s->D);
  const Tensor v = tensor_new_3d(&bed->arena, s->activations, 2 * LENGTH, s->K, s->D);
  device_write(&bed->c, k, bed->keys);
  device_write(&bed->c, v, bed->values);
  const Tensor rows = upload_ids(bed, sequence, 2 * LENGTH), at = upload_ids(bed, position, 2 * LENGTH);
  RUN(bed, op_cache_store(&bed->c, bed->cache, k, v, rows, at));
}

static PagedCache cache_new(Bed *bed, DType dtype) {
  const Shape *s = &bed->shape;
  const int64_t pool[4] = {2 * BLOCKS, s->K, BLOCK, s->D}, count = 2 * LENGTH * s->K * s->D;
  PagedCache cache = {.table = bed->cache.table};
  cache.keys = tensor_over(tensor_new_1d(&bed->arena, dtype, count).data, dtype, 4, pool);
  cache.values = tensor_over(tensor_new_1d(&bed->arena, dtype, count).data, dtype, 4, pool);
  if (dtype != DTYPE_I8) return cache;
  cache.key_scales = tensor_new_3d(&bed->arena, DTYPE_F32, 2 * BLOCKS, s->K, BLOCK);
  cache.value_scales = tensor_new_3d(&bed->arena, DTYPE_F32, 2 * BLOCKS, s->K, BLOCK);
  return cache;
}

/* The values of codes, in the type of the queries, in the order of `to`: [2, LENGTH, K, D]. */
static void read_codes(Bed *bed, Tensor codes, Tensor scales, float *to) {
  const Shape *s = &bed->shape;
  int8_t *code = malloc((size_t)tensor_count(codes));
  float *scale = malloc((size_t)tensor_count(scales) * sizeof *scale);
  int32_t table[2 * BLOCKS];
  assert_true(code && scale);
  compute_download(&bed->c, code, codes);
  compute_download(&bed->c, scale, scales);
  compute_download(&bed->c, table, bed->cache.table);
  for (int64_t i = 0; i < 2 * LENGTH * s->K; i++) {
    const int64_t row = i / s->K, sequence = row / LENGTH, position = row % LENGTH;
    const int64_t block = table[sequence * BLOCKS + position / BLOCK];
    const int64_t slot = (block * s->K + i % s->K) * BLOCK + position % BLOCK;
    for (int64_t d = 0; d < s->D; d++) {
      const float value = (float)code[slot * s->D + d] * scale[slot];
      to[i * s->D + d] = s->activations == DTYPE_BF16 ? float_from_bf16(bf16_from_float(value)) : value;
    }
  }
  free(code);
  free(scale);
}

static void open_rows(Bed *bed) {
  int32_t sequence[2 * ROWS], position[2 * ROWS];
  for (int32_t i = 0; i < 2 * ROWS; i++) {
    sequence[i] = i / ROWS;
    position[i] = (i < ROWS ? FIRST_A : FIRST_B) + i % ROWS;
  }
  bed->sequence = upload_ids(bed, sequence, 2 * ROWS);
  bed->position = upload_ids(bed, position, 2 * ROWS);
  bed->q = tensor_new_3d(&bed->arena, bed->shape.activations, 2 * ROWS, bed->shape.H, bed->shape.D);
  device_write(&bed->c, bed->q, bed->queries);
}

static void bed_open(Bed *bed, DeviceKind kind, Shape s) {
  Error error = {0};
  *bed = (Bed){.shape = s};
  assert_true(compute_open(&bed->c, kind, 2, &error));
  assert_true(compute_arena(&bed->c, &bed->arena, "test", (size_t)48 << 20, &error));
  device_spoil(&bed->c, &bed->arena);
  const int64_t count = 2 * LENGTH * s.K * s.D;
  int32_t table[2 * BLOCKS];
  for (int32_t i = 0; i < 2 * BLOCKS; i++) table[i] = (i * 37 + 5) % (2 * BLOCKS); /* coprime */
  bed->cache.table = tensor_new_2d(&bed->arena, DTYPE_I32, 2, BLOCKS);
  compute_upload(&bed->c, bed->cache.table, table);
  bed->cache = cache_new(bed, s.cache);
  bed->keys = narrow_values(count, 0);
  bed->values = narrow_values(count, 1);
  bed->queries = narrow_values(2 * ROWS * s.H * s.D, 2);
  bed->slopes = narrow_values(s.H, 3);
  bed->spec = (AttentionSpec){.scale = 1 / sqrtf((float)s.D), .softcap = s.softcap, .window = s.window};
  if (s.slopes) {
    for (int64_t h = 0; h < s.H; h++) bed->slopes[h] = 0.5F / (float)(1 + h);
    bed->spec.slopes = tensor_new_1d(&bed->arena, DTYPE_F32, s.H);
    compute_upload(&bed->c, bed->spec.slopes, bed->slopes);
  }
  fill_cache(bed);
  if (s.cache == DTYPE_I8) {
    read_codes(bed, bed->cache.keys, bed->cache.key_scales, bed->keys);
    read_codes(bed, bed->cache.values, bed->cache.value_scales, bed->values);
  }
  open_rows(bed);
}

static void bed_close(Bed *bed) {
  free(bed->keys);
  free(bed->values);
  free(bed->queries);
  free(bed->slopes);
  compute_arena_free(&bed->c, &bed->arena);
  compute_close(&bed->c);
}

/* Rows first .. first+count-1 in one call, into the bytes at their place in `out`. */
static void run_rows(Bed *bed, int64_t first, int64_t count, char *out) {
  const size_t mark = arena_mark(&bed->arena);
  const Tensor to = tensor_new_3d(&bed->arena, bed->shape.activations, count, bed->shape.H, bed->shape.D);
  RUN(bed, op_attention_paged(&bed->c, to, tensor_rows(bed->q, first, count), bed->cache,
                              tensor_rows(bed->sequence, first, count),
                              tensor_rows(bed->position, first, count), bed->spec));
  compute_download(&bed->c, out + (size_t)first * (tensor_bytes(to) / (size_t)count), to);
  arena_release(&bed->arena, mark);
}

/* out[H, D] of a row, in double precision. */
static void reference(const Bed *bed, int64_t row, double *out) {
  const Shape *s = &bed->shape;
  const int64_t sequence = row / ROWS, position = (sequence == 0 ? FIRST_A : FIRST_B) + row % ROWS;
  for (int64_t h = 0; h < s->H; h++) {
    double p[LENGTH], highest = -INFINITY, total = 0;
    const int64_t first = s->window > 0 && position >= s->window ? position - s->window + 1 : 0;
    const float *q = bed->queries + (row * s->H + h) * s->D;
    for (int64_t j = first; j <= position; j++) {
      const float *k = bed->keys + ((sequence * LENGTH + j) * s->K + h / (s->H / s->K)) * s->D;
      double sum = 0;
      for (int64_t d = 0; d < s->D; d++) sum += (double)q[d] * (double)k[d];
      sum *= (double)bed->spec.scale;
      if (s->softcap > 0) sum = (double)s->softcap * tanh(sum / (double)s->softcap);
      if (s->slopes) sum += (double)bed->slopes[h] * (double)(j - position);
      p[j] = sum;
      highest = fmax(highest, sum);
    }
    memset(out + h * s->D, 0, (size_t)s->D * sizeof *out);
    for (int64_t j = first; j <= position; j++) {
      const float *v = bed->values + ((sequence * LENGTH + j) * s->K + h / (s->H / s->K)) * s->D;
      const double weight = exp(p[j] - highest);
      total += weight;
      for (int64_t d = 0; d < s->D; d++) out[h * s->D + d] += weight * (double)v[d];
    }
    for (int64_t d = 0; d < s->D; d++) out[h * s->D + d] /= total;
  }
}

static double value_at(const char *out, DType dtype, int64_t i) {
  if (dtype == DTYPE_F32) return (double)((const float *)(const void *)out)[i];
  return (double)float_from_bf16(((const uint16_t *)(const void *)out)[i]);
}

/* Largest difference in units of what the type may round, 1e-6 for F32. */
static double largest(const Bed *bed, const char *out) {
  const int64_t width = bed->shape.H * bed->shape.D;
  const bool narrow = bed->shape.activations == DTYPE_BF16;
  double *want = malloc((size_t)width * sizeof *want), worst = 0;
  assert_non_null(want);
  for (int64_t row = 0; row < 2 * ROWS; row++) {
    reference(bed, row, want);
    for (int64_t i = 0; i < width; i++) {
      const double difference = fabs(value_at(out, bed->shape.activations, row * width + i) - want[i]);
      const double units = difference / (narrow ? fabs(want[i]) * 0x1p-8 + 1e-5 : 1e-6);
      if (!(units <= worst)) worst = units;
    }
  }
  free(want);
  return worst;
}

static void check(DeviceKind kind, Shape shape) {
  Bed bed;
  bed_open(&bed, kind, shape);
  const size_t bytes = (size_t)(2 * ROWS * shape.H * shape.D) * dtype_size(shape.activations);
  char *whole = malloc(bytes), *parts = malloc(bytes);
  assert_true(whole && parts);
  run_rows(&bed, 0, 2 * ROWS, whole);
  const double units = largest(&bed, whole);
  print_message("    %s, %s cache, H %d, K %d, D %d: %.2g\n", dtype_name(shape.activations),
                dtype_name(shape.cache), (int)shape.H, (int)shape.K, (int)shape.D, units);
  assert_true(units <= 1);
  static const int chunks[] = {1, 5, 16, ROWS + 3};
  for (int i = 0; i < 4; i++) {
    memset(parts, 0xff, bytes);
    for (int64_t first = 0; first < 2 * ROWS; first += chunks[i]) {
      run_rows(&bed, first, first + chunks[i] < 2 * ROWS ? chunks[i] : 2 * ROWS - first, parts);
    }
    assert_memory_equal(whole, parts, bytes);
  }
  if (shape.cache == DTYPE_I8) { /* bed.keys and bed.values are what the codes stand for */
    const PagedCache codes = bed.cache;
    bed.cache = cache_new(&bed, shape.activations);
    fill_cache(&bed);
    memset(parts, 0xff, bytes);
    run_rows(&bed, 0, 2 * ROWS, parts);
    assert_memory_equal(whole, parts, bytes);
    bed.cache = codes;
  }
  /* Of the reference, one key less: noticed. */
  const int64_t seen = LENGTH - ROWS - 20;
  for (int64_t i = 0; i < shape.K * shape.D; i++) bed.values[(LENGTH + seen) * shape.K * shape.D + i] = 9;
  assert_true(largest(&bed, whole) > 2);
  free(whole);
  free(parts);
  bed_close(&bed);
}

static const Shape shapes[] = {
    {DTYPE_F32, DTYPE_F32, 4, 2, 32, 0, false, 0},
    {DTYPE_F32, DTYPE_F32, 2, 2, 20, 0, true, 0},
    {DTYPE_F32, DTYPE_BF16, 3, 1, 64, 270, false, 0},
    {DTYPE_F32, DTYPE_F32, 9, 1, 16, 40, false, 2},
    {DTYPE_BF16, DTYPE_BF16, 2, 2, 64, 0, false, 0},
    {DTYPE_BF16, DTYPE_BF16, 6, 2, 80, 300, true, 0},
    {DTYPE_BF16, DTYPE_BF16, 12, 1, 128, 40, false, 0},
    {DTYPE_BF16, DTYPE_BF16, 20, 1, 96, 0, false, 3},
    {DTYPE_BF16, DTYPE_BF16, 2, 1, 256, 260, false, 0},
    {DTYPE_BF16, DTYPE_BF16, 3, 1, 20, 0, false, 0},
    {DTYPE_BF16, DTYPE_F32, 2, 1, 48, 0, false, 0},
    {DTYPE_F32, DTYPE_I8, 4, 2, 32, 0, false, 0},
    {DTYPE_F32, DTYPE_I8, 3, 3, 20, 270, true, 2},
    {DTYPE_BF16, DTYPE_I8, 2, 2, 64, 0, false, 0},
    {DTYPE_BF16, DTYPE_I8, 6, 2, 80, 300, true, 0},
    {DTYPE_BF16, DTYPE_I8, 12, 1, 128, 40, false, 0},
    {DTYPE_BF16, DTYPE_I8, 20, 1, 96, 0, false, 3},
    {DTYPE_BF16, DTYPE_I8, 2, 1, 256, 260, false, 0},
    {DTYPE_BF16, DTYPE_I8, 3, 1, 20, 0, false, 0},
    /* So many key heads that a large card, too, has enough to do without splitting the keys of all rows. */
    {DTYPE_BF16, DTYPE_BF16, 32, 32, 64, 0, false, 0},
    {DTYPE_F32, DTYPE_F32, 32, 32, 64, 0, false, 0},
    {DTYPE_BF16, DTYPE_I8, 32, 32, 64, 0, false, 0},
};
enum { BRIEF_SHAPES = sizeof shapes / sizeof *shapes - 3 };

/* Rows at the ends of what floats can hold: zeros, numbers below what a scale has the precision for, the largest, and what is
 * not finite, which no code may hide. */
static void check_codes(DeviceKind kind, DType activations) {
  enum { D = 40, CASES = 8 };
  Bed bed;
  bed_open(&bed, kind, (Shape){activations, DTYPE_I8, 1, 1, D, 0, false, 0});
  memset(bed.keys, 0, (size_t)(2 * LENGTH * D) * sizeof *bed.keys);
  for (int64_t i = 1; i < CASES; i++) {
    const float first[CASES] = {0, 1, -0x1p-149F, 0x1p-140F, -0x1.fep127F, INFINITY, -INFINITY, NAN};
    for (int64_t d = 0; d < D; d++) bed.keys[i * D + d] = first[i] / (float)(1 + d % 3);
    if (i > 4) {
      for (int64_t d = 0; d < D; d++) bed.keys[i * D + d] = d == 33 ? first[i] : 1;
    }
  }
  if (activations == DTYPE_BF16) {
    for (int64_t i = 0; i < CASES * D; i++) bed.keys[i] = float_from_bf16(bf16_from_float(bed.keys[i]));
  }
  float *want = malloc((size_t)(CASES * D) * sizeof *want);
  assert_non_null(want);
  memcpy(want, bed.keys, (size_t)(CASES * D) * sizeof *want);
  fill_cache(&bed);
  read_codes(&bed, bed.cache.keys, bed.cache.key_scales, bed.keys);
  for (int64_t i = 0; i < CASES; i++) {
    float most = 0;
    for (int64_t d = 0; d < D; d++) most = fmaxf(most, fabsf(want[i * D + d]));
    for (int64_t d = 0; d < D; d++) {
      const float got = bed.keys[i * D + d], x = want[i * D + d];
      if (i > 4) {
        assert_true(isnan(got));
      } else if (!(fabsf(got - x) <= most * (0.5F / 127 + 0x1p-9F) + 0x1p-142F)) {
        fail_msg("row %d, element %d: %g became %g", (int)i, (int)d, (double)x, (double)got);
      }
    }
  }
  free(want);
  bed_close(&bed);
}

static void check_all(DeviceKind kind) {
  Compute c;
  Error error = {0};
  if (!compute_open(&c, kind, 1, &error)) skip();
  const bool narrow = compute_activation(&c, DTYPE_BF16) == DTYPE_BF16;
  compute_close(&c);
  check_codes(kind, DTYPE_F32);
  if (narrow) check_codes(kind, DTYPE_BF16);
  const size_t count = getenv("DROVER_TEST_BRIEF") ? BRIEF_SHAPES : sizeof shapes / sizeof *shapes;
  for (size_t i = 0; i < count; i++) {
    if (narrow || shapes[i].activations == DTYPE_F32) check(kind, shapes[i]);
  }
}

static void test_cpu(void **state) {
  (void)state;
  const char *only = getenv("DROVER_TEST_BACKEND");
  if (only && !strcmp(only, "cuda")) skip();
  check_all(DEVICE_CPU);
}

static void test_cuda(void **state) {
  (void)state;
  check_all(DEVICE_CUDA);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_cuda)};
  return cmocka_run_group_tests_name("compute/paged", tests, NULL, NULL);
}
