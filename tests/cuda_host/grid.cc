#include "tests/cuda_host/grid.h"

#include "tests/cuda_host/fibre.h"
#include "tests/cuda_host/runtime_api.h"
#include "tests/cuda_host/statics.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;

enum { THREADS = 1024, WARPS = THREADS / warpSize, SHARED_BYTES = 227 << 10, SHARED_TAIL = 4 << 10 };

enum State { RUNNABLE, AT_WARP, AT_BLOCK, ENDED };

typedef struct Copy {
  void *to;
  const void *from; /* NULL: zeros */
} Copy;

typedef struct Thread {
  State state;
  Fibre *fibre; /* where it waits; NULL while it runs and before it has begun */
  /* At a warp meeting. */
  uint32_t mask;
  const char *what;
  HostFinish *finish;
  void *mine;
  /* At a barrier. */
  HostBarrier barrier;
  int value;
  /* Asynchronous copies under way, and how many each group has; the last group is still open. */
  std::vector<Copy> copies;
  std::vector<size_t> groups;
} Thread;

typedef struct Runner { /* of one OS thread */
  FibrePool *pool;
  const char *kernel; /* NULL: none runs */
  HostBody *body;
  const void *arguments;
  Thread thread[THREADS];
  uint32_t runnable[WARPS]; /* lanes that can go on */
  uint32_t waiting[WARPS];  /* lanes at a warp meeting */
  int threads, current;
  bool reverse;
  int answer; /* of the last barrier */
  char *shared;
  size_t shared_bytes;
} Runner;

static void runner_free(Runner *r) {
  if (!r) return;
  fibre_pool_free(r->pool);
  free(r->shared);
  delete r;
}

/* The runner ends with its OS thread. */
typedef struct RunnerOwner {
  Runner *runner;
  ~RunnerOwner() { runner_free(runner); }
} RunnerOwner;
static thread_local RunnerOwner owner;
static __thread Runner *runner;

static void runner_work(void *argument);

static Runner *runner_get(void) {
  if (runner) return runner;
  Runner *r = new Runner();
  r->pool = fibre_pool_new(runner_work, r);
  r->shared = (char *)aligned_alloc(1024, SHARED_BYTES + SHARED_TAIL);
  if (!r->shared) abort();
  const char *order = getenv("DROVER_CUDA_HOST_ORDER");
  r->reverse = order && strcmp(order, "reverse") == 0;
  owner.runner = r;
  runner = r;
  return r;
}

void host_poison(void *p, size_t bytes) {
  const uint16_t pattern = HOST_POISON;
  char *at = (char *)p;
  size_t done = bytes < sizeof(pattern) ? bytes : sizeof(pattern);
  memcpy(at, &pattern, done);
  while (done < bytes) {
    size_t more = done < bytes - done ? done : bytes - done;
    memcpy(at + done, at, more);
    done += more;
  }
}

/* -- messages ------------------------------------------------------------------------------------------------ */

static uint3 thread_index(int t) {
  unsigned int n = (unsigned int)t;
  return {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
}

static void print_where(const Runner *r, int t) {
  uint3 at = thread_index(t);
  fprintf(stderr,
          "cuda_host: kernel %s, grid (%u,%u,%u), block (%u,%u,%u) of (%u,%u,%u) threads, thread (%u,%u,%u)",
          r->kernel, gridDim.x, gridDim.y, gridDim.z, blockIdx.x, blockIdx.y, blockIdx.z, blockDim.x,
          blockDim.y, blockDim.z, at.x, at.y, at.z);
}

void host_fault(const char *format, ...) {
  if (runner && runner->kernel) {
    print_where(runner, runner->current);
    fputs(":\n", stderr);
  }
  fputs("cuda_host: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  fflush(stderr);
  abort();
}

static void describe(const Thread *thread, char *text, size_t size) {
  static const char *const barriers[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and",
                                         "__syncthreads_count"};
  if (thread->state == AT_WARP) snprintf(text, size, "waits at %s, mask %08x", thread->what, thread->mask);
  if (thread->state == AT_BLOCK) snprintf(text, size, "waits at %s", barriers[thread->barrier]);
  if (thread->state == ENDED) snprintf(text, size, "has ended");
  if (thread->state == RUNNABLE) snprintf(text, size, "runs");
}

/* Nobody can go on: says where the threads stand, neighbours that stand alike in one line. */
__attribute__((noreturn)) static void deadlock(Runner *r) {
  int first = 0;
  while (r->thread[first].state == ENDED) first++;
  print_where(r, first);
  fputs(":\ncuda_host: deadlock, the threads wait for others that never come:\n", stderr);
  char text[160] = "", next[160];
  for (int t = 0, from = 0; t <= r->threads; t++) {
    if (t < r->threads) describe(&r->thread[t], next, sizeof(next));
    if (t < r->threads && strcmp(text, next) == 0) continue;
    if (t > 0) fprintf(stderr, "cuda_host:   threads %d to %d: %s\n", from, t - 1, text);
    memcpy(text, next, sizeof(text));
    from = t;
  }
  fflush(stderr);
  abort();
}

/* -- meetings ------------------------------------------------------------------------------------------------ */

static Thread *running(const char *what) {
  if (!runner || !runner->kernel) host_fault("%s outside a kernel", what);
  return &runner->thread[runner->current];
}

static void give_way(Runner *r) {
  fibre_wait(r->pool);
}

void host_meet_warp(uint32_t mask, const char *what, HostFinish *finish, void *mine) {
  Thread *self = running(what);
  Runner *r = runner;
  int lane = r->current % warpSize, base = r->current - lane;
  if (!(mask >> lane & 1)) host_fault("%s: mask %08x leaves out the calling lane %d", what, mask, lane);
  self->state = AT_WARP;
  self->mask = mask;
  self->what = what;
  self->finish = finish;
  self->mine = mine;
  uint32_t *waiting = &r->waiting[base / warpSize];
  *waiting |= 1u << lane;
  bool complete = (*waiting & mask) == mask;
  void *brought[warpSize] = {};
  for (int i = 0; i < warpSize && complete; i++) {
    if (!(mask >> i & 1)) continue;
    const Thread *other = &r->thread[base + i];
    complete = other->mask == mask && other->finish == finish;
    brought[i] = other->mine;
  }
  if (complete) {
    finish(brought, mask);
    *waiting &= ~mask;
    for (int i = 0; i < warpSize; i++) {
      if (mask >> i & 1) r->thread[base + i].state = RUNNABLE;
    }
    r->runnable[base / warpSize] |= mask;
  }
  give_way(r);
}

int host_meet_block(enum HostBarrier kind, int value) {
  Thread *self = running("__syncthreads");
  self->state = AT_BLOCK;
  self->barrier = kind;
  self->value = value;
  give_way(runner);
  return runner->answer;
}

/* All that have not ended are at one barrier: they go on. */
static void finish_barrier(Runner *r) {
  int count = 0, alive = 0, first = -1;
  for (int t = 0; t < r->threads; t++) {
    Thread *thread = &r->thread[t];
    if (thread->state == ENDED) continue;
    if (first < 0) first = t;
    if (thread->state != AT_BLOCK || thread->barrier != r->thread[first].barrier) deadlock(r);
    alive++;
    count += thread->value != 0;
  }
  HostBarrier kind = r->thread[first].barrier;
  r->answer = kind == BARRIER_OR ? count > 0 : kind == BARRIER_AND ? count == alive : count;
  for (int t = 0; t < r->threads; t++) {
    if (r->thread[t].state == ENDED) continue;
    r->thread[t].state = RUNNABLE;
    r->runnable[t / warpSize] |= 1u << t % warpSize;
  }
}

/* -- asynchronous copies ------------------------------------------------------------------------------------- */

void host_copy_async(void *shared, const void *global, bool valid) {
  Thread *self = running("copy_async_16");
  if ((uintptr_t)shared % 16) host_fault("copy_async_16: shared address %p is not 16-byte aligned", shared);
  if ((uintptr_t)global % 16) host_fault("copy_async_16: global address %p is not 16-byte aligned", global);
  host_check_shared(shared, 16, "copy_async_16");
  host_poison(shared, 16);
  if (self->groups.empty()) self->groups.push_back(0);
  self->groups.back()++;
  self->copies.push_back({shared, valid ? global : nullptr});
}

void host_copy_commit(void) {
  Thread *self = running("copy_async_commit");
  if (self->groups.empty()) self->groups.push_back(0);
  self->groups.push_back(0);
}

void host_copy_wait(int pending) {
  Thread *self = running("copy_async_wait");
  size_t closed = self->groups.empty() ? 0 : self->groups.size() - 1;
  if (closed <= (size_t)pending) return;
  size_t groups = closed - (size_t)pending, copies = 0;
  for (size_t i = 0; i < groups; i++) copies += self->groups[i];
  for (size_t i = 0; i < copies; i++) {
    static const char zeros[16] = {};
    memcpy(self->copies[i].to, self->copies[i].from ? self->copies[i].from : zeros, 16);
  }
  self->copies.erase(self->copies.begin(), self->copies.begin() + (ptrdiff_t)copies);
  self->groups.erase(self->groups.begin(), self->groups.begin() + (ptrdiff_t)groups);
}

/* -- running ------------------------------------------------------------------------------------------------- */

/* In a fibre: the current thread, and then those after it in the order that have not begun. Most kernels never
 * meet: their warps need no switch but this one. */
static void runner_work(void *argument) {
  Runner *r = (Runner *)argument;
  for (;;) {
    Thread *self = &r->thread[r->current];
    r->body(r->arguments);
    self = &r->thread[r->current];
    self->state = ENDED;
    self->copies.clear();
    self->groups.clear();
    int lane = r->current % warpSize + (r->reverse ? -1 : 1), warp = r->current / warpSize;
    if (lane < 0 || lane >= warpSize || !(r->runnable[warp] >> lane & 1)) return;
    if (r->thread[warp * warpSize + lane].fibre) return;
    r->current = warp * warpSize + lane;
    r->runnable[warp] &= ~(1u << lane);
    threadIdx = thread_index(r->current);
  }
}

static void run_warp(Runner *r, int warp) {
  int cursor = r->reverse ? warpSize - 1 : 0;
  for (uint32_t left; (left = r->runnable[warp]) != 0;) {
    uint32_t ahead = left & (r->reverse ? ~0u >> (warpSize - 1 - cursor) : ~0u << cursor);
    if (!ahead) ahead = left;
    int lane = r->reverse ? 31 - __builtin_clz(ahead) : __builtin_ctz(ahead);
    r->runnable[warp] &= ~(1u << lane);
    r->current = warp * warpSize + lane;
    threadIdx = thread_index(r->current);
    Thread *thread = &r->thread[r->current];
    Fibre *fibre = thread->fibre ? thread->fibre : fibre_take(r->pool);
    thread->fibre = nullptr;
    if (!fibre_enter(r->pool, fibre)) r->thread[r->current].fibre = fibre;
    lane = r->current % warpSize;
    cursor = r->reverse ? (lane + warpSize - 1) % warpSize : (lane + 1) % warpSize;
  }
}

static void run_block(Runner *r) {
  int warps = (r->threads + warpSize - 1) / warpSize;
  for (int t = 0; t < r->threads; t++) {
    r->thread[t].state = RUNNABLE;
    r->thread[t].fibre = nullptr;
  }
  for (int w = 0; w < warps; w++) {
    int lanes = r->threads - w * warpSize;
    r->waiting[w] = 0;
    r->runnable[w] = lanes >= warpSize ? ~0u : (1u << lanes) - 1;
  }
  for (;;) {
    for (int i = 0; i < warps; i++) run_warp(r, r->reverse ? warps - 1 - i : i);
    bool ended = true;
    for (int t = 0; t < r->threads && ended; t++) ended = r->thread[t].state == ENDED;
    if (ended) return;
    finish_barrier(r);
  }
}

static void check_tail(const Runner *r) {
  const uint16_t *tail = (const uint16_t *)(r->shared + (r->shared_bytes + 1) / 2 * 2);
  for (int i = 0; i < SHARED_TAIL / 8; i++) {
    if (tail[i] != HOST_POISON) {
      host_fault("wrote past the %zu bytes of dynamic shared memory", r->shared_bytes);
    }
  }
}

void host_run_grid(const char *kernel, const void *address, HostBody *body, const void *arguments, uint3 grid,
                   uint3 block, size_t shared) {
  Runner *r = runner_get();
  if (r->kernel) host_fault("launch of %s within kernel %s", kernel, r->kernel);
  r->kernel = kernel;
  r->body = body;
  r->arguments = arguments;
  r->threads = (int)(block.x * block.y * block.z);
  r->shared_bytes = shared;
  gridDim = grid;
  blockDim = block;
  uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; i++) {
    uint64_t n = r->reverse ? blocks - 1 - i : i;
    blockIdx = {(unsigned int)(n % grid.x), (unsigned int)(n / grid.x % grid.y),
                (unsigned int)(n / grid.x / grid.y)};
    host_poison(r->shared, shared + SHARED_TAIL / 2);
    ASAN_POISON_MEMORY_REGION(r->shared + shared, SHARED_TAIL / 2);
    host_statics_begin(address);
    run_block(r);
    host_statics_end(address);
    ASAN_UNPOISON_MEMORY_REGION(r->shared + shared, SHARED_TAIL / 2);
    check_tail(r);
  }
  r->kernel = nullptr;
}

void *host_shared_memory(void) {
  running("SHARED_MEMORY");
  return runner->shared;
}

void host_check_shared(const void *p, size_t bytes, const char *what) {
  const char *at = (const char *)p, *dynamic = runner->shared;
  if (at >= dynamic && at < dynamic + SHARED_BYTES + SHARED_TAIL) {
    if (at + bytes > dynamic + runner->shared_bytes) {
      host_fault("%s: address %td is past the %zu bytes of dynamic shared memory", what, at - dynamic,
                 runner->shared_bytes);
    }
  } else if (!host_statics_hold(p, bytes)) {
    host_fault("%s: address %p is not in shared memory", what, p);
  }
}
