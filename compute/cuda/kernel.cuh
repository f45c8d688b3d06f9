/* What the CUDA kernels share. Every .cu file here is the twin of the .c file of the same name in compute/cpu,
 * which is also its specification.
 *
 * A kernel is launched through LAUNCH alone and takes dynamic shared memory through SHARED_MEMORY alone; PTX
 * stands in device/ptx.cuh alone. Those two headers of the folder device/ have twins in tests/cuda_host that
 * run grids, blocks and warps in software on the CPU, so that the same source is tested without a GPU:
 *
 *   - threads of a warp run in turn between the points where they meet: use the _sync forms, with the mask of
 *     all threads that take part (FULL_MASK: whole warps alone meet), and __syncwarp() between a write to
 *     shared memory and a read by another thread of the warp;
 *   - blocks run one after the other: no block waits for another;
 *   - what is uninitialised there is poison.
 *
 * What comments say of floors, times and rates is estimated, from bytes, operations and data sheets; what has been
 * measured is in docs/performance.md.
 *
 * All sums, softmax and norms are in fp32 whatever the dtype of the tensors. Reproducible to the bit: sums have
 * an order fixed by the shapes alone; floating-point atomics are not used. Offsets are 64 bits wide: a tensor
 * may have more than 2^31 elements. */
#ifndef COMPUTE_CUDA_KERNEL_CUH
#define COMPUTE_CUDA_KERNEL_CUH

#include <cmath>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

extern "C" {
#include "compute/cuda/cuda.h"
}

/* From device/, or from tests/cuda_host. */
#include <launch.cuh>

typedef __nv_bfloat16 bf16;

#define LOG2_E 1.4426950408889634f
#define LOG_2  0.6931471805599453f
/* The maximum of nothing yet: below any score or logit, above that of a masked one (-infinity), and finite, so that no
 * difference of two becomes NaN. */
#define LOWEST (-1e30f)

enum { WARP = 32 };
#define FULL_MASK 0xffffffffu

/* -- host side ------------------------------------------------------------------------------------------ */

/* Workspace of one operation, in device memory; as compute/cpu/cpu.h. */
static inline size_t scratch_open(const Compute *c) {
  return arena_mark(&c->scratch);
}
template <class T>
static inline T *scratch_new(Compute *c, int64_t count) {
  ASSERT(c->dry || !c->scratch.dry); /* else the caller never planned its scratch with a dry run */
  return (T *)arena_alloc(&c->scratch, (size_t)count * sizeof(T));
}
static inline void scratch_close(Compute *c, size_t mark) {
  arena_release(&c->scratch, mark);
}

template <class T>
static inline T *data(Tensor x) {
  return (T *)x.data;
}

static inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/* Runs the statements with T as the C++ type of a floating dtype: WITH_TYPE(x.dtype, T, launch<T>(...)). */
#define WITH_TYPE(type, T, ...)     \
  do {                              \
    if ((type) == DTYPE_F32) {      \
      using T = float;              \
      __VA_ARGS__;                  \
    } else {                        \
      ASSERT((type) == DTYPE_BF16); \
      using T = bf16;               \
      __VA_ARGS__;                  \
    }                               \
  } while (0)

/* -- device side ---------------------------------------------------------------------------------------- */

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

/* N neighbours, loaded and stored at once: 16 bytes for Pack<float, 4> and Pack<bf16, 8>. */
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T *p) {
  return *reinterpret_cast<const Pack<T, N> *>(p);
}
template <class T, int N>
__device__ __forceinline__ void store_pack(T *p, const Pack<T, N> &x) {
  *reinterpret_cast<Pack<T, N> *>(p) = x;
}

/* Over the warp, in every lane; all lanes take part. */
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, step));
  return x;
}

/* Over the block of THREADS threads, in every thread; all threads take part. */
template <int THREADS>
__device__ __forceinline__ float block_sum(float x) {
  static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
  __shared__ float part[THREADS / WARP];
  x = warp_sum(x);
  __syncthreads(); /* of an earlier call, everyone has read */
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < THREADS / WARP; i++) sum += part[i];
  return sum;
}
template <int THREADS>
__device__ __forceinline__ float block_max(float x) {
  static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
  __shared__ float part[THREADS / WARP];
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
  __syncthreads();
  float highest = part[0];
#pragma unroll
  for (int i = 1; i < THREADS / WARP; i++) highest = fmaxf(highest, part[i]);
  return highest;
}

#endif
