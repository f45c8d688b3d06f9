/* Attention over packed sequences, backward: FlashAttention-2 (Dao 2023, algorithm 2) without atomics, so that the
 * result is the same to the bit each time. With P = exp(score - lse) and delta = dout . out:
 *   dV = P^T dout    dS = P * (dout V^T - delta) * (slope of the cap)    dQ = scale * dS K    dK = scale * dS^T Q
 *
 * First the statistics of the queries (attention_gradient.cuh). Then a kernel over tiles of keys (dK, dV: four
 * products; attention_backward_keys.cuh) and one over tiles of queries (dQ: three, S and dP are made again), where
 * each warp works by itself, as in the forward. Each sum has one owner and one order. Floor: the tensor cores;
 * 14*D FLOPs per pair of a query and a key it sees, of which 10*D are needed: at the same speed per product as a
 * kernel with atomics this reaches 5/7 of it. Registers that live through the loop over keys, D = 128, M = 1:
 * 64 (Q, dout) + 64 (dQ) + 32 (S, dP).
 *
 * f32: attention_backward_f32.cuh. */
#include "compute/cuda/attention_backward_f32.cuh"
#include "compute/cuda/attention_backward_keys.cuh"

namespace {

/* -- dQ: tiles of queries ------------------------------------------------------------------------------- */

/* SIZE: head sizes up to it. KEYS: of a tile in the ring. STEP: keys at once. M: products of 16 queries that a warp has
 * side by side. HELD: fragments of Q and dout stay in registers. BLOCKS: to fit on a multiprocessor. */
// clang-format off
struct Queries64 { enum { SIZE = 64, KEYS = 64, STEP = 32, WARPS = 4, M = 2, HELD = true, BLOCKS = 2 }; };
struct Queries80 { enum { SIZE = 80, KEYS = 64, STEP = 32, WARPS = 8, M = 1, HELD = true, BLOCKS = 1 }; };
struct Queries96 { enum { SIZE = 96, KEYS = 64, STEP = 32, WARPS = 8, M = 1, HELD = true, BLOCKS = 1 }; };
struct Queries128 { enum { SIZE = 128, KEYS = 64, STEP = 32, WARPS = 8, M = 1, HELD = true, BLOCKS = 1 }; };
struct Queries256 { enum { SIZE = 256, KEYS = 32, STEP = 32, WARPS = 4, M = 1, HELD = false, BLOCKS = 1 }; };
struct Queries256Small { enum { SIZE = 256, KEYS = 16, STEP = 16, WARPS = 4, M = 1, HELD = false, BLOCKS = 1 }; };
// clang-format on

template <class P>
struct QueryShape {
  enum {
    SIZE = P::SIZE,
    KEYS = P::KEYS,
    STEP = P::STEP,
    WARPS = P::WARPS,
    M = P::M,
    HELD = P::HELD,
    BLOCKS = P::BLOCKS,
    THREADS = WARPS * WARP,
    ROWS = 16 * M, /* queries of a warp */
    QUERIES = WARPS * ROWS,
    HOLD = 2 * QUERIES * SIZE, /* Q, dout: elements */
    RING = 2 * 2 * KEYS * SIZE,
    SHARED = (HELD ? MAXIMUM(HOLD, RING) : HOLD + RING) * (int)sizeof(bf16)
  };
};

template <class S>
struct QueryWarp {
  float dq[S::M][S::SIZE / 8][4];
  uint32_t q[S::HELD ? S::SIZE / 16 : 1][S::M][4], dout[S::HELD ? S::SIZE / 16 : 1][S::M][4];
  float lse[S::M][2], delta[S::M][2];
  LanePlace by_row, by_column;
  int row; /* the warp's first in the tile */
};

template <class S>
__device__ __forceinline__ void load_keys(bf16 *to, const GradientArguments<bf16> &a, const TileRows &tile,
                                          int key, int last) {
  int64_t row = tile.begin + key;
  int head = tile.head / a.group;
  load_tile<S::KEYS, S::SIZE, S::THREADS>(
      to, {head_row(a.k, row, head), a.k.row, last - key, a.size, a.k.aligned});
  load_tile<S::KEYS, S::SIZE, S::THREADS>(
      to + S::KEYS * S::SIZE, {head_row(a.v, row, head), a.v.row, last - key, a.size, a.v.aligned});
  copy_async_commit();
}

/* S = Q K^T and dP = dout V^T of STEP keys from row `key` of the tiles. */
template <class S>
__device__ __forceinline__ void query_products(float (&s)[S::M][S::STEP / 8][4],
                                               float (&dp)[S::M][S::STEP / 8][4], QueryWarp<S> &w,
                                               const bf16 *hold, const bf16 *keys, int key) {
  clear(s);
  clear(dp);
#pragma unroll
  for (int k = 0; k < S::SIZE / 16; k++) {
    uint32_t(&q)[S::M][4] = w.q[S::HELD ? k : 0], (&dout)[S::M][4] = w.dout[S::HELD ? k : 0];
    if (!S::HELD) {
      load_rows<S::M, S::SIZE>(q, hold, w.by_row, w.row, k);
      load_rows<S::M, S::SIZE>(dout, hold + S::QUERIES * S::SIZE, w.by_row, w.row, k);
    }
#pragma unroll
    for (int n = 0; n < S::STEP / 16; n++) {
      uint32_t b[4];
      load_matrix_x4(b, fragment<S::SIZE>(keys, w.by_column, key + 16 * n, k));
      multiply_pair(s, 2 * n, q, b);
      load_matrix_x4(b, fragment<S::SIZE>(keys + S::KEYS * S::SIZE, w.by_column, key + 16 * n, k));
      multiply_pair(dp, 2 * n, dout, b);
    }
  }
}

/* dS into dp. `distance`: of the warp's first query from the step's first key, `key`. */
template <class S, bool RULED>
__device__ __forceinline__ void query_gradients(const float (&s)[S::M][S::STEP / 8][4],
                                                float (&dp)[S::M][S::STEP / 8][4], const QueryWarp<S> &w,
                                                ScoreRule rule, int distance, int key) {
  int lane = (int)threadIdx.x % WARP;
  bool cut = score_cut(distance - S::STEP + 1, distance + S::ROWS - 1, rule.window);
  distance += lane / 4 - lane % 4 * 2;
  key += lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int n = 0; n < S::STEP / 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int d = distance + 16 * m + e / 2 * 8 - 8 * n - e % 2;
        float bend = 1.0f, less = -w.lse[m][e / 2], x = s[m][n][e];
        x = RULED ? exp2_fast(score_apply(rule, x, d, key + 8 * n + e % 2, &bend) + less)
                  : exp2_fast(fmaf(x, rule.scale, less));
        x *= dp[m][n][e] - w.delta[m][e / 2];
        if (RULED) x *= bend;
        dp[m][n][e] = cut && !score_seen(d, rule.window) ? 0.0f : x;
      }
    }
  }
}

template <class S, bool RULED>
__device__ __forceinline__ void query_work(QueryWarp<S> &w, const bf16 *hold, const bf16 *keys,
                                           ScoreRule rule, int distance, int first_key) {
#pragma unroll 1
  for (int key = 0; key < S::KEYS; key += S::STEP) {
    int from = distance - key;
    if (score_hidden(from - S::STEP + 1, from + S::ROWS - 1, rule.window)) continue;
    float s[S::M][S::STEP / 8][4], dp[S::M][S::STEP / 8][4];
    query_products<S>(s, dp, w, hold, keys, key);
    query_gradients<S, RULED>(s, dp, w, rule, from, first_key + key);
#pragma unroll
    for (int k = 0; k < S::STEP / 16; k++) {
      uint32_t ds[S::M][4];
#pragma unroll
      for (int m = 0; m < S::M; m++) pack_operand(ds[m], dp[m][2 * k], dp[m][2 * k + 1]);
#pragma unroll
      for (int n = 0; n < S::SIZE / 16; n++) {
        uint32_t b[4];
        load_matrix_x4_transposed(b, fragment<S::SIZE>(keys, w.by_row, key + 16 * k, n));
        multiply_pair(w.dq, 2 * n, ds, b);
      }
    }
  }
}

template <class S>
__device__ __forceinline__ void query_start(QueryWarp<S> &w, bf16 *hold, const GradientArguments<bf16> &a,
                                            const TileRows &tile) {
  int64_t row = tile.begin + tile.first;
  int rows = tile.length - tile.first, lane = (int)threadIdx.x % WARP;
  load_tile<S::QUERIES, S::SIZE, S::THREADS>(
      hold, {head_row(a.q, row, tile.head), a.q.row, rows, a.size, a.q.aligned});
  load_tile<S::QUERIES, S::SIZE, S::THREADS>(
      hold + S::QUERIES * S::SIZE,
      {head_row(a.dout, row, tile.head), a.dout.row, rows, a.size, a.dout.aligned});
  copy_async_commit();
  w.by_row = place_rows<S::SIZE>();
  w.by_column = place_columns<S::SIZE>();
  w.row = (int)threadIdx.x / WARP * S::ROWS;
  clear(w.dq);
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int r = w.row + 16 * m + 8 * half + lane / 4;
      int64_t place = stat_place(a.stats, tile, tile.head, tile.first + r);
      w.lse[m][half] = r < rows ? a.stats.lse[place] : 0.0f;
      w.delta[m][half] = r < rows ? a.stats.delta[place] : 0.0f;
    }
  }
  if (!S::HELD) return;
  copy_async_wait<0>();
  __syncthreads();
#pragma unroll
  for (int k = 0; k < S::SIZE / 16; k++) {
    load_rows<S::M, S::SIZE>(w.q[S::HELD ? k : 0], hold, w.by_row, w.row, k);
    load_rows<S::M, S::SIZE>(w.dout[S::HELD ? k : 0], hold + S::QUERIES * S::SIZE, w.by_row, w.row, k);
  }
  __syncthreads();
}

template <class S, bool RULED>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS) attention_queries_kernel(GradientArguments<bf16> a) {
  SHARED_MEMORY(bf16, hold);
  bf16 *ring = S::HELD ? hold : hold + S::HOLD;
  TileRows tile;
  if (!find_tile(&tile, a.queries, S::QUERIES, true)) return;
  QueryWarp<S> w;
  query_start(w, hold, a, tile);
  ScoreRule rule = score_rule(a.score, score_slope(a.score, tile.head));
  int key = max(0, tile.first - a.score.window + 1), last = min(tile.length, tile.first + S::QUERIES);
  load_keys<S>(ring, a, tile, key, last);
  /* Rows beyond the sequence count as before its first key: every tile of keys is hidden from them. */
  int query = tile.first + w.row < tile.length ? tile.first + w.row : -S::ROWS;
  for (int turn = 0; key < last; turn++, key += S::KEYS) {
    copy_async_wait<0>();
    __syncthreads();
    if (key + S::KEYS < last)
      load_keys<S>(ring + (turn + 1) % 2 * (S::RING / 2), a, tile, key + S::KEYS, last);
    query_work<S, RULED>(w, hold, ring + turn % 2 * (S::RING / 2), rule, query - key, key);
  }
  float scale[S::M][2];
#pragma unroll
  for (int m = 0; m < S::M; m++) scale[m][0] = scale[m][1] = a.scale;
  __syncthreads(); /* the ring is read */
  bf16 *rows = hold + w.row * S::SIZE;
  put_result(rows, w.dq, scale);
  store_rows<S::ROWS, S::SIZE>(a.dq, tile.begin + tile.first + w.row, tile.head,
                               tile.length - tile.first - w.row, a.size, rows);
}

/* -- launches ------------------------------------------------------------------------------------------- */

template <class K, class Q>
static void gradient_launch(Compute *c, const GradientArguments<bf16> &a, int64_t rows) {
  unsigned key_blocks = packing_blocks(a.keys, rows, K::KEYS),
           query_blocks = packing_blocks(a.queries, rows, Q::QUERIES);
  if (score_is_plain(a.score)) {
    LAUNCH(c, (attention_keys_kernel<K, false>), key_blocks, K::THREADS, K::SHARED, a);
    LAUNCH(c, (attention_queries_kernel<Q, false>), query_blocks, Q::THREADS, Q::SHARED, a);
  } else {
    LAUNCH(c, (attention_keys_kernel<K, true>), key_blocks, K::THREADS, K::SHARED, a);
    LAUNCH(c, (attention_queries_kernel<Q, true>), query_blocks, Q::THREADS, Q::SHARED, a);
  }
}

/* With few key heads and one long sequence, the first tile of keys, which all queries see, may be most of the time:
 * then the tiles are narrower. */
static void gradient_128(Compute *c, const GradientArguments<bf16> &a, int64_t rows) {
  using Wide = KeyShape<Keys128>;
  using Queries = QueryShape<Queries128>;
  bool few = packing_blocks(a.keys, rows, Wide::KEYS) < 2 * (unsigned)c->device->multiprocessors;
  if (few && rows >= 1024) {
    gradient_launch<KeyShape<Keys128Narrow>, Queries>(c, a, rows);
  } else {
    gradient_launch<Wide, Queries>(c, a, rows);
  }
}

static void attention_gradient(Compute *c, const GradientArguments<bf16> &a, int64_t rows) {
  if (a.size <= 64) {
    gradient_launch<KeyShape<Keys64>, QueryShape<Queries64>>(c, a, rows);
  } else if (a.size <= 80) {
    gradient_launch<KeyShape<Keys80>, QueryShape<Queries80>>(c, a, rows);
  } else if (a.size <= 96) {
    gradient_launch<KeyShape<Keys96>, QueryShape<Queries96>>(c, a, rows);
  } else if (a.size <= 128) {
    gradient_128(c, a, rows);
  } else if (c->device->shared_per_block > 128 * 1024) {
    gradient_launch<KeyShape<Keys256>, QueryShape<Queries256>>(c, a, rows);
  } else {
    gradient_launch<KeyShape<Keys256>, QueryShape<Queries256Small>>(c, a, rows);
  }
}

template <class T>
static void attention_backward(Compute *c, GradientArguments<T> a, Tensor dq, Tensor dk, Tensor dv,
                               Tensor dout, Tensor out, Tensor q, Tensor k, Tensor v) {
  a.q = head_view<const T>(q);
  a.k = head_view<const T>(k);
  a.v = head_view<const T>(v);
  a.out = head_view<const T>(out);
  a.dout = head_view<const T>(dout);
  a.dq = head_view<T>(dq);
  a.dk = head_view<T>(dk);
  a.dv = head_view<T>(dv);
  LAUNCH(c, attention_stats_kernel<T>, packing_blocks(a.queries, q.dim[0], STAT_TILE), STAT_THREADS, 0, a);
  attention_gradient(c, a, q.dim[0]);
}

}  // namespace

extern "C" void cuda_attention_backward(Compute *c, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                                        Tensor lse, Tensor q, Tensor k, Tensor v, Tensor offsets,
                                        AttentionSpec spec) {
  int64_t heads = q.dim[1];
  attention_check(q, k, v, out);
  ASSERT(dout.dtype == q.dtype && dq.dtype == q.dtype && dk.dtype == q.dtype && dv.dtype == q.dtype);
  size_t mark = scratch_open(c);
  int64_t places = stat_places(q.dim[0], offsets.dim[0] - 1);
  float *stat_lse = scratch_new<float>(c, heads * places), *delta = scratch_new<float>(c, heads * places);
  if (!c->dry) {
    WITH_TYPE(q.dtype, T, {
      GradientArguments<T> a = {};
      a.lse = data<float>(lse);
      a.lse_row = lse.stride[0];
      a.stats = {stat_lse, delta, places};
      a.queries = packing_of(offsets, q);
      a.keys = packing_of(offsets, k);
      a.score = score_spec(spec);
      a.scale = spec.scale;
      a.group = (int)(heads / k.dim[1]);
      a.size = (int)q.dim[2];
      attention_backward<T>(c, a, dq, dk, dv, dout, out, q, k, v);
    });
  }
  scratch_close(c, mark);
}
