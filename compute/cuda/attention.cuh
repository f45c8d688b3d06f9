/* What attention.cu and attention_backward.cu share: which rows a block works on, and what becomes of a product
 * of a query and a key before the softmax.
 *
 * Positions count from the start of a sequence and fit an int; rows of the batch are 64 bits wide. Scores are
 * kept in units of log 2, so that exp(score) is one exp2: a factor log2(e) goes into `scale`, the cap and the
 * slopes. */
#ifndef COMPUTE_CUDA_ATTENTION_CUH
#define COMPUTE_CUDA_ATTENTION_CUH

#include "compute/cuda/kernel.cuh"

#include <climits>

#include <ptx.cuh>

#define LOG2_E 1.4426950408889634f
#define LOG_2  0.6931471805599453f

/* A [T,heads,D] tensor: row t of head h begins at data + t * row + h * head. */
template <class T>
struct HeadView {
  T *data;
  int64_t row, head; /* strides */
  bool aligned;      /* rows can be read 16 bytes at a time */
};

template <class T>
static HeadView<T> head_view(Tensor x) {
  constexpr int64_t pack = 16 / sizeof(T);
  bool aligned = (uintptr_t)x.data % 16 == 0 && x.stride[0] % pack == 0 && x.stride[1] % pack == 0 &&
                 x.dim[2] % pack == 0;
  return {(T *)x.data, x.stride[0], x.stride[1], aligned};
}

template <class T>
__device__ __forceinline__ T *head_row(HeadView<T> x, int64_t row, int head) {
  return x.data + row * x.row + head * x.head;
}

/* -- blocks to tiles ------------------------------------------------------------------------------------ */

/* How the packed batch is cut into tiles of rows. The lengths are on the device alone, so that the grid is made
 * of slots: sequence b has those from offsets[b] / tile + b on, at least as many as it needs, and the last is
 * rows / tile + sequences - 1. Blocks of slots without rows return. */
struct Packing {
  const int32_t *offsets;
  int sequences, heads; /* heads: blocks of one slot */
};

static inline unsigned packing_blocks(Packing p, int64_t rows, int tile) {
  int64_t blocks = (rows / tile + p.sequences) * p.heads;
  ASSERT(blocks <= INT_MAX);
  return p.sequences > 0 ? (unsigned)blocks : 0;
}

struct TileRows {
  int64_t begin; /* first row of the sequence */
  int sequence;
  int length; /* of the sequence */
  int first;  /* position of the tile's first row */
  int head;
};

/* The tile of this block; heads vary fastest, so that blocks that run together read the same rows. The last
 * positions of a sequence come first if `late_first`: long tasks first, short ones fill the gaps at the end.
 * Whole warps. The search looks at 32 sequences at once. */
__device__ __forceinline__ bool find_tile(TileRows *t, Packing p, int tile, bool late_first) {
  int slot = (int)(late_first ? gridDim.x - 1 - blockIdx.x : blockIdx.x) / p.heads;
  t->head = (int)blockIdx.x % p.heads;
  int low = 0, high = p.sequences; /* the answer is low .. high-1 */
  while (high - low > 1) {
    int step = (high - low + WARP - 1) / WARP, probe = low + (int)(threadIdx.x % WARP) * step;
    bool reached = probe < high && p.offsets[probe] / tile + probe <= slot;
    low += (__popc(__ballot_sync(FULL_MASK, reached)) - 1) * step;
    high = min(high, low + step);
  }
  int begin = p.offsets[low];
  t->begin = begin;
  t->sequence = low;
  t->length = p.offsets[low + 1] - begin;
  t->first = (slot - begin / tile - low) * tile;
  return t->first < t->length;
}

/* -- products to scores --------------------------------------------------------------------------------- */

struct ScoreSpec {
  float scale; /* from a product to units of log 2 */
  float cap;   /* 0: none */
  const float *slopes;
  int window; /* INT_MAX: all */
};

static inline ScoreSpec score_spec(AttentionSpec spec) {
  return {spec.scale * LOG2_E, spec.softcap * LOG2_E, (const float *)spec.slopes.data,
          spec.window > 0 ? spec.window : INT_MAX};
}

/* Whether a score is its product times a positive scale: then kernels take the fast way, where the scale is part
 * of the exponent. Masks are no rule: they are looked at only where they cut a tile. */
static inline bool score_is_plain(ScoreSpec spec) {
  return spec.scale > 0 && !(spec.cap > 0) && !spec.slopes;
}

struct ScoreRule { /* of one head */
  float scale, cap, inverse_cap, slope;
};

__device__ __forceinline__ ScoreRule score_rule(ScoreSpec spec, int head) {
  return {spec.scale, spec.cap, spec.cap > 0 ? 1.0f / spec.cap : 0.0f,
          spec.slopes ? spec.slopes[head] * LOG2_E : 0.0f};
}

__device__ __forceinline__ float tanh_fast(float x) {
  return 1.0f - __fdividef(2.0f, 1.0f + exp2_fast(2 * LOG2_E * x));
}

/* `distance`: query position minus key position. `*bend`: d score / d (scale * product). */
__device__ __forceinline__ float score_apply(ScoreRule rule, float product, int distance, float *bend) {
  float score = product * rule.scale;
  *bend = 1.0f;
  if (rule.cap > 0) {
    float t = tanh_fast(score * rule.inverse_cap);
    score = rule.cap * t;
    *bend = 1.0f - t * t;
  }
  return score - rule.slope * (float)distance;
}

/* 0 <= distance < window */
__device__ __forceinline__ bool score_seen(int distance, int window) {
  return (unsigned)distance < (unsigned)window;
}
/* Whether some, or all, of the distances lowest .. highest are out of sight. */
__device__ __forceinline__ bool score_cut(int lowest, int highest, int window) {
  return lowest < 0 || highest >= window;
}
__device__ __forceinline__ bool score_hidden(int lowest, int highest, int window) {
  return highest < 0 || lowest >= window;
}

/* Highest score before the first: above that of a masked key (-infinity), so that nothing becomes NaN. */
#define SCORE_START (-1e30f)

#endif
