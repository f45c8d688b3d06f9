#ifndef COMPUTE_CPU_CACHE_H
#define COMPUTE_CPU_CACHE_H

#include "compute/cpu/cpu.h"

/* Whether it is of codes with scales; what a caller has to keep to is asserted. */
static inline bool cache_check(PagedCache cache) {
  const bool codes = cache.keys.dtype == DTYPE_I8;
  ASSERT(cache.keys.dtype == cache.values.dtype);
  ASSERT(!codes || (tensor_is_contiguous(cache.keys) && tensor_is_contiguous(cache.values) &&
                    tensor_is_contiguous(cache.key_scales) && tensor_is_contiguous(cache.value_scales)));
  return codes;
}

/* Where x, keys or values or the scales of either, holds `position` of `sequence` for key head `head`. */
static inline int64_t cache_offset(PagedCache cache, Tensor x, int64_t sequence, int64_t position,
                                   int64_t head) {
  int64_t block_size = cache.keys.dim[2];
  int64_t block = i32(cache.table)[sequence * cache.table.stride[0] + position / block_size];
  ASSERT(block >= 0 && block < cache.keys.dim[0]);
  return block * x.stride[0] + head * x.stride[1] + position % block_size * x.stride[2];
}

#endif
