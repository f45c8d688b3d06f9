/* Answers packed into micro-batches: prompt and answer of each end to end, and the rows that belong to answer tokens.
 *
 * In a packed batch whose sequence begins at row f with a prompt of P tokens, row f+P-1+t predicts answer token t, and
 * its hidden state is the state in which that token was chosen: log-probability and value of token t are both read
 * there. The score of the whole answer is read at its last token, row f+P+L-1. */
#ifndef PPO_MICROBATCH_H
#define PPO_MICROBATCH_H

#include "datasets/packing.h"
#include "model/batch.h"
#include "model/head.h"
#include "rollout/sample.h"

typedef struct Microbatch {
  Batch batch;
  int64_t capacity;  /* tokens */
  uint64_t draw;     /* number of the plan's first answer among all sequences trained on (batch_draw) */
  int32_t *rows;     /* [capacity] row of each answer token */
  int32_t *targets;  /* [capacity] its id */
  int32_t *last;     /* [sequences] row of each answer's last token */
  int32_t *origin;   /* [capacity] where each answer token stands in the experience's token arrays */
  int64_t row_count; /* answer tokens */
  /* [capacity] values of the packed answer tokens, gathered from and scattered to the experience */
  float *buffer[5];

  PackingPlan plan;
  int *lengths; /* [capacity of the plan] */
} Microbatch;

NODISCARD bool microbatch_init(Microbatch *micro, int64_t tokens, int64_t answers, Error *error);
void microbatch_free(Microbatch *micro);

/* Plans the micro-batches of the answers members[count] (indices into samples). ERROR_USAGE when one is longer than a
 * micro-batch. */
NODISCARD bool microbatch_plan(Microbatch *micro, const RolloutSample *samples, const int32_t *members,
                               int64_t count, Error *error);
/* Packs micro-batch `index` of the plan. offsets: of the experience's token arrays. members_out[] receives which
 * answers it holds, in order, and its sequences number batch.sequences. */
void microbatch_fill(Microbatch *micro, int index, const RolloutSample *samples, const int32_t *members,
                     const int32_t *offsets, int32_t *members_out);
/* The largest there can be, for the dry run. */
void microbatch_dry(Microbatch *micro);

TokenRows microbatch_tokens(const Microbatch *micro); /* rows and targets of all answer tokens */
TokenRows microbatch_last(const Microbatch *micro);   /* the last row of every answer */

/* Between the token arrays of the experience and those of the packed answer tokens. */
void microbatch_gather(const Microbatch *micro, const float *from, float *to);
void microbatch_scatter(const Microbatch *micro, const float *from, float *to);

#endif
