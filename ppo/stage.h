/* The ppo stage: from a policy, a reward model and prompts to a better policy.
 *
 * Each update: the actor answers a batch of prompts; the reward model scores the answers; log-probabilities, reference
 * log-probabilities and values are computed by the training forward; KL penalty and score become rewards, rewards
 * become advantages; then epochs of clipped minibatch updates of actor and critic. See the headers of experience.h,
 * update.h and models.h for each part. */
#ifndef PPO_STAGE_H
#define PPO_STAGE_H

#include "ppo/config.h"
#include "train/program.h"

/* The `rules` and the `run` of the program (train/program.h); the configuration is a PpoConfig. */
NODISCARD bool ppo_rules(const void *config, Error *error);
NODISCARD bool ppo_stage_run(const ProgramCall *call, ProgramResult *result, Error *error);

#endif
