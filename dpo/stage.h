/* The dpo stage: from answers of different rank, or answers that are called good or bad, to a policy that prefers the better ones,
 * without a reward model (dpo/loss.h).
 *
 * The policy starts as the SFT model, which is its reference too. The course of an update is that of train/supervised.h. */
#ifndef DPO_STAGE_H
#define DPO_STAGE_H

#include "dpo/config.h"
#include "train/program.h"

/* The `rules` and the `run` of the program (train/program.h); the configuration is a DpoStageConfig. */
NODISCARD bool dpo_rules(const void *config, Error *error);
NODISCARD bool dpo_run(const ProgramCall *call, ProgramResult *result, Error *error);

#endif
