/* Launching kernels on a GPU. Its twin for tests without one is tests/cuda_host/launch.cuh. */
#ifndef COMPUTE_CUDA_DEVICE_LAUNCH_CUH
#define COMPUTE_CUDA_DEVICE_LAUNCH_CUH

#include "compute/cuda/runtime.cuh"

/* LAUNCH(c, kernel, grid, block, shared_bytes, arguments...) on the compute stream; a kernel with several
 * template arguments stands in parentheses. An empty grid is not launched. */
#define LAUNCH(c, kernel, ...) device_launch(c, #kernel, kernel, __VA_ARGS__)

template <class... P, class... A>
static void device_launch(Compute *c, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                          size_t shared, A... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared > 32 * 1024) { /* more than 48 KiB, the __shared__ variables included, has to be asked for */
    device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                 name);
  }
  kernel<<<grid, block, shared, c->device->stream>>>(static_cast<P>(arguments)...);
  device_launched(c->device, cudaGetLastError(), name);
}

/* Whether the program has code of the kernel for the card. */
template <class... P>
static bool device_has_code(void (*kernel)(P...)) {
  cudaFuncAttributes attributes;
  const bool has = cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess;
  cudaGetLastError(); /* it has been told */
  return has;
}

/* The dynamic shared memory of the running block, as an array of T; 1024: at a multiple of so many bytes. */
#define SHARED_MEMORY(T, name)                                     \
  extern __shared__ __align__(128) unsigned char shared_memory_[]; \
  T *name = reinterpret_cast<T *>(shared_memory_)
#define SHARED_MEMORY_1024(T, name)                                      \
  extern __shared__ __align__(1024) unsigned char shared_memory_1024_[]; \
  T *name = reinterpret_cast<T *>(shared_memory_1024_)

#endif
