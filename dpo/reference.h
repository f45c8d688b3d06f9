/* Log-probabilities of all answers under the reference: the model that training starts from, with its adapter if it has one.
 *
 * They are read once, before the first update, so that no second model is in memory; and again, to the same bits, when a
 * run is resumed, before its checkpoint is. */
#ifndef DPO_REFERENCE_H
#define DPO_REFERENCE_H

#include "train/supervised.h"

typedef struct Reference {
  int64_t answers;      /* room of each example */
  double *train, *eval; /* [examples, answers] in nats, summed over tokens; of corpus.train and corpus.eval */
} Reference;

/* Makes room. On failure there is nothing to free but what reference_free frees. */
NODISCARD bool reference_open(Reference *reference, const Corpus *corpus, Error *error);
void reference_free(Reference *reference); /* also of a zeroed one */

/* Reads all of them from the model as it is. ERROR_MODEL for a number that is not finite. */
NODISCARD bool reference_read(Reference *reference, Supervised *supervised, Error *error);

/* Of the answers of number `k` in the micro-batch at hand, which is of `data`. */
double *reference_at(const Reference *reference, const Supervised *supervised, const Dataset *data,
                     int64_t k);

#endif
