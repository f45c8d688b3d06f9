/* Answers packed into micro-batches: prompt and answer of each end to end, and the rows that belong to answer tokens.
 *
 * In a packed batch whose sequence begins at row f with a prompt of P tokens, row f+P-1+t predicts answer token t, and
 * its hidden state is the state in which that token was chosen: log-probability and value of token t are both read
 * there. The score of the whole answer is read at its last token, row f+P+L-1. */
#ifndef PPO_MICROBATCH_H
#define PPO_MICROBATCH_H

#include "compute/comm.h"
#include "ppo/edits.h"
#include "rollout/sample.h"
#include "train/packer.h"

typedef struct Microbatch {
  uint32_t *members; /* [answers] that the plan is of: indices into samples */
  int64_t *numbers;  /* [answers] place of each among all that the ranks work through together */
  /* Its rows are those of the answer tokens. packer.values: what the model says of them, log-probabilities or values, or
   * the scores of the answers; packer.slopes: the gradient of the loss by these. */
  Packer packer;
  uint64_t draw; /* number of the first of those answers among all sequences trained on (batch_draw) */
  /* [tokens] of the same answer tokens: */
  int32_t *length; /* tokens of the answer that it belongs to */
  int32_t *origin; /* where each stands in the experience's token arrays */
  float
      *old; /* gathered from there: log-probabilities or values as they were when the answers were sampled */
  float *target;    /* gathered: advantages or returns */
  float *reference; /* gathered where it is in the loss */
  float *entropy, *entropy_slope;
  AnswerEdits edits; /* opened by answer_edits_init after the rest, or zeroed */
} Microbatch;

NODISCARD bool microbatch_init(Microbatch *micro, int64_t tokens, int64_t answers, Error *error);
/* The rows of the answer tokens, as log-probabilities are read there. */
TokenRows microbatch_rows(const Microbatch *micro);
void microbatch_free(Microbatch *micro);

/* Cuts the answers 0 .. count-1 by their tokens into a run for each rank, cuts[ranks + 1] (share_runs, train/share.h), and
 * plans the micro-batches of this rank's. ERROR_USAGE when an answer is longer than a micro-batch. */
NODISCARD bool microbatch_plan_run(Microbatch *micro, const RolloutSample *samples, int64_t count,
                                   const Comm *comm, int64_t *cuts, Error *error);
/* Plans those of this rank's share (share_examples) of the answers members[count]. */
NODISCARD bool microbatch_plan_share(Microbatch *micro, const RolloutSample *samples, const uint32_t *members,
                                     int64_t count, const Comm *comm, Error *error);
/* Packs micro-batch `index` of the plan: its sequences are the answers members[packer.items[]]. offsets: of the
 * experience's token arrays. */
void microbatch_fill(Microbatch *micro, int index, const RolloutSample *samples, const int32_t *offsets);
/* Sequence k of the micro-batch at hand: the index of its answer. */
uint32_t microbatch_answer(const Microbatch *micro, int64_t k);
/* The largest there can be, for the dry run; all its tokens stand at place 0 of the experience's arrays. */
void microbatch_dry(Microbatch *micro);

/* Between the token arrays of the experience and those of the packed answer tokens. */
void microbatch_gather(const Microbatch *micro, const float *from, float *to);
void microbatch_scatter(const Microbatch *micro, const float *from, float *to);

#endif
