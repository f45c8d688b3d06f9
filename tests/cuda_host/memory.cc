/* The emulated device's memory, and launching on it. */
#include "tests/cuda_host/cuda_runtime.h"
#include "tests/cuda_host/emulated.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>

enum { ALIGNMENT = 256 };

/* -- memory -------------------------------------------------------------------------------------------------- */

typedef struct Block {
  size_t bytes;
  char *pages; /* what mmap gave, with DROVER_CUDA_HOST_GUARD */
  size_t page_bytes;
} Block;
typedef std::map<const char *, Block> Blocks;

/* Device memory, pinned host memory, and what cudaFuncSetAttribute raised. */
typedef struct Tables {
  std::mutex lock;
  Blocks memory, pinned;
  std::unordered_map<const void *, int> shared;
  size_t taken;
  bool guard;
  int open; /* work on the device now: the memory is there */
  struct sigaction before;
} Tables;

static Tables *tables(void) {
  static Tables *const t = [] {
    static Tables made;
    const char *guard = getenv("DROVER_CUDA_HOST_GUARD");
    made.guard = guard && strcmp(guard, "1") == 0;
    return &made;
  }();
  return t;
}

enum { CONTEXT_BYTES = 64 << 20 }; /* what the driver takes for itself */

static size_t free_bytes(const Tables *t) {
  const HostDevice *d = host_device();
  size_t taken = t->taken + d->taken + CONTEXT_BYTES;
  return d->memory > taken ? d->memory - taken : 0;
}

cudaError_t cudaMemGetInfo(size_t *free_, size_t *total) {
  cudaError_t status = host_usable(0);
  if (status != cudaSuccess) return status;
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  *free_ = free_bytes(t);
  *total = host_device()->memory;
  return cudaSuccess;
}

bool host_take(size_t bytes) {
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  if (bytes > free_bytes(t)) return false;
  t->taken += bytes;
  return true;
}

void host_give_back(size_t bytes) {
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  t->taken -= bytes;
}

/* The block that the address is in, its end included, where an empty tensor may lie. */
static Blocks::const_iterator block_of(const Blocks &blocks, const void *p) {
  auto next = blocks.upper_bound((const char *)p);
  if (next == blocks.begin()) return blocks.end();
  auto block = std::prev(next);
  return (const char *)p <= block->first + block->second.bytes ? block : blocks.end();
}

static bool within(const Blocks &blocks, const void *p, size_t bytes) {
  auto block = block_of(blocks, p);
  return block != blocks.end() && (const char *)p + bytes <= block->first + block->second.bytes;
}

bool host_is_device(const void *p, size_t bytes) {
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  return within(t->memory, p, bytes);
}

bool host_is_pinned(const void *p, size_t bytes) {
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  return within(t->pinned, p, bytes);
}

void host_check_argument(const char *kernel, int index, const void *p) {
  if (p && !host_is_device(p, 0) && !host_is_pinned(p, 0)) {
    fprintf(stderr, "cuda_host: kernel %s: argument %d points to %p, which is not memory of the device\n",
            kernel, index, p);
    abort();
  }
}

/* With DROVER_CUDA_HOST_GUARD: nothing but work on the device may touch its memory. */
static void on_segv(int number, siginfo_t *info, void *) {
  Tables *t = tables(); /* no lock: whoever holds it might be the one at fault */
  if (within(t->memory, info->si_addr, 1)) {
    static const char text[] = "cuda_host: the host touched device memory\n";
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) abort();
  }
  sigaction(number, &t->before, nullptr); /* and once more, for whoever reports such */
}

void host_device_work(bool begins) {
  Tables *t = tables();
  if (!t->guard) return;
  std::lock_guard<std::mutex> hold(t->lock);
  t->open += begins ? 1 : -1;
  if (t->open != (begins ? 1 : 0)) return;
  for (const auto &block : t->memory) {
    mprotect(block.second.pages, block.second.page_bytes, begins ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

/* The block lies at the end of its pages, and after it is one that nobody may touch. */
static char *guarded_new(Tables *t, size_t bytes, Block *block) {
  if (t->memory.empty()) {
    struct sigaction action = {};
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO;
    struct sigaction before;
    sigaction(SIGSEGV, &action, &before);
    if (before.sa_sigaction != on_segv) t->before = before;
  }
  size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + ALIGNMENT + page - 1) / page * page;
  void *p = mmap(nullptr, pages + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  madvise(p, pages, MADV_HUGEPAGE); /* host_device_work changes the pages one by one, all of them twice */
  *block = {bytes, (char *)p, pages};
  mprotect(p, pages, PROT_READ | PROT_WRITE);
  char *base = (char *)p + (pages - bytes) / ALIGNMENT * ALIGNMENT;
  host_poison(base, bytes);
  if (!t->open) mprotect(p, pages, PROT_NONE);
  return base;
}

cudaError_t host_malloc(void **p, size_t bytes) {
  *p = nullptr;
  cudaError_t status = host_usable(0);
  if (status != cudaSuccess || bytes == 0) return status;
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  if (bytes > free_bytes(t)) return host_error(cudaErrorMemoryAllocation);
  Block block = {bytes, nullptr, 0};
  if (t->guard) {
    *p = guarded_new(t, bytes, &block);
  } else if (posix_memalign(p, ALIGNMENT, bytes)) { /* of the exact size, for sanitizers */
    *p = nullptr;
  }
  if (!*p) return host_error(cudaErrorMemoryAllocation);
  if (!t->guard) host_poison(*p, bytes);
  t->memory[(const char *)*p] = block;
  t->taken += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
  if (!p) return cudaSuccess;
  host_drain_all(); /* waits for the device */
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  auto found = t->memory.find((const char *)p);
  if (found == t->memory.end()) return host_error(cudaErrorInvalidValue);
  Block block = found->second;
  t->taken -= block.bytes;
  t->memory.erase(found);
  if (block.pages) {
    munmap(block.pages, block.page_bytes + (size_t)sysconf(_SC_PAGESIZE));
  } else {
    free(p);
  }
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned int) {
  *p = nullptr;
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  size_t pinned = 0;
  for (const auto &block : t->pinned) pinned += block.second.bytes;
  const size_t most = host_device()->pinned;
  if (pinned > most || bytes > most - pinned || posix_memalign(p, 4096, bytes ? bytes : 1)) {
    *p = nullptr;
    return host_error(cudaErrorMemoryAllocation);
  }
  host_poison(*p, bytes);
  t->pinned[(const char *)*p] = {bytes, nullptr, 0};
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
  if (!p) return cudaSuccess;
  host_drain_all();
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  if (!t->pinned.erase((const char *)p)) return host_error(cudaErrorInvalidValue);
  free(p);
  return cudaSuccess;
}

/* -- kernels ------------------------------------------------------------------------------------------------- */

cudaError_t host_function_set(const void *kernel, enum cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || (size_t)value > host_shared_optin()) return host_error(cudaErrorInvalidValue);
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  t->shared[kernel] = value;
  return cudaSuccess;
}

size_t host_shared_limit(const void *kernel, size_t fixed) {
  Tables *t = tables();
  std::lock_guard<std::mutex> hold(t->lock);
  auto found = t->shared.find(kernel);
  size_t asked = found == t->shared.end() ? 0 : (size_t)found->second, optin = host_shared_optin();
  size_t unasked = fixed < 48 << 10 ? (48 << 10) - fixed : 0, most = fixed < optin ? optin - fixed : 0;
  return std::max(unasked, std::min(asked, most));
}

cudaError_t host_function_get(cudaFuncAttributes *attributes, const void *kernel) {
  memset(attributes, 0, sizeof(*attributes));
  attributes->maxThreadsPerBlock = 1024;
  attributes->maxDynamicSharedSizeBytes = (int)host_shared_limit(kernel, 0);
  return cudaSuccess;
}

cudaError_t host_occupancy(int *blocks, const void *, int threads, size_t shared) {
  cudaDeviceProp p;
  cudaError_t status = cudaGetDeviceProperties(&p, 0);
  if (status != cudaSuccess) return status;
  size_t by_shared = p.sharedMemPerMultiprocessor / (shared + p.reservedSharedMemPerBlock);
  int by_threads = threads > 0 ? p.maxThreadsPerMultiProcessor / threads : 0;
  *blocks = by_shared < (size_t)by_threads ? (int)by_shared : by_threads;
  return cudaSuccess;
}

static std::atomic<uint64_t> launches;

uint64_t host_launches(void) {
  return launches;
}

void host_count_launch(void) {
  launches++;
}

static std::atomic<uint64_t> products;

uint64_t host_products(void) {
  return products;
}

void host_count_product(void) {
  products.fetch_add(1, std::memory_order_relaxed);
}

void host_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                 cudaStream_t stream, std::function<void()> work) {
  if (host_usable(0) != cudaSuccess) return;
  uint64_t threads = (uint64_t)block.x * block.y * block.z;
  bool fits = threads > 0 && threads <= 1024 && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  bool grid_fits =
      grid.x > 0 && grid.x <= 0x7fffffffu && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
  size_t limit = host_shared_limit(kernel, 0);
  if (!fits || !grid_fits || shared > limit) {
    fprintf(stderr, "cuda_host: %s: grid (%u,%u,%u), block (%u,%u,%u), %zu of %zu bytes of shared memory\n",
            name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, limit);
    host_error(shared > limit ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration);
    return;
  }
  host_count_launch();
  host_stream_computes(stream);
  host_submit(stream, std::move(work));
}
