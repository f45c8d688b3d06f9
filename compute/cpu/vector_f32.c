#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

const float *CPU(vector_f32)(Compute *c, Tensor vector) {
  if (tensor_is_none(vector) || vector.dtype == DTYPE_F32) return f32(vector);
  ASSERT(vector.dtype == DTYPE_BF16);
  int64_t n = tensor_count(vector);
  float *copy = scratch_floats(c, n);
  if (c->dry) return copy;
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    vec_store_part(copy + i, vec_load_bf16_part((const uint16_t *)vector.data + i, part), part);
  }
  return copy;
}
