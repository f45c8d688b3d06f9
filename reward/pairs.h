/* Preference pairs packed into micro-batches. Both sides of a pair are sequences of one micro-batch, and each is
 * scored at its last token: the mark that ends the answer. The same arrays score single answers. */
#ifndef REWARD_PAIRS_H
#define REWARD_PAIRS_H

#include "datasets/dataset.h"
#include "datasets/packing.h"
#include "model/batch.h"
#include "model/head.h"

/* All host memory of a group of examples that is worked through in micro-batches. */
typedef struct Pairs {
  ExampleRef *refs; /* [group] filled by the caller */
  Example *examples;
  int *lengths;
  int64_t group;
  PackingPlan packing;
  Batch batch;
  int32_t *last;     /* [2 group] row of each sequence's last token: chosen, rejected, chosen, ... */
  int32_t *members;  /* [group] which examples the micro-batch holds */
  int64_t count;     /* examples in it */
  int64_t sequences; /* 2 count for pairs, count for single answers */
  float *scores;     /* [2 group] in the order of `last` */
  float *slopes;     /* [2 group] gradients, likewise */
  float *chosen, *rejected, *margin, *dchosen, *drejected; /* [group] */
} Pairs;

NODISCARD bool pairs_init(Pairs *pairs, int64_t group, int64_t tokens, Error *error);
void pairs_free(Pairs *pairs);

/* Looks up the first `count` refs and plans their micro-batches. */
NODISCARD bool pairs_plan(Pairs *pairs, const Dataset *data, int count, bool packing, Error *error);
/* Packs micro-batch `index` of the plan. */
void pairs_fill(Pairs *pairs, int index);
/* As if filled to the brim: for the dry run. */
void pairs_fill_dry(Pairs *pairs);

/* Scores of all sequences of the micro-batch, split into chosen and rejected when they are pairs. */
void pairs_score(Pairs *pairs, Pass *pass, const ScoreHead *head);
/* The gradients dchosen and drejected back into the pass. */
void pairs_score_backward(Pairs *pairs, Pass *pass, const ScoreHead *head);

#endif
