/* Rows of a table by id, and rows of an activation by number. The floor is the bytes of the rows. */
#include "compute/cuda/pointwise.cuh"

/* -- forward -------------------------------------------------------------------------------------------- */

template <class T, class W, bool ADD>
struct Embed {
  Rows<T> out;
  Rows<const W> table;
  const int32_t *ids;
  float scale, beta;
};

template <int N, class T, class W, bool ADD>
__device__ __forceinline__ void apply(const Embed<T, W, ADD> &op, int64_t row, int64_t column, int count) {
  float x[N], out[N];
  load_floats<N>(x, row_of(op.table, op.ids[row]) + column, count);
  if (ADD) load_floats<N>(out, row_of(op.out, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] *= op.scale;
    if (ADD) x[i] = fmaf(op.beta, out[i], x[i]);
  }
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

/* Rows that are looked up do not lie one after the other: never one long row. */
static Walk walk_of_rows(Tensor out, Tensor x) {
  return Walk{out.dim[0], out.dim[1], rows_aligned(out, true) && rows_aligned(x, true)};
}

template <class T, class W>
static void embedding(Compute *c, Tensor out, Tensor table, Tensor ids, float scale, float beta) {
  Walk w = walk_of_rows(out, table);
  Rows<T> to = rows_of<T>(out);
  Rows<const W> from = rows_of<const W>(table);
  const int32_t *id = data<const int32_t>(ids);
  if (beta != 0) {
    walk_launch<PACK_OF<T, W>>(c, w, Embed<T, W, true>{to, from, id, scale, beta});
  } else {
    walk_launch<PACK_OF<T, W>>(c, w, Embed<T, W, false>{to, from, id, scale, beta});
  }
}

extern "C" void cuda_embedding(Compute *c, Tensor out, Tensor table, Tensor ids, float scale, float beta) {
  if (c->dry) return;
  ASSERT(out.dim[0] == ids.dim[0] && out.dim[1] == table.dim[1]);
  WITH_TYPE(out.dtype, T, WITH_TYPE(table.dtype, W, embedding<T, W>(c, out, table, ids, scale, beta)));
}

/* -- backward ------------------------------------------------------------------------------------------- */

/* order[k] = the k-th token when tokens are sorted by id, equal ids by token. A warp counts, for each of its
 * tokens, what goes before it: T^2 comparisons of integers, few microseconds for the few thousand tokens of a
 * batch, and nothing that depends on timing. */
enum { SORT_THREADS = 128, SORT_TOKENS = 4 };

__global__ void token_order_kernel(int32_t *order, const int32_t *ids, int tokens) {
  int lane = (int)threadIdx.x % WARP;
  int first = (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP) * SORT_TOKENS;
  if (first >= tokens) return;
  int32_t own[SORT_TOKENS];
  int before[SORT_TOKENS];
#pragma unroll
  for (int k = 0; k < SORT_TOKENS; k++) {
    own[k] = first + k < tokens ? ids[first + k] : 0;
    before[k] = 0;
  }
#pragma unroll 4
  for (int t = lane; t < tokens; t += WARP) {
    int32_t id = ids[t];
#pragma unroll
    for (int k = 0; k < SORT_TOKENS; k++) before[k] += id < own[k] || (id == own[k] && t < first + k);
  }
#pragma unroll
  for (int k = 0; k < SORT_TOKENS; k++) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) before[k] += __shfl_xor_sync(FULL_MASK, before[k], step);
    if (lane == 0 && first + k < tokens) order[before[k]] = first + k;
  }
}

struct RepeatedRows {
  float *dtable;
  int64_t stride;
  const int32_t *order, *ids;
  int64_t tokens, columns;
  float scale;
};

enum { REPEAT_THREADS = 256, REPEAT_AHEAD = 4 };

/* Block k in x looks at the k-th token of the order. Where an id begins, it adds the rows of all tokens of that
 * id, one after the other, to the id's row of the table; REPEAT_AHEAD of them are on their way at a time. */
template <class T, int N>
__global__ void embedding_backward_kernel(RepeatedRows r, Rows<const T> dout) {
  int64_t k = blockIdx.x;
  int32_t id = r.ids[r.order[k]];
  if (k > 0 && r.ids[r.order[k - 1]] == id) return;
  int64_t column = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (column >= r.columns) return;
  int count = r.columns - column < N ? (int)(r.columns - column) : N;
  float *to = r.dtable + id * r.stride + column;
  float sum[N];
  load_floats<N>(sum, to, count);
  bool more = true;
  while (more) {
    float d[REPEAT_AHEAD][N];
    bool own[REPEAT_AHEAD];
#pragma unroll
    for (int i = 0; i < REPEAT_AHEAD; i++) {
      int32_t t = k + i < r.tokens ? r.order[k + i] : -1;
      own[i] = t >= 0 && r.ids[t] == id;
      if (own[i]) load_floats<N>(d[i], row_of(dout, t) + column, count);
    }
#pragma unroll
    for (int i = 0; i < REPEAT_AHEAD; i++) {
#pragma unroll
      for (int j = 0; j < N; j++) {
        if (own[i]) sum[j] = fmaf(r.scale, d[i][j], sum[j]);
      }
    }
    more = own[REPEAT_AHEAD - 1];
    k += REPEAT_AHEAD;
  }
  store_floats<N>(to, sum, count);
}

template <class T>
static void embedding_backward(Compute *c, RepeatedRows r, Tensor dout, bool aligned) {
  int64_t pack = aligned ? PACK<T> : 1, packs = divide_up(r.columns, pack);
  unsigned threads = WARP;
  while (threads < packs && threads < REPEAT_THREADS) threads *= 2;
  dim3 grid((unsigned)r.tokens, (unsigned)divide_up(packs, threads));
  if (aligned) {
    LAUNCH(c, (embedding_backward_kernel<T, PACK<T>>), grid, dim3(threads), 0, r, rows_of<const T>(dout));
  } else {
    LAUNCH(c, (embedding_backward_kernel<T, 1>), grid, dim3(threads), 0, r, rows_of<const T>(dout));
  }
}

extern "C" void cuda_embedding_backward(Compute *c, Tensor dtable, Tensor dout, Tensor ids, float scale) {
  int64_t tokens = ids.dim[0];
  ASSERT(dtable.dtype == DTYPE_F32 && dout.dim[1] == dtable.dim[1] && tokens <= INT32_MAX / 2);
  size_t mark = scratch_open(c);
  int32_t *order = scratch_new<int32_t>(c, tokens);
  if (!c->dry) {
    LAUNCH(c, token_order_kernel, dim3((unsigned)divide_up(tokens * WARP, SORT_THREADS * SORT_TOKENS)),
           dim3(SORT_THREADS), 0, order, data<const int32_t>(ids), (int)tokens);
    RepeatedRows r = {
        data<float>(dtable), dtable.stride[0], order, data<const int32_t>(ids), tokens, dtable.dim[1], scale};
    bool aligned = rows_aligned(dtable, true) && rows_aligned(dout, true);
    WITH_TYPE(dout.dtype, T, embedding_backward<T>(c, r, dout, aligned));
  }
  scratch_close(c, mark);
}

/* -- rows by number ------------------------------------------------------------------------------------- */

template <class T>
struct Gather {
  Rows<T> out, x;
  const int32_t *rows;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Gather<T> &op, int64_t row, int64_t column, int count) {
  float x[N];
  load_floats<N>(x, row_of(op.x, op.rows[row]) + column, count);
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

extern "C" void cuda_gather_rows(Compute *c, Tensor out, Tensor x, Tensor rows) {
  if (c->dry) return;
  ASSERT(out.dtype == x.dtype && out.dim[0] == rows.dim[0] && out.dim[1] == x.dim[1]);
  WITH_TYPE(out.dtype, T,
            walk_launch<PACK<T>>(c, walk_of_rows(out, x),
                                 Gather<T>{rows_of<T>(out), rows_of<T>(x), data<const int32_t>(rows)}));
}

template <class T>
struct ScatterAdd {
  Rows<T> dx, dout;
  const int32_t *rows;
};

template <int N, class T>
__device__ __forceinline__ void apply(const ScatterAdd<T> &op, int64_t row, int64_t column, int count) {
  float d[N], dx[N];
  T *to = row_of(op.dx, op.rows[row]) + column;
  load_floats<N>(d, row_of(op.dout, row) + column, count);
  load_floats<N>(dx, to, count);
#pragma unroll
  for (int i = 0; i < N; i++) dx[i] += d[i];
  store_floats<N>(to, dx, count);
}

extern "C" void cuda_scatter_add_rows(Compute *c, Tensor dx, Tensor dout, Tensor rows) {
  if (c->dry) return;
  ASSERT(dx.dtype == dout.dtype && dout.dim[0] == rows.dim[0] && dx.dim[1] == dout.dim[1]);
  WITH_TYPE(dx.dtype, T,
            walk_launch<PACK<T>>(c, walk_of_rows(dout, dx),
                                 ScatterAdd<T>{rows_of<T>(dx), rows_of<T>(dout), data<const int32_t>(rows)}));
}
