/* A trainee over the ranks of a run: sums of its gradients, and what each rank keeps of it (ZeRO, Rajbhandari et al. 2020).
 *
 *   level       whole on every rank               one slice on each
 *   none        weights, gradients, state
 *   optimizer   weights, gradients                state: moments and fp32 masters
 *   gradients   weights                           gradients of blocks, state
 *   weights                                       weights and gradients of blocks, state
 *
 * What is in no block is needed from one end of a pass to the other, and is whole on every rank but for its state; and so are an
 * adapter's own weights and gradients, for they are small. With `weights` the base under an adapter is sliced too.
 *
 * Parameters of one block that lie together in memory are a unit, which is cut into slices (compute/slices.h) and travels as one.
 *
 *   shard_open(&shard, ...)                       when the parameters have their memory
 *   pass.watch = shard_watch(&shard, last)        before each backward pass
 *   shard_finish_sums(&shard)                     before the gradients are used
 *   ... the optimiser updates shard_updated(&shard, list) ...
 *   shard_share_values(&shard)                    after a step, or when a checkpoint was read
 *
 * Gradients that are whole are summed in the last backward pass of an update, each block's while the blocks before it are still
 * computed: x[r] being what rank r has added up over its passes, (x[0] + x[1]) + ..., as if they waited. Gradients in slots are
 * summed in every pass likewise, and what comes of it is added up over the passes: with one pass in an update the same bits,
 * with more another order. Then all ranks make as many passes, idle ones where they have no tokens.
 *
 * All ranks do the same in the same order. With one rank there are no units, and nothing happens. */
#ifndef TRAIN_SHARD_H
#define TRAIN_SHARD_H

#include "compute/collective.h"
#include "compute/parameter.h"
#include "model/pass.h"

typedef enum ShardLevel { SHARD_NONE, SHARD_OPTIMIZER, SHARD_GRADIENTS, SHARD_WEIGHTS } ShardLevel;

typedef struct ShardUnit {
  int layer;
  Tensor gradients; /* F32, flat; whole, or in a slot, and then ... */
  Tensor sum;       /* ... this rank's slice of it, over all passes; else none */
  Tensor values;    /* the bytes of the exact ones, or what they are rounded to; none: sliced */
  int64_t *gradients_at, *values_at; /* [ranks + 1]: where slices begin */
  bool started;                      /* its gradients are on their way, or there */
  Collective arrival;
} ShardUnit;

typedef struct Shard {
  ShardLevel level;
  Compute *compute;
  const ParameterList *all; /* borrowed */
  ParameterList own;        /* the parts of them in this rank's slices */
  ShardUnit *units;
  size_t unit_count;
  int64_t *places;       /* [unit_count][2][ranks + 1] */
  BlockWeights *weights; /* borrowed; NULL: values are whole */
  bool slots;            /* gradients of blocks lie in two slots */
  bool last;             /* of the pass that is watched */
  PassWatch watch;
} Shard;

/* The parameters are borrowed and must stay where they are. slots, weights: of a model whose gradients lie in slots
 * (model_make_trainable_in_slots), and whose weights are sliced; its sums come from the arena. */
NODISCARD bool shard_open(Shard *shard, ShardLevel level, const ParameterList *parameters, bool slots,
                          BlockWeights *weights, Compute *compute, Arena *arena, Error *error);
void shard_close(Shard *shard); /* also of a zeroed one */

/* What this rank's optimiser updates, and the parts whose gradients it counts in their norm, each on one rank; all parameters where
 * there is one rank. */
const ParameterList *shard_updated(const Shard *shard);
const ParameterList *shard_counted(const Shard *shard);

/* For pass_backward; NULL where there is nothing to be done beside it. `last`: of the update on this rank. */
const PassWatch *shard_watch(Shard *shard, bool last);
/* Makes the gradients that this rank uses sums over all ranks: of those that no watch has started too. */
void shard_finish_sums(Shard *shard);
/* The others' values come here. */
void shard_share_values(Shard *shard);
/* After the optimiser has zeroed what it uses: the rest of the gradients; nothing is on its way then. */
void shard_zero_gradients(Shard *shard);

#endif
