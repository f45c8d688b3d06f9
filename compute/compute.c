#include "compute/compute.h"

#include "base/memory.h"
#include "compute/collective.h"
#include "compute/collective_table.h"
#include "compute/ops.h"
#include "compute/processor.h"

#include <omp.h>

const char *const op_names[] = {
#define OP(name, parameters, arguments) #name,
#include "compute/ops.def"
#undef OP
    NULL};

/* What was the matter first with some rank becomes the reason on all; whether nothing was. */
static bool all_are(const Comm *comm, bool ok, Error *reason) {
  if (comm->size == 1) return ok;
  Error *all = memory_zeroed((size_t)comm->size, sizeof *all);
  if (!all) return error_out_of_memory(reason, "the errors of ranks", (size_t)comm->size * sizeof *all);
  if (ok) *reason = (Error){0};
  comm_all_gather(comm, reason, all, sizeof *all);
  int first = 0;
  while (first < comm->size && all[first].code == ERROR_NONE) first++;
  if (first < comm->size && first != comm->rank) {
    *reason = (Error){0};
    error_set(reason, all[first].code, "%s (rank %d)", all[first].message, first);
  }
  memory_free(all);
  return first == comm->size;
}

/* The card, and with many ranks what is between their cards: all ranks have it, or none. */
static bool open_card(Compute *compute, Error *reason) {
  const Comm *comm = &compute->comm;
  const bool opened = backend_cuda->open(compute, reason);
  bool all = all_are(comm, opened, reason);
  if (all && comm->size > 1) all = all_are(comm, collectives_cuda->open(compute, reason), reason);
  if (opened && !all) backend_cuda->close(compute);
  return all;
}

/* CUDA where it was asked for, or found; the reason why not comes back in `error` only when it was asked for. */
static bool open_cuda(Compute *compute, DeviceKind kind, Error *error) {
  if (kind == DEVICE_CPU) return false;
  if (!backend_cuda) {
    if (kind == DEVICE_AUTO) return false;
    return error_set(
        error, ERROR_DEVICE,
        "device.backend is cuda, but this build has no CUDA (the preset cuda has); use cpu or auto");
  }
  Error reason = {0};
  compute->backend = backend_cuda;
  if (open_card(compute, &reason)) return true;
  compute->backend = NULL;
  if (kind == DEVICE_CUDA) {
    *error = reason;
  } else {
    compute->refusal = reason;
  }
  return false;
}

int compute_all_threads(void) {
  return omp_get_max_threads();
}

void compute_limit_threads(int threads) {
  omp_set_num_threads(threads);
}

bool compute_open(Compute *compute, DeviceKind kind, int threads, Error *error) {
  const Comm alone = comm_single();
  return compute_open_rank(compute, kind, threads, &alone, error);
}

bool compute_open_rank(Compute *compute, DeviceKind kind, int threads, const Comm *comm, Error *error) {
  *compute = (Compute){.comm = *comm};
  if (!open_cuda(compute, kind, error)) {
    if (kind == DEVICE_CUDA) return false;
    compute->backend = processor_backend(error);
    if (!compute->backend) return false;
  }
  compute->threads = threads > 0 ? threads : compute_all_threads();
  arena_init_dry(&compute->scratch, "scratch");
  return true;
}

bool compute_assume_card(Compute *compute, size_t memory, int threads, Error *error) {
  *compute = (Compute){.comm = comm_single(),
                       .memory_limit = memory,
                       .threads = threads > 0 ? threads : compute_all_threads()};
  if (!backend_cuda_assumed) {
    return error_set(
        error, ERROR_DEVICE,
        "device.backend is cuda, but this build has no CUDA (the preset cuda has, and plans for a card "
        "where there is none); use cpu or auto");
  }
  if (!backend_cuda_assumed->open(compute, error)) return false;
  compute->backend = backend_cuda_assumed;
  arena_init_dry(&compute->scratch, "scratch");
  return true;
}

bool compute_is_assumed(const Compute *compute) {
  return compute->backend == backend_cuda_assumed;
}

void compute_close(Compute *compute) {
  if (!compute->backend) return;
  if (compute->host) compute_close(compute->host);
  memory_free(compute->host);
  compute_arena_free(compute, &compute->scratch);
  compute->backend->close(compute);
  *compute = (Compute){0};
}

const char *compute_device_name(const Compute *compute) {
  return compute->backend->describe ? compute->backend->describe(compute) : compute->backend->name;
}

DType compute_activation(const Compute *compute, DType weights) {
  return compute->backend->narrow_activations ? weights : DTYPE_F32;
}

int64_t compute_table_rows(const Compute *compute, int64_t rows) {
  const int64_t unit = compute->backend->table_unit;
  return (rows + unit - 1) / unit * unit;
}

DeviceMemory compute_device_memory(const Compute *compute) {
  return compute->backend->memory(compute);
}

void compute_dry_begin(Compute *compute) {
  ASSERT(!compute->dry && compute->scratch.used == 0);
  size_t peak = compute->scratch.peak;
  if (!compute->scratch.dry && compute->scratch.capacity > peak) peak = compute->scratch.capacity;
  compute_arena_free(compute, &compute->scratch);
  arena_init_dry(&compute->scratch, "scratch");
  compute->scratch.peak = peak;
  compute->dry = true;
  if (compute->host) compute_dry_begin(compute->host);
}

bool compute_dry_end(Compute *compute, Error *error) {
  ASSERT(compute->dry && compute->scratch.used == 0);
  size_t peak = compute->scratch.peak;
  compute->dry = false;
  if (compute->host && !compute_dry_end(compute->host, error)) return false;
  return compute_arena(compute, &compute->scratch, "scratch", peak, error);
}

bool compute_arena(Compute *compute, Arena *arena, const char *name, size_t bytes, Error *error) {
  return compute->backend->arena(compute, arena, name, bytes, error);
}

void compute_arena_free(Compute *compute, Arena *arena) {
  if (arena->dry || !arena->base) {
    arena_free(arena); /* it has no memory of the device */
  } else {
    compute->backend->arena_free(compute, arena);
  }
}

void compute_upload(Compute *compute, Tensor device, const void *host) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) compute->backend->upload(compute, device, host);
}

void compute_download(Compute *compute, void *host, Tensor device) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) compute->backend->download(compute, host, device);
}

bool compute_can_offload(const Compute *compute) {
  return compute->backend->host_arena != NULL;
}

bool compute_host_arena(Compute *compute, Arena *arena, const char *name, size_t bytes, Error *error) {
  return compute->backend->host_arena(compute, arena, name, bytes, error);
}

void compute_host_arena_free(Compute *compute, Arena *arena) {
  if (arena->dry || !arena->base) {
    arena_free(arena);
  } else {
    compute->backend->host_arena_free(compute, arena);
  }
}

void compute_offload(Compute *compute, void *host, Tensor device) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) compute->backend->offload(compute, host, device);
}

void compute_prefetch(Compute *compute, Tensor device, const void *host) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) compute->backend->prefetch(compute, device, host);
}

void compute_offload_wait(Compute *compute) {
  if (!compute->dry) compute->backend->offload_wait(compute);
}

void compute_offload_finish(Compute *compute) {
  if (!compute->dry) compute->backend->offload_finish(compute);
}

bool compute_open_host(Compute *compute, Error *error) {
  if (compute->host) return true;
  Compute *host = memory_zeroed(1, sizeof *host);
  if (!host) return error_out_of_memory(error, "the processor's operations", sizeof *host);
  if (!compute_open(host, DEVICE_CPU, compute->threads, error)) {
    memory_free(host);
    return false;
  }
  host->dry = compute->dry;
  compute->host = host;
  return true;
}

bool compute_on_host(const Compute *compute) {
  return compute->backend->host_memory;
}

bool compute_can_record(const Compute *compute) {
  return compute->backend->record_begin != NULL;
}

void compute_record_begin(Compute *compute) {
  compute->backend->record_begin(compute);
}

ComputeGraph *compute_record_end(Compute *compute) {
  return compute->backend->record_end(compute);
}

void compute_replay(Compute *compute, ComputeGraph *graph) {
  compute->backend->replay(compute, graph);
}

void compute_graph_free(Compute *compute, ComputeGraph *graph) {
  if (graph) compute->backend->graph_free(compute, graph);
}

size_t compute_graph_bytes(const Compute *compute, const ComputeGraph *graph) {
  return compute->backend->graph_bytes(graph);
}
