/* Calls of NCCL do not block (ncclConfig_t.blocking = 0): what is not begun yet is asked for until the timeout, and nothing waits in
 * the library for a rank that does not come. compute/comm_nccl.h has the contract. */
#include <nccl.h>

#include <ctime>
#include <pthread.h>

extern "C" {
#include "base/log.h"
#include "base/memory.h"
#include "compute/comm_nccl.h"
}

struct CommNccl {
  const Comm *comm;
  ncclComm_t handle;
  pthread_mutex_t lock; /* of the handle: asking how things are ends what was begun */
};

/* -- failures ------------------------------------------------------------------------------------------- */

/* Asks until what was called is begun, or has failed, or the timeout is over (ncclInProgress then). */
static ncclResult_t settled(const CommNccl *nccl, ncclResult_t status) {
  const double deadline = time_monotonic() + nccl->comm->world->timeout;
  const timespec pause = {0, 200000};
  while (status == ncclInProgress && time_monotonic() < deadline) {
    nanosleep(&pause, NULL);
    const ncclResult_t asked = ncclCommGetAsyncError(nccl->handle, &status);
    if (asked != ncclSuccess) return asked;
  }
  return status;
}

static bool say_failed(const CommNccl *nccl, ncclResult_t status, const char *what, Error *error) {
  if (status == ncclInProgress) {
    return error_set(error, ERROR_DEVICE,
                     "NCCL: %s was not begun within %.0f s: another rank is dead, hangs or went another way; "
                     "all ranks end here",
                     what, nccl->comm->world->timeout);
  }
  const char *more = nccl->handle ? ncclGetLastError(nccl->handle) : NULL;
  return error_set(error, ERROR_DEVICE, "NCCL: %s failed: %s%s%.300s; NCCL_DEBUG=WARN tells more", what,
                   ncclGetErrorString(status), more && *more ? ": " : "", more ? more : "");
}

static void check(const CommNccl *nccl, ncclResult_t status, const char *what) {
  status = settled(nccl, status);
  if (status == ncclSuccess) return;
  Error error = {};
  say_failed(nccl, status, what, &error);
  comm_abandon(nccl->comm, &error);
}

/* Within a group nothing begins before its end. */
static void note(const CommNccl *nccl, ncclResult_t status, const char *what) {
  if (status != ncclInProgress) check(nccl, status, what);
}

const char *comm_nccl_failure(CommNccl *nccl) {
  ncclResult_t status = ncclSuccess;
  if (pthread_mutex_trylock(&nccl->lock) != 0) return NULL; /* who has it asks by himself */
  const ncclResult_t asked = ncclCommGetAsyncError(nccl->handle, &status);
  pthread_mutex_unlock(&nccl->lock);
  if (asked != ncclSuccess) status = asked;
  return status == ncclSuccess || status == ncclInProgress ? NULL : ncclGetErrorString(status);
}

/* -- joining -------------------------------------------------------------------------------------------- */

static bool join(CommNccl *nccl, Error *error) {
  const Comm *comm = nccl->comm;
  struct {
    ncclUniqueId id;
    ncclResult_t status;
  } start = {};
  if (comm->rank == 0) start.status = ncclGetUniqueId(&start.id);
  comm_broadcast(comm, 0, &start, sizeof start);
  if (start.status != ncclSuccess) return say_failed(nccl, start.status, "the start of rank 0", error);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t status =
      settled(nccl, ncclCommInitRankConfig(&nccl->handle, comm->size, start.id, comm->rank, &config));
  return status == ncclSuccess || say_failed(nccl, status, "the meeting of ranks", error);
}

bool comm_nccl_open(CommNccl **nccl, const Comm *comm, Error *error) {
  CommNccl *made = *nccl = (CommNccl *)memory_zeroed(1, sizeof(CommNccl));
  if (!made) return error_out_of_memory(error, "NCCL", sizeof(CommNccl));
  made->comm = comm;
  pthread_mutex_init(&made->lock, NULL);
  if (join(made, error)) return true;
  comm_nccl_close(made);
  *nccl = NULL;
  return false;
}

/* ncclCommDestroy would wait for the others, which a rank that has failed must not. */
void comm_nccl_close(CommNccl *nccl) {
  if (!nccl) return;
  if (nccl->handle) ncclCommAbort(nccl->handle);
  pthread_mutex_destroy(&nccl->lock);
  memory_free(nccl);
}

/* -- moving --------------------------------------------------------------------------------------------- */

void comm_nccl_exchange(CommNccl *nccl, const CommPart *parts, cudaStream_t stream, const char *what) {
  const Comm *comm = nccl->comm;
  pthread_mutex_lock(&nccl->lock);
  note(nccl, ncclGroupStart(), what);
  for (int step = 1; step < comm->size; step++) {
    const int to = (comm->rank + step) % comm->size, from = (comm->rank + comm->size - step) % comm->size;
    const CommPart *out = &parts[to], *in = &parts[from];
    if (out->sent) {
      note(nccl, ncclSend(out->send, out->sent, ncclInt8, to, nccl->handle, stream), what);
      comm->world->sent += (int64_t)out->sent;
    }
    if (in->received) {
      note(nccl, ncclRecv(in->receive, in->received, ncclInt8, from, nccl->handle, stream), what);
    }
  }
  check(nccl, ncclGroupEnd(), what);
  pthread_mutex_unlock(&nccl->lock);
}

void comm_nccl_all_gather(CommNccl *nccl, const void *own, void *values, size_t size, const int64_t *at,
                          cudaStream_t stream) {
  const Comm *comm = nccl->comm;
  char *const all = (char *)values;
  pthread_mutex_lock(&nccl->lock);
  note(nccl, ncclGroupStart(), "all-gather");
  for (int r = 0; r < comm->size; r++) {
    const size_t bytes = (size_t)(at[r + 1] - at[r]) * size;
    char *const slice = all + (size_t)at[r] * size;
    if (bytes == 0) continue;
    note(nccl, ncclBroadcast(r == comm->rank ? own : slice, slice, bytes, ncclInt8, r, nccl->handle, stream),
         "all-gather");
    if (r == comm->rank) comm->world->sent += (int64_t)bytes * (comm->size - 1);
  }
  check(nccl, ncclGroupEnd(), "all-gather");
  pthread_mutex_unlock(&nccl->lock);
}

void comm_nccl_broadcast(CommNccl *nccl, int root, void *values, size_t bytes, cudaStream_t stream) {
  const Comm *comm = nccl->comm;
  if (bytes == 0) return;
  pthread_mutex_lock(&nccl->lock);
  check(nccl, ncclBroadcast(values, values, bytes, ncclInt8, root, nccl->handle, stream), "broadcast");
  pthread_mutex_unlock(&nccl->lock);
  if (comm->rank == root) comm->world->sent += (int64_t)bytes * (comm->size - 1);
}
