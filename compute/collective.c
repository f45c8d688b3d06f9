#include "compute/collective.h"

/* Whether there is something to be done. Only the CPU backend has ranks. */
static bool is_real(const Compute *compute, Tensor values) {
  if (compute->comm.size == 1 || compute->dry) return false;
  ASSERT(compute_on_host(compute) && tensor_is_contiguous(values));
  return true;
}

static Collective started(CommTicket ticket) {
  return (Collective){ticket.number};
}

Collective collective_all_reduce(Compute *compute, Tensor values) {
  if (!is_real(compute, values)) return (Collective){0};
  ASSERT(values.dtype == DTYPE_F32);
  return started(
      comm_start_all_reduce(&compute->comm, COMM_SUM, DTYPE_F32, values.data, tensor_count(values)));
}

Collective collective_reduce_scatter(Compute *compute, Tensor values, const int64_t *at) {
  if (!is_real(compute, values)) return (Collective){0};
  ASSERT(values.dtype == DTYPE_F32 && at[compute->comm.size] == tensor_count(values));
  return started(comm_start_reduce_scatter(&compute->comm, COMM_SUM, DTYPE_F32, values.data, at));
}

Collective collective_all_gather(Compute *compute, Tensor values, const int64_t *at) {
  if (!is_real(compute, values)) return (Collective){0};
  ASSERT(at[compute->comm.size] == tensor_count(values));
  return started(comm_start_all_gather(&compute->comm, values.data, dtype_size(values.dtype), at));
}

Collective collective_broadcast(Compute *compute, int root, Tensor values) {
  if (!is_real(compute, values)) return (Collective){0};
  return started(comm_start_broadcast(&compute->comm, root, values.data, tensor_bytes(values)));
}

void collective_wait(Compute *compute, Collective collective) {
  comm_wait(&compute->comm, (CommTicket){collective.number});
}
