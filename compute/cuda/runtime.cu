/* The card as a device: opening it, its memory, and copies between it and the host.
 *
 * Three streams. Operations and small copies run on one, in the order of the calls. Copies to and from the caller's pinned
 * memory have one (offload.cu). Large uploads (weights) run on the third, so that reading a file, copying into pinned memory and the transfer overlap; events order the
 * streams wherever they could touch the same memory. An upload returns when the host's memory may be reused, which is
 * before it has arrived; nothing but a download waits for the device. */
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/linear_rows.cuh"
#include "compute/cuda/product.cuh"
#include "compute/cuda/ranks.cuh"

#include <cstdio>
#include <unistd.h>

extern "C" {
#include "base/memory.h"
#include "compute/cuda/nvml.h"
}

enum {
  SMALL_SLOT =
      1 << 20, /* up to here a copy goes through the small staging: ids, offsets, gradients of losses */
  LARGE_SLOT = 8 << 20,
  COPY_ALIGNMENT = 256,
  BLAS_WORKSPACE = 32 << 20 /* what NVIDIA advises for sm_90; less makes some algorithms impossible */
};

/* Guess of the driver's context where nothing can measure it: between 300 and 600 MiB on the cards known. */
static const size_t context_guess = (size_t)512 << 20;

/* -- failures ------------------------------------------------------------------------------------------- */

void device_failed(const char *what, const char *why) {
  fflush(stdout);
  fprintf(
      stderr,
      "\ndevice failed: %s: %s\n"
      "(work is queued, so that the cause may be an earlier operation: CUDA_LAUNCH_BLOCKING=1 names it)\n",
      what, why);
  fflush(stderr);
  _exit(ERROR_DEVICE); /* at once: handlers and destructors might wait for the device */
}

void device_check(cudaError_t status, const char *what) {
  if (status != cudaSuccess) device_failed(what, cudaGetErrorString(status));
}

static double gib(size_t bytes) {
  return (double)bytes / (double)(1 << 30);
}

/* -- opening -------------------------------------------------------------------------------------------- */

/* Loaded and launched when the device is opened: tells whether this build has code for the card. */
__global__ void probe_kernel(bf16 *out, int count) {
  int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = from_float<bf16>(0.0f);
}

static void describe(Device *d, const cudaDeviceProp *card, const char *suffix) {
  snprintf(d->description, sizeof d->description, "cuda (%.80s, sm_%d%s)", card->name, d->capability, suffix);
}

/* The ranks of a host take its cards in turn; `below`: those before this one. */
static bool find_card(Device *d, int below, cudaDeviceProp *card, Error *error) {
  int driver = 0, toolkit = 0, count = 0;
  cudaDriverGetVersion(&driver); /* 0 without a driver */
  cudaRuntimeGetVersion(&toolkit);
  cudaError_t status = cudaGetDeviceCount(&count);
  if (driver == 0) return error_set(error, ERROR_DEVICE, "CUDA: there is no NVIDIA driver on this machine");
  if (status == cudaErrorInsufficientDriver) {
    return error_set(error, ERROR_DEVICE,
                     "CUDA: the NVIDIA driver serves CUDA %d.%d, and this program was built with CUDA %d.%d: "
                     "install a newer driver",
                     driver / 1000, driver % 1000 / 10, toolkit / 1000, toolkit % 1000 / 10);
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    return error_set(error, ERROR_DEVICE, "CUDA: no GPU found (or CUDA_VISIBLE_DEVICES hides it)");
  }
  if (status == cudaSuccess) d->ordinal = below % count;
  if (status == cudaSuccess) status = cudaGetDeviceProperties(card, d->ordinal);
  if (status != cudaSuccess) {
    return error_set(error, ERROR_DEVICE, "CUDA: no GPU can be used: %s", cudaGetErrorString(status));
  }
  d->multiprocessors = card->multiProcessorCount;
  d->capability = 10 * card->major + card->minor;
  d->shared_per_block = (int)card->sharedMemPerBlockOptin;
  describe(d, card, "");
  if (d->capability < 80) {
    return error_set(error, ERROR_DEVICE,
                     "CUDA: the %s is too old: its compute capability is %d.%d, and 8.0 is the least (bf16)",
                     card->name, card->major, card->minor);
  }
  return true;
}

/* What went wrong while the device was being opened; free and total: of its memory, before, or 0. */
static bool open_failed(const cudaDeviceProp *card, cudaError_t status, size_t free, size_t total,
                        Error *error) {
  cudaGetLastError(); /* it has been told */
  if (status == cudaErrorMemoryAllocation && total) {
    return error_set(
        error, ERROR_DEVICE,
        "CUDA: the memory of the %s is taken by others: %.2f GiB are free of %.2f GiB, too little "
        "to begin with",
        card->name, gib(free), gib(total));
  }
  if (status == cudaErrorMemoryAllocation) {
    return error_set(
        error, ERROR_DEVICE,
        "CUDA: the memory of the %s (%.2f GiB) is taken by others: too little is free to begin with",
        card->name, gib(card->totalGlobalMem));
  }
  if (status == cudaErrorDevicesUnavailable) {
    return error_set(error, ERROR_DEVICE, "CUDA: the %s is busy: another process has it for itself",
                     card->name);
  }
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    return error_set(error, ERROR_DEVICE,
                     "CUDA: this build has no code for the %s (compute capability %d.%d): build it with "
                     "CMAKE_CUDA_ARCHITECTURES=%d%d",
                     card->name, card->major, card->minor, card->major, card->minor);
  }
  return error_set(error, ERROR_DEVICE, "CUDA: the %s cannot be opened: %s", card->name,
                   cudaGetErrorString(status));
}

#define TRY(call)                                     \
  do {                                                \
    cudaError_t try_status = (call);                  \
    if (try_status != cudaSuccess) return try_status; \
  } while (0)

static cudaError_t staging_open(Staging *s, size_t slot_bytes) {
  s->slot_bytes = slot_bytes;
  for (int i = 0; i < STAGING_SLOTS; i++) {
    TRY(cudaMallocHost((void **)&s->slot[i], slot_bytes));
    TRY(cudaEventCreateWithFlags(&s->done[i], cudaEventDisableTiming));
  }
  return cudaSuccess;
}

static cudaError_t make_queues(Device *d) {
  TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
  TRY(cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking));
  TRY(cudaStreamCreateWithFlags(&d->offload, cudaStreamNonBlocking));
  TRY(cudaEventCreateWithFlags(&d->offloaded, cudaEventDisableTiming));
  TRY(cudaEventCreateWithFlags(&d->computed, cudaEventDisableTiming));
  TRY(cudaEventCreateWithFlags(&d->copied, cudaEventDisableTiming));
  TRY(staging_open(&d->small, SMALL_SLOT));
  TRY(staging_open(&d->large, LARGE_SLOT));
  d->blas_workspace_bytes = BLAS_WORKSPACE;
  return cudaMalloc(&d->blas_workspace, d->blas_workspace_bytes);
}

/* A first kernel and a first product: the driver takes memory for code when it is first used. */
static cudaError_t warm_up(Compute *c) {
  enum { SIDE = 128, COUNT = SIDE * SIDE, THREADS = 256 };
  cudaFuncAttributes attributes;
  void *memory = NULL;
  TRY(cudaFuncGetAttributes(&attributes, probe_kernel));
  TRY(cudaMalloc(&memory, 3 * COUNT * sizeof(bf16)));
  Tensor x[3], none = {};
  for (int i = 0; i < 3; i++) x[i] = tensor_2d((bf16 *)memory + i * COUNT, DTYPE_BF16, SIDE, SIDE);
  LAUNCH(c, probe_kernel, 3 * COUNT / THREADS, THREADS, 0, data<bf16>(x[0]), 3 * COUNT);
  cuda_product(c, x[2], x[0], false, x[1], true, none, 1.0f, 0.0f);
  TRY(cudaStreamSynchronize(c->device->stream));
  return cudaFree(memory);
}

/* The context first, then all that this file keeps; the memory that each takes is measured on the way. NVML sees
 * the card from outside, before there is a context. Where it does not, the context counts with what the driver
 * calls taken then, by anyone, yet with no more than context_guess. */
static bool take_card(Compute *c, const cudaDeviceProp *card, Error *error) {
  Device *d = c->device;
  char address[32] = "";
  size_t before = 0, with_context = 0, after = 0, total = 0;
  const bool seen = cudaDeviceGetPCIBusId(address, sizeof address, d->ordinal) == cudaSuccess &&
                    nvml_memory(address, &before, &total);
  cudaError_t status = cudaSetDevice(d->ordinal);
  if (status == cudaSuccess) status = cudaFree(NULL); /* makes the context */
  if (status == cudaSuccess) status = cudaMemGetInfo(&with_context, &total);
  if (!seen) before = with_context;
  if (status == cudaSuccess) status = make_queues(d);
  d->wgmma = status == cudaSuccess && d->capability == 90 && linear_rows_wgmma_usable();
  if (d->wgmma) describe(d, card, "a");
  if (status != cudaSuccess) return open_failed(card, status, before, total, error);
  cublasStatus_t blas = cublasLtCreate(&d->blas);
  if (blas != CUBLAS_STATUS_SUCCESS) {
    return error_set(error, ERROR_DEVICE, "CUDA: cuBLAS cannot be opened: %s", cublasLtGetStatusString(blas));
  }
  if (!(d->products = cuda_products_open())) return error_out_of_memory(error, "plans of products", 0);
  status = warm_up(c);
  if (status == cudaSuccess) status = cudaMemGetInfo(&after, &total);
  if (status != cudaSuccess) return open_failed(card, status, before, total, error);
  size_t now = 0, outside = 0;
  if (seen && nvml_memory(address, &now, &outside) && before > now) {
    d->memory.overhead = before - now;
  } else {
    size_t context = total - with_context < context_guess ? total - with_context : context_guess;
    d->memory.overhead = context + (with_context > after ? with_context - after : 0);
  }
  d->memory.total = total;
  d->memory.free = after;
  d->memory.used = d->memory.overhead;
  return true;
}

bool cuda_open(Compute *c, Error *error) {
  c->device = (Device *)memory_zeroed(1, sizeof(Device));
  if (!c->device) return error_out_of_memory(error, "the device", sizeof(Device));
  cudaDeviceProp card;
  if (find_card(c->device, cuda_ranks_below(&c->comm), &card, error) && take_card(c, &card, error))
    return true;
  cuda_close(c);
  return false;
}

static void staging_close(Staging *s) {
  for (int i = 0; i < STAGING_SLOTS; i++) {
    if (s->slot[i]) device_check(cudaFreeHost(s->slot[i]), "cudaFreeHost");
    if (s->done[i]) device_check(cudaEventDestroy(s->done[i]), "cudaEventDestroy");
  }
}

/* Also of a device that was opened in part. */
void cuda_close(Compute *c) {
  Device *d = c->device;
  if (!d) return;
  cuda_ranks_close(c);
  if (d->stream) device_check(cudaStreamSynchronize(d->stream), "waiting for the last operations");
  if (d->copies) device_check(cudaStreamSynchronize(d->copies), "waiting for the last copies");
  if (d->offload) device_check(cudaStreamSynchronize(d->offload), "waiting for the last copies");
  cuda_products_close(d->products);
  if (d->blas) cublasLtDestroy(d->blas);
  if (d->blas_workspace) device_check(cudaFree(d->blas_workspace), "cudaFree");
  staging_close(&d->small);
  staging_close(&d->large);
  if (d->computed) device_check(cudaEventDestroy(d->computed), "cudaEventDestroy");
  if (d->copied) device_check(cudaEventDestroy(d->copied), "cudaEventDestroy");
  if (d->offloaded) device_check(cudaEventDestroy(d->offloaded), "cudaEventDestroy");
  if (d->offload) device_check(cudaStreamDestroy(d->offload), "cudaStreamDestroy");
  if (d->stream) device_check(cudaStreamDestroy(d->stream), "cudaStreamDestroy");
  if (d->copies) device_check(cudaStreamDestroy(d->copies), "cudaStreamDestroy");
  memory_free(d);
  c->device = NULL;
}

const char *cuda_describe(const Compute *c) {
  return c->device->description;
}

/* -- memory --------------------------------------------------------------------------------------------- */

/* Notes how much the driver sees as taken. */
static void look_at_memory(Device *d, size_t *free) {
  size_t total = 0;
  device_check(cudaMemGetInfo(free, &total), "cudaMemGetInfo");
  size_t used = d->memory.overhead + (d->memory.free > *free ? d->memory.free - *free : 0);
  if (used > d->memory.used) d->memory.used = used;
}

DeviceMemory cuda_memory(const Compute *c) {
  Device *d = c->device;
  size_t free;
  if (!d->recording) look_at_memory(d, &free);
  return d->memory;
}

bool cuda_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error) {
  Device *d = c->device;
  ASSERT(!d->recording);
  arena_init_over(arena, name, NULL, 0);
  if (bytes == 0) return true;
  const size_t taken = d->memory.overhead + d->memory.arenas;
  if (c->memory_limit && (taken > c->memory_limit || bytes > c->memory_limit - taken)) {
    return error_set(
        error, ERROR_MEMORY,
        "out of memory: %s wants %.2f GiB (%zu bytes), and device.memory_limit is %.2f GiB: the driver "
        "and its libraries take %.2f GiB, what is allocated already %.2f GiB",
        name, gib(bytes), bytes, gib(c->memory_limit), gib(d->memory.overhead), gib(d->memory.arenas));
  }
  void *base = NULL;
  size_t free = 0;
  cudaError_t status = cudaMalloc(&base, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError(); /* it has been told */
    look_at_memory(d, &free);
    const size_t others = d->memory.total > free + taken ? d->memory.total - free - taken : 0;
    return error_set(
        error, ERROR_MEMORY,
        "out of memory: %s wants %.2f GiB (%zu bytes), and of the card's %.2f GiB %.2f GiB are free: this "
        "run has %.2f GiB, other processes about %.2f GiB",
        name, gib(bytes), bytes, gib(d->memory.total), gib(free), gib(taken), gib(others));
  }
  device_check(status, "cudaMalloc");
  arena_init_over(arena, name, base, bytes);
  d->memory.arenas += bytes;
  if (d->memory.arenas > d->memory.peak) d->memory.peak = d->memory.arenas;
  look_at_memory(d, &free);
  return true;
}

void cuda_arena_free(Compute *c, Arena *arena) {
  Device *d = c->device;
  ASSERT(!d->recording && d->memory.arenas >= arena->capacity);
  /* Operations may still use it; uploads too, which are ordered before what the compute stream does next. */
  device_check(cudaStreamSynchronize(d->stream), "waiting for the device");
  device_check(cudaStreamSynchronize(d->offload), "waiting for copies");
  device_check(cudaFree(arena->base), "cudaFree");
  d->memory.arenas -= arena->capacity;
  arena_init_over(arena, NULL, NULL, 0);
}

/* -- copies --------------------------------------------------------------------------------------------- */

/* Memory of the slot in hand, or of the next one, which the stream must have left. */
static char *staging_take(Staging *s, size_t bytes, cudaStream_t stream) {
  if (s->used + bytes > s->slot_bytes) {
    device_check(cudaEventRecord(s->done[s->at], stream), "cudaEventRecord");
    s->at = (s->at + 1) % STAGING_SLOTS;
    s->used = 0;
    device_check(cudaEventSynchronize(s->done[s->at]), "waiting for a copy");
  }
  char *place = s->slot[s->at] + s->used;
  s->used += (size_t)divide_up((int64_t)bytes, COPY_ALIGNMENT) * COPY_ALIGNMENT;
  return place;
}

static void upload_small(Device *d, char *device, const char *host, size_t bytes) {
  char *place = staging_take(&d->small, bytes, d->stream);
  memcpy(place, host, bytes);
  device_check(cudaMemcpyAsync(device, place, bytes, cudaMemcpyHostToDevice, d->stream), "upload");
}

static size_t piece_bytes(const Device *d, size_t bytes, size_t from) {
  return bytes - from < d->large.slot_bytes ? bytes - from : d->large.slot_bytes;
}

static void upload_large(Device *d, char *device, const char *host, size_t bytes) {
  device_check(cudaEventRecord(d->computed, d->stream), "cudaEventRecord");
  device_check(cudaStreamWaitEvent(d->copies, d->computed, 0), "cudaStreamWaitEvent");
  for (size_t from = 0; from < bytes; from += d->large.slot_bytes) {
    const size_t piece = piece_bytes(d, bytes, from);
    d->large.used = d->large.slot_bytes; /* a slot for each piece */
    char *place = staging_take(&d->large, piece, d->copies);
    memcpy(place, host + from, piece);
    device_check(cudaMemcpyAsync(device + from, place, piece, cudaMemcpyHostToDevice, d->copies), "upload");
  }
  device_check(cudaEventRecord(d->copied, d->copies), "cudaEventRecord");
  device_check(cudaStreamWaitEvent(d->stream, d->copied, 0), "cudaStreamWaitEvent");
}

void cuda_upload(Compute *c, Tensor device, const void *host) {
  Device *d = c->device;
  const size_t bytes = tensor_bytes(device);
  ASSERT(!d->recording);
  if (bytes <= d->small.slot_bytes) {
    upload_small(d, (char *)device.data, (const char *)host, bytes);
  } else {
    upload_large(d, (char *)device.data, (const char *)host, bytes);
  }
}

static void download_small(Device *d, char *host, const char *device, size_t bytes) {
  char *place = staging_take(&d->small, bytes, d->stream);
  device_check(cudaMemcpyAsync(place, device, bytes, cudaMemcpyDeviceToHost, d->stream), "download");
  device_check(cudaStreamSynchronize(d->stream), "waiting for the device");
  memcpy(host, place, bytes);
  d->small.used = 0; /* the stream has left all slots */
}

/* The copy of a piece out of pinned memory overlaps with the transfers of the next ones. */
static void download_large(Device *d, char *host, const char *device, size_t bytes) {
  Staging *s = &d->large;
  const size_t slot = s->slot_bytes;
  const int64_t pieces = divide_up((int64_t)bytes, (int64_t)slot);
  device_check(cudaStreamSynchronize(d->copies), "waiting for uploads"); /* they used the slots */
  for (int64_t asked = 0, got = 0; got < pieces; got++) {
    for (; asked < pieces && asked < got + STAGING_SLOTS; asked++) {
      const size_t from = (size_t)asked * slot;
      const int at = (int)(asked % STAGING_SLOTS);
      device_check(cudaMemcpyAsync(s->slot[at], device + from, piece_bytes(d, bytes, from),
                                   cudaMemcpyDeviceToHost, d->stream),
                   "download");
      device_check(cudaEventRecord(s->done[at], d->stream), "cudaEventRecord");
    }
    const size_t from = (size_t)got * slot;
    const int at = (int)(got % STAGING_SLOTS);
    device_check(cudaEventSynchronize(s->done[at]), "waiting for the device");
    memcpy(host + from, s->slot[at], piece_bytes(d, bytes, from));
  }
}

void cuda_download(Compute *c, void *host, Tensor device) {
  Device *d = c->device;
  const size_t bytes = tensor_bytes(device);
  ASSERT(!d->recording);
  if (bytes <= d->small.slot_bytes) {
    download_small(d, (char *)host, (const char *)device.data, bytes);
  } else {
    download_large(d, (char *)host, (const char *)device.data, bytes);
  }
}
