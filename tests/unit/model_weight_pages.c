/* Weights that are read together: every value is where it belongs, whatever page of the destination it lies in and whichever thread reads it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/file.h"
#include "model/weight_pages.h"
#include "tests/temporary.h"

#include <string.h>

enum { TENSORS = 5 };

/* Less than a page, several pages, nothing, and some that meet in a page. */
static const size_t counts[TENSORS] = {1000, (5 << 20) + 17, 0, 3, (1 << 20) + 333};

/* The file's elements from behind, as if it stored them so. */
static void read_backwards(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const uint16_t *from = entry->data;
  for (size_t i = 0; i < count; i++) ((uint16_t *)out)[i] = from[entry->count - 1 - first - i];
}

typedef struct World {
  Temporary temporary;
  FileMap map;
  WeightEntry entries[TENSORS];
  Arena arena;
  Tensor tensors[TENSORS];
} World;

static uint16_t value_at(size_t i) {
  return (uint16_t)(0x3c00 + i * 40503 % 1021);
}

static void write_file(const char *path, size_t total, size_t broken, size_t count) {
  Error error = {0};
  FileWriter writer;
  uint16_t *values = memory_alloc(total * sizeof *values);
  assert_non_null(values);
  for (size_t i = 0; i < total; i++) values[i] = i - broken < count ? 0x7fc0 : value_at(i);
  assert_true(file_writer_open(&writer, path, &error) &&
              file_writer_write(&writer, values, total * sizeof *values, &error) &&
              file_writer_commit(&writer, &error));
  file_writer_close(&writer);
  memory_free(values);
}

/* broken: the first of `count` elements of the file that are no numbers. */
static void world_open(World *w, DType type, size_t broken, size_t count) {
  static const char *const names[TENSORS] = {"a", "b", "c", "d", "e"};
  static const int64_t order[TENSORS] = {3, 1, 4, 0, 2}; /* in memory, which is not that of the file */
  Error error = {0};
  size_t total = 0, at = 0;
  *w = (World){0};
  for (int i = 0; i < TENSORS; i++) total += counts[i];
  temporary_open(&w->temporary);
  const char *path = temporary_path(&w->temporary, "weights");
  write_file(path, total, broken, count);
  assert_true(file_map_open(&w->map, path, &error));
  assert_true(arena_init(&w->arena, "weights", total * dtype_size(type) + 4096, &error));
  for (int i = 0; i < TENSORS; i++) {
    const int k = (int)order[i];
    w->tensors[k] = tensor_new_1d(&w->arena, type, (int64_t)counts[k]);
  }
  for (int i = 0; i < TENSORS; at += counts[i++])
    w->entries[i] = (WeightEntry){.name = names[i],
                                  .path = "weights",
                                  .dtype = DTYPE_BF16,
                                  .rank = 1,
                                  .shape = {(int64_t)counts[i]},
                                  .count = counts[i],
                                  .data = (const uint16_t *)w->map.data + at,
                                  .bytes = counts[i] * 2,
                                  .read = i == TENSORS - 1 ? read_backwards : NULL};
}

static void world_close(World *w) {
  arena_free(&w->arena);
  file_map_close(&w->map);
  temporary_close(&w->temporary);
}

static bool world_read(World *w, int threads, Error *error) {
  WeightPages pages;
  Progress progress = {0};
  assert_true(weight_pages_open(&pages, TENSORS, error));
  for (int i = 0; i < TENSORS; i++) weight_pages_add(&pages, &w->entries[i], w->tensors[i]);
  const bool ok = weight_pages_read(&pages, threads, &progress, error);
  weight_pages_close(&pages);
  return ok;
}

static void assert_values(const World *w) {
  for (int i = 0; i < TENSORS; i++) {
    const size_t bytes = counts[i] * dtype_size(w->tensors[i].dtype);
    void *expected = memory_alloc(bytes + 1);
    assert_non_null(expected);
    weight_read(&w->entries[i], 0, counts[i], w->tensors[i].dtype, expected);
    if (memcmp(w->tensors[i].data, expected, bytes) != 0) fail_msg("tensor %s", w->entries[i].name);
    memory_free(expected);
  }
}

static void values_are_where_they_belong(void **state) {
  (void)state;
  static const DType types[] = {DTYPE_BF16, DTYPE_F32};
  for (size_t t = 0; t < 2; t++)
    for (int threads = 1; threads <= 3; threads++) {
      World w;
      Error error = {0};
      world_open(&w, types[t], 0, 0);
      if (!world_read(&w, threads, &error)) fail_msg("%s", error.message);
      assert_values(&w);
      world_close(&w);
    }
}

/* The last element of one that ends in the middle of a page, a part of a long one that fills pages and what follows it, the last element of
 * that, and one of a tensor that is read backwards. */
static void values_that_are_not_finite_are_told_with_their_tensor(void **state) {
  (void)state;
  const size_t second = counts[0], last = counts[0] + counts[1] + counts[3];
  const struct {
    size_t first, count;
    const char *name;
  } faults[] = {{999, 1, "a"}, {second + 5, 3 << 20, "b"}, {second + counts[1] - 1, 1, "b"}, {last, 1, "e"}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    World w;
    Error error = {0};
    world_open(&w, DTYPE_F32, faults[i].first, faults[i].count);
    assert_false(world_read(&w, 2, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    char name[32], count[32];
    snprintf(name, sizeof name, "weights: %s: ", faults[i].name);
    snprintf(count, sizeof count, " %zu ", faults[i].count);
    if (!strstr(error.message, name) || !strstr(error.message, count))
      fail_msg("expected \"%s\" and \"%s\" in: %s", name, count, error.message);
    world_close(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_are_where_they_belong),
      cmocka_unit_test(values_that_are_not_finite_are_told_with_their_tensor),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
