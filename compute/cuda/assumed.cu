/* A card that is not there, for plans alone (compute_assume_card): its table has the operations of the real one, whose dry
 * runs ask for the workspace that they would take on a card. Some of them ask by the size of the card, which is that of
 * a large consumer card here (compute capability 8.9); the rest of the plan depends on no card. */
#include "compute/cuda/kernel.cuh"

#include <cstdio>

extern "C" {
#include "base/memory.h"
}

enum { ASSUMED_MULTIPROCESSORS = 128, ASSUMED_CAPABILITY = 89, ASSUMED_SHARED = 99 << 10 };

/* What driver and libraries take: 300 to 600 MiB for the context on the cards known, and cuBLAS's workspace. */
static const size_t assumed_overhead = (size_t)544 << 20;

bool cuda_assumed_open(Compute *c, Error *error) {
  Device *d = c->device = (Device *)memory_zeroed(1, sizeof(Device));
  if (!d) return error_out_of_memory(error, "the device", sizeof(Device));
  d->multiprocessors = ASSUMED_MULTIPROCESSORS;
  d->capability = ASSUMED_CAPABILITY;
  d->shared_per_block = ASSUMED_SHARED;
  d->memory.total = c->memory_limit;
  d->memory.overhead = d->memory.used = assumed_overhead;
  d->memory.free = c->memory_limit > assumed_overhead ? c->memory_limit - assumed_overhead : 0;
  snprintf(d->description, sizeof d->description, "cuda (no card; assumed: sm_%d, %d multiprocessors)",
           d->capability, d->multiprocessors);
  return true;
}

void cuda_assumed_close(Compute *c) {
  memory_free(c->device);
  c->device = NULL;
}

/* No memory: what follows must be another dry run. */
bool cuda_assumed_arena(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error) {
  (void)c, (void)error;
  arena_init_dry(arena, name);
  arena->peak = bytes;
  return true;
}

DeviceMemory cuda_assumed_memory(const Compute *c) {
  return c->device->memory;
}
