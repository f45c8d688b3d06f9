/* A paged cache as kernels are told of it. */
#ifndef COMPUTE_CUDA_PAGED_CUH
#define COMPUTE_CUDA_PAGED_CUH

#include "compute/cuda/kernel.cuh"

/* Whose strides lead to a key of the cache, and to its value: keys in elements; or for codes their scales, so in keys. */
static inline Tensor cache_places(PagedCache cache) {
  const Tensor k = cache.keys, v = cache.values;
  ASSERT(k.dtype == v.dtype);
  for (int i = 0; i < 3; i++) ASSERT(k.stride[i] == v.stride[i]);
  if (k.dtype != DTYPE_I8) return k;
  ASSERT(tensor_is_contiguous(k) && tensor_is_contiguous(v) && tensor_is_contiguous(cache.key_scales) &&
         tensor_is_contiguous(cache.value_scales));
  return cache.key_scales;
}

#endif
