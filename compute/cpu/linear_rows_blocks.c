/* The row-invariant linear of few rows by weights of blocks: their codes are read once and become values in registers,
 * in the order in which the chains of a BF16 weight take them, so that the bits are those of that weight. */
#include "compute/cpu/linear_rows.h"

enum { AHEAD = 512, SCALES = 32 }; /* bytes of codes fetched ahead; blocks whose scales are decoded at once */

/* Outputs of a tile of n rows: the chains stay in registers, and there are enough of them to hide the time of an addition. */
INLINE int few_outputs(int n) {
  if (VEC == 16) return n <= 2 ? 6 : n <= 4 ? 4 : n == 5 ? 3 : 2;
  return n <= 2 ? 4 : n <= 4 ? 2 : 1;
}

/* 64 inputs, of which block `at` of the matrix is one output's share, for n rows. */
INLINE void few_block(const Blocks *m, int64_t at, float scale, const float *x, int64_t x_stride,
                      bool eight_bits, Vec sum[FEW_ROWS], const int n) {
  const uint8_t *codes = m->codes + at * (eight_bits ? BLOCK : BLOCK / 2);
  const BlockValues values = eight_bits ? (BlockValues){0} : block_values(scale);
  __builtin_prefetch(codes + AHEAD, 0, 3);
#pragma GCC unroll 8
  for (int v = 0; v < BLOCK_VECTORS; v++) {
    const Vec w = eight_bits ? q8_vector(codes, scale, v) : nf4_vector(codes, values, v);
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) sum[a] = vec_fma(vec_load(x + a * x_stride + v * VEC), w, sum[a]);
  }
}

/* Outputs o .. o+m-1 for all n rows; n and m are constants where it is called. */
INLINE void few_tile(const Rows *r, int64_t o, bool eight_bits, const int n, const int m) {
  const Blocks *blocks = &r->blocks;
  const int64_t per_row = blocks->per_row;
  Vec sum[6][FEW_ROWS];
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) {
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) sum[b][a] = vec_splat(0.0f);
  }
  for (int64_t first = 0; first < per_row; first += SCALES) {
    const int64_t count = min64(SCALES, per_row - first);
    float scale[6][SCALES];
    for (int b = 0; b < m; b++) blocks_scales(blocks, (o + b) * per_row + first, count, scale[b]);
    for (int64_t k = 0; k < count; k++) {
      const float *x = r->x + (first + k) * BLOCK;
#pragma GCC unroll 8
      for (int b = 0; b < m; b++)
        few_block(blocks, (o + b) * per_row + first + k, scale[b][k], x, r->x_stride, eight_bits, sum[b], n);
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) {
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) finish(r, a, o + b, vec_sum(sum[b][a]));
  }
}

INLINE void few_range(const Rows *r, int64_t first, int64_t last, bool eight_bits, const int n) {
  const int m = few_outputs(n);
  int64_t o = first;
  for (; o + m <= last; o += m) few_tile(r, o, eight_bits, n, m);
  for (; o < last; o++) few_tile(r, o, eight_bits, n, 1);
}

#define RANGE_OF(n)                                                       \
  static void few_range_##n(const Rows *r, int64_t first, int64_t last) { \
    if (r->blocks.dtype == DTYPE_Q8) {                                    \
      few_range(r, first, last, true, n);                                 \
    } else {                                                              \
      few_range(r, first, last, false, n);                                \
    }                                                                     \
  }
RANGE_OF(1)
RANGE_OF(2)
RANGE_OF(3)
RANGE_OF(4)
RANGE_OF(5)
RANGE_OF(6)
RANGE_OF(7)
RANGE_OF(8)

void CPU(linear_rows_of_blocks)(const Rows *r, int64_t first, int64_t last) {
  static void (*const ranges[FEW_ROWS])(const Rows *, int64_t, int64_t) = {
      few_range_1, few_range_2, few_range_3, few_range_4, few_range_5, few_range_6, few_range_7, few_range_8};
  ranges[r->rows - 1](r, first, last);
}
