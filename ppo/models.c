#include "ppo/models.h"

static TraineeSpec actor_spec(const PpoConfig *config, const LoraSpec *lora) {
  TraineeSpec spec = trainee_spec_of("actor", &config->model, &config->lora, lora, &config->optim,
                                     (uint64_t)config->run.seed);
  spec.shard = (ShardLevel)config->device.shard;
  return spec;
}

/* A critic learns the value of each state. */
static TraineeSpec critic_spec(const PpoConfig *config, const CriticStart *start, int k,
                               const LoraSpec *lora) {
  static const char *const names[] = {"critic", "cost_critic"};
  TraineeSpec spec = actor_spec(config, lora);
  spec.predictor.name = names[k];
  spec.predictor.adapter = start->place.adapter;
  spec.predictor.score_head = true;
  spec.predictor.head_from = start->place.path;
  spec.predictor.head_must_exist = start->is_reward;
  spec.predictor.lora_shared = true;
  /* Its own initial A matrices, where it starts without an adapter. */
  spec.predictor.seed += 1 + (uint64_t)k;
  return spec;
}

/* Of models that are trained, or under an adapter that is; and of those that nothing is trained of. */
static WeightFormat format_of(const PpoConfig *config, bool frozen, const Compute *compute) {
  WeightFormat format = model_config_format(&config->model);
  const bool sliced = config->device.shard == SHARD_WEIGHTS || (frozen && config->device.shard_frozen);
  format.sliced = sliced && compute->comm.size > 1;
  return format;
}

/* One that follows the policy begins as a copy of its adapter, which changes nothing yet where it is new. */
static PredictorSpec reference_spec(const PpoConfig *config, const TraineeSpec *actor) {
  PredictorSpec spec = actor->predictor;
  spec.name = "reference";
  if (!spec.adapter && config->ppo.reference_every == 0) spec.adapted = false;
  return spec;
}

static bool critic_fits(const PpoModels *models, const PpoConfig *config, const CriticStart *start,
                        const Trainee *critic, Error *error) {
  const int64_t policy = models->policy_base.spec.vocab, own = critic->predictor.model->spec.vocab;
  if (policy == own) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: expected the vocabulary of %s (%lld ids), since the critic reads the policy's ids; "
                   "found %lld",
                   start->place.path, config->model.path, (long long)policy, (long long)own);
}

/* The base that critic k stands over: with LoRA one that is open already where it is of the same directory. */
static Model *critic_base(PpoModels *models, const PpoConfig *config, const CriticStarts *starts, int k) {
  const char *path = starts->of[k].place.path;
  if (config->lora.enabled) {
    if (path_same(config->model.path, path)) return &models->policy_base;
    for (int i = 0; i < k; i++)
      if (path_same(starts->of[i].place.path, path)) return models->critics[i].predictor.model;
  }
  models->owns[k] = true;
  return &models->critic_bases[k];
}

static bool same_shape(Tensor a, Tensor b) {
  bool same = a.rank == b.rank;
  for (int i = 0; same && i < a.rank; i++) same = a.dim[i] == b.dim[i];
  return same;
}

static bool in_a_block(const Model *model, int i) {
  return model->tensors[i].layer >= 0 && model->tensors[i].layer != BEHIND_BLOCKS;
}

/* In number and shapes. */
static bool blocks_alike(const Model *a, const Model *b) {
  int i = 0, j = 0;
  for (;; i++, j++) {
    while (i < a->tensor_count && !in_a_block(a, i)) i++;
    while (j < b->tensor_count && !in_a_block(b, j)) j++;
    if (i == a->tensor_count || j == b->tensor_count) return i == a->tensor_count && j == b->tensor_count;
    const ModelTensor *x = &a->tensors[i], *y = &b->tensors[j];
    if (x->layer != y->layer || !same_shape(x->value, y->value)) return false;
  }
}

/* Whether a critic may have its gradients in the memory of the actor's: a step leaves zeros there. Slots, and room for values on their way to a
 * card, are left as they are, and have to lie at the same places. */
static bool takes_turns(const PpoModels *models, const PpoConfig *config, const Model *critic) {
  const bool plain = config->optim.offload == OPTIM_OFFLOAD_NONE && config->device.shard < SHARD_GRADIENTS;
  return !config->lora.enabled && (plain || blocks_alike(&models->policy_base, critic));
}

static bool open_trainee(PpoModels *models, const PpoConfig *config, const TraineeSpec *spec, int k,
                         Model *base, Compute *compute, TrainMemory *memory, Error *error) {
  if (!takes_turns(models, config, base))
    return trainee_open(&models->critics[k], spec, base, compute, memory, error);
  const GradientTurns turns = gradient_turns_begin(memory);
  const bool ok = trainee_open(&models->critics[k], spec, base, compute, memory, error);
  gradient_turns_end(memory, turns);
  return ok;
}

static bool open_critic(PpoModels *models, const PpoConfig *config, const CriticStarts *starts, int k,
                        const LoraSpec *lora, Compute *compute, TrainMemory *memory, Error *error) {
  const CriticStart *start = &starts->of[k];
  const char *merged = config->lora.enabled ? NULL : start->place.adapter;
  const TraineeSpec spec = critic_spec(config, start, k, lora);
  Model *base = critic_base(models, config, starts, k);
  return (!models->owns[k] || base_open(base, start->place.path, merged, format_of(config, false, compute),
                                        compute, memory, error)) &&
         open_trainee(models, config, &spec, k, base, compute, memory, error) &&
         critic_fits(models, config, start, &models->critics[k], error);
}

/* Actor and reference: with LoRA over one base, without over two. */
static bool open_policy(PpoModels *models, const PpoConfig *config, const LoraSpec *lora, Compute *compute,
                        TrainMemory *memory, Error *error) {
  const bool adapters = config->lora.enabled;
  const WeightFormat format = format_of(config, false, compute);
  WeightFormat copied = format_of(config, true, compute);
  copied.filed = config->ppo.frozen_in_files && config->ppo.reference_every == 0;
  const char *path = config->model.path, *merged = adapters ? NULL : config->model.adapter;
  const TraineeSpec actor = actor_spec(config, lora);
  const PredictorSpec reference = reference_spec(config, &actor);
  Model *frozen = adapters ? &models->policy_base : &models->reference_base;
  return base_open(&models->policy_base, path, merged, format, compute, memory, error) &&
         (adapters || base_open(frozen, path, merged, copied, compute, memory, error)) &&
         trainee_open(&models->actor, &actor, &models->policy_base, compute, memory, error) &&
         predictor_open(&models->reference, &reference, frozen, PREDICTOR_FROZEN, NULL, compute, memory,
                        error);
}

bool ppo_models_open(PpoModels *models, const PpoConfig *config, const CriticStarts *critics,
                     const LoraSpec *lora, const TextIdentity *text, Compute *compute, TrainMemory *memory,
                     Error *error) {
  const LoraSpec *shape = config->lora.enabled ? lora : NULL;
  *models = (PpoModels){.critic_count = critics->count};
  bool ok = open_policy(models, config, shape, compute, memory, error);
  for (int k = 0; ok && k < critics->count; k++)
    ok = open_critic(models, config, critics, k, shape, compute, memory, error);
  models->actor.text = text;
  if (!ok) ppo_models_close(models);
  return ok;
}

void ppo_models_close(PpoModels *models) {
  trainee_close(&models->actor);
  predictor_close(&models->reference);
  for (int k = 0; k < MOST_CRITICS; k++) trainee_close(&models->critics[k]);
  for (int k = 0; k < MOST_CRITICS; k++) base_close(&models->critic_bases[k]);
  base_close(&models->policy_base);
  base_close(&models->reference_base);
  *models = (PpoModels){0};
}

ScoringModels ppo_models_for_scoring(PpoModels *models, const PpoConfig *config, const CriticStarts *critics,
                                     Compute *compute, TrainMemory *memory) {
  ScoringModels out = {.format = format_of(config, !config->lora.enabled, compute),
                       .merge = !config->lora.enabled,
                       .micro_batch_tokens = config->optim.micro_batch_tokens,
                       .compute = compute,
                       .memory = memory};
  out.format.filed = config->ppo.frozen_in_files;
  if (config->lora.enabled) {
    out.bases[out.base_count++] = (ScoringBase){config->model.path, &models->policy_base};
    for (int k = 0; k < models->critic_count; k++)
      if (models->owns[k])
        out.bases[out.base_count++] = (ScoringBase){critics->of[k].place.path, &models->critic_bases[k]};
  } else if (!config->model.adapter && config->ppo.reference_every == 0) {
    out.bases[out.base_count++] = (ScoringBase){config->model.path, &models->reference_base};
  }
  return out;
}
