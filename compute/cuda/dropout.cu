/* Dropout by counted draws (DropoutSpec in ops.h): no mask is stored for the backward. The floor is the bytes read
 * and written; ten rounds of Philox an element come near it on cards with much bandwidth (an estimate). */
#include "compute/cuda/pointwise.cuh"
#include "compute/cuda/random.cuh"

namespace {

template <class T>
struct Dropout {
  Rows<T> out, x;
  const uint32_t *draws, *positions;
  RandomKey key;
  uint32_t site;
  uint32_t least; /* kept when the draw has at least this many units of 2^-24 */
  float scale;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Dropout<T> &op, int64_t row, int64_t column, int count) {
  float x[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
  const uint64_t sample = (uint64_t)op.draws[row] << 32 | op.positions[row];
  const uint64_t element = (uint64_t)op.site << 32 | (uint32_t)column;
#pragma unroll
  for (int i = 0; i < N; i++) {
    bool kept = random_units(op.key, sample, element + (uint64_t)i) >= op.least;
    x[i] = kept ? x[i] * op.scale : 0.0f;
  }
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

}  // namespace

extern "C" void cuda_dropout(Compute *c, Tensor out, Tensor x, DropoutSpec spec) {
  if (c->dry || tensor_count(x) == 0) return;
  ASSERT(spec.p >= 0 && spec.p < 1 && x.dtype == out.dtype && x.dim[1] <= UINT32_MAX);
  ASSERT(spec.draws.dim[0] == x.dim[0] && spec.positions.dim[0] == x.dim[0]);
  const bool many = x.dim[0] > 1;
  Walk w = {x.dim[0], x.dim[1], rows_aligned(out, many) && rows_aligned(x, many)};
  uint32_t least = (uint32_t)ceilf(spec.p * 0x1p24f); /* exact: draw * 2^-24 >= p */
  WITH_TYPE(out.dtype, T,
            walk_launch<PACK<T>>(c, w,
                                 Dropout<T>{rows_of<T>(out), rows_of<T>(x), (const uint32_t *)spec.draws.data,
                                            (const uint32_t *)spec.positions.data, spec.key, spec.site, least,
                                            1.0f / (1.0f - spec.p)}));
}
