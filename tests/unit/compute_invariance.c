/* To the bit: a row alone equals the row among others (rollouts), any chunking of a prompt equals any other,
 * a second run equals the first, and the results that must not depend on the thread count do not. */
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

typedef struct Bed {
  Compute c;
  Arena arena;
  uint64_t draws;
} Bed;

static void bed_open(Bed *bed, const Backend *backend, int threads) {
  Error error = {0};
  *bed = (Bed){0};
  const bool cpu = backend != backend_cuda;
  assert_true(compute_open(&bed->c, cpu ? DEVICE_CPU : DEVICE_CUDA, threads, &error));
  if (cpu) bed->c.backend = backend;
  bed->c.row_invariant = true;
  assert_true(compute_arena(&bed->c, &bed->arena, "test", (size_t)1 << 27, &error));
}

static void bed_close(Bed *bed) {
  compute_arena_free(&bed->c, &bed->arena);
  compute_close(&bed->c);
}

#define RUN(bed, call)                                \
  do {                                                \
    Error error_ = {0};                               \
    compute_dry_begin(&(bed)->c);                     \
    call;                                             \
    assert_true(compute_dry_end(&(bed)->c, &error_)); \
    call;                                             \
  } while (0)

/* The backends of this machine, or the one that DROVER_TEST_BACKEND names. */
enum { BACKENDS = 2 };
static int backends(const Backend *list[BACKENDS]) {
  const char *only = getenv("DROVER_TEST_BACKEND");
  int count = 0;
  for (DeviceKind kind = DEVICE_CPU; kind <= DEVICE_CUDA; kind++) {
    if (only && strcmp(only, kind == DEVICE_CPU ? "cuda" : "cpu") == 0) continue;
    Compute c;
    Error error = {0};
    if (compute_open(&c, kind, 1, &error)) {
      list[count++] = c.backend;
      compute_close(&c);
    } else if (kind == DEVICE_CPU) {
      fail_msg("%s", error.message);
    }
  }
  assert_true(count > 0);
  return count;
}

static Tensor noise(Bed *bed, Tensor x) {
  float *values = malloc((size_t)tensor_count(x) * sizeof *values);
  assert_non_null(values);
  for (int64_t i = 0; i < tensor_count(x); i++) {
    values[i] = random_normal(random_key(1, RANDOM_TEST), 0, bed->draws++);
  }
  device_write(&bed->c, x, values);
  free(values);
  return x;
}

static Tensor noise_2d(Bed *bed, DType dtype, int64_t a, int64_t b) {
  return noise(bed, tensor_new_2d(&bed->arena, dtype, a, b));
}
static Tensor noise_3d(Bed *bed, DType dtype, int64_t a, int64_t b, int64_t c) {
  return noise(bed, tensor_new_3d(&bed->arena, dtype, a, b, c));
}

static void *bytes_of(Bed *bed, Tensor x) {
  void *bytes = malloc(tensor_bytes(x) + 1);
  assert_non_null(bytes);
  compute_download(&bed->c, bytes, x);
  return bytes;
}

static void copy_to(Bed *to, Tensor x, Bed *from, Tensor y) {
  void *bytes = bytes_of(from, y);
  compute_upload(&to->c, x, bytes);
  free(bytes);
}

static void assert_same(Bed *bed, Tensor a, Bed *other, Tensor b) {
  void *x = bytes_of(bed, a), *y = bytes_of(other, b);
  assert_memory_equal(x, y, tensor_bytes(a));
  free(x);
  free(y);
}

/* -- linear: every number of rows up to the tile sizes and beyond, against one row at a time -- */

/* Briefly: the smallest batches, and those about a tile's edge. */
static bool tried(int64_t rows) {
  return !device_brief() || rows < 4 || rows == 8 || rows == 9 || rows == 16 || rows == 17 || rows == 33 ||
         rows == 67;
}

static void check_linear(const Backend *backend, DType narrow, DType out_dtype, DType dtype, bool transposed,
                         int64_t inputs, int64_t outputs) {
  enum { ROWS = 67 };
  Bed bed, other;
  bed_open(&bed, backend, 2);
  bed_open(&other, backend, 3);
  Tensor x = noise_2d(&bed, narrow, ROWS, inputs), bias = noise_2d(&bed, dtype, 1, outputs);
  Weight w = {.data = noise_2d(&bed, dtype, transposed ? inputs : outputs, transposed ? outputs : inputs),
              .transposed = transposed};
  bias = tensor_1d(bias.data, dtype, outputs);
  Tensor alone = noise_2d(&bed, out_dtype, ROWS, outputs), start = noise_2d(&bed, out_dtype, ROWS, outputs);
  copy_to(&bed, alone, &bed, start);
  for (int64_t r = 0; r < ROWS; r++) {
    RUN(&bed, op_linear(&bed.c, tensor_rows(alone, r, 1), tensor_rows(x, r, 1), w, bias, 0.7f, 0.3f));
  }
  Tensor together = tensor_new_2d(&bed.arena, out_dtype, ROWS, outputs);
  for (int64_t n = 1; n <= ROWS; n++) {
    if (!tried(n)) continue;
    Tensor out = tensor_rows(together, 0, n);
    copy_to(&other, out, &bed, tensor_rows(start, 0, n)); /* waits for bed: they have two streams */
    RUN(&other, op_linear(&other.c, out, tensor_rows(x, 0, n), w, bias, 0.7f, 0.3f));
    assert_same(&other, out, &bed, tensor_rows(alone, 0, n));
  }
  /* as the last rows of the batch, too */
  Tensor last = tensor_rows(together, 0, 5);
  copy_to(&bed, last, &bed, tensor_rows(start, ROWS - 5, 5));
  RUN(&bed, op_linear(&bed.c, last, tensor_rows(x, ROWS - 5, 5), w, bias, 0.7f, 0.3f));
  assert_same(&bed, last, &bed, tensor_rows(alone, ROWS - 5, 5));
  bed_close(&bed);
  bed_close(&other);
}

static void test_linear_rows(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{77, 131}, {1, 3}, {64, 520}, {2500, 70}, {2048, 72}, {3072, 9}};
  static const DType types[][2] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_F32, DTYPE_BF16}, {DTYPE_BF16, DTYPE_BF16}};
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    for (int k = 0; k < 3 * 2 * 5; k++) {
      const int type = k % 3, transposed = k / 3 % 2, size = k / 6;
      const bool narrow = types[type][0] == DTYPE_BF16; /* tensor cores take multiples of 8 */
      if (narrow ? !list[i]->narrow_activations || size == 3 : size == 4) continue;
      if (device_brief() && (type + transposed + size) % 3 != 0) continue; /* every size, every type */
      check_linear(list[i], types[type][0], types[type][0], types[type][1], transposed, sizes[size][0],
                   sizes[size][1]);
    }
  }
}

/* More outputs and rows than the widest tiles of a small card have, so that these are taken; in F32, or rounding would hide most of what
 * another order of sums changes. */
static void test_wide_rows(void **state) {
  (void)state;
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    if (!list[i]->narrow_activations) continue;
    check_linear(list[i], DTYPE_BF16, DTYPE_F32, DTYPE_BF16, false, 136, 272);
    check_linear(list[i], DTYPE_BF16, DTYPE_F32, DTYPE_BF16, true, 136, 272);
    check_linear(list[i], DTYPE_BF16, DTYPE_F32, DTYPE_BF16, false, 72, 144);
  }
}

/* The same with an adapter on each of three parts of the outputs, and with none on the second. */
static void check_adapted(const Backend *backend, DType narrow, int64_t inputs, int64_t part, int64_t rank,
                          bool all) {
  enum { ROWS = 67, PARTS = 3 };
  Bed bed, other;
  bed_open(&bed, backend, 2);
  bed_open(&other, backend, 3);
  const int64_t outputs = PARTS * part;
  const Tensor x = noise_2d(&bed, narrow, ROWS, inputs), u = noise_2d(&bed, narrow, ROWS, PARTS * rank);
  const Weight w = {.data = noise_2d(&bed, narrow, outputs, inputs)};
  const Tensor start = noise_2d(&bed, narrow, ROWS, outputs), none = {0};
  const Tensor alone = noise_2d(&bed, narrow, ROWS, outputs),
               together = noise_2d(&bed, narrow, ROWS, outputs);
  Tensor b[PARTS];
  for (int i = 0; i < PARTS; i++) b[i] = noise_2d(&bed, narrow, part, rank);
  copy_to(&bed, alone, &bed, start);
  for (int64_t n = 0; n <= ROWS; n++) {
    for (int64_t first = 0; first < (n == 0 ? ROWS : 1) && (n == 0 || tried(n)); first++) {
      const int64_t rows = n == 0 ? 1 : n;
      AdapterTerm terms[PARTS];
      for (int i = 0; i < PARTS; i++) {
        terms[i] = (AdapterTerm){.outputs = part};
        if (i == 1 && !all) continue;
        terms[i] =
            (AdapterTerm){part, tensor_columns(tensor_rows(u, first, rows), i * rank, rank), b[i], 0.7f};
      }
      Bed *at = n == 0 ? &bed : &other;
      const Tensor out = tensor_rows(n == 0 ? alone : together, first, rows);
      if (n > 0) copy_to(&other, out, &bed, tensor_rows(start, 0, n));
      RUN(at, op_linear_adapted(&at->c, out, tensor_rows(x, first, rows), w, none, terms, PARTS, 0.3f));
      if (n > 0) assert_same(&other, out, &bed, tensor_rows(alone, 0, n));
    }
  }
  bed_close(&bed);
  bed_close(&other);
}

static void test_adapted_rows(void **state) {
  (void)state;
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    check_adapted(list[i], DTYPE_F32, 77, 32, 5, true);
    check_adapted(list[i], DTYPE_F32, 64, 17, 4, false);
    if (!list[i]->narrow_activations) continue;
    check_adapted(list[i], DTYPE_BF16, 192, 64, 4, true);
    check_adapted(list[i], DTYPE_BF16, 136, 48, 24, false);
    check_adapted(list[i], DTYPE_BF16, 77, 16, 2, true);
    check_adapted(list[i], DTYPE_BF16, 64, 24, 8, true);
  }
}

/* -- paged attention: chunks of a prompt, and strangers in the call -- */

typedef struct Paged {
  Bed bed;
  Tensor q, k, v, out, sequence, position;
  PagedCache cache;
  AttentionSpec spec;
} Paged;

/* `rows` rows of sequence 1, then as many of sequence 0. */
static void paged_open(Paged *p, const Backend *backend, DType narrow, DType dtype, int64_t rows, int64_t H,
                       int64_t K, int64_t D, int window) {
  bed_open(&p->bed, backend, 2);
  Arena *arena = &p->bed.arena;
  enum { BLOCK = 16 };
  int64_t blocks = (rows + BLOCK - 1) / BLOCK, dim[] = {2 * blocks, K, BLOCK, D};
  p->q = noise_3d(&p->bed, narrow, 2 * rows, H, D);
  p->k = noise_3d(&p->bed, narrow, 2 * rows, K, D);
  p->v = noise_3d(&p->bed, narrow, 2 * rows, K, D);
  p->out = noise_3d(&p->bed, narrow, 2 * rows, H, D);
  p->sequence = tensor_new_1d(arena, DTYPE_I32, 2 * rows);
  p->position = tensor_new_1d(arena, DTYPE_I32, 2 * rows);
  int64_t count = 2 * blocks * K * BLOCK * D;
  p->cache.keys = tensor_over(tensor_new_1d(arena, dtype, count).data, dtype, 4, dim);
  p->cache.values = tensor_over(tensor_new_1d(arena, dtype, count).data, dtype, 4, dim);
  if (dtype == DTYPE_I8) {
    p->cache.key_scales = tensor_new_3d(arena, DTYPE_F32, 2 * blocks, K, BLOCK);
    p->cache.value_scales = tensor_new_3d(arena, DTYPE_F32, 2 * blocks, K, BLOCK);
  }
  p->cache.table = tensor_new_2d(arena, DTYPE_I32, 2, blocks);
  int32_t table[64], sequence[256], position[256];
  assert_true(2 * blocks <= 64 && 2 * rows <= 256);
  for (int64_t i = 0; i < 2 * blocks; i++) table[i] = (int32_t)(2 * blocks - 1 - i);
  for (int64_t i = 0; i < 2 * rows; i++) {
    sequence[i] = i < rows;
    position[i] = (int32_t)(i % rows);
  }
  compute_upload(&p->bed.c, p->cache.table, table);
  compute_upload(&p->bed.c, p->sequence, sequence);
  compute_upload(&p->bed.c, p->position, position);
  p->spec = (AttentionSpec){.scale = 1 / sqrtf((float)D), .window = window};
}

/* Stores and attends rows first .. first+count-1. */
static void paged_run(Paged *p, int64_t first, int64_t count) {
  Tensor sequence = tensor_rows(p->sequence, first, count), position = tensor_rows(p->position, first, count);
  Tensor k = tensor_rows(p->k, first, count), v = tensor_rows(p->v, first, count);
  Tensor q = tensor_rows(p->q, first, count), out = tensor_rows(p->out, first, count);
  RUN(&p->bed, op_cache_store(&p->bed.c, p->cache, k, v, sequence, position));
  RUN(&p->bed, op_attention_paged(&p->bed.c, out, q, p->cache, sequence, position, p->spec));
}

static void check_paged(const Backend *backend, DType narrow, DType dtype, int64_t H, int64_t K, int64_t D,
                        int window) {
  enum { ROWS = 83 };
  Paged p;
  paged_open(&p, backend, narrow, dtype, ROWS, H, K, D, window);
  paged_run(&p, 0, 2 * ROWS); /* two prompts at once */
  Tensor whole = tensor_new_like(&p.bed.arena, p.out, narrow);
  copy_to(&p.bed, whole, &p.bed, p.out);
  const int64_t chunks[] = {1, 7, 40, 16};
  for (int i = device_brief() ? 1 : 0; i < (device_brief() ? 3 : 4); i++) {
    noise(&p.bed, p.out);
    for (int64_t first = 0; first < ROWS; first += chunks[i]) {
      paged_run(&p, first, first + chunks[i] < ROWS ? chunks[i] : ROWS - first);
    }
    assert_same(&p.bed, tensor_rows(p.out, 0, ROWS), &p.bed, tensor_rows(whole, 0, ROWS));
  }
  if (dtype == DTYPE_F32) { /* and it is the attention of training */
    Tensor offsets = tensor_new_1d(&p.bed.arena, DTYPE_I32, 3),
           lse = tensor_new_2d(&p.bed.arena, DTYPE_F32, 2 * ROWS, H);
    compute_upload(&p.bed.c, offsets, (int32_t[]){0, ROWS, 2 * ROWS});
    RUN(&p.bed, op_attention(&p.bed.c, p.out, lse, p.q, p.k, p.v, offsets, p.spec));
    float *packed = device_values(&p.bed.c, p.out), *paged = device_values(&p.bed.c, whole);
    for (int64_t i = 0; i < tensor_count(p.out); i++) {
      if (!(fabsf(packed[i] - paged[i]) <= 2e-6f * (1 + fabsf(packed[i]))))
        fail_msg("%g and %g", (double)packed[i], (double)paged[i]);
    }
    free(packed);
    free(paged);
  }
  bed_close(&p.bed);
}

static void test_paged_chunks(void **state) {
  (void)state;
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    check_paged(list[i], DTYPE_F32, DTYPE_F32, 4, 2, 20, 0);
    check_paged(list[i], DTYPE_F32, DTYPE_F32, 3, 1, 64, 23);
    check_paged(list[i], DTYPE_F32, DTYPE_BF16, 2, 2, 33, 0);
    check_paged(list[i], DTYPE_F32, DTYPE_I8, 4, 2, 20, 0);
    if (!list[i]->narrow_activations) continue;
    check_paged(list[i], DTYPE_BF16, DTYPE_BF16, 4, 2, 64, 0);
    check_paged(list[i], DTYPE_BF16, DTYPE_BF16, 2, 1, 128, 23);
    check_paged(list[i], DTYPE_BF16, DTYPE_BF16, 2, 2, 20, 0);
    check_paged(list[i], DTYPE_BF16, DTYPE_I8, 4, 2, 64, 0);
    check_paged(list[i], DTYPE_BF16, DTYPE_I8, 2, 1, 128, 23);
    check_paged(list[i], DTYPE_BF16, DTYPE_I8, 2, 2, 20, 0);
  }
}

/* -- the same bits again -- */

typedef struct Training {
  Tensor out, lse, dq, dk, dv, y, dx, dw, dbias, dweight, dtable, sum;
} Training;

/* A bit of everything that adds up over rows. */
static Training training_run(Bed *bed, DType narrow) {
  enum { T = 150, H = 3, K = 1, D = 24, C = 72, O = 200 };
  Compute *c = &bed->c;
  Arena *arena = &bed->arena;
  c->row_invariant = false;
  Training r = {.out = noise_3d(bed, narrow, T, H, D)};
  Tensor q = noise_3d(bed, narrow, T, H, D), k = noise_3d(bed, narrow, T, K, D),
         v = noise_3d(bed, narrow, T, K, D);
  Tensor dout = noise_3d(bed, narrow, T, H, D), offsets = tensor_new_1d(arena, DTYPE_I32, 3);
  compute_upload(c, offsets, (int32_t[]){0, 40, T});
  AttentionSpec spec = {.scale = 0.2f};
  r.lse = noise_2d(bed, DTYPE_F32, T, H);
  r.dq = noise_3d(bed, narrow, T, H, D), r.dk = noise_3d(bed, narrow, T, K, D),
  r.dv = noise_3d(bed, narrow, T, K, D);
  RUN(bed, op_attention(c, r.out, r.lse, q, k, v, offsets, spec));
  RUN(bed, op_attention_backward(c, r.dq, r.dk, r.dv, dout, r.out, r.lse, q, k, v, offsets, spec));
  Tensor x = noise_2d(bed, narrow, T, C), dy = noise_2d(bed, narrow, T, O), none = {0};
  Weight w = {.data = noise_2d(bed, narrow, O, C)};
  Weight dw = {.data = noise_2d(bed, DTYPE_F32, O, C), .narrow = narrow == DTYPE_BF16};
  r.y = noise_2d(bed, narrow, T, O), r.dx = noise_2d(bed, narrow, T, C), r.dw = dw.data;
  r.dbias = noise(bed, tensor_new_1d(arena, DTYPE_F32, O));
  RUN(bed, op_linear(c, r.y, x, w, none, 1, 0));
  RUN(bed, op_linear_backward_input(c, r.dx, dy, w, 1, 0));
  RUN(bed, op_linear_backward_weight(c, dw, r.dbias, dy, x, 1));
  r.dweight = noise(bed, tensor_new_1d(arena, DTYPE_F32, C));
  Tensor mean = noise(bed, tensor_new_1d(arena, DTYPE_F32, T)),
         rstd = noise(bed, tensor_new_1d(arena, DTYPE_F32, T));
  NormSpec norm = {NORM_LAYER, 1e-5f, 0};
  RUN(bed, op_norm_backward(c, r.dx, r.dweight, none, x, x, mean, rstd, none, norm, 1));
  Tensor ids = tensor_new_1d(arena, DTYPE_I32, T);
  int32_t seventh[T];
  for (int i = 0; i < T; i++) seventh[i] = i % 7;
  compute_upload(c, ids, seventh);
  r.dtable = noise_2d(bed, DTYPE_F32, 7, C);
  RUN(bed, op_embedding_backward(c, r.dtable, x, ids, 1));
  r.sum = tensor_new_1d(arena, DTYPE_F64, 1);
  const Tensor squared[2] = {noise_2d(bed, DTYPE_F32, 300, 301), noise_2d(bed, DTYPE_F32, 3, 7)};
  RUN(bed, op_sum_squares(c, r.sum, squared, 2));
  return r;
}

static void check_same_again(const Backend *backend, DType narrow) {
  Bed first;
  bed_open(&first, backend, 2);
  Training a = training_run(&first, narrow);
  const int runs = backend == backend_cuda ? 2 : 5;
  for (int again = 0; again < runs; again++) {
    Bed second;
    bool one_thread = again + 1 == runs;
    bed_open(&second, backend, one_thread ? 1 : 2);
    Training b = training_run(&second, narrow);
    if (!one_thread || backend == backend_cuda) {
      assert_same(&first, a.y, &second, b.y);
      assert_same(&first, a.dx, &second, b.dx);
      assert_same(&first, a.dw, &second, b.dw);
      assert_same(&first, a.dweight, &second, b.dweight);
    }
    /* these do not depend on the thread count either */
    assert_same(&first, a.out, &second, b.out);
    assert_same(&first, a.lse, &second, b.lse);
    assert_same(&first, a.dq, &second, b.dq);
    assert_same(&first, a.dk, &second, b.dk);
    assert_same(&first, a.dv, &second, b.dv);
    assert_same(&first, a.dbias, &second, b.dbias);
    assert_same(&first, a.dtable, &second, b.dtable);
    assert_same(&first, a.sum, &second, b.sum);
    bed_close(&second);
  }
  bed_close(&first);
}

static void test_same_again(void **state) {
  (void)state;
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    check_same_again(list[i], DTYPE_F32);
    if (list[i]->narrow_activations) check_same_again(list[i], DTYPE_BF16);
  }
}

/* -- sampling: a row alone equals the row in a batch; frequencies follow the distribution -- */

static void test_sample_frequencies(void **state) {
  (void)state;
  enum { V = 12 };
  const int draws = device_brief() ? 1500 : 40000;
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    Bed bed;
    bed_open(&bed, list[i], 2);
    Tensor logits = tensor_new_2d(&bed.arena, DTYPE_F32, draws, V),
           ids = tensor_new_1d(&bed.arena, DTYPE_I32, draws);
    Tensor none = {0}, one = tensor_new_1d(&bed.arena, DTYPE_I32, 1);
    SampleRow *rows = malloc((size_t)draws * sizeof *rows);
    float *values = malloc((size_t)draws * V * sizeof *values);
    assert_true(rows && values);
    for (int n = 0; n < draws; n++) {
      rows[n] = (SampleRow){.key = random_key(5, RANDOM_SAMPLE),
                            .sample = (uint64_t)n,
                            .position = 9,
                            .temperature = 0.8f,
                            .top_p = 1,
                            .top_k = 8};
      for (int j = 0; j < V; j++) values[n * V + j] = 0.3f * (float)((j * 7) % V); /* 0 .. 3.3 */
    }
    Tensor device_rows = tensor_new_1d(&bed.arena, DTYPE_U8, (int64_t)((size_t)draws * sizeof *rows));
    const SampleRow *on_device = device_rows.data;
    compute_upload(&bed.c, device_rows, rows);
    compute_upload(&bed.c, logits, values);
    RUN(&bed, op_sample(&bed.c, ids, none, logits, on_device));
    RUN(&bed, op_sample(&bed.c, one, none, tensor_rows(logits, 77, 1), on_device + 77));
    int32_t *drawn = bytes_of(&bed, ids), *alone = bytes_of(&bed, one);
    assert_int_equal(alone[0], drawn[77]);
    double p[V], total = 0, chi = 0;
    int seen[V] = {0};
    for (int j = 0; j < V; j++) {
      int rank = (j * 7) % V;
      p[j] = rank >= V - 8 ? exp(0.3 * rank / 0.8) : 0;
      total += p[j];
    }
    for (int n = 0; n < draws; n++) seen[drawn[n]]++;
    for (int j = 0; j < V; j++) {
      double expected = draws * p[j] / total;
      if (p[j] == 0) assert_int_equal(seen[j], 0);
      if (p[j] > 0) chi += (seen[j] - expected) * (seen[j] - expected) / expected;
    }
    free(rows);
    free(values);
    free(drawn);
    free(alone);
    assert_true(chi < 24.3); /* 7 degrees of freedom: exceeded with probability 0.001 */
    bed_close(&bed);
  }
}

/* -- a dry run of the largest call plans the workspace of the smaller ones -- */

static void test_plan_covers_fewer_rows(void **state) {
  (void)state;
  static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16};
  const Backend *list[BACKENDS];
  for (int i = 0, n = backends(list); i < n; i++) {
    for (int kind = 0; kind < 4; kind++) {
      const int64_t inputs = 96, outputs = 2048;
      Bed bed;
      bed_open(&bed, list[i], 2);
      const bool transposed = kind & 1;
      Weight w = {.data = tensor_new_2d(&bed.arena, dtypes[kind / 2], transposed ? inputs : outputs,
                                        transposed ? outputs : inputs),
                  .transposed = transposed};
      size_t before = 0;
      for (int64_t rows = 0; rows < 80; rows++) {
        Error error = {0};
        const size_t mark = arena_mark(&bed.arena);
        Tensor x = tensor_new_2d(&bed.arena, DTYPE_F32, rows, inputs);
        Tensor out = tensor_new_2d(&bed.arena, DTYPE_F32, rows, outputs);
        compute_dry_begin(&bed.c);
        bed.c.scratch.peak = 0;
        op_linear(&bed.c, out, x, w, (Tensor){0}, 1, 0);
        const size_t peak = bed.c.scratch.peak;
        assert_true(compute_dry_end(&bed.c, &error));
        arena_release(&bed.arena, mark);
        if (peak < before) fail_msg("%d rows need %zu bytes, fewer rows %zu", (int)rows, peak, before);
        before = peak;
      }
      if (list[i] != backend_cuda) assert_true(before > 0); /* where there is one */
      bed_close(&bed);
    }
  }
}

/* Rows with nothing to choose by are told apart from those that have it, wherever the odd number stands. */
static void test_sample_of_nothing(void **state) {
  (void)state;
  enum { N = 6, V = 700 };
  static const struct {
    float odd; /* at one place, or everywhere */
    int at;
    bool chosen;
  } cases[N] = {{NAN, 0, false},        {NAN, V - 1, false},    {INFINITY, 300, false},
                {-INFINITY, -1, false}, {-INFINITY, 300, true}, {5, 2, true}};
  const Backend *list[BACKENDS];
  int count = backends(list);
  for (int i = 0; i < count; i++) {
    for (int how = 0; how < 3; how++) { /* greedy, sampled, cut */
      Bed bed;
      bed_open(&bed, list[i], 2);
      Tensor logits = tensor_new_2d(&bed.arena, DTYPE_F32, N, V),
             ids = tensor_new_1d(&bed.arena, DTYPE_I32, N);
      Tensor logprob = tensor_new_1d(&bed.arena, DTYPE_F32, N);
      Tensor device_rows = tensor_new_1d(&bed.arena, DTYPE_U8, N * (int64_t)sizeof(SampleRow));
      static SampleRow rows[N];
      static float values[N * V];
      for (int n = 0; n < N; n++) {
        rows[n] = (SampleRow){.key = random_key(5, RANDOM_SAMPLE),
                              .sample = (uint64_t)n,
                              .temperature = how ? 0.8f : 0,
                              .top_p = how == 2 ? 0.9f : 1,
                              .top_k = how == 2 ? 40 : 0};
        for (int j = 0; j < V; j++) {
          values[n * V + j] =
              cases[n].at < 0 || cases[n].at == j ? cases[n].odd : 0.01f * (float)((j * 7) % V);
        }
      }
      compute_upload(&bed.c, device_rows, rows);
      compute_upload(&bed.c, logits, values);
      RUN(&bed, op_sample(&bed.c, ids, logprob, logits, device_rows.data));
      int32_t *drawn = bytes_of(&bed, ids);
      float *log = bytes_of(&bed, logprob);
      for (int n = 0; n < N; n++) {
        assert_int_equal(drawn[n] >= 0, cases[n].chosen);
        assert_int_equal(isfinite(log[n]) != 0, cases[n].chosen);
      }
      free(drawn);
      free(log);
      bed_close(&bed);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_linear_rows),        cmocka_unit_test(test_wide_rows),
      cmocka_unit_test(test_adapted_rows),       cmocka_unit_test(test_plan_covers_fewer_rows),
      cmocka_unit_test(test_paged_chunks),       cmocka_unit_test(test_same_again),
      cmocka_unit_test(test_sample_frequencies), cmocka_unit_test(test_sample_of_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
