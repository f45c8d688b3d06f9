/* The models of PPO but those that score (scoring/scoring.h), over as few weights as the configuration allows (DESIGN decision 4).
 *
 *             with LoRA                                        without
 *   actor     adapter over the policy base, started from       the policy base, trained
 *             model.adapter or new
 *   reference model.adapter frozen; the bare base without one  a frozen copy of the policy base
 *   critic    adapter over the critic's base, started from     the critic's base, trained
 *             the adapter that it begins as, or new
 *
 * What the critic begins as says critic_start (scoring/config.h): often the reward model, which is then all the reward there is. Where there is
 * no critic (ppo/estimator.h), no base of its own is opened for it, and `critic` is zeroed.
 *
 * With LoRA its base is the policy's when both are one directory. Without LoRA an adapter that is given is merged into its
 * base at load. */
#ifndef PPO_MODELS_H
#define PPO_MODELS_H

#include "ppo/config.h"
#include "scoring/scoring.h"
#include "train/trainee.h"

typedef struct PpoModels {
  Model policy_base, critic_base; /* critic_base is unused when shared */
  Model reference_base;           /* the frozen copy, without LoRA */
  bool shared;                    /* the critic stands over the policy's base */
  Trainee actor, critic;
  Predictor reference; /* frozen */
} PpoModels;

/* Opens them in `memory` (dry or real). Adapters and bases must fit each other: ERROR_MODEL. `lora` is the shape of new
 * adapters; `text` is kept with the policy that is saved (train/trainee.h). All are borrowed. */
NODISCARD bool ppo_models_open(PpoModels *models, const PpoConfig *config, const CriticStart *critic,
                               const LoraSpec *lora, const TextIdentity *text, Compute *compute,
                               TrainMemory *memory, Error *error);
void ppo_models_close(PpoModels *models);

/* How reward models are opened beside them: over the frozen ones that have nothing in their weights but what is in their files, where that
 * is theirs too. */
ScoringModels ppo_models_for_scoring(PpoModels *models, const PpoConfig *config, const CriticStart *critic,
                                     Compute *compute, TrainMemory *memory);

#endif
