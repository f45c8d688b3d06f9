/* Walking over rows x columns, one pack of neighbours to a thread: what the files of pointwise work share.
 *
 * An operation is a plain struct of its arguments with a function
 *   template <int N> apply(const Op &op, int64_t row, int64_t column, int count)
 * for columns column .. column+count-1 of a row, count <= N; count == N = 1, or aligned for packs of N. */
#ifndef COMPUTE_CUDA_POINTWISE_CUH
#define COMPUTE_CUDA_POINTWISE_CUH

#include "compute/cuda/kernel.cuh"

/* -- device side ---------------------------------------------------------------------------------------- */

/* A 2-d tensor: the rows of an activation. */
template <class T>
struct Rows {
  T *at;
  int64_t stride;
};

template <class T>
__device__ __forceinline__ T *row_of(const Rows<T> &x, int64_t row) {
  return x.at + row * x.stride;
}

/* Elements of T that 16 bytes hold. */
template <class T>
constexpr int PACK = 16 / (int)sizeof(T);
/* The size of the packs where T and U stand side by side: 16 bytes of the narrower. */
template <class T, class U>
constexpr int PACK_OF = PACK<T> > PACK<U> ? PACK<T> : PACK<U>;

/* v[0..N) = p[0..count), and zeros; by 16 bytes when all are there. */
template <int N, class T>
__device__ __forceinline__ void load_floats(float *v, const T *p, int count) {
  constexpr int WIDTH = N < PACK<T> ? N : PACK<T>;
  if (count == N) {
#pragma unroll
    for (int i = 0; i < N; i += WIDTH) {
      Pack<T, WIDTH> pack = load_pack<T, WIDTH>(p + i);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) v[i + k] = to_float(pack.at[k]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = i < count ? to_float(p[i]) : 0.0f;
  }
}

template <int N, class T>
__device__ __forceinline__ void store_floats(T *p, const float *v, int count) {
  constexpr int WIDTH = N < PACK<T> ? N : PACK<T>;
  if (count == N) {
#pragma unroll
    for (int i = 0; i < N; i += WIDTH) {
      Pack<T, WIDTH> pack;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) pack.at[k] = from_float<T>(v[i + k]);
      store_pack<T, WIDTH>(p + i, pack);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) {
      if (i < count) p[i] = from_float<T>(v[i]);
    }
  }
}

template <int N>
void apply(); /* so that apply<N>( below is read as a template */

template <int N, class Op>
__global__ void walk_kernel(Op op, int64_t rows, int64_t columns) {
  int64_t column = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (column >= columns) return;
  int count = columns - column < N ? (int)(columns - column) : N;
  for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < rows;
       row += (int64_t)gridDim.y * blockDim.y) {
    apply<N>(op, row, column, count);
  }
}

/* -- host side ------------------------------------------------------------------------------------------ */

template <class T>
static inline Rows<T> rows_of(Tensor x) {
  return Rows<T>{(T *)x.data, x.rank > 1 ? x.stride[0] : 0};
}

/* Tensors of the same shape, each contiguous or 2-d with strided rows; all contiguous are one long row. */
typedef struct Walk {
  int64_t rows, columns;
  bool aligned; /* every row of every tensor begins at a multiple of 16 bytes */
} Walk;

/* Whether rows can be read by 16 bytes; a 1-d tensor, or the only row, has no stride that matters. */
static inline bool rows_aligned(Tensor x, bool many) {
  bool apart = many && x.rank > 1;
  return (uintptr_t)x.data % 16 == 0 && (!apart || x.stride[0] * (int64_t)dtype_size(x.dtype) % 16 == 0);
}

template <class... X>
static inline Walk walk_of(Tensor first, X... rest) {
  const Tensor all[] = {first, rest...};
  Walk w = {1, tensor_count(first), true};
  bool whole = true;
  for (const Tensor &x : all) {
    ASSERT(tensor_count(x) == w.columns);
    whole = whole && tensor_is_contiguous(x);
  }
  if (!whole) {
    w.rows = first.dim[0];
    w.columns = first.dim[1];
    for (const Tensor &x : all) ASSERT(x.rank == 2 && x.dim[0] == w.rows);
  }
  for (const Tensor &x : all) w.aligned = w.aligned && rows_aligned(x, w.rows > 1);
  return w;
}

enum { WALK_THREADS = 256 };
static const int64_t GRID_MAX_Y = 65535;

/* Packs of N where the tensors allow it, else element by element. */
template <int N, class Op>
static void walk_launch(Compute *c, Walk w, Op op) {
  int64_t pack = w.aligned ? N : 1, packs = divide_up(w.columns, pack);
  unsigned across = 1; /* narrow rows: a block takes several */
  while (across < packs && across < WALK_THREADS) across *= 2;
  unsigned down = w.rows > 1 ? WALK_THREADS / across : 1;
  if (w.rows <= 1) across = WALK_THREADS;
  int64_t deep = divide_up(w.rows, down);
  dim3 block(across, down),
      grid((unsigned)divide_up(packs, across), (unsigned)(deep < GRID_MAX_Y ? deep : GRID_MAX_Y));
  if (w.aligned) {
    LAUNCH(c, (walk_kernel<N, Op>), grid, block, 0, op, w.rows, w.columns);
  } else {
    LAUNCH(c, (walk_kernel<1, Op>), grid, block, 0, op, w.rows, w.columns);
  }
}

#endif
