/* Keys and values on their way into the paged cache of rollouts. */
#include "compute/cpu/cache.h"

#include "compute/cpu/vector.h"

#include <math.h>
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

/* The largest magnitude / 127; NaN for a row with an element that is not finite: as bits, magnitudes are in order, those last. */
static float row_scale(const float *row, int64_t size) {
  uint32_t most = 0;
  for (int64_t d = 0; d < size; d++) {
    uint32_t bits;
    memcpy(&bits, row + d, sizeof bits);
    bits &= 0x7fffffffU;
    most = bits > most ? bits : most;
  }
  float absmax;
  memcpy(&absmax, &most, sizeof absmax);
  return most < 0x7f800000U ? absmax / 127 : NAN;
}

static void cache_put_codes(Tensor codes, Tensor scales, int64_t slot, const float *row, int64_t size) {
  const float scale = row_scale(row, size);
  int8_t *out = (int8_t *)codes.data + slot * size;
  f32(scales)[slot] = scale;
  if (!(scale > 0)) {
    memset(out, 0, (size_t)size);
    return;
  }
  for (int64_t d = 0; d < size; d += VEC) {
    int part = vec_part(size - d);
    /* A scale too small for a float's full precision could make a quotient of more than 127. */
    Vec x = vec_round(vec_load_part(row + d, part) / vec_splat(scale));
    vec_store_i8_part(out + d, vec_max(vec_splat(-127.0f), vec_min(vec_splat(127.0f), x)), part);
  }
}

void CPU(cache_store)(Compute *c, PagedCache cache, Tensor k, Tensor v, Tensor sequence, Tensor position) {
  const bool codes = cache_check(cache);
  if (c->dry) return;
  int64_t rows = k.dim[0], heads = k.dim[1], size = k.dim[2];
  const Tensor places = codes ? cache.key_scales : cache.keys;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * heads * size > SPAN)
  for (int64_t n = 0; n < rows; n++) {
    for (int64_t h = 0; h < heads; h++) {
      int64_t offset = cache_offset(cache, places, i32(sequence)[n], i32(position)[n], h);
      const float *key = f32(k) + n * k.stride[0] + h * k.stride[1],
                  *value = f32(v) + n * v.stride[0] + h * v.stride[1];
      if (codes) {
        cache_put_codes(cache.keys, cache.key_scales, offset, key, size);
        cache_put_codes(cache.values, cache.value_scales, offset, value, size);
      } else {
        cache_put(cache.keys, offset, key, size);
        cache_put(cache.values, offset, value, size);
      }
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

void CPU(norm_rotary_cache_store)(Compute *c, PagedCache cache, NormTerms query, NormTerms key, Tensor v,
                                  Tensor sequence, Tensor position, RotarySpec spec, NormSpec norm) {
  CPU(norm_pair)(c, query, key, norm);
  CPU(rotary_cache_store)(c, cache, query.out, key.out, v, sequence, position, spec);
}
