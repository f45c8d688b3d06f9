#include "tests/cuda_host/grid.h"

#include "tests/cuda_host/fibre.h"
#include "tests/cuda_host/emulated.h"
#include "tests/cuda_host/statics.h"
#include "tests/cuda_host/wgmma.h"

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

enum { THREADS = 1024, WARPS = THREADS / warpSize, SHARED_BYTES = HOST_SHARED_BYTES, SHARED_TAIL = 4 << 10 };

typedef struct Copy {
  void *to;
  const void *from; /* NULL: zeros */
} Copy;

typedef struct Thread {
  Fibre *fibre; /* where it waits; NULL while it runs and before it has begun */
  uint3 index;
  /* At a warp meeting. */
  uint32_t mask;
  const char *what;
  HostFinish *finish;
  void *mine;
  HostBarrier barrier; /* at which it waits */
  int part;            /* or the number of the barrier of a part of the block */
} Thread;

/* Asynchronous copies of a thread under way, and how many each group has; the last group is still open. */
typedef struct Copies {
  std::vector<Copy> copies;
  std::vector<size_t> groups;
} Copies;

typedef struct Warp { /* lanes that ... */
  uint32_t runnable;
  uint32_t meeting; /* wait for others of the warp */
  uint32_t blocked; /* wait for the block */
  uint32_t parted;  /* wait for a part of the block */
  uint32_t ended;
} Warp;

typedef struct Barrier { /* the one that threads wait at */
  HostBarrier kind;      /* of the first that arrived */
  bool mixed;            /* others came to another */
  int arrived, count;    /* count: of those that brought a value other than 0 */
  int answer;            /* of the last barrier */
} Barrier;

enum { PARTS = 16 };

typedef struct Part { /* a barrier of a part of the block */
  int arrived, threads;
} Part;

typedef struct Runner { /* of one OS thread */
  FibrePool *pool;
  const char *kernel; /* NULL: none runs */
  HostBody *body;
  const void *arguments;
  Thread thread[THREADS];
  Copies copies[THREADS];
  Warp warp[WARPS];
  Barrier barrier;
  Part part[PARTS];
  int threads, warps, ended;
  int current;      /* thread */
  int turn, cursor; /* the warp whose turn it is, and its lane that is next if it can go on */
  bool reverse;
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

static Fibre *runner_work(void *argument);

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

static void print_where(const Runner *r, int t) {
  uint3 at = r->thread[t].index;
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

static void describe(const Runner *r, int t, char *text, size_t size) {
  static const char *const barriers[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and",
                                         "__syncthreads_count"};
  const Warp *warp = &r->warp[t / warpSize];
  const Thread *thread = &r->thread[t];
  uint32_t lane = 1u << t % warpSize;
  if (warp->ended & lane) {
    snprintf(text, size, "has ended");
  } else if (warp->blocked & lane) {
    snprintf(text, size, "waits at %s", barriers[thread->barrier]);
  } else if (warp->parted & lane) {
    snprintf(text, size, "waits at barrier %d for %d threads", thread->part, r->part[thread->part].threads);
  } else if (warp->meeting & lane) {
    snprintf(text, size, "waits at %s, mask %08x", thread->what, thread->mask);
  } else {
    snprintf(text, size, "runs");
  }
}

/* Nobody can go on: says where the threads stand, neighbours that stand alike in one line. */
__attribute__((noreturn)) static void deadlock(const Runner *r) {
  int first = 0;
  while (r->warp[first / warpSize].ended >> first % warpSize & 1) first++;
  print_where(r, first);
  fputs(":\ncuda_host: deadlock, the threads wait for others that never come:\n", stderr);
  char text[160] = "", next[160] = "";
  for (int t = 0, from = 0; t <= r->threads; t++) {
    if (t < r->threads) describe(r, t, next, sizeof(next));
    if (t < r->threads && strcmp(text, next) == 0) continue;
    if (t > 0) fprintf(stderr, "cuda_host:   threads %d to %d: %s\n", from, t - 1, text);
    memcpy(text, next, sizeof(text));
    from = t;
  }
  fflush(stderr);
  abort();
}

/* -- meetings ------------------------------------------------------------------------------------------------ */

static Runner *running(const char *what) {
  if (!runner || !runner->kernel) host_fault("%s outside a kernel", what);
  return runner;
}

/* All that have not ended are at one barrier: they go on. */
static void finish_barrier(Runner *r) {
  Barrier *b = &r->barrier;
  int alive = r->threads - r->ended;
  if (b->arrived != alive || b->mixed) deadlock(r);
  b->answer = b->kind == BARRIER_OR ? b->count > 0 : b->kind == BARRIER_AND ? b->count == alive : b->count;
  b->arrived = b->count = 0;
  for (int w = 0; w < r->warps; w++) {
    r->warp[w].runnable = r->warp[w].blocked;
    r->warp[w].blocked = 0;
  }
}

static void turn_to(Runner *r, int warp) {
  r->turn = warp;
  r->cursor = r->reverse ? warpSize - 1 : 0;
}

/* In a warp whose turn has passed: after a barrier of a part of the block. */
static bool anyone_goes_on(const Runner *r) {
  for (int w = 0; w < r->warps; w++)
    if (r->warp[w].runnable) return true;
  return false;
}

/* Makes the thread whose turn it is the current one. False when all have ended. */
static bool pick(Runner *r) {
  for (;;) {
    Warp *warp = &r->warp[r->turn];
    uint32_t left = warp->runnable;
    if (left) {
      uint32_t ahead = left & (r->reverse ? ~0u >> (warpSize - 1 - r->cursor) : ~0u << r->cursor);
      if (!ahead) ahead = left;
      int lane = r->reverse ? 31 - __builtin_clz(ahead) : __builtin_ctz(ahead);
      warp->runnable = left & ~(1u << lane);
      r->cursor = (lane + (r->reverse ? warpSize - 1 : 1)) % warpSize;
      r->current = r->turn * warpSize + lane;
      threadIdx = r->thread[r->current].index;
      return true;
    }
    int next = r->turn + (r->reverse ? -1 : 1);
    if (next >= 0 && next < r->warps) {
      turn_to(r, next);
      continue;
    }
    if (r->ended == r->threads) return false;
    if (!anyone_goes_on(r)) finish_barrier(r);
    turn_to(r, r->reverse ? r->warps - 1 : 0);
  }
}

/* The fibre on which the current thread goes on, or begins. */
static Fibre *fibre_of_current(Runner *r) {
  Thread *thread = &r->thread[r->current];
  Fibre *fibre = thread->fibre ? thread->fibre : fibre_take(r->pool);
  thread->fibre = nullptr;
  return fibre;
}

/* The current thread waits until it is its turn again. */
static void give_way(Runner *r) {
  r->thread[r->current].fibre = fibre_running(r->pool);
  pick(r); /* somebody has not ended: this one */
  Fibre *next = fibre_of_current(r);
  if (next != fibre_running(r->pool)) fibre_switch(r->pool, next);
}

/* The lanes that the thread waits for are all at some meeting: if at this one, they go on. */
static void finish_meeting(Runner *r, Warp *warp, int base, const Thread *self) {
  void *brought[warpSize] = {};
  for (uint32_t left = self->mask; left; left &= left - 1) {
    int lane = __builtin_ctz(left);
    const Thread *other = &r->thread[base + lane];
    if (other->mask != self->mask || other->finish != self->finish) return;
    brought[lane] = other->mine;
  }
  self->finish(brought, self->mask);
  warp->meeting &= ~self->mask;
  warp->runnable |= self->mask;
}

void host_meet_warp(uint32_t mask, const char *what, HostFinish *finish, void *mine) {
  Runner *r = running(what);
  Thread *self = &r->thread[r->current];
  int lane = r->current % warpSize, base = r->current - lane;
  Warp *warp = &r->warp[base / warpSize];
  if (!(mask >> lane & 1)) host_fault("%s: mask %08x leaves out the calling lane %d", what, mask, lane);
  self->mask = mask;
  self->what = what;
  self->finish = finish;
  self->mine = mine;
  warp->meeting |= 1u << lane;
  if ((warp->meeting & mask) == mask) finish_meeting(r, warp, base, self);
  give_way(r);
}

int host_meet_block(enum HostBarrier kind, int value) {
  Runner *r = running("__syncthreads");
  Barrier *b = &r->barrier;
  r->thread[r->current].barrier = kind;
  r->warp[r->current / warpSize].blocked |= 1u << r->current % warpSize;
  if (b->arrived == 0) {
    b->kind = kind;
    b->mixed = false;
  }
  b->mixed = b->mixed || b->kind != kind;
  b->arrived++;
  b->count += value != 0;
  give_way(r);
  return b->answer;
}

void host_meet_threads(int barrier, int threads) {
  Runner *r = running("meet_threads");
  if (barrier < 1 || barrier >= PARTS || threads <= 0 || threads % warpSize || threads > r->threads)
    host_fault("meet_threads: barrier %d of %d threads, in a block of %d", barrier, threads, r->threads);
  Part *part = &r->part[barrier];
  if (part->arrived > 0 && part->threads != threads)
    host_fault("meet_threads: %d threads at barrier %d, where others wait for %d", threads, barrier,
               part->threads);
  part->threads = threads;
  r->thread[r->current].part = barrier;
  r->warp[r->current / warpSize].parted |= 1u << r->current % warpSize;
  if (++part->arrived == threads) {
    part->arrived = 0;
    for (int t = 0; t < r->threads; t++) {
      Warp *warp = &r->warp[t / warpSize];
      const uint32_t lane = 1u << t % warpSize;
      if (!(warp->parted & lane) || r->thread[t].part != barrier) continue;
      warp->parted &= ~lane;
      warp->runnable |= lane;
    }
  }
  give_way(r);
}

/* -- asynchronous copies ------------------------------------------------------------------------------------- */

void host_copy_async(void *shared, const void *global, bool valid) {
  Runner *r = running("copy_async_16");
  Copies *self = &r->copies[r->current];
  if ((uintptr_t)shared % 16) host_fault("copy_async_16: shared address %p is not 16-byte aligned", shared);
  if ((uintptr_t)global % 16) host_fault("copy_async_16: global address %p is not 16-byte aligned", global);
  host_check_shared(shared, 16, "copy_async_16");
  host_poison(shared, 16);
  if (self->groups.empty()) self->groups.push_back(0);
  self->groups.back()++;
  self->copies.push_back({shared, valid ? global : nullptr});
}

void host_copy_commit(void) {
  Runner *r = running("copy_async_commit");
  Copies *self = &r->copies[r->current];
  if (self->groups.empty()) self->groups.push_back(0);
  self->groups.push_back(0);
}

void host_copy_wait(int pending) {
  Runner *r = running("copy_async_wait");
  Copies *self = &r->copies[r->current];
  size_t closed = self->groups.empty() ? 0 : self->groups.size() - 1;
  if (closed <= (size_t)pending) return;
  size_t groups = closed - (size_t)pending, copies = 0;
  for (size_t i = 0; i < groups; i++) copies += self->groups[i];
  for (size_t i = 0; i < copies; i++) {
    static const char zeros[16] = {};
    memcpy(self->copies[i].to, self->copies[i].from ? self->copies[i].from : zeros, 16);
    host_wgmma_written(self->copies[i].to);
  }
  self->copies.erase(self->copies.begin(), self->copies.begin() + (ptrdiff_t)copies);
  self->groups.erase(self->groups.begin(), self->groups.begin() + (ptrdiff_t)groups);
}

/* -- running ------------------------------------------------------------------------------------------------- */

static void end_thread(Runner *r) {
  r->warp[r->current / warpSize].ended |= 1u << r->current % warpSize;
  r->ended++;
  r->copies[r->current].copies.clear();
  r->copies[r->current].groups.clear();
}

/* In a fibre: the current thread, and then those whose turn it is and that have not begun. Most kernels never
 * meet: their blocks need no switch but this one. */
static Fibre *runner_work(void *argument) {
  Runner *r = (Runner *)argument;
  do {
    r->body(r->arguments);
    end_thread(r);
    if (!pick(r)) return nullptr;
  } while (!r->thread[r->current].fibre);
  return fibre_of_current(r);
}

static void run_block(Runner *r) {
  for (int w = 0; w < r->warps; w++) {
    int lanes = r->threads - w * warpSize;
    r->warp[w] = {lanes >= warpSize ? ~0u : (1u << lanes) - 1, 0, 0, 0, 0};
  }
  memset(r->part, 0, sizeof(r->part));
  r->ended = 0;
  r->barrier.arrived = r->barrier.count = 0;
  turn_to(r, r->reverse ? r->warps - 1 : 0);
  if (pick(r)) fibre_switch(r->pool, fibre_take(r->pool));
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
  r->warps = (r->threads + warpSize - 1) / warpSize;
  for (int t = 0; t < r->threads; t++) {
    unsigned int n = (unsigned int)t;
    r->thread[t].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
  }
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
    host_wgmma_begin_block();
    run_block(r);
    host_wgmma_end_block(r->threads);
    size_t fixed = host_statics_end(address);
    if (i == 0 && shared > host_shared_limit(address, fixed)) {
      host_fault("%zu bytes of dynamic shared memory beside %zu in variables, and %zu are allowed", shared,
                 fixed, host_shared_limit(address, fixed));
    }
    ASAN_UNPOISON_MEMORY_REGION(r->shared + shared, SHARED_TAIL / 2);
    check_tail(r);
  }
  r->kernel = nullptr;
}

int host_thread(void) {
  return running("a thread's number")->current;
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
