/* The warp of attention_paged for every dtype and head size that tensor cores do not take (attention_paged_warp.cuh): lane l holds
 * elements l, l + 32 ... of a key; all in fp32. */
#ifndef COMPUTE_CUDA_ATTENTION_PAGED_PLAIN_CUH
#define COMPUTE_CUDA_ATTENTION_PAGED_PLAIN_CUH

#include "compute/cuda/attention_paged_warp.cuh"

template <class T_, int CHUNKS_>
struct PlainWarp {
  typedef T_ T;
  enum { CHUNKS = CHUNKS_, PADDED = 32 * CHUNKS, GROUPS = 8, COLUMNS = 8, OWN = 1 };
  float query[COLUMNS][CHUNKS]; /* elements lane + 32 i of every column */
  Column column[GROUPS][OWN];
};

template <class T, int CHUNKS>
__device__ __forceinline__ int own_column(const PlainWarp<T, CHUNKS> &, int group, int, int) {
  return group;
}
template <class T, int CHUNKS>
__device__ __forceinline__ int query_column(const PlainWarp<T, CHUNKS> &, int group, int) {
  return group;
}

template <class T, int CHUNKS>
__device__ __forceinline__ void warp_query(PlainWarp<T, CHUNKS> &w, const void *q, bool narrow, int group,
                                           int size, bool exists, bool, int lane) {
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    const int d = lane + 32 * i;
    float x = 0;
    if (exists && d < size) {
      x = narrow ? to_float(static_cast<const bf16 *>(q)[d]) : static_cast<const float *>(q)[d];
    }
    w.query[group][i] = x;
  }
}

/* Key number 32 h + lane of the warp, counted from the start of the partition. */
__device__ __forceinline__ int plain_key(int h, int i, int warp) {
  const int number = 32 * h + i;
  return (number / TILE * WARPS + warp) * TILE + number % TILE;
}

/* Of the key at `at`, in `rows`: keys or values, and the scales of codes. */
template <class T, int CHUNKS>
__device__ __forceinline__ void load_row(float x[CHUNKS], const void *rows, const float *scales, bool narrow,
                                         int64_t at, int size, int lane) {
  const T *row = static_cast<const T *>(rows) + (sizeof(T) == 1 ? at * size : at);
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    const int d = lane + 32 * i;
    if constexpr (sizeof(T) == 1) {
      x[i] = d < size ? __fmul_rn((float)row[d], scales[at]) : 0.0f;
      if (narrow) x[i] = rounded_bf16(x[i]);
    } else {
      x[i] = d < size ? to_float(row[d]) : 0.0f;
    }
  }
}

/* s[h][column]: the product of key 32 h + lane. */
template <class T, int CHUNKS>
__device__ __forceinline__ void plain_scores(float s[2][8], const PlainWarp<T, CHUNKS> &w,
                                             const Cached &cached, const int64_t *offset, int size, int count,
                                             int warp, int lane) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
#pragma unroll 4
    for (int i = 0; i < WARP; i++) {
      const int64_t at = offset[plain_key(h, i, warp)];
      if (at < 0) continue;
      float x[CHUNKS];
      load_row<T, CHUNKS>(x, cached.keys, cached.key_scales, cached.narrow, at, size, lane);
#pragma unroll
      for (int column = 0; column < 8; column++) {
        if (column >= count) continue;
        float sum = 0;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) sum = fmaf(x[c], w.query[column][c], sum);
        sum = warp_sum(sum);
        if (lane == i) s[h][column] = sum;
      }
    }
  }
}

template <class T, int CHUNKS>
__device__ __forceinline__ void warp_partition(const PlainWarp<T, CHUNKS> &w, float (*to)[32 * CHUNKS + 4],
                                               float2 *stats, const Cached &cached, const int64_t *offset,
                                               int size, int count, ScoreSpec score, int start, int warp,
                                               int lane) {
  float s[2][8] = {}, out[8][CHUNKS] = {};
  plain_scores(s, w, cached, offset, size, count, warp, lane);
#pragma unroll
  for (int column = 0; column < 8; column++) {
    if (column >= count) continue;
    const Column own = w.column[column][0];
    float highest = LOWEST, sum = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      s[h][column] = column_score(score, own, s[h][column], start + plain_key(h, lane, warp));
      highest = fmaxf(highest, s[h][column]);
    }
    highest = warp_max(highest);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      s[h][column] = exp2_fast(s[h][column] - highest);
      sum += s[h][column];
    }
    sum = warp_sum(sum);
    if (lane == 0) stats[column] = make_float2(highest, sum);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
#pragma unroll 4
    for (int i = 0; i < WARP; i++) {
      const int64_t at = offset[plain_key(h, i, warp)];
      if (at < 0) continue;
      float x[CHUNKS];
      load_row<T, CHUNKS>(x, cached.values, cached.value_scales, cached.narrow, at, size, lane);
#pragma unroll
      for (int column = 0; column < 8; column++) {
        if (column >= count) continue;
        const float p = __shfl_sync(FULL_MASK, s[h][column], i);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) out[column][c] = fmaf(p, x[c], out[column][c]);
      }
    }
  }
#pragma unroll
  for (int column = 0; column < 8; column++) {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      if (column < count) to[column][lane + 32 * c] = out[column][c];
    }
  }
}

#endif
