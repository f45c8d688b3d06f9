/* Dropout by counted draws (DropoutSpec in ops.h): no mask is stored for the backward. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

#include <math.h>

/* A 32-bit word of each of LANES blocks, in the low halves of 64-bit lanes; the high halves may hold anything. */
#ifdef __AVX512F__
typedef __m512i Words;
enum { LANES = 8 };
static inline Words words_splat(uint32_t x) {
  return _mm512_set1_epi64((long long)x);
}
/* first + 0, 1, ... in the order in which words_store puts them back into their own. */
static inline Words words_from(uint32_t first) {
  return _mm512_add_epi64(words_splat(first), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}
static inline Words words_multiply(Words a, Words b) {
  return _mm512_mul_epu32(a, b);
}
static inline Words words_high(Words x) {
  return _mm512_srli_epi64(x, 32);
}
static inline Words words_xor(Words a, Words b) {
  return _mm512_xor_si512(a, b);
}
/* The low halves of a, and in the high ones those of b. */
static inline Words words_pair(Words a, Words b) {
  return _mm512_mask_shuffle_epi32(a, 0xaaaa, b, _MM_PERM_CCAA);
}
static inline void words_store(uint32_t *out, const Words word[4]) {
  const Words low = words_pair(word[0], word[1]), high = words_pair(word[2], word[3]);
  _mm512_storeu_si512(out, _mm512_unpacklo_epi64(low, high));
  _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi64(low, high));
}
#else
typedef __m256i Words;
enum { LANES = 4 };
static inline Words words_splat(uint32_t x) {
  return _mm256_set1_epi64x((long long)x);
}
static inline Words words_from(uint32_t first) {
  return _mm256_add_epi64(words_splat(first), _mm256_setr_epi64x(0, 2, 1, 3));
}
static inline Words words_multiply(Words a, Words b) {
  return _mm256_mul_epu32(a, b);
}
static inline Words words_high(Words x) {
  return _mm256_srli_epi64(x, 32);
}
static inline Words words_xor(Words a, Words b) {
  return _mm256_xor_si256(a, b);
}
static inline Words words_pair(Words a, Words b) {
  return _mm256_blend_epi32(a, _mm256_shuffle_epi32(b, _MM_SHUFFLE(2, 2, 0, 0)), 0xaa);
}
static inline void words_store(uint32_t *out, const Words word[4]) {
  const Words low = words_pair(word[0], word[1]), high = words_pair(word[2], word[3]);
  /* [block 0 | block 1], then [block 2 | block 3] */
  _mm256_storeu_si256((__m256i *)out, _mm256_unpacklo_epi64(low, high));
  _mm256_storeu_si256((__m256i *)(out + 8), _mm256_unpackhi_epi64(low, high));
}
#endif

/* philox4x32 (base/random.c) at the counters (c[0], site, position, draw) of LANES blocks, in place. */
static inline void philox(Words c[4], RandomKey key) {
  uint32_t k0 = key.word[0], k1 = key.word[1];
  for (int round = 0; round < 10; round++) {
    Words p0 = words_multiply(c[0], words_splat(0xd2511f53u)),
          p1 = words_multiply(c[2], words_splat(0xcd9e8d57u));
    c[0] = words_xor(words_xor(words_high(p1), c[1]), words_splat(k0));
    c[1] = p1;
    c[2] = words_xor(words_xor(words_high(p0), c[3]), words_splat(k1));
    c[3] = p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
}

enum { DRAWS = 256 };

/* word[i] for columns first + i of a row, first a multiple of 4, i < count <= DRAWS; whole vectors of them are written. */
static void draw_words(uint32_t *word, int count, int64_t first, const DropoutSpec *spec, uint32_t position,
                       uint32_t draw) {
  for (int i = 0; i < count; i += 4 * LANES) {
    Words c[4] = {words_from((uint32_t)((first + i) / 4)), words_splat(spec->site), words_splat(position),
                  words_splat(draw)};
    philox(c, spec->key);
    words_store(word + i, c);
  }
}

/* What is kept: a draw of at least so many units of 2^-24, exactly p. */
static int32_t least_kept(float p) {
  return (int32_t)ceilf(p * 0x1p24f);
}

static void drop(float *out, const float *x, const uint32_t *word, int count, int32_t least, float scale,
                 float beta) {
  if (beta == 0) {
#pragma omp simd
    for (int i = 0; i < count; i++) out[i] = (int32_t)(word[i] >> 8) >= least ? x[i] * scale : 0.0f;
  } else {
#pragma omp simd
    for (int i = 0; i < count; i++)
      out[i] = ((int32_t)(word[i] >> 8) >= least ? x[i] * scale : 0.0f) + beta * out[i];
  }
}

void CPU(dropout)(Compute *c, Tensor out, Tensor x, DropoutSpec spec, float beta) {
  if (c->dry) return;
  const int64_t rows = x.dim[0], columns = x.dim[1];
  ASSERT(spec.p >= 0 && spec.p < 1 && columns <= UINT32_MAX);
  ASSERT(spec.draws.dim[0] == rows && spec.positions.dim[0] == rows);
  const uint32_t *draws = spec.draws.data, *positions = spec.positions.data;
  const float scale = 1.0f / (1.0f - spec.p);
  const int32_t least = least_kept(spec.p);
  const Spans spans = spans_of_rows(rows, columns);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    ASSERT(s.first % 4 == 0);
    float *po = f32(out) + span_offset(s, out);
    const float *px = f32(x) + span_offset(s, x);
    uint32_t word[DRAWS];
    for (int64_t j = 0; j < s.size; j += DRAWS) {
      int n = (int)min64(DRAWS, s.size - j);
      draw_words(word, n, s.first + j, &spec, positions[s.row], draws[s.row]);
      drop(po + j, px + j, word, n, least, scale, beta);
    }
  }
}
