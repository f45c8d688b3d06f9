/* A tile of a product: up to TILE_ROWS rows of a by TILE_VECTORS vectors of columns of b, whose sums stay in registers along a chain. */
#ifndef COMPUTE_CPU_PRODUCT_TILE_H
#define COMPUTE_CPU_PRODUCT_TILE_H

#include "compute/cpu/product_pack.h"

enum {
  TILE_ROWS = VEC == 16 ? 8 : 6, /* of GROUP places */
  TILE_VECTORS = VEC == 16 ? 3 : 2,
  TILE_COLUMNS = TILE_VECTORS * VEC,
  TILE_FLOATS = TILE_ROWS * TILE_COLUMNS,
  TREE_LEVELS = VEC == 16 ? 4 : 3, /* sums of 1, 2, 4 .. chains that wait for their other halves */
  SOON = 8,                        /* links: how far ahead b is called from the second-level cache */
  LINE = 64                        /* bytes that come at once */
};

/* What is wanted next from memory, called for line by line, one with each link, while sums are made: calls that come all at once wait for each other. */
typedef struct Coming {
  const char *at;
  int64_t step; /* bytes from link to link */
} Coming;

typedef struct Tile {
  const Product *p;
  int64_t row, column;
  int rows, columns;
  const float *a, *b; /* the stretch, packed: [chains][count][GROUP] and [chains][count][vectors * VEC] */
  Stretch stretch;
  float *carry, *tree; /* [chains] and [TREE_LEVELS] tiles of sums */
  Coming coming;
} Tile;

typedef Vec Sums[TILE_ROWS][TILE_VECTORS];

INLINE void sums_load(Sums sum, const float *from, const int n, const int v) {
#pragma GCC unroll 8
  for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
    for (int c = 0; c < v; c++) sum[r][c] = from ? vec_load(from + (r * v + c) * VEC) : vec_splat(0.0f);
  }
}

INLINE void sums_add(Sums sum, const float *from, const int n, const int v) {
#pragma GCC unroll 8
  for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
    for (int c = 0; c < v; c++) sum[r][c] = vec_load(from + (r * v + c) * VEC) + sum[r][c];
  }
}

INLINE void sums_store(Sums sum, float *to, const int n, const int v) {
#pragma GCC unroll 8
  for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
    for (int c = 0; c < v; c++) vec_store(to + (r * v + c) * VEC, sum[r][c]);
  }
}

INLINE void sums_links(Sums sum, const float *a, const float *b, int64_t count, Coming coming, const int n,
                       const int v) {
  for (int64_t l = 0; l < count; l++, a += GROUP, b += v * VEC, coming.at += coming.step) {
    Vec w[TILE_VECTORS];
    __builtin_prefetch(coming.at, 0, 2);
#pragma GCC unroll 4
    for (int c = 0; c < v; c++) {
      w[c] = vec_load(b + c * VEC);
      __builtin_prefetch(b + (SOON * v + c) * VEC, 0, 3);
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) {
      const Vec x = vec_splat(a[r]);
#pragma GCC unroll 4
      for (int c = 0; c < v; c++) sum[r][c] = vec_fma(x, w[c], sum[r][c]);
    }
  }
}

INLINE void sums_finish(Sums sum, const Tile *t, const int n, const int v) {
  const Product *p = t->p;
  const Vec alpha = vec_splat(p->alpha), beta = vec_splat(p->beta);
#pragma GCC unroll 4
  for (int c = 0; c < v; c++) {
    const int part = vec_part(t->columns - c * VEC);
    const int64_t column = t->column + c * VEC;
    const Vec bias = p->bias ? vec_load_part(p->bias + column, part) : vec_splat(0.0f);
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) {
      float *at = p->c + (t->row + r) * p->ldc + column;
      Vec y = alpha * sum[r][c];
      if (p->bias) y = vec_fma(alpha, sum[r][c], bias);
      if (p->beta != 0) y = vec_fma(beta, vec_load_part(at, part), y);
      vec_store_part(at, y, part);
    }
  }
}

/* n rows and v vectors are constants where it is called. */
INLINE void tile_of(const Tile *t, const int n, const int v) {
  const int chains = t->p->chains;
  const int64_t count = t->stretch.count, size = n * v * VEC;
  Coming coming = t->coming;
  for (int turn = 0; turn < chains; turn++, coming.at += count * coming.step) {
    Sums sum;
    float *carry = t->carry + turn * TILE_FLOATS;
    sums_load(sum, t->stretch.begins ? NULL : carry, n, v);
    sums_links(sum, t->a + turn * count * GROUP, t->b + turn * count * v * VEC, count, coming, n, v);
    if (!t->stretch.ends) {
      sums_store(sum, carry, n, v);
      continue;
    }
    float *level = t->tree;
    for (int bits = turn; bits & 1; bits >>= 1, level += size) sums_add(sum, level, n, v);
    if (turn + 1 < chains) {
      sums_store(sum, level, n, v);
    } else {
      sums_finish(sum, t, n, v);
    }
  }
}

INLINE void tile_of_rows(const Tile *t, const int v) {
  switch (t->rows) {
    case 1:
      tile_of(t, 1, v);
      break;
    case 2:
      tile_of(t, 2, v);
      break;
    case 3:
      tile_of(t, 3, v);
      break;
    case 4:
      tile_of(t, 4, v);
      break;
    case 5:
      tile_of(t, 5, v);
      break;
    case 6:
      tile_of(t, 6, v);
      break;
#ifdef __AVX512F__
    case 7:
      tile_of(t, 7, v);
      break;
    case 8:
      tile_of(t, 8, v);
      break;
#endif
    default:
      ASSERT(false);
  }
}

/* Columns take as many vectors as they fill. */
INLINE int tile_vectors(int64_t columns) {
  return (int)((columns + VEC - 1) / VEC);
}

static void take_tile(const Tile *t) {
  switch (tile_vectors(t->columns)) {
    case 1:
      tile_of_rows(t, 1);
      break;
    case 2:
      tile_of_rows(t, 2);
      break;
#ifdef __AVX512F__
    case 3:
      tile_of_rows(t, 3);
      break;
#endif
    default:
      ASSERT(false);
  }
}

#endif
