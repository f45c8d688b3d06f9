/* DTYPE_Q8: a matrix [O,I] in 8 bits: a linear's weight, or an embedding or LM head that would be a large share of a quantised model.
 *
 * 64 neighbours of a row are a block: int8 codes and one F32 scale, absmax / 127.
 *
 *   value = bf16(code * scale)          the product in F32, then one rounding to nearest even
 *
 * A scale is within the bounds of compute/nf4.h. In memory: the codes [O,I], row after row, then the scales [O][I/64]. I is a multiple of 64. */
#ifndef COMPUTE_Q8_H
#define COMPUTE_Q8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { Q8_BLOCK = 64 };

static inline bool q8_fits(int64_t outputs, int64_t inputs) {
  return outputs > 0 && inputs > 0 && inputs % Q8_BLOCK == 0;
}
/* Where the scales begin, and how many bytes there are in all. */
static inline size_t q8_scales_at(int64_t outputs, int64_t inputs) {
  return (size_t)(outputs * inputs);
}
static inline size_t q8_bytes(int64_t outputs, int64_t inputs) {
  return q8_scales_at(outputs, inputs) + (size_t)(outputs * (inputs / Q8_BLOCK)) * sizeof(float);
}

/* Quantises count values, a multiple of Q8_BLOCK: nearest code, ties to even. They are finite. */
void q8_quantize(const float *values, int64_t count, int8_t *codes, float *scales);
/* The values of count codes, a multiple of Q8_BLOCK, as BF16. */
void q8_dequantize(const int8_t *codes, const float *scales, int64_t count, uint16_t *out);

#endif
