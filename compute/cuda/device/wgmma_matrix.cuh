/* Descriptors of matrices in shared memory for the products of wgmma.cuh and of its twin (PTX ISA, "Matrix Descriptor Format"). */
#ifndef COMPUTE_CUDA_DEVICE_WGMMA_MATRIX_CUH
#define COMPUTE_CUDA_DEVICE_WGMMA_MATRIX_CUH

#include <ptx.cuh>

/* A tile of 64 bf16 (128 bytes) a row, at a multiple of 1024 bytes: the 16-byte pieces of a row are moved about, piece p of row r lies
 * at place p ^ r % 8 (the swizzle of 128 bytes). A row is 64 of K for a row of A or B; of a transposed factor it is 64 rows of the
 * factor for one of K, and the next 64 rows have a tile of their own, `apart` bytes further on. */
__device__ __forceinline__ uint64_t wgmma_matrix(const void *tile, uint32_t apart = 16) {
  const uint64_t address = shared_address(tile) & 0x3ffff, eight_rows = 1024;
  return address >> 4 | (uint64_t)(apart >> 4) << 16 | eight_rows >> 4 << 32 | (uint64_t)1 << 62;
}

/* The matrix 16 * link further along K. */
template <bool TRANSPOSED>
__device__ __forceinline__ uint64_t wgmma_link(uint64_t matrix, int link) {
  return matrix + (uint64_t)(link * (TRANSPOSED ? 16 * 128 >> 4 : 16 * 2 >> 4));
}

#endif
