#include "compute/collective.h"

#include "compute/collective_table.h"

#include <string.h>

/* Whether there is something to be done. */
static bool is_real(const Compute *compute, Tensor values) {
  if (compute->comm.size == 1 || compute->dry) return false;
  ASSERT(tensor_is_contiguous(values));
  return true;
}

static Collective started(CommTicket ticket) {
  return (Collective){ticket.number};
}

Collective collective_all_reduce(const Compute *compute, Tensor values) {
  if (!is_real(compute, values)) return (Collective){0};
  ASSERT(values.dtype == DTYPE_F32);
  if (!compute_on_host(compute)) return (Collective){collectives_cuda->all_reduce(compute, values)};
  return started(
      comm_start_all_reduce(&compute->comm, COMM_SUM, DTYPE_F32, values.data, tensor_count(values)));
}

Collective collective_reduce_scatter(const Compute *compute, Tensor values, const int64_t *at) {
  if (!is_real(compute, values)) return (Collective){0};
  ASSERT(values.dtype == DTYPE_F32 && at[compute->comm.size] == tensor_count(values));
  if (!compute_on_host(compute)) return (Collective){collectives_cuda->reduce_scatter(compute, values, at)};
  return started(comm_start_reduce_scatter(&compute->comm, COMM_SUM, DTYPE_F32, values.data, at));
}

/* Of one rank. */
static void take_own(const Compute *compute, Tensor own, Tensor values) {
  if (compute->dry || own.data == values.data) return;
  ASSERT(compute_on_host(compute)); /* a single card keeps no slice elsewhere */
  memmove(values.data, own.data, tensor_bytes(own));
}

Collective collective_all_gather(const Compute *compute, Tensor own, Tensor values, const int64_t *at) {
  if (compute->comm.size == 1) take_own(compute, own, values);
  if (!is_real(compute, values)) return (Collective){0};
  const int rank = compute->comm.rank;
  ASSERT(at[compute->comm.size] == tensor_count(values) && tensor_count(own) == at[rank + 1] - at[rank]);
  if (!compute_on_host(compute)) return (Collective){collectives_cuda->all_gather(compute, own, values, at)};
  return started(comm_start_all_gather(&compute->comm, own.data, values.data, dtype_size(values.dtype), at));
}

Collective collective_broadcast(const Compute *compute, int root, Tensor values) {
  if (!is_real(compute, values)) return (Collective){0};
  if (!compute_on_host(compute)) return (Collective){collectives_cuda->broadcast(compute, root, values)};
  return started(comm_start_broadcast(&compute->comm, root, values.data, tensor_bytes(values)));
}

void collective_wait(const Compute *compute, Collective collective) {
  if (collective.number == 0) return;
  if (!compute_on_host(compute)) {
    collectives_cuda->wait(compute, collective.number);
  } else {
    comm_wait(&compute->comm, (CommTicket){collective.number});
  }
}
