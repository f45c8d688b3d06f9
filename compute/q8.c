#include "compute/q8.h"

#include "base/dtype.h"

#include <math.h>

void q8_quantize(const float *values, int64_t count, int8_t *codes, float *scales) {
  for (int64_t block = 0; block < count / Q8_BLOCK; block++) {
    const float *x = values + block * Q8_BLOCK;
    float absmax = 0;
    for (int i = 0; i < Q8_BLOCK; i++) absmax = fabsf(x[i]) > absmax ? fabsf(x[i]) : absmax;
    const float scale = absmax / 127;
    scales[block] = scale;
    /* A scale too small for a float's full precision could make a quotient of more than 127. */
    for (int i = 0; i < Q8_BLOCK; i++)
      codes[block * Q8_BLOCK + i] = (int8_t)(scale > 0 ? fmaxf(-127, fminf(127, rintf(x[i] / scale))) : 0);
  }
}

void q8_dequantize(const int8_t *codes, const float *scales, int64_t count, uint16_t *out) {
  for (int64_t i = 0; i < count; i++) out[i] = bf16_from_float((float)codes[i] * scales[i / Q8_BLOCK]);
}
