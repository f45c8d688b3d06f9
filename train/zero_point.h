/* Scores of whole answers, and the zero point of a reward model: the mean score of reference answers, which becomes its
 * shift. What the reward stage and `export` share. */
#ifndef TRAIN_ZERO_POINT_H
#define TRAIN_ZERO_POINT_H

#include "train/supervised.h"

/* A PackExample. Each answer of a preference is a sequence with the prompt before it, the best one first, and is scored at
 * its last token: the mark that ends the answer. A single answer, of data.reference, is one sequence. */
void scores_pack(Packer *packer, const Example *example);
/* A stage's `judge`: the score of every sequence of the micro-batch, in order, into supervised->micro.packer.values. */
void scores_judge(Supervised *supervised);
/* The mean score, without any shift, of the answers in corpus.reference. Takes the zero off the head. */
NODISCARD bool zero_point(Supervised *supervised, double *mean, Error *error);

#endif
