/* fp16 in software: takes the place of the CUDA Toolkit's header. Conversions only. */
#ifndef TESTS_CUDA_HOST_CUDA_FP16_H
#define TESTS_CUDA_HOST_CUDA_FP16_H

#include "tests/cuda_host/device.h"

struct alignas(2) __half {
  unsigned short __x;
};
struct alignas(4) __half2 {
  __half x, y;
};
typedef __half half;
typedef __half2 half2;

inline float __half2float(__half h) {
  uint32_t sign = (uint32_t)(h.__x & 0x8000u) << 16, exponent = h.__x >> 10 & 31u, fraction = h.__x & 0x3ffu;
  if (exponent == 31) return host_bits<float>(sign | 0x7f800000u | fraction << 13);
  float size = exponent ? ldexpf((float)(1024 + fraction), (int)exponent - 25) : ldexpf((float)fraction, -24);
  return sign ? -size : size;
}

/* To nearest even. */
inline __half __float2half_rn(float x) {
  uint32_t bits = host_bits<uint32_t>(x), sign = bits >> 16 & 0x8000u;
  float size = fabsf(x);
  if (size != size) return {0x7fff};
  if (size >= 65520.0f) return {(unsigned short)(sign | 0x7c00u)};
  if (size < 6.103515625e-05f) return {(unsigned short)(sign | (uint32_t)rintf(ldexpf(size, 24)))};
  uint32_t mine = (bits & 0x7fffffffu) - (112u << 23);
  return {(unsigned short)(sign | (mine + 0xfffu + (mine >> 13 & 1u)) >> 13)};
}
inline __half __float2half(float x) {
  return __float2half_rn(x);
}
inline unsigned short __half_as_ushort(__half x) {
  return x.__x;
}
inline __half __ushort_as_half(unsigned short x) {
  return {x};
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
inline float2 __half22float2(__half2 v) {
  return {__half2float(v.x), __half2float(v.y)};
}

#endif
