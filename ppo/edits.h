/* What sampling does to logits (rollout.repetition_penalty, rollout.min_new_tokens), for the rows of a micro-batch's answer tokens: so that
 * log-probabilities, entropies and their gradients are those of the distribution that was sampled from, of the policy and of the reference.
 *
 * Row t of an answer, which predicts its token t, is penalised for the prompt and the tokens before t, and may not end below min_new_tokens. */
#ifndef PPO_EDITS_H
#define PPO_EDITS_H

#include "model/head.h"
#include "rollout/repeats.h"
#include "rollout/sample.h"
#include "train/config.h"

typedef struct AnswerEdits {
  int64_t min_new_tokens;
  Repeats seen;                       /* of the answer at hand: one slot */
  int32_t *ids, *from, *count, *bans; /* [tokens] of rows; ids: end to end, those of each answer once */
  RowEdits rows;                      /* penalty 0: nothing is edited */
} AnswerEdits;

/* Does nothing where nothing is asked for. ends: borrowed. longest: tokens of a prompt with its answer; tokens: of a micro-batch. */
NODISCARD bool answer_edits_init(AnswerEdits *edits, const RolloutConfig *config, const int *ends,
                                 int end_count, int64_t vocab, int64_t longest, int64_t tokens, Error *error);
void answer_edits_free(AnswerEdits *edits); /* also of a zeroed one */

/* Empties it; then the answers of a micro-batch are added, the first of whose tokens is row number `row`. */
void answer_edits_begin(AnswerEdits *edits);
void answer_edits_add(AnswerEdits *edits, const RolloutSample *sample, int64_t row);
/* The most there can be, of `rows` rows, for the dry run. */
void answer_edits_dry(AnswerEdits *edits, int64_t rows);
/* For TokenRows.edits: NULL where nothing is edited. */
const RowEdits *answer_edits_rows(const AnswerEdits *edits);

#endif
