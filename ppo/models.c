#include "ppo/models.h"

#include "ppo/estimator.h"

static bool has_critic(const PpoConfig *config) {
  return estimator_has_critic((Estimator)config->ppo.advantage);
}

static TraineeSpec actor_spec(const PpoConfig *config, const LoraSpec *lora) {
  TraineeSpec spec = trainee_spec_of("actor", &config->model, &config->lora, lora, &config->optim,
                                     (uint64_t)config->run.seed);
  return spec;
}

/* The critic learns the value of each state, beginning as the reward model. */
static TraineeSpec critic_spec(const PpoConfig *config, const LoraSpec *lora) {
  TraineeSpec spec = actor_spec(config, lora);
  spec.predictor.name = "critic";
  spec.predictor.adapter = config->reward.adapter;
  spec.predictor.score_head = true;
  spec.predictor.head_from = config->reward.path;
  spec.predictor.head_must_exist = true;
  spec.predictor.lora_shared = true;
  /* Its own initial A matrices, where it starts without an adapter. */
  spec.predictor.seed++;
  return spec;
}

/* What a trainee begins as. */
static PredictorSpec frozen(const TraineeSpec *trainee, const char *name) {
  PredictorSpec spec = trainee->predictor;
  spec.name = name;
  if (!spec.adapter) spec.adapted = false;
  return spec;
}

static bool bases_fit(const PpoModels *models, const PpoConfig *config, Error *error) {
  const int64_t policy = models->policy_base.spec.vocab, reward = models->reward.model->spec.vocab;
  if (policy == reward) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: expected the vocabulary of %s (%lld ids), since the reward model reads the policy's ids; found"
      " %lld",
      config->reward.path, config->model.path, (long long)policy, (long long)reward);
}

static bool open_with_adapters(PpoModels *models, const PpoConfig *config, const LoraSpec *lora,
                               Compute *compute, TrainMemory *memory, Error *error) {
  const WeightFormat format = model_config_format(&config->model);
  models->shared = path_same(config->model.path, config->reward.path);
  Model *reward_base = models->shared ? &models->policy_base : &models->reward_base;
  if (!base_open(&models->policy_base, config->model.path, NULL, format, compute, memory, error))
    return false;
  if (!models->shared && !base_open(reward_base, config->reward.path, NULL, format, compute, memory, error)) {
    return false;
  }
  const TraineeSpec actor = actor_spec(config, lora), critic = critic_spec(config, lora);
  const PredictorSpec reference = frozen(&actor, "reference"), reward = frozen(&critic, "reward");
  return trainee_open(&models->actor, &actor, &models->policy_base, compute, memory, error) &&
         predictor_open(&models->reference, &reference, &models->policy_base, PREDICTOR_FROZEN, NULL, compute,
                        memory, error) &&
         (!has_critic(config) ||
          trainee_open(&models->critic, &critic, reward_base, compute, memory, error)) &&
         predictor_open(&models->reward, &reward, reward_base, PREDICTOR_FROZEN, NULL, compute, memory,
                        error);
}

static bool open_full(PpoModels *models, const PpoConfig *config, Compute *compute, TrainMemory *memory,
                      Error *error) {
  const WeightFormat format = model_config_format(&config->model);
  const char *policy = config->model.path, *policy_adapter = config->model.adapter;
  const char *score = config->reward.path, *score_adapter = config->reward.adapter;
  TraineeSpec actor = actor_spec(config, NULL), critic = critic_spec(config, NULL);
  PredictorSpec reference = frozen(&actor, "reference"), reward = frozen(&critic, "reward");
  return base_open(&models->policy_base, policy, policy_adapter, format, compute, memory, error) &&
         base_open(&models->reference_base, policy, policy_adapter, format, compute, memory, error) &&
         (!has_critic(config) ||
          base_open(&models->reward_base, score, score_adapter, format, compute, memory, error)) &&
         base_open(&models->score_base, score, score_adapter, format, compute, memory, error) &&
         trainee_open(&models->actor, &actor, &models->policy_base, compute, memory, error) &&
         predictor_open(&models->reference, &reference, &models->reference_base, PREDICTOR_FROZEN, NULL,
                        compute, memory, error) &&
         (!has_critic(config) ||
          trainee_open(&models->critic, &critic, &models->reward_base, compute, memory, error)) &&
         predictor_open(&models->reward, &reward, &models->score_base, PREDICTOR_FROZEN, NULL, compute,
                        memory, error);
}

bool ppo_models_open(PpoModels *models, const PpoConfig *config, const LoraSpec *lora,
                     const TextIdentity *text, Compute *compute, TrainMemory *memory, Error *error) {
  *models = (PpoModels){0};
  const bool open = config->lora.enabled ? open_with_adapters(models, config, lora, compute, memory, error)
                                         : open_full(models, config, compute, memory, error);
  models->actor.text = text;
  if (open && bases_fit(models, config, error)) return true;
  ppo_models_close(models);
  return false;
}

void ppo_models_close(PpoModels *models) {
  trainee_close(&models->actor);
  predictor_close(&models->reference);
  trainee_close(&models->critic);
  predictor_close(&models->reward);
  base_close(&models->policy_base);
  base_close(&models->reward_base);
  base_close(&models->reference_base);
  base_close(&models->score_base);
  *models = (PpoModels){0};
}

const char *ppo_models_describe(const PpoModels *models, const PpoConfig *config) {
  const bool critic = has_critic(config);
  if (!config->lora.enabled) {
    return critic ? "four models of their own weights: actor, critic, reference, reward"
                  : "three models of their own weights: actor, reference, reward; no critic";
  }
  if (models->shared) {
    return critic ? "one frozen base; adapters for actor, critic, reference and reward"
                  : "one frozen base; adapters for actor, reference and reward; no critic";
  }
  if (!critic) return "two frozen bases, policy and reward; adapters over each; no critic";
  return "two frozen bases, policy and reward; adapters over each";
}
