/* How far the policy is from the reference where nothing was to be learnt: z0 of KTO (Ethayarajh et al. 2024).
 *
 * The mean, not below 0, of p - q over answers to prompts that are not theirs: to each prompt of an update the answer of the
 * example before it, to the first that of the last, as TRL pairs them within a batch. So these are the update's own answers, each
 * once, and with many ranks those of all. Where examples next to each other have the same prompt, so that these would be strangers
 * only in name, it is the answer of two, three ... before: the smallest distance with the fewest such pairs. Of an evaluation it is
 * the same over the whole data set; of one example, which has no other, 0.
 *
 * Such a pair is no longer than the longest example of the run: what its answer has more is cut off.
 *
 * What the reference says of the pairs of all updates, which the seed tells, is read before the first one (dpo/reference.h). */
#ifndef DPO_MISMATCHED_H
#define DPO_MISMATCHED_H

#include "train/supervised.h"

typedef struct Mismatched {
  int64_t updates;        /* of the run */
  int64_t longest;        /* tokens of a pair */
  IntArray ids;           /* of the pairs at hand, one after another */
  ExampleAnswer *answers; /* [optim.batch_size] of these */
  double *policy;         /* p of those at hand */
  double *train, *eval;   /* q: [updates, optim.batch_size], [examples of corpus.eval] */
} Mismatched;

/* Makes room. On failure there is nothing to free but what mismatched_free frees. */
NODISCARD bool mismatched_open(Mismatched *mismatched, const Supervised *supervised, Error *error);
void mismatched_free(Mismatched *mismatched); /* also of a zeroed one */

/* Reads what the reference says from the model as it is. ERROR_MODEL for a number that is not finite; the error of a signal
 * that came meanwhile. */
NODISCARD bool mismatched_read(Mismatched *mismatched, Supervised *supervised, Error *error);

/* z0 of the update at hand, whose examples are micro.refs[count], and of corpus.eval: the same on all ranks. */
NODISCARD bool mismatched_update(Mismatched *mismatched, Supervised *supervised, int64_t count, double *kl,
                                 Error *error);
NODISCARD bool mismatched_evaluate(Mismatched *mismatched, Supervised *supervised, double *kl, Error *error);

#endif
