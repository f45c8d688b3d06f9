/* What one warp does for attention_paged: the columns (queries) of its block against 64 of the 256 keys of a
 * partition, as (maximum, sum, out) of each column. Two kinds of warp, for the frame in attention_paged.cu:
 *
 * TensorWarp, all bf16: S^T = K Q^T and O^T = V^T P^T by mma.m16n8k16, so that keys and head elements fill the
 * 16 rows, and 8 columns are enough (a decoding row has few). Both sums may run over their index in any order,
 * if both factors do in the same; the order here is the one in which every lane's share of K and V is 16
 * contiguous bytes of memory, so that both go from memory to registers at once, without shared memory:
 *   - K: lane (g, c) = (lane / 4, lane % 4) holds elements 32 i + 8 c .. + 7 of keys g and g + 8; they are the
 *     k-indices {2c, 2c+1, 2c+8, 2c+9} of two products;
 *   - V: it holds elements 64 i + 8 g .. + 7 of keys 2c, 2c+1, 2c+8, 2c+9; rows g and g + 8 of product u are
 *     elements 8 g + 2 u and 8 g + 2 u + 1, so that a lane ends with 8 contiguous elements of out.
 * An element of a product is a function of its row of A and its column of B alone, so a column's bits do not
 * depend on the others. P goes in as the sum of two bf16: rounded to one it would be most of the error, and a
 * second product for the same V should cost little beside the reading of V.
 *
 * Of a cache in 8 bits the same lanes hold the same elements, as 8 bytes of codes with their row's scale until the product
 * needs them as bf16.
 *
 * PlainWarp (attention_paged_plain.cuh): every other dtype and head size. */
#ifndef COMPUTE_CUDA_ATTENTION_PAGED_WARP_CUH
#define COMPUTE_CUDA_ATTENTION_PAGED_WARP_CUH

#include "compute/cuda/score.cuh"

enum {
  PARTITION = 256, /* keys; a constant, so that a row's partitions are a function of its position alone */
  WARPS = 4,
  TILE = 16,                          /* keys of a product; tile t of a partition is warp t % WARPS's */
  ROUNDS = PARTITION / (TILE * WARPS) /* tiles of a warp */
};

/* The cache as warps read it. Offsets of keys that come with it count elements; of codes, keys. */
struct Cached {
  const void *keys, *values;
  const float *key_scales, *value_scales; /* of codes, else NULL */
  bool narrow;                            /* queries are BF16, and so are the values of codes */
};

/* One query of a block as a lane sees it. */
struct Column {
  int position; /* -1: there is none */
  float slope;
};

__device__ __forceinline__ float column_score(ScoreSpec spec, Column column, float product, int key) {
  return score_masked(score_rule(spec, column.slope), product, column.position - key, key);
}

/* -- tensor cores --------------------------------------------------------------------------------------- */

template <class Stored_, int CHUNKS_, int GROUPS_>
struct TensorWarp {
  typedef Stored_ Stored; /* bf16, or int8_t: codes */
  enum {
    CHUNKS = CHUNKS_, /* of 32 elements */
    PADDED = 32 * CHUNKS,
    WIDE = (CHUNKS + 1) / 2, /* chunks of 64 */
    GROUPS = GROUPS_,        /* of 8 columns */
    COLUMNS = 8 * GROUPS,
    STAGES = CHUNKS * GROUPS > 4 ? 1 : 2, /* tiles in registers */
    WORDS = 2 * sizeof(Stored),           /* registers of 8 elements */
    OWN = 2                               /* columns of a group whose scores a lane has: 2c and 2c + 1 */
  };
  uint32_t query[GROUPS][CHUNKS][4]; /* of column g of the group, elements 32 i + 8 c .. + 7 */
  Column column[GROUPS][OWN];
};

/* A lane's share of 16 keys, or of their values, as it lies in memory. Of keys, piece 2 i + h is of row h of its two rows and
 * chunk i; of values, piece 4 i + k of row k of four. */
template <class W>
struct Tile {
  uint32_t piece[4 * W::WIDE][W::WORDS];
  float scale[4]; /* of codes: of each row */
};

template <class Stored, int CHUNKS, int GROUPS>
__device__ __forceinline__ int own_column(const TensorWarp<Stored, CHUNKS, GROUPS> &, int group, int i,
                                          int lane) {
  return 8 * group + lane % 4 * 2 + i;
}
template <class Stored, int CHUNKS, int GROUPS>
__device__ __forceinline__ int query_column(const TensorWarp<Stored, CHUNKS, GROUPS> &, int group, int lane) {
  return 8 * group + lane / 4;
}

__device__ __forceinline__ void load_16(uint32_t r[4], const bf16 *p, bool valid) {
  Pack<bf16, 8> pack;
  memset(&pack, 0, sizeof pack);
  if (valid) pack = load_pack<bf16, 8>(p);
  memcpy(r, &pack, sizeof pack);
}

/* Elements of a query: 16 bytes, or one by one where the rows of q are not aligned. */
__device__ __forceinline__ void load_query(uint32_t r[4], const bf16 *p, bool valid, bool aligned) {
  if (aligned) {
    load_16(r, p, valid);
    return;
  }
  bf16 x[8];
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = valid ? p[i] : from_float<bf16>(0.0f);
  memcpy(r, x, sizeof x);
}

template <class Stored, int CHUNKS, int GROUPS>
__device__ __forceinline__ void warp_query(TensorWarp<Stored, CHUNKS, GROUPS> &w, const void *q, bool,
                                           int group, int size, bool exists, bool aligned, int lane) {
  const bf16 *row = static_cast<const bf16 *>(q);
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    const int at = 32 * i + lane % 4 * 8;
    load_query(w.query[group][i], row + at, exists && at < size, aligned);
  }
}

__device__ __forceinline__ uint32_t low_halves(uint32_t a, uint32_t b) {
  return (a & 0xffffu) | b << 16;
}
__device__ __forceinline__ uint32_t high_halves(uint32_t a, uint32_t b) {
  return a >> 16 | (b & 0xffff0000u);
}
__device__ __forceinline__ float bf16_value(uint32_t bits) {
  float x;
  bits <<= 16;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Elements d .. d + 7 of the row at `at`; zeros when at < 0 or beyond `size`. */
__device__ __forceinline__ void load_piece(uint32_t r[4], const bf16 *rows, int64_t at, int d, int size) {
  load_16(r, rows + at + d, at >= 0 && d < size);
}
__device__ __forceinline__ void load_piece(uint32_t r[2], const int8_t *rows, int64_t at, int d, int size) {
  Pack<int8_t, 8> pack;
  memset(&pack, 0, sizeof pack);
  if (at >= 0 && d < size) pack = load_pack<int8_t, 8>(rows + at * size + d);
  memcpy(r, &pack, sizeof pack);
}

__device__ __forceinline__ void load_scale(float *, const bf16 *, const float *, int64_t) {}
__device__ __forceinline__ void load_scale(float *scale, const int8_t *, const float *scales, int64_t at) {
  *scale = at >= 0 ? scales[at] : 0.0f;
}

/* Keys g and g + 8 of a tile; offset < 0: nobody sees the key, and what is there may be anything. */
template <class W>
__device__ __forceinline__ void tile_keys(Tile<W> &tile, const Cached &cached, const int64_t *offset,
                                          int size, int lane) {
  const typename W::Stored *keys = static_cast<const typename W::Stored *>(cached.keys);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int64_t at = offset[lane / 4 + 8 * half];
    load_scale(&tile.scale[half], keys, cached.key_scales, at);
#pragma unroll
    for (int i = 0; i < W::CHUNKS; i++)
      load_piece(tile.piece[2 * i + half], keys, at, 32 * i + lane % 4 * 8, size);
  }
}

template <class W>
__device__ __forceinline__ void tile_values(Tile<W> &tile, const Cached &cached, const int64_t *offset,
                                            int size, int lane) {
  const typename W::Stored *values = static_cast<const typename W::Stored *>(cached.values);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const int64_t at = offset[lane % 4 * 2 + k % 2 + k / 2 * 8];
    load_scale(&tile.scale[k], values, cached.value_scales, at);
#pragma unroll
    for (int i = 0; i < W::WIDE; i++)
      load_piece(tile.piece[4 * i + k], values, at, 64 * i + lane / 4 * 8, size);
  }
}

/* Codes in the bytes of a register to floats without a conversion, which has a fraction of the rate: a byte, its sign bit
 * turned, as the last of the fraction of 2^23 is 2^23 + 128 + code. */
__device__ __forceinline__ float code_value(uint32_t turned, int byte, float scale) {
  const uint32_t bits = __byte_perm(turned, 0x4b000000u, 0x7440u + (unsigned)byte);
  float x;
  memcpy(&x, &bits, sizeof x);
  return __fmul_rn(x - 8388736.0f, scale);
}

/* 8 elements as the products take them. */
__device__ __forceinline__ void widen_codes(uint32_t out[4], const uint32_t piece[2], float scale) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t turned = piece[i / 2] ^ 0x80808080u;
    out[i] = pack_bf16(code_value(turned, i % 2 * 2, scale), code_value(turned, i % 2 * 2 + 1, scale));
  }
}

/* rows: of the tile, that a lane has a share of: 2 of keys, 4 of values. */
template <class W, int ROWS>
__device__ __forceinline__ void tile_open(uint32_t stage[4 * W::WIDE][4], const Tile<W> &tile) {
#pragma unroll
  for (int i = 0; i < 4 * W::WIDE; i++) {
    if (ROWS == 2 && i >= 2 * W::CHUNKS) continue;
    if constexpr (W::WORDS == 4) {
#pragma unroll
      for (int word = 0; word < 4; word++) stage[i][word] = tile.piece[i][word];
    } else {
      widen_codes(stage[i], tile.piece[i], tile.scale[i % ROWS]);
    }
  }
}

template <class W>
__device__ __forceinline__ void tile_scores(float s[W::GROUPS][4], const W &w, const Tile<W> &tile,
                                            int count) {
  uint32_t stage[4 * W::WIDE][4];
  tile_open<W, 2>(stage, tile);
#pragma unroll
  for (int group = 0; group < W::GROUPS; group++) {
#pragma unroll
    for (int e = 0; e < 4; e++) s[group][e] = 0;
    if (8 * group >= count) continue;
#pragma unroll
    for (int i = 0; i < W::CHUNKS; i++) {
      const uint32_t *a = stage[2 * i], *b = stage[2 * i + 1];
      const uint32_t first[4] = {a[0], b[0], a[1], b[1]}, second[4] = {a[2], b[2], a[3], b[3]};
      mma_bf16(s[group], first, w.query[group][i]);
      mma_bf16(s[group], second, w.query[group][i] + 2);
    }
  }
}

template <class W>
__device__ __forceinline__ void tile_sums(float out[4 * W::WIDE][W::GROUPS][4], const Tile<W> &tile,
                                          const uint32_t p[W::GROUPS][2][2], int count) {
  uint32_t stage[4 * W::WIDE][4];
  tile_open<W, 4>(stage, tile);
#pragma unroll
  for (int i = 0; i < W::WIDE; i++) {
    const uint32_t(*v)[4] = stage + 4 * i;
#pragma unroll
    for (int u = 0; u < 4; u++) {
      const uint32_t a[4] = {low_halves(v[0][u], v[1][u]), high_halves(v[0][u], v[1][u]),
                             low_halves(v[2][u], v[3][u]), high_halves(v[2][u], v[3][u])};
#pragma unroll
      for (int group = 0; group < W::GROUPS; group++) {
        if (8 * group >= count) continue;
        mma_bf16(out[4 * i + u][group], a, p[group][0]);
        mma_bf16(out[4 * i + u][group], a, p[group][1]);
      }
    }
  }
}

/* An 8x8 matrix that lies as a product leaves it, (row g, columns 2c and 2c+1), to its transpose. */
__device__ __forceinline__ uint32_t transpose_8x8(uint32_t x, int lane) {
  const int from = lane % 4 * 8 + lane / 8;
  const uint32_t a = __shfl_sync(FULL_MASK, x, from), b = __shfl_sync(FULL_MASK, x, from + 4);
  return lane / 4 % 2 == 0 ? low_halves(a, b) : high_halves(a, b);
}

__device__ __forceinline__ float max_over_keys(float x) {
#pragma unroll
  for (int step = 4; step < WARP; step *= 2) x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, step));
  return x;
}
__device__ __forceinline__ float sum_over_keys(float x) {
#pragma unroll
  for (int step = 4; step < WARP; step *= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
  return x;
}

/* Products of a group's columns with the warp's keys -> exponentials as factors of the second product:
 * p[round][group][0] are their first 8 bits, [1] the next 8; of keys 2c.. and keys 2c+8... */
template <class W>
__device__ __forceinline__ void group_softmax(uint32_t p[ROUNDS][W::GROUPS][2][2], float2 *stats, const W &w,
                                              float s[ROUNDS][W::GROUPS][4], int group, ScoreSpec score,
                                              int first_key, int lane) {
  float highest[2] = {LOWEST, LOWEST}, sum[2] = {0, 0};
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const Column column = w.column[group][e % 2];
      const int key = first_key + r * WARPS * TILE + lane / 4 + e / 2 * 8;
      float *x = &s[r][group][e];
      *x = column_score(score, column, *x, key);
      highest[e % 2] = fmaxf(highest[e % 2], *x);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++) highest[i] = max_over_keys(highest[i]);
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float *x = s[r][group] + 2 * half;
      const float a = exp2_fast(x[0] - highest[0]), b = exp2_fast(x[1] - highest[1]);
      const uint32_t high = pack_bf16(a, b),
                     low = pack_bf16(a - bf16_value(high), b - bf16_value(high >> 16));
      sum[0] += a;
      sum[1] += b;
      p[r][group][0][half] = transpose_8x8(high, lane);
      p[r][group][1][half] = transpose_8x8(low, lane);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    sum[i] = sum_over_keys(sum[i]);
    if (lane < 4) stats[own_column(w, group, i, lane)] = make_float2(highest[i], sum[i]);
  }
}

template <class W>
__device__ __forceinline__ void warp_write(float (*to)[W::PADDED + 4],
                                           const float out[4 * W::WIDE][W::GROUPS][4], int count, int lane) {
#pragma unroll
  for (int group = 0; group < W::GROUPS; group++) {
#pragma unroll
    for (int i = 0; i < W::WIDE; i++) {
      const int d = 64 * i + lane / 4 * 8;
      if (d >= W::PADDED) continue;
#pragma unroll
      for (int own = 0; own < 2; own++) {
        const int column = 8 * group + lane % 4 * 2 + own;
        if (column >= count) continue;
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float *a = out[4 * i + 2 * half][group], *b = out[4 * i + 2 * half + 1][group];
          store_pack<float, 4>(to[column] + d + 4 * half, {{a[own], a[own + 2], b[own], b[own + 2]}});
        }
      }
    }
  }
}

/* Tile 0 .. ROUNDS-1: keys; then values. */
template <class W>
__device__ __forceinline__ void tile_load(Tile<W> stage[W::STAGES], int tile, const Cached &cached,
                                          const int64_t *offset, int size, int lane) {
  const int64_t *own = offset + tile % ROUNDS * WARPS * TILE;
  if (tile >= 2 * ROUNDS) return;
  if (tile < ROUNDS) {
    tile_keys<W>(stage[tile % W::STAGES], cached, own, size, lane);
  } else {
    tile_values<W>(stage[tile % W::STAGES], cached, own, size, lane);
  }
}

/* With two stages, loads run one tile ahead of the products. */
template <class Stored, int CHUNKS, int GROUPS>
__device__ __forceinline__ void warp_partition(const TensorWarp<Stored, CHUNKS, GROUPS> &w,
                                               float (*to)[32 * CHUNKS + 4], float2 *stats,
                                               const Cached &cached, const int64_t *offset, int size,
                                               int count, ScoreSpec score, int start, int warp, int lane) {
  typedef TensorWarp<Stored, CHUNKS, GROUPS> W;
  Tile<W> stage[W::STAGES];
  uint32_t p[ROUNDS][GROUPS][2][2] = {};
  float s[ROUNDS][GROUPS][4];
  offset += warp * TILE;
  if (W::STAGES == 2) tile_load<W>(stage, 0, cached, offset, size, lane);
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
    __syncwarp(); /* loads stay here: registers hold the stages, not all tiles */
    tile_load<W>(stage, r + W::STAGES - 1, cached, offset, size, lane);
    tile_scores<W>(s[r], w, stage[r % W::STAGES], count);
  }
#pragma unroll
  for (int group = 0; group < GROUPS; group++) {
    if (8 * group < count) group_softmax<W>(p, stats, w, s, group, score, start + warp * TILE, lane);
  }
  float out[4 * W::WIDE][GROUPS][4] = {};
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
    __syncwarp();
    tile_load<W>(stage, ROUNDS + r + W::STAGES - 1, cached, offset, size, lane);
    tile_sums<W>(out, stage[(ROUNDS + r) % W::STAGES], p[r], count);
  }
  warp_write<W>(to, out, count, lane);
}

#endif
