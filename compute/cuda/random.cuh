/* base/random.h on the device: the same draws, bit for bit. Philox4x32-10 (Salmon et al., "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011). */
#ifndef COMPUTE_CUDA_RANDOM_CUH
#define COMPUTE_CUDA_RANDOM_CUH

#include "compute/cuda/kernel.cuh"

/* The four words of the block of (sample, position). */
__device__ __forceinline__ void philox_words(RandomKey key, uint64_t sample, uint64_t position,
                                             uint32_t word[4]) {
  uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32);
  uint32_t c2 = (uint32_t)sample, c3 = (uint32_t)(sample >> 32);
  uint32_t k0 = key.word[0], k1 = key.word[1];
#pragma unroll
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  word[0] = c0;
  word[1] = c1;
  word[2] = c2;
  word[3] = c3;
}

/* random_uniform(key, sample, position) in units of 2^-24. */
__device__ __forceinline__ uint32_t random_units(RandomKey key, uint64_t sample, uint64_t position) {
  uint32_t word[4];
  philox_words(key, sample, position, word);
  return word[0] >> 8;
}

#endif
