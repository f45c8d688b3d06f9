/* The reward stage: from answers of different rank to a model that scores answers (Ouyang et al. 2022, section 3.5).
 *
 * The model is the SFT model with a scalar head in the place of its LM head, read at the last token of an answer. After
 * training, the mean score of data.reference (SFT answers) is taken as the zero point and stored with the model. */
#ifndef REWARD_STAGE_H
#define REWARD_STAGE_H

#include "reward/config.h"
#include "train/program.h"

/* The `rules` and the `run` of the program (train/program.h); the configuration is a RewardStageConfig. */
NODISCARD bool reward_rules(const void *config, Error *error);
NODISCARD bool reward_run(const ProgramCall *call, ProgramResult *result, Error *error);

#endif
