/* The emulated device: what it is and the last error. */
#include "tests/cuda_host/cuda_runtime.h"
#include "tests/cuda_host/emulated.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

static thread_local cudaError_t last_error = cudaSuccess;

cudaError_t host_error(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

cudaError_t cudaGetLastError(void) {
  cudaError_t status = last_error;
  last_error = cudaSuccess;
  return status;
}

cudaError_t cudaPeekAtLastError(void) {
  return last_error;
}

#define ERRORS(ROW)                                                                                 \
  ROW(cudaSuccess, "no error")                                                                      \
  ROW(cudaErrorInvalidValue, "invalid argument")                                                    \
  ROW(cudaErrorMemoryAllocation, "out of memory")                                                   \
  ROW(cudaErrorInitializationError, "initialization error")                                         \
  ROW(cudaErrorInvalidConfiguration, "invalid configuration argument")                              \
  ROW(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version")  \
  ROW(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable")             \
  ROW(cudaErrorInvalidDeviceFunction, "invalid device function")                                    \
  ROW(cudaErrorNoDevice, "no CUDA-capable device is detected")                                      \
  ROW(cudaErrorInvalidDevice, "invalid device ordinal")                                             \
  ROW(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device")  \
  ROW(cudaErrorNotReady, "device not ready")                                                        \
  ROW(cudaErrorIllegalAddress, "an illegal memory access was encountered")                          \
  ROW(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")        \
  ROW(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture") \
  ROW(cudaErrorNotSupported, "operation not supported")

const char *cudaGetErrorString(cudaError_t status) {
#define ROW(code, text) \
  if (status == code) return text;
  ERRORS(ROW)
#undef ROW
  return "unknown error";
}

const char *cudaGetErrorName(cudaError_t status) {
#define ROW(code, text) \
  if (status == code) return #code;
  ERRORS(ROW)
#undef ROW
  return "cudaErrorUnknown";
}

/* -- the device ---------------------------------------------------------------------------------------------- */

static size_t parse_size(const char *text) {
  char *end;
  size_t size = strtoull(text, &end, 10);
  return *end == 'K' ? size << 10 : *end == 'M' ? size << 20 : *end == 'G' ? size << 30 : size;
}

static HostDevice read_device(void) {
  HostDevice d = {80, false, 16ull << 30, 8, 1, CUDART_VERSION, 0, SIZE_MAX, 0};
  const char *text = getenv("DROVER_CUDA_HOST_DEVICE");
  for (const char *at = text; at && *at; at += strcspn(at, ","), at += *at == ',') {
    const char *value = at + strcspn(at, "=,");
    bool named = *value == '=';
    size_t length = (size_t)(value - at);
    value = named ? value + 1 : at;
    if (!named || strncmp(at, "capability", length) == 0) {
      d.capability = atoi(value);
      d.specific = value[strspn(value, "0123456789")] == 'a';
    } else if (strncmp(at, "memory", length) == 0) {
      d.memory = parse_size(value);
    } else if (strncmp(at, "multiprocessors", length) == 0) {
      d.multiprocessors = atoi(value);
    } else if (strncmp(at, "devices", length) == 0) {
      d.devices = atoi(value);
    } else if (strncmp(at, "driver", length) == 0) {
      d.driver = atoi(value);
    } else if (strncmp(at, "taken", length) == 0) {
      d.taken = parse_size(value);
    } else if (strncmp(at, "pinned", length) == 0) {
      d.pinned = parse_size(value);
    } else if (strncmp(at, "node", length) == 0) {
      d.node = parse_size(value);
    } else {
      fprintf(stderr, "cuda_host: DROVER_CUDA_HOST_DEVICE=%s: %.*s is not known\n", text, (int)length, at);
      abort();
    }
  }
  return d;
}

const HostDevice *host_device(void) {
  static const HostDevice device = read_device();
  return &device;
}

size_t host_shared_optin(void) {
  switch (host_device()->capability) {
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
      return 99 << 10;
    case 90:
    case 100:
      return 227 << 10;
    case 75:
      return 64 << 10;
    default:
      return 96 << 10;
  }
}

cudaError_t host_usable(int device) {
  const HostDevice *d = host_device();
  if (d->driver < CUDART_VERSION / 1000 * 1000) return host_error(cudaErrorInsufficientDriver);
  if (d->devices == 0) return host_error(cudaErrorNoDevice);
  if (device < 0 || device >= d->devices) return host_error(cudaErrorInvalidDevice);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = host_device()->driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 0;
  cudaError_t status = host_usable(0);
  if (status == cudaSuccess) *count = host_device()->devices;
  return status;
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return host_usable(0);
}

cudaError_t cudaSetDevice(int device) {
  return host_usable(device);
}

cudaError_t cudaSetDeviceFlags(unsigned int) {
  return host_usable(0);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
  cudaError_t status = host_usable(device);
  if (status != cudaSuccess) return status;
  const HostDevice *d = host_device();
  memset(p, 0, sizeof(*p));
  snprintf(p->name, sizeof(p->name), "CUDA emulated on the host (sm_%d%s)", d->capability,
           d->specific ? "a" : "");
  p->totalGlobalMem = d->memory;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = host_shared_optin();
  p->reservedSharedMemPerBlock = 1 << 10;
  p->sharedMemPerMultiprocessor = host_shared_optin() + (1 << 10);
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->warpSize = warpSize;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 1536;
  p->maxBlocksPerMultiProcessor = 16;
  for (int i = 0; i < 3; i++) p->maxThreadsDim[i] = i < 2 ? 1024 : 64;
  for (int i = 0; i < 3; i++) p->maxGridSize[i] = i < 1 ? 2147483647 : 65535;
  p->major = d->capability / 10;
  p->minor = d->capability % 10;
  p->multiProcessorCount = d->multiprocessors;
  p->l2CacheSize = 4 << 20;
  p->memoryBusWidth = 384;
  p->asyncEngineCount = 2;
  return cudaSuccess;
}

/* The address of no card that the machine could have. */
cudaError_t cudaDeviceGetPCIBusId(char *address, int size, int device) {
  snprintf(address, (size_t)size, "FFFF:%02X:1F.7", (unsigned)(0xFF - device));
  return host_usable(device);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  cudaError_t status = cudaGetDeviceProperties(&p, device);
  if (status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = (int)p.sharedMemPerBlock;
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = (int)p.sharedMemPerMultiprocessor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = (int)p.sharedMemPerBlockOptin;
      break;
    default:
      return host_error(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
