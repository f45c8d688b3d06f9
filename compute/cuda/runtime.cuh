/* The device as the backend keeps it. */
#ifndef COMPUTE_CUDA_RUNTIME_CUH
#define COMPUTE_CUDA_RUNTIME_CUH

#include <cublasLt.h>
#include <cuda_runtime.h>

extern "C" {
#include "compute/compute.h"
}

enum { STAGING_SLOTS = 4 };

typedef struct Staging { /* pinned memory that copies pass through */
  char *slot[STAGING_SLOTS];
  cudaEvent_t done[STAGING_SLOTS]; /* the copy that last used the slot */
  int next;
} Staging;

struct Device {
  int ordinal;
  int multiprocessors;
  int capability;      /* 10 * major + minor: 80, 86, 89, 90, 120 */
  int shared_per_block; /* most dynamic shared memory of a block, bytes */
  cudaStream_t stream; /* all operations, in the order of the calls */
  cublasLtHandle_t blas;
  void *blas_workspace;
  size_t blas_workspace_bytes;
  void *products; /* plans of matrix products by shape (product.cu) */
  Staging staging;
  DeviceMemory memory;
  bool recording;
};

/* A failed call or kernel leaves the device unusable: says what failed, and ends the process with the exit code
 * of ERROR_DEVICE. What was saved stays; the same command continues from it. */
void device_check(cudaError_t status, const char *what);
NORETURN void device_failed(const char *what, const char *why);

#endif
