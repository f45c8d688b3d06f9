/* What attention.cu and attention_backward.cu share: which rows a block works on.
 *
 * Positions count from the start of a sequence and fit an int; rows of the batch are 64 bits wide. */
#ifndef COMPUTE_CUDA_ATTENTION_CUH
#define COMPUTE_CUDA_ATTENTION_CUH

#include "compute/cuda/score.cuh"

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

/* Of the heads of q, or of k. */
static inline Packing packing_of(Tensor offsets, Tensor x) {
  return {data<int32_t>(offsets), (int)offsets.dim[0] - 1, (int)x.dim[1]};
}

/* What both directions take: one type, heads of one size up to 256, whole groups of query heads. */
static inline void attention_check(Tensor q, Tensor k, Tensor v, Tensor out) {
  ASSERT(q.dim[1] % k.dim[1] == 0 && k.dim[2] == q.dim[2] && v.dim[2] == q.dim[2] && q.dim[2] <= 256);
  ASSERT(k.dtype == q.dtype && v.dtype == q.dtype && out.dtype == q.dtype);
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

#endif
