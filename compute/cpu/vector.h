/* One vector type for both instruction sets: 16 floats with AVX-512, 8 with AVX2.
 *
 * Loops run `for (i = 0; i < n; i += VEC)` with part = vec_part(n - i) lanes alive; loads fill the dead lanes
 * with zero and stores leave them alone, so there is one code path whatever the length, and a lane's result
 * never depends on where in a vector its element fell. The horizontal sum has one fixed order. */
#ifndef COMPUTE_CPU_VECTOR_H
#define COMPUTE_CPU_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

static inline int vec_part(int64_t left);

#ifdef __AVX512F__

enum { VEC = 16 };
typedef __m512 Vec;
typedef __mmask16 Mask;

static inline __mmask16 vec_lanes(int part) {
  return (__mmask16)(0xffffu >> (VEC - part));
}

static inline Vec vec_splat(float x) {
  return _mm512_set1_ps(x);
}
static inline Vec vec_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline void vec_store(float *p, Vec x) {
  _mm512_storeu_ps(p, x);
}
static inline Vec vec_load_part(const float *p, int part) {
  return _mm512_maskz_loadu_ps(vec_lanes(part), p);
}
static inline void vec_store_part(float *p, Vec x, int part) {
  _mm512_mask_storeu_ps(p, vec_lanes(part), x);
}

static inline Vec vec_load_bf16_part(const uint16_t *p, int part) {
  __m256i narrow = _mm256_maskz_loadu_epi16(vec_lanes(part), p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}

static inline Vec vec_load_i8(const int8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline Vec vec_load_i8_part(const int8_t *p, int part) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(vec_lanes(part), p)));
}

static inline Vec vec_load_f16_part(const uint16_t *p, int part) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vec_lanes(part), p));
}

/* Nearest even; NaN stays NaN. */
static inline void vec_store_bf16_part(uint16_t *p, Vec x, int part) {
  __m512i bits = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
  _mm256_mask_storeu_epi16(p, vec_lanes(part), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

/* Whole numbers of -128 .. 127. */
static inline void vec_store_i8_part(int8_t *p, Vec x, int part) {
  _mm_mask_storeu_epi8(p, vec_lanes(part), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* The same as floats; finite ones alone. */
static inline Vec vec_round_bf16(Vec x) {
  __m512i bits = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32((int)0xffff0000)));
}

static inline Vec vec_fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline Vec vec_max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
} /* b where either is NaN */
static inline Vec vec_min(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
static inline Vec vec_sqrt(Vec x) {
  return _mm512_sqrt_ps(x);
}
static inline Vec vec_abs(Vec x) {
  return _mm512_abs_ps(x);
}
static inline Vec vec_round(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
}
static inline Vec vec_scale2(Vec x, Vec n) {
  return _mm512_scalef_ps(x, n);
} /* x * 2^n */
static inline Mask vec_less(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline Mask mask_and(Mask a, Mask b) {
  return (Mask)(a & b);
}
static inline Vec vec_select(Mask m, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(m, no, yes);
}
static inline Vec vec_iota(void) {
  return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* Lanes 4 apart added up. */
static inline __m128 vec_quad(Vec x) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

static inline float vec_sum(Vec x) {
  __m128 q = vec_quad(x);
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* The quads of four vectors one after the other: four lanes of the result are vec_quad of a, the next of b, .. */
static inline Vec vec_quads(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
  const Vec cd = _mm512_shuffle_f32x4(c, d, 0x44) + _mm512_shuffle_f32x4(c, d, 0xee);
  return _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
}

/* Each quad of a, b, c, d added up in the order of vec_sum: lane 4i + j is quad i of vector j. */
static inline Vec vec_sum_quads(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = _mm512_shuffle_ps(a, b, 0x44) + _mm512_shuffle_ps(a, b, 0xee);
  const Vec cd = _mm512_shuffle_ps(c, d, 0x44) + _mm512_shuffle_ps(c, d, 0xee);
  return _mm512_shuffle_ps(ab, cd, 0x88) + _mm512_shuffle_ps(ab, cd, 0xdd);
}

static inline float vec_highest(Vec x) {
  return _mm512_reduce_max_ps(x);
}
static inline float vec_first(Vec x) {
  return _mm512_cvtss_f32(x);
}

#else

enum { VEC = 8 };
typedef __m256 Vec;
typedef __m256 Mask;

static inline __m256i vec_lanes(int part) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(part), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline Vec vec_splat(float x) {
  return _mm256_set1_ps(x);
}
static inline Vec vec_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline void vec_store(float *p, Vec x) {
  _mm256_storeu_ps(p, x);
}
static inline Vec vec_load_part(const float *p, int part) {
  return part == VEC ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vec_lanes(part));
}
static inline void vec_store_part(float *p, Vec x, int part) {
  if (part == VEC) {
    _mm256_storeu_ps(p, x);
  } else {
    _mm256_maskstore_ps(p, vec_lanes(part), x);
  }
}

static inline __m128i vec_load_16_part(const uint16_t *p, int part) {
  if (part == VEC) return _mm_loadu_si128((const __m128i *)p);
  uint16_t lanes[VEC] = {0};
  for (int i = 0; i < part; i++) lanes[i] = p[i];
  return _mm_loadu_si128((const __m128i *)lanes);
}

static inline Vec vec_load_bf16_part(const uint16_t *p, int part) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(vec_load_16_part(p, part)), 16));
}

static inline Vec vec_load_i8(const int8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline Vec vec_load_i8_part(const int8_t *p, int part) {
  if (part == VEC) return vec_load_i8(p);
  int8_t lanes[VEC] = {0};
  for (int i = 0; i < part; i++) lanes[i] = p[i];
  return vec_load_i8(lanes);
}

static inline Vec vec_load_f16_part(const uint16_t *p, int part) {
  return _mm256_cvtph_ps(vec_load_16_part(p, part));
}

/* Nearest even; NaN stays NaN. */
static inline void vec_store_bf16_part(uint16_t *p, Vec x, int part) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  rounded = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
  __m256i high = _mm256_srli_epi32(rounded, 16);
  __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  uint16_t lanes[VEC];
  _mm_storeu_si128((__m128i *)lanes, narrow);
  for (int i = 0; i < part; i++) p[i] = lanes[i];
}

/* Whole numbers of -128 .. 127. */
static inline void vec_store_i8_part(int8_t *p, Vec x, int part) {
  int32_t lanes[VEC];
  _mm256_storeu_si256((__m256i *)lanes, _mm256_cvtps_epi32(x));
  for (int i = 0; i < part; i++) p[i] = (int8_t)lanes[i];
}

/* The same as floats; finite ones alone. */
static inline Vec vec_round_bf16(Vec x) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000)));
}

static inline Vec vec_fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline Vec vec_max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
} /* b where either is NaN */
static inline Vec vec_min(Vec a, Vec b) {
  return _mm256_min_ps(a, b);
}
static inline Vec vec_sqrt(Vec x) {
  return _mm256_sqrt_ps(x);
}
static inline Vec vec_abs(Vec x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
static inline Vec vec_round(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for -126 <= n <= 127 */
static inline Vec vec_scale2(Vec x, Vec n) {
  __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
static inline Mask vec_less(Vec a, Vec b) {
  return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline Mask mask_and(Mask a, Mask b) {
  return _mm256_and_ps(a, b);
}
static inline Vec vec_select(Mask m, Vec yes, Vec no) {
  return _mm256_blendv_ps(no, yes, m);
}
static inline Vec vec_iota(void) {
  return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}

/* Lanes 4 apart added up. */
static inline __m128 vec_quad(Vec x) {
  return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

static inline float vec_sum(Vec x) {
  __m128 q = vec_quad(x);
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static inline float vec_highest(Vec x) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
static inline float vec_first(Vec x) {
  return _mm256_cvtss_f32(x);
}

#endif

/* {sum a, sum b, sum c, sum d}, each added in the order of vec_sum. */
static inline __m128 vec_sum4(Vec a, Vec b, Vec c, Vec d) {
  __m128 qa = vec_quad(a), qb = vec_quad(b), qc = vec_quad(c), qd = vec_quad(d);
  __m128 ab = _mm_add_ps(_mm_movelh_ps(qa, qb), _mm_movehl_ps(qb, qa));
  __m128 cd = _mm_add_ps(_mm_movelh_ps(qc, qd), _mm_movehl_ps(qd, qc));
  return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

static inline int vec_part(int64_t left) {
  return left < VEC ? (int)left : VEC;
}

#endif
