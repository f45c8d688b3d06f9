/* Dropout by counted draws (DropoutSpec in ops.h): no mask is stored for the backward. The floor is the bytes read
 * and written, beside which ten rounds of Philox for four elements are little (an estimate). */
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
  float scale, beta;
};

/* Row `row` at columns `column` .. column+N-1, N a multiple of 4 or a lone column. */
template <int N, class T>
__device__ __forceinline__ void draw_units(const Dropout<T> &op, int64_t row, int64_t column,
                                           uint32_t *units) {
  const uint64_t sample = (uint64_t)op.draws[row] << 32 | op.positions[row];
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    uint32_t word[4];
    philox_words(op.key, sample, (uint64_t)op.site << 32 | (uint32_t)((column + i) / 4), word);
    if (N == 1) {
      const int place = (int)(column % 4);
      units[0] = (place < 2 ? (place == 0 ? word[0] : word[1]) : (place == 2 ? word[2] : word[3])) >> 8;
    } else {
#pragma unroll
      for (int k = 0; k < 4; k++) units[i + k] = word[k] >> 8;
    }
  }
}

template <int N, class T>
__device__ __forceinline__ void apply(const Dropout<T> &op, int64_t row, int64_t column, int count) {
  float x[N], before[N] = {};
  uint32_t units[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
  if (op.beta != 0) load_floats<N>(before, row_of(op.out, row) + column, count);
  draw_units<N>(op, row, column, units);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] = units[i] >= op.least ? x[i] * op.scale : 0.0f;
    if (op.beta != 0) x[i] = fmaf(op.beta, before[i], x[i]);
  }
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

}  // namespace

extern "C" void cuda_dropout(Compute *c, Tensor out, Tensor x, DropoutSpec spec, float beta) {
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
                                            1.0f / (1.0f - spec.p), beta}));
}
