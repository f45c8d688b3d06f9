#include "base/arena.h"

#include <stdint.h>
#include <sys/mman.h>

/* Under the address sanitizer released blocks, and the bytes between a block and the next, may not be touched:
 * that finds the use of memory after its release and most overruns. What was never handed out is left open, so
 * that a test can fill it with rubbish first; borrowed memory is its owner's. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)   ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

enum { ARENA_ALIGNMENT = 64 };

/* Dry addresses start here: outside what x86-64 and AArch64 can map, so that a touched one faults at once. */
#define DRY_BASE ((char *)(uintptr_t)0x8000000000000000u)

static size_t aligned(size_t bytes) {
  return (bytes + (ARENA_ALIGNMENT - 1)) & ~(size_t)(ARENA_ALIGNMENT - 1);
}

void arena_init_dry(Arena *arena, const char *name) {
  *arena = (Arena){.name = name, .base = DRY_BASE, .capacity = SIZE_MAX, .dry = true};
}

bool arena_init(Arena *arena, const char *name, size_t capacity, Error *error) {
  *arena = (Arena){.name = name};
  if (capacity == 0) return true;
  /* mmap: page-aligned, zero cost until touched, and a failure is reported instead of over-promised. */
  void *base = MAP_FAILED;
  if (capacity <= SIZE_MAX - ARENA_ALIGNMENT) {
    base = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (base == MAP_FAILED) return error_out_of_memory(error, name, capacity);
  madvise(base, capacity, MADV_HUGEPAGE); /* a hint: fewer TLB misses; refusal is harmless */
  arena->base = base;
  arena->capacity = capacity;
  arena->owned = true;
  return true;
}

void arena_init_over(Arena *arena, const char *name, void *base, size_t capacity) {
  ASSERT((uintptr_t)base % ARENA_ALIGNMENT == 0);
  *arena = (Arena){.name = name, .base = base, .capacity = capacity};
}

void arena_free(Arena *arena) {
  if (arena->owned) {
    ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->capacity); /* the addresses may be mapped anew */
    munmap(arena->base, arena->capacity);
  }
  *arena = (Arena){0};
}

void *arena_alloc(Arena *arena, size_t bytes) {
  ASSERT(bytes <= SIZE_MAX - ARENA_ALIGNMENT);
  size_t start = aligned(arena->used);
  ASSERT(start <= arena->capacity && bytes <= arena->capacity - start);
  arena->used = start + bytes;
  if (arena->used > arena->peak) arena->peak = arena->used;
  /* Integer arithmetic: a dry address is no object that a pointer may be moved in. */
  void *block = (void *)((uintptr_t)arena->base + start);
  if (arena->owned) {
    size_t end = aligned(arena->used);
    if (end > arena->capacity) end = arena->capacity;
    ASAN_POISON_MEMORY_REGION(block, end - start);
    ASAN_UNPOISON_MEMORY_REGION(block, bytes);
  }
  return block;
}

void arena_unite(void *first, size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(first, bytes);
}

size_t arena_mark(const Arena *arena) {
  return arena->used;
}

void arena_release(Arena *arena, size_t mark) {
  ASSERT(mark <= arena->used);
  if (arena->owned) ASAN_POISON_MEMORY_REGION(arena->base + mark, arena->used - mark);
  arena->used = mark;
}

void arena_join(Arena *arena, size_t mark) {
  if (arena->used < mark) arena->used = mark;
  if (arena->owned) ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->used);
}
