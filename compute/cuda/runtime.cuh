/* The device as the backend keeps it. */
#ifndef COMPUTE_CUDA_RUNTIME_CUH
#define COMPUTE_CUDA_RUNTIME_CUH

#include <cublasLt.h>
#include <cuda_runtime.h>

extern "C" {
#include "compute/compute.h"
}

enum { STAGING_SLOTS = 4 };

/* Pinned memory that copies pass through, used round and round. */
typedef struct Staging {
  char *slot[STAGING_SLOTS];
  cudaEvent_t done[STAGING_SLOTS]; /* after the copies that last used the slot */
  size_t slot_bytes;
  size_t used; /* of the slot in hand */
  int at;      /* the slot in hand */
} Staging;

struct Device {
  int ordinal;
  int multiprocessors;
  int capability;       /* 10 * major + minor: 80, 86, 89, 90, 120 */
  bool wgmma;           /* products of warpgroups: 9.0, and this program has their code (sm_90a) */
  int shared_per_block; /* most dynamic shared memory of a block, bytes */
  cudaStream_t stream;  /* all operations, in the order of the calls */
  cudaStream_t
      copies; /* large uploads, beside what still computes and beside the reading of the next piece */
  cudaStream_t
      offload; /* copies to and from pinned memory of the caller's; uploads do not queue behind them */
  cudaEvent_t computed;  /* copies wait for it before they touch what operations may still use */
  cudaEvent_t copied;    /* operations wait for it: of uploads, ... */
  cudaEvent_t offloaded; /* ... and of the other copies */
  cublasLtHandle_t blas;
  void *blas_workspace;
  size_t blas_workspace_bytes;
  void *products; /* plans of matrix products by shape (product.cu) */
  Staging small;  /* small copies, on the compute stream */
  Staging large;  /* large ones, in pieces */
  DeviceMemory memory;
  bool recording;
  bool unrecordable;     /* what is being recorded: a library refused, and nobody may replay it */
  char description[128]; /* "cuda (NVIDIA H100 80GB HBM3, sm_90a)" */
};

/* A failed call or kernel leaves the device unusable: says what failed, and ends the process with the exit code
 * of ERROR_DEVICE. What was saved stays; the same command continues from it. */
void device_check(cudaError_t status, const char *what);
/* The same of a kernel's launch, but that a recording which is spoilt is no failure: its end says so. */
void device_launched(struct Device *d, cudaError_t status, const char *what);
NORETURN void device_failed(const char *what, const char *why);

#endif
