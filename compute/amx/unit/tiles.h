/* What only a processor with AMX can do: 32 x 32 sums of bf16 products. Of the files of compute/amx alone, as <tiles.h>: tests have one in
 * software in its place (tests/amx_software). */
#ifndef COMPUTE_AMX_UNIT_TILES_H
#define COMPUTE_AMX_UNIT_TILES_H

#include "compute/amx/tile_panel.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Asks the kernel for the tiles' registers, which it saves for those alone who did (arch_prctl, ARCH_REQ_XCOMP_PERM). */
static inline bool amx_tiles_ask(void) {
  enum { REQUEST = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

/* Rounded to nearest, ties to even: 32 elements. */
static inline __m512i amx_narrow(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

static inline void amx_tiles_begin(void) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } config __attribute__((aligned(64))) = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
  }
  /* Not _tile_loadconfig: GCC 12 has it read 8 bytes, and may leave out what sets the others. */
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

/* What was written before this is in memory for the tile loads behind it: GCC 12's do not say that they read any. */
static inline __attribute__((always_inline)) void amx_written(void) {
  __asm__ volatile("" ::: "memory");
}

static inline void amx_tiles_end(void) {
  _tile_release();
}

/* From zero, or with `more` from what is there. */
static inline __attribute__((always_inline)) void amx_sums_begin(TileSums sums, bool more) {
  char *lower = sums.data + 16 * sums.stride;
  amx_written();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (!more) return;
  _tile_loadd(0, sums.data, sums.stride);
  _tile_loadd(2, lower, sums.stride);
  if (!sums.half) _tile_loadd(1, sums.data + 64, sums.stride);
  if (!sums.half) _tile_loadd(3, lower + 64, sums.stride);
}

/* Adds the products of the step at which a and b stand; with `half` those with b's first tile. */
static inline __attribute__((always_inline)) void amx_sums_add(TilePanel a, TilePanel b, bool half) {
  _tile_loadd(6, b.data, b.row);
  _tile_loadd(4, a.data, a.row);
  _tile_dpbf16ps(0, 4, 6);
  if (!half) _tile_loadd(7, b.data + b.tile, b.row);
  if (!half) _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a.data + a.tile, a.row);
  _tile_dpbf16ps(2, 5, 6);
  if (!half) _tile_dpbf16ps(3, 5, 7);
}

static inline __attribute__((always_inline)) void amx_take_a(TilePanel a, int part) {
  _tile_loadd(4, a.data + part * a.part, a.row);
  _tile_loadd(5, a.data + part * a.part + a.tile, a.row);
}

static inline __attribute__((always_inline)) void amx_take_b(TilePanel b, int part) {
  _tile_loadd(6, b.data + part * b.part, b.row);
  _tile_loadd(7, b.data + part * b.part + b.tile, b.row);
}

static inline __attribute__((always_inline)) void amx_add_products(void) {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

/* Adds those of whole factors: six of the nine products of parts, in an order in which one factor stays in its registers from each to the next, the
 * largest last. */
static inline __attribute__((always_inline)) void amx_sums_add_whole(TilePanel a, TilePanel b) {
  amx_take_b(b, HIGH);
  amx_take_a(a, LOW);
  amx_add_products();
  amx_take_a(a, MIDDLE);
  amx_add_products();
  amx_take_b(b, MIDDLE);
  amx_add_products();
  amx_take_a(a, HIGH);
  amx_add_products();
  amx_take_b(b, LOW);
  amx_add_products();
  amx_take_b(b, HIGH);
  amx_add_products();
}

static inline __attribute__((always_inline)) void amx_sums_end(TileSums sums) {
  char *lower = sums.data + 16 * sums.stride;
  _tile_stored(0, sums.data, sums.stride);
  _tile_stored(2, lower, sums.stride);
  if (!sums.half) _tile_stored(1, sums.data + 64, sums.stride);
  if (!sums.half) _tile_stored(3, lower + 64, sums.stride);
}

#endif
