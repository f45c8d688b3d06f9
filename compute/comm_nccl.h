/* NCCL as compute/cuda/collective.cu needs it: moves bytes between the cards of ranks, on a stream. It is asked for no sum, so
 * that sums are those of compute/comm.h whatever NCCL's algorithm, its version and the way between the cards.
 *
 * What NCCL or a rank that is waited for does wrong once the ranks have joined is told as comm.h tells it (comm_abandon), and ends
 * all. A CUDA build without NCCL has comm_without_nccl.c, which never opens one. */
#ifndef COMPUTE_COMM_NCCL_H
#define COMPUTE_COMM_NCCL_H

#include "compute/comm_exchange.h"

typedef struct CommNccl CommNccl;
struct CUstream_st; /* cudaStream_t */

/* Joins the ranks of comm, each with its current card; all call it. What NCCL needs comes from rank 0 over comm. Waits for the others as
 * long as comm does. ERROR_DEVICE with NCCL's reason; ERROR_USAGE in a build without NCCL. comm must stay. */
NODISCARD bool comm_nccl_open(CommNccl **nccl, const Comm *comm, Error *error);
/* At once, without the others: they need nothing from here any more, or they are ended too. NULL is allowed. */
void comm_nccl_close(CommNccl *nccl);

/* Both start on the stream and return. To and from each rank r the bytes of parts[r], in device memory; the part of this one is not
 * looked at. */
void comm_nccl_exchange(CommNccl *nccl, const CommPart *parts, struct CUstream_st *stream, const char *what);
/* Every slice of values becomes that of its rank: this one's is `own`, which may lie there. at[size+1] in elements of `size` bytes. */
void comm_nccl_all_gather(CommNccl *nccl, const void *own, void *values, size_t size, const int64_t *at,
                          struct CUstream_st *stream);
void comm_nccl_broadcast(CommNccl *nccl, int root, void *values, size_t bytes, struct CUstream_st *stream);

/* What has gone wrong meanwhile; NULL: nothing that NCCL knows of. Any thread. */
const char *comm_nccl_failure(CommNccl *nccl);

#endif
