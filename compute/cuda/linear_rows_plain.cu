/* The linear of rollouts for F32 (and for F32 with BF16) factors: plain multiply-adds, for parity with the CPU and
 * for small fp32 models. As in linear_rows.cu, a warp has a slice of K; a lane has one output and ROWS rows of x,
 * whose chains it carries in registers. Weights pass through shared memory so that a warp reads 128 bytes of one
 * row at once. Floor: reading W once with few rows, the rate of the fp32 units with many. */
#include "compute/cuda/linear_rows.cuh"

namespace {

enum {
  PLAIN_OUTPUTS = WARP,
  PLAIN_STEP = 32,
  PLAIN_THREADS = SLICES * WARP,
  PLAIN_W_STRIDE = PLAIN_STEP + 1
};

/* Floats of a warp: a step of weights and one of rows. */
template <int ROWS>
constexpr int plain_floats() {
  return PLAIN_OUTPUTS * PLAIN_W_STRIDE + ROWS * PLAIN_STEP;
}

template <class W, bool TRANSPOSED>
__device__ __forceinline__ void bring_weights(const RowsCall &call, float *tile, int output, int k,
                                              int lane) {
  const W *w = (const W *)call.w;
#pragma unroll 16
  for (int i = 0; i < WARP; i++) {
    const int o = TRANSPOSED ? lane : i, at = TRANSPOSED ? i : lane; /* lanes side by side in memory */
    const bool valid = output + o < call.outputs && k + at < call.inputs;
    const int64_t offset =
        TRANSPOSED ? (k + at) * call.w_stride + output + o : (output + o) * call.w_stride + k + at;
    tile[o * PLAIN_W_STRIDE + at] = valid ? to_float(w[offset]) : 0.0f;
  }
}

template <class X, int ROWS>
__device__ __forceinline__ void bring_rows(const RowsCall &call, float *tile, int64_t row, int k, int lane) {
  const X *x = (const X *)call.x + row * call.x_stride + k;
#pragma unroll 8
  for (int i = 0; i < ROWS; i++) {
    const bool valid = row + i < call.rows && k + lane < call.inputs;
    tile[i * PLAIN_STEP + lane] = valid ? to_float(x[i * call.x_stride + lane]) : 0.0f;
  }
}

template <class X, class W, bool TRANSPOSED, int ROWS>
__global__ void __launch_bounds__(PLAIN_THREADS) linear_rows_plain_kernel(const RowsCall call) {
  SHARED_MEMORY(float, shared);
  const int64_t row_tiles = (call.rows + ROWS - 1) / ROWS, row = (int64_t)blockIdx.x % row_tiles * ROWS;
  const int output = (int)(blockIdx.x / row_tiles) * PLAIN_OUTPUTS;
  const int slice = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
  float *x = shared + slice * ROWS * PLAIN_STEP; /* 16-byte aligned; the weights need not be */
  float *w = shared + SLICES * ROWS * PLAIN_STEP + slice * PLAIN_OUTPUTS * PLAIN_W_STRIDE;
  float sum[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) sum[i] = 0;
  const int end = slice_edge(call.inputs, slice + 1) * SLICE_UNIT;
  for (int k = slice_edge(call.inputs, slice) * SLICE_UNIT; k < end; k += PLAIN_STEP) {
    bring_weights<W, TRANSPOSED>(call, w, output, k, lane);
    bring_rows<X, ROWS>(call, x, row, k, lane);
    __syncwarp();
#pragma unroll 2
    for (int i = 0; i < PLAIN_STEP; i += 4) {
      float four[4];
#pragma unroll
      for (int j = 0; j < 4; j++) four[j] = w[lane * PLAIN_W_STRIDE + i + j];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const Pack<float, 4> xs = load_pack<float, 4>(x + r * PLAIN_STEP + i);
#pragma unroll
        for (int j = 0; j < 4; j++) sum[r] = fmaf(xs.at[j], four[j], sum[r]);
      }
    }
    __syncwarp();
  }
  __syncthreads();
  constexpr int STRIDE = sums_stride<PLAIN_OUTPUTS>();
#pragma unroll
  for (int i = 0; i < ROWS; i++) shared[(slice * ROWS + i) * STRIDE + lane] = sum[i];
  __syncthreads();
  finish_tile<SLICES, ROWS, PLAIN_OUTPUTS, PLAIN_THREADS, false>(call, shared, row, output);
}

template <class X, class W, bool TRANSPOSED, int ROWS>
static void launch_rows(Compute *c, const RowsCall &call) {
  constexpr size_t SHARED = sizeof(float) * SLICES * plain_floats<ROWS>();
  static_assert(SHARED >= sizeof(float) * SLICES * ROWS * sums_stride<PLAIN_OUTPUTS>(), "the sums fit");
  const int64_t blocks = divide_up(call.outputs, PLAIN_OUTPUTS) * divide_up(call.rows, ROWS);
  LAUNCH(c, (linear_rows_plain_kernel<X, W, TRANSPOSED, ROWS>), dim3((unsigned)blocks), dim3(PLAIN_THREADS),
         SHARED, call);
}

template <class X, class W>
static void launch_plain(Compute *c, const RowsCall &call, bool transposed) {
  if (call.rows <= 8) {
    transposed ? launch_rows<X, W, true, 8>(c, call) : launch_rows<X, W, false, 8>(c, call);
  } else {
    transposed ? launch_rows<X, W, true, 32>(c, call) : launch_rows<X, W, false, 32>(c, call);
  }
}

}  // namespace

void linear_rows_plain(Compute *c, const RowsCall &call, DType x, DType w, bool transposed) {
  ASSERT(x == DTYPE_F32 || x == DTYPE_BF16);
  ASSERT(w == DTYPE_F32 || w == DTYPE_BF16);
  if (x == DTYPE_F32) {
    WITH_TYPE(w, W, launch_plain<float, W>(c, call, transposed));
  } else {
    ASSERT(w == DTYPE_F32);
    launch_plain<bf16, float>(c, call, transposed);
  }
}
