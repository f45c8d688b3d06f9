/* Arenas: memory with one lifetime (run, step, rollout, scratch), taken once and handed out in order.
 *
 * Memory is planned, then allocated once (DESIGN decision 6). A dry arena hands out addresses that must never
 * be touched and only counts; running the same code with a dry arena and Compute.dry gives `peak`, and
 * arena_init with that many bytes then serves the real run. Asking a real arena for more than it has is a
 * caller bug (the plan was wrong) and asserts.
 *
 * Blocks are aligned to 64 bytes and uninitialised. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/error.h"

#include <stddef.h>

typedef struct Arena {
  const char *name; /* shown in the memory plan; borrowed, static */
  char *base;
  size_t capacity; /* bytes; SIZE_MAX when dry */
  size_t used;
  size_t peak; /* highest `used` ever */
  bool dry;
  bool owned; /* base came from arena_init and is unmapped by arena_free */
} Arena;

void arena_init_dry(Arena *arena, const char *name);
NODISCARD bool arena_init(Arena *arena, const char *name, size_t capacity, Error *error);
void arena_init_over(Arena *arena, const char *name, void *base, size_t capacity); /* base is borrowed */
void arena_free(Arena *arena);

void *arena_alloc(Arena *arena, size_t bytes);
/* Blocks that lie together are used as one, with what is between them: `bytes` from the first on. */
void arena_unite(void *first, size_t bytes);

/* Stack discipline: everything allocated after the mark is given back by the release. */
size_t arena_mark(const Arena *arena);
void arena_release(Arena *arena, size_t mark);
/* What was handed out up to the mark, released, and handed out again belongs to both owners, who take turns with it. */
void arena_join(Arena *arena, size_t mark);

#endif
