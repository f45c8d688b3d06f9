#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/order.h"

#include <string.h>

/* The order needs no examples, only how many each source has. */
static Dataset make(DatasetSource *sources, size_t count) {
  Dataset dataset = {.sources = sources, .source_count = count};
  for (size_t i = 0; i < count; i++) dataset.count += sources[i].count;
  return dataset;
}

static void tally(DataOrder *order, DataCursor *cursor, uint64_t draws, int counts[2][64]) {
  for (uint64_t i = 0; i < draws; i++) {
    ExampleRef reference;
    data_order_take(order, cursor, 1, &reference);
    assert_true(reference.source < order->dataset->source_count);
    assert_true(reference.index < order->dataset->sources[reference.source].count);
    counts[reference.source][reference.index]++;
  }
}

static void weight_one_visits_each_once(void **state) {
  (void)state;
  DatasetSource source = {.weight = 1, .count = 50};
  Dataset dataset = make(&source, 1);
  DataOrder order;
  Error error = {0};
  assert_true(data_order_init(&order, &dataset, 7, true, &error));
  assert_int_equal(order.epoch_size, 50);
  DataCursor cursor = {0};
  for (int epoch = 0; epoch < 3; epoch++) {
    int counts[2][64] = {0};
    tally(&order, &cursor, 50, counts);
    for (int i = 0; i < 50; i++) assert_int_equal(counts[0][i], 1);
  }
  data_order_free(&order);
  data_order_free(&order);
}

static void epochs_and_seeds_differ(void **state) {
  (void)state;
  DatasetSource source = {.weight = 1, .count = 50};
  Dataset dataset = make(&source, 1);
  DataOrder a, b;
  Error error = {0};
  ExampleRef first[50], second[50], other[50];
  DataCursor cursor = {0}, start = {0};
  assert_true(data_order_init(&a, &dataset, 7, true, &error));
  assert_true(data_order_init(&b, &dataset, 8, true, &error));
  data_order_take(&a, &cursor, 50, first);
  data_order_take(&a, &cursor, 50, second);
  data_order_take(&b, &start, 50, other);
  assert_memory_not_equal(first, second, sizeof first);
  assert_memory_not_equal(first, other, sizeof first);
  data_order_free(&a);
  data_order_free(&b);
}

static void blends_keep_their_weights(void **state) {
  (void)state;
  DatasetSource sources[2] = {{.weight = 0.25, .count = 40}, {.weight = 2, .count = 15}};
  Dataset dataset = make(sources, 2);
  DataOrder order;
  Error error = {0};
  assert_true(data_order_init(&order, &dataset, 3, true, &error));
  assert_int_equal(order.epoch_size, 10 + 30);
  DataCursor cursor = {0};
  int all[2][64] = {0};
  for (int epoch = 0; epoch < 4; epoch++) {
    int counts[2][64] = {0}, drawn = 0;
    tally(&order, &cursor, 40, counts);
    for (int i = 0; i < 40; i++) {
      assert_true(counts[0][i] <= 1);
      drawn += counts[0][i];
      all[0][i] += counts[0][i];
    }
    assert_int_equal(drawn, 10);
    for (int i = 0; i < 15; i++) assert_int_equal(counts[1][i], 2);
  }
  for (int i = 0; i < 40; i++) assert_int_equal(all[0][i], 1); /* a quarter an epoch: all after four */
  data_order_free(&order);
}

static void blends_are_mixed(void **state) {
  (void)state;
  DatasetSource sources[2] = {{.weight = 1, .count = 32}, {.weight = 1, .count = 32}};
  Dataset dataset = make(sources, 2);
  DataOrder order;
  Error error = {0};
  ExampleRef draws[64];
  DataCursor cursor = {0};
  assert_true(data_order_init(&order, &dataset, 3, true, &error));
  data_order_take(&order, &cursor, 64, draws);
  int changes = 0;
  for (int i = 1; i < 64; i++) changes += draws[i].source != draws[i - 1].source;
  assert_true(changes > 15);
  data_order_free(&order);
}

static void cursor_continues_exactly(void **state) {
  (void)state;
  DatasetSource sources[2] = {{.weight = 1, .count = 13}, {.weight = 0.7, .count = 9}};
  Dataset dataset = make(sources, 2);
  Error error = {0};
  ExampleRef whole[100];
  DataOrder order;
  DataCursor cursor = {0};
  assert_true(data_order_init(&order, &dataset, 11, true, &error));
  data_order_take(&order, &cursor, 100, whole);
  data_order_free(&order);
  for (int stop = 0; stop <= 100; stop += 9) {
    ExampleRef parts[100];
    DataCursor resumed = {0};
    assert_true(data_order_init(&order, &dataset, 11, true, &error));
    data_order_take(&order, &resumed, stop, parts);
    data_order_free(&order);
    assert_true(data_order_init(&order, &dataset, 11, true, &error)); /* a new process */
    data_order_take(&order, &resumed, 100 - stop, parts + stop);
    data_order_free(&order);
    assert_memory_equal(parts, whole, sizeof whole);
    assert_int_equal(resumed.epoch, cursor.epoch);
    assert_int_equal(resumed.index, cursor.index);
  }
}

static void without_shuffling_files_are_read_in_order(void **state) {
  (void)state;
  DatasetSource sources[2] = {{.weight = 1, .count = 3}, {.weight = 2, .count = 2}};
  Dataset dataset = make(sources, 2);
  DataOrder order;
  Error error = {0};
  ExampleRef draws[8];
  DataCursor cursor = {0};
  const uint32_t expected[8][2] = {{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 0}, {1, 1}, {0, 0}};
  assert_true(data_order_init(&order, &dataset, 5, false, &error));
  data_order_take(&order, &cursor, 8, draws);
  for (int i = 0; i < 8; i++) {
    assert_int_equal(draws[i].source, expected[i][0]);
    assert_int_equal(draws[i].index, expected[i][1]);
  }
  data_order_free(&order);
}

static void batches_end_with_the_epoch(void **state) {
  (void)state;
  DatasetSource sources[2] = {{.weight = 1, .count = 20}, {.weight = 0.5, .count = 26}}; /* 33 draws */
  Dataset dataset = make(sources, 2);
  Error error = {0};
  DataOrder order;
  DataCursor cursor = {0}, whole = {0};
  ExampleRef batch[32], all[33];
  assert_true(data_order_init(&order, &dataset, 11, true, &error));
  for (int epoch = 0; epoch < 3; epoch++) {
    data_order_take(&order, &whole, 33, all);
    assert_int_equal(data_order_take_batch(&order, &cursor, 32, batch), 32);
    assert_memory_equal(batch, all, sizeof batch);
    assert_int_equal(data_order_take_batch(&order, &cursor, 32, batch), 1);
    assert_memory_equal(batch, all + 32, sizeof *batch);
  }
  /* A cursor that stands anywhere, as that of a checkpoint, goes on to the same end. */
  cursor = (DataCursor){.epoch = 2, .index = 30};
  assert_int_equal(data_order_take_batch(&order, &cursor, 32, batch), 3);
  assert_memory_equal(batch, all + 30, 3 * sizeof *batch);
  /* Fewer examples than a batch: each once. */
  assert_int_equal(data_order_take_batch(&order, &cursor, 64, (ExampleRef[64]){{0}}), 33);
  data_order_free(&order);
}

static void batches_are_counted(void **state) {
  (void)state;
  DatasetSource source = {.weight = 1, .count = 10};
  Dataset dataset = make(&source, 1);
  DataOrder order;
  Error error = {0};
  assert_true(data_order_init(&order, &dataset, 5, true, &error));
  assert_int_equal(data_order_batches(&order, 1, 5), 2);
  assert_int_equal(data_order_batches(&order, 1, 4), 3); /* 4, 4, 2 */
  assert_int_equal(data_order_batches(&order, 3, 4), 9);
  assert_int_equal(data_order_batches(&order, 1.5, 4), 5); /* ceil(1.5 * 3) */
  assert_int_equal(data_order_batches(&order, 1.0 / 3, 4), 1);
  assert_int_equal(data_order_batches(&order, 0.5, 5), 1);
  assert_int_equal(data_order_batches(&order, 0.01, 64), 1);
  assert_int_equal(data_order_batches(&order, 2, 64), 2);
  data_order_free(&order);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(weight_one_visits_each_once),
                                     cmocka_unit_test(epochs_and_seeds_differ),
                                     cmocka_unit_test(blends_keep_their_weights),
                                     cmocka_unit_test(blends_are_mixed),
                                     cmocka_unit_test(cursor_continues_exactly),
                                     cmocka_unit_test(without_shuffling_files_are_read_in_order),
                                     cmocka_unit_test(batches_end_with_the_epoch),
                                     cmocka_unit_test(batches_are_counted)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
