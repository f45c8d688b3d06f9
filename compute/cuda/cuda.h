/* Names with linkage of the CUDA backend, for C and for the .cu files: cuda_linear is op_linear's function.
 * A missing one is a link error of table.c. */
#ifndef COMPUTE_CUDA_CUDA_H
#define COMPUTE_CUDA_CUDA_H

#include "compute/ops.h"

#define OP(name, parameters, arguments) void cuda_##name parameters;
#include "compute/ops.def"
#undef OP

/* The tile that the linear of rollouts would take on a card, and how many blocks of it lie on a multiprocessor side by side, by an
 * estimate (linear_rows.cu): for tests, and for measurements that are to correct it. */
typedef struct RowsTile {
  int outputs, rows, resident;
} RowsTile;
RowsTile cuda_linear_rows_tile(int capability, int multiprocessors, int64_t rows, int64_t outputs,
                               int64_t inputs);
/* The same of a card with products of warpgroups (linear_rows_wgmma.cu). */
RowsTile cuda_linear_rows_wgmma_tile(int multiprocessors, int64_t rows, int64_t outputs, int64_t inputs);

/* The device functions of the backend table (runtime.cu, offload.cu, graph.cu). */
bool cuda_open(Compute *c, Error *error);
void cuda_close(Compute *c);
bool cuda_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
void cuda_arena_free(Compute *c, Arena *arena);
void cuda_upload(Compute *c, Tensor device, const void *host);
void cuda_download(Compute *c, void *host, Tensor device);
DeviceMemory cuda_memory(const Compute *c);
const char *cuda_describe(const Compute *c);
bool cuda_host_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
void cuda_host_arena_free(Compute *c, Arena *arena);
void cuda_offload(Compute *c, void *host, Tensor device);
void cuda_prefetch(Compute *c, Tensor device, const void *host);
void cuda_offload_wait(Compute *c);
void cuda_offload_finish(Compute *c);
void cuda_record_begin(Compute *c);
ComputeGraph *cuda_record_end(Compute *c);
void cuda_replay(Compute *c, ComputeGraph *graph);
void cuda_graph_free(Compute *c, ComputeGraph *graph);
size_t cuda_graph_bytes(const ComputeGraph *graph);

/* Those of the card that is not there (assumed.cu). */
bool cuda_assumed_open(Compute *c, Error *error);
void cuda_assumed_close(Compute *c);
bool cuda_assumed_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
DeviceMemory cuda_assumed_memory(const Compute *c);

#endif
