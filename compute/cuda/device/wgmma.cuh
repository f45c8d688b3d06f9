/* Inline PTX of sm_90a alone: tensor-core products of a warpgroup, four warps whose first has a number that four divides. Its twin for
 * tests without a GPU is tests/cuda_host/wgmma.cuh.
 *
 * d += A B^T of A [64,16] and B [N,16], bf16 in shared memory, sums in fp32. Of warp w and d[i] of a lane
 *   row = 16 w + lane / 4 + i / 2 % 2 * 8      column = i / 4 * 8 + lane % 4 * 2 + i % 2
 * so that d[4j .. 4j+3] is the fragment of a product of ptx.cuh with columns 8j .. 8j+7.
 *
 * A product is under way until it is waited for. Until then d belongs to it, and what it reads must stay. The order that it asks for:
 *   each thread that wrote what it reads: copy_async_wait or the end of its stores, then fence_proxy_async(); a barrier;
 *   wgmma_fence(d); wgmma_bf16(d, ...) once or more; wgmma_commit(); ... wgmma_wait<0>(d).
 * Products of one warpgroup end in the order of their groups: with those of s and then of d committed, wgmma_wait<1>(s) gives s.
 * All lanes of the four warps take part in all of them. */
#ifndef COMPUTE_CUDA_DEVICE_WGMMA_CUH
#define COMPUTE_CUDA_DEVICE_WGMMA_CUH

#include "compute/cuda/device/wgmma_matrix.cuh"

/* What this thread wrote to shared memory is seen by products after the next barrier. */
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

/* The compiler has d at hand here, and not before or after in other registers. */
template <int COUNT>
__device__ __forceinline__ void wgmma_hold(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* Before the first product after a wait: orders what was done to d. */
template <int COUNT>
__device__ __forceinline__ void wgmma_fence(float (&d)[COUNT]) {
  wgmma_hold(d);
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
/* And to the fragments of A, where those are in registers. */
template <int COUNT, int LINKS>
__device__ __forceinline__ void wgmma_fence(float (&d)[COUNT], uint32_t (&a)[LINKS][4]) {
#pragma unroll
  for (int link = 0; link < LINKS; link++) {
#pragma unroll
    for (int i = 0; i < 4; i++) asm volatile("" : "+r"(a[link][i])::"memory");
  }
  wgmma_fence(d);
}
/* Ends this warp's group of products. */
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
/* Waits until at most PENDING of this warp's newest groups are under way: the memory that the others read is free. */
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
}
/* And d, which belongs to none of the newest, is at hand. */
template <int PENDING, int COUNT>
__device__ __forceinline__ void wgmma_wait(float (&d)[COUNT]) {
  wgmma_wait<PENDING>();
  wgmma_hold(d);
}

#define D4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
#define WGMMA(N, REGISTERS, A, B, P, T, ...)                                                         \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P                                                 \
               ", 0;\n"                                                                              \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" REGISTERS "}, " A ", " B \
               ", p, 1, 1, " T ", 0;\n}\n"                                                           \
               : __VA_ARGS__                                                                         \
               : "l"(a), "l"(b), "r"((int)add), "n"(TRANSPOSED ? 1 : 0))
#define NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                     \
  NAMES_32                                                                           \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/* The product; N is twice the length of d. TRANSPOSED: A. Without `add`, a constant, it takes the place of d. */
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16(float (&d)[4], uint64_t a, uint64_t b, bool add = true) {
  WGMMA(8, "%0, %1, %2, %3", "%4", "%5", "%6", "%7", D4(0));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16(float (&d)[8], uint64_t a, uint64_t b, bool add = true) {
  WGMMA(16, "%0, %1, %2, %3, %4, %5, %6, %7", "%8", "%9", "%10", "%11", D4(0), D4(4));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16(float (&d)[16], uint64_t a, uint64_t b, bool add = true) {
  WGMMA(32, NAMES_16, "%16", "%17", "%18", "%19", D16(0));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16(float (&d)[32], uint64_t a, uint64_t b, bool add = true) {
  WGMMA(64, NAMES_32, "%32", "%33", "%34", "%35", D16(0), D16(16));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16(float (&d)[64], uint64_t a, uint64_t b, bool add = true) {
  WGMMA(128, NAMES_64, "%64", "%65", "%66", "%67", D16(0), D16(16), D16(32), D16(48));
}

/* The same with A from registers: of each warp the fragment of its 16 rows, as mma_bf16 has it. They belong to the product until it is
 * waited for, as d does. TRANSPOSED: B. */
#define WGMMA_A(N, REGISTERS, A, B, T, ...)                                                   \
  asm volatile(                                                                               \
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n" /* d is added to */                          \
      "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" REGISTERS "}, {" A "}, " B \
      ", p, 1, 1, " T ";\n}\n"                                                                \
      : __VA_ARGS__                                                                           \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(TRANSPOSED ? 1 : 0))
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[4], const uint32_t (&a)[4], uint64_t b) {
  WGMMA_A(8, "%0, %1, %2, %3", "%4, %5, %6, %7", "%8", "%9", D4(0));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[8], const uint32_t (&a)[4], uint64_t b) {
  WGMMA_A(16, "%0, %1, %2, %3, %4, %5, %6, %7", "%8, %9, %10, %11", "%12", "%13", D4(0), D4(4));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[16], const uint32_t (&a)[4], uint64_t b) {
  WGMMA_A(32, NAMES_16, "%16, %17, %18, %19", "%20", "%21", D16(0));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  WGMMA_A(64, NAMES_32, "%32, %33, %34, %35", "%36", "%37", D16(0), D16(16));
}
template <bool TRANSPOSED>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  WGMMA_A(128, NAMES_64, "%64, %65, %66, %67", "%68", "%69", D16(0), D16(16), D16(32), D16(48));
}

#undef WGMMA_A
#undef WGMMA
#undef D4
#undef D16
#undef NAMES_16
#undef NAMES_32
#undef NAMES_64

#endif
