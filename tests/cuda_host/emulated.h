/* What the parts of the emulated runtime tell one another. */
#ifndef TESTS_CUDA_HOST_EMULATED_H
#define TESTS_CUDA_HOST_EMULATED_H

#include "tests/cuda_host/runtime_api.h"

typedef struct HostDevice {
  int capability;
  bool specific; /* there is code of the capability's own instructions: sm_90a */
  size_t memory;
  int multiprocessors, devices, driver;
  size_t taken;  /* of the memory, by others */
  size_t pinned; /* most pinned memory of the host */
  size_t node;   /* memory that a node of a graph takes */
} HostDevice;

const HostDevice *host_device(void);
cudaError_t host_usable(int device);
size_t host_shared_optin(void); /* most shared memory of a block, bytes */

/* Keeps an error for cudaGetLastError; returns it. */
cudaError_t host_error(cudaError_t status);

/* Takes memory of the device that nobody addresses; false when there is not as much. */
bool host_take(size_t bytes);
void host_give_back(size_t bytes);

bool host_is_device(const void *p, size_t bytes);
bool host_is_pinned(const void *p, size_t bytes);

/* Around work on the device: without it, guarded memory cannot be touched. */
void host_device_work(bool begins);

/* Most dynamic shared memory of a kernel that has `fixed` bytes in variables. */
size_t host_shared_limit(const void *kernel, size_t fixed);

/* Kernels are launched on the stream. */
void host_stream_computes(cudaStream_t stream);

/* Work that waits for what is not on this device (nccl.h): it is called again until it returns true, by whoever waits for the stream; who
 * only asks how far that is calls it once. */
void host_submit_until(cudaStream_t stream, std::function<bool()> work);

/* Does all work that any stream still has. */
void host_drain_all(void);

#endif
