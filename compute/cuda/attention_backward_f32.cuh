/* Attention backward in fp32; see attention_f32.cuh for the tiles and attention_backward.cu for the mathematics.
 * A tile of queries and one of keys give P and dS in shared memory, [query][key]. */
#ifndef COMPUTE_CUDA_ATTENTION_BACKWARD_F32_CUH
#define COMPUTE_CUDA_ATTENTION_BACKWARD_F32_CUH

#include "compute/cuda/attention_f32.cuh"
#include "compute/cuda/attention_gradient.cuh"

template <int R, int SIZE>
struct PlainGradientShape {
  enum {
    TILE = SIDE * R,
    ROWS = TILE * (SIZE + 1),
    WIDTH = TILE + 1,
    SHARED = (4 * ROWS + 2 * TILE * WIDTH) * (int)sizeof(float)
  };
  float *q, *dout, *k, *v, *p, *ds;
};

template <int R, int SIZE>
__device__ __forceinline__ PlainGradientShape<R, SIZE> plain_gradient_tiles(float *memory) {
  using S = PlainGradientShape<R, SIZE>;
  float *p = memory + 4 * S::ROWS;
  return {memory, memory + S::ROWS, memory + 2 * S::ROWS, memory + 3 * S::ROWS, p, p + S::TILE * S::WIDTH};
}

/* P and dS of the tiles in shared memory: queries from position `query` of head `head`, keys from `key`. */
template <int R, int SIZE>
__device__ __forceinline__ void plain_gradient(PlainGradientShape<R, SIZE> s,
                                               const GradientArguments<float> &a, TileRows tile, int head,
                                               int query, int key) {
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
  float score[R][R] = {}, dp[R][R] = {};
  ScoreRule rule = score_rule(a.score, score_slope(a.score, head));
  plain_scores<R, SIZE>(score, s.q, s.k);
  plain_scores<R, SIZE>(dp, s.dout, s.v);
#pragma unroll
  for (int i = 0; i < R; i++) {
    int row = y + SIDE * i;
    int64_t place = stat_place(a.stats, tile, head, query + row);
    bool exists = query + row < tile.length;
    float lse = exists ? a.stats.lse[place] : 0.0f, delta = exists ? a.stats.delta[place] : 0.0f;
#pragma unroll
    for (int j = 0; j < R; j++) {
      int column = x + SIDE * j, distance = query + row - key - column;
      float bend, z = score_apply(rule, score[i][j], distance, key + column, &bend);
      float p = exists && score_seen(distance, a.score.window) ? exp2_fast(z - lse) : 0.0f;
      s.p[row * s.WIDTH + column] = p;
      s.ds[row * s.WIDTH + column] = p * (dp[i][j] - delta) * bend;
    }
  }
}

template <int R, int SIZE>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_keys_f32_kernel(GradientArguments<float> a) {
  using S = PlainGradientShape<R, SIZE>;
  SHARED_MEMORY(float, memory);
  S s = plain_gradient_tiles<R, SIZE>(memory);
  TileRows tile;
  if (!find_tile(&tile, a.keys, S::TILE, false)) return;
  int rows = tile.length - tile.first;
  int end = a.score.window < rows ? min(tile.length, tile.first + S::TILE - 1 + a.score.window) : tile.length;
  float dk[R][SIZE / SIDE] = {}, dv[R][SIZE / SIDE] = {}, scale[R], one[R];
  plain_load<S::TILE, SIZE>(s.k, a.k, tile.begin + tile.first, tile.head, rows, a.size);
  plain_load<S::TILE, SIZE>(s.v, a.v, tile.begin + tile.first, tile.head, rows, a.size);
  for (int head = tile.head * a.group; head < (tile.head + 1) * a.group; head++) {
    for (int query = tile.first; query < end; query += S::TILE) {
      __syncthreads();
      plain_load<S::TILE, SIZE>(s.q, a.q, tile.begin + query, head, tile.length - query, a.size);
      plain_load<S::TILE, SIZE>(s.dout, a.dout, tile.begin + query, head, tile.length - query, a.size);
      __syncthreads();
      plain_gradient<R, SIZE>(s, a, tile, head, query, tile.first);
      __syncthreads();
      plain_accumulate<R, SIZE>(dv, s.p, 1, S::WIDTH, s.dout);
      plain_accumulate<R, SIZE>(dk, s.ds, 1, S::WIDTH, s.q);
    }
  }
#pragma unroll
  for (int i = 0; i < R; i++) {
    scale[i] = a.scale;
    one[i] = 1.0f;
  }
  plain_store<R, SIZE>(a.dk, tile.begin + tile.first, tile.head, rows, a.size, dk, scale);
  plain_store<R, SIZE>(a.dv, tile.begin + tile.first, tile.head, rows, a.size, dv, one);
}

template <int R, int SIZE>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_queries_f32_kernel(GradientArguments<float> a) {
  using S = PlainGradientShape<R, SIZE>;
  SHARED_MEMORY(float, memory);
  S s = plain_gradient_tiles<R, SIZE>(memory);
  TileRows tile;
  if (!find_tile(&tile, a.queries, S::TILE, true)) return;
  int rows = tile.length - tile.first, kv_head = tile.head / a.group,
      last = min(tile.length, tile.first + S::TILE);
  float dq[R][SIZE / SIDE] = {}, scale[R];
  plain_load<S::TILE, SIZE>(s.q, a.q, tile.begin + tile.first, tile.head, rows, a.size);
  plain_load<S::TILE, SIZE>(s.dout, a.dout, tile.begin + tile.first, tile.head, rows, a.size);
  for (int key = max(0, tile.first - a.score.window + 1); key < last; key += S::TILE) {
    __syncthreads();
    plain_load<S::TILE, SIZE>(s.k, a.k, tile.begin + key, kv_head, last - key, a.size);
    plain_load<S::TILE, SIZE>(s.v, a.v, tile.begin + key, kv_head, last - key, a.size);
    __syncthreads();
    plain_gradient<R, SIZE>(s, a, tile, tile.head, tile.first, key);
    __syncthreads();
    plain_accumulate<R, SIZE>(dq, s.ds, S::WIDTH, 1, s.k);
  }
#pragma unroll
  for (int i = 0; i < R; i++) scale[i] = a.scale;
  plain_store<R, SIZE>(a.dq, tile.begin + tile.first, tile.head, rows, a.size, dq, scale);
}

template <int R, int SIZE>
static void plain_gradient_launch(Compute *c, const GradientArguments<float> &a, int64_t rows) {
  using S = PlainGradientShape<R, SIZE>;
  LAUNCH(c, (attention_keys_f32_kernel<R, SIZE>), packing_blocks(a.keys, rows, S::TILE), PLAIN_THREADS,
         S::SHARED, a);
  LAUNCH(c, (attention_queries_f32_kernel<R, SIZE>), packing_blocks(a.queries, rows, S::TILE), PLAIN_THREADS,
         S::SHARED, a);
}

static inline void attention_gradient(Compute *c, const GradientArguments<float> &a, int64_t rows) {
  if (a.size <= 64) {
    plain_gradient_launch<2, 64>(c, a, rows);
  } else if (a.size <= 128) {
    plain_gradient_launch<2, 128>(c, a, rows);
  } else {
    plain_gradient_launch<1, 256>(c, a, rows);
  }
}

#endif
