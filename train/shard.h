/* A trainee over the ranks of a run: sums of its gradients, and what each rank keeps of it (ZeRO, Rajbhandari et al. 2020).
 *
 *   level       whole on every rank               one slice on each
 *   none        weights, gradients, state
 *   optimizer   weights, gradients                state: moments and fp32 masters
 *
 * Parameters of one block that lie together in memory are a unit, which is cut into slices (compute/slices.h) and travels as one. Its
 * gradients are on their way while the blocks before it are still computed, in the last backward pass of an update: the same sums as
 * if they waited.
 *
 *   shard_open(&shard, ...)                       when the parameters have their memory
 *   pass.watch = shard_watch(&shard, last)        before each backward pass
 *   shard_finish_sums(&shard)                     before the gradients are used
 *   ... the optimiser updates shard_updated(&shard, list) ...
 *   shard_share_values(&shard)                    after a step, or when a checkpoint was read
 *
 * All ranks do the same in the same order. With one rank there are no units, and nothing happens. */
#ifndef TRAIN_SHARD_H
#define TRAIN_SHARD_H

#include "compute/collective.h"
#include "compute/parameter.h"
#include "model/pass.h"

typedef enum ShardLevel { SHARD_NONE, SHARD_OPTIMIZER } ShardLevel;

typedef struct ShardUnit {
  int layer;
  Tensor gradients, values; /* flat: F32; bytes of the exact values, or of what they are rounded to */
  int64_t *gradients_at, *values_at; /* [ranks + 1]: where slices begin */
  bool started;                      /* its gradients are on their way, or there */
  Collective sum;
} ShardUnit;

typedef struct Shard {
  ShardLevel level;
  Compute *compute;
  const ParameterList *all; /* borrowed */
  ParameterList own;        /* the parts of them in this rank's slices */
  ShardUnit *units;
  size_t unit_count;
  int64_t *places; /* [unit_count][2][ranks + 1] */
  PassWatch watch;
} Shard;

/* The parameters are borrowed and must stay where they are. */
NODISCARD bool shard_open(Shard *shard, ShardLevel level, const ParameterList *parameters, Compute *compute,
                          Error *error);
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
