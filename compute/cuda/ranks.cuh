/* What a card keeps for collectives with the cards of other ranks. */
#ifndef COMPUTE_CUDA_RANKS_CUH
#define COMPUTE_CUDA_RANKS_CUH

#include "compute/cuda/kernel.cuh"

#include <pthread.h>

extern "C" {
#include "compute/comm_nccl.h"
}

enum { RANKS_JOBS = 256 /* most that are on their way */, RANKS_WORKSPACE = 32 << 20 /* bytes */ };

/* A collective that was started. */
typedef struct RanksJob {
  const char *what;
  cudaEvent_t begun, done;
} RanksJob;

/* c->comm.world->cards. */
typedef struct CommCards {
  Comm comm;
  int ordinal; /* of the card */
  CommNccl *nccl;
  cudaStream_t stream;
  Compute beside; /* the card with this stream in the place of its own, for LAUNCH */
  Device device;
  void *workspace; /* what other ranks have sent to be summed: a row each */
  CommPart *parts; /* [size]; with the next three what one exchange is made of */
  float **send;
  int64_t *sent;
  int64_t *even; /* [size + 1]: slices of values that have none of their own */
  /* Job k is jobs[k % RANKS_JOBS], from 1 on; up to `seen` they are done, as the thread has seen. */
  RanksJob jobs[RANKS_JOBS];
  int64_t started, seen;
  bool watched, closing;
  pthread_t thread;
  pthread_mutex_t lock; /* of started, seen and closing */
  pthread_cond_t changed;
} CommCards;

/* Of the ranks of a host those below this one. */
int cuda_ranks_below(const Comm *comm);
void cuda_ranks_close(Compute *c); /* also where there is one rank */

/* As compute/collective_table.h. */
int64_t cuda_all_reduce(const Compute *c, Tensor values);
int64_t cuda_reduce_scatter(const Compute *c, Tensor values, const int64_t *at);
int64_t cuda_all_gather(const Compute *c, Tensor own, Tensor values, const int64_t *at);
int64_t cuda_broadcast(const Compute *c, int root, Tensor values);
void cuda_collective_wait(const Compute *c, int64_t number);

#endif
