/* Blocks of 4 and 8 bits as bf16, 64 links of several rows at a time: of the files of this folder alone. */
#ifndef COMPUTE_AMX_BLOCKS_H
#define COMPUTE_AMX_BLOCKS_H

#include "compute/cpu/blocks.h"

#include <tiles.h>

enum {
  BRICK_ROWS = 32,                                          /* a panel's */
  BRICK_STRIDE = BLOCK,                                     /* elements */
  BRICK = BRICK_ROWS * BRICK_STRIDE * (int)sizeof(uint16_t) /* bytes */
};

/* 16 products of codes and their scale. */
static inline __m512 amx_q8_part(const uint8_t *codes, __m512 scale) {
  return vec_load_i8((const int8_t *)codes) * scale;
}

static inline void amx_read_q8(const uint8_t *codes, float scale, uint16_t *to) {
  const __m512 s = _mm512_set1_ps(scale);
  _mm512_store_si512(to, amx_narrow(amx_q8_part(codes, s), amx_q8_part(codes + VEC, s)));
  _mm512_store_si512(to + 2 * VEC,
                     amx_narrow(amx_q8_part(codes + 2 * VEC, s), amx_q8_part(codes + 3 * VEC, s)));
}

/* A block of each of two rows, whose 32 values are one table. */
static inline void amx_read_nf4(const uint8_t *first, const uint8_t *second, float first_scale,
                                float second_scale, uint16_t *to) {
  const __m512 table = _mm512_loadu_ps(nf4_table);
  const __m512i values =
      amx_narrow(table * _mm512_set1_ps(first_scale), table * _mm512_set1_ps(second_scale));
  const __m512i low = _mm512_set1_epi16(15), second_half = _mm512_set1_epi16(16);
  const __m512i a = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)first));
  const __m512i b = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)second));
  const __m512i b_low = _mm512_or_si512(_mm512_and_si512(b, low), second_half);
  const __m512i b_high = _mm512_or_si512(_mm512_srli_epi16(b, 4), second_half);
  _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_and_si512(a, low), values));
  _mm512_store_si512(to + BLOCK / 2, _mm512_permutexvar_epi16(_mm512_srli_epi16(a, 4), values));
  _mm512_store_si512(to + BRICK_STRIDE, _mm512_permutexvar_epi16(b_low, values));
  _mm512_store_si512(to + BRICK_STRIDE + BLOCK / 2, _mm512_permutexvar_epi16(b_high, values));
}

/* Block `block` of rows first .. first + rows - 1 into a brick, which begins at a line; with an odd number of rows one more is written. Beside each
 * line of codes one is called for of what the next rows have in this brick's place: so all of a matrix comes in the order in which it lies, and evenly,
 * since calls that come all at once wait for each other. */
static inline void amx_read_brick(const Blocks *m, int64_t first, int64_t rows, int64_t block, uint16_t *to) {
  const int64_t n = first * m->per_row + block, last = n + (rows - 1) * m->per_row;
  const int64_t ahead = (first + BRICK_ROWS) * m->per_row + block * BRICK_ROWS;
  __builtin_prefetch(m->scales + ahead, 0, 2);
  __builtin_prefetch(m->scales + ahead + BRICK_ROWS / 2, 0, 2);
  if (m->dtype == DTYPE_Q8) {
    const uint8_t *line = m->codes + ahead * BLOCK;
    for (int64_t b = n; b <= last; b += m->per_row, to += BRICK_STRIDE, line += BLOCK) {
      __builtin_prefetch(line, 0, 2);
      amx_read_q8(m->codes + b * BLOCK, m->scales[b], to);
    }
    return;
  }
  const uint8_t *line = m->codes + ahead * (BLOCK / 2);
  for (int64_t b = n; b <= last; b += 2 * m->per_row, to += 2 * BRICK_STRIDE, line += BLOCK) {
    const int64_t other = b < last ? b + m->per_row : b;
    __builtin_prefetch(line, 0, 2);
    amx_read_nf4(m->codes + b * (BLOCK / 2), m->codes + other * (BLOCK / 2), m->scales[b], m->scales[other],
                 to);
  }
}

/* Bricks of the rows of a thread, panel by panel, each brought while the unit is at work on the one before. */
typedef struct AmxBricks {
  const Blocks *blocks;
  int64_t row, last; /* the next one's first row; where the thread's rows end */
  int64_t block;     /* the next one's */
  int64_t turn;      /* bricks that were multiplied */
  char *slots;       /* two bricks; the next one comes to the slot of turn + 1 */
} AmxBricks;

static inline char *amx_brick(const AmxBricks *bricks, int64_t turn) {
  return bricks->slots + turn % 2 * BRICK;
}

static inline void amx_bring(AmxBricks *bricks, int64_t turn) {
  if (bricks->row >= bricks->last) return;
  const int64_t left = bricks->last - bricks->row;
  amx_read_brick(bricks->blocks, bricks->row, left < BRICK_ROWS ? left : BRICK_ROWS, bricks->block,
                 (uint16_t *)(void *)amx_brick(bricks, turn));
  if (++bricks->block < bricks->blocks->per_row) return;
  bricks->block = 0;
  bricks->row += BRICK_ROWS;
}

#endif
