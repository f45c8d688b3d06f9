/* The CUDA runtime API, the part that Drover uses, over ordinary memory.
 *
 * DROVER_CUDA_HOST_DEVICE describes the device, as "80" or "capability=86,memory=64M,multiprocessors=4,devices=1,
 * driver=13000,pinned=64M,node=1K": compute capability times ten (the limits on shared memory follow from it; 90a: and the program has code
 * of sm_90a), bytes of memory,
 * multiprocessors, number of devices, version of the driver, the most memory of the host that can be pinned, and what
 * a node of a graph takes of the device's.
 *
 * Work on a stream is done at once, or with DROVER_CUDA_HOST_STREAMS=late only when the host waits for it, or with
 * DROVER_CUDA_HOST_STREAMS=copies_first at once where no kernels are launched and late where they are: the
 * device is at liberty to do either, so a result must not depend on it. Late finds operations that do not wait for a copy,
 * copies_first copies that do not wait for an operation. Memory of the device is filled with
 * poison (grid.h) when it is taken. With DROVER_CUDA_HOST_GUARD=1 the host cannot touch it, but through copies:
 * doing so ends the process. */
#ifndef TESTS_CUDA_HOST_RUNTIME_API_H
#define TESTS_CUDA_HOST_RUNTIME_API_H

#include "tests/cuda_host/grid.h"

#include <functional>
#include <tuple>

#define CUDART_VERSION 13000

typedef enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorNotSupported = 801,
  cudaErrorUnknown = 999
} cudaError_t;

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
enum {
  cudaHostAllocDefault = 0,
  cudaHostAllocPortable = 1,
  cudaHostAllocMapped = 2,
  cudaHostAllocWriteCombined = 4
};
enum {
  cudaDeviceScheduleAuto = 0,
  cudaDeviceScheduleSpin = 1,
  cudaDeviceScheduleYield = 2,
  cudaDeviceScheduleBlockingSync = 4
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

typedef struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor, reservedSharedMemPerBlock;
  int regsPerBlock, regsPerMultiprocessor;
  int warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, maxBlocksPerMultiProcessor;
  int maxThreadsDim[3], maxGridSize[3];
  int major, minor, multiProcessorCount, l2CacheSize, memoryBusWidth, integrated, asyncEngineCount;
  int pciBusID, pciDeviceID, pciDomainID;
} cudaDeviceProp;

typedef struct cudaFuncAttributes {
  size_t sharedSizeBytes, localSizeBytes;
  int maxThreadsPerBlock, numRegs, maxDynamicSharedSizeBytes;
} cudaFuncAttributes;

#define CUDA_HOST extern "C" cudaError_t
CUDA_HOST cudaGetDeviceCount(int *count);
CUDA_HOST cudaGetDevice(int *device);
CUDA_HOST cudaSetDevice(int device);
CUDA_HOST cudaSetDeviceFlags(unsigned int flags);
CUDA_HOST cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
CUDA_HOST cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);
CUDA_HOST cudaDeviceGetPCIBusId(char *address, int size, int device);
CUDA_HOST cudaDriverGetVersion(int *version);
CUDA_HOST cudaRuntimeGetVersion(int *version);
CUDA_HOST cudaMemGetInfo(size_t *free, size_t *total);
CUDA_HOST cudaDeviceSynchronize(void);
CUDA_HOST cudaDeviceReset(void);
CUDA_HOST cudaGetLastError(void);
CUDA_HOST cudaPeekAtLastError(void);
extern "C" const char *cudaGetErrorString(cudaError_t status);
extern "C" const char *cudaGetErrorName(cudaError_t status);

CUDA_HOST cudaHostAlloc(void **p, size_t bytes, unsigned int flags);
CUDA_HOST cudaFree(void *p);
CUDA_HOST cudaFreeHost(void *p);
CUDA_HOST cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind);
CUDA_HOST cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                          cudaStream_t stream = nullptr);
CUDA_HOST cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                            size_t height, enum cudaMemcpyKind kind, cudaStream_t stream = nullptr);
CUDA_HOST cudaMemset(void *p, int value, size_t bytes);
CUDA_HOST cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream = nullptr);

CUDA_HOST cudaStreamCreate(cudaStream_t *stream);
CUDA_HOST cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags);
CUDA_HOST cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority);
CUDA_HOST cudaStreamDestroy(cudaStream_t stream);
CUDA_HOST cudaStreamSynchronize(cudaStream_t stream);
CUDA_HOST cudaStreamQuery(cudaStream_t stream);
CUDA_HOST cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags = 0);

CUDA_HOST cudaEventCreate(cudaEvent_t *event);
CUDA_HOST cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
CUDA_HOST cudaEventDestroy(cudaEvent_t event);
CUDA_HOST cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
CUDA_HOST cudaEventSynchronize(cudaEvent_t event);
CUDA_HOST cudaEventQuery(cudaEvent_t event);
CUDA_HOST cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);

CUDA_HOST cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
CUDA_HOST cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
CUDA_HOST cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status);
CUDA_HOST cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags = 0);
CUDA_HOST cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph,
                                        unsigned long long flags = 0);
CUDA_HOST cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
CUDA_HOST cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
CUDA_HOST cudaGraphDestroy(cudaGraph_t graph);
CUDA_HOST cudaGraphExecDestroy(cudaGraphExec_t executable);

/* Kernels by address. */
CUDA_HOST host_function_set(const void *kernel, enum cudaFuncAttribute attribute, int value);
CUDA_HOST host_function_get(cudaFuncAttributes *attributes, const void *kernel);
CUDA_HOST host_occupancy(int *blocks, const void *kernel, int threads, size_t shared);
#undef CUDA_HOST

/* Work of a library on a stream (cublasLt.h): done now or later, or noted by a capture. */
void host_submit(cudaStream_t stream, std::function<void()> work);

/* Ends the process when a pointer given to a kernel is not memory that a device sees. */
void host_check_argument(const char *kernel, int index, const void *p);

/* A launch: cudaGetLastError says whether the device would have taken it. */
void host_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                 cudaStream_t stream, std::function<void()> work);

/* Launches of kernels so far, and calls of cublasLtMatmul, each of which launches at least one: what a recording notes
 * counts once, when it is noted. For tests, which are C. */
extern "C" uint64_t host_launches(void);
void host_count_launch(void);
/* Tensor-core products that kernels have made so far (mma_bf16 of a warp), once what is on the streams has been waited for. */
extern "C" uint64_t host_products(void);
void host_count_product(void);
/* Calls of cublasLtMatmul in BF16 in which a matrix has rows of a length that is no multiple of 16 bytes: a library has slow kernels for
 * them, or none. */
extern "C" uint64_t host_ragged(void);

/* -- templates of the real header ------------------------------------------------------------------------- */

cudaError_t host_malloc(void **p, size_t bytes);

template <class T>
static inline cudaError_t cudaMalloc(T **p, size_t bytes) {
  return host_malloc(reinterpret_cast<void **>(p), bytes);
}
template <class T>
static inline cudaError_t cudaMallocHost(T **p, size_t bytes, unsigned int flags = 0) {
  return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}
template <class T>
static inline cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attribute, int value) {
  return host_function_set(reinterpret_cast<const void *>(kernel), attribute, value);
}
template <class T>
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, T *kernel) {
  return host_function_get(attributes, reinterpret_cast<const void *>(kernel));
}
template <class T>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T *kernel, int threads,
                                                                        size_t shared) {
  return host_occupancy(blocks, reinterpret_cast<const void *>(kernel), threads, shared);
}

#endif
