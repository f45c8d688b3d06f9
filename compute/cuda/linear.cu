/* Linear layers: matrix products (product.cu), and the gradient of the bias.
 *
 * bf16 activations and weights are multiplied as they are, with fp32 sums; gradients of weights accumulate in F32.
 * Where dtypes differ (a score head that was kept in F32), the product widens as it reads. */
#include "compute/cuda/blocks.cuh"
#include "compute/cuda/product.cuh"

#include "compute/linear_adapted.h"

namespace {

static const Tensor none = {};

static void check_shapes(Tensor x, Tensor y, Weight w) {
  ASSERT(x.rank == 2 && y.rank == 2 && w.data.rank == 2);
  ASSERT(x.dim[0] == y.dim[0] && x.dim[1] == weight_inputs(w) && y.dim[1] == weight_outputs(w));
}

/* -- gradient of the bias ------------------------------------------------------------------------------- */

/* Column sums in two stages, each in the order of the rows. A block of the first takes SUM_ROWS rows and
 * 32 * WIDTH columns: its SUM_THREADS / 32 warps read rows in turn, whole lines at a time, and are added up in
 * order. The second adds up the blocks' sums, which are few. The floor is one reading of dy. */
enum { SUM_ROWS = 128, SUM_WARPS = 8 };

template <class T, int WIDTH>
__global__ void __launch_bounds__(SUM_WARPS *WARP)
    column_sums_kernel(float *sums, const T *dy, int64_t stride, int64_t rows, int64_t columns) {
  __shared__ float part[SUM_WARPS][WARP * WIDTH];
  const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
  const int64_t column = (int64_t)blockIdx.y * WARP * WIDTH + lane * WIDTH;
  const int64_t first = (int64_t)blockIdx.x * SUM_ROWS,
                end = rows - first < SUM_ROWS ? rows : first + SUM_ROWS;
  float sum[WIDTH] = {};
  if (column < columns) {
#pragma unroll 4
    for (int64_t t = first + warp; t < end; t += SUM_WARPS) {
      const Pack<T, WIDTH> y = load_pack<T, WIDTH>(dy + t * stride + column);
#pragma unroll
      for (int i = 0; i < WIDTH; i++) sum[i] += to_float(y.at[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) part[warp][lane * WIDTH + i] = sum[i];
  __syncthreads();
  for (int i = (int)threadIdx.x; i < WARP * WIDTH; i += SUM_WARPS * WARP) {
    const int64_t at = (int64_t)blockIdx.y * WARP * WIDTH + i;
    float total = 0;
#pragma unroll
    for (int k = 0; k < SUM_WARPS; k++) total += part[k][i];
    if (at < columns) sums[blockIdx.x * columns + at] = total;
  }
}

__global__ void add_sums_kernel(float *dbias, const float *sums, int64_t blocks, int64_t columns) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= columns) return;
  float total = 0;
  for (int64_t b = 0; b < blocks; b++) total += sums[b * columns + i];
  dbias[i] += total;
}

template <class T, int WIDTH>
static void sum_columns(Compute *c, float *sums, Tensor dy) {
  const dim3 grid((unsigned)divide_up(dy.dim[0], SUM_ROWS), (unsigned)divide_up(dy.dim[1], WARP * WIDTH));
  LAUNCH(c, (column_sums_kernel<T, WIDTH>), grid, SUM_WARPS * WARP, 0, sums, data<T>(dy), dy.stride[0],
         dy.dim[0], dy.dim[1]);
}

template <class T>
static void sum_columns_at_width(Compute *c, float *sums, Tensor dy) {
  constexpr int WIDTH = 16 / sizeof(T);
  const bool wide =
      (uintptr_t)dy.data % 16 == 0 && dy.dim[1] % WIDTH == 0 && (dy.dim[0] == 1 || dy.stride[0] % WIDTH == 0);
  if (wide) {
    sum_columns<T, WIDTH>(c, sums, dy);
  } else {
    sum_columns<T, 1>(c, sums, dy);
  }
}

static void add_column_sums(Compute *c, Tensor dbias, Tensor dy) {
  ASSERT(dbias.dtype == DTYPE_F32);
  const int64_t blocks = divide_up(dy.dim[0], SUM_ROWS), columns = dy.dim[1];
  const size_t mark = scratch_open(c);
  float *sums = scratch_new<float>(c, blocks * columns);
  if (!c->dry && blocks > 0) {
    WITH_TYPE(dy.dtype, T, sum_columns_at_width<T>(c, sums, dy));
    LAUNCH(c, add_sums_kernel, (unsigned)divide_up(columns, 256), 256, 0, data<float>(dbias), sums, blocks,
           columns);
  }
  scratch_close(c, mark);
}

/* As cuda_linear_rows, by weights of any dtype. */
static void linear_rows(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta,
                        const AdapterTerm *terms, int count) {
  if (cuda_linear_rows_nf4(c, out, x, w, bias, alpha, beta, terms, count)) return;
  const size_t mark = scratch_open(c);
  cuda_linear_rows(c, out, x, cuda_plain_weight(c, w), bias, alpha, beta, terms, count);
  scratch_close(c, mark);
}

}  // namespace

extern "C" void cuda_linear(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha,
                            float beta) {
  check_shapes(x, out, w);
  if (c->row_invariant) return linear_rows(c, out, x, w, bias, alpha, beta, nullptr, 0);
  const size_t mark = scratch_open(c);
  const Weight plain = cuda_plain_weight(c, w);
  cuda_product(c, out, x, false, plain.data, !plain.transposed, bias, alpha, beta);
  scratch_close(c, mark);
}

extern "C" void cuda_linear_add(Compute *c, Tensor out, Tensor addend, Tensor x, Weight w, Tensor bias,
                                float alpha) {
  check_shapes(x, out, w);
  ASSERT(!c->row_invariant);
  const size_t mark = scratch_open(c);
  const Weight plain = cuda_plain_weight(c, w);
  cuda_product_add(c, out, addend, x, false, plain.data, !plain.transposed, bias, alpha, 1.0f);
  scratch_close(c, mark);
}

extern "C" void cuda_linear_adapted(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias,
                                    const AdapterTerm *terms, int count, float beta) {
  check_shapes(x, out, w);
  if (c->row_invariant && cuda_linear_rows_adapts(x, w, terms, count)) {
    linear_rows(c, out, x, w, bias, 1, beta, terms, count);
  } else {
    linear_adapted_in_steps(cuda_linear, c, out, x, w, bias, terms, count, beta);
  }
}

extern "C" void cuda_linear_backward_input(Compute *c, Tensor dx, Tensor dy, Weight w, float alpha,
                                           float beta) {
  check_shapes(dx, dy, w);
  const size_t mark = scratch_open(c);
  const Weight plain = cuda_plain_weight(c, w);
  cuda_product(c, dx, dy, false, plain.data, plain.transposed, none, alpha, beta);
  scratch_close(c, mark);
}

extern "C" void cuda_linear_backward_weight(Compute *c, Weight dw, Tensor dbias, Tensor dy, Tensor x,
                                            float alpha) {
  if (!tensor_is_none(dw.data) && dy.dim[0] > 0) {
    check_shapes(x, dy, dw);
    ASSERT(dw.data.dtype == DTYPE_F32);
    const Tensor left = dw.transposed ? x : dy, right = dw.transposed ? dy : x;
    cuda_product(c, dw.data, left, true, right, false, none, alpha, 1.0f);
  }
  if (!tensor_is_none(dbias)) add_column_sums(c, dbias, dy);
}
