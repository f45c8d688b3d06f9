/* Tiles of bf16 rows in shared memory, and the tensor-core products of attention on them.
 *
 * A tile is [rows][SIZE], SIZE the head size rounded up (zeros fill the rest). The 16-byte pieces of a row are
 * permuted by the row number, so that the 8 rows that ldmatrix reads at once lie in 8 different bank groups: with
 * n = SIZE/8 pieces per row and g the largest of 2, 4, 8 that divides n, row r begins in group n*r mod 8, a
 * multiple of g that repeats after 8/g rows; piece c moves to c ^ (r / (8/g) % g), within its g neighbours.
 *
 * Products keep to m16n8k16: a warp owns 16*M rows; what its lanes hold of a 16x16 result (two n8 tiles) is, as
 * bf16 pairs, just the A operand of a next product that sums over those 16 columns. So probabilities never pass
 * through shared memory within a warp. */
#ifndef COMPUTE_CUDA_ATTENTION_TILE_CUH
#define COMPUTE_CUDA_ATTENTION_TILE_CUH

#include "compute/cuda/attention.cuh"

template <int SIZE>
__device__ constexpr int swizzle_period() {
  static_assert(SIZE % 16 == 0, "whole k-steps");
  return SIZE / 8 % 8 == 0 ? 8 : SIZE / 8 % 4 == 0 ? 4 : 2;
}
template <int SIZE>
__device__ __forceinline__ int swizzle(int row) {
  constexpr int period = swizzle_period<SIZE>();
  return row / (8 / period) % period;
}
template <int SIZE>
__device__ __forceinline__ int piece_offset(int row, int piece) {
  return row * SIZE + (piece ^ swizzle<SIZE>(row)) * 8;
}

/* -- global <-> shared ---------------------------------------------------------------------------------- */

/* Row 0 of a tile and what of it exists. */
struct RowSource {
  const bf16 *data;
  int64_t stride;
  int rows; /* may be more than the tile has, or <= 0 */
  int size;
  bool aligned;
};

/* An odd head size or address: no more registers than needed, speed does not matter. */
template <int ROWS, int SIZE, int THREADS>
__device__ __forceinline__ void load_tile_slowly(bf16 *to, const RowSource &from) {
#pragma unroll 1
  for (int i = (int)threadIdx.x; i < ROWS * SIZE; i += THREADS) {
    int row = i / SIZE, d = i % SIZE;
    bool valid = row < from.rows && d < from.size;
    to[piece_offset<SIZE>(row, d / 8) + d % 8] =
        valid ? from.data[row * from.stride + d] : from_float<bf16>(0.0f);
  }
}

/* Starts copying a tile; rows and columns that do not exist become zero. All THREADS threads. */
template <int ROWS, int SIZE, int THREADS>
__device__ __forceinline__ void load_tile(bf16 *to, const RowSource &from) {
  constexpr int pieces = SIZE / 8;
  if (!from.aligned) {
    load_tile_slowly<ROWS, SIZE, THREADS>(to, from);
    return;
  }
  if constexpr (THREADS % pieces == 0) { /* a thread keeps to its column */
    constexpr int step = THREADS / pieces;
    int row = (int)threadIdx.x / pieces, piece = (int)threadIdx.x % pieces;
    bool inside = piece * 8 < from.size;
    const bf16 *source = from.data + row * from.stride + piece * 8;
#pragma unroll 2
    for (int r = 0; r < ROWS; r += step) {
      if (ROWS % step != 0 && row + r >= ROWS) break;
      bool valid = inside && row + r < from.rows;
      copy_async_16(to + piece_offset<SIZE>(row + r, piece), valid ? source : from.data, valid);
      source += step * from.stride;
    }
  } else {
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < ROWS * pieces; i += THREADS) {
      int row = i / pieces, piece = i % pieces;
      bool valid = row < from.rows && piece * 8 < from.size;
      copy_async_16(to + piece_offset<SIZE>(row, piece),
                    from.data + (valid ? row * from.stride + piece * 8 : 0), valid);
    }
  }
}

/* Writes the warp's rows of a tile that it has just put together (and nobody else has touched). */
template <int ROWS, int SIZE>
__device__ __forceinline__ void store_rows(HeadView<bf16> view, int64_t row, int head, int rows, int size,
                                           const bf16 *from) {
  constexpr int pieces = SIZE / 8;
  __syncwarp();
  for (int i = (int)threadIdx.x % WARP; i < ROWS * pieces; i += WARP) {
    int r = i / pieces, piece = i % pieces;
    if (r >= rows || piece * 8 >= size) continue;
    bf16 *target = head_row(view, row + r, head) + piece * 8;
    const bf16 *source = from + piece_offset<SIZE>(r, piece);
    if (view.aligned) {
      store_pack(target, load_pack<bf16, 8>(source));
    } else {
      for (int j = 0; j < 8 && piece * 8 + j < size; j++) target[j] = source[j];
    }
  }
}

/* -- fragments ------------------------------------------------------------------------------------------ */

/* Where a lane points ldmatrix within a 16x16 part of a tile; bytes. */
struct LanePlace {
  int row;
  int piece; /* permuted */
};

/* The tile's rows are the rows of an A operand, or (transposed) the summed index of a B operand. */
template <int SIZE>
__device__ __forceinline__ LanePlace place_rows() {
  int lane = (int)threadIdx.x % WARP, row = lane % 16;
  return {row * SIZE * 2, (lane / 16 ^ swizzle<SIZE>(row)) * 16};
}
/* The tile's rows are the columns of a B operand, summed along the row. */
template <int SIZE>
__device__ __forceinline__ LanePlace place_columns() {
  int lane = (int)threadIdx.x % WARP, row = lane / 16 * 8 + lane % 8;
  return {row * SIZE * 2, (lane / 8 % 2 ^ swizzle<SIZE>(row)) * 16};
}

/* Rows row.. (a multiple of 16), elements 16*step.. of them. */
template <int SIZE>
__device__ __forceinline__ const void *fragment(const bf16 *tile, LanePlace place, int row, int step) {
  constexpr int period = swizzle_period<SIZE>();
  return reinterpret_cast<const unsigned char *>(tile) + place.row + (place.piece ^ 2 * step % period * 16) +
         row * SIZE * 2 + 2 * step / period * period * 16;
}

/* A operands of the 16*M rows from `row` on. */
template <int M, int SIZE>
__device__ __forceinline__ void load_rows(uint32_t (&a)[M][4], const bf16 *tile, LanePlace place, int row,
                                          int step) {
#pragma unroll
  for (int m = 0; m < M; m++) load_matrix_x4(a[m], fragment<SIZE>(tile, place, row + 16 * m, step));
}

template <int M, int N>
__device__ __forceinline__ void clear(float (&d)[M][N][4]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N; n++) d[m][n][0] = d[m][n][1] = d[m][n][2] = d[m][n][3] = 0;
  }
}

/* Two n8 tiles. */
template <int M, int N>
__device__ __forceinline__ void multiply_pair(float (&d)[M][N][4], int n, const uint32_t (&a)[M][4],
                                              const uint32_t (&b)[4]) {
#pragma unroll
  for (int m = 0; m < M; m++) {
    mma_bf16(d[m][n], a[m], b);
    mma_bf16(d[m][n + 1], a[m], b + 2);
  }
}

/* A 16x16 result as the A operand of the next product. */
__device__ __forceinline__ void pack_operand(uint32_t (&a)[4], const float (&left)[4],
                                             const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]);
  a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]);
  a[3] = pack_bf16(right[2], right[3]);
}

/* Over the 4 lanes that share a row of a result. */
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(FULL_MASK, x, 1);
  return x + __shfl_xor_sync(FULL_MASK, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 1));
  return fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 2));
}

/* d, times `scale`, to rows 0 .. 16*M-1 of a tile. */
template <int M, int N>
__device__ __forceinline__ void put_result(bf16 *tile, const float (&d)[M][N][4],
                                           const float (&scale)[M][2]) {
  int lane = (int)threadIdx.x % WARP, group = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        uint32_t packed =
            pack_bf16(d[m][n][2 * half] * scale[m][half], d[m][n][2 * half + 1] * scale[m][half]);
        bf16 *to = tile + piece_offset<N * 8>(16 * m + 8 * half + group, n) + pair;
        *reinterpret_cast<uint32_t *>(to) = packed;
      }
    }
  }
}

#endif
