/* The words and vector types of CUDA for a C++ compiler of the host. Included by cuda_runtime.h. */
#ifndef TESTS_CUDA_HOST_TYPES_H
#define TESTS_CUDA_HOST_TYPES_H

#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __managed__
/* With a sanitizer's checks in each copy the kernels would take ten minutes to compile. */
#ifdef __SANITIZE_ADDRESS__
#define __forceinline__ inline
#else
#define __forceinline__ inline __attribute__((always_inline))
#endif
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
/* One OS thread runs the threads of a block in turn: what they share is what that OS thread has. */
#define __shared__ static thread_local

/* Aligned as on the device, so that -fsanitize=alignment sees a vector access that the device would refuse. */
#define VECTOR_TYPES(T, name, align2, align4)         \
  struct name##1 {                                    \
    T x;                                              \
  };                                                  \
  struct alignas(align2) name##2 {                    \
    T x, y;                                           \
  };                                                  \
  struct name##3 {                                    \
    T x, y, z;                                        \
  };                                                  \
  struct alignas(align4) name##4 {                    \
    T x, y, z, w;                                     \
  };                                                  \
  inline name##1 make_##name##1(T x) {                \
    return {x};                                       \
  }                                                   \
  inline name##2 make_##name##2(T x, T y) {           \
    return {x, y};                                    \
  }                                                   \
  inline name##3 make_##name##3(T x, T y, T z) {      \
    return {x, y, z};                                 \
  }                                                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { \
    return {x, y, z, w};                              \
  }
VECTOR_TYPES(signed char, char, 2, 4)
VECTOR_TYPES(unsigned char, uchar, 2, 4)
VECTOR_TYPES(short, short, 4, 8)
VECTOR_TYPES(unsigned short, ushort, 4, 8)
VECTOR_TYPES(int, int, 8, 16)
VECTOR_TYPES(unsigned int, uint, 8, 16)
VECTOR_TYPES(long long, longlong, 16, 16)
VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
VECTOR_TYPES(float, float, 8, 16)
VECTOR_TYPES(double, double, 16, 16)
#undef VECTOR_TYPES

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

#endif
