/* bf16 in software: takes the place of the CUDA Toolkit's header. Rounded to nearest even; NaN becomes 0x7fff,
 * as the device's conversion has it. */
#ifndef TESTS_CUDA_HOST_CUDA_BF16_H
#define TESTS_CUDA_HOST_CUDA_BF16_H

#include "tests/cuda_host/device.h"

inline unsigned short host_to_bf16(float x) {
  uint32_t bits = host_bits<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float host_from_bf16(unsigned short bits) {
  return host_bits<float>((uint32_t)bits << 16);
}

struct __nv_bfloat16_raw {
  unsigned short x;
};

struct alignas(2) __nv_bfloat16 {
  unsigned short __x;

  __nv_bfloat16() = default;
  __nv_bfloat16(__nv_bfloat16_raw raw) : __x(raw.x) {}
  __nv_bfloat16(float x) : __x(host_to_bf16(x)) {}
  __nv_bfloat16(double x) : __x(host_to_bf16((float)x)) {}
  __nv_bfloat16(int x) : __x(host_to_bf16((float)x)) {}
  operator float() const { return host_from_bf16(__x); }
  operator __nv_bfloat16_raw() const { return {__x}; }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

inline float __bfloat162float(__nv_bfloat16 x) {
  return host_from_bf16(x.__x);
}
inline __nv_bfloat16 __float2bfloat16(float x) {
  return __nv_bfloat16(x);
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return __nv_bfloat16(x);
}
inline __nv_bfloat16 __float2bfloat16_rz(float x) {
  return x != x ? __nv_bfloat16(x)
                : __nv_bfloat16(__nv_bfloat16_raw{(unsigned short)(host_bits<uint32_t>(x) >> 16)});
}
inline __nv_bfloat16 __double2bfloat16(double x) {
  return __nv_bfloat16((float)x);
}
inline __nv_bfloat16 __int2bfloat16_rn(int x) {
  return __nv_bfloat16((float)x);
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) {
  return x.__x;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) {
  return __nv_bfloat16(__nv_bfloat16_raw{x});
}

/* -- pairs ------------------------------------------------------------------------------------------------ */

inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
  return {x, y};
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
  return {x, y};
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) {
  return {x, x};
}
inline __nv_bfloat162 __float2bfloat162_rn(float x) {
  return {__nv_bfloat16(x), __nv_bfloat16(x)};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
  return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
inline float __low2float(__nv_bfloat162 v) {
  return __bfloat162float(v.x);
}
inline float __high2float(__nv_bfloat162 v) {
  return __bfloat162float(v.y);
}
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) {
  return v.x;
}
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) {
  return v.y;
}

/* -- arithmetic: in fp32, rounded once -------------------------------------------------------------------- */

#define HOST_BF16_OPERATION(name, expression)                           \
  inline __nv_bfloat16 name(__nv_bfloat16 a_, __nv_bfloat16 b_) {       \
    float a = __bfloat162float(a_), b = __bfloat162float(b_);           \
    return __nv_bfloat16((float)(expression));                          \
  }                                                                     \
  inline __nv_bfloat162 name##2(__nv_bfloat162 a_, __nv_bfloat162 b_) { \
    return {name(a_.x, b_.x), name(a_.y, b_.y)};                        \
  }
HOST_BF16_OPERATION(__hadd, a + b)
HOST_BF16_OPERATION(__hsub, a - b)
HOST_BF16_OPERATION(__hmul, a *b)
HOST_BF16_OPERATION(__hdiv, a / b)
HOST_BF16_OPERATION(__hmax, fmaxf(a, b))
HOST_BF16_OPERATION(__hmin, fminf(a, b))
#undef HOST_BF16_OPERATION
inline __nv_bfloat162 __h2div(__nv_bfloat162 a, __nv_bfloat162 b) {
  return __hdiv2(a, b);
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __nv_bfloat16(fmaf(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat16 __hneg(__nv_bfloat16 a) {
  return __ushort_as_bfloat16((unsigned short)(a.__x ^ 0x8000u));
}
inline __nv_bfloat16 __habs(__nv_bfloat16 a) {
  return __ushort_as_bfloat16((unsigned short)(a.__x & 0x7fffu));
}
inline bool __hisnan(__nv_bfloat16 a) {
  return (a.__x & 0x7fffu) > 0x7f80u;
}
inline __nv_bfloat16 operator+(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hadd(a, b);
}
inline __nv_bfloat16 operator-(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hsub(a, b);
}
inline __nv_bfloat16 operator*(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hmul(a, b);
}
inline __nv_bfloat16 operator/(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hdiv(a, b);
}

#endif
