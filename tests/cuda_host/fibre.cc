#include "tests/cuda_host/fibre.h"

#include <boost/context/detail/fcontext.hpp>

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 512 << 10 };
#else
enum { STACK_BYTES = 128 << 10 };
#endif

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

struct Fibre {
  fcontext_t at; /* where it waits */
  char *stack;   /* lowest byte; a guard page lies below */
  bool done;
  void *shadow; /* the sanitizer's */
  Fibre *next;  /* in the list of all, and in the list of idle ones */
  Fibre *next_idle;
  FibrePool *pool;
};

struct FibrePool {
  void (*work)(void *argument);
  void *argument;
  Fibre *all, *idle, *running;
  fcontext_t home; /* where the OS thread waits */
  const void *home_stack;
  size_t home_bytes;
  void *home_shadow;
};

FibrePool *fibre_pool_new(void (*work)(void *argument), void *argument) {
  FibrePool *pool = (FibrePool *)calloc(1, sizeof(*pool));
  if (!pool) abort();
  pool->work = work;
  pool->argument = argument;
  return pool;
}

static size_t page_bytes(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

void fibre_pool_free(FibrePool *pool) {
  if (!pool) return;
  for (Fibre *f = pool->all; f;) {
    Fibre *next = f->next;
    munmap(f->stack - page_bytes(), STACK_BYTES + page_bytes());
    free(f);
    f = next;
  }
  free(pool);
}

/* -- switching, with word to the sanitizer about the change of stacks --------------------------------------- */

static void leave_home(FibrePool *pool, Fibre *f) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&pool->home_shadow, f->stack, STACK_BYTES);
#endif
  transfer_t back = jump_fcontext(f->at, f);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(pool->home_shadow, nullptr, nullptr);
#else
  (void)pool;
#endif
  f->at = back.fctx;
}

static void arrived(FibrePool *pool, Fibre *f, transfer_t from) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(f->shadow, &pool->home_stack, &pool->home_bytes);
#else
  (void)f;
#endif
  pool->home = from.fctx;
}

static void go_home(FibrePool *pool, Fibre *f) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&f->shadow, pool->home_stack, pool->home_bytes);
#endif
  arrived(pool, f, jump_fcontext(pool->home, f));
}

static void fibre_main(transfer_t from) {
  Fibre *f = (Fibre *)from.data;
  arrived(f->pool, f, from);
  for (;;) {
    f->pool->work(f->pool->argument);
    f->done = true;
    go_home(f->pool, f);
  }
}

/* -- the pool ------------------------------------------------------------------------------------------------ */

Fibre *fibre_take(FibrePool *pool) {
  Fibre *f = pool->idle;
  if (f) {
    pool->idle = f->next_idle;
    return f;
  }
  f = (Fibre *)calloc(1, sizeof(*f));
  size_t page = page_bytes();
  void *stack = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (!f || stack == MAP_FAILED || mprotect(stack, page, PROT_NONE)) {
    perror("cuda_host: stack of a thread");
    abort();
  }
  f->stack = (char *)stack + page;
  f->pool = pool;
  f->at = make_fcontext(f->stack + STACK_BYTES, STACK_BYTES, fibre_main);
  f->next = pool->all;
  pool->all = f;
  return f;
}

bool fibre_enter(FibrePool *pool, Fibre *fibre) {
  pool->running = fibre;
  fibre->done = false;
  leave_home(pool, fibre);
  if (!fibre->done) return false;
  fibre->next_idle = pool->idle;
  pool->idle = fibre;
  return true;
}

void fibre_wait(FibrePool *pool) {
  go_home(pool, pool->running);
}
