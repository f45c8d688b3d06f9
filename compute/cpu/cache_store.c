/* Keys and values on their way into the paged cache of rollouts. */
#include "compute/cpu/cache.h"

#include "compute/cpu/vector.h"

#include <string.h>

static inline void cache_put(Tensor cache, int64_t offset, const float *row, int64_t size) {
  if (cache.dtype == DTYPE_F32) {
    memcpy((float *)cache.data + offset, row, (size_t)size * sizeof *row);
    return;
  }
  ASSERT(cache.dtype == DTYPE_BF16);
  for (int64_t d = 0; d < size; d += VEC) {
    int part = vec_part(size - d);
    vec_store_bf16_part((uint16_t *)cache.data + offset + d, vec_load_part(row + d, part), part);
  }
}

void CPU(cache_store)(Compute *c, PagedCache cache, Tensor k, Tensor v, Tensor sequence, Tensor position) {
  if (c->dry) return;
  int64_t rows = k.dim[0], heads = k.dim[1], size = k.dim[2];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * heads * size > SPAN)
  for (int64_t n = 0; n < rows; n++) {
    for (int64_t h = 0; h < heads; h++) {
      int64_t offset = cache_offset(cache, i32(sequence)[n], i32(position)[n], h);
      cache_put(cache.keys, offset, f32(k) + n * k.stride[0] + h * k.stride[1], size);
      cache_put(cache.values, offset, f32(v) + n * v.stride[0] + h * v.stride[1], size);
    }
  }
}

void CPU(rotary_cache_store)(Compute *c, PagedCache cache, Tensor q, Tensor k, Tensor v, Tensor sequence,
                             Tensor position, RotarySpec spec) {
  const Tensor qk[2] = {q, k}, both = tensor_beside(qk, 2); /* then their tables are made once */
  CPU(rotary)(c, tensor_is_none(both) ? q : both, position, spec, false);
  if (tensor_is_none(both)) CPU(rotary)(c, k, position, spec, false);
  CPU(cache_store)(c, cache, k, v, sequence, position);
}
