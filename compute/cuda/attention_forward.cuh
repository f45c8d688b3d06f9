/* What the kernels of attention.cu and attention_wgmma.cu are called with. */
#ifndef COMPUTE_CUDA_ATTENTION_FORWARD_CUH
#define COMPUTE_CUDA_ATTENTION_FORWARD_CUH

#include "compute/cuda/attention.cuh"

struct ForwardArguments {
  HeadView<const bf16> q, k, v;
  HeadView<bf16> out;
  float *lse; /* or null */
  int64_t lse_row;
  Packing packing;
  ScoreSpec score;
  float
      inverse_cap; /* of the scores; made here, it would be a register more in a kernel that has none left */
  int group, size;
};

/* The kernels of attention_wgmma.cu, on a card of which Device.wgmma is true. False, and nothing was launched, where they have no tile
 * for it: heads of 65 to 96, and q, k or v that cannot be read 16 bytes at a time. `rows`: of the batch. */
bool attention_wgmma(Compute *c, const ForwardArguments &a, int64_t rows);

#endif
