/* Weights of block dtypes (compute/nf4.h in layout TILES, compute/q8.h) on the card. */
#ifndef COMPUTE_CUDA_BLOCKS_CUH
#define COMPUTE_CUDA_BLOCKS_CUH

#include "compute/cuda/kernel.cuh"

#include "compute/nf4.h"

/* The weight itself; or, of a block dtype, the BF16 matrix of its values, in scratch that the caller has opened. */
Weight cuda_plain_weight(Compute *c, Weight w);

/* A matrix of NF4 or NF4_PLAIN for kernels. */
typedef struct Nf4Matrix {
  const uint8_t *codes, *scales;
  const float *wide; /* scales of NF4_PLAIN; NULL: NF4 */
  const float *group, *map, *mean;
  float table[NF4_CODES];
  int64_t tiles;
  int blocks; /* of a row */
} Nf4Matrix;

Nf4Matrix nf4_matrix(Tensor w);

/* The value of an 8-bit code. */
__device__ __forceinline__ float q8_value(int8_t code, float scale) {
  return to_float(from_float<bf16>(__fmul_rn((float)code, scale)));
}

#endif
