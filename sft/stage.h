/* The sft stage: supervised fine-tuning on conversations, and pretraining on plain text.
 *
 *   L = - sum over loss tokens of log p(token | tokens before it) / (loss tokens of the update)
 *
 * One update takes optim.batch_size examples in the seeded order, packs them into micro-batches, accumulates the
 * gradient of L over them, clips it, and steps the optimiser. */
#ifndef SFT_STAGE_H
#define SFT_STAGE_H

#include "sft/config.h"
#include "train/program.h"

/* The whole stage; see train/program.h. */
NODISCARD bool sft_run(const ProgramCall *call, ProgramResult *result, Error *error);

#endif
