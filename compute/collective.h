/* Collectives of tensors over the ranks of a run, beside the operations.
 *
 * collective_... starts one when the operations called before are done; the operations called after collective_wait begin
 * when it is done. In between nobody may use the tensors, and `at` must stay. They are carried out in the order of calls,
 * which is the same on all ranks. With one rank, and in a dry run, there is nothing to do.
 *
 * Sums are those of compute/comm.h: each element in the order of ranks, ((x0 + x1) + x2) + ..., the same bits on every rank.
 * On the CPU they are made by a thread of comm.h's; the host waits in collective_wait. A card's run on a stream of their own
 * (compute/cuda/collective.cu), and only the card waits.
 *
 * at[size+1] says where slices of a flat tensor begin: that of rank r is elements at[r] to at[r+1]-1; at[0] is 0 and at[size]
 * all of it. Slices need not be equal, and may be empty. */
#ifndef COMPUTE_COLLECTIVE_H
#define COMPUTE_COLLECTIVE_H

#include "compute/compute.h"

/* compute_open on every rank of comm, for tensors that take part in collectives: all call it, and have the same backend then. On CUDA the
 * k-th rank of a host takes the k-th of the cards that it sees; ERROR_USAGE for two ranks with one card, and in a build that has no
 * NCCL. */
NODISCARD bool compute_open_rank(Compute *compute, DeviceKind kind, int threads, const Comm *comm,
                                 Error *error);

typedef struct Collective {
  int64_t number; /* 0: none, and waiting for it does nothing */
} Collective;

/* values becomes the sum over all ranks; F32. */
Collective collective_all_reduce(const Compute *compute, Tensor values);
/* This rank's slice of values becomes the sum over all ranks; the others have no meaning then. F32. */
Collective collective_reduce_scatter(const Compute *compute, Tensor values, const int64_t *at);
/* Every slice of values becomes that of its rank: this one's is `own`, flat, which may lie there. */
Collective collective_all_gather(const Compute *compute, Tensor own, Tensor values, const int64_t *at);
Collective collective_broadcast(const Compute *compute, int root, Tensor values);
/* For this one and those that were started before it. */
void collective_wait(const Compute *compute, Collective collective);

#endif
