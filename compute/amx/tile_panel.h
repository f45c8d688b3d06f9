/* What a unit multiplies, be it the processor's (unit/tiles.h) or one in software: of the files of this folder alone. */
#ifndef COMPUTE_AMX_TILE_PANEL_H
#define COMPUTE_AMX_TILE_PANEL_H

#include <stdbool.h>
#include <stdint.h>

/* Where the two tiles of each step of a panel are. */
typedef struct TilePanel {
  const char *data;
  int64_t row, tile, step; /* bytes from one to the next */
} TilePanel;

/* 32 x 32 sums in memory, `stride` bytes between rows; with `half` the first 16 of each row alone. */
typedef struct TileSums {
  char *data;
  int64_t stride;
  bool half;
} TileSums;

#endif
