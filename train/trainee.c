#include "train/trainee.h"

#include "base/draft.h"
#include "base/file.h"
#include "train/saved_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lora_spec_of(LoraSpec *spec, const LoraConfig *config, Error *error) {
  *spec = (LoraSpec){.r = (int)config->r,
                     .alpha = config->alpha,
                     .dropout = (float)config->dropout,
                     .rslora = config->rslora};
  for (size_t i = 0; i < config->targets.count; i++) {
    if (!lora_spec_target(spec, config->targets.items[i], error)) {
      lora_spec_free(spec);
      return false;
    }
  }
  return true;
}

PassMode training_mode(const ModelConfig *model) {
  return model->recompute ? PASS_RECOMPUTE : PASS_TRAIN;
}

TraineeSpec trainee_spec_of(const char *name, const ModelConfig *model, const LoraConfig *config,
                            const LoraSpec *lora, const OptimConfig *optim, uint64_t seed) {
  return (TraineeSpec){.name = name,
                       .kind = config->enabled ? TRAINEE_ADAPTER : TRAINEE_BASE,
                       .adapter = model->adapter,
                       .lora = lora,
                       .seed = seed,
                       .optimizer = optimizer_spec_of(optim)};
}

const char *trainee_merge_of(const ModelConfig *model, const LoraConfig *lora) {
  return lora->enabled ? NULL : model->adapter;
}

/* -- opening -------------------------------------------------------------------------------------------- */

static bool check_model_kind(const TraineeSpec *spec, const Model *model, Error *error) {
  if (spec->score_head || model->head >= 0) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: a reward model (%s) has no LM head and only scores, and the %s must be a language model: give the "
      "model that it was made from, or another %s",
      model->directory, model->arch->score_class, spec->name, model->arch->causal_class);
}

static bool check_adapter_kind(const TraineeSpec *spec, Error *error) {
  bool scores;
  if (!spec->adapter) return true;
  if (!lora_is_score(spec->adapter, &scores, error)) return false;
  if (scores && !spec->score_head) {
    return error_set(
        error, ERROR_MODEL,
        "%s: a reward model's adapter (SEQ_CLS), and the %s needs a language model's (CAUSAL_LM), as sft and "
        "ppo write it",
        spec->adapter, spec->name);
  }
  if (!scores && spec->score_head && spec->head_must_exist) {
    return error_set(
        error, ERROR_MODEL,
        "%s: a language model's adapter (CAUSAL_LM) without a score head, and the %s needs a reward model's "
        "(SEQ_CLS), as reward writes it",
        spec->adapter, spec->name);
  }
  return true;
}

/* A full model says of itself what it is; an adapter says what it was trained over. */
static bool needs_digests(const TraineeSpec *spec) {
  return !spec->frozen || (spec->recalled && spec->kind == TRAINEE_ADAPTER);
}

/* What stands in the files now, for results and for a run that goes on. */
static bool take_digests(Trainee *trainee, Error *error) {
  const char *directory = trainee->model->directory;
  return (!directory || weights_digest(&trainee->base, directory, error)) &&
         (!trainee->origin || weights_digest(&trainee->before, trainee->origin, error));
}

/* The shape of the adapter: as the directory to start from says, or as the configuration. */
static bool adapter_spec(LoraSpec *out, const TraineeSpec *spec, Error *error) {
  *out = (LoraSpec){0};
  ASSERT(spec->adapter || spec->lora);
  bool ok =
      spec->adapter ? lora_spec_read(out, spec->adapter, error) : lora_spec_copy(out, spec->lora, error);
  if (!ok) return false;
  if (spec->lora) out->dropout = spec->lora->dropout;
  if (spec->score_head) out->sequence_classification = true;
  return true;
}

static bool has_parameters(const TraineeSpec *spec) {
  return !spec->frozen || spec->recalled;
}

static bool open_adapter(Trainee *trainee, const TraineeSpec *spec, Compute *compute, TrainMemory *memory,
                         Error *error) {
  LoraSpec lora;
  const Model *model = trainee->model;
  LoraSet *set = &trainee->adapter;
  bool ok = adapter_spec(&lora, spec, error);
  ok = ok && lora_open(set, &lora, model->modules, model->module_count, model->dtype, has_parameters(spec),
                       compute, &memory->adapters, error);
  lora_spec_free(&lora);
  if (!ok) return error_context(error, "%s", spec->adapter ? spec->adapter : "lora");
  set->dropout_key = random_key(spec->seed, RANDOM_DROPOUT);
  /* In a dry run the files are looked at too, so that --check finds what is wrong with them. */
  const bool dry = memory->adapters.dry;
  if (spec->adapter && (!dry || compute->dry)) {
    if (!lora_read(set, spec->adapter, compute, error)) return false;
  } else if (!dry && !lora_initialize(set, compute, spec->seed, error)) {
    return false;
  }
  return !has_parameters(spec) || lora_parameters(set, &trainee->parameters, error);
}

/* The head that comes with the adapter is the later one; an SFT adapter has none, and then the model's counts. */
static bool head_directory(const TraineeSpec *spec, const Model *model, const char **out, Error *error) {
  *out = spec->head_from;
  if (!spec->adapter) return true;
  size_t bytes = (size_t)model->spec.hidden * sizeof(float);
  float *weight = memory_alloc(bytes);
  ScoreZero zero;
  bool found = false;
  bool ok = weight ? lora_read_score(spec->adapter, model->spec.hidden, weight, &zero, &found, error)
                   : error_out_of_memory(error, "score head", bytes);
  memory_free(weight);
  if (ok && found) *out = spec->adapter;
  return ok;
}

static bool open_head(Trainee *trainee, const TraineeSpec *spec, Compute *compute, TrainMemory *memory,
                      Error *error) {
  const char *directory;
  Arena *arena = &memory->adapters;
  return head_directory(spec, trainee->model, &directory, error) &&
         score_head_open(&trainee->head, trainee->model, directory, spec->head_must_exist, spec->seed,
                         compute, arena, error) &&
         (!has_parameters(spec) ||
          (spec->recalled
               ? score_head_parameters(&trainee->head, &trainee->parameters, error)
               : score_head_make_trainable(&trainee->head, compute, arena, &trainee->parameters, error)));
}

bool trainee_open(Trainee *trainee, const TraineeSpec *spec, Model *model, Compute *compute,
                  TrainMemory *memory, Error *error) {
  ASSERT(spec->frozen || !spec->recalled);
  *trainee = (Trainee){.name = spec->name,
                       .kind = spec->kind,
                       .frozen = spec->frozen,
                       .model = model,
                       .text = spec->text,
                       .origin = spec->adapter};
  bool ok = check_model_kind(spec, model, error) && check_adapter_kind(spec, error) &&
            (memory->adapters.dry || !needs_digests(spec) || take_digests(trainee, error));
  if (!ok) {
    *trainee = (Trainee){0};
    return false;
  }
  if (spec->kind == TRAINEE_ADAPTER) {
    ok = open_adapter(trainee, spec, compute, memory, error);
  } else if (spec->recalled) {
    ok = model_parameters(model, &trainee->parameters, error);
  } else if (!spec->frozen) {
    ok = model_make_trainable(model, compute, &memory->gradients, &trainee->parameters, error);
  }
  ok = ok && (!spec->score_head || open_head(trainee, spec, compute, memory, error));
  if (ok && !spec->frozen) {
    ok = optimizer_open(&trainee->optimizer, &spec->optimizer, &trainee->parameters, compute,
                        &memory->optimizer, error);
    if (ok) optimizer_adopt(&trainee->optimizer, compute);
  }
  if (!ok) trainee_close(trainee);
  return ok;
}

void trainee_close(Trainee *trainee) {
  if (trainee->optimizer.tensors) optimizer_close(&trainee->optimizer);
  parameter_list_free(&trainee->parameters);
  if (trainee->adapter.pairs) lora_free(&trainee->adapter);
  *trainee = (Trainee){0};
}

/* -- use ------------------------------------------------------------------------------------------------ */

const LoraSet *trainee_adapter(const Trainee *trainee) {
  return trainee->kind == TRAINEE_ADAPTER ? &trainee->adapter : NULL;
}

bool trainee_has_head(const Trainee *trainee) {
  return !tensor_is_none(trainee->head.weight);
}

int64_t trainee_parameter_count(const Trainee *trainee) {
  int64_t count = 0;
  for (size_t i = 0; i < trainee->parameters.count; i++) {
    count += tensor_count(trainee->parameters.items[i].value);
  }
  return count;
}

bool trainee_step(Trainee *trainee, Compute *compute, double lr, double *grad_norm, Error *error) {
  ASSERT(!trainee->frozen);
  return optimizer_step(&trainee->optimizer, compute, lr, grad_norm, error) ||
         error_context(error, "%s", trainee->name);
}

/* The files that `what` names, by their digest now and when the run began. */
static bool origin_state(const Trainee *trainee, Checkpoint *checkpoint, const char *what, const char *path,
                         const WeightsDigest *digest, Error *error) {
  char name[64], half[17];
  snprintf(name, sizeof name, "%s.%s", trainee->name, what);
  snprintf(half, sizeof half, "%.16s", digest->exact);
  const int64_t now = (int64_t)strtoull(half, NULL, 16);
  int64_t begun = now;
  if (!checkpoint_int(checkpoint, name, &begun, error)) return false;
  if (begun == now) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: the weights in %s are not those that the run began with. Give the former ones, "
                   "another run.dir, or "
                   "run.resume false to start over",
                   trainee->name, path);
}

bool trainee_state(Trainee *trainee, Checkpoint *checkpoint, Error *error) {
  if (!origin_state(trainee, checkpoint, "base", trainee->model->directory, &trainee->base, error) ||
      !origin_state(trainee, checkpoint, "adapter", trainee->origin, &trainee->before, error)) {
    return false;
  }
  return trainee->frozen || optimizer_state(&trainee->optimizer, checkpoint, trainee->name, error);
}

/* Where a parameter's exact value is kept, or room for it: as much as the largest one needs. */
static Tensor exact_value(const Parameter *parameter, Arena *room) {
  if (!tensor_is_none(parameter->master)) return parameter->master;
  if (parameter->value.dtype == DTYPE_F32) return parameter->value;
  return tensor_new_like(room, parameter->value, DTYPE_F32);
}

static bool recall_value(const Parameter *parameter, Checkpoint *checkpoint, const char *group, Arena *room,
                         Error *error) {
  const size_t mark = arena_mark(room);
  const Tensor exact = exact_value(parameter, room);
  bool ok = true;
  if (!room->dry) {
    char *name = memory_format("%s.%s", group, parameter->name);
    ok = name ? checkpoint_tensor(checkpoint, name, exact, error)
              : error_out_of_memory(error, "name", strlen(parameter->name));
    memory_free(name);
    if (ok && exact.data != parameter->value.data)
      op_axpby(checkpoint->compute, parameter->value, exact, 1, 0);
  }
  arena_release(room, mark);
  return ok;
}

bool trainee_recall(Trainee *trainee, Checkpoint *checkpoint, const char *group, Error *error) {
  const ParameterList *list = &trainee->parameters;
  Arena plan, room = {0};
  bool ok = trainee->kind == TRAINEE_BASE ||
            origin_state(trainee, checkpoint, "base", trainee->model->directory, &trainee->base, error);
  arena_init_dry(&plan, "values");
  for (size_t i = 0; ok && i < list->count; i++)
    ok = recall_value(&list->items[i], checkpoint, group, &plan, error);
  ok = ok && compute_arena(checkpoint->compute, &room, "values", plan.peak, error);
  for (size_t i = 0; ok && i < list->count; i++)
    ok = recall_value(&list->items[i], checkpoint, group, &room, error);
  if (room.base) compute_arena_free(checkpoint->compute, &room);
  return ok;
}

/* -- saving --------------------------------------------------------------------------------------------- */

static bool save_adapter(const Trainee *trainee, const char *source, const char *directory, Compute *compute,
                         Error *error) {
  if (!trainee_has_head(trainee)) {
    return lora_save(&trainee->adapter, NULL, trainee->model->spec.hidden, (ScoreZero){0}, source, directory,
                     compute, error);
  }
  float *weight = memory_alloc(tensor_bytes(trainee->head.weight));
  bool ok = weight || error_out_of_memory(error, "score head", tensor_bytes(trainee->head.weight));
  if (ok) {
    compute_download(compute, weight, trainee->head.weight);
    ok = lora_save(&trainee->adapter, weight, trainee->model->spec.hidden, trainee->head.zero, source,
                   directory, compute, error);
  }
  memory_free(weight);
  return ok;
}

static bool save_into(const Trainee *trainee, const char *source, const SavedTokens *tokens,
                      const char *directory, Compute *compute, Error *error) {
  const Model *model = trainee->model;
  if (trainee->kind == TRAINEE_ADAPTER) {
    return save_adapter(trainee, source, directory, compute, error) &&
           generation_config_save(model->config, tokens, source, directory, error);
  }
  const ScoreHead *head = trainee_has_head(trainee) ? &trainee->head : NULL;
  return model_save(model, head, NULL, tokens, source, directory, model->dtype, compute, error);
}

static bool save_identity(const Trainee *trainee, const char *directory, Error *error) {
  Identity identity = {0};
  if (trainee->kind == TRAINEE_ADAPTER) identity.base = trainee->base;
  if (trainee->text) identity.text = *trainee->text;
  return identity_write(&identity, directory, error);
}

bool trainee_save_as(const Trainee *trainee, const char *source, const TextTools *text, const char *place,
                     Compute *compute, Error *error) {
  _Static_assert((int)SAVED_ENDS >= (int)TEXT_MAX_ENDS, "all ends of a tokenizer and a template have room");
  SavedTokens tokens = {.pad = -1};
  if (text) {
    tokens.end_count = text_tools_ends(text, tokens.ends);
    saved_tokens_find_pad(&tokens, text->tokenizer, trainee->model->spec.vocab);
  }
  Draft draft = {0};
  const bool ok = draft_directory(&draft, place, error) &&
                  save_into(trainee, source, &tokens, draft.path, compute, error) &&
                  save_identity(trainee, draft.path, error) && directory_replace(draft.path, place, error);
  draft_drop(&draft);
  return ok;
}

bool trainee_save(const Trainee *trainee, const char *source, const TextTools *text, const char *directory,
                  Compute *compute, char **path, Error *error) {
  char *place = path_join(directory, trainee->kind == TRAINEE_ADAPTER ? "adapter" : "model");
  const bool ok = place ? trainee_save_as(trainee, source, text, place, compute, error)
                        : error_out_of_memory(error, "path", strlen(directory));
  if (ok && path) {
    *path = place;
  } else {
    memory_free(place);
  }
  return ok;
}
