/* Collectives over the ranks of a run. A build without MPI and NCCL has one rank, and every collective is
 * then the identity; callers are written for many. */
#ifndef COMPUTE_COMM_H
#define COMPUTE_COMM_H

#include <stdint.h>

typedef struct Comm {
  int rank;
  int size;
} Comm;

Comm comm_single(void);
/* Sums `count` host doubles over all ranks, in rank order, in place. */
void comm_sum(const Comm *comm, double *values, int64_t count);

#endif
