/* In which order examples are visited: epochs, blends, and a cursor that a resume continues exactly.
 *
 * An epoch draws round(weight * n) examples from a source of n examples (at least one): with weight 1 each
 * example once. The draws of a source go on from epoch to epoch through one sequence of whole passes, each a
 * fresh seeded permutation, so that with weight 0.25 four epochs visit every example once, and with weight 2
 * every epoch visits each twice. The draws of all sources are then mixed by a permutation of the epoch.
 * Without shuffling, sources follow each other and each goes through its file in order.
 *
 * Everything is a function of (data set, seed, cursor): the cursor is all that a checkpoint has to store. The
 * order of one epoch takes 8 bytes per draw, allocated once. */
#ifndef DATASETS_ORDER_H
#define DATASETS_ORDER_H

#include "base/random.h"
#include "datasets/dataset.h"

/* The next draw. Plain data; zero is the beginning. */
typedef struct DataCursor {
  uint64_t epoch;
  uint64_t index; /* draws already taken in this epoch */
} DataCursor;

typedef struct DataOrder {
  const Dataset *dataset; /* borrowed */
  uint64_t seed;
  bool shuffle;
  uint64_t epoch_size; /* draws per epoch */
  uint64_t epoch;      /* which epoch `draws` holds; UINT64_MAX = none yet */
  ExampleRef *draws;
  uint32_t *scratch;
} DataOrder;

NODISCARD bool data_order_init(DataOrder *order, const Dataset *dataset, uint64_t seed, bool shuffle,
                               Error *error);
void data_order_free(DataOrder *order);

/* Writes the next `count` references and moves the cursor on, across the end of an epoch if need be. */
void data_order_take(DataOrder *order, DataCursor *cursor, int count, ExampleRef *out);

/* Updates that `epochs` epochs take: ceil(epochs * epoch_size / batch_size), at least 1. The last update is
 * filled from the beginning of the next epoch. */
uint64_t data_order_updates(const DataOrder *order, double epochs, int batch_size);

#endif
