/* Dropout by counted draws (DropoutSpec in ops.h): no mask is stored for the backward. */
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

/* The first word of philox4x32 (base/random.c) at the counters (column, site, position, draw), by columns. */
static inline Words philox(Words column, uint32_t site, uint32_t position, uint32_t draw, RandomKey key) {
  Words c0 = column, c1 = words_splat(site), c2 = words_splat(position), c3 = words_splat(draw);
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

/* u[i] for columns first + i of a row, i < count <= DRAWS; whole vectors of them are written. */
static void uniforms(float *u, int count, uint32_t first, const DropoutSpec *spec, uint32_t position,
                     uint32_t draw) {
  uint64_t word[DRAWS];
  for (int i = 0; i < DRAWS; i++) word[i] = first + (uint64_t)i;
  for (int i = 0; i < count; i += WORDS) {
    words_store(word + i, philox(words_load(word + i), spec->site, position, draw, spec->key));
  }
  for (int i = 0; i < DRAWS; i++) u[i] = (float)(int32_t)((uint32_t)word[i] >> 8) * 0x1p-24f;
}

void CPU(dropout)(Compute *c, Tensor out, Tensor x, DropoutSpec spec) {
  if (c->dry) return;
  const int64_t rows = x.dim[0], columns = x.dim[1];
  ASSERT(spec.p >= 0 && spec.p < 1 && columns <= UINT32_MAX);
  ASSERT(spec.draws.dim[0] == rows && spec.positions.dim[0] == rows);
  const uint32_t *draws = spec.draws.data, *positions = spec.positions.data;
  const float scale = 1.0f / (1.0f - spec.p);
  const Spans spans = spans_of_rows(rows, columns);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *po = f32(out) + span_offset(s, out);
    const float *px = f32(x) + span_offset(s, x);
    float u[DRAWS];
    for (int64_t j = 0; j < s.size; j += DRAWS) {
      int n = (int)min64(DRAWS, s.size - j);
      uniforms(u, n, (uint32_t)(s.first + j), &spec, positions[s.row], draws[s.row]);
      for (int k = 0; k < n; k++) po[j + k] = u[k] >= spec.p ? px[j + k] * scale : 0.0f;
    }
  }
}
