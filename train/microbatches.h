/* Examples packed into micro-batches, and the loss of each: the inner step of training on text, of its evaluation, and
 * of PPO's ptx term. */
#ifndef TRAIN_MICROBATCHES_H
#define TRAIN_MICROBATCHES_H

#include "datasets/dataset.h"
#include "datasets/packing.h"
#include "train/token_loss.h"
#include "train/trainee.h"

/* All host memory of a group of examples that is worked through in micro-batches. */
typedef struct Microbatches {
  ExampleRef *refs; /* [group] filled by the caller */
  Example *examples;
  int *lengths;
  int64_t group; /* examples at once, at most */
  PackingPlan packing;
  Batch batch;
  uint8_t *mask; /* [tokens of a micro-batch] 1: the token is in the loss */
  TokenLoss loss;
} Microbatches;

NODISCARD bool microbatches_init(Microbatches *micro, int64_t group, int64_t tokens, Error *error);
void microbatches_free(Microbatches *micro);

/* Looks up the first `count` refs and plans their micro-batches. *loss_tokens receives the tokens in the loss. */
NODISCARD bool microbatches_plan(Microbatches *micro, const Dataset *data, int count, bool packing,
                                 int64_t *loss_tokens, Error *error);
/* Fills batch, mask and loss rows with micro-batch `index` of the plan. */
void microbatches_fill(Microbatches *micro, int index);
/* As if filled to the brim: for the dry run. */
void microbatches_fill_dry(Microbatches *micro);

#endif
