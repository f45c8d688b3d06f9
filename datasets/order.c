#include "datasets/order.h"

#include <math.h>
#include <string.h>

/* Draws per epoch of one source. */
static uint64_t source_draws(const DatasetSource *source) {
  double draws = source->weight * source->count;
  if (draws > 1e15) draws = 1e15; /* refused by init; keeps the conversion defined */
  return draws < 1 ? 1 : (uint64_t)llround(draws);
}

bool data_order_init(DataOrder *order, const Dataset *dataset, uint64_t seed, bool shuffle, Error *error) {
  *order = (DataOrder){.dataset = dataset, .seed = seed, .shuffle = shuffle, .epoch = UINT64_MAX};
  uint64_t largest = 0;
  ASSERT(dataset->count > 0);
  for (size_t s = 0; s < dataset->source_count; s++) {
    order->epoch_size += source_draws(&dataset->sources[s]);
    if (dataset->sources[s].count > largest) largest = dataset->sources[s].count;
  }
  if (order->epoch_size > UINT32_MAX) {
    return error_set(error, ERROR_USAGE, "the weights make an epoch of %llu examples, the most is %u",
                     (unsigned long long)order->epoch_size, UINT32_MAX);
  }
  uint64_t scratch = order->epoch_size + largest;
  order->draws = memory_alloc(order->epoch_size * sizeof *order->draws);
  order->scratch = memory_alloc(scratch * sizeof *order->scratch);
  if (!order->draws || !order->scratch) {
    data_order_free(order);
    return error_out_of_memory(error, "data order", scratch * 12);
  }
  return true;
}

void data_order_free(DataOrder *order) {
  memory_free(order->draws);
  memory_free(order->scratch);
  *order = (DataOrder){0};
}

/* Fills order->draws for an epoch: draw number k of the unmixed sequence goes to place mixed[k]. */
static void order_epoch(DataOrder *order, uint64_t epoch) {
  const Dataset *dataset = order->dataset;
  uint32_t *mixed = order->scratch, *pass_order = order->scratch + order->epoch_size, k = 0;
  RandomKey within = random_key(order->seed, RANDOM_SHUFFLE), between = random_key(order->seed, RANDOM_BLEND);
  if (order->shuffle) random_permutation(between, epoch, mixed, (uint32_t)order->epoch_size);
  for (uint32_t s = 0; s < dataset->source_count; s++) {
    uint64_t draws = source_draws(&dataset->sources[s]), count = dataset->sources[s].count;
    uint64_t shown = UINT64_MAX; /* the pass that pass_order holds */
    for (uint64_t j = epoch * draws; j < (epoch + 1) * draws; j++, k++) {
      uint64_t pass = j / count, at = j % count;
      if (order->shuffle && pass != shown) {
        random_permutation(within, pass * dataset->source_count + s, pass_order, (uint32_t)count);
        shown = pass;
      }
      ExampleRef reference = {.source = s, .index = order->shuffle ? pass_order[at] : (uint32_t)at};
      order->draws[order->shuffle ? mixed[k] : k] = reference;
    }
  }
  order->epoch = epoch;
}

/* Draws left in the epoch of the cursor, which moves to the next one when there are none. */
static uint64_t draws_left(DataOrder *order, DataCursor *cursor) {
  if (cursor->index >= order->epoch_size) *cursor = (DataCursor){.epoch = cursor->epoch + 1};
  if (order->epoch != cursor->epoch) order_epoch(order, cursor->epoch);
  return order->epoch_size - cursor->index;
}

int data_order_take_batch(DataOrder *order, DataCursor *cursor, int size, ExampleRef *out) {
  const uint64_t left = draws_left(order, cursor);
  const int count = left < (uint64_t)size ? (int)left : size;
  memcpy(out, order->draws + cursor->index, (size_t)count * sizeof *out);
  cursor->index += (uint64_t)count;
  return count;
}

void data_order_take(DataOrder *order, DataCursor *cursor, int count, ExampleRef *out) {
  for (int taken = 0; taken < count;) {
    taken += data_order_take_batch(order, cursor, count - taken, out + taken);
  }
}

uint64_t data_order_batches(const DataOrder *order, double epochs, int size) {
  const uint64_t of_epoch = (order->epoch_size + (uint64_t)size - 1) / (uint64_t)size;
  const double batches = ceil(epochs * (double)of_epoch - 1e-9);
  return batches < 1 ? 1 : (uint64_t)batches;
}
