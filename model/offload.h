/* The inputs of a model's blocks in host memory, for a pass that runs its blocks again in the backward.
 *
 * The device holds two of them, block l's in slot l % 2: the one at work and its neighbour, which is on its way. In the
 * forward a block's input goes to the host while the block computes; in the backward that of the block before comes back
 * meanwhile. The last block's input stays, since the backward begins with it. */
#ifndef MODEL_OFFLOAD_H
#define MODEL_OFFLOAD_H

#include "compute/compute.h"

typedef struct Offload {
  Arena *
      host; /* compute_host_arena, borrowed: all of it is of one pass at a time; NULL = nothing is offloaded */
  char *kept;     /* in it: inputs of the blocks but the last, in order */
  Tensor slot[2]; /* [T,C] */
} Offload;

/* first [T,C]: the input of block 0, whose memory becomes a slot; the other comes from the step arena. */
void offload_begin(Offload *offload, Tensor first, int64_t layers, Arena *step);
/* Before block `layer` runs in the forward: its input, once it is there, starts on its way. Returns where its output may be
 * written: room whose former content has arrived. */
Tensor offload_out(Offload *offload, Compute *compute, int64_t layer, int64_t layers);
/* Before block `layer` runs in the backward, after that of layer+1 and when copies have been waited for (compute_offload_wait): its
 * input; that of the block before starts on its way into the room of the one after. */
Tensor offload_in(Offload *offload, Compute *compute, int64_t layer);

#endif
