/* A row of a norm in the registers of the threads that share it: of norms (norm.cu), and of queries and keys on their way into the
 * cache (cache_store.cu), which are to the bit what the norm's own kernel makes of them. */
#ifndef COMPUTE_CUDA_NORM_ROW_CUH
#define COMPUTE_CUDA_NORM_ROW_CUH

#include "compute/cuda/pointwise.cuh"

/* A tensor [N,C] or [T,H,D] seen as rows. */
template <class T>
struct HeadRows {
  T *at;
  int64_t token, head; /* strides */
};

template <class T>
__device__ __forceinline__ T *row_of(const HeadRows<T> &x, int heads, int row) {
  if (heads == 1) return x.at + row * x.token;
  int t = row / heads;
  return x.at + t * x.token + (row - t * heads) * x.head;
}

/* An F32 or BF16 vector, or none. */
struct Vector {
  const void *at;
  bool narrow;
};

template <int N>
__device__ __forceinline__ void load_vector(float *v, Vector x, int i) {
  if (x.narrow) {
    load_floats<N>(v, (const bf16 *)x.at + i, N);
  } else {
    load_floats<N>(v, (const float *)x.at + i, N);
  }
}

/* w + offset, or 1. */
template <int N>
__device__ __forceinline__ void load_weight(float *w, Vector weight, float offset, int i) {
  if (weight.at) load_vector<N>(w, weight, i);
#pragma unroll
  for (int j = 0; j < N; j++) w[j] = weight.at ? w[j] + offset : 1.0f;
}

template <class T>
struct Norm {
  HeadRows<T> out;
  HeadRows<const T> x;
  int rows, heads, columns;
  float *mean, *rstd; /* or NULL */
  Vector weight, bias;
  float eps, weight_offset;
  bool layer;
};

/* Threads in a block of the kernels where a row takes no more than a warp. */
enum { NORM_THREADS = 256 };

template <int THREADS>
constexpr int NORM_BLOCK = THREADS > WARP ? THREADS : (int)NORM_THREADS;
/* Rows that a block takes at a time. */
template <int THREADS>
constexpr int NORM_ROWS = NORM_BLOCK<THREADS> / THREADS;

/* Over the THREADS threads of a row, in every one of them. */
template <int THREADS>
__device__ __forceinline__ float row_sum(float x) {
  if constexpr (THREADS > WARP) {
    return block_sum<NORM_BLOCK<THREADS>>(x);
  } else {
#pragma unroll
    for (int step = THREADS / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
    return x;
  }
}

template <int N>
__device__ __forceinline__ void add_vector(float *v, Vector bias, int i) {
  if (!bias.at) return;
  float b[N];
  load_vector<N>(b, bias, i);
#pragma unroll
  for (int j = 0; j < N; j++) v[j] += b[j];
}

/* v: the row x normalised, its elements from (k * THREADS + lane) * N on in v[k]. Threads of no row (not live) take part in the sums
 * of their warp alone. */
template <class T, int N, int THREADS, int PACKS>
__device__ __forceinline__ void norm_row(float (&v)[PACKS][N], float *mean, float *rstd, const Norm<T> &a,
                                         const T *x, int lane, bool live) {
  float sum = 0, squares = 0;
  /* Weights of the rows' own type come along with the row: of few rows, as in decoding, the time is latency. */
  Pack<T, N> weight[PACKS];
  bool early = a.weight.at && a.weight.narrow == (sizeof(T) == sizeof(bf16));
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
    int i = (k * THREADS + lane) * N;
    if (!live || i >= a.columns) continue;
    load_floats<N>(v[k], x + i, N);
    if (early) weight[k] = load_pack<T, N>((const T *)a.weight.at + i);
  }
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
#pragma unroll
    for (int j = 0; j < N; j++) sum += live && (k * THREADS + lane) * N < a.columns ? v[k][j] : 0.0f;
  }
  *mean = a.layer ? row_sum<THREADS>(sum) / (float)a.columns : 0.0f;
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
#pragma unroll
    for (int j = 0; j < N; j++) {
      v[k][j] -= *mean;
      squares += live && (k * THREADS + lane) * N < a.columns ? v[k][j] * v[k][j] : 0.0f;
    }
  }
  *rstd = 1.0f / sqrtf(row_sum<THREADS>(squares) / (float)a.columns + a.eps);
  if (!live) return;
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
    int i = (k * THREADS + lane) * N;
    if (i >= a.columns) continue;
    float w[N];
    if (!early) load_weight<N>(w, a.weight, a.weight_offset, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      v[k][j] = v[k][j] * *rstd * (early ? to_float(weight[k].at[j]) + a.weight_offset : w[j]);
    }
    add_vector<N>(v[k], a.bias, i);
  }
}

/* -- host ----------------------------------------------------------------------------------------------- */

template <class T>
static inline HeadRows<T> head_rows(Tensor x) {
  return HeadRows<T>{(T *)x.data, x.stride[0], x.rank == 3 ? x.stride[1] : 0};
}

static inline bool head_rows_aligned(Tensor x) {
  int64_t size = (int64_t)dtype_size(x.dtype);
  return rows_aligned(x, true) && (x.rank < 3 || x.stride[1] * size % 16 == 0);
}

static inline Vector vector_of(Tensor x) {
  ASSERT(tensor_is_none(x) || x.dtype == DTYPE_F32 || x.dtype == DTYPE_BF16);
  return Vector{x.data, x.dtype == DTYPE_BF16};
}

static inline bool vector_aligned(Tensor x) {
  return (uintptr_t)x.data % 16 == 0; /* none is */
}

static inline int64_t head_row_count(Tensor x) {
  return x.rank == 3 ? x.dim[0] * x.dim[1] : x.dim[0];
}

static inline bool terms_aligned(const NormTerms &t) {
  return head_rows_aligned(t.out) && head_rows_aligned(t.x) && vector_aligned(t.weight) &&
         vector_aligned(t.bias);
}

template <class T>
static Norm<T> norm_of(const NormTerms &t, NormSpec spec) {
  const int64_t rows = head_row_count(t.x), columns = t.x.dim[t.x.rank - 1];
  ASSERT(t.out.dtype == t.x.dtype && t.out.rank == t.x.rank && rows <= INT32_MAX / 2 &&
         columns <= INT32_MAX / 2);
  return Norm<T>{head_rows<T>(t.out), head_rows<const T>(t.x),
                 (int)rows,           t.x.rank == 3 ? (int)t.x.dim[1] : 1,
                 (int)columns,        data<float>(t.mean),
                 data<float>(t.rstd), vector_of(t.weight),
                 vector_of(t.bias),   spec.eps,
                 spec.weight_offset,  spec.kind == NORM_LAYER};
}

/* How many threads share a row of that many packs, and how many packs each has; 0 when a row is too long. */
typedef struct RowPlan {
  int threads, packs;
} RowPlan;

static inline RowPlan row_plan(int64_t packs) {
  static const RowPlan plans[] = {{8, 1},   {16, 1},  {32, 1},  {32, 2},  {128, 1},
                                  {128, 2}, {256, 2}, {512, 2}, {1024, 2}};
  for (const RowPlan &plan : plans) {
    if (packs <= plan.threads * plan.packs) return plan;
  }
  return RowPlan{0, 0};
}

template <class T>
static inline RowPlan norm_plan(const Norm<T> &a, bool aligned) {
  return aligned && a.columns % PACK<T> == 0 ? row_plan(a.columns / PACK<T>) : RowPlan{0, 0};
}

/* Runs the statements with THREADS and PACKS as constants, of rows that a warp or less takes. */
#define WITH_ROW_PLAN_OF(plan, t, p, THREADS, PACKS, ...) \
  if ((plan).threads == t && (plan).packs == p) {         \
    constexpr int THREADS = t, PACKS = p;                 \
    __VA_ARGS__;                                          \
  }
#define WITH_HEAD_PLAN(plan, THREADS, PACKS, ...)              \
  do {                                                         \
    WITH_ROW_PLAN_OF(plan, 8, 1, THREADS, PACKS, __VA_ARGS__)  \
    WITH_ROW_PLAN_OF(plan, 16, 1, THREADS, PACKS, __VA_ARGS__) \
    WITH_ROW_PLAN_OF(plan, 32, 1, THREADS, PACKS, __VA_ARGS__) \
    WITH_ROW_PLAN_OF(plan, 32, 2, THREADS, PACKS, __VA_ARGS__) \
  } while (0)

#endif
