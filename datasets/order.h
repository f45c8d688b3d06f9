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

/* Writes the next `count` references and moves the cursor on, across the end of an epoch if need be: for what always
 * takes as many, as a rollout does. */
void data_order_take(DataOrder *order, DataCursor *cursor, int count, ExampleRef *out);

/* Batches of `size` that end where the epoch does, as those of a data loader: the last one of an epoch is shorter when
 * the epoch is no multiple of it. Writes the next one and returns how many examples it has, 1 .. size. */
int data_order_take_batch(DataOrder *order, DataCursor *cursor, int size, ExampleRef *out);
/* How many batches `epochs` epochs are: ceil(epochs * batches of an epoch), at least 1. A fraction of an epoch is so many
 * of its batches, as in Transformers. */
uint64_t data_order_batches(const DataOrder *order, double epochs, int size);

#endif
