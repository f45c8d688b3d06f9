/* Sequences packed into micro-batches.
 *
 * An item is what must not be split over two of them: an example, all answers to one prompt, a prompt with its answer. The
 * caller says how long its items are and gets a plan (datasets/packing.h). For each micro-batch of the plan it then adds
 * the sequences of the items in it, and says which rows a head is to read:
 *
 *   for each item i:                packer.lengths[i] = tokens of all its sequences
 *   packer_plan(&packer, count, true, error)
 *   for each b < packer.plan.count: packer_begin(&packer, b)
 *                                   for each k < packer.count: the sequences of item packer.items[k] by packer_add
 *
 * All memory is on the host and allocated once. */
#ifndef TRAIN_PACKER_H
#define TRAIN_PACKER_H

#include "datasets/packing.h"
#include "model/batch.h"
#include "model/head.h"

typedef struct Packer {
  int *lengths; /* [items at most] */
  PackingPlan plan;

  /* the micro-batch at hand */
  const int *items; /* [count] which items it holds, ascending; into the plan */
  int64_t count;
  Batch batch;
  uint64_t
      draw; /* of the next sequence (batch_draw): set before those of an item, where a model is to learn */
  int32_t *last;           /* [sequences] row of each sequence's last token */
  int32_t *rows, *targets; /* [row_count <= tokens] the rows asked for by packer_want */
  int64_t row_count;
  float *values, *slopes; /* [tokens] what a head reads at such rows, and the gradient of the loss by it */
} Packer;

/* items: planned at once, at most; sides: sequences of one item, at most; tokens: of a micro-batch. */
NODISCARD bool packer_init(Packer *packer, int64_t items, int64_t sides, int64_t tokens, Error *error);
void packer_free(Packer *packer);

/* Plans micro-batches for the first `count` lengths. ERROR_USAGE when one is longer than a micro-batch. Without
 * `packing` every item is a micro-batch of its own. */
NODISCARD bool packer_plan(Packer *packer, int64_t count, bool packing, Error *error);
/* Empties the micro-batch for the items of number `index` of the plan. */
void packer_begin(Packer *packer, int index);
/* Adds a sequence, which fits by the plan; returns the row of its first token. */
int64_t packer_add(Packer *packer, const int32_t *ids, int64_t count);
/* Adds ids to the end of the last sequence: what follows a prompt and is kept apart from it. They fit by the plan. */
void packer_extend(Packer *packer, const int32_t *ids, int64_t count);
/* Asks for a row; target: the id whose probability is read there, unused by score heads. */
void packer_want(Packer *packer, int64_t row, int32_t target);

TokenRows packer_rows(const Packer *packer); /* the rows that were asked for */
TokenRows packer_last(const Packer *packer); /* the last row of every sequence */

/* The largest micro-batch there can be, with every row asked for and meaningless content: for the dry run. */
void packer_dry(Packer *packer);

#endif
