/* F32 factors for the tiles without loss: each element is the sum of three parts in bf16, and a step of a panel is the tiles of the high parts, of the
 * middle ones and of the low ones, each packed as a step of a bf16 factor is. Of product.c alone.
 *
 * An infinity would be none in its sum, since it meets parts that are zero or have another sign. So a packed panel begins with a line that says which of its
 * rows have something that is not finite: their sums are those of high parts alone, which are what sums in F32 are. */
#ifndef COMPUTE_AMX_PACK_WHOLE_H
#define COMPUTE_AMX_PACK_WHOLE_H

#include "compute/amx/pack.h"

/* The marks of a packed panel's rows. */
static inline uint32_t whole_marks(const char *panel) {
  uint32_t marks;
  memcpy(&marks, panel, sizeof marks);
  return marks;
}

static inline int64_t whole_panel_bytes(int64_t steps) {
  return LINE + steps * PARTS * STEP_BYTES;
}

static inline TilePanel whole_panel(const char *panel) {
  return (TilePanel){
      .data = panel + LINE, .row = LINE, .tile = TILE_BYTES, .step = PARTS * STEP_BYTES, .part = STEP_BYTES};
}

static inline __mmask16 not_finite(__m512 x) {
  enum { QUIET = 0x01, INFINITE = 0x08, NEGATIVE_INFINITE = 0x10, SIGNALLING = 0x80 };
  return _mm512_fpclass_ps_mask(x, QUIET | INFINITE | NEGATIVE_INFINITE | SIGNALLING);
}

/* What is finite stays so when it is rounded to bf16. Strange are here and below elements that are not. */
static inline __m512 within_bf16(__m512 x, __mmask16 strange) {
  enum { LEAST_MAGNITUDE = 2, SIGN_OF_FIRST = 0 };
  const __m512 largest = _mm512_castsi512_ps(_mm512_set1_epi32(0x7f7f0000));
  return _mm512_mask_range_ps(x, (__mmask16)~strange, x, largest, LEAST_MAGNITUDE | SIGN_OF_FIRST);
}

static inline __m512 widened(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

/* What bf16 has not taken of finite elements. */
static inline TwoVectors rest_of(TwoVectors x, __m512i taken, __mmask32 strange) {
  const __m512 first = widened(_mm512_castsi512_si256(taken)),
               second = widened(_mm512_extracti64x4_epi64(taken, 1));
  return (TwoVectors){_mm512_maskz_sub_ps((__mmask16)~strange, x.first, first),
                      _mm512_maskz_sub_ps((__mmask16) ~(strange >> TILE), x.second, second)};
}

/* Returns which of the elements are strange; their middle and low parts are zero. */
static inline __mmask32 split(TwoVectors x, __m512i parts[PARTS]) {
  const __mmask16 first = not_finite(x.first), second = not_finite(x.second);
  const __mmask32 strange = (__mmask32)second << TILE | first;
  parts[HIGH] = amx_narrow(within_bf16(x.first, first), within_bf16(x.second, second));
  x = rest_of(x, parts[HIGH], strange);
  parts[MIDDLE] = amx_narrow(x.first, x.second);
  x = rest_of(x, parts[MIDDLE], strange);
  parts[LOW] = amx_narrow(x.first, x.second);
  return strange;
}

/* The rows of the three tiles in memory: as pack.h's load_tile. Returns a mark for each row of the factor. */
static inline uint32_t split_tile(char *to, const ProductFactor *f, int64_t first, int64_t rows, int64_t link,
                                  int64_t links) {
  uint32_t marks = 0;
  for (int64_t i = 0; i < TILE; i++) {
    __m512i parts[PARTS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    if (f->across && 2 * i < links) {
      const int64_t offset = (link + 2 * i) * f->stride + first;
      const __mmask32 strange = split(floats_of_rows(f, offset, rows, 2 * i + 1 < links), parts);
      marks |= (strange | strange >> TILE) & 0xffff;
      for (int part = 0; part < PARTS; part++) parts[part] = pairs_of(parts[part]);
    } else if (!f->across && i < rows) {
      marks |= (uint32_t)(split(floats_of_links(f, (first + i) * f->stride + link, links), parts) != 0) << i;
    }
    for (int part = 0; part < PARTS; part++)
      _mm512_store_si512(to + part * STEP_BYTES + i * LINE, parts[part]);
  }
  return marks;
}

static inline void transpose_tile(char *tile) {
  __m512i x[TILE];
  for (int i = 0; i < TILE; i++) x[i] = _mm512_load_si512(tile + i * LINE);
  transpose(x);
  for (int i = 0; i < TILE; i++) _mm512_store_si512(tile + i * LINE, x[i]);
}

/* As pack.h's pack_tile, in three parts. */
static inline uint32_t pack_whole_tile(char *to, const ProductFactor *f, bool pairs, int64_t first,
                                       int64_t rows, int64_t link, int64_t k) {
  const int64_t there = within(rows - first, TILE), links = within(k - link, STEP);
  const uint32_t marks = there == TILE && links == STEP
                             ? split_tile(to, f, first, TILE, link, STEP) /* without masks */
                             : split_tile(to, f, first, there, link, links);
  for (int part = 0; f->across != pairs && part < PARTS; part++) transpose_tile(to + part * STEP_BYTES);
  return marks;
}

/* Steps `step` .. step + steps - 1 of a panel, of which the first has link `link`; the marks of the panel are begun with its step 0. */
static inline void pack_whole_panel(char *panel, const ProductFactor *f, bool pairs, int64_t first,
                                    int64_t rows, int64_t link, int64_t k, int64_t step, int64_t steps) {
  uint32_t marks = step == 0 ? 0 : whole_marks(panel);
  char *to = panel + whole_panel_bytes(step);
  for (int64_t s = 0; s < steps; s++, link += STEP, to += PARTS * STEP_BYTES) {
    marks |= pack_whole_tile(to, f, pairs, first, rows, link, k);
    marks |= pack_whole_tile(to + TILE_BYTES, f, pairs, first + TILE, rows, link, k) << TILE;
  }
  memcpy(panel, &marks, sizeof marks);
}

/* Of whole panels a and b. */
static inline void multiply_whole_panels(TilePanel a, TilePanel b, int64_t steps, TileSums sums, bool more) {
  amx_sums_begin(sums, more);
  for (int64_t s = 0; s < steps; s++, a.data += a.step, b.data += b.step) amx_sums_add_whole(a, b);
  amx_sums_end(sums);
}

/* Puts those of high parts in the place of the sums of marked rows. */
static inline void put_marked(float *sums, const float *of_high, uint32_t a_marks, uint32_t b_marks) {
  for (int64_t r = 0; r < PANEL; r++) {
    const uint32_t marks = a_marks >> r & 1 ? UINT32_MAX : b_marks;
    for (int64_t j = 0; j < PANEL; j += TILE)
      _mm512_mask_store_ps(sums + r * PANEL + j, (__mmask16)(marks >> j),
                           _mm512_load_ps(of_high + r * PANEL + j));
  }
}

#endif
