/* What only a processor with AMX can do, and in software the same for tests on others (AMX_IN_SOFTWARE): 32 x 32 sums of bf16
 * products. Of the files of this folder alone. */
#ifndef COMPUTE_AMX_TILES_H
#define COMPUTE_AMX_TILES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AMX_IN_SOFTWARE

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
  _tile_loadconfig(&config);
}

static inline void amx_tiles_end(void) {
  _tile_release();
}

/* Where the two tiles of each step of a panel are. */
typedef struct TilePanel {
  const char *data;
  int64_t row, tile, step; /* bytes from one to the next */
} TilePanel;

/* What is wanted after a product, called for evenly over its steps in the order in which it lies: rows of whole lines. */
typedef struct TilesAhead {
  const char *at, *row_end; /* at is NULL where nothing is left */
  int64_t row_bytes, stride;
  int64_t rows; /* left, with this one */
} TilesAhead;

static inline void amx_call_ahead(TilesAhead *ahead) {
  for (int i = 0; i < 32 && ahead->at; i++) {
    __builtin_prefetch(ahead->at, 0, 2);
    ahead->at += 64;
    if (ahead->at < ahead->row_end) continue;
    ahead->row_end += ahead->stride;
    ahead->at = --ahead->rows ? ahead->row_end - ahead->row_bytes : NULL;
  }
}

/* Of panels a and b of `steps` steps the 32 x 32 sums, `stride` bytes between rows, added to what is there with `more`; with `half` the first 16 of
 * each row alone, of b's first tiles. ahead: or NULL. */
static inline __attribute__((always_inline)) void amx_tiles_multiply(TilePanel a, TilePanel b, int64_t steps,
                                                                     float *sums, int64_t stride, bool more,
                                                                     bool half, TilesAhead *ahead) {
  char *upper = (char *)sums, *lower = upper + 16 * stride;
  TilesAhead next = ahead ? *ahead : (TilesAhead){0}; /* in registers */
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (more) {
    _tile_loadd(0, upper, stride);
    _tile_loadd(2, lower, stride);
    if (!half) _tile_loadd(1, upper + 64, stride);
    if (!half) _tile_loadd(3, lower + 64, stride);
  }
  for (int64_t s = 0; s < steps; s++, a.data += a.step, b.data += b.step) {
    if (ahead) amx_call_ahead(&next);
    _tile_loadd(6, b.data, b.row);
    _tile_loadd(4, a.data, a.row);
    _tile_dpbf16ps(0, 4, 6);
    if (!half) _tile_loadd(7, b.data + b.tile, b.row);
    if (!half) _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a.data + a.tile, a.row);
    _tile_dpbf16ps(2, 5, 6);
    if (!half) _tile_dpbf16ps(3, 5, 7);
  }
  if (ahead) *ahead = next;
  _tile_stored(0, upper, stride);
  _tile_stored(2, lower, stride);
  if (!half) _tile_stored(1, upper + 64, stride);
  if (!half) _tile_stored(3, lower + 64, stride);
}

#endif
#endif
