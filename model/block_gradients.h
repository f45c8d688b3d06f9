/* Gradients of a model's blocks, summed in host memory: fp32 sums of all weights are twice a bf16 model, and a card that has
 * room for the one has none for the other.
 *
 * The device holds the sums of two blocks, those of block l in slot l % 2. In the backward the sums of a block come from the
 * host while the block after it computes, the block adds to them as if they had always been there, and they go back while
 * the block before it computes. So the bits are those of sums that stay on the device. */
#ifndef MODEL_BLOCK_GRADIENTS_H
#define MODEL_BLOCK_GRADIENTS_H

#include "compute/compute.h"

typedef struct BlockGradients {
  int64_t layers;
  size_t bytes;  /* of one block; of the largest, where they differ */
  char *slot[2]; /* on the device */
  char *host;    /* [layers] times bytes, pinned */
} BlockGradients;

/* Sums of zero in the host arena, which is compute_host_arena's; slots in the device's. */
void block_gradients_init(BlockGradients *gradients, int64_t layers, size_t bytes, Arena *device,
                          Arena *host);
/* The memory of block `layer` on the device and on the host, to take its tensors from in the same order. */
Arena block_gradients_slot(const BlockGradients *gradients, int64_t layer);
Arena block_gradients_sums(const BlockGradients *gradients, int64_t layer);

/* In a backward: before the first block of all; before each block (`layer` goes down), when the copies of the one after it have
 * been waited for (compute_offload_wait); and after the last one. The sums on the host are whole after compute_offload_finish. */
void block_gradients_begin(const BlockGradients *gradients, Compute *compute);
void block_gradients_next(const BlockGradients *gradients, Compute *compute, int64_t layer);
void block_gradients_end(const BlockGradients *gradients, Compute *compute);

#endif
