/* Attention backward in bf16, dK and dV: a block has a tile of keys and walks over the queries that see them, of all
 * query heads of the group.
 *
 * Scores are computed transposed, [key][query], so that P^T and dS^T are in registers just as the A operands of dV
 * and dK need them. Two warps share 16*M keys: warp A makes S^T = K Q^T, then P^T, then dV += P^T dout; warp B makes
 * dP^T = V dout^T, then dS^T, then dK += dS^T Q. So each has one operand (K or V) held in registers and one sum, and
 * a fragment of Q or dout serves M = 2 products; with all four products in one warp there would be room for M = 1
 * only, and the loads from shared memory, not the products, would set the pace on sm_80 and sm_90. B needs P from
 * A and works one tile of queries behind: one barrier a tile. D = 128, registers that live through the loop:
 * 128 (sum) + 64 (K or V) + 16 (scores of 16 queries). */
#ifndef COMPUTE_CUDA_ATTENTION_BACKWARD_KEYS_CUH
#define COMPUTE_CUDA_ATTENTION_BACKWARD_KEYS_CUH

#include "compute/cuda/attention_gradient.cuh"
#include "compute/cuda/attention_tile.cuh"

#define MAXIMUM(a, b) ((a) > (b) ? (a) : (b))

/* SIZE: head sizes up to it. M: products of 16 keys that a pair of warps has side by side. PAIRS: of warps. QUERIES: of a
 * tile in the ring. BLOCKS: to fit on a multiprocessor. */
// clang-format off
struct Keys64 { enum { SIZE = 64, M = 2, PAIRS = 2, QUERIES = 32, BLOCKS = 3 }; };
struct Keys80 { enum { SIZE = 80, M = 2, PAIRS = 4, QUERIES = 32, BLOCKS = 1 }; };
struct Keys96 { enum { SIZE = 96, M = 2, PAIRS = 4, QUERIES = 32, BLOCKS = 1 }; };
struct Keys128 { enum { SIZE = 128, M = 2, PAIRS = 4, QUERIES = 32, BLOCKS = 1 }; };
struct Keys128Narrow { enum { SIZE = 128, M = 1, PAIRS = 4, QUERIES = 32, BLOCKS = 1 }; };
struct Keys256 { enum { SIZE = 256, M = 1, PAIRS = 4, QUERIES = 16, BLOCKS = 1 }; };
// clang-format on

template <class P>
struct KeyShape {
  enum {
    SIZE = P::SIZE,
    M = P::M,
    QUERIES = P::QUERIES,
    BLOCKS = P::BLOCKS,
    PAIRS = P::PAIRS,
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
 * from the pair's first key, `key`; `queries`: how many there are. */
template <class S, bool RULED>
__device__ __forceinline__ void key_probabilities(float (&s)[S::M][2][4], Pack<__half2, 4> *passed,
                                                  const float *lse, ScoreRule rule, int distance, int key,
                                                  int queries) {
  int lane = (int)threadIdx.x % WARP, pair = lane % 4 * 2;
  bool cut = queries < 16 || score_cut(distance - S::ROWS + 1, distance + 15, rule.window);
  distance += pair - lane / 4;
  key += lane / 4;
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
          x = RULED ? exp2_fast(score_apply(rule, x, d, key + 16 * m + 8 * half, &bend[e]) + less)
                    : exp2_fast(fmaf(x, rule.scale, less));
          if (cut && !(score_seen(d, rule.window) && 8 * n + pair + e < queries)) x = 0;
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
  ScoreRule rule = score_rule(a.score, score_slope(a.score, at.head));
#pragma unroll 1
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
      key_probabilities<S, RULED>(s, exchange, stats + 16 * step, rule, distance, w.key, queries);
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
  __shared__ TileRows tile; /* registers are scarce */
  bf16 *tiles = reinterpret_cast<bf16 *>(shared);
  TileRows found;
  if (!find_tile(&found, a.keys, S::KEYS, false)) return;
  if (threadIdx.x == 0) tile = found;
  KeyWarp<S> w;
  key_start(w, tiles, a, found);
  int end = found.length - found.first > a.score.window
                ? min(found.length, found.first + S::KEYS - 1 + a.score.window)
                : found.length; /* of the queries that see a key of the tile */
  int count = (end - found.first + S::QUERIES - 1) / S::QUERIES * a.group;
  Walk ahead = {found.head * a.group, found.first}, at = ahead;
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

#endif
