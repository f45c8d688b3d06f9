/* attention, attention_backward, cache_store, attention_paged.
 * Sizes: batch (row of `batches`), H, K, D, window (0: all), block size of the cache. */
#ifndef TESTS_COMPUTE_OPS_ATTENTION_H
#define TESTS_COMPUTE_OPS_ATTENTION_H

#include "harness.h"

/* Lengths of packed sequences: single tokens, empty sequences, tile edges of both instruction sets. */
static const int batches[][6] = {{1, -1},         {1, 0, 5, 1, -1}, {33, 3, -1}, {70, 17, -1},
                                 {0, 130, 1, -1}, {64, 64, -1},     {-1},        {0, -1}};

typedef struct AttentionRef {
  int64_t T, H, K, D, B;
  const int32_t *offsets;
  double *q, *k, *v, *dout, *out, *lse, *slopes;
  AttentionSpec spec;
} AttentionRef;

/* Query t of a sequence that starts at `begin`: keys begin .. t. */
static inline void attention_ref_row(AttentionRef *r, int64_t begin, int64_t t, int64_t h) {
  int64_t kv = h / (r->H / r->K), D = r->D;
  double *score = malloc((size_t)(t + 1) * sizeof *score), highest = -INFINITY, sum = 0;
  int64_t first = r->spec.window > 0 && t - r->spec.window + 1 > begin ? t - r->spec.window + 1 : begin;
  for (int64_t j = first; j <= t; j++) {
    double s = (double)r->spec.scale * dot(r->q + (t * r->H + h) * D, r->k + (j * r->K + kv) * D, D);
    double cap = (double)r->spec.softcap;
    if (cap > 0) s = cap * tanh(s / cap);
    if (r->slopes) s += r->slopes[h] * (double)(j - t);
    score[j] = s;
    highest = fmax(highest, s);
  }
  for (int64_t j = first; j <= t; j++) sum += exp(score[j] - highest);
  double *out = r->out + (t * r->H + h) * D;
  for (int64_t d = 0; d < D; d++) out[d] = 0;
  for (int64_t j = first; j <= t; j++) {
    for (int64_t d = 0; d < D; d++) out[d] += exp(score[j] - highest) / sum * r->v[(j * r->K + kv) * D + d];
  }
  r->lse[t * r->H + h] = highest + log(sum);
  free(score);
}

static inline void attention_ref(AttentionRef *r) {
  for (int64_t b = 0; b < r->B; b++) {
    for (int64_t t = r->offsets[b]; t < r->offsets[b + 1]; t++) {
      for (int64_t h = 0; h < r->H; h++) attention_ref_row(r, r->offsets[b], t, h);
    }
  }
}

static inline double attention_loss(void *context) {
  AttentionRef *r = context;
  attention_ref(r);
  return dot(r->out, r->dout, r->T * r->H * r->D);
}

typedef struct AttentionCase {
  Tensor q, k, v, out, lse, offsets;
  AttentionSpec spec;
  AttentionRef ref;
} AttentionCase;

static inline AttentionCase attention_case(Test *t) {
  const int *lengths = batches[t->shape.size[0]];
  int64_t H = t->shape.size[1], K = t->shape.size[2], D = t->shape.size[3], B = 0, T = 0;
  while (lengths[B] >= 0) B++;
  AttentionCase a = {.offsets = ids_tensor(t, B + 1)};
  for (int64_t b = 0; b <= B; b++) {
    ids_of(t, a.offsets)[b] = (int32_t)T;
    if (b < B) T += lengths[b];
  }
  a.q = random_3d(t, T, H, D);
  a.k = random_3d(t, T, K, D);
  a.v = random_3d(t, T, K, D);
  a.out = random_3d(t, T, H, D);
  a.lse = tensor_new_2d(&t->arena, DTYPE_F32, T, H);
  a.spec = (AttentionSpec){.scale = 1.5f / sqrtf((float)D), .window = (int)t->shape.size[4]};
  if (t->shape.flags & CAP) a.spec.softcap = 1.25f;
  if (t->shape.flags & ALIBI) a.spec.slopes = random_1d(t, DTYPE_F32, H, 0.1);
  a.ref =
      (AttentionRef){.T = T, .H = H, .K = K, .D = D, .B = B, .offsets = ids_of(t, a.offsets), .spec = a.spec};
  a.ref.q = doubles(t, a.q);
  a.ref.k = doubles(t, a.k);
  a.ref.v = doubles(t, a.v);
  a.ref.out = zeros(t, T * H * D);
  a.ref.lse = zeros(t, T * H);
  a.ref.slopes = t->shape.flags & ALIBI ? doubles(t, a.spec.slopes) : NULL;
  return a;
}

/* With bf16 activations the tensor cores take the probabilities in bf16 too: each moves by up to 2^-8 of itself, by
 * 1.6e-3 in the root mean square. An output is a sum of such terms of both signs, and one that happens to be near
 * zero keeps their errors: 4.5 times that of some 10^4 outputs, by what outputs are on average. (The result is
 * rounded once more, which `difference` allows for.) */
static const double NARROW_PROBABILITIES = 0x1p-7;
/* In the backward it is the gradients of the scores that are rounded so, besides the probabilities. */
static const double NARROW_SCORE_GRADIENTS = 0x1p-7;

static void test_attention(Test *t) {
  AttentionCase a = attention_case(t);
  poison(t, a.out);
  poison(t, a.lse);
  RUN(t, op_attention(&t->c, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  attention_ref(&a.ref);
  compare(t, "lse", a.ref.lse, a.lse);
  if (t->shape.flags & NARROW) t->tolerance = NARROW_PROBABILITIES;
  compare(t, "out", a.ref.out, a.out);
}

static void test_attention_backward(Test *t) {
  AttentionCase a = attention_case(t);
  Tensor dout = random_3d(t, a.ref.T, a.ref.H, a.ref.D), dq = random_3d(t, a.ref.T, a.ref.H, a.ref.D);
  Tensor dk = random_3d(t, a.ref.T, a.ref.K, a.ref.D), dv = random_3d(t, a.ref.T, a.ref.K, a.ref.D);
  poison(t, dq);
  poison(t, dk);
  poison(t, dv);
  RUN(t, op_attention(&t->c, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  RUN(t, op_attention_backward(&t->c, dq, dk, dv, dout, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  a.ref.dout = doubles(t, dout);
  if (t->shape.flags & NARROW) t->tolerance = NARROW_SCORE_GRADIENTS;
  compare_gradient(t, "dq", a.ref.q, dq, 1, NULL, 0, attention_loss, &a.ref);
  compare_gradient(t, "dk", a.ref.k, dk, 1, NULL, 0, attention_loss, &a.ref);
  compare_gradient(t, "dv", a.ref.v, dv, 1, NULL, 0, attention_loss, &a.ref);
}

/* A cache whose blocks are given to the sequences of a batch in a scattered order. */
typedef struct PagedCase {
  PagedCache cache;
  Tensor sequence, position;
} PagedCase;

static inline PagedCase paged_case(Test *t, const AttentionCase *a) {
  int64_t size = t->shape.size[5], B = a->ref.B, T = a->ref.T, longest = 1;
  DType dtype = t->shape.flags & (BF16 | NARROW) ? DTYPE_BF16 : DTYPE_F32;
  for (int64_t b = 0; b < B; b++) {
    int64_t length = a->ref.offsets[b + 1] - a->ref.offsets[b];
    if (length > longest) longest = length;
  }
  int64_t per_sequence = (longest + size - 1) / size, blocks = per_sequence * B + 3;
  int64_t dim[] = {blocks, a->ref.K, size, a->ref.D}, count = blocks * a->ref.K * size * a->ref.D;
  PagedCase p = {.sequence = ids_tensor(t, T), .position = ids_tensor(t, T)};
  p.cache.keys = tensor_over(random_1d(t, dtype, count, 1).data, dtype, 4, dim);
  p.cache.values = tensor_over(random_1d(t, dtype, count, 1).data, dtype, 4, dim);
  p.cache.table = tensor_new_2d(&t->arena, DTYPE_I32, B, per_sequence);
  uint32_t *order = arena_alloc(&t->host, (size_t)blocks * sizeof *order);
  random_permutation(random_key(10, RANDOM_TEST), 3, order, (uint32_t)blocks);
  for (int64_t i = 0; i < B * per_sequence; i++) ids_of(t, p.cache.table)[i] = (int32_t)order[i];
  for (int64_t b = 0; b < B; b++) {
    for (int64_t i = a->ref.offsets[b]; i < a->ref.offsets[b + 1]; i++) {
      ids_of(t, p.sequence)[i] = (int32_t)b;
      ids_of(t, p.position)[i] = (int32_t)(i - a->ref.offsets[b]);
    }
  }
  return p;
}

static inline int64_t paged_offset(const Test *t, PagedCache cache, int64_t b, int64_t position,
                                   int64_t head) {
  int64_t size = cache.keys.dim[2], K = cache.keys.dim[1], D = cache.keys.dim[3];
  int64_t block = ids_of(t, cache.table)[b * cache.table.dim[1] + position / size];
  return ((block * K + head) * size + position % size) * D;
}

static void test_cache_store(Test *t) {
  AttentionCase a = attention_case(t);
  PagedCase p = paged_case(t, &a);
  double *keys = doubles(t, p.cache.keys), *values = doubles(t, p.cache.values);
  RUN(t, op_cache_store(&t->c, p.cache, a.k, a.v, p.sequence, p.position));
  int64_t D = a.ref.D, K = a.ref.K;
  for (int64_t i = 0; i < a.ref.T * K; i++) {
    int64_t to = paged_offset(t, p.cache, ids_of(t, p.sequence)[i / K], ids_of(t, p.position)[i / K], i % K);
    for (int64_t d = 0; d < D; d++) {
      keys[to + d] = rounded(p.cache.keys.dtype, a.ref.k[i * D + d]);
      values[to + d] = rounded(p.cache.keys.dtype, a.ref.v[i * D + d]);
    }
  }
  compare_exact(t, "keys", keys, p.cache.keys);
  compare_exact(t, "values", values, p.cache.values);
}

static void test_attention_paged(Test *t) {
  AttentionCase a = attention_case(t);
  PagedCase p = paged_case(t, &a);
  RUN(t, op_cache_store(&t->c, p.cache, a.k, a.v, p.sequence, p.position));
  poison(t, a.out);
  RUN(t, op_attention_paged(&t->c, a.out, a.q, p.cache, p.sequence, p.position, a.spec));
  for (int64_t i = 0; i < a.ref.T * a.ref.K; i++) { /* as the cache rounded them */
    int64_t K = a.ref.K, D = a.ref.D;
    int64_t from =
        paged_offset(t, p.cache, ids_of(t, p.sequence)[i / K], ids_of(t, p.position)[i / K], i % K);
    for (int64_t d = 0; d < D; d++) {
      a.ref.k[i * D + d] = load(t, p.cache.keys, from + d);
      a.ref.v[i * D + d] = load(t, p.cache.values, from + d);
    }
  }
  attention_ref(&a.ref);
  if (t->shape.flags & NARROW) t->tolerance = NARROW_PROBABILITIES;
  compare(t, "out", a.ref.out, a.out);
}

#define ATTENTION_SHAPES(op, run, f, tolerance)                                      \
  {op, run, {{0, 1, 1, 20, 0, 16}, f}, tolerance},                                   \
      {op, run, {{1, 3, 1, 20, 0, 16}, f | STRIDED}, tolerance},                     \
      {op, run, {{2, 4, 2, 64, 0, 1}, f | STRIDED}, tolerance},                      \
      {op, run, {{2, 3, 3, 16, 1, 16}, f}, tolerance},                               \
      {op, run, {{3, 2, 1, 33, 0, 7}, f | CAP | STRIDED}, tolerance},                \
      {op, run, {{3, 6, 2, 8, 9, 16}, f | ALIBI}, tolerance},                        \
      {op, run, {{4, 2, 2, 5, 20, 32}, f | CAP | ALIBI | STRIDED | FEW}, tolerance}, \
      {op, run, {{4, 1, 1, 128, 67, 128}, f | FEW}, tolerance},                      \
      {op, run, {{5, 2, 1, 1, 0, 16}, f | FEW}, tolerance},                          \
      {op, run, {{5, 1, 1, 80, 0, 16}, f | CAP | FEW}, tolerance},                   \
      {op, run, {{2, 2, 1, 96, 0, 16}, f | FEW | STRIDED | ALIGNED}, tolerance},     \
      {op, run, {{2, 1, 1, 256, 0, 16}, f | FEW}, tolerance},                        \
      {op, run, {{6, 2, 1, 16, 0, 16}, f}, tolerance}, {                             \
    op, run, {{7, 2, 1, 16, 0, 16}, f}, tolerance                                    \
  }

/* Every head size with kernels of its own, in tiles that are full, begun and empty; strided as the heads of a
 * fused projection; every option with one of them. */
#define ATTENTION_NARROW(op, run, tolerance)                                                          \
  ATTENTION_SHAPES(op, run, NARROW, tolerance), {op, run, {{0, 1, 1, 64, 0, 16}, NARROW}, tolerance}, \
      {op, run, {{1, 4, 2, 128, 0, 16}, NARROW | STRIDED | ALIGNED}, tolerance},                      \
      {op, run, {{3, 2, 1, 64, 19, 16}, NARROW | ALIBI | STRIDED | ALIGNED}, tolerance},              \
      {op, run, {{3, 2, 2, 80, 0, 16}, NARROW | STRIDED | ALIGNED | FEW}, tolerance},                 \
      {op, run, {{3, 2, 1, 96, 40, 8}, NARROW | CAP | FEW}, tolerance},                               \
      {op, run, {{4, 1, 1, 256, 0, 16}, NARROW | FEW}, tolerance},                                    \
      {op, run, {{4, 2, 1, 64, 0, 16}, NARROW | CAP | ALIBI | FEW}, tolerance},                       \
      {op, run, {{5, 2, 2, 128, 33, 16}, NARROW | STRIDED | ALIGNED | FEW}, tolerance}, {             \
    op, run, {{7, 2, 1, 64, 0, 16}, NARROW}, tolerance                                                \
  }

#define ATTENTION_CASES                                                                \
  ATTENTION_SHAPES("attention", test_attention, 0, 5e-6),                              \
      ATTENTION_NARROW("attention", test_attention, 5e-6),                             \
      ATTENTION_SHAPES("attention_backward", test_attention_backward, 0, 1e-5),        \
      ATTENTION_NARROW("attention_backward", test_attention_backward, 1e-5),           \
      ATTENTION_SHAPES("cache_store", test_cache_store, 0, 1e-7),                      \
      ATTENTION_NARROW("cache_store", test_cache_store, 1e-7),                         \
      {"cache_store", test_cache_store, {{3, 2, 2, 20, 0, 8}, BF16}, 1e-7},            \
      ATTENTION_SHAPES("attention_paged", test_attention_paged, 0, 5e-6),              \
      ATTENTION_NARROW("attention_paged", test_attention_paged, 5e-6),                 \
      {"attention_paged", test_attention_paged, {{3, 4, 2, 20, 11, 8}, BF16}, 2e-6}, { \
    "attention_paged", test_attention_paged, {{4, 2, 1, 64, 0, 16}, BF16}, 2e-6        \
  }

#endif
