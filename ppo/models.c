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

/* The critic learns the value of each state. */
static TraineeSpec critic_spec(const PpoConfig *config, const CriticStart *critic, const LoraSpec *lora) {
  TraineeSpec spec = actor_spec(config, lora);
  spec.predictor.name = "critic";
  spec.predictor.adapter = critic->place.adapter;
  spec.predictor.score_head = true;
  spec.predictor.head_from = critic->place.path;
  spec.predictor.head_must_exist = critic->is_reward;
  spec.predictor.lora_shared = true;
  /* Its own initial A matrices, where it starts without an adapter. */
  spec.predictor.seed++;
  return spec;
}

static PredictorSpec reference_spec(const TraineeSpec *actor) {
  PredictorSpec spec = actor->predictor;
  spec.name = "reference";
  if (!spec.adapter) spec.adapted = false;
  return spec;
}

static bool critic_fits(const PpoModels *models, const PpoConfig *config, const CriticStart *critic,
                        Error *error) {
  if (!has_critic(config)) return true;
  const int64_t policy = models->policy_base.spec.vocab, own = models->critic.predictor.model->spec.vocab;
  if (policy == own) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: expected the vocabulary of %s (%lld ids), since the critic reads the policy's ids; "
                   "found %lld",
                   critic->place.path, config->model.path, (long long)policy, (long long)own);
}

static bool open_with_adapters(PpoModels *models, const PpoConfig *config, const CriticStart *start,
                               const LoraSpec *lora, Compute *compute, TrainMemory *memory, Error *error) {
  const WeightFormat format = model_config_format(&config->model);
  models->shared = path_same(config->model.path, start->place.path);
  if (!base_open(&models->policy_base, config->model.path, NULL, format, compute, memory, error))
    return false;
  const TraineeSpec actor = actor_spec(config, lora), critic = critic_spec(config, start, lora);
  const PredictorSpec reference = reference_spec(&actor);
  if (!trainee_open(&models->actor, &actor, &models->policy_base, compute, memory, error) ||
      !predictor_open(&models->reference, &reference, &models->policy_base, PREDICTOR_FROZEN, NULL, compute,
                      memory, error)) {
    return false;
  }
  if (!has_critic(config)) return true;
  Model *base = models->shared ? &models->policy_base : &models->critic_base;
  return (models->shared || base_open(base, start->place.path, NULL, format, compute, memory, error)) &&
         trainee_open(&models->critic, &critic, base, compute, memory, error);
}

static bool open_full(PpoModels *models, const PpoConfig *config, const CriticStart *start, Compute *compute,
                      TrainMemory *memory, Error *error) {
  const WeightFormat format = model_config_format(&config->model);
  const char *path = config->model.path, *adapter = config->model.adapter;
  const TraineeSpec actor = actor_spec(config, NULL), critic = critic_spec(config, start, NULL);
  const PredictorSpec reference = reference_spec(&actor);
  return base_open(&models->policy_base, path, adapter, format, compute, memory, error) &&
         base_open(&models->reference_base, path, adapter, format, compute, memory, error) &&
         trainee_open(&models->actor, &actor, &models->policy_base, compute, memory, error) &&
         predictor_open(&models->reference, &reference, &models->reference_base, PREDICTOR_FROZEN, NULL,
                        compute, memory, error) &&
         (!has_critic(config) ||
          (base_open(&models->critic_base, start->place.path, start->place.adapter, format, compute, memory,
                     error) &&
           trainee_open(&models->critic, &critic, &models->critic_base, compute, memory, error)));
}

bool ppo_models_open(PpoModels *models, const PpoConfig *config, const CriticStart *critic,
                     const LoraSpec *lora, const TextIdentity *text, Compute *compute, TrainMemory *memory,
                     Error *error) {
  *models = (PpoModels){0};
  const bool open = config->lora.enabled
                        ? open_with_adapters(models, config, critic, lora, compute, memory, error)
                        : open_full(models, config, critic, compute, memory, error);
  models->actor.text = text;
  if (open && critic_fits(models, config, critic, error)) return true;
  ppo_models_close(models);
  return false;
}

void ppo_models_close(PpoModels *models) {
  trainee_close(&models->actor);
  predictor_close(&models->reference);
  trainee_close(&models->critic);
  base_close(&models->policy_base);
  base_close(&models->critic_base);
  base_close(&models->reference_base);
  *models = (PpoModels){0};
}

ScoringModels ppo_models_for_scoring(PpoModels *models, const PpoConfig *config, const CriticStart *critic,
                                     Compute *compute, TrainMemory *memory) {
  ScoringModels out = {.format = model_config_format(&config->model),
                       .merge = !config->lora.enabled,
                       .micro_batch_tokens = config->optim.micro_batch_tokens,
                       .compute = compute,
                       .memory = memory};
  if (config->lora.enabled) {
    out.bases[out.base_count++] = (ScoringBase){config->model.path, &models->policy_base};
    if (has_critic(config) && !models->shared)
      out.bases[out.base_count++] = (ScoringBase){critic->place.path, &models->critic_base};
  } else if (!config->model.adapter) {
    out.bases[out.base_count++] = (ScoringBase){config->model.path, &models->reference_base};
  }
  return out;
}
