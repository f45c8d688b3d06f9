#include "compute/comm.h"

#include "base/error.h"

Comm comm_single(void) {
  return (Comm){.rank = 0, .size = 1};
}

void comm_sum(const Comm *comm, double *values, int64_t count) {
  (void)values;
  (void)count;
  ASSERT(comm->size == 1); /* this build has no way to reach another rank */
}
