/* How factors lie for the tiles, and what is done with the sums: of the files of this folder alone.
 *
 * A panel is PANEL rows of a factor. A step of STEP links of all its sums lies together as two tiles, rows of 64 bytes. A panel of a has tiles
 * of rows, as the unit takes its first factor; one of b has tiles of pairs: word [p][j] holds links 2p and 2p+1 of row j of the factor. A tile
 * of either kind is the other one's words transposed, so that one way to pack serves any layout of a factor. */
#ifndef COMPUTE_AMX_PACK_H
#define COMPUTE_AMX_PACK_H

#include "compute/amx/blocks.h"
#include "compute/amx/product.h"

#include <immintrin.h>
#include <string.h>

enum {
  TILE = 16,                   /* rows of a tile, and words in a row of it */
  LINE = 4 * TILE,             /* bytes of a row of a tile, and of a line of the caches */
  STEP = 2 * TILE,             /* links of a sum in a tile */
  PANEL = 2 * TILE,            /* rows of a panel */
  TILE_BYTES = TILE * LINE,    /* of a factor's tile as of a result's */
  STEP_BYTES = 2 * TILE_BYTES, /* a panel's tiles of one step, or of one part of it where factors are whole */
  LONG_STEPS = 64              /* steps after which sums are put into c, and go on from there */
};

static inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

static inline int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

typedef struct Product {
  bool whole; /* F32 factors in parts (pack_whole.h), not rounded */
  int64_t m, n, k;
  float alpha, beta;
  ProductFactor a, b;
  float *c;
  int64_t ldc;
} Product;

/* Links that are summed before c is written. */
typedef struct Stretch {
  int64_t link, steps;
  float beta; /* of what c has before */
} Stretch;

static inline Stretch stretch_from(const Product *p, int64_t link, int64_t long_steps) {
  return (Stretch){link, least(long_steps, ceil_div(p->k - link, STEP)), link ? 1.0f : p->beta};
}

/* The size of a workspace that need not begin at a line, and its first line. */
static inline size_t with_first_line(size_t bytes) {
  return bytes + LINE;
}

static inline char *first_line(void *scratch) {
  return (char *)(((uintptr_t)scratch + LINE - 1) / LINE * LINE);
}

/* -- packing ---------------------------------------------------------------------------------------------- */

/* Words [i][j] to [j][i]. */
static inline void transpose(__m512i x[TILE]) {
  __m512i y[TILE];
  for (int i = 0; i < TILE; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < TILE; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  /* x[4q + r], lane l: words 4q .. 4q+3 of column 4l + r */
  for (int r = 0; r < 4; r++) {
    const __m512i a = _mm512_shuffle_i32x4(x[r], x[4 + r], 0x88),
                  b = _mm512_shuffle_i32x4(x[r], x[4 + r], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(x[8 + r], x[12 + r], 0x88),
                  d = _mm512_shuffle_i32x4(x[8 + r], x[12 + r], 0xdd);
    y[r] = _mm512_shuffle_i32x4(a, c, 0x88);
    y[8 + r] = _mm512_shuffle_i32x4(a, c, 0xdd);
    y[4 + r] = _mm512_shuffle_i32x4(b, d, 0x88);
    y[12 + r] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  for (int i = 0; i < TILE; i++) x[i] = y[i];
}

/* F32 elements that are a row of a tile as bf16. */
typedef struct TwoVectors {
  __m512 first, second;
} TwoVectors;

/* The first `count` of STEP elements, zeros behind them. */
static inline TwoVectors floats_of_links(const ProductFactor *f, int64_t offset, int64_t count) {
  const float *from = (const float *)f->data + offset;
  const __mmask32 lanes = (__mmask32)((UINT64_C(1) << count) - 1);
  return (TwoVectors){_mm512_maskz_loadu_ps((__mmask16)lanes, from),
                      _mm512_maskz_loadu_ps((__mmask16)(lanes >> TILE), from + TILE)};
}

/* Of each of two rows the first `count` of TILE elements. */
static inline TwoVectors floats_of_rows(const ProductFactor *f, int64_t offset, int64_t count, bool both) {
  const float *from = (const float *)f->data + offset;
  const __mmask16 first = (__mmask16)((1u << count) - 1), second = both ? first : 0;
  return (TwoVectors){_mm512_maskz_loadu_ps(first, from), _mm512_maskz_loadu_ps(second, from + f->stride)};
}

/* Two rows of TILE elements as pairs, one of either in a word. */
static inline __m512i pairs_of(__m512i rows) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, rows);
}

/* As bf16. */
static inline __m512i row_of_links(const ProductFactor *f, int64_t offset, int64_t count) {
  if (f->narrow)
    return _mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << count) - 1),
                                    (const uint16_t *)f->data + offset);
  const TwoVectors links = floats_of_links(f, offset, count);
  return amx_narrow(links.first, links.second);
}

static inline __m512i pairs_of_rows(const ProductFactor *f, int64_t offset, int64_t count, bool both) {
  if (!f->narrow) {
    const TwoVectors rows = floats_of_rows(f, offset, count, both);
    return pairs_of(amx_narrow(rows.first, rows.second));
  }
  const uint16_t *from = (const uint16_t *)f->data + offset;
  const __mmask16 first = (__mmask16)((1u << count) - 1), second = both ? first : 0;
  return pairs_of(_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(first, from)),
                                     _mm256_maskz_loadu_epi16(second, from + f->stride), 1));
}

static inline int64_t within(int64_t count, int64_t most) {
  return count < 0 ? 0 : least(count, most);
}

/* A tile of the factor from row `first` and link `link` on, of which so many are there: by row where its rows run along, by pair
 * of links where they run across; zeros beyond. */
static inline void load_tile(__m512i x[TILE], const ProductFactor *f, int64_t first, int64_t rows,
                             int64_t link, int64_t links) {
  for (int64_t i = 0; i < TILE; i++) {
    if (f->across)
      x[i] = 2 * i < links ? pairs_of_rows(f, (link + 2 * i) * f->stride + first, rows, 2 * i + 1 < links)
                           : _mm512_setzero_si512();
    else
      x[i] = i < rows ? row_of_links(f, (first + i) * f->stride + link, links) : _mm512_setzero_si512();
  }
}

/* A tile from row `first` and link `link` on. */
static inline void pack_tile(char *to, const ProductFactor *f, bool pairs, int64_t first, int64_t rows,
                             int64_t link, int64_t k) {
  const int64_t there = within(rows - first, TILE), links = within(k - link, STEP);
  __m512i x[TILE];
  if (there == TILE && links == STEP)
    load_tile(x, f, first, TILE, link, STEP); /* without masks */
  else
    load_tile(x, f, first, there, link, links);
  if (f->across != pairs) transpose(x);
  for (int i = 0; i < TILE; i++) _mm512_store_si512(to + i * LINE, x[i]);
}

/* The two tiles of a step. */
static inline void pack_step(char *to, const ProductFactor *f, bool pairs, int64_t first, int64_t rows,
                             int64_t link, int64_t k) {
  pack_tile(to, f, pairs, first, rows, link, k);
  pack_tile(to + TILE_BYTES, f, pairs, first + TILE, rows, link, k);
}

/* Two steps of blocks. */
static inline void pack_brick(char *to, const Blocks *blocks, bool pairs, int64_t first, int64_t rows,
                              int64_t link) {
  uint16_t brick[BRICK / sizeof(uint16_t)] __attribute__((aligned(LINE)));
  const int64_t there = least(PANEL, rows - first);
  amx_read_brick(blocks, first, there, link / BLOCK, brick);
  const ProductFactor f = {.data = brick, .stride = BRICK_STRIDE, .narrow = true};
  for (int64_t s = 0; s < BLOCK / STEP; s++)
    pack_step(to + s * STEP_BYTES, &f, pairs, 0, there, s * STEP, BLOCK);
}

/* `steps` steps from `link` on of a panel, of pairs or of rows. */
static inline void pack_panel(char *to, const ProductFactor *f, bool pairs, int64_t first, int64_t rows,
                              int64_t link, int64_t k, int64_t steps) {
  const int64_t at_once = f->blocks ? BLOCK / STEP : 1;
  for (int64_t s = 0; s < steps; s += at_once, link += at_once * STEP) {
    if (f->blocks)
      pack_brick(to + s * STEP_BYTES, f->blocks, pairs, first, rows, link);
    else
      pack_step(to + s * STEP_BYTES, f, pairs, first, rows, link, k);
  }
}

static inline TilePanel packed_panel(const char *packed) {
  return (TilePanel){.data = packed, .row = LINE, .tile = TILE_BYTES, .step = STEP_BYTES};
}

/* Of panels a and b. */
static inline __attribute__((always_inline)) void multiply_panels(TilePanel a, TilePanel b, int64_t steps,
                                                                  TileSums sums, bool more) {
  amx_sums_begin(sums, more);
  for (int64_t s = 0; s < steps; s++, a.data += a.step, b.data += b.step) amx_sums_add(a, b, sums.half);
  amx_sums_end(sums);
}

/* -- sums ------------------------------------------------------------------------------------------------- */

/* Whether sums begin with what c has, once, or with zero: then they are c as they stand. Else they are scaled and added. */
static inline bool is_plain(const Product *p, const Stretch *stretch) {
  return p->alpha == 1 && (stretch->beta == 0 || stretch->beta == 1);
}

/* c = alpha * sums + beta * c for the rows and columns of a block that there are. */
static inline void put_sums(const float *sums, int64_t rows, int64_t columns, float alpha, float beta,
                            float *c, int64_t ldc) {
  const __m512 a = _mm512_set1_ps(alpha), b = _mm512_set1_ps(beta);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t j = 0; j < columns; j += TILE) {
      const __mmask16 lanes = (__mmask16)((1u << least(columns - j, TILE)) - 1);
      __m512 y = _mm512_mul_ps(a, _mm512_load_ps(sums + r * PANEL + j));
      if (beta != 0) y = _mm512_fmadd_ps(b, _mm512_maskz_loadu_ps(lanes, c + r * ldc + j), y);
      _mm512_mask_storeu_ps(c + r * ldc + j, lanes, y);
    }
  }
}

#endif
