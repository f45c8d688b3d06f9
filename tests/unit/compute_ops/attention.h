/* attention, attention_backward, cache_store, rotary_cache_store, norm_rotary_cache_store,
 * attention_paged.
 * Sizes: batch (row of `batches`), H, K, D, window (0: all), block size of the cache. */
#ifndef TESTS_COMPUTE_OPS_ATTENTION_H
#define TESTS_COMPUTE_OPS_ATTENTION_H

#include "harness.h"

/* Lengths of packed sequences: single tokens, empty sequences, tile edges of both instruction sets, positions that BF16 has not. */
static const int batches[][6] = {{1, -1},      {1, 0, 5, 1, -1}, {33, 3, -1},
                                 {70, 17, -1}, {0, 130, 1, -1},  {64, 64, -1},
                                 {-1},         {0, -1},          {5, 270, -1}};

typedef struct AttentionRef {
  int64_t T, H, K, D, B;
  const int32_t *offsets;
  double *q, *k, *v, *dout, *out, *lse, *slopes;
  double *dq, *dk, *dv; /* of the backward */
  /* Squares of the terms, where those are probabilities or gradients of scores in bf16; square roots of them from
   * attention_noise. NULL where nothing is rounded. */
  double *out_noise, *dq_noise, *dk_noise, *dv_noise;
  AttentionSpec spec;
} AttentionRef;

/* The probabilities of query t, of a sequence that starts at `begin`, for keys first .. t, and what the cap leaves
 * of a change of the score. Returns `first`; free() both. */
static inline int64_t attention_ref_scores(AttentionRef *r, int64_t begin, int64_t t, int64_t h, double **p,
                                           double **slope) {
  int64_t kv = h / (r->H / r->K), D = r->D;
  int64_t first = r->spec.window > 0 && t - r->spec.window + 1 > begin ? t - r->spec.window + 1 : begin;
  double highest = -INFINITY, sum = 0, cap = (double)r->spec.softcap;
  *p = malloc((size_t)(t + 1) * sizeof **p);
  *slope = malloc((size_t)(t + 1) * sizeof **slope);
  for (int64_t j = first; j <= t; j++) {
    double s = (double)r->spec.scale * dot(r->q + (t * r->H + h) * D, r->k + (j * r->K + kv) * D, D);
    (*slope)[j] = (double)r->spec.scale;
    if (cap > 0) {
      double y = tanh(s / cap);
      s = cap * y;
      (*slope)[j] *= 1 - y * y;
    }
    if (r->slopes && r->spec.place_scale == 0) s += r->slopes[h] * (double)(j - t);
    if (r->slopes && r->spec.place_scale != 0)
      s += (double)r->spec.place_scale *
           rounded(DTYPE_BF16, r->slopes[h] * rounded(DTYPE_BF16, (double)(j - begin)));
    (*p)[j] = s;
    highest = fmax(highest, s);
  }
  for (int64_t j = first; j <= t; j++) sum += exp((*p)[j] - highest);
  r->lse[t * r->H + h] = highest + log(sum);
  for (int64_t j = first; j <= t; j++) (*p)[j] = exp((*p)[j] - highest) / sum;
  return first;
}

static inline void attention_ref_row(AttentionRef *r, int64_t begin, int64_t t, int64_t h) {
  int64_t kv = h / (r->H / r->K), D = r->D;
  double *p, *slope, *out = r->out + (t * r->H + h) * D;
  int64_t first = attention_ref_scores(r, begin, t, h, &p, &slope);
  for (int64_t d = 0; d < D; d++) out[d] = 0;
  for (int64_t j = first; j <= t; j++) {
    for (int64_t d = 0; d < D; d++) {
      double term = p[j] * r->v[(j * r->K + kv) * D + d];
      out[d] += term;
      if (r->out_noise) r->out_noise[(t * r->H + h) * D + d] += term * term;
    }
  }
  free(p);
  free(slope);
}

/* From r->out as it was given: rounded, that is no longer quite the sum of the probabilities times the values. */
static inline void attention_ref_backward_row(AttentionRef *r, int64_t begin, int64_t t, int64_t h) {
  int64_t kv = h / (r->H / r->K), D = r->D, row = (t * r->H + h) * D;
  double *p, *slope;
  int64_t first = attention_ref_scores(r, begin, t, h, &p, &slope);
  double delta = dot(r->dout + row, r->out + row, D);
  for (int64_t j = first; j <= t; j++) {
    int64_t other = (j * r->K + kv) * D;
    double ds = p[j] * (dot(r->dout + row, r->v + other, D) - delta) * slope[j];
    for (int64_t d = 0; d < D; d++) {
      double v = p[j] * r->dout[row + d], q = ds * r->k[other + d], k = ds * r->q[row + d];
      r->dv[other + d] += v;
      r->dq[row + d] += q;
      r->dk[other + d] += k;
      if (!r->dq_noise) continue;
      r->dv_noise[other + d] += v * v;
      r->dq_noise[row + d] += q * q;
      r->dk_noise[other + d] += k * k;
    }
  }
  free(p);
  free(slope);
}

static inline void attention_ref_backward(AttentionRef *r) {
  for (int64_t b = 0; b < r->B; b++) {
    for (int64_t t = r->offsets[b]; t < r->offsets[b + 1]; t++) {
      for (int64_t h = 0; h < r->H; h++) attention_ref_backward_row(r, r->offsets[b], t, h);
    }
  }
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
  if (t->shape.flags & BY_PLACE) a.spec.place_scale = 0.75f;
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

/* NULL where activations are F32, and nothing is rounded. */
static inline double *noise_squares(Test *t, int64_t n) {
  return t->shape.flags & NARROW ? zeros(t, n) : NULL;
}

static inline const double *attention_noise(double *squares, int64_t n) {
  for (int64_t i = 0; squares && i < n; i++) squares[i] = sqrt(squares[i]);
  return squares;
}

static inline void compare_attention(Test *t, AttentionCase *a) {
  int64_t n = tensor_count(a->out);
  a->ref.out_noise = noise_squares(t, n);
  attention_ref(&a->ref);
  compare_noisy(t, "out", a->out.dtype, a->ref.out, attention_noise(a->ref.out_noise, n), doubles(t, a->out),
                n, TINY);
}

static void test_attention(Test *t) {
  AttentionCase a = attention_case(t);
  poison(t, a.out);
  poison(t, a.lse);
  RUN(t, op_attention(&t->c, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  compare_attention(t, &a);
  compare(t, "lse", a.ref.lse, a.lse);
}

/* The reference of the backward is itself a gradient of the reference of the forward, at some elements. */
static inline void check_attention_reference(Test *t, AttentionRef *r, double *x, const double *dx,
                                             int64_t n) {
  for (int64_t i = 0, step = n / (t->shape.flags & FEW ? 3 : 12) + 1; i < n; i += step) {
    double slope = central_difference(x + i, attention_loss, r);
    if (!(fabs(slope - dx[i]) <= 1e-6 * (1 + fabs(slope)))) report(t, "reference", slope - dx[i]);
  }
}

static void test_attention_backward(Test *t) {
  AttentionCase a = attention_case(t);
  AttentionRef *r = &a.ref;
  int64_t queries = r->T * r->H * r->D, keys = r->T * r->K * r->D;
  Tensor dout = random_3d(t, r->T, r->H, r->D), dq = random_3d(t, r->T, r->H, r->D);
  Tensor dk = random_3d(t, r->T, r->K, r->D), dv = random_3d(t, r->T, r->K, r->D);
  poison(t, dq);
  poison(t, dk);
  poison(t, dv);
  RUN(t, op_attention(&t->c, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  RUN(t, op_attention_backward(&t->c, dq, dk, dv, dout, a.out, a.lse, a.q, a.k, a.v, a.offsets, a.spec));
  r->dout = doubles(t, dout);
  r->dq = zeros(t, queries);
  r->dk = zeros(t, keys);
  r->dv = zeros(t, keys);
  if (t->shape.flags & NARROW) {
    r->out = doubles(t, a.out);
    r->dq_noise = zeros(t, queries);
    r->dk_noise = zeros(t, keys);
    r->dv_noise = zeros(t, keys);
    attention_ref_backward(r);
  } else {
    attention_ref(r);
    attention_ref_backward(r);
    check_attention_reference(t, r, r->q, r->dq, queries);
    check_attention_reference(t, r, r->k, r->dk, keys);
    check_attention_reference(t, r, r->v, r->dv, keys);
  }
  const double floor = 0.2; /* of a single token dq and dk are zero */
  compare_noisy(t, "dq", dq.dtype, r->dq, attention_noise(r->dq_noise, queries), doubles(t, dq), queries,
                floor);
  compare_noisy(t, "dk", dk.dtype, r->dk, attention_noise(r->dk_noise, keys), doubles(t, dk), keys, floor);
  compare_noisy(t, "dv", dv.dtype, r->dv, attention_noise(r->dv_noise, keys), doubles(t, dv), keys, floor);
}

/* A cache whose blocks are given to the sequences of a batch in a scattered order. */
typedef struct PagedCase {
  PagedCache cache;
  Tensor sequence, position;
} PagedCase;

static inline PagedCase paged_case(Test *t, const AttentionCase *a) {
  int64_t size = t->shape.size[5], B = a->ref.B, T = a->ref.T, longest = 1;
  DType dtype = t->shape.flags & EIGHT ? DTYPE_I8 : t->shape.flags & (BF16 | NARROW) ? DTYPE_BF16 : DTYPE_F32;
  for (int64_t b = 0; b < B; b++) {
    int64_t length = a->ref.offsets[b + 1] - a->ref.offsets[b];
    if (length > longest) longest = length;
  }
  int64_t per_sequence = (longest + size - 1) / size, blocks = per_sequence * B + 3;
  int64_t dim[] = {blocks, a->ref.K, size, a->ref.D}, count = blocks * a->ref.K * size * a->ref.D;
  PagedCase p = {.sequence = ids_tensor(t, T), .position = ids_tensor(t, T)};
  p.cache.keys = tensor_over(random_1d(t, dtype, count, 1).data, dtype, 4, dim);
  p.cache.values = tensor_over(random_1d(t, dtype, count, 1).data, dtype, 4, dim);
  if (dtype == DTYPE_I8) {
    p.cache.key_scales = tensor_over(random_1d(t, DTYPE_F32, count / a->ref.D, 1).data, DTYPE_F32, 3, dim);
    p.cache.value_scales = tensor_over(random_1d(t, DTYPE_F32, count / a->ref.D, 1).data, DTYPE_F32, 3, dim);
  }
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

/* The elements of a token in a head, which lie at `to` in a cache; of codes their scale as well. */
static inline void stored_row(const double *x, int64_t D, DType dtype, double *to, double *scale) {
  float most = 0;
  for (int64_t d = 0; d < D; d++) most = fmaxf(most, fabsf((float)x[d]));
  if (scale) *scale = (double)(most / 127);
  for (int64_t d = 0; d < D; d++)
    to[d] = scale ? (double)rintf((float)x[d] / (float)*scale) : rounded(dtype, x[d]);
}

static void test_cache_store(Test *t) {
  AttentionCase a = attention_case(t);
  PagedCase p = paged_case(t, &a);
  const bool codes = t->shape.flags & EIGHT;
  double *keys = doubles(t, p.cache.keys), *values = doubles(t, p.cache.values);
  double *key_scales = doubles(t, p.cache.key_scales), *value_scales = doubles(t, p.cache.value_scales);
  RUN(t, op_cache_store(&t->c, p.cache, a.k, a.v, p.sequence, p.position));
  int64_t D = a.ref.D, K = a.ref.K;
  for (int64_t i = 0; i < a.ref.T * K; i++) {
    int64_t to = paged_offset(t, p.cache, ids_of(t, p.sequence)[i / K], ids_of(t, p.position)[i / K], i % K);
    const DType dtype = p.cache.keys.dtype;
    stored_row(a.ref.k + i * D, D, dtype, keys + to, codes ? key_scales + to / D : NULL);
    stored_row(a.ref.v + i * D, D, dtype, values + to, codes ? value_scales + to / D : NULL);
  }
  compare_exact(t, "keys", keys, p.cache.keys);
  compare_exact(t, "values", values, p.cache.values);
  if (!codes) return;
  compare_exact(t, "scales of keys", key_scales, p.cache.key_scales);
  compare_exact(t, "scales of values", value_scales, p.cache.value_scales);
}

/* As attention reads it. */
static inline double cached(const Test *t, Tensor x, Tensor scales, int64_t offset) {
  if (!(t->shape.flags & EIGHT)) return load(t, x, offset);
  const float value = (float)load(t, x, offset) * (float)load(t, scales, offset / x.dim[3]);
  return rounded(activation_dtype(t), (double)value);
}

/* A tensor of the same shape with the same values. */
static inline Tensor twin_3d(Test *t, Tensor x) {
  const Tensor twin = random_3d(t, x.dim[0], x.dim[1], x.dim[2]);
  for (int64_t i = 0; i < tensor_count(x); i++) store(t, twin, offset_of(twin, i), at(t, x, i));
  return twin;
}

/* Beside the two operations that it stands for. The size that is a window elsewhere: pairs; 0: all. */
static void test_rotary_cache_store(Test *t) {
  AttentionCase a = attention_case(t);
  PagedCase p = paged_case(t, &a);
  const int64_t pairs = t->shape.size[4] > 0 ? t->shape.size[4] : a.ref.D / 2;
  const RotarySpec spec = {.inverse_frequency = random_1d(t, DTYPE_F32, pairs, 1),
                           .scale = 1.25f,
                           .interleaved = t->shape.flags & INTERLEAVED};
  Tensor q = twin_3d(t, a.q), k = twin_3d(t, a.k);
  RUN(t, op_rotary(&t->c, q, p.position, spec, false));
  RUN(t, op_rotary(&t->c, k, p.position, spec, false));
  double *keys = doubles(t, p.cache.keys), *values = doubles(t, p.cache.values), *turned = doubles(t, k);
  const bool codes = t->shape.flags & EIGHT;
  double *key_scales = doubles(t, p.cache.key_scales), *value_scales = doubles(t, p.cache.value_scales);
  RUN(t, op_rotary_cache_store(&t->c, p.cache, a.q, a.k, a.v, p.sequence, p.position, spec));
  const int64_t D = a.ref.D, K = a.ref.K;
  for (int64_t i = 0; i < a.ref.T * K; i++) {
    int64_t to = paged_offset(t, p.cache, ids_of(t, p.sequence)[i / K], ids_of(t, p.position)[i / K], i % K);
    const DType dtype = p.cache.keys.dtype;
    stored_row(turned + i * D, D, dtype, keys + to, codes ? key_scales + to / D : NULL);
    stored_row(a.ref.v + i * D, D, dtype, values + to, codes ? value_scales + to / D : NULL);
  }
  compare_exact(t, "q", doubles(t, q), a.q);
  compare_exact(t, "keys", keys, p.cache.keys);
  compare_exact(t, "values", values, p.cache.values);
  if (!codes) return;
  compare_exact(t, "scales of keys", key_scales, p.cache.key_scales);
  compare_exact(t, "scales of values", value_scales, p.cache.value_scales);
}

static inline NormTerms terms_of(Test *t, Tensor x, Tensor out, DType weights) {
  NormTerms terms = {.out = out, .x = x, .weight = random_1d(t, weights, x.dim[2], 1)};
  if (t->shape.flags & BIAS) terms.bias = random_1d(t, weights, x.dim[2], 1);
  return terms;
}

/* Beside the two operations that it stands for; in place, as decoding has it, but for STRIDED. Sizes as above. */
static void test_norm_rotary_cache_store(Test *t) {
  AttentionCase a = attention_case(t);
  PagedCase p = paged_case(t, &a);
  const int flags = t->shape.flags;
  const int64_t pairs = t->shape.size[4] > 0 ? t->shape.size[4] : a.ref.D / 2;
  const RotarySpec spec = {.inverse_frequency = random_1d(t, DTYPE_F32, pairs, 1),
                           .scale = 1.25f,
                           .interleaved = flags & INTERLEAVED};
  const NormSpec norm = {.kind = flags & BIAS ? NORM_LAYER : NORM_RMS,
                         .eps = 1e-5f,
                         .weight_offset = flags & OFFSET ? 1.0f : 0.0f};
  const DType weights = flags & (NARROW | BF16) ? DTYPE_BF16 : DTYPE_F32;
  const Tensor q = twin_3d(t, a.q), k = twin_3d(t, a.k);
  NormTerms query = terms_of(t, a.q, flags & STRIDED ? a.out : a.q, weights),
            key = terms_of(t, a.k, a.k, weights);
  NormTerms query_twin = query, key_twin = key;
  query_twin.x = query_twin.out = q;
  key_twin.x = key_twin.out = k;
  RUN(t, op_norm_pair(&t->c, query_twin, key_twin, norm));
  RUN(t, op_rotary_cache_store(&t->c, p.cache, q, k, a.v, p.sequence, p.position, spec));
  double *keys = doubles(t, p.cache.keys), *values = doubles(t, p.cache.values);
  const bool codes = flags & EIGHT;
  double *key_scales = doubles(t, p.cache.key_scales), *value_scales = doubles(t, p.cache.value_scales);
  /* other things at the same places */
  const Tensor dirt = random_3d(t, a.ref.T, a.ref.K, a.ref.D);
  RUN(t, op_cache_store(&t->c, p.cache, dirt, dirt, p.sequence, p.position));
  RUN(t, op_norm_rotary_cache_store(&t->c, p.cache, query, key, a.v, p.sequence, p.position, spec, norm));
  compare_exact(t, "q", doubles(t, q), query.out);
  compare_exact(t, "keys", keys, p.cache.keys);
  compare_exact(t, "values", values, p.cache.values);
  if (!codes) return;
  compare_exact(t, "scales of keys", key_scales, p.cache.key_scales);
  compare_exact(t, "scales of values", value_scales, p.cache.value_scales);
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
      a.ref.k[i * D + d] = cached(t, p.cache.keys, p.cache.key_scales, from + d);
      a.ref.v[i * D + d] = cached(t, p.cache.values, p.cache.value_scales, from + d);
    }
  }
  compare_attention(t, &a);
}

#define ATTENTION_SHAPES(op, run, f, tolerance)                                      \
  {op, run, {{0, 1, 1, 20, 0, 16}, f}, tolerance},                                   \
      {op, run, {{1, 3, 1, 20, 0, 16}, f | STRIDED}, tolerance},                     \
      {op, run, {{2, 4, 2, 64, 0, 1}, f | STRIDED}, tolerance},                      \
      {op, run, {{2, 3, 3, 16, 1, 16}, f}, tolerance},                               \
      {op, run, {{3, 2, 1, 33, 0, 7}, f | CAP | STRIDED}, tolerance},                \
      {op, run, {{3, 6, 2, 8, 9, 16}, f | ALIBI}, tolerance},                        \
      {op, run, {{4, 2, 2, 5, 20, 32}, f | CAP | ALIBI | STRIDED | FEW}, tolerance}, \
      {op, run, {{8, 2, 1, 8, 0, 16}, f | CAP | ALIBI | BY_PLACE | FEW}, tolerance}, \
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
#define ATTENTION_NARROW(op, run, f, tolerance)                                             \
  ATTENTION_SHAPES(op, run, f, tolerance), {op, run, {{0, 1, 1, 64, 0, 16}, f}, tolerance}, \
      {op, run, {{1, 4, 2, 128, 0, 16}, f | STRIDED | ALIGNED}, tolerance},                 \
      {op, run, {{3, 2, 1, 64, 19, 16}, f | ALIBI | STRIDED | ALIGNED}, tolerance},         \
      {op, run, {{8, 2, 1, 64, 0, 16}, f | ALIBI | BY_PLACE | FEW}, tolerance},             \
      {op, run, {{3, 2, 2, 80, 0, 16}, f | STRIDED | ALIGNED | FEW}, tolerance},            \
      {op, run, {{3, 2, 1, 96, 40, 8}, f | CAP | FEW}, tolerance},                          \
      {op, run, {{4, 1, 1, 256, 0, 16}, f | FEW}, tolerance},                               \
      {op, run, {{4, 2, 1, 64, 0, 16}, f | CAP | ALIBI | FEW}, tolerance},                  \
      {op, run, {{5, 2, 2, 128, 33, 16}, f | STRIDED | ALIGNED | FEW}, tolerance}, {        \
    op, run, {{7, 2, 1, 64, 0, 16}, f}, tolerance                                           \
  }

/* The products of warpgroups have tiles of 128 and 192 queries and of 64 and 128 keys: several of both, plain and with every rule, and windows
 * that leave a warpgroup tiles which another one needs. */
#define ATTENTION_TILES(op, run, f, tolerance)                          \
  {op, run, {{8, 2, 1, 128, 0, 16}, f | STRIDED | ALIGNED}, tolerance}, \
      {op, run, {{8, 1, 1, 112, 150, 16}, f | CAP | ALIBI}, tolerance}, \
      {op, run, {{8, 2, 2, 64, 100, 16}, f}, tolerance}, {              \
    op, run, {{8, 1, 1, 256, 50, 16}, f}, tolerance                     \
  }

#define ROTARY_STORE_SHAPES(f)                                                                             \
  {"rotary_cache_store", test_rotary_cache_store, {{1, 3, 1, 20, 0, 16}, f | STRIDED}, 1e-7},              \
      {"rotary_cache_store", test_rotary_cache_store, {{2, 4, 2, 64, 0, 1}, f | STRIDED | ALIGNED}, 1e-7}, \
      {"rotary_cache_store", test_rotary_cache_store, {{3, 6, 2, 128, 32, 16}, f}, 1e-7},                  \
      {"rotary_cache_store", test_rotary_cache_store, {{3, 2, 2, 80, 7, 16}, f}, 1e-7},                    \
      {"rotary_cache_store",                                                                               \
       test_rotary_cache_store,                                                                            \
       {{2, 2, 1, 64, 16, 16}, f | INTERLEAVED | ALIGNED},                                                 \
       1e-7},                                                                                              \
      {"rotary_cache_store", test_rotary_cache_store, {{4, 2, 2, 25, 8, 16}, f | INTERLEAVED}, 1e-7},      \
      {"rotary_cache_store", test_rotary_cache_store, {{3, 3, 1, 20, 5, 8}, f | BF16}, 1e-7}, {            \
    "rotary_cache_store", test_rotary_cache_store, {{6, 2, 1, 16, 0, 16}, f}, 1e-7                         \
  }

#define NORM_STORE "norm_rotary_cache_store", test_norm_rotary_cache_store
#define NORM_STORE_SHAPES(f)                                                                         \
  {NORM_STORE, {{2, 4, 2, 64, 0, 1}, f | STRIDED | ALIGNED}, 1e-7},                                  \
      {NORM_STORE, {{3, 6, 2, 128, 32, 16}, f | OFFSET}, 1e-7},                                      \
      {NORM_STORE, {{3, 2, 2, 80, 24, 16}, f | BIAS}, 1e-7},                                         \
      {NORM_STORE, {{2, 2, 1, 64, 16, 16}, f | INTERLEAVED}, 1e-7},                                  \
      {NORM_STORE, {{1, 3, 1, 256, 0, 16}, f}, 1e-7}, {NORM_STORE, {{3, 2, 2, 64, 7, 16}, f}, 1e-7}, \
      {NORM_STORE, {{4, 2, 2, 25, 8, 16}, f | INTERLEAVED | BIAS}, 1e-7},                            \
      {NORM_STORE, {{3, 3, 1, 20, 5, 8}, f | BF16}, 1e-7}, {                                         \
    NORM_STORE, {{6, 17, 1, 16, 0, 16}, f}, 1e-7                                                     \
  }

#define ATTENTION_CASES                                                                                      \
  ATTENTION_SHAPES("attention", test_attention, 0, 5e-6),                                                    \
      ATTENTION_NARROW("attention", test_attention, NARROW, 5e-6),                                           \
      ATTENTION_TILES("attention", test_attention, NARROW, 5e-6),                                            \
      ATTENTION_SHAPES("attention_backward", test_attention_backward, 0, 1e-5),                              \
      ATTENTION_NARROW("attention_backward", test_attention_backward, NARROW, 1e-5),                         \
      ATTENTION_SHAPES("cache_store", test_cache_store, 0, 1e-7),                                            \
      ATTENTION_NARROW("cache_store", test_cache_store, NARROW, 1e-7),                                       \
      {"cache_store", test_cache_store, {{3, 2, 2, 20, 0, 8}, BF16}, 1e-7},                                  \
      ATTENTION_SHAPES("cache_store", test_cache_store, EIGHT, 1e-7),                                        \
      ATTENTION_NARROW("cache_store", test_cache_store, EIGHT | NARROW, 1e-7), ROTARY_STORE_SHAPES(0),       \
      ROTARY_STORE_SHAPES(NARROW), ROTARY_STORE_SHAPES(EIGHT), ROTARY_STORE_SHAPES(EIGHT | NARROW),          \
      NORM_STORE_SHAPES(0), NORM_STORE_SHAPES(NARROW), NORM_STORE_SHAPES(EIGHT),                             \
      NORM_STORE_SHAPES(EIGHT | NARROW), ATTENTION_SHAPES("attention_paged", test_attention_paged, 0, 5e-6), \
      ATTENTION_SHAPES("attention_paged", test_attention_paged, EIGHT, 5e-6),                                \
      ATTENTION_NARROW("attention_paged", test_attention_paged, EIGHT | NARROW, 5e-6),                       \
      ATTENTION_NARROW("attention_paged", test_attention_paged, NARROW, 5e-6),                               \
      {"attention_paged", test_attention_paged, {{3, 4, 2, 20, 11, 8}, BF16}, 2e-6}, {                       \
    "attention_paged", test_attention_paged, {{4, 2, 1, 64, 0, 16}, BF16}, 2e-6                              \
  }

#endif
