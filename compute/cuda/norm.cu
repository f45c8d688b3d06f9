/* LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019) over the last dimension.
 *
 * A row stays in the registers of the threads that share it (a part of a warp for the heads of a norm per head,
 * up to 1024 threads for the widest), so that it is read once: the floor is reading x and writing out, backward
 * reading dy and x and writing dx. Rows that cannot be read by 16 bytes take the plain kernels below. */
#include "compute/cuda/norm_row.cuh"

namespace {

template <class T>
struct NormBackward {
  HeadRows<T> dx;
  HeadRows<const T> dy, x;
  int rows, heads, columns;
  const float *mean, *rstd; /* mean: NULL for RMSNorm */
  Vector weight;
  float weight_offset, beta;
  float *weight_parts, *bias_parts; /* [blocks, columns], or NULL */
};

/* -- forward -------------------------------------------------------------------------------------------- */

/* The block's rows. THREADS threads to a row, PACKS packs of N elements to a thread. */
template <class T, int N, int THREADS, int PACKS>
__device__ __forceinline__ void norm_rows(const Norm<T> &a) {
  const int lane = (int)threadIdx.x % THREADS;
  const int row = (int)blockIdx.x * NORM_ROWS<THREADS> + (int)threadIdx.x / THREADS;
  const bool live = row < a.rows;
  float v[PACKS][N], mean, rstd;
  norm_row<T, N, THREADS, PACKS>(v, &mean, &rstd, a, row_of(a.x, a.heads, live ? row : 0), lane, live);
  if (!live) return;
  if (lane == 0 && a.mean) a.mean[row] = mean;
  if (lane == 0 && a.rstd) a.rstd[row] = rstd;
  T *out = row_of(a.out, a.heads, row);
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
    const int i = (k * THREADS + lane) * N;
    if (i < a.columns) store_floats<N>(out + i, v[k], N);
  }
}

template <class T, int N, int THREADS, int PACKS>
__global__ void __launch_bounds__(NORM_BLOCK<THREADS>) norm_kernel(Norm<T> a) {
  norm_rows<T, N, THREADS, PACKS>(a);
}

template <class T>
struct NormPair {
  Norm<T> part[2];
};

template <class T, int N, int THREADS, int PACKS>
__global__ void __launch_bounds__(NORM_BLOCK<THREADS>) norm_pair_kernel(NormPair<T> a) {
  norm_rows<T, N, THREADS, PACKS>(a.part[blockIdx.y]);
}

/* Any row: a block to each, read again for each sum. */
template <class T>
__global__ void norm_plain_kernel(Norm<T> a) {
  int row = (int)blockIdx.x;
  const T *x = row_of(a.x, a.heads, row);
  T *out = row_of(a.out, a.heads, row);
  float sum = 0, squares = 0, mean = 0;
  if (a.layer) {
    for (int i = (int)threadIdx.x; i < a.columns; i += NORM_THREADS) sum += to_float(x[i]);
    mean = block_sum<NORM_THREADS>(sum) / (float)a.columns;
  }
  for (int i = (int)threadIdx.x; i < a.columns; i += NORM_THREADS) {
    float d = to_float(x[i]) - mean;
    squares += d * d;
  }
  float rstd = 1.0f / sqrtf(block_sum<NORM_THREADS>(squares) / (float)a.columns + a.eps);
  if (threadIdx.x == 0 && a.mean) a.mean[row] = mean;
  if (threadIdx.x == 0 && a.rstd) a.rstd[row] = rstd;
  for (int i = (int)threadIdx.x; i < a.columns; i += NORM_THREADS) {
    float w, v = (to_float(x[i]) - mean) * rstd;
    load_weight<1>(&w, a.weight, a.weight_offset, i);
    v *= w;
    add_vector<1>(&v, a.bias, i);
    out[i] = from_float<T>(v);
  }
}

/* -- backward ------------------------------------------------------------------------------------------- */

/* What of the weights' gradients is wanted. */
enum { WANT_NOTHING, WANT_WEIGHT, WANT_BOTH };

/* A thread's own columns of dweight or dbias, summed over the block's rows, become the block's part. Where the
 * block has several rows at a time, their sums are added in order. */
template <int N, int THREADS, int PACKS>
__device__ __forceinline__ void store_part(float *parts, float (&sum)[PACKS][N], int columns) {
  int lane = (int)threadIdx.x % THREADS;
  float *part = parts + (int64_t)blockIdx.x * columns;
  if (NORM_ROWS<THREADS> == 1) {
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      int i = (k * THREADS + lane) * N;
      if (i < columns) store_floats<N>(part + i, sum[k], N);
    }
    return;
  }
  SHARED_MEMORY(float, shared); /* [NORM_ROWS, columns] */
  __syncthreads();              /* an earlier part has been read */
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
    int i = (k * THREADS + lane) * N;
    if (i < columns) store_floats<N>(shared + (int)threadIdx.x / THREADS * columns + i, sum[k], N);
  }
  __syncthreads();
  for (int i = (int)threadIdx.x; i < columns; i += NORM_BLOCK<THREADS>) {
    float total = 0;
    for (int r = 0; r < NORM_ROWS<THREADS>; r++) total += shared[r * columns + i];
    part[i] = total;
  }
}

/* With g = dy * w and xhat = (x - mean) * rstd: dx = rstd * (g - mean(g) - xhat * mean(g*xhat)) + beta * dx, where
 * RMSNorm has no mean(g); dweight = sum of dy * xhat, dbias = sum of dy. */
template <class T, int N, int THREADS, int PACKS, int WANT>
__global__ void __launch_bounds__(NORM_BLOCK<THREADS>) norm_backward_kernel(NormBackward<T> a) {
  int lane = (int)threadIdx.x % THREADS;
  float weight_sum[PACKS][N] = {}, bias_sum[PACKS][N] = {};
  for (int first = (int)blockIdx.x * NORM_ROWS<THREADS>; first < a.rows;
       first += (int)gridDim.x * NORM_ROWS<THREADS>) {
    int row = first + (int)threadIdx.x / THREADS;
    bool live = row < a.rows;
    if (!live) row = 0;
    const T *dy = row_of(a.dy, a.heads, row), *x = row_of(a.x, a.heads, row);
    float mean = a.mean ? a.mean[row] : 0.0f, rstd = a.rstd[row], sum_g = 0, sum_gx = 0;
    float g[PACKS][N], xhat[PACKS][N];
#pragma unroll
    for (int k = 0; k < PACKS; k++) { /* all loads first */
      int i = (k * THREADS + lane) * N;
      if (live && i < a.columns) {
        load_floats<N>(g[k], dy + i, N);
        load_floats<N>(xhat[k], x + i, N);
      }
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      int i = (k * THREADS + lane) * N;
      if (!live || i >= a.columns) continue;
      float w[N];
      load_weight<N>(w, a.weight, a.weight_offset, i);
#pragma unroll
      for (int j = 0; j < N; j++) {
        xhat[k][j] = (xhat[k][j] - mean) * rstd;
        if (WANT >= WANT_WEIGHT) weight_sum[k][j] = fmaf(g[k][j], xhat[k][j], weight_sum[k][j]);
        if (WANT >= WANT_BOTH) bias_sum[k][j] += g[k][j];
        g[k][j] *= w[j];
        sum_g += g[k][j];
        sum_gx = fmaf(g[k][j], xhat[k][j], sum_gx);
      }
    }
    float mean_g = a.mean ? row_sum<THREADS>(sum_g) / (float)a.columns : 0.0f;
    float mean_gx = row_sum<THREADS>(sum_gx) / (float)a.columns;
    T *dx = row_of(a.dx, a.heads, row);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      int i = (k * THREADS + lane) * N;
      if (!live || i >= a.columns) continue;
      float before[N];
      if (a.beta != 0) load_floats<N>(before, dx + i, N);
#pragma unroll
      for (int j = 0; j < N; j++) {
        g[k][j] = rstd * (g[k][j] - mean_g - xhat[k][j] * mean_gx);
        if (a.beta != 0) g[k][j] = fmaf(a.beta, before[j], g[k][j]);
      }
      store_floats<N>(dx + i, g[k], N);
    }
  }
  if (WANT >= WANT_WEIGHT) store_part<N, THREADS, PACKS>(a.weight_parts, weight_sum, a.columns);
  if (WANT >= WANT_BOTH) store_part<N, THREADS, PACKS>(a.bias_parts, bias_sum, a.columns);
}

/* Any row; a thread's columns of the block's parts grow in memory. */
template <class T>
__global__ void norm_backward_plain_kernel(NormBackward<T> a) {
  float *weight_part = a.weight_parts ? a.weight_parts + (int64_t)blockIdx.x * a.columns : nullptr;
  float *bias_part = a.bias_parts ? a.bias_parts + (int64_t)blockIdx.x * a.columns : nullptr;
  for (int row = (int)blockIdx.x; row < a.rows; row += (int)gridDim.x) {
    const T *dy = row_of(a.dy, a.heads, row), *x = row_of(a.x, a.heads, row);
    T *dx = row_of(a.dx, a.heads, row);
    bool begin = row == (int)blockIdx.x;
    float mean = a.mean ? a.mean[row] : 0.0f, rstd = a.rstd[row], sum_g = 0, sum_gx = 0, w;
    for (int i = (int)threadIdx.x; i < a.columns; i += NORM_THREADS) {
      float d = to_float(dy[i]), xhat = (to_float(x[i]) - mean) * rstd;
      load_weight<1>(&w, a.weight, a.weight_offset, i);
      if (weight_part) weight_part[i] = fmaf(d, xhat, begin ? 0.0f : weight_part[i]);
      if (bias_part) bias_part[i] = d + (begin ? 0.0f : bias_part[i]);
      sum_g += d * w;
      sum_gx = fmaf(d * w, xhat, sum_gx);
    }
    float mean_g = a.mean ? block_sum<NORM_THREADS>(sum_g) / (float)a.columns : 0.0f;
    float mean_gx = block_sum<NORM_THREADS>(sum_gx) / (float)a.columns;
    for (int i = (int)threadIdx.x; i < a.columns; i += NORM_THREADS) {
      float d = to_float(dy[i]), xhat = (to_float(x[i]) - mean) * rstd;
      load_weight<1>(&w, a.weight, a.weight_offset, i);
      d = rstd * (d * w - mean_g - xhat * mean_gx);
      if (a.beta != 0) d = fmaf(a.beta, to_float(dx[i]), d);
      dx[i] = from_float<T>(d);
    }
  }
}

enum { SUM_LANES = 16 }; /* threads to a column; with WARP columns to a block */

/* total[column] += the parts: SUM_LANES sums of every SUM_LANES-th part, then these in order. */
__global__ void norm_parts_kernel(float *dweight, float *dbias, const float *weight_parts,
                                  const float *bias_parts, int parts, int columns) {
  float *total = blockIdx.y == 0 ? dweight : dbias;
  const float *part = blockIdx.y == 0 ? weight_parts : bias_parts;
  __shared__ float sums[SUM_LANES][WARP];
  int i = (int)blockIdx.x * WARP + (int)threadIdx.x;
  float sum = 0;
  if (part && i < columns) {
#pragma unroll 8
    for (int p = (int)threadIdx.y; p < parts; p += SUM_LANES) sum += part[(int64_t)p * columns + i];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || !part || i >= columns) return;
  sum = 0;
  for (int k = 0; k < SUM_LANES; k++) sum += sums[k][threadIdx.x];
  total[i] += sum;
}

/* -- host ----------------------------------------------------------------------------------------------- */

/* Runs the statements with THREADS and PACKS as constants. */
#define WITH_ROW_PLAN(plan, THREADS, PACKS, ...)                 \
  do {                                                           \
    WITH_HEAD_PLAN(plan, THREADS, PACKS, __VA_ARGS__);           \
    WITH_ROW_PLAN_OF(plan, 128, 1, THREADS, PACKS, __VA_ARGS__)  \
    WITH_ROW_PLAN_OF(plan, 128, 2, THREADS, PACKS, __VA_ARGS__)  \
    WITH_ROW_PLAN_OF(plan, 256, 2, THREADS, PACKS, __VA_ARGS__)  \
    WITH_ROW_PLAN_OF(plan, 512, 2, THREADS, PACKS, __VA_ARGS__)  \
    WITH_ROW_PLAN_OF(plan, 1024, 2, THREADS, PACKS, __VA_ARGS__) \
  } while (0)

template <class T>
static void norm(Compute *c, Norm<T> a, bool aligned) {
  const RowPlan plan = norm_plan(a, aligned);
  if (plan.threads == 0) {
    LAUNCH(c, norm_plain_kernel<T>, dim3((unsigned)a.rows), dim3(NORM_THREADS), 0, a);
    return;
  }
  WITH_ROW_PLAN(
      plan, THREADS, PACKS,
      LAUNCH(c, (norm_kernel<T, PACK<T>, THREADS, PACKS>),
             dim3((unsigned)divide_up(a.rows, NORM_ROWS<THREADS>)), dim3(NORM_BLOCK<THREADS>), 0, a));
}

/* Heads that a warp or less takes, of both by one launch. */
template <class T>
static void norm_pair(Compute *c, const NormPair<T> &a, const bool aligned[2]) {
  const Norm<T> &first = a.part[0], &second = a.part[1];
  const RowPlan plan = norm_plan(first, aligned[0] && aligned[1]);
  if (plan.threads == 0 || plan.threads > WARP || first.columns != second.columns) {
    for (int i = 0; i < 2; i++) norm(c, a.part[i], aligned[i]);
    return;
  }
  const int64_t rows = first.rows > second.rows ? first.rows : second.rows;
  WITH_HEAD_PLAN(
      plan, THREADS, PACKS,
      LAUNCH(c, (norm_pair_kernel<T, PACK<T>, THREADS, PACKS>),
             dim3((unsigned)divide_up(rows, NORM_ROWS<THREADS>), 2), dim3(NORM_BLOCK<THREADS>), 0, a));
}

/* Blocks of norm_backward when the gradients of the weights are wanted: each leaves a part, so that there should
 * be few, but enough threads to keep the memory busy. A function of the shapes alone. */
static int64_t norm_parts(int64_t rows, int64_t rows_at_a_time, int threads) {
  int64_t parts = divide_up(rows, rows_at_a_time * 8), most = (1 << 17) / threads;
  return parts < most ? parts : most;
}

template <class T, int THREADS, int PACKS>
static void norm_backward_launch(Compute *c, NormBackward<T> a, int64_t blocks) {
  dim3 block(NORM_BLOCK<THREADS>), grid((unsigned)blocks);
  size_t shared = NORM_ROWS<THREADS> > 1 ? (size_t)(NORM_ROWS<THREADS> * a.columns) * sizeof(float) : 0;
  if (a.bias_parts) {
    LAUNCH(c, (norm_backward_kernel<T, PACK<T>, THREADS, PACKS, WANT_BOTH>), grid, block, shared, a);
  } else if (a.weight_parts) {
    LAUNCH(c, (norm_backward_kernel<T, PACK<T>, THREADS, PACKS, WANT_WEIGHT>), grid, block, shared, a);
  } else {
    LAUNCH(c, (norm_backward_kernel<T, PACK<T>, THREADS, PACKS, WANT_NOTHING>), grid, block, 0, a);
  }
}

template <class T>
static void norm_backward(Compute *c, NormBackward<T> a, RowPlan plan, int64_t blocks) {
  if (plan.threads == 0) {
    LAUNCH(c, norm_backward_plain_kernel<T>, dim3((unsigned)blocks), dim3(NORM_THREADS), 0, a);
    return;
  }
  WITH_ROW_PLAN(plan, THREADS, PACKS, norm_backward_launch<T, THREADS, PACKS>(c, a, blocks));
}

}  // namespace

extern "C" void cuda_norm(Compute *c, Tensor out, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                          Tensor bias, NormSpec spec) {
  if (c->dry) return;
  const NormTerms terms = {out, mean, rstd, x, weight, bias};
  WITH_TYPE(x.dtype, T, norm<T>(c, norm_of<T>(terms, spec), terms_aligned(terms)));
}

extern "C" void cuda_norm_pair(Compute *c, NormTerms first, NormTerms second, NormSpec spec) {
  ASSERT(first.x.dtype == second.x.dtype);
  if (c->dry) return;
  const bool aligned[2] = {terms_aligned(first), terms_aligned(second)};
  WITH_TYPE(first.x.dtype, T,
            norm_pair<T>(c, NormPair<T>{{norm_of<T>(first, spec), norm_of<T>(second, spec)}}, aligned));
}

extern "C" void cuda_norm_backward(Compute *c, Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                                   Tensor mean, Tensor rstd, Tensor weight, NormSpec spec, float beta) {
  int64_t rows = head_row_count(x), columns = x.dim[x.rank - 1], pack = 16 / (int64_t)dtype_size(x.dtype);
  ASSERT(dx.dtype == x.dtype && dy.dtype == x.dtype && rows <= INT32_MAX / 2 && columns <= INT32_MAX / 2);
  bool want_weight = !tensor_is_none(dweight), want_bias = !tensor_is_none(dbias);
  bool want = want_weight || want_bias;
  bool aligned =
      head_rows_aligned(dx) && head_rows_aligned(dy) && head_rows_aligned(x) && vector_aligned(weight);
  RowPlan plan = {0, 0};
  if (aligned && columns % pack == 0) plan = row_plan(columns / pack);
  int threads = plan.threads > WARP ? plan.threads : (int)NORM_THREADS;
  int64_t at_a_time = plan.threads > 0 ? threads / plan.threads : 1;
  int64_t blocks = want ? norm_parts(rows, at_a_time, threads) : divide_up(rows, at_a_time);
  size_t mark = scratch_open(c);
  float *weight_parts =
      want ? scratch_new<float>(c, blocks * columns) : nullptr; /* both or the first: see WANT_ */
  float *bias_parts = want_bias ? scratch_new<float>(c, blocks * columns) : nullptr;
  if (!c->dry && rows > 0 && columns > 0) {
    WITH_TYPE(
        x.dtype, T,
        norm_backward<T>(c,
                         NormBackward<T>{head_rows<T>(dx), head_rows<const T>(dy), head_rows<const T>(x),
                                         (int)rows, x.rank == 3 ? (int)x.dim[1] : 1, (int)columns,
                                         spec.kind == NORM_LAYER ? data<const float>(mean) : nullptr,
                                         data<const float>(rstd), vector_of(weight), spec.weight_offset, beta,
                                         weight_parts, bias_parts},
                         plan, blocks));
    if (want) {
      LAUNCH(c, norm_parts_kernel, dim3((unsigned)divide_up(columns, WARP), want_bias ? 2 : 1),
             dim3(WARP, SUM_LANES), 0, data<float>(dweight), data<float>(dbias),
             want_weight ? weight_parts : nullptr, bias_parts, (int)blocks, (int)columns);
    }
  }
  scratch_close(c, mark);
}
