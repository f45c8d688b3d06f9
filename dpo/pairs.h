/* Answers in micro-batches, and what the model says of them. */
#ifndef DPO_PAIRS_H
#define DPO_PAIRS_H

#include "train/supervised.h"

/* A PackExample: every answer is a sequence with the prompt before it, the best one first. Asks for the rows whose next token
 * is of the answer. */
void pairs_pack(Packer *packer, const Example *example);
/* A stage's `judge`: reads the log-probabilities at these rows. */
void pairs_judge(Supervised *supervised);

/* Rows of an answer: its tokens that something predicts, all but the first of a text without a prompt. */
int64_t answer_rows(const Example *example, const ExampleAnswer *answer);
/* The sum of `rows` values, in double: the same bits for the same values. */
double logprob_sum(const float *values, int64_t rows);

#endif
