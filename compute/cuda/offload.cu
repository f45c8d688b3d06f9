/* Pinned memory of the host, and copies to and from it on a stream of their own. compute.h has the contract. */
#include "compute/cuda/kernel.cuh"

bool cuda_host_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error) {
  ASSERT(!c->device->recording);
  arena_init_over(arena, name, NULL, 0);
  if (bytes == 0) return true;
  void *base = NULL;
  const cudaError_t status = cudaHostAlloc(&base, bytes, cudaHostAllocDefault);
  if (status != cudaSuccess) {
    cudaGetLastError(); /* it has been told */
    return error_set(
        error, ERROR_MEMORY,
        "out of memory: %s wants %.2f GiB (%zu bytes) of the host's memory, pinned, and the driver "
        "could not take it: %s",
        name, (double)bytes / (double)(1 << 30), bytes, cudaGetErrorString(status));
  }
  arena_init_over(arena, name, base, bytes);
  return true;
}

void cuda_host_arena_free(Compute *c, Arena *arena) {
  device_check(cudaStreamSynchronize(c->device->offload), "waiting for copies");
  device_check(cudaFreeHost(arena->base), "cudaFreeHost");
  arena_init_over(arena, NULL, NULL, 0);
}

static void copy(Device *d, void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  ASSERT(!d->recording);
  device_check(cudaEventRecord(d->computed, d->stream), "cudaEventRecord");
  device_check(cudaStreamWaitEvent(d->offload, d->computed, 0), "cudaStreamWaitEvent");
  device_check(cudaMemcpyAsync(to, from, bytes, kind, d->offload), "copy beside the operations");
}

void cuda_offload(Compute *c, void *host, Tensor device) {
  copy(c->device, host, device.data, tensor_bytes(device), cudaMemcpyDeviceToHost);
}

void cuda_prefetch(Compute *c, Tensor device, const void *host) {
  copy(c->device, device.data, host, tensor_bytes(device), cudaMemcpyHostToDevice);
}

void cuda_offload_wait(Compute *c) {
  Device *d = c->device;
  ASSERT(!d->recording);
  device_check(cudaEventRecord(d->offloaded, d->offload), "cudaEventRecord");
  device_check(cudaStreamWaitEvent(d->stream, d->offloaded, 0), "cudaStreamWaitEvent");
}

void cuda_offload_finish(Compute *c) {
  ASSERT(!c->device->recording);
  device_check(cudaStreamSynchronize(c->device->offload), "waiting for copies");
}
