/* The models of PPO but those that score (scoring/scoring.h), over as few weights as the configuration allows (DESIGN decision 4).
 *
 *             with LoRA                                        without
 *   actor     adapter over the policy base, started from       the policy base, trained
 *             model.adapter or new
 *   reference model.adapter frozen; the bare base without one  a frozen copy of the policy base
 *             (an adapter of its own where it follows the policy, ppo/moving_reference.h)
 *   critics   adapter over the critic's base, started from     the critic's base, trained
 *             the adapter that it begins as, or new
 *
 * The first critic is of the rewards, the second, where there are costs, of those. What each begins as says critic_start (scoring/config.h):
 * often the reward model, which is then all the reward there is. Without critics (ppo/estimator.h) no bases of their own are opened for them.
 *
 * Without LoRA critics have their gradients in the memory of the actor's, so that passes of one and its step come before passes of the
 * next (ppo/update.h).
 *
 * With LoRA the base is the policy's, or another critic's, when both are one directory. Without LoRA an adapter that is given is merged into
 * its base at load. */
#ifndef PPO_MODELS_H
#define PPO_MODELS_H

#include "ppo/config.h"
#include "scoring/scoring.h"
#include "train/trainee.h"

enum { CRITIC_OF_REWARDS, CRITIC_OF_COSTS, MOST_CRITICS };

/* What they begin as. */
typedef struct CriticStarts {
  int count;
  CriticStart of[MOST_CRITICS];
} CriticStarts;

typedef struct PpoModels {
  Model policy_base;
  Model reference_base;             /* the frozen copy, without LoRA */
  Model critic_bases[MOST_CRITICS]; /* zeroed where the critic stands over another base */
  bool owns[MOST_CRITICS];          /* it does not */
  Trainee actor, critics[MOST_CRITICS];
  int critic_count;
  Predictor reference; /* frozen */
} PpoModels;

/* Opens them in `memory` (dry or real). Adapters and bases must fit each other: ERROR_MODEL. `lora` is the shape of new
 * adapters; `text` is kept with the policy that is saved (train/trainee.h). All are borrowed. */
NODISCARD bool ppo_models_open(PpoModels *models, const PpoConfig *config, const CriticStarts *critics,
                               const LoraSpec *lora, const TextIdentity *text, Compute *compute,
                               TrainMemory *memory, Error *error);
void ppo_models_close(PpoModels *models);

/* How reward models are opened beside them: over the frozen ones that have nothing in their weights but what is in their files, where that
 * is theirs too. */
ScoringModels ppo_models_for_scoring(PpoModels *models, const PpoConfig *config, const CriticStarts *critics,
                                     Compute *compute, TrainMemory *memory);

#endif
