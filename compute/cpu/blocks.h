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
  const float *scales; /* one for each block */
  DType dtype;         /* Q8 or NF4_PLAIN */
  int64_t per_row;     /* blocks */
} Blocks;

/* In a dry run there is no memory to look at. */
static inline Blocks blocks_of(Tensor w, bool dry) {
  ASSERT(w.dtype == DTYPE_Q8 || w.dtype == DTYPE_NF4_PLAIN);
  const uint8_t *data = (const uint8_t *)w.data;
  Blocks m = {.codes = data, .dtype = w.dtype, .per_row = w.dim[1] / BLOCK};
  if (dry) return m;
  const size_t at =
      w.dtype == DTYPE_Q8 ? q8_scales_at(w.dim[0], w.dim[1]) : nf4_parts(w.dtype, w.dim[0], w.dim[1]).scales;
  m.scales = (const float *)(const void *)(data + at);
  return m;
}

/* A product to BF16, nearest even, in half the operations of vec_round_bf16: Dekker 1971, section 4. Beside x * 2^16 the sum p
 * has 24 - 16 bits left for x. For 0 and magnitudes of 2^-125 to 2^111, where scales keep it (compute/nf4.h, compute/q8.h). */
static inline Vec block_round(Vec x) {
  __asm__("" : "+v"(x)); /* no fused multiply-add with what x comes from */
  Vec p = x * vec_splat(65537.0f);
  __asm__("" : "+v"(p)); /* nor with this */
  return p - (p - x);
}

#ifdef __AVX512F__

/* The 16 values that a block's codes can name. */
typedef struct BlockValues {
  Vec all;
} BlockValues;

static inline BlockValues block_values(float scale) {
  return (BlockValues){block_round(vec_load(nf4_table) * vec_splat(scale))};
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
  return (BlockValues){block_round(vec_load(nf4_table) * vec_splat(scale)),
                       block_round(vec_load(nf4_table + VEC) * vec_splat(scale))};
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
  return block_round(vec_load_i8((const int8_t *)codes + v * VEC) * vec_splat(scale));
}

/* The values of block n. */
static inline void blocks_load(const Blocks *m, int64_t n, Vec out[BLOCK_VECTORS]) {
  const float scale = m->scales[n];
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

#ifdef __AVX512F__

/* The values of a block of NF4 as BF16, 32 by each lookup. */
static inline void nf4_to_bf16(const uint8_t *codes, float scale, uint16_t *out) {
  const __m512i all = _mm512_srli_epi32(_mm512_castps_si512(block_values(scale).all), 16);
  const __m256i table = _mm512_cvtepi32_epi16(all);
  /* twice, since a lookup takes 5 bits of a pair of codes */
  const __m512i values = _mm512_inserti64x4(_mm512_castsi256_si512(table), table, 1);
  const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)codes));
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(pairs, values));
  _mm512_storeu_si512(out + BLOCK / 2, _mm512_permutexvar_epi16(_mm512_srli_epi16(pairs, 4), values));
}

/* BF16 values. */
static inline void store_upper_half(uint16_t *p, Vec x) {
  _mm256_storeu_si256((__m256i *)(void *)p,
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
}

static inline void blocks_to_bf16(const Blocks *m, int64_t n, int64_t count, uint16_t *out) {
  for (int64_t b = n; b < n + count; b++, out += BLOCK) {
    if (m->dtype != DTYPE_Q8) {
      nf4_to_bf16(m->codes + b * (BLOCK / 2), m->scales[b], out);
      continue;
    }
    for (int v = 0; v < BLOCK_VECTORS; v++)
      store_upper_half(out + v * VEC, q8_vector(m->codes + b * BLOCK, m->scales[b], v));
  }
}

#else

static inline void blocks_to_bf16(const Blocks *m, int64_t n, int64_t count, uint16_t *out) {
  for (int64_t b = 0; b < count; b++) {
    Vec values[BLOCK_VECTORS];
    blocks_load(m, n + b, values);
    for (int v = 0; v < BLOCK_VECTORS; v++) vec_store_bf16_part(out + b * BLOCK + v * VEC, values[v], VEC);
  }
}

#endif

#endif
