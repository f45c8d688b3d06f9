/* Rows of a table by id, and rows of an activation by number. The floor is the bytes of the rows. */
#include "compute/cuda/blocks.cuh"
#include "compute/cuda/pointwise.cuh"

#include "compute/q8.h"

namespace {

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

/* A table in 8 bits (compute/q8.h). */
template <class T, bool ADD>
struct EmbedBlocks {
  Rows<T> out;
  Rows<const int8_t> codes;
  Rows<const float> scales;
  const int32_t *ids;
  float scale, beta;
};

template <int N, class T, bool ADD>
__device__ __forceinline__ void apply(const EmbedBlocks<T, ADD> &op, int64_t row, int64_t column, int count) {
  const int64_t id = op.ids[row];
  const float block = row_of(op.scales, id)[column / Q8_BLOCK];
  float x[N], out[N];
  if (ADD) load_floats<N>(out, row_of(op.out, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] = i < count ? q8_value(row_of(op.codes, id)[column + i], block) * op.scale : 0.0f;
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

template <class T>
static void embedding_of_blocks(Compute *c, Tensor out, Tensor table, Tensor ids, float scale, float beta) {
  const int64_t columns = table.dim[1];
  const Walk w = {out.dim[0], columns, rows_aligned(out, true)};
  const Rows<const int8_t> codes = {data<const int8_t>(table), columns};
  const Rows<const float> scales = {
      (const float *)(data<const char>(table) + q8_scales_at(table.dim[0], columns)), columns / Q8_BLOCK};
  const int32_t *id = data<const int32_t>(ids);
  if (beta != 0) {
    walk_launch<PACK<T>>(c, w, EmbedBlocks<T, true>{rows_of<T>(out), codes, scales, id, scale, beta});
  } else {
    walk_launch<PACK<T>>(c, w, EmbedBlocks<T, false>{rows_of<T>(out), codes, scales, id, scale, beta});
  }
}

/* -- backward ------------------------------------------------------------------------------------------- */

/* Tokens sorted by id, equal ids by token: an id's occurrences stand together. Chains of them are cut into pieces
 * of PIECE: the first of a chain adds to the table, the others leave partial sums, which are added thereafter in
 * their order. So no row is added by two blocks, and one very frequent id does not keep all others waiting. */
enum { PIECE = 32 };

struct alignas(16) Occurrence {
  int32_t id, token;
  int32_t rank; /* in its chain */
};

enum { SORT_THREADS = 128, SORT_TOKENS = 4 };

__device__ __forceinline__ int integer_sum(int x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
  return x;
}

/* A warp counts, for each of its tokens, what goes before it: T^2 comparisons of integers, few microseconds for
 * the thousands of tokens of a batch. */
__global__ void token_order_kernel(Occurrence *order, const int32_t *ids, int tokens) {
  int lane = (int)threadIdx.x % WARP;
  int first = (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP) * SORT_TOKENS;
  if (first >= tokens) return;
  int32_t own[SORT_TOKENS];
  int before[SORT_TOKENS], rank[SORT_TOKENS];
#pragma unroll
  for (int k = 0; k < SORT_TOKENS; k++) {
    own[k] = first + k < tokens ? ids[first + k] : 0;
    before[k] = rank[k] = 0;
  }
#pragma unroll 4
  for (int t = lane; t < tokens; t += WARP) {
    int32_t id = ids[t];
#pragma unroll
    for (int k = 0; k < SORT_TOKENS; k++) {
      before[k] += id < own[k];
      rank[k] += id == own[k] && t < first + k;
    }
  }
#pragma unroll
  for (int k = 0; k < SORT_TOKENS; k++) {
    before[k] = integer_sum(before[k]);
    rank[k] = integer_sum(rank[k]);
    if (lane == 0 && first + k < tokens) order[before[k] + rank[k]] = Occurrence{own[k], first + k, rank[k]};
  }
}

struct Chains {
  float *dtable;
  int64_t stride;
  float *
      partial; /* [tokens / PIECE, columns]: of the piece that begins at position k of the order, row k / PIECE */
  const Occurrence *order;
  int64_t tokens, columns;
  float scale;
};

enum { CHAIN_THREADS = 256, CHAIN_AHEAD = 4 };

/* Block k in x: the piece that begins at position k of the order, if one does. CHAIN_AHEAD rows are on their way
 * at a time. */
template <class T, int N>
__global__ void embedding_backward_kernel(Chains r, Rows<const T> dout) {
  int64_t k = blockIdx.x, column = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * N;
  Occurrence begin = r.order[k];
  if (begin.rank % PIECE != 0 || column >= r.columns) return;
  int count = r.columns - column < N ? (int)(r.columns - column) : N;
  float *to = begin.rank == 0 ? r.dtable + begin.id * r.stride : r.partial + k / PIECE * r.columns;
  float sum[N] = {};
  if (begin.rank == 0) load_floats<N>(sum, to + column, count);
  bool more = true;
  for (int done = 0; more && done < PIECE; done += CHAIN_AHEAD) {
    float d[CHAIN_AHEAD][N];
    bool own[CHAIN_AHEAD];
#pragma unroll
    for (int i = 0; i < CHAIN_AHEAD; i++) {
      int64_t at = k + done + i;
      Occurrence next = r.order[at < r.tokens ? at : k];
      own[i] = at < r.tokens && next.id == begin.id;
      if (own[i]) load_floats<N>(d[i], row_of(dout, next.token) + column, count);
    }
#pragma unroll
    for (int i = 0; i < CHAIN_AHEAD; i++) {
#pragma unroll
      for (int j = 0; j < N; j++) {
        if (own[i]) sum[j] = fmaf(r.scale, d[i][j], sum[j]);
      }
    }
    more = own[CHAIN_AHEAD - 1];
  }
  store_floats<N>(to + column, sum, count);
}

/* Adds the partial sums of a chain, from its second piece on. A block in x looks at PIECE positions, among which
 * no more than one piece begins that left a partial sum. */
__global__ void embedding_chains_kernel(Chains r) {
  int64_t column = (int64_t)blockIdx.y * blockDim.x + threadIdx.x, k = (int64_t)blockIdx.x * PIECE;
  int64_t last = k + PIECE < r.tokens ? k + PIECE : r.tokens;
  while (k < last && r.order[k].rank != PIECE) k++;
  if (k >= last || column >= r.columns) return;
  int32_t id = r.order[k].id;
  float *to = r.dtable + id * r.stride + column, sum = *to;
  for (; k < r.tokens && r.order[k].id == id; k += PIECE) sum += r.partial[k / PIECE * r.columns + column];
  *to = sum;
}

template <class T>
static void embedding_backward(Compute *c, Chains r, Tensor dout, bool aligned) {
  int64_t pack = aligned ? PACK<T> : 1, packs = divide_up(r.columns, pack);
  unsigned threads = WARP;
  while (threads < packs && threads < CHAIN_THREADS) threads *= 2;
  dim3 grid((unsigned)r.tokens, (unsigned)divide_up(packs, threads));
  if (aligned) {
    LAUNCH(c, (embedding_backward_kernel<T, PACK<T>>), grid, dim3(threads), 0, r, rows_of<const T>(dout));
  } else {
    LAUNCH(c, (embedding_backward_kernel<T, 1>), grid, dim3(threads), 0, r, rows_of<const T>(dout));
  }
  dim3 pieces((unsigned)(r.tokens / PIECE + 1), (unsigned)divide_up(r.columns, CHAIN_THREADS));
  if (r.tokens > PIECE) LAUNCH(c, embedding_chains_kernel, pieces, dim3(CHAIN_THREADS), 0, r);
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

}  // namespace

extern "C" void cuda_embedding(Compute *c, Tensor out, Tensor table, Tensor ids, float scale, float beta) {
  if (c->dry) return;
  ASSERT(out.dim[0] == ids.dim[0] && out.dim[1] == table.dim[1]);
  if (table.dtype == DTYPE_Q8) {
    WITH_TYPE(out.dtype, T, embedding_of_blocks<T>(c, out, table, ids, scale, beta));
  } else {
    WITH_TYPE(out.dtype, T, WITH_TYPE(table.dtype, W, embedding<T, W>(c, out, table, ids, scale, beta)));
  }
}

extern "C" void cuda_embedding_backward(Compute *c, Tensor dtable, Tensor dout, Tensor ids, float scale) {
  int64_t tokens = ids.dim[0], columns = dtable.dim[1];
  ASSERT(dtable.dtype == DTYPE_F32 && dout.dim[1] == columns && tokens <= INT32_MAX / 64);
  size_t mark = scratch_open(c);
  Occurrence *order = scratch_new<Occurrence>(c, tokens);
  float *partial = scratch_new<float>(c, divide_up(tokens, PIECE) * columns);
  if (!c->dry && tokens > 0) {
    LAUNCH(c, token_order_kernel, dim3((unsigned)divide_up(tokens * WARP, SORT_THREADS * SORT_TOKENS)),
           dim3(SORT_THREADS), 0, order, data<const int32_t>(ids), (int)tokens);
    Chains r = {data<float>(dtable), dtable.stride[0], partial, order, tokens, columns, scale};
    bool aligned = rows_aligned(dtable, true) && rows_aligned(dout, true) && columns % 4 == 0;
    WITH_TYPE(dout.dtype, T, embedding_backward<T>(c, r, dout, aligned));
  }
  scratch_close(c, mark);
}

extern "C" void cuda_gather_rows(Compute *c, Tensor out, Tensor x, Tensor rows) {
  if (c->dry) return;
  ASSERT(out.dtype == x.dtype && out.dim[0] == rows.dim[0] && out.dim[1] == x.dim[1]);
  WITH_TYPE(out.dtype, T,
            walk_launch<PACK<T>>(c, walk_of_rows(out, x),
                                 Gather<T>{rows_of<T>(out), rows_of<T>(x), data<const int32_t>(rows)}));
}

extern "C" void cuda_scatter_add_rows(Compute *c, Tensor dx, Tensor dout, Tensor rows) {
  if (c->dry) return;
  ASSERT(dx.dtype == dout.dtype && dout.dim[0] == rows.dim[0] && dx.dim[1] == dout.dim[1]);
  WITH_TYPE(dx.dtype, T,
            walk_launch<PACK<T>>(c, walk_of_rows(dout, dx),
                                 ScatterAdd<T>{rows_of<T>(dx), rows_of<T>(dout), data<const int32_t>(rows)}));
}
