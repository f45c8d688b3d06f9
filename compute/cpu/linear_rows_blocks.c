/* The row-invariant linear of few rows by weights of blocks: their codes are read once and become values in registers,
 * in the order in which the chains of a BF16 weight take them, so that the bits are those of that weight. */
#include "compute/cpu/linear_rows.h"

enum { MOST = 8 }; /* outputs of a tile */

/* Outputs of a tile of n rows: the chains stay in registers, and there are enough of them to hide the time of an addition.
 * Measured: with more chains than these the compiler keeps rows of x in memory of its own. */
INLINE int few_outputs(bool eight_bits, int n) {
  if (VEC == 16) return n <= 2 ? 8 : n <= 5 ? 3 : eight_bits ? 2 : 1;
  return n <= 2 ? 4 : n <= 4 ? 2 : 1;
}

typedef struct Tile {
  const Rows *r;
  int64_t first; /* output */
  bool eight_bits;
  Vec sum[MOST][FEW_ROWS];
} Tile;

/* 64 inputs, block `at` of each output's row, for n rows. */
INLINE void few_block(Tile *t, int64_t at, const float *scale, const int n, const int m) {
  const Rows *r = t->r;
  const float *x = r->x + at * BLOCK;
  const int64_t bytes = t->eight_bits ? BLOCK : BLOCK / 2, row = r->blocks.per_row * bytes;
  const uint8_t *codes[MOST];
  BlockValues values[MOST];
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) {
    codes[b] = r->blocks.codes + (t->first + b) * row + at * bytes;
    __builtin_prefetch(codes[b] + m * row, 0, 3); /* the next tile's */
    if (!t->eight_bits) values[b] = block_values(scale[b * r->blocks.per_row]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < BLOCK_VECTORS; v++) {
    Vec w[MOST];
#pragma GCC unroll 8
    for (int b = 0; b < m; b++)
      w[b] = t->eight_bits ? q8_vector(codes[b], scale[b * r->blocks.per_row], v)
                           : nf4_vector(codes[b], values[b], v);
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) {
      const Vec xv = vec_load(x + a * r->x_stride + v * VEC);
#pragma GCC unroll 8
      for (int b = 0; b < m; b++) t->sum[b][a] = vec_fma(xv, w[b], t->sum[b][a]);
    }
  }
}

/* Chain k of a tile is that of output k / n and row k % n. */
INLINE void few_finish(const Tile *t, int k, float sum, const int n) {
  finish(t->r, k % n, t->first + k / n, sum);
}

INLINE void few_close(const Tile *t, const int n, const int m) {
  int k = 0;
#pragma GCC unroll 8
  for (; k + 4 <= m * n; k += 4) {
    float total[4];
    _mm_storeu_ps(total, vec_sum4(t->sum[k / n][k % n], t->sum[(k + 1) / n][(k + 1) % n],
                                  t->sum[(k + 2) / n][(k + 2) % n], t->sum[(k + 3) / n][(k + 3) % n]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) few_finish(t, k + i, total[i], n);
  }
#pragma GCC unroll 4
  for (; k < m * n; k++) few_finish(t, k, vec_sum(t->sum[k / n][k % n]), n);
}

/* Outputs o .. o+m-1 for all n rows; n and m are constants where it is called. */
INLINE void few_tile(const Rows *r, int64_t o, bool eight_bits, const int n, const int m) {
  const int64_t per_row = r->blocks.per_row;
  Tile t = {.r = r, .first = o, .eight_bits = eight_bits};
  const float *scale = r->blocks.scales + o * per_row;
  for (int64_t k = 0; k < per_row; k++) few_block(&t, k, scale + k, n, m);
  few_close(&t, n, m);
}

INLINE void few_range(const Rows *r, int64_t first, int64_t last, bool eight_bits, const int n) {
  const int m = few_outputs(eight_bits, n);
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
