/* The 8-bit dynamic map of Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization" (section 2.1,
 * dynamic tree quantisation; the variant of the published code): for magnitudes up to 1, seven decades
 * (10^(i-7), 10^(i-6)], i = 0..6, cut evenly into base * 2^i cells, whose middles are the values; beside them 0 and
 * 1. So the map spans seven orders of magnitude and has its finest relative steps at the top, where the largest
 * elements of a block lie.
 *
 *   signed (base 1): byte b is an int8; |b| = k names a magnitude, b = -128 is +1 (there is no -1)
 *   unsigned (base 2): byte b; k = b + 1, b = 0 is 0
 *   magnitude of k: with items = base * 2^i <= k < 2 * items, k = items + cell
 *
 * Both backends compile these functions, so their codes agree to the bit: no sum here may be contracted or
 * reordered but by the explicit fmaf. */
#ifndef COMPUTE_DYNAMIC_MAP_H
#define COMPUTE_DYNAMIC_MAP_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define DYNAMIC_MAP static __device__ __forceinline__
#else
#define DYNAMIC_MAP static inline
#endif

/* The magnitude of k >= base; k = 128 * base is 1. */
DYNAMIC_MAP float dynamic_magnitude(int k, int base) {
  float power = 1e-6f;
  int items = base;
  if (k >= 2 * base) power = 1e-5f, items = 2 * base;
  if (k >= 4 * base) power = 1e-4f, items = 4 * base;
  if (k >= 8 * base) power = 1e-3f, items = 8 * base;
  if (k >= 16 * base) power = 1e-2f, items = 16 * base;
  if (k >= 32 * base) power = 1e-1f, items = 32 * base;
  if (k >= 64 * base) power = 1, items = 64 * base;
  float value = power * fmaf(0.9f / (float)items, (float)(k - items) + 0.5f, 0.1f);
  return k >= 128 * base ? 1.0f : value;
}

/* k of the value nearest to x, for 0 < x <= 1; never that of zero. A decade begins half way between the last value
 * of the one below and its own first. */
DYNAMIC_MAP int dynamic_nearest(float x, int base) {
  const double gap = 1.8 / base;
  float cells = (float)(1e6 / 0.9); /* per unit of x, when base is 1 */
  int items = base;
  if (x > (float)(1e-6 * (1 + gap / 2))) cells = (float)(2e5 / 0.9), items = 2 * base;
  if (x > (float)(1e-5 * (1 + gap / 4))) cells = (float)(4e4 / 0.9), items = 4 * base;
  if (x > (float)(1e-4 * (1 + gap / 8))) cells = (float)(8e3 / 0.9), items = 8 * base;
  if (x > (float)(1e-3 * (1 + gap / 16))) cells = (float)(1.6e3 / 0.9), items = 16 * base;
  if (x > (float)(1e-2 * (1 + gap / 32))) cells = (float)(3.2e2 / 0.9), items = 32 * base;
  if (x > (float)(1e-1 * (1 + gap / 64))) cells = (float)(64 / 0.9), items = 64 * base;
  if (x > (float)(1 - 0.225 / (64 * base))) cells = 0, items = 128 * base;
  int k = (int)fmaf(x, cells * (float)base, (float)items * (8.0f / 9));
  k = k < items ? items : k;
  return k < 2 * items ? k : 2 * items - 1;
}

DYNAMIC_MAP float dynamic_signed_value(uint8_t code) {
  int b = (int8_t)code, k = b < 0 ? -b : b;
  float value = k == 0 ? 0.0f : dynamic_magnitude(k, 1);
  return b < 0 && b > -128 ? -value : value;
}

/* x in [-1, 1] */
DYNAMIC_MAP uint8_t dynamic_signed_code(float x) {
  float size = fabsf(x);
  int k = size > 2.75e-7f ? dynamic_nearest(size, 1) : 0;
  int limited = k < 127 ? k : 127;
  return (uint8_t)(x < 0 ? -limited : k);
}

DYNAMIC_MAP float dynamic_unsigned_value(uint8_t code) {
  return code == 0 ? 0.0f : dynamic_magnitude(code + 1, 2);
}

/* x in [0, 1]. What is above zero does not become zero: a mean gradient divided by the root of a lost mean square
 * would be a leap (the zero-point problem, Li et al. 2023, "Memory Efficient Optimizers with 4-bit States"). */
DYNAMIC_MAP uint8_t dynamic_unsigned_code(float x) {
  return (uint8_t)(x > 0 ? dynamic_nearest(x, 2) - 1 : 0);
}

/* The factor that brings elements up to `absmax` into [0, 1]; 0 for a block of nothing, whose reciprocal could
 * overflow. */
DYNAMIC_MAP float dynamic_inverse(float absmax) {
  return absmax > 1e-36f ? 1.0f / absmax : 0.0f;
}

#endif
