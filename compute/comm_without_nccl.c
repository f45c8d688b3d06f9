#include "compute/comm_nccl.h"

bool comm_nccl_open(CommNccl **nccl, const Comm *comm, Error *error) {
  *nccl = NULL;
  return error_set(error, ERROR_USAGE,
                   "%d ranks on cards need NCCL, which this build has not: install it (nccl.h and libnccl), "
                   "then configure and build again",
                   comm->size);
}

/* The rest is for one that is open, of which there is none. */
void comm_nccl_close(CommNccl *nccl) {
  ASSERT(!nccl);
}

void comm_nccl_exchange(CommNccl *nccl, const CommPart *parts, struct CUstream_st *stream, const char *what) {
  (void)parts, (void)stream, (void)what;
  ASSERT(nccl);
}

void comm_nccl_all_gather(CommNccl *nccl, const void *own, void *values, size_t size, const int64_t *at,
                          struct CUstream_st *stream) {
  (void)own, (void)values, (void)size, (void)at, (void)stream;
  ASSERT(nccl);
}

void comm_nccl_broadcast(CommNccl *nccl, int root, void *values, size_t bytes, struct CUstream_st *stream) {
  (void)root, (void)values, (void)bytes, (void)stream;
  ASSERT(nccl);
}

const char *comm_nccl_failure(CommNccl *nccl) {
  ASSERT(nccl);
  return NULL;
}
