/* Attention over packed sequences, backward: FlashAttention-2 (Dao 2023, algorithm 2) without atomics, so that the
 * result is the same to the bit each time. With P = exp(score - lse) and delta = dout . out:
 *   dV = P^T dout    dS = P * (dout V^T - delta) * (slope of the cap)    dQ = scale * dS K    dK = scale * dS^T Q
 *
 * First the statistics of the queries (attention_gradient.cuh). Then a kernel over tiles of keys (dK, dV: four
 * products) and one over tiles of queries (dQ: three; S and dP are made again). Each sum has one owner and one order.
 * Floor: the tensor cores; 14*D FLOPs per pair of a query and a key it sees, of which 10*D are needed: at the same
 * speed per product as a kernel with atomics this reaches 5/7 of it.
 *
 * Keys kernel. Scores are computed transposed, [key][query], so that P^T and dS^T are in registers just as the A
 * operands of dV and dK need them. Two warps share 16*M keys: warp A makes S^T = K Q^T, then P^T, then
 * dV += P^T dout; warp B makes dP^T = V dout^T, then dS^T, then dK += dS^T Q. So each has one operand (K or V) held in
 * registers and one sum, and a fragment of Q or dout serves M = 2 products; with all four products in one warp there
 * would be room for M = 1 only, and the loads from shared memory, not the products, would set the pace on sm_80
 * and sm_90. B needs P from A and works one tile of queries behind: one barrier a tile. D = 128, registers that
 * live through the loop: 128 (sum) + 64 (K or V) + 16 (scores of 16 queries).
 *
 * Queries kernel. Each warp by itself, as in the forward. D = 128, M = 1: 64 (Q, dout) + 64 (dQ) + 32 (S, dP).
 *
 * f32: attention_backward_f32.cuh. */
#include "compute/cuda/attention_backward_f32.cuh"
#include "compute/cuda/attention_tile.cuh"

#define MAXIMUM(a, b) ((a) > (b) ? (a) : (b))

template <int M, int N>
__device__ __forceinline__ void clear(float (&d)[M][N][4]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N; n++) d[m][n][0] = d[m][n][1] = d[m][n][2] = d[m][n][3] = 0;
  }
}

/* -- dK, dV: tiles of keys ------------------------------------------------------------------------------ */

template <int SIZE_, int M_, int QUERIES_, int BLOCKS_>
struct KeyShape {
  enum {
    SIZE = SIZE_,
    M = M_,
    QUERIES = QUERIES_, /* of a tile in the ring */
    BLOCKS = BLOCKS_,
    PAIRS = 4,
    THREADS = 2 * PAIRS * WARP,
    ROWS = 16 * M, /* keys of a pair of warps */
    KEYS = PAIRS * ROWS,
    STEPS = QUERIES / 16,
    STAGES = 3, /* A reads one, B reads one, one is being copied */
    TILE = QUERIES * SIZE,
    /* Shared memory, bytes: Q and dout, lse and delta of STAGES tiles; P of two tiles. Before and after: K, V. */
    STAT_BYTES = QUERIES * (int)sizeof(float),
    RING = STAGES * 2 * (TILE * (int)sizeof(bf16)),
    STATS = STAGES * 2 * STAT_BYTES,
    PASSED = PAIRS * STEPS * M * WARP * 16,
    SHARED = MAXIMUM(RING + STATS + 2 * PASSED, 2 * KEYS * SIZE * (int)sizeof(bf16))
  };
};

/* A place in the walk of a tile of keys over the query heads of its group, and their queries. */
struct Walk {
  int head, query; /* query: position */
};

template <class S>
__device__ __forceinline__ void walk_on(Walk &w, int first, int end) {
  w.query += S::QUERIES;
  if (w.query >= end) {
    w.query = first;
    w.head++;
  }
}

template <class S>
__device__ __forceinline__ void load_queries(unsigned char *shared, int slot,
                                             const GradientArguments<bf16> &a, const TileRows &tile, Walk w) {
  static_assert((int)STAT_TILE % (int)S::QUERIES == 0, "whole tiles of statistics");
  constexpr int pieces = S::STAT_BYTES / 16;
  bf16 *q = reinterpret_cast<bf16 *>(shared) + slot * 2 * S::TILE;
  int64_t row = tile.begin + w.query;
  int rows = tile.length - w.query;
  load_tile<S::QUERIES, S::SIZE, S::THREADS>(
      q, {head_row(a.q, row, w.head), a.q.row, rows, a.size, a.q.aligned});
  load_tile<S::QUERIES, S::SIZE, S::THREADS>(
      q + S::TILE, {head_row(a.dout, row, w.head), a.dout.row, rows, a.size, a.dout.aligned});
  if (threadIdx.x < 2 * pieces) {
    int second = (int)threadIdx.x / pieces, piece = (int)threadIdx.x % pieces;
    const float *from = (second ? a.stats.delta : a.stats.lse) + stat_place(a.stats, tile, w.head, w.query);
    copy_async_16(shared + S::RING + (slot * 2 + second) * S::STAT_BYTES + piece * 16, from + piece * 4,
                  true);
  }
  copy_async_commit();
}

/* P^T of 16*M keys and 16 queries, in the accumulators s, and for B in `passed`: there as fp16, which has 3 bits
 * more than bf16 where a probability is large enough to matter. lse: of the queries. `distance`: of the first query
 * from the pair's first key; `queries`: how many there are. */
template <class S, bool RULED>
__device__ __forceinline__ void key_probabilities(float (&s)[S::M][2][4], Pack<__half2, 4> *passed,
                                                  const float *lse, int window, ScoreRule rule, int distance,
                                                  int queries) {
  int lane = (int)threadIdx.x % WARP, pair = lane % 4 * 2;
  bool cut = queries < 16 || score_cut(distance - S::ROWS + 1, distance + 15, window);
  distance += pair - lane / 4;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
    Pack<__half2, 4> pass;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float bend[2] = {1.0f, 1.0f};
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float &x = s[m][n][2 * half + e], less = -lse[8 * n + pair + e];
          int d = distance + 8 * n + e - 16 * m - 8 * half;
          x = RULED ? exp2_fast(score_apply(rule, x, d, &bend[e]) + less)
                    : exp2_fast(fmaf(x, rule.scale, less));
          if (cut && !(score_seen(d, window) && 8 * n + pair + e < queries)) x = 0;
        }
        pass.at[2 * n + half] =
            __floats2half2_rn(s[m][n][2 * half] * bend[0], s[m][n][2 * half + 1] * bend[1]);
      }
    }
    passed[m * WARP] = pass;
  }
}

/* dS^T from dP^T in s and P^T from A (times the slope of the cap). */
template <class S>
__device__ __forceinline__ void key_gradients(float (&s)[S::M][2][4], const Pack<__half2, 4> *passed,
                                              const float *delta) {
  int pair = (int)threadIdx.x % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
    Pack<__half2, 4> p = passed[m * WARP];
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float2 probability = __half22float2(p.at[2 * n + half]);
        float(&x)[4] = s[m][n];
        x[2 * half] = probability.x * (x[2 * half] - delta[8 * n + pair]);
        x[2 * half + 1] = probability.y * (x[2 * half + 1] - delta[8 * n + pair + 1]);
      }
    }
  }
}

template <class S>
struct KeyWarp {
  float sum[S::M][S::SIZE / 8][4];      /* dV or dK */
  uint32_t held[S::SIZE / 16][S::M][4]; /* K or V */
  LanePlace by_row, by_column;
  int second; /* 0: A, 1: B */
  int key;    /* position of the pair's first */
};

/* One tile of queries, in slot `slot` of the ring; P through `passed`. */
template <class S, bool RULED>
__device__ __forceinline__ void key_work(KeyWarp<S> &w, unsigned char *shared, int slot,
                                         Pack<__half2, 4> *passed, const GradientArguments<bf16> &a,
                                         int length, Walk at) {
  const bf16 *tile = reinterpret_cast<bf16 *>(shared) + slot * 2 * S::TILE;
  const bf16 *first = tile + w.second * S::TILE, *other = tile + (1 - w.second) * S::TILE;
  const float *stats = reinterpret_cast<float *>(shared + S::RING + (slot * 2 + w.second) * S::STAT_BYTES);
  ScoreRule rule = score_rule(a.score, at.head);
#pragma unroll
  for (int step = 0; step < S::STEPS; step++) {
    int distance = at.query + 16 * step - w.key, queries = length - at.query - 16 * step;
    if (queries <= 0 || score_hidden(distance - S::ROWS + 1, distance + 15, a.score.window)) continue;
    float s[S::M][2][4];
    clear(s);
#pragma unroll
    for (int k = 0; k < S::SIZE / 16; k++) {
      uint32_t b[4];
      load_matrix_x4(b, fragment<S::SIZE>(first, w.by_column, 16 * step, k));
      multiply_pair(s, 0, w.held[k], b);
    }
    Pack<__half2, 4> *exchange = passed + step * S::M * WARP;
    if (w.second) {
      key_gradients<S>(s, exchange, stats + 16 * step);
    } else {
      key_probabilities<S, RULED>(s, exchange, stats + 16 * step, a.score.window, rule, distance, queries);
    }
    uint32_t operand[S::M][4];
#pragma unroll
    for (int m = 0; m < S::M; m++) pack_operand(operand[m], s[m][0], s[m][1]);
#pragma unroll
    for (int n = 0; n < S::SIZE / 16; n++) {
      uint32_t b[4];
      load_matrix_x4_transposed(b, fragment<S::SIZE>(other, w.by_row, 16 * step, n));
      multiply_pair(w.sum, 2 * n, operand, b);
    }
  }
}

/* K and V pass through shared memory into registers. */
template <class S>
__device__ __forceinline__ void key_start(KeyWarp<S> &w, bf16 *tiles, const GradientArguments<bf16> &a,
                                          const TileRows &tile) {
  int64_t row = tile.begin + tile.first;
  int rows = tile.length - tile.first, warp = (int)threadIdx.x / WARP;
  load_tile<S::KEYS, S::SIZE, S::THREADS>(
      tiles, {head_row(a.k, row, tile.head), a.k.row, rows, a.size, a.k.aligned});
  load_tile<S::KEYS, S::SIZE, S::THREADS>(
      tiles + S::KEYS * S::SIZE, {head_row(a.v, row, tile.head), a.v.row, rows, a.size, a.v.aligned});
  copy_async_commit();
  w.by_row = place_rows<S::SIZE>();
  w.by_column = place_columns<S::SIZE>();
  w.second = warp / S::PAIRS;
  w.key = tile.first + warp % S::PAIRS * S::ROWS;
  clear(w.sum);
  copy_async_wait<0>();
  __syncthreads();
#pragma unroll
  for (int k = 0; k < S::SIZE / 16; k++)
    load_rows<S::M, S::SIZE>(w.held[k], tiles, w.by_row, warp * S::ROWS, k);
  __syncthreads();
}

template <class S>
__device__ __forceinline__ void key_finish(KeyWarp<S> &w, bf16 *tiles, const GradientArguments<bf16> &a,
                                           const TileRows &tile) {
  float scale[S::M][2];
#pragma unroll
  for (int m = 0; m < S::M; m++) scale[m][0] = scale[m][1] = w.second ? a.scale : 1.0f;
  bf16 *rows = tiles + (int)threadIdx.x / WARP * S::ROWS * S::SIZE;
  __syncthreads();
  put_result(rows, w.sum, scale);
  store_rows<S::ROWS, S::SIZE>(w.second ? a.dk : a.dv, tile.begin + w.key, tile.head, tile.length - w.key,
                               a.size, rows);
}

template <class S, bool RULED>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS) attention_keys_kernel(GradientArguments<bf16> a) {
  SHARED_MEMORY(unsigned char, shared);
  bf16 *tiles = reinterpret_cast<bf16 *>(shared);
  TileRows tile;
  if (!find_tile(&tile, a.keys, S::KEYS, false)) return;
  KeyWarp<S> w;
  key_start(w, tiles, a, tile);
  int end = tile.length - tile.first > a.score.window
                ? min(tile.length, tile.first + S::KEYS - 1 + a.score.window)
                : tile.length; /* of the queries that see a key of the tile */
  int count = (end - tile.first + S::QUERIES - 1) / S::QUERIES * a.group;
  Walk ahead = {tile.head * a.group, tile.first}, at = ahead;
  Pack<__half2, 4> *passed = reinterpret_cast<Pack<__half2, 4> *>(shared + S::RING + S::STATS) +
                             (int)threadIdx.x / WARP % S::PAIRS * S::STEPS * S::M * WARP + threadIdx.x % WARP;
  load_queries<S>(shared, 0, a, tile, ahead);
  int slot = w.second ? S::STAGES - 1 : 0, free = 1; /* B's first turn is idle */
  for (int turn = 0; turn <= count; turn++) {
    copy_async_wait<0>();
    __syncthreads();
    if (turn + 1 < count) {
      walk_on<S>(ahead, tile.first, end);
      load_queries<S>(shared, free, a, tile, ahead);
    }
    free = free + 1 == S::STAGES ? 0 : free + 1;
    if (w.second ? turn > 0 : turn < count) {
      key_work<S, RULED>(w, shared, slot, passed + (turn + w.second) % 2 * (S::PASSED / 16), a, tile.length,
                         at);
      walk_on<S>(at, tile.first, end);
    }
    slot = slot + 1 == S::STAGES ? 0 : slot + 1;
  }
  key_finish(w, tiles, a, tile);
}

/* -- dQ: tiles of queries ------------------------------------------------------------------------------- */

/* STEP: keys at once. HELD: fragments of Q and dout stay in registers. */
template <int SIZE_, int KEYS_, int STEP_, int WARPS_, int M_, bool HELD_, int BLOCKS_>
struct QueryShape {
  enum {
    SIZE = SIZE_,
    KEYS = KEYS_,
    STEP = STEP_,
    WARPS = WARPS_,
    M = M_,
    HELD = HELD_,
    BLOCKS = BLOCKS_,
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

/* dS into dp. `distance`: of the warp's first query from the step's first key. */
template <class S, bool RULED>
__device__ __forceinline__ void query_gradients(const float (&s)[S::M][S::STEP / 8][4],
                                                float (&dp)[S::M][S::STEP / 8][4], const QueryWarp<S> &w,
                                                ScoreRule rule, int distance, int window) {
  int lane = (int)threadIdx.x % WARP;
  bool cut = score_cut(distance - S::STEP + 1, distance + S::ROWS - 1, window);
  distance += lane / 4 - lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int n = 0; n < S::STEP / 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int d = distance + 16 * m + e / 2 * 8 - 8 * n - e % 2;
        float bend = 1.0f, less = -w.lse[m][e / 2], x = s[m][n][e];
        x = RULED ? exp2_fast(score_apply(rule, x, d, &bend) + less) : exp2_fast(fmaf(x, rule.scale, less));
        x *= dp[m][n][e] - w.delta[m][e / 2];
        if (RULED) x *= bend;
        dp[m][n][e] = cut && !score_seen(d, window) ? 0.0f : x;
      }
    }
  }
}

template <class S, bool RULED>
__device__ __forceinline__ void query_work(QueryWarp<S> &w, const bf16 *hold, const bf16 *keys,
                                           ScoreRule rule, int distance, int window) {
#pragma unroll 1
  for (int key = 0; key < S::KEYS; key += S::STEP) {
    int from = distance - key;
    if (score_hidden(from - S::STEP + 1, from + S::ROWS - 1, window)) continue;
    float s[S::M][S::STEP / 8][4], dp[S::M][S::STEP / 8][4];
    query_products<S>(s, dp, w, hold, keys, key);
    query_gradients<S, RULED>(s, dp, w, rule, from, window);
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
  ScoreRule rule = score_rule(a.score, tile.head);
  int key = max(0, tile.first - a.score.window + 1), last = min(tile.length, tile.first + S::QUERIES);
  load_keys<S>(ring, a, tile, key, last);
  for (int turn = 0; key < last; turn++, key += S::KEYS) {
    copy_async_wait<0>();
    __syncthreads();
    if (key + S::KEYS < last)
      load_keys<S>(ring + (turn + 1) % 2 * (S::RING / 2), a, tile, key + S::KEYS, last);
    query_work<S, RULED>(w, hold, ring + turn % 2 * (S::RING / 2), rule, tile.first + w.row - key,
                         a.score.window);
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

static void attention_gradient(Compute *c, const GradientArguments<bf16> &a, int64_t rows) {
  if (a.size <= 64) {
    gradient_launch<KeyShape<64, 2, 32, 1>, QueryShape<64, 64, 32, 4, 2, true, 2>>(c, a, rows);
  } else if (a.size <= 80) {
    gradient_launch<KeyShape<80, 2, 32, 1>, QueryShape<80, 64, 32, 8, 1, true, 1>>(c, a, rows);
  } else if (a.size <= 96) {
    gradient_launch<KeyShape<96, 2, 32, 1>, QueryShape<96, 64, 32, 8, 1, true, 1>>(c, a, rows);
  } else if (a.size <= 128) {
    gradient_launch<KeyShape<128, 2, 32, 1>, QueryShape<128, 64, 32, 8, 1, true, 1>>(c, a, rows);
  } else if (c->device->shared_per_block > 128 * 1024) {
    gradient_launch<KeyShape<256, 1, 16, 1>, QueryShape<256, 32, 32, 4, 1, false, 1>>(c, a, rows);
  } else {
    gradient_launch<KeyShape<256, 1, 16, 1>, QueryShape<256, 16, 16, 4, 1, false, 1>>(c, a, rows);
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

extern "C" void cuda_attention_backward(Compute *c, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                                        Tensor lse, Tensor q, Tensor k, Tensor v, Tensor offsets,
                                        AttentionSpec spec) {
  int64_t heads = q.dim[1], kv_heads = k.dim[1], sequences = offsets.dim[0] - 1;
  ASSERT(heads % kv_heads == 0 && k.dim[2] == q.dim[2] && v.dim[2] == q.dim[2] && q.dim[2] <= 256);
  ASSERT(k.dtype == q.dtype && v.dtype == q.dtype && out.dtype == q.dtype && dout.dtype == q.dtype);
  ASSERT(dq.dtype == q.dtype && dk.dtype == q.dtype && dv.dtype == q.dtype);
  size_t mark = scratch_open(c);
  int64_t places = stat_places(q.dim[0], sequences);
  float *stat_lse = scratch_new<float>(c, heads * places), *delta = scratch_new<float>(c, heads * places);
  if (!c->dry) {
    WITH_TYPE(q.dtype, T, {
      GradientArguments<T> a = {};
      a.lse = data<float>(lse);
      a.lse_row = lse.stride[0];
      a.stats = {stat_lse, delta, places};
      a.queries = {data<int32_t>(offsets), (int)sequences, (int)heads};
      a.keys = {data<int32_t>(offsets), (int)sequences, (int)kv_heads};
      a.score = score_spec(spec);
      a.scale = spec.scale;
      a.group = (int)(heads / kv_heads);
      a.size = (int)q.dim[2];
      attention_backward<T>(c, a, dq, dk, dv, dout, out, q, k, v);
    });
  }
  scratch_close(c, mark);
}
