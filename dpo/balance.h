/* Whether the good and the bad answers of a data set weigh about the same. */
#ifndef DPO_BALANCE_H
#define DPO_BALANCE_H

#include "base/log.h"
#include "datasets/dataset.h"
#include "dpo/loss.h"

/* Says how many there are, and warns unless desirable_weight times the good ones is 1 to 4/3 times undesirable_weight times the
 * bad ones (Ethayarajh et al. 2024, equation 8), with the weights that would make it so. data: unpaired, not empty. */
void balance_say(const DpoTerms *terms, const Dataset *data, Log *log);

#endif
