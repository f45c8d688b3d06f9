/* Dropout whose mask is a function of (key, site, element): nothing is stored for the backward. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

/* 32-bit words in the low halves of 64-bit lanes; the high halves may hold anything. */
#ifdef __AVX512F__
typedef __m512i Words;
enum { WORDS = 8 };
static inline Words words_splat(uint32_t x) {
  return _mm512_set1_epi64((long long)x);
}
static inline Words words_load(const uint64_t *p) {
  return _mm512_loadu_si512(p);
}
static inline void words_store(uint64_t *p, Words x) {
  _mm512_storeu_si512(p, x);
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
#else
typedef __m256i Words;
enum { WORDS = 4 };
static inline Words words_splat(uint32_t x) {
  return _mm256_set1_epi64x((long long)x);
}
static inline Words words_load(const uint64_t *p) {
  return _mm256_loadu_si256((const __m256i *)p);
}
static inline void words_store(uint64_t *p, Words x) {
  _mm256_storeu_si256((__m256i *)p, x);
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
#endif

/* The first word of philox4x32 (base/random.c) at each of the counters. */
static inline Words philox(Words low, Words high, uint64_t site, RandomKey key) {
  Words c0 = low, c1 = high, c2 = words_splat((uint32_t)site), c3 = words_splat((uint32_t)(site >> 32));
  uint32_t k0 = key.word[0], k1 = key.word[1];
  for (int round = 0; round < 10; round++) {
    Words p0 = words_multiply(c0, words_splat(0xd2511f53u)),
          p1 = words_multiply(c2, words_splat(0xcd9e8d57u));
    c0 = words_xor(words_xor(words_high(p1), c1), words_splat(k0));
    c1 = p1;
    c2 = words_xor(words_xor(words_high(p0), c3), words_splat(k1));
    c3 = p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return c0;
}

enum { DRAWS = 256 };

/* random_uniform(key, site, first + i) for i < DRAWS */
static void uniforms(float *u, RandomKey key, uint64_t site, uint64_t first) {
  uint64_t word[DRAWS];
  for (int i = 0; i < DRAWS; i++) word[i] = first + (uint64_t)i;
  for (int i = 0; i < DRAWS; i += WORDS) {
    Words position = words_load(word + i);
    words_store(word + i, philox(position, words_high(position), site, key));
  }
  for (int i = 0; i < DRAWS; i++) u[i] = (float)(int32_t)((uint32_t)word[i] >> 8) * 0x1p-24f;
}

void CPU(dropout)(Compute *c, Tensor out, Tensor x, float p, RandomKey key, uint64_t site) {
  if (c->dry) return;
  ASSERT(p >= 0 && p < 1);
  Spans spans = spans_of(out, x);
  float scale = 1.0f / (1.0f - p);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *po = f32(out) + span_offset(s, out);
    const float *px = f32(x) + span_offset(s, x);
    uint64_t element = (uint64_t)(s.row * spans.columns + s.first);
    float u[DRAWS];
    for (int64_t j = 0; j < s.size; j += DRAWS) {
      int n = (int)min64(DRAWS, s.size - j);
      uniforms(u, key, site, element + (uint64_t)j);
      for (int k = 0; k < n; k++) po[j + k] = u[k] >= p ? px[j + k] * scale : 0.0f;
    }
  }
}
