/* What a unit multiplies, be it the processor's (unit/tiles.h) or one in software: of the files of this folder alone. */
#ifndef COMPUTE_AMX_TILE_PANEL_H
#define COMPUTE_AMX_TILE_PANEL_H

#include <stdbool.h>
#include <stdint.h>

/* Where the two tiles of each step of a panel are. */
typedef struct TilePanel {
  const char *data;
  int64_t row, tile, step; /* bytes from one to the next */
  int64_t part; /* the same of a whole factor: bytes from the two tiles of one part to those of the next */
} TilePanel;

/* Parts of an F32 element, each bf16, which together are the element. */
enum { HIGH, MIDDLE, LOW, PARTS };

/* 32 x 32 sums in memory, `stride` bytes between rows; with `half` the first 16 of each row alone. */
typedef struct TileSums {
  char *data;
  int64_t stride;
  bool half;
} TileSums;

#endif
