/* Dropout whose mask is a function of (key, site, element): nothing is stored for the backward. The floor is the
 * bytes read and written; ten rounds of Philox an element come near it on cards with much bandwidth. */
#include "compute/cuda/pointwise.cuh"
#include "compute/cuda/random.cuh"

template <class T>
struct Dropout {
  Rows<T> out, x;
  RandomKey key;
  uint64_t site;
  int64_t columns;
  uint32_t least; /* kept when the draw has at least this many units of 2^-24 */
  float scale;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Dropout<T> &op, int64_t row, int64_t column, int count) {
  float x[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
  uint64_t element = (uint64_t)(row * op.columns + column);
#pragma unroll
  for (int i = 0; i < N; i++) {
    bool kept = random_units(op.key, op.site, element + (uint64_t)i) >= op.least;
    x[i] = kept ? x[i] * op.scale : 0.0f;
  }
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

extern "C" void cuda_dropout(Compute *c, Tensor out, Tensor x, float p, RandomKey key, uint64_t site) {
  if (c->dry) return;
  ASSERT(p >= 0 && p < 1 && x.dtype == out.dtype);
  Walk w = walk_of(out, x);
  uint32_t least = (uint32_t)ceilf(p * 0x1p24f); /* exact: draw * 2^-24 >= p */
  float scale = 1.0f / (1.0f - p);
  WITH_TYPE(out.dtype, T,
            walk_launch<PACK<T>>(
                c, w, Dropout<T>{rows_of<T>(out), rows_of<T>(x), key, site, w.columns, least, scale}));
}
