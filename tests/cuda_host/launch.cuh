/* Launching kernels on the host: twin of compute/cuda/device/launch.cuh. */
#ifndef TESTS_CUDA_HOST_LAUNCH_CUH
#define TESTS_CUDA_HOST_LAUNCH_CUH

#include "compute/cuda/runtime.cuh"
#include "tests/cuda_host/emulated.h"

#define LAUNCH(c, kernel, ...) device_launch(c, #kernel, kernel, __VA_ARGS__)

/* A kernel and its arguments; every thread gets copies of them. */
template <class... P>
struct HostCall {
  void (*kernel)(P...);
  std::tuple<P...> arguments;

  static void thread(const void *call) {
    const HostCall *self = static_cast<const HostCall *>(call);
    std::apply(self->kernel, self->arguments);
  }
};

template <class T>
static void host_check_value(const char *, int, const T &) {}
template <class T>
static void host_check_value(const char *kernel, int index, T *const &p) {
  host_check_argument(kernel, index, p);
}

/* Launches on any stream, with no compute context. */
template <class... P, class... A>
static void host_launch_on(cudaStream_t stream, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                           size_t shared, A... arguments) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel takes at most 4 KiB of arguments");
  int index = 0;
  (host_check_value(name, index++, static_cast<P>(arguments)), ...);
  HostCall<P...> call = {kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
  host_launch(name, reinterpret_cast<const void *>(kernel), grid, block, shared, stream, [=] {
    host_run_grid(name, reinterpret_cast<const void *>(call.kernel), HostCall<P...>::thread, &call, grid,
                  block, shared);
  });
}

template <class... P, class... A>
static void device_launch(Compute *c, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                          size_t shared, A... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared > 32 * 1024) { /* more than 48 KiB, the __shared__ variables included, has to be asked for */
    device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                 name);
  }
  host_launch_on(c->device->stream, name, kernel, grid, block, shared, arguments...);
  device_launched(c->device, cudaGetLastError(), name);
}

/* A kernel in a file for sm_90a alone. */
template <class... P>
static bool device_has_code(void (*)(P...)) {
  return host_device()->specific;
}

#define SHARED_MEMORY_1024(T, name) SHARED_MEMORY(T, name)
#define SHARED_MEMORY(T, name)      T *name = reinterpret_cast<T *>(host_shared_memory())

#endif
