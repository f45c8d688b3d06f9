/* All inline PTX of the backend: tensor-core products, the loads that feed them, asynchronous copies. Its twin
 * for tests without a GPU is tests/cuda_host/ptx.cuh. Needs sm_80.
 *
 * Fragments are those of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"):
 * with group = lane / 4 and pair = lane % 4 * 2, a lane holds
 *   a[0] = A[group][pair..+1]      a[1] = A[group+8][pair..+1]
 *   a[2] = A[group][pair+8..+9]    a[3] = A[group+8][pair+8..+9]     A: 16x16, row-major
 *   b[0] = B[pair..+1][group]      b[1] = B[pair+8..+9][group]       B: 16x8, column-major
 *   d[0..1] = D[group][pair..+1]   d[2..3] = D[group+8][pair..+1]    D: 16x8, fp32
 * two bf16 to a register, the lower index in the lower half. All lanes of the warp take part in every function
 * but the copies. */
#ifndef COMPUTE_CUDA_DEVICE_PTX_CUH
#define COMPUTE_CUDA_DEVICE_PTX_CUH

#include <cstdint>

/* d += A B */
__device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t shared_address(const void *p) {
  return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8x8 matrices of bf16 from shared memory: lane 8*i + j gives the address (16-byte aligned) of row j of
 * matrix i; r[i] of a lane receives elements lane%4*2 and +1 of row lane/4 of matrix i. */
__device__ __forceinline__ void load_matrix_x4(uint32_t r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/* The same, each matrix transposed on the way. */
__device__ __forceinline__ void load_matrix_x4_transposed(uint32_t r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/* Two matrices: the addresses of lanes 0..15 count. */
__device__ __forceinline__ void load_matrix_x2(uint32_t r[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x2_transposed(uint32_t r[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

/* 16 bytes from global to shared memory, both 16-byte aligned; zeros, and nothing read, when not `valid`
 * (global must still be an address one may form). The bytes are there after copy_async_wait for their group and
 * a barrier. */
__device__ __forceinline__ void copy_async_16(void *shared, const void *global, bool valid) {
  int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
               "r"(bytes)
               : "memory");
}
/* Ends this thread's group of copies. */
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/* Waits until at most PENDING of this thread's newest groups are under way. */
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}

/* Barrier number 1 .. 15 of the block, of THREADS of its threads, whole warps; 0 is that of __syncthreads. */
template <int BARRIER, int THREADS>
__device__ __forceinline__ void meet_threads() {
  asm volatile("bar.sync %0, %1;\n" ::"n"(BARRIER), "n"(THREADS) : "memory");
}

/* Two floats as bf16 in a register, the first in the lower half; rounded to nearest even. */
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/* 2^x, with an error of 2 units in the last place; 0 for x far below. */
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

#endif
