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
  void *shadow;  /* the sanitizer's */
  Fibre *next;   /* in the list of all */
  Fibre *next_idle;
};

struct FibrePool {
  Fibre *(*work)(void *argument);
  void *argument;
  Fibre *all, *idle, *running;
  int count;
  fcontext_t *leaving; /* where to keep the place that is being left */
  fcontext_t home;     /* where the OS thread waits */
  const void *home_stack;
  size_t home_bytes;
  void *home_shadow;
};

FibrePool *fibre_pool_new(Fibre *(*work)(void *argument), void *argument) {
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

static void arrive(FibrePool *pool, Fibre *self, fcontext_t from, bool from_home) {
#ifdef __SANITIZE_ADDRESS__
  const void *stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self ? self->shadow : pool->home_shadow, &stack, &bytes);
  if (from_home) {
    pool->home_stack = stack;
    pool->home_bytes = bytes;
  }
#else
  (void)from_home;
#endif
  *pool->leaving = from;
  pool->running = self;
}

void fibre_switch(FibrePool *pool, Fibre *to) {
  Fibre *self = pool->running;
  pool->leaving = self ? &self->at : &pool->home;
  pool->running = to;
#ifdef __SANITIZE_ADDRESS__
  void **shadow = self ? &self->shadow : &pool->home_shadow;
  __sanitizer_start_switch_fiber(shadow, to ? to->stack : pool->home_stack,
                                 to ? (size_t)STACK_BYTES : pool->home_bytes);
#endif
  transfer_t from = jump_fcontext(to ? to->at : pool->home, pool);
  arrive(pool, self, from.fctx, pool->leaving == &pool->home);
}

static void fibre_main(transfer_t from) {
  FibrePool *pool = (FibrePool *)from.data;
  Fibre *self = pool->running;
  arrive(pool, self, from.fctx, pool->leaving == &pool->home);
  for (;;) {
    Fibre *next = pool->work(pool->argument);
    self->next_idle = pool->idle;
    pool->idle = self;
    fibre_switch(pool, next);
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
  /* Not all at the same place of a page: they would contend for the same lines of the cache. */
  size_t colour = (size_t)(pool->count++ * 5 % 64) * 64;
  f->at = make_fcontext(f->stack + STACK_BYTES - colour, STACK_BYTES - colour, fibre_main);
  f->next = pool->all;
  pool->all = f;
  return f;
}

Fibre *fibre_running(const FibrePool *pool) {
  return pool->running;
}
