/* What the backward kernels of both dtypes share: their arguments, and the statistics of the queries. */
#ifndef COMPUTE_CUDA_ATTENTION_GRADIENT_CUH
#define COMPUTE_CUDA_ATTENTION_GRADIENT_CUH

#include "compute/cuda/attention.cuh"

/* lse (in units of log 2) and delta = dout . out of each query, by head and place: a sequence begins at a multiple
 * of STAT_TILE places, so that a tile of queries is whole 16-byte pieces. Places that are no query hold zeros up to
 * the next multiple; with the zeros of its rows, such a query then adds nothing anywhere. */
enum { STAT_TILE = 32 };

struct QueryStats {
  float *lse, *delta; /* [heads][places] */
  int64_t places;     /* of all slots of STAT_TILE */
};

static inline int64_t stat_places(int64_t rows, int64_t sequences) {
  return (rows / STAT_TILE + sequences) * STAT_TILE;
}

/* The place of a position of the tile's sequence. */
__device__ __forceinline__ int64_t stat_place(QueryStats s, TileRows t, int head, int position) {
  return head * s.places + (t.begin / STAT_TILE + t.sequence) * STAT_TILE + position;
}

template <class T>
struct GradientArguments {
  HeadView<const T> q, k, v, out, dout;
  HeadView<T> dq, dk, dv;
  const float *lse; /* as the forward left it */
  int64_t lse_row;
  QueryStats stats;
  Packing queries, keys; /* heads: of queries, of keys */
  ScoreSpec score;
  float scale;
  int group, size;
};

enum { STAT_LANES = 16, STAT_THREADS = STAT_TILE * STAT_LANES };

/* A block has STAT_TILE rows of a head, 16 lanes a row. */
template <class T>
__global__ void __launch_bounds__(STAT_THREADS) attention_stats_kernel(GradientArguments<T> a) {
  constexpr int pack = 16 / sizeof(T);
  TileRows tile;
  if (!find_tile(&tile, a.queries, STAT_TILE, false)) return;
  int position = tile.first + (int)threadIdx.x / STAT_LANES, lane = (int)threadIdx.x % STAT_LANES;
  bool exists = position < tile.length;
  int64_t row = tile.begin + (exists ? position : tile.first);
  const T *out = head_row(a.out, row, tile.head), *dout = head_row(a.dout, row, tile.head);
  float sum = 0;
  if (a.out.aligned && a.dout.aligned) {
    for (int d = lane * pack; d < a.size; d += STAT_LANES * pack) {
      Pack<T, pack> x = load_pack<T, pack>(out + d), y = load_pack<T, pack>(dout + d);
#pragma unroll
      for (int i = 0; i < pack; i++) sum = fmaf(to_float(x.at[i]), to_float(y.at[i]), sum);
    }
  } else {
    for (int d = lane; d < a.size; d += STAT_LANES) sum = fmaf(to_float(out[d]), to_float(dout[d]), sum);
  }
#pragma unroll
  for (int step = STAT_LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_MASK, sum, step);
  if (lane != 0) return;
  int64_t place = stat_place(a.stats, tile, tile.head, position);
  a.stats.delta[place] = exists ? sum : 0.0f;
  a.stats.lse[place] = exists ? a.lse[row * a.lse_row + tile.head] * LOG2_E : 0.0f;
}

#endif
