/* Weights of block dtypes (compute/nf4.h in layout ROWS, compute/q8.h), 64 values at a time: those of BF16, as floats. */
#ifndef COMPUTE_CPU_BLOCKS_H
#define COMPUTE_CPU_BLOCKS_H

#include "compute/nf4.h"
#include "compute/q8.h"
#include "compute/tensor.h"

#include "compute/cpu/vector.h"

enum { BLOCK = 64, BLOCK_VECTORS = BLOCK / VEC };
_Static_assert(BLOCK == (int)NF4_BLOCK && BLOCK == (int)Q8_BLOCK,
               "all block dtypes have blocks of 64 along the row");

typedef struct Blocks {
  const uint8_t *codes;
  const uint8_t *scales; /* of NF4 */
  const float *wide;     /* scales of the others */
  const float *group, *map;
  float mean;
  DType dtype;
  int64_t per_row; /* blocks */
} Blocks;

/* In a dry run there is no memory to look at. */
static inline Blocks blocks_of(Tensor w, bool dry) {
  const uint8_t *data = (const uint8_t *)w.data;
  Blocks m = {.codes = data, .dtype = w.dtype, .per_row = w.dim[1] / BLOCK};
  if (dry) return m;
  if (w.dtype == DTYPE_Q8) {
    m.wide = (const float *)(const void *)(data + q8_scales_at(w.dim[0], w.dim[1]));
    return m;
  }
  const Nf4Parts at = nf4_parts(w.dtype, w.dim[0], w.dim[1]);
  m.scales = data + at.scales;
  m.wide = (const float *)(const void *)m.scales;
  m.group = (const float *)(const void *)(data + at.group);
  m.map = (const float *)(const void *)(data + at.map);
  if (w.dtype == DTYPE_NF4) m.mean = *(const float *)(const void *)(data + at.mean);
  return m;
}

/* Of block n, counted through the matrix. */
static inline float blocks_scale(const Blocks *m, int64_t n) {
  if (m->dtype != DTYPE_NF4) return m->wide[n];
  float product = m->map[m->scales[n]] * m->group[n / NF4_GROUP];
  __asm__(""
          : "+x"(product)); /* two roundings, not one: the compiler may not make this a fused multiply-add */
  return product + m->mean;
}

/* Of `count` blocks from block n on. */
static inline void blocks_scales(const Blocks *m, int64_t n, int64_t count, float *scales) {
  for (int64_t b = 0; b < count; b++) scales[b] = blocks_scale(m, n + b);
}

#ifdef __AVX512F__

/* The 16 values that a block's codes can name. */
typedef struct BlockValues {
  Vec all;
} BlockValues;

static inline BlockValues block_values(float scale) {
  return (BlockValues){vec_round_bf16(vec_load(nf4_table) * vec_splat(scale))};
}

/* Vector v of a block. */
static inline Vec nf4_vector(const uint8_t *codes, BlockValues values, int v) {
  const __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(codes + v % 2 * VEC)));
  /* which looks at the low 4 bits alone */
  return _mm512_permutexvar_ps(v < 2 ? pairs : _mm512_srli_epi32(pairs, 4), values.all);
}

#else

typedef struct BlockValues {
  Vec low, high; /* of codes 0 .. 7 and 8 .. 15 */
} BlockValues;

static inline BlockValues block_values(float scale) {
  return (BlockValues){vec_round_bf16(vec_load(nf4_table) * vec_splat(scale)),
                       vec_round_bf16(vec_load(nf4_table + VEC) * vec_splat(scale))};
}

/* By the low 4 bits of each lane. */
static inline Vec block_lookup(BlockValues values, __m256i codes) {
  const Vec third = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)); /* bit 3 to where a blend looks */
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(values.low, codes),
                          _mm256_permutevar8x32_ps(values.high, codes), third);
}

static inline Vec nf4_vector(const uint8_t *codes, BlockValues values, int v) {
  const __m256i pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + v % 4 * VEC)));
  return block_lookup(values, v < 4 ? pairs : _mm256_srli_epi32(pairs, 4));
}

#endif

static inline Vec q8_vector(const uint8_t *codes, float scale, int v) {
  return vec_round_bf16(vec_load_i8((const int8_t *)codes + v * VEC) * vec_splat(scale));
}

/* The values of block n. */
static inline void blocks_load(const Blocks *m, int64_t n, Vec out[BLOCK_VECTORS]) {
  const float scale = blocks_scale(m, n);
  if (m->dtype == DTYPE_Q8) {
    for (int v = 0; v < BLOCK_VECTORS; v++) out[v] = q8_vector(m->codes + n * BLOCK, scale, v);
  } else {
    const BlockValues values = block_values(scale);
    for (int v = 0; v < BLOCK_VECTORS; v++) out[v] = nf4_vector(m->codes + n * (BLOCK / 2), values, v);
  }
}

/* `count` blocks from block n on, which lie in one row. */
static inline void blocks_to_floats(const Blocks *m, int64_t n, int64_t count, float *out) {
  for (int64_t b = 0; b < count; b++) {
    Vec values[BLOCK_VECTORS];
    blocks_load(m, n + b, values);
    for (int v = 0; v < BLOCK_VECTORS; v++) vec_store(out + b * BLOCK + v * VEC, values[v]);
  }
}

static inline void blocks_to_bf16(const Blocks *m, int64_t n, int64_t count, uint16_t *out) {
  for (int64_t b = 0; b < count; b++) {
    Vec values[BLOCK_VECTORS];
    blocks_load(m, n + b, values);
    for (int v = 0; v < BLOCK_VECTORS; v++) vec_store_bf16_part(out + b * BLOCK + v * VEC, values[v], VEC);
  }
}

#endif
