#include "compute/compute.h"

#include "compute/ops.h"

#include <omp.h>
#include <string.h>

const char *const op_names[] = {
#define OP(name, parameters, arguments) #name,
#include "compute/ops.def"
#undef OP
    NULL};

/* By feature bits, never by model: virtual machines mask the model number, and new models are unknown to old
 * tables. These are the features of x86-64-v4 and x86-64-v3 that the kernels are compiled for. */
static const Backend *best_cpu_backend(void) {
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  return v4 ? &backend_cpu_v4 : v3 ? &backend_cpu_v3 : NULL;
}

bool compute_open(Compute *compute, DeviceKind kind, int threads, Error *error) {
  *compute = (Compute){.comm = comm_single()};
  if (kind == DEVICE_CUDA) {
    return error_set(error, ERROR_DEVICE,
                     "device.backend is cuda, but this build has no CUDA; use cpu or auto");
  }
  compute->backend = best_cpu_backend();
  if (!compute->backend) {
    return error_set(error, ERROR_DEVICE,
                     "this processor has no AVX2 and FMA, the least that Drover runs on");
  }
  compute->threads = threads > 0 ? threads : omp_get_max_threads();
  arena_init_dry(&compute->scratch, "scratch");
  return true;
}

void compute_close(Compute *compute) {
  arena_free(&compute->scratch);
  *compute = (Compute){0};
}

const char *compute_device_name(const Compute *compute) {
  return compute->backend->name;
}

void compute_dry_begin(Compute *compute) {
  ASSERT(!compute->dry && compute->scratch.used == 0);
  size_t peak = compute->scratch.peak;
  if (!compute->scratch.dry && compute->scratch.capacity > peak) peak = compute->scratch.capacity;
  arena_free(&compute->scratch);
  arena_init_dry(&compute->scratch, "scratch");
  compute->scratch.peak = peak;
  compute->dry = true;
}

bool compute_dry_end(Compute *compute, Error *error) {
  ASSERT(compute->dry && compute->scratch.used == 0);
  size_t peak = compute->scratch.peak;
  compute->dry = false;
  return arena_init(&compute->scratch, "scratch", peak, error);
}

bool compute_arena(Compute *compute, Arena *arena, const char *name, size_t bytes, Error *error) {
  (void)compute; /* device memory is ordinary memory here */
  return arena_init(arena, name, bytes, error);
}

void compute_arena_free(Compute *compute, Arena *arena) {
  (void)compute;
  arena_free(arena);
}

void compute_upload(Compute *compute, Tensor device, const void *host) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) memcpy(device.data, host, tensor_bytes(device));
}

void compute_download(Compute *compute, void *host, Tensor device) {
  ASSERT(tensor_is_contiguous(device));
  if (!compute->dry && tensor_bytes(device)) memcpy(host, device.data, tensor_bytes(device));
}
