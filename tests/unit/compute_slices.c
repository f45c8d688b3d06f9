/* Cutting tensors into slices for ranks. */
#include "compute/slices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MOST_RANKS = 9, TENSORS = 6 };

/* Of these lengths, one behind the other as an arena places them. */
static void place(Arena *arena, DType dtype, Tensor out[TENSORS]) {
  static const int64_t lengths[TENSORS] = {7, 5000, 256, 1, 70000, 300};
  arena_init_dry(arena, "tensors");
  for (int i = 0; i < TENSORS; i++) out[i] = tensor_new_1d(arena, dtype, lengths[i]);
}

static void slices_are_all_of_it(void **state) {
  (void)state;
  for (int k = 0; k < 2 * MOST_RANKS; k++) {
    const int ranks = k / 2 + 1;
    const DType dtype = k % 2 ? DTYPE_BF16 : DTYPE_F32;
    const int64_t size = (int64_t)dtype_size(dtype);
    Arena arena;
    Tensor tensors[TENSORS];
    SlicePoint points[MOST_RANKS + 1];
    int64_t at[MOST_RANKS + 1], bytes_at[MOST_RANKS + 1], total = 0, covered[TENSORS] = {0};
    place(&arena, dtype, tensors);
    slices_cut(tensors, TENSORS, ranks, points);
    const Tensor all = slices_memory(tensors, TENSORS, dtype),
                 bytes = slices_memory(tensors, TENSORS, DTYPE_U8);
    slices_places(all, tensors, TENSORS, points, ranks, at);
    slices_places(bytes, tensors, TENSORS, points, ranks, bytes_at);
    assert_true(at[0] == 0 && at[ranks] == tensor_count(all));
    assert_true(tensor_bytes(all) == tensor_bytes(bytes) && all.data == tensors[0].data);
    for (int i = 0; i < TENSORS; i++) total += tensor_count(tensors[i]);
    for (int r = 0; r < ranks; r++) {
      int64_t own = 0, first;
      for (int i = 0; i < TENSORS; i++) {
        const Tensor part = slices_part(tensors[i], i, points[r], points[r + 1], &first);
        const int64_t n = tensor_count(part);
        if (n == 0) continue;
        assert_true(first == covered[i]); /* where the rank before it ends */
        assert_true(first % SLICE_GRAIN == 0);
        assert_true((char *)part.data == (char *)tensors[i].data + first * size);
        const int64_t place = ((char *)part.data - (char *)all.data) / size;
        assert_true(place >= at[r] && place + n <= at[r + 1]);
        covered[i] += n;
        own += n;
      }
      assert_true(at[r] * size == bytes_at[r]);
      assert_true(own - total / ranks <= SLICE_GRAIN && total / ranks - own <= SLICE_GRAIN);
    }
    for (int i = 0; i < TENSORS; i++) assert_true(covered[i] == tensor_count(tensors[i]));
  }
}

static void more_ranks_than_there_is_to_cut(void **state) {
  (void)state;
  Arena arena;
  arena_init_dry(&arena, "tensor");
  const Tensor small = tensor_new_1d(&arena, DTYPE_F32, 100);
  SlicePoint points[MOST_RANKS + 1];
  int64_t first, found = 0;
  slices_cut(&small, 1, MOST_RANKS, points);
  for (int r = 0; r < MOST_RANKS; r++)
    found += tensor_count(slices_part(small, 0, points[r], points[r + 1], &first));
  assert_true(found == 100);
}

/* What is in blocks is cut between bytes. */
static void blocks_are_cut_too(void **state) {
  (void)state;
  Arena arena;
  Tensor tensors[2];
  SlicePoint points[4];
  int64_t at[4];
  arena_init_dry(&arena, "tensors");
  tensors[0] = tensor_new_2d(&arena, DTYPE_NF4, 512, 512);
  tensors[1] = tensor_new_1d(&arena, DTYPE_BF16, 512);
  slices_cut(tensors, 2, 3, points);
  const Tensor all = slices_memory(tensors, 2, DTYPE_U8);
  slices_places(all, tensors, 2, points, 3, at);
  const int64_t third = (int64_t)(tensor_bytes(tensors[0]) + tensor_bytes(tensors[1])) / 3;
  for (int r = 1; r < 3; r++) assert_true(at[r] - r * third <= 512 && r * third - at[r] <= 512);
  assert_true(at[3] == (int64_t)tensor_bytes(all));
}

static void neighbours_are_told(void **state) {
  (void)state;
  Arena arena;
  Tensor tensors[TENSORS];
  place(&arena, DTYPE_F32, tensors);
  for (int i = 0; i + 1 < TENSORS; i++) assert_true(slices_adjacent(tensors[i], tensors[i + 1]));
  assert_false(slices_adjacent(tensors[0], tensors[2]));
  assert_false(slices_adjacent(tensors[1], tensors[0]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slices_are_all_of_it),
      cmocka_unit_test(more_ranks_than_there_is_to_cut),
      cmocka_unit_test(blocks_are_cut_too),
      cmocka_unit_test(neighbours_are_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
