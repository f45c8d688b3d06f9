/* Collectives of tensors over the ranks of a run, beside the operations.
 *
 * collective_... starts one when the operations called before are done; the operations called after collective_wait begin when it is
 * done. In between nobody may use the tensor, and `at` must stay. They are carried out in the order of calls, which is the same on
 * all ranks. All is in place. With one rank, and in a dry run, there is nothing to do.
 *
 * Sums are those of compute/comm.h: each element in the order of ranks, ((x0 + x1) + x2) + ..., the same bits on every rank. On
 * the CPU they are made by a thread of comm.h's; the host waits in collective_wait. A card's run on a stream of their own
 * (compute/cuda/collective.cu), and only the card waits. */
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

/* The sum over all ranks; F32. */
Collective collective_all_reduce(const Compute *compute, Tensor values);
/* Where slices begin: that of rank r is elements at[r] to at[r+1]-1 of the flat tensor, at[0] = 0 and at[size] all of it. They need
 * not be equal, and may be empty. */
/* This rank's slice becomes the sum over all ranks; the others have no meaning then. F32. */
Collective collective_reduce_scatter(const Compute *compute, Tensor values, const int64_t *at);
/* Every slice becomes that of its rank. */
Collective collective_all_gather(const Compute *compute, Tensor values, const int64_t *at);
Collective collective_broadcast(const Compute *compute, int root, Tensor values);
/* For this one and those that were started before it. */
void collective_wait(const Compute *compute, Collective collective);

#endif
