/* The choice of a tile for the linear of rollouts, on cards that are not here: by what it is to see to, not by time. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/cuda/cuda.h"

/* There where the test is linked with the CUDA backend. */
extern __typeof__(cuda_linear_rows_tile) cuda_linear_rows_tile __attribute__((weak));
extern __typeof__(cuda_linear_rows_wgmma_tile) cuda_linear_rows_wgmma_tile __attribute__((weak));

static int64_t blocks_of(RowsTile tile, int64_t rows, int64_t outputs) {
  return (outputs + tile.outputs - 1) / tile.outputs * ((rows + tile.rows - 1) / tile.rows);
}

/* Where a multiprocessor has 100 KiB, a lone block's first bytes would be waited for with nothing else to do. */
static void small_cards_have_two_blocks_side_by_side(void **state) {
  (void)state;
  static const struct { int capability, multiprocessors; } cards[] = {{86, 82}, {89, 128}, {120, 170}};
  if (!cuda_linear_rows_tile) skip();
  for (int c = 0; c < 3; c++) {
    for (int64_t rows = 1; rows <= 16; rows *= 2) {
      for (int64_t outputs = 4096; outputs <= 16384; outputs *= 2) {
        const RowsTile tile =
            cuda_linear_rows_tile(cards[c].capability, cards[c].multiprocessors, rows, outputs, 4096);
        if (blocks_of(tile, rows, outputs) > cards[c].multiprocessors) assert_int_equal(tile.resident, 2);
      }
    }
  }
}

/* Half of the multiprocessors of an H100 do not draw all that its memory gives. */
static void large_cards_are_filled(void **state) {
  (void)state;
  if (!cuda_linear_rows_tile) skip();
  for (int64_t rows = 1; rows <= 32; rows *= 2) {
    const RowsTile tile = cuda_linear_rows_tile(90, 132, rows, 4096, 4096);
    print_message("    %d rows: %d x %d\n", (int)rows, tile.outputs, tile.rows);
    assert_true(blocks_of(tile, rows, 4096) >= 106);
  }
}

/* Products of warpgroups have 64 outputs; a tile of 32 is there for this. */
static void hoppers_are_filled(void **state) {
  (void)state;
  if (!cuda_linear_rows_wgmma_tile) skip();
  for (int64_t rows = 1; rows <= 512; rows *= 2) {
    for (int64_t outputs = 4096; outputs <= 28672; outputs *= 7) {
      const RowsTile tile = cuda_linear_rows_wgmma_tile(132, rows, outputs, 4096);
      print_message("    %d rows, %d outputs: %d x %d\n", (int)rows, (int)outputs, tile.outputs, tile.rows);
      if (rows <= 32) assert_true(blocks_of(tile, rows, outputs) >= 106);
      if (rows >= 256) assert_true(tile.rows >= 64);
    }
  }
}

/* As many rows as there are bring their weights once. */
static void many_rows_take_wide_tiles(void **state) {
  (void)state;
  if (!cuda_linear_rows_tile) skip();
  assert_true(cuda_linear_rows_tile(90, 132, 256, 11008, 4096).rows >= 64);
  assert_true(cuda_linear_rows_tile(89, 128, 256, 11008, 4096).rows >= 64);
  assert_int_equal(cuda_linear_rows_tile(90, 132, 1, 4096, 4096).rows, 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_cards_have_two_blocks_side_by_side), cmocka_unit_test(large_cards_are_filled),
      cmocka_unit_test(hoppers_are_filled), cmocka_unit_test(many_rows_take_wide_tiles)};
  return cmocka_run_group_tests_name("compute/tiles", tests, NULL, NULL);
}
