/* Every operation that takes a weight of a block dtype gives, to the bit, what it gives for the BF16 matrix of that
 * weight's values. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "compute/ops.h"
#include "compute/q8.h"
#include "tests/support/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static Compute compute;
static Arena arena;
static uint64_t draws;

static float draw(void) {
  return random_normal(random_key(5, RANDOM_TEST), 0, draws++);
}

static Tensor uploaded(const void *values, DType dtype, int64_t rows, int64_t columns) {
  const Tensor out = tensor_new_2d(&arena, dtype, rows, columns);
  if (!compute.dry) compute_upload(&compute, out, values);
  return out;
}

/* F32 or what the backend computes in beside 16-bit weights. */
static Tensor activations(int64_t rows, int64_t columns) {
  const DType dtype = compute_activation(&compute, DTYPE_BF16);
  const int64_t count = rows * columns;
  float *wide = test_malloc((size_t)count * sizeof *wide);
  uint16_t *narrow = test_malloc((size_t)count * sizeof *narrow);
  for (int64_t i = 0; i < count; i++) narrow[i] = bf16_from_float(wide[i] = draw());
  const Tensor out = uploaded(dtype == DTYPE_F32 ? (void *)wide : narrow, dtype, rows, columns);
  test_free(wide);
  test_free(narrow);
  return out;
}

/* The same with `gap` elements between the rows. */
static Tensor apart(int64_t rows, int64_t columns, int64_t gap) {
  return tensor_columns(activations(rows, columns + gap), 0, columns);
}

/* The same weight twice: in blocks, and as the BF16 matrix of its values. */
typedef struct Twins {
  Tensor blocks, plain;
} Twins;

static void upload_bytes(Tensor to, const uint8_t *bytes) {
  const Tensor flat = tensor_1d(to.data, DTYPE_U8, (int64_t)tensor_bytes(to));
  compute_upload(&compute, flat, bytes);
}

/* Scales at which one rounding in the place of two gives another BF16: map * group is somewhat more than p in F32, p + mean is half way
 * between two BF16 numbers, and without the first rounding it is above that. All codes are those of 1. */
static void place_at_ties(uint8_t *data, int64_t O, int64_t I) {
  static const float group = 1.1f, mean = -3;
  const Nf4Parts at = nf4_parts(DTYPE_NF4, O, I);
  float *groups = (float *)(void *)(data + at.group), *map = (float *)(void *)(data + at.map);
  float found[64];
  int count = 0;
  for (int n = 0; n < 64; n++) {
    const float p = 1 + (2 * (float)n + 0.5f) / 128 - mean;
    const float factor = p / group;
    const double product = (double)factor * (double)group;
    if ((float)product == p && product - (double)p > 0x1.2p-24) found[count++] = factor;
  }
  assert_true(count > 0);
  memset(data, 0xff, at.scales);
  for (int i = 0; i < NF4_MAP; i++) map[i] = found[i % count];
  for (size_t i = 0; i < (at.map - at.group) / sizeof *groups; i++) groups[i] = group;
  memcpy(data + at.mean, &mean, sizeof mean);
}

static bool at_ties; /* NF4 weights are so */

static Twins twins(DType dtype, int64_t O, int64_t I) {
  const Nf4Layout layout = compute.backend->nf4_layout;
  Twins w = {.blocks = tensor_new_2d(&arena, dtype, O, I), .plain = tensor_new_2d(&arena, DTYPE_BF16, O, I)};
  if (compute.dry) return w;
  float *values = test_malloc((size_t)(O * I) * sizeof *values);
  uint16_t *rounded = test_malloc((size_t)(O * I) * sizeof *rounded);
  uint8_t *data = test_malloc(tensor_bytes(w.blocks));
  for (int64_t i = 0; i < O * I; i++) values[i] = draw() * (0.1f + (float)(i / I % 5));
  if (dtype == DTYPE_Q8) {
    float *scales = (float *)(void *)(data + q8_scales_at(O, I));
    q8_quantize(values, O * I, (int8_t *)data, scales);
    q8_dequantize((const int8_t *)data, scales, O * I, rounded);
  } else {
    Nf4Writer writer;
    Error error = {0};
    assert_true(nf4_writer_init(&writer, dtype, layout, O, I, &error));
    nf4_write_rows(&writer, values, 0, O, data);
    nf4_write_tail(&writer, NULL, data + O * I / 2);
    nf4_writer_free(&writer);
    if (at_ties && dtype == DTYPE_NF4) place_at_ties(data, O, I);
    for (int64_t o = 0; o < O; o++) nf4_dequantize_row(data, dtype, layout, O, I, o, rounded + o * I);
  }
  upload_bytes(w.blocks, data);
  compute_upload(&compute, w.plain, rounded);
  test_free(values);
  test_free(rounded);
  test_free(data);
  return w;
}

/* A backend may take scales in F32 alone. */
static bool takes(DType dtype) {
  return dtype != DTYPE_NF4 || !compute.backend->nf4_wide_scales;
}

static void assert_same(const char *what, Tensor a, Tensor b) {
  if (compute.dry) return;
  const size_t bytes = tensor_bytes(a);
  uint8_t *left = test_malloc(bytes), *right = test_malloc(bytes);
  compute_download(&compute, left, a);
  compute_download(&compute, right, b);
  if (memcmp(left, right, bytes) != 0) print_error("%s: other bits\n", what);
  assert_memory_equal(left, right, bytes);
  test_free(left);
  test_free(right);
}

/* The dry run plans the scratch; the arena begins anew with each. */
static void planned(void (*body)(const void *), const void *with) {
  Error error = {0};
  draws = 0;
  compute_dry_begin(&compute);
  arena_release(&arena, 0);
  body(with);
  assert_true(compute_dry_end(&compute, &error));
  draws = 0;
  arena_release(&arena, 0);
  body(with);
}

typedef struct Case {
  DType dtype;
  int64_t T, O, I;
  bool rows; /* row_invariant */
  bool bias;
  int64_t gap; /* between the rows of x and dy */
} Case;

static void run_linear(const void *with) {
  const Case *k = with;
  const Twins w = twins(k->dtype, k->O, k->I);
  const Tensor x = apart(k->T, k->I, k->gap), dy = apart(k->T, k->O, k->gap);
  const Tensor bias_rows = activations(1, k->O);
  const Tensor bias = k->bias ? tensor_1d(bias_rows.data, bias_rows.dtype, k->O) : (Tensor){0};
  Tensor out[2], dx[2];
  for (int i = 0; i < 2; i++) {
    const Weight weight = {.data = i ? w.blocks : w.plain};
    out[i] = tensor_new_2d(&arena, x.dtype, k->T, k->O);
    dx[i] = tensor_new_2d(&arena, x.dtype, k->T, k->I);
    compute.row_invariant = k->rows;
    op_linear(&compute, out[i], x, weight, bias, 1, 0);
    op_linear(&compute, out[i], x, weight, bias, 0.5f, -2);
    compute.row_invariant = false;
    if (k->rows) continue;
    op_linear_backward_input(&compute, dx[i], dy, weight, 1, 0);
    op_linear_backward_input(&compute, dx[i], dy, weight, 0.5f, 1.5f);
  }
  char what[96];
  snprintf(what, sizeof what, "%s, %d x %d, %d rows%s", dtype_name(k->dtype), (int)k->O, (int)k->I, (int)k->T,
           k->rows ? ", invariant" : "");
  assert_same(what, out[0], out[1]);
  if (!k->rows) assert_same(what, dx[0], dx[1]);
}

/* With an adapter, which is of BF16 or F32 in both. */
static void run_adapted(const void *with) {
  enum { RANK = 12 };
  const Case *k = with;
  const Twins w = twins(k->dtype, k->O, k->I);
  const Tensor x = apart(k->T, k->I, k->gap), start = activations(k->T, k->O), none = {0};
  const AdapterTerm term = {k->O, apart(k->T, RANK, 4), activations(k->O, RANK), 0.7f};
  Tensor out[2];
  for (int i = 0; i < 2; i++) {
    const Weight weight = {.data = i ? w.blocks : w.plain};
    out[i] = tensor_new_2d(&arena, x.dtype, k->T, k->O);
    op_axpby(&compute, out[i], start, 1, 0);
    compute.row_invariant = k->rows;
    op_linear_adapted(&compute, out[i], x, weight, none, &term, 1, -2);
    compute.row_invariant = false;
  }
  assert_same("with an adapter", out[0], out[1]);
}

static void test_linear(void **state) {
  (void)state;
  static const DType dtypes[] = {DTYPE_NF4, DTYPE_NF4_PLAIN, DTYPE_Q8};
  static const int64_t shapes[][2] = {{16, 64}, {48, 192}, {112, 576}, {272, 64}, {32, 1088}, {16, 2176}};
  static const int64_t tokens[] = {1, 2, 5, 8, 9, 33, 70, 27, 3, 4, 6, 7, 17, 32};
  const int counts = device_brief() ? 8 : 14;
  for (int d = 0; d < 3; d++)
    for (int s = 0; s < 6 && takes(dtypes[d]); s++)
      for (int t = 0; t < counts; t++)
        for (int rows = 0; rows < 2; rows++) {
          const Case k = {dtypes[d], tokens[t], shapes[s][0], shapes[s][1], rows, t % 2, t % 3 * 24};
          planned(run_linear, &k);
          if (s % 3 == 1) planned(run_adapted, &k);
        }
}

/* Where kernels decode the scales; elsewhere compute/nf4.c does (unit/compute_nf4). */
static void test_two_roundings(void **state) {
  (void)state;
  static const int64_t tokens[] = {1, 4, 33};
  at_ties = true;
  for (int t = 0; t < 3 && takes(DTYPE_NF4); t++)
    for (int rows = 0; rows < 2; rows++) {
      const Case k = {.dtype = DTYPE_NF4, .T = tokens[t], .O = 48, .I = 192, .rows = rows};
      planned(run_linear, &k);
    }
  at_ties = false;
}

/* Vocabularies of any size; weights that are taken in several pieces, the last with the limit of a matrix unit. */
static void test_pieces(void **state) {
  (void)state;
  const DType nf4 = takes(DTYPE_NF4) ? DTYPE_NF4 : DTYPE_NF4_PLAIN;
  const Case cases[] = {{.dtype = DTYPE_Q8, .T = 5, .O = 33, .I = 64, .bias = true, .gap = 5},
                        {.dtype = DTYPE_Q8, .T = 3, .O = 301, .I = 128, .rows = true},
                        {.dtype = nf4, .T = 5, .O = 32, .I = 640, .rows = true, .gap = 5},
                        {.dtype = nf4, .T = 16, .O = 48, .I = 2624, .rows = true, .bias = true},
                        {.dtype = nf4, .T = 2, .O = 1040, .I = 1984},
                        {.dtype = DTYPE_Q8, .T = 2, .O = 1051, .I = 1984},
                        {.dtype = DTYPE_Q8, .T = 2, .O = 8200, .I = 2048}};
  for (int i = 0; i < (device_brief() ? 4 : 7); i++) planned(run_linear, &cases[i]);
}

/* Launches so far; there where the test is linked with the emulated card. */
extern uint64_t host_launches(void) __attribute__((weak));

static void run_few(const void *with) {
  const int64_t T = *(const int64_t *)with, O = 48, I = 128;
  const Twins w = twins(DTYPE_NF4, O, I);
  const Tensor x = activations(T, I), none = {0};
  const Tensor out = tensor_new_2d(&arena, DTYPE_F32, T, O), same = tensor_new_2d(&arena, DTYPE_F32, T, O);
  const uint64_t before = host_launches();
  compute.row_invariant = true;
  op_linear(&compute, out, x, (Weight){.data = w.blocks}, none, 1, 0);
  const uint64_t launches = host_launches() - before;
  op_linear(&compute, same, x, (Weight){.data = w.plain}, none, 1, 0);
  compute.row_invariant = false;
  if (!compute.dry) assert_int_equal(launches, T <= 32 ? 1 : 2);
  assert_same("few rows, in F32", same, out); /* rounding would hide most of another order of sums */
}

/* Up to 32 rows take codes as they are; more need a copy, which is one launch more. */
static void test_few_rows_read_codes(void **state) {
  (void)state;
  if (!host_launches) skip();
  for (int64_t T = 1; T <= 64; T *= 2) planned(run_few, &T);
}

static void run_table(const void *with) {
  (void)with;
  enum { V = 200, C = 128, N = 11 };
  const Twins w = twins(DTYPE_Q8, V, C);
  int32_t ids[N], targets[N];
  float gradients[N];
  for (int n = 0; n < N; n++)
    ids[n] = n * 37 % V, targets[n] = n * 53 % V, gradients[n] = 0.1f * (float)(n - 4);
  const Tensor id = uploaded(ids, DTYPE_I32, 1, N), target = uploaded(targets, DTYPE_I32, 1, N);
  const Tensor flat_ids = tensor_1d(id.data, DTYPE_I32, N),
               flat_targets = tensor_1d(target.data, DTYPE_I32, N);
  const Tensor d = uploaded(gradients, DTYPE_F32, 1, N), dlogprob = tensor_1d(d.data, DTYPE_F32, N);
  const Tensor x = activations(N, C);
  Tensor embedded[2], logprob[2], entropy[2], dx[2];
  for (int i = 0; i < 2; i++) {
    const Tensor table = i ? w.blocks : w.plain;
    const HeadTerms z = {.x = x, .w = {.data = table}};
    const HeadSpec spec = {.temperature = 0.7f, .softcap = 5};
    embedded[i] = tensor_new_2d(&arena, x.dtype, N, C);
    dx[i] = tensor_new_2d(&arena, x.dtype, N, C);
    logprob[i] = tensor_new_1d(&arena, DTYPE_F32, N);
    entropy[i] = tensor_new_1d(&arena, DTYPE_F32, N);
    op_embedding(&compute, embedded[i], table, flat_ids, 3, 0);
    op_embedding(&compute, embedded[i], table, flat_ids, 0.5f, 2);
    op_head_logprob(&compute, logprob[i], entropy[i], z, flat_targets, spec);
    op_head_logprob_backward(&compute, (HeadTerms){.x = dx[i]}, logprob[i], z, flat_targets, dlogprob,
                             (Tensor){0}, spec);
  }
  assert_same("embedding", embedded[0], embedded[1]);
  assert_same("log-probabilities", logprob[0], logprob[1]);
  assert_same("entropies", entropy[0], entropy[1]);
  assert_same("dx of the head", dx[0], dx[1]);
}

static void test_tables(void **state) {
  (void)state;
  planned(run_table, NULL);
}

/* Every code with scales from end to end of their range, most of few bits: many products lie half way between two BF16. */
static void run_rounding(const void *with) {
  (void)with;
  enum { O = 1024, I = 256, BLOCKS = O * I / Q8_BLOCK };
  static const int exponents[] = {-100, -67, -3, 0, 41, 99};
  const Tensor table = tensor_new_2d(&arena, DTYPE_Q8, O, I);
  int32_t ids[O];
  for (int o = 0; o < O; o++) ids[o] = o;
  const Tensor id = uploaded(ids, DTYPE_I32, 1, O);
  const Tensor values = tensor_new_2d(&arena, compute_activation(&compute, DTYPE_BF16), O, I);
  const Tensor want = tensor_new_2d(&arena, values.dtype, O, I),
               plain = tensor_new_2d(&arena, DTYPE_BF16, O, I);
  if (!compute.dry) {
    uint8_t *data = test_malloc(tensor_bytes(table));
    uint16_t *rounded = test_malloc((size_t)(O * I) * sizeof *rounded);
    float *scales = (float *)(void *)(data + q8_scales_at(O, I));
    for (int i = 0; i < O * I; i++) data[i] = (uint8_t)(int8_t)(i % 255 - 127);
    for (int b = 0; b < BLOCKS; b++) {
      const float bits = b % 2 ? 1 + (float)(b % 1024) / 1024 : 1 + fmodf(fabsf(draw()), 1);
      scales[b] = ldexpf(bits, exponents[b % 6]);
    }
    q8_dequantize((const int8_t *)data, scales, O * I, rounded);
    upload_bytes(table, data);
    compute_upload(&compute, plain, rounded);
    test_free(data);
    test_free(rounded);
  }
  op_embedding(&compute, values, table, tensor_1d(id.data, DTYPE_I32, O), 1, 0);
  op_embedding(&compute, want, plain, tensor_1d(id.data, DTYPE_I32, O), 1, 0);
  assert_same("values", values, want);
}

static void test_rounding(void **state) {
  (void)state;
  planned(run_rounding, NULL);
}

static int open_device(void **state) {
  (void)state;
  test_device_open(&compute, 2);
  device_arena(&compute, &arena, "test", 64 << 20);
  return 0;
}

static int close_device(void **state) {
  (void)state;
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_linear), cmocka_unit_test(test_two_roundings),
      cmocka_unit_test(test_pieces), cmocka_unit_test(test_few_rows_read_codes),
      cmocka_unit_test(test_tables), cmocka_unit_test(test_rounding)};
  return cmocka_run_group_tests(tests, open_device, close_device);
}
