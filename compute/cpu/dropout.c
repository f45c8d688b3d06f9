/* Dropout whose mask is a function of (key, site, element): nothing is stored for the backward. */
#include "compute/cpu/cpu.h"

/* random_uniform(key, site, first + i) for `n` elements: Philox4x32-10 as in base/random.c, written so that the
 * compiler runs one element per vector lane. */
static void uniforms(float *u, RandomKey key, uint64_t site, uint64_t first, int n) {
  for (int i = 0; i < n; i++) {
    uint64_t position = first + (uint64_t)i;
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32);
    uint32_t c2 = (uint32_t)site, c3 = (uint32_t)(site >> 32);
    uint32_t k0 = key.word[0], k1 = key.word[1];
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
      uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
      c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
      c1 = (uint32_t)p1;
      c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
      c3 = (uint32_t)p0;
      k0 += 0x9e3779b9u;
      k1 += 0xbb67ae85u;
    }
    u[i] = (float)(int32_t)(c0 >> 8) * 0x1p-24f;
  }
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
    float u[256];
    for (int64_t j = 0; j < s.size; j += 256) {
      int n = (int)min64(256, s.size - j);
      uniforms(u, key, site, element + (uint64_t)j, n);
      for (int k = 0; k < n; k++) po[j + k] = u[k] >= p ? px[j + k] * scale : 0.0f;
    }
  }
}
