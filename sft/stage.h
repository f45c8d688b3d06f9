/* The sft stage: supervised fine-tuning on conversations, and pretraining on plain text.
 *
 *   L = - sum over loss tokens of log p(token | tokens before it) / (loss tokens of the update)
 *
 * The course of an update is that of train/supervised.h. */
#ifndef SFT_STAGE_H
#define SFT_STAGE_H

#include "sft/config.h"

/* The `rules` and the `run` of the program (train/program.h); the configuration is a SupervisedConfig. */
NODISCARD bool sft_rules(const void *config, Error *error);
NODISCARD bool sft_run(const ProgramCall *call, ProgramResult *result, Error *error);

#endif
