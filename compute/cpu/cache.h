#ifndef COMPUTE_CPU_CACHE_H
#define COMPUTE_CPU_CACHE_H

#include "compute/cpu/cpu.h"

/* Where the cache holds `position` of `sequence` for key head `head`. */
static inline int64_t cache_offset(PagedCache cache, int64_t sequence, int64_t position, int64_t head) {
  int64_t block_size = cache.keys.dim[2];
  int64_t block = i32(cache.table)[sequence * cache.table.stride[0] + position / block_size];
  ASSERT(block >= 0 && block < cache.keys.dim[0]);
  return block * cache.keys.stride[0] + head * cache.keys.stride[1] +
         position % block_size * cache.keys.stride[2];
}

#endif
