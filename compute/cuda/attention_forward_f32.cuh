/* Attention forward in fp32; see attention_f32.cuh for the tiles and attention.cu for the algorithm. */
#ifndef COMPUTE_CUDA_ATTENTION_FORWARD_F32_CUH
#define COMPUTE_CUDA_ATTENTION_FORWARD_F32_CUH

#include "compute/cuda/attention_f32.cuh"

/* Over the 16 threads of the same y: half a warp, but all of it takes part. */
__device__ __forceinline__ float side_max(float v) {
#pragma unroll
  for (int step = SIDE / 2; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(FULL_MASK, v, step));
  return v;
}
__device__ __forceinline__ float side_sum(float v) {
#pragma unroll
  for (int step = SIDE / 2; step > 0; step /= 2) v += __shfl_xor_sync(FULL_MASK, v, step);
  return v;
}

struct PlainForward {
  HeadView<const float> q, k, v;
  HeadView<float> out;
  float *lse;
  int64_t lse_row;
  Packing packing;
  ScoreSpec score;
  int group, size;
};

template <int R, int SIZE>
struct PlainShape {
  enum { TILE = SIDE * R, STRIDE = SIZE + 1, ROWS = TILE * STRIDE, PROBABILITIES = TILE * (TILE + 1) };
};

/* Scores of a tile become exponentials in `p`; `distance`: of its first query from its first key, `key`. */
template <int R>
__device__ __forceinline__ void plain_softmax(float *p, float (&s)[R][R], ScoreRule rule, int distance,
                                              int key, float (&highest)[R], float (&total)[R],
                                              float (&rescale)[R]) {
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
#pragma unroll
  for (int i = 0; i < R; i++) {
    float before = highest[i], sum = 0;
#pragma unroll
    for (int j = 0; j < R; j++) {
      int d = distance + y - x + SIDE * (i - j);
      s[i][j] = score_masked(rule, s[i][j], d, key + x + SIDE * j);
      highest[i] = fmaxf(highest[i], s[i][j]);
    }
    highest[i] = side_max(highest[i]);
    rescale[i] = exp2_fast(before - highest[i]);
#pragma unroll
    for (int j = 0; j < R; j++) {
      float e = exp2_fast(s[i][j] - highest[i]);
      p[(y + SIDE * i) * (SIDE * R + 1) + x + SIDE * j] = e;
      sum += e;
    }
    total[i] = fmaf(total[i], rescale[i], side_sum(sum));
  }
}

template <int R, int SIZE>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_f32_kernel(PlainForward a) {
  using S = PlainShape<R, SIZE>;
  SHARED_MEMORY(float, q);
  float *kv = q + S::ROWS, *p = kv + S::ROWS;
  TileRows tile;
  if (!find_tile(&tile, a.packing, S::TILE, true)) return;
  int kv_head = tile.head / a.group, rows = tile.length - tile.first;
  float sum[R][SIZE / SIDE] = {}, highest[R], total[R] = {}, inverse[R];
  ScoreRule rule = score_rule(a.score, score_slope(a.score, tile.head));
#pragma unroll
  for (int i = 0; i < R; i++) highest[i] = LOWEST;
  plain_load<S::TILE, SIZE>(q, a.q, tile.begin + tile.first, tile.head, rows, a.size);
  int last = min(tile.length, tile.first + S::TILE);
  for (int key = max(0, tile.first - a.score.window + 1); key < last; key += S::TILE) {
    float s[R][R] = {}, rescale[R];
    __syncthreads(); /* the values of the tile before are read */
    plain_load<S::TILE, SIZE>(kv, a.k, tile.begin + key, kv_head, last - key, a.size);
    __syncthreads();
    plain_scores<R, SIZE>(s, q, kv);
    plain_softmax<R>(p, s, rule, tile.first - key, key, highest, total, rescale);
    __syncthreads();
    plain_load<S::TILE, SIZE>(kv, a.v, tile.begin + key, kv_head, last - key, a.size);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
      for (int j = 0; j < SIZE / SIDE; j++) sum[i][j] *= rescale[i];
    }
    plain_accumulate<R, SIZE>(sum, p, S::TILE + 1, 1, kv);
  }
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
#pragma unroll
  for (int i = 0; i < R; i++) {
    inverse[i] = 1.0f / total[i];
    if (a.lse && x == 0 && y + SIDE * i < rows) {
      a.lse[(tile.begin + tile.first + y + SIDE * i) * a.lse_row + tile.head] =
          (highest[i] + log2f(total[i])) * LOG_2;
    }
  }
  plain_store<R, SIZE>(a.out, tile.begin + tile.first, tile.head, rows, a.size, sum, inverse);
}

template <int R, int SIZE>
static void plain_forward_launch(Compute *c, const PlainForward &a, int64_t rows) {
  using S = PlainShape<R, SIZE>;
  LAUNCH(c, (attention_f32_kernel<R, SIZE>), packing_blocks(a.packing, rows, S::TILE), PLAIN_THREADS,
         (2 * S::ROWS + S::PROBABILITIES) * sizeof(float), a);
}

static inline void attention_f32(Compute *c, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                 Packing packing, AttentionSpec spec) {
  PlainForward a = {.q = head_view<const float>(q),
                    .k = head_view<const float>(k),
                    .v = head_view<const float>(v),
                    .out = head_view<float>(out),
                    .lse = data<float>(lse),
                    .lse_row = tensor_is_none(lse) ? 0 : lse.stride[0],
                    .packing = packing,
                    .score = score_spec(spec),
                    .group = (int)(q.dim[1] / k.dim[1]),
                    .size = (int)q.dim[2]};
  if (a.size <= 64) {
    plain_forward_launch<4, 64>(c, a, q.dim[0]);
  } else if (a.size <= 128) {
    plain_forward_launch<4, 128>(c, a, q.dim[0]);
  } else {
    plain_forward_launch<2, 256>(c, a, q.dim[0]);
  }
}

#endif
