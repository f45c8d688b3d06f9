/* What CUDA gives a kernel besides C++: bits, conversions, approximate mathematics (exact here), loads with
 * cache hints, atomics. Included by cuda_runtime.h. */
#ifndef TESTS_CUDA_HOST_DEVICE_H
#define TESTS_CUDA_HOST_DEVICE_H

#include "tests/cuda_host/types.h"

#include <cassert>
#include <cstdio>
#include <cstring>
#include <math.h>

template <class To, class From>
static inline To host_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits of equal size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

/* -- integers --------------------------------------------------------------------------------------------- */

inline int __popc(unsigned int x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline int __clz(int x) {
  return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __clzll(long long x) {
  return x ? __builtin_clzll((unsigned long long)x) : 64;
}
inline unsigned int __brev(unsigned int x) {
  unsigned int y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return (unsigned int)((uint64_t)a * b >> 32);
}
inline int __mulhi(int a, int b) {
  return (int)((int64_t)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int shift) {
  return (unsigned int)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift) {
  return (unsigned int)(((uint64_t)high << 32 | low) >> (shift & 31));
}
inline unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int selector) {
  uint64_t bytes = (uint64_t)y << 32 | x;
  unsigned int out = 0;
  for (int i = 0; i < 4; i++) {
    unsigned int choice = selector >> (4 * i) & 15u,
                 byte = (unsigned int)(bytes >> (8 * (choice & 7u))) & 255u;
    if (choice & 8u) byte = byte & 128u ? 255u : 0u;
    out |= byte << (8 * i);
  }
  return out;
}

#define HOST_MIN_MAX(T)    \
  inline T min(T a, T b) { \
    return a < b ? a : b;  \
  }                        \
  inline T max(T a, T b) { \
    return a > b ? a : b;  \
  }
HOST_MIN_MAX(int)
HOST_MIN_MAX(unsigned int)
HOST_MIN_MAX(long)
HOST_MIN_MAX(unsigned long)
HOST_MIN_MAX(long long)
HOST_MIN_MAX(unsigned long long)
#undef HOST_MIN_MAX
inline unsigned int min(unsigned int a, int b) {
  return min(a, (unsigned int)b);
}
inline unsigned int min(int a, unsigned int b) {
  return min((unsigned int)a, b);
}
inline unsigned int max(unsigned int a, int b) {
  return max(a, (unsigned int)b);
}
inline unsigned int max(int a, unsigned int b) {
  return max((unsigned int)a, b);
}
inline float min(float a, float b) {
  return fminf(a, b);
}
inline float max(float a, float b) {
  return fmaxf(a, b);
}
inline double min(double a, double b) {
  return fmin(a, b);
}
inline double max(double a, double b) {
  return fmax(a, b);
}

/* -- conversions ------------------------------------------------------------------------------------------ */

inline int __float_as_int(float x) {
  return host_bits<int>(x);
}
inline unsigned int __float_as_uint(float x) {
  return host_bits<unsigned int>(x);
}
inline float __int_as_float(int x) {
  return host_bits<float>(x);
}
inline float __uint_as_float(unsigned int x) {
  return host_bits<float>(x);
}
inline long long __double_as_longlong(double x) {
  return host_bits<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return host_bits<double>(x);
}
/* Saturating, NaN to 0, as the device's conversions. */
inline int host_to_int(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)x;
}
inline unsigned int host_to_uint(float x) {
  return !(x > 0) ? 0u : x >= 4294967296.0f ? 4294967295u : (unsigned int)x;
}
inline int __float2int_rn(float x) {
  return host_to_int(rintf(x));
}
inline int __float2int_rz(float x) {
  return host_to_int(x);
}
inline int __float2int_rd(float x) {
  return host_to_int(floorf(x));
}
inline int __float2int_ru(float x) {
  return host_to_int(ceilf(x));
}
inline unsigned int __float2uint_rn(float x) {
  return host_to_uint(rintf(x));
}
inline unsigned int __float2uint_rz(float x) {
  return host_to_uint(x);
}
inline float __int2float_rn(int x) {
  return (float)x;
}
inline float __uint2float_rn(unsigned int x) {
  return (float)x;
}
inline float __ll2float_rn(long long x) {
  return (float)x;
}
inline float __ull2float_rn(unsigned long long x) {
  return (float)x;
}
inline float __double2float_rn(double x) {
  return (float)x;
}

/* -- mathematics ------------------------------------------------------------------------------------------ */

/* glibc declares some of these names for itself. */
inline float host_expf(float x) {
  return expf(x);
}
inline float host_exp10f(float x) {
  return powf(10.0f, x);
}
inline float host_logf(float x) {
  return logf(x);
}
inline float host_log2f(float x) {
  return log2f(x);
}
inline float host_log10f(float x) {
  return log10f(x);
}
inline float host_powf(float x, float y) {
  return powf(x, y);
}
inline float host_sinf(float x) {
  return sinf(x);
}
inline float host_cosf(float x) {
  return cosf(x);
}
inline float host_tanf(float x) {
  return tanf(x);
}
inline void host_sincosf(float x, float *sine, float *cosine) {
  *sine = sinf(x);
  *cosine = cosf(x);
}
#define __expf(x)          host_expf(x)
#define __exp10f(x)        host_exp10f(x)
#define __logf(x)          host_logf(x)
#define __log2f(x)         host_log2f(x)
#define __log10f(x)        host_log10f(x)
#define __powf(x, y)       host_powf(x, y)
#define __sinf(x)          host_sinf(x)
#define __cosf(x)          host_cosf(x)
#define __tanf(x)          host_tanf(x)
#define __sincosf(x, s, c) host_sincosf(x, s, c)

inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / sqrt(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
inline float __frsqrt_rn(float x) {
  return 1.0f / sqrtf(x);
}
inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; /* NaN becomes 0 */
}
inline float __fmaf_rn(float x, float y, float z) {
  return fmaf(x, y, z);
}
/* Never contracted to a fused multiply-add, on the device and here. */
inline float __fmul_rn(float x, float y) {
  volatile float product = x * y;
  return product;
}
inline float __fadd_rn(float x, float y) {
  volatile float a = x, sum = a + y;
  return sum;
}
inline float __fsub_rn(float x, float y) {
  volatile float a = x, difference = a - y;
  return difference;
}
inline double __dmul_rn(double x, double y) {
  volatile double product = x * y;
  return product;
}
inline double __dadd_rn(double x, double y) {
  volatile double a = x, sum = a + y;
  return sum;
}
inline double __fma_rn(double x, double y, double z) {
  return fma(x, y, z);
}
inline float normcdff(float x) {
  return 0.5f * erfcf(-x * 0.70710678f);
}
inline float sinpif(float x) {
  return (float)sin(M_PI * x);
}
inline float cospif(float x) {
  return (float)cos(M_PI * x);
}

/* -- memory ----------------------------------------------------------------------------------------------- */

#define HOST_LOAD(name)       \
  template <class T>          \
  inline T name(const T *p) { \
    return *p;                \
  }
HOST_LOAD(__ldg)
HOST_LOAD(__ldcs)
HOST_LOAD(__ldcg)
HOST_LOAD(__ldca)
HOST_LOAD(__ldlu)
HOST_LOAD(__ldcv)
#undef HOST_LOAD
#define HOST_STORE(name)            \
  template <class T>                \
  inline void name(T *p, T value) { \
    *p = value;                     \
  }
HOST_STORE(__stcs)
HOST_STORE(__stcg)
HOST_STORE(__stwb)
HOST_STORE(__stwt)
#undef HOST_STORE

inline void __threadfence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_system() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __trap() {
  __builtin_trap();
}
inline void __nanosleep(unsigned int) {}
#define __builtin_assume(condition) ((void)0)

/* -- atomics: the value before ---------------------------------------------------------------------------- */

template <class T, class Change>
inline T host_atomic(T *p, Change change) {
  T old, wanted;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    wanted = change(old);
  } while (!__atomic_compare_exchange(p, &old, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

#define HOST_ATOMICS(T)                                             \
  inline T atomicAdd(T *p, T value) {                               \
    return host_atomic(p, [=](T old) { return (T)(old + value); }); \
  }                                                                 \
  inline T atomicExch(T *p, T value) {                              \
    return host_atomic(p, [=](T) { return value; });                \
  }
#define HOST_INTEGER_ATOMICS(T)                                                  \
  HOST_ATOMICS(T)                                                                \
  inline T atomicMax(T *p, T value) {                                            \
    return host_atomic(p, [=](T old) { return old > value ? old : value; });     \
  }                                                                              \
  inline T atomicMin(T *p, T value) {                                            \
    return host_atomic(p, [=](T old) { return old < value ? old : value; });     \
  }                                                                              \
  inline T atomicAnd(T *p, T value) {                                            \
    return host_atomic(p, [=](T old) { return (T)(old & value); });              \
  }                                                                              \
  inline T atomicOr(T *p, T value) {                                             \
    return host_atomic(p, [=](T old) { return (T)(old | value); });              \
  }                                                                              \
  inline T atomicXor(T *p, T value) {                                            \
    return host_atomic(p, [=](T old) { return (T)(old ^ value); });              \
  }                                                                              \
  inline T atomicCAS(T *p, T expected, T value) {                                \
    return host_atomic(p, [=](T old) { return old == expected ? value : old; }); \
  }
HOST_INTEGER_ATOMICS(int)
HOST_INTEGER_ATOMICS(unsigned int)
HOST_INTEGER_ATOMICS(unsigned long long)
HOST_ATOMICS(float)
HOST_ATOMICS(double)
#undef HOST_INTEGER_ATOMICS
#undef HOST_ATOMICS

inline int atomicSub(int *p, int value) {
  return atomicAdd(p, -value);
}
inline unsigned int atomicSub(unsigned int *p, unsigned int value) {
  return atomicAdd(p, 0u - value);
}
inline unsigned int atomicInc(unsigned int *p, unsigned int limit) {
  return host_atomic(p, [=](unsigned int old) { return old >= limit ? 0u : old + 1u; });
}

#endif
