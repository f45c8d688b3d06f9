/* What compute/amx/unit/tiles.h has, in software, for processors with AVX-512 alone: the same sums to the bit (unit/compute_product).
 *
 * TDPBF16PS, as Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 has it: of a tile's 16 pairs of links the first ones make a
 * chain of fused multiply-adds from zero, and the second ones another; their sum is added to what is there. Rounded to nearest even; subnormal factors
 * and results count as zero. */
#ifndef TESTS_AMX_SOFTWARE_TILES_H
#define TESTS_AMX_SOFTWARE_TILES_H

#include "compute/amx/tile_panel.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool amx_tiles_ask(void) {
  return true;
}

static inline void amx_tiles_begin(void) {}

static inline void amx_tiles_end(void) {}

static inline void amx_written(void) {}

/* Nearest even, subnormals to zero; a NaN stays one. */
static inline __m512i software_narrow(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x),
                odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i y = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  enum { QUIET = 0x01, SIGNALLING = 0x80, SUBNORMAL = 0x20 };
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x8000));
  y = _mm512_mask_mov_epi32(y, _mm512_fpclass_ps_mask(x, SUBNORMAL), sign);
  return _mm512_mask_or_epi32(y, _mm512_fpclass_ps_mask(x, QUIET | SIGNALLING), _mm512_srli_epi32(bits, 16),
                              _mm512_set1_epi32(0x40));
}

static inline __m512i amx_narrow(__m512 low, __m512 high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(software_narrow(low))),
                            _mm512_cvtepi32_epi16(software_narrow(high)), 1);
}

enum { SOFTWARE_TILE = 16 };

/* The unit's sums: those of a's first tile and b's first and second, then those of a's second. */
static _Thread_local float software_sums[4][SOFTWARE_TILE][SOFTWARE_TILE] __attribute__((aligned(64)));

/* Not inline, so that no arithmetic leaves the part that has subnormals as zero. */
static __attribute__((noinline)) void software_dot(float sums[SOFTWARE_TILE][SOFTWARE_TILE], const char *a,
                                                   int64_t a_row, const char *b, int64_t b_row) {
  const __m512i second = _mm512_set1_epi32((int)0xffff0000);
  for (int i = 0; i < SOFTWARE_TILE; i++) {
    __m512 firsts = _mm512_setzero_ps(), seconds = _mm512_setzero_ps();
    for (int p = 0; p < SOFTWARE_TILE; p++) {
      uint32_t pair;
      memcpy(&pair, a + i * a_row + 4 * p, sizeof pair);
      const __m512i pairs = _mm512_loadu_si512(b + p * b_row), mine = _mm512_set1_epi32((int)pair);
      firsts = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(mine, 16)),
                               _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), firsts);
      seconds = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(mine, second)),
                                _mm512_castsi512_ps(_mm512_and_si512(pairs, second)), seconds);
    }
    _mm512_store_ps(sums[i], _mm512_add_ps(_mm512_load_ps(sums[i]), _mm512_add_ps(firsts, seconds)));
  }
}

static inline void amx_sums_begin(TileSums sums, bool more) {
  memset(software_sums, 0, sizeof software_sums);
  for (int i = 0; more && i < 2 * SOFTWARE_TILE; i++) {
    const char *row = sums.data + i * sums.stride;
    memcpy(software_sums[i / SOFTWARE_TILE * 2][i % SOFTWARE_TILE], row, 64);
    if (!sums.half) memcpy(software_sums[i / SOFTWARE_TILE * 2 + 1][i % SOFTWARE_TILE], row + 64, 64);
  }
}

static inline void amx_sums_add(TilePanel a, TilePanel b, bool half) {
  enum { SUBNORMALS_ARE_ZERO = 0x8040 };
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | SUBNORMALS_ARE_ZERO);
  for (int i = 0; i < 2; i++) {
    software_dot(software_sums[2 * i], a.data + i * a.tile, a.row, b.data, b.row);
    if (!half) software_dot(software_sums[2 * i + 1], a.data + i * a.tile, a.row, b.data + b.tile, b.row);
  }
  _mm_setcsr(before);
}

static inline TilePanel software_part(TilePanel panel, int part) {
  panel.data += part * panel.part;
  return panel;
}

static inline void amx_sums_add_whole(TilePanel a, TilePanel b) {
  static const struct {
    int a, b;
  } order[] = {{LOW, HIGH}, {MIDDLE, HIGH}, {MIDDLE, MIDDLE}, {HIGH, MIDDLE}, {HIGH, LOW}, {HIGH, HIGH}};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++)
    amx_sums_add(software_part(a, order[i].a), software_part(b, order[i].b), false);
}

static inline void amx_sums_end(TileSums sums) {
  for (int i = 0; i < 2 * SOFTWARE_TILE; i++) {
    char *row = sums.data + i * sums.stride;
    memcpy(row, software_sums[i / SOFTWARE_TILE * 2][i % SOFTWARE_TILE], 64);
    if (!sums.half) memcpy(row + 64, software_sums[i / SOFTWARE_TILE * 2 + 1][i % SOFTWARE_TILE], 64);
  }
}

#endif
