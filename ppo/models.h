/* The models of PPO, four or without a critic three (ppo/estimator.h), over as few weights as the configuration allows (DESIGN decision 4).
 *
 *             with LoRA                                        without
 *   actor     adapter over the policy base, started from       the policy base, trained
 *             model.adapter or new
 *   reference model.adapter frozen; the bare base without one  a frozen copy of the policy base
 *   critic    adapter over the reward base, started from       the reward base, trained
 *             reward.adapter or new; head from the reward model
 *   reward    reward.adapter frozen; the bare reward base      a frozen copy of the reward base
 *
 * Where there is no critic, no base of its own is opened for it, and `critic` is zeroed.
 *
 * With LoRA the two bases are one when reward.path is the directory model.path. Without LoRA an adapter that is
 * given is merged into its base at load. */
#ifndef PPO_MODELS_H
#define PPO_MODELS_H

#include "ppo/config.h"
#include "train/trainee.h"

typedef struct PpoModels {
  Model policy_base, reward_base;   /* reward_base is unused when shared */
  Model reference_base, score_base; /* the frozen copies, without LoRA */
  bool shared;                      /* one base for all */
  Trainee actor, critic;
  Predictor reference, reward; /* frozen */
} PpoModels;

/* Opens them in `memory` (dry or real). The adapter, reward model and bases must fit each other:
 * ERROR_MODEL. `lora` is the shape of new adapters; `text` is kept with the policy that is saved (train/trainee.h). Both are
 * borrowed. */
NODISCARD bool ppo_models_open(PpoModels *models, const PpoConfig *config, const LoraSpec *lora,
                               const TextIdentity *text, Compute *compute, TrainMemory *memory, Error *error);
void ppo_models_close(PpoModels *models);

/* "one base, adapters for actor, critic, reference and reward": for the log. */
const char *ppo_models_describe(const PpoModels *models, const PpoConfig *config);

#endif
