/* Descriptors of matrices in shared memory for the products of wgmma.cuh and of its twin (PTX ISA, "Matrix Descriptor Format"). */
#ifndef COMPUTE_CUDA_DEVICE_WGMMA_MATRIX_CUH
#define COMPUTE_CUDA_DEVICE_WGMMA_MATRIX_CUH

#include <ptx.cuh>

/* A tile of 64 bf16 (128 bytes) a row, at a multiple of 1024 bytes: the 16-byte pieces of a row are moved about, piece p of row r lies
 * at place p ^ r % 8 (the swizzle of 128 bytes). A row is 64 of K for a row of A or B; of a transposed A it is the 64 rows of A for
 * one of K. */
__device__ __forceinline__ uint64_t wgmma_matrix(const void *tile) {
  const uint64_t address = shared_address(tile) & 0x3ffff, eight_rows = 1024, unused = 1;
  return address >> 4 | unused << 16 | eight_rows >> 4 << 32 | (uint64_t)1 << 62;
}

/* The matrix 16 * link further along K. */
template <bool TRANSPOSED>
__device__ __forceinline__ uint64_t wgmma_link(uint64_t matrix, int link) {
  return matrix + (uint64_t)(link * (TRANSPOSED ? 16 * 128 >> 4 : 16 * 2 >> 4));
}

#endif
