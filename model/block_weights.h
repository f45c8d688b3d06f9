/* The weights of a model's blocks over the ranks of a run: each keeps its slice of every block (compute/slices.h), and has a block
 * whole only while it computes (ZeRO-3, Rajbhandari et al. 2020; FSDP, Zhao et al. 2023).
 *
 * Two blocks are in memory, block l in slot l % 2: the one at work, and the next one, which is gathered from all ranks
 * meanwhile. A block stays in its slot until another one takes it, so that a backward pass finds the last block there still. All ranks
 * use the same blocks in the same order. With frozen weights of any type too; what is in no block is whole on every rank. */
#ifndef MODEL_BLOCK_WEIGHTS_H
#define MODEL_BLOCK_WEIGHTS_H

#include "compute/collective.h"

typedef struct BlockWeights {
  int layers, ranks;
  int held[2]; /* the block that is in the slot, or on its way there; -1: none */
  Collective coming[2];
  Tensor *whole, *own; /* [layers] flat bytes: in the slot, and of this rank */
  int64_t *at;         /* [layers][ranks+1] where slices begin in `whole` */
} BlockWeights;

/* Before memory is known. NULL: there is none. */
NODISCARD BlockWeights *block_weights_new(int64_t layers, const Comm *comm, Error *error);
void block_weights_free(BlockWeights *weights); /* NULL is allowed */
/* The tensors of a block, as they lie in its slot, in the order of memory; this rank's slice gets its memory from the arena. */
NODISCARD bool block_weights_cut(BlockWeights *weights, int layer, const Tensor *tensors, int64_t count,
                                 const Comm *comm, Arena *arena, Error *error);

/* Block `layer` is in its slot for the operations that are called next; `next` starts on its way there, where there is such a block.
 * What was in its slot before has been used for the last time. */
void block_weights_use(BlockWeights *weights, Compute *compute, int layer, int next);
/* Starts a block on its way from all ranks to other memory than its slot: `room`, flat, as large as whole[layer]. */
NODISCARD Collective block_weights_gather(const BlockWeights *weights, const Compute *compute, int layer,
                                          Tensor room);
/* The other way: the slot of `layer` was filled by other means, on all ranks alike, and this rank's slice becomes what is there. */
NODISCARD bool block_weights_keep(BlockWeights *weights, Compute *compute, int layer, Error *error);
/* Rank 0 alone reads blocks, to write files say, while the others are in block_weights_help: each block that it asks for is in its slot
 * after it. -1: it needs no more, and the others go on. */
void block_weights_ask(BlockWeights *weights, Compute *compute, int layer);
void block_weights_help(BlockWeights *weights, Compute *compute);
/* Slices have changed: what is in the slots is none of them any more. */
void block_weights_changed(BlockWeights *weights);

#endif
