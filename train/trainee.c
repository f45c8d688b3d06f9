#include "train/trainee.h"

#include "base/draft.h"
#include "base/file.h"
#include "base/memory.h"
#include "train/hub.h"
#include "train/ranks.h"
#include "train/saved_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool lora_spec_of(LoraSpec *spec, const LoraConfig *config, Error *error) {
  *spec = (LoraSpec){.r = (int)config->r,
                     .alpha = config->alpha,
                     .dropout = (float)config->dropout,
                     .rslora = config->rslora,
                     .tie = config->ensure_weight_tying};
  bool ok = true;
  for (size_t i = 0; ok && i < config->targets.count; i++)
    ok = lora_spec_target(spec, config->targets.items[i], error);
  for (size_t i = 0; ok && i < config->modules_to_save.count; i++)
    ok = lora_spec_copied(spec, config->modules_to_save.items[i], error);
  if (!ok) lora_spec_free(spec);
  return ok;
}

PassMode training_mode(const ModelConfig *model) {
  return model->recompute ? PASS_RECOMPUTE : PASS_TRAIN;
}

bool training_offload(Pass *pass, const ModelConfig *model, const Compute *compute, TrainMemory *memory,
                      Error *error) {
  if (model->offload != MODEL_OFFLOAD_ACTIVATIONS) return true;
  if (!compute_can_offload(compute)) {
    return error_set(
        error, ERROR_USAGE,
        "model.offload activations: expected a GPU, found %s, which has no memory but the host's",
        compute_device_name(compute));
  }
  pass->offload.host = &memory->offloaded;
  return true;
}

bool training_graphs(PassRecords *records, int64_t bytes, int64_t tokens, Compute *compute, Error *error) {
  *records = (PassRecords){0};
  if (bytes == 0) return true;
  if (compute_on_host(compute)) {
    return error_set(error, ERROR_USAGE, "device.graphs: expected a GPU, found %s, which has no launches",
                     compute_device_name(compute));
  }
  return pass_records_init(records, compute, tokens, (size_t)bytes, error);
}

TraineeSpec trainee_spec_of(const char *name, const ModelConfig *model, const LoraConfig *config,
                            const LoraSpec *lora, const OptimConfig *optim, uint64_t seed) {
  return (TraineeSpec){.predictor = {.name = name,
                                     .adapted = config->enabled,
                                     .adapter = model->adapter,
                                     .lora = lora,
                                     .seed = seed},
                       .offload = optim->offload == OPTIM_OFFLOAD_STATE,
                       .optimizer = optimizer_spec_of(optim)};
}

const char *trainee_merge_of(const ModelConfig *model, const LoraConfig *lora) {
  return lora->enabled ? NULL : model->adapter;
}

/* -- opening -------------------------------------------------------------------------------------------- */

/* What stands in the files now, for results and for a run that goes on. A whole model that is recalled says of itself what
 * it is. */
static bool take_digests(Trainee *trainee, const TraineeSpec *spec, Error *error) {
  const char *directory = trainee->predictor.model->directory;
  if (spec->recalled && !spec->predictor.adapted) return true;
  return (!directory || weights_digest(&trainee->base, directory, error)) &&
         (!trainee->origin || weights_digest(&trainee->before, trainee->origin, error));
}

/* For the gradients of blocks, where each rank keeps a slice of their sums alone. */
static bool has_slots(const TraineeSpec *spec, const Compute *compute) {
  return spec->shard >= SHARD_GRADIENTS && !spec->predictor.adapted && compute->comm.size > 1;
}

static bool open_optimizer(Trainee *trainee, const TraineeSpec *spec, Compute *compute, TrainMemory *memory,
                           Error *error) {
  const Shard *shard = &trainee->shard;
  BlockWeights *sliced = spec->predictor.adapted ? NULL : trainee->predictor.model->block_weights;
  if (!shard_open(&trainee->shard, spec->shard, &trainee->parameters, has_slots(spec, compute), sliced,
                  compute, &memory->gradients, error)) {
    return false;
  }
  if (!spec->offload) {
    return optimizer_open_parts(&trainee->optimizer, &spec->optimizer, &trainee->parameters,
                                shard_updated(shard), shard_counted(shard), compute, &memory->optimizer,
                                error);
  }
  return optimizer_open_offloaded(&trainee->optimizer, &spec->optimizer, &trainee->parameters, compute,
                                  &memory->state, &memory->sums, error);
}

static bool open_host(const TraineeSpec *spec, Compute *compute, Error *error) {
  if (!spec->offload || spec->recalled) return true;
  if (compute->comm.size > 1) {
    return error_set(error, ERROR_USAGE, "optim.offload state has one rank, and there are %d",
                     compute->comm.size);
  }
  if (compute_can_offload(compute)) return compute_open_host(compute, error);
  return error_set(error, ERROR_USAGE,
                   "optim.offload state: expected a GPU, found %s, which has no memory but the host's",
                   compute_device_name(compute));
}

bool trainee_open(Trainee *trainee, const TraineeSpec *spec, Model *model, Compute *compute,
                  TrainMemory *memory, Error *error) {
  const PredictorUse use = spec->recalled ? PREDICTOR_RECALLED : PREDICTOR_TRAINED;
  *trainee = (Trainee){.text = spec->text, .origin = spec->predictor.adapter};
  PredictorSpec predictor = spec->predictor;
  predictor.offload = spec->offload;
  predictor.slots = has_slots(spec, compute);
  bool ok = open_host(spec, compute, error) &&
            predictor_open(&trainee->predictor, &predictor, model, use, &trainee->parameters, compute, memory,
                           error) &&
            (memory->adapters.dry || take_digests(trainee, spec, error));
  if (ok && !spec->recalled) {
    ok = open_optimizer(trainee, spec, compute, memory, error);
    if (ok) optimizer_adopt(&trainee->optimizer, compute);
  }
  if (!ok) trainee_close(trainee);
  return ok;
}

void trainee_close(Trainee *trainee) {
  if (trainee->optimizer.tensors) optimizer_close(&trainee->optimizer);
  shard_close(&trainee->shard);
  parameter_list_free(&trainee->parameters);
  predictor_close(&trainee->predictor);
  *trainee = (Trainee){0};
}

/* -- use ------------------------------------------------------------------------------------------------ */

int64_t trainee_parameter_count(const Trainee *trainee) {
  int64_t count = 0;
  for (size_t i = 0; i < trainee->parameters.count; i++) {
    count += tensor_count(trainee->parameters.items[i].value);
  }
  return count;
}

uint64_t trainee_result_bytes(const Trainee *trainee) {
  const Model *model = trainee->predictor.model;
  if (trainee->predictor.adapted) return (uint64_t)trainee_parameter_count(trainee) * sizeof(float);
  return (uint64_t)model_parameter_count(model) * dtype_size(model->dtype);
}

void trainee_backward(Trainee *trainee, Pass *pass, bool last) {
  pass->watch = shard_watch(&trainee->shard, last);
  pass_backward(pass);
  pass->watch = NULL;
}

int trainee_passes(const Trainee *trainee, const Compute *compute, int own) {
  const bool in_step = trainee->shard.slots || trainee->predictor.model->block_weights;
  const int passes = own > 0 ? own : 1;
  return in_step ? ranks_most(&compute->comm, passes) : passes;
}

void trainee_stand_by(Trainee *trainee, Compute *compute, bool last) {
  const Model *model = trainee->predictor.model;
  pass_forward_idle(model, compute);
  pass_backward_idle(model, compute, shard_watch(&trainee->shard, last));
}

bool trainee_step(Trainee *trainee, Compute *compute, double lr, double *grad_norm, Error *error) {
  shard_finish_sums(&trainee->shard);
  const bool made = optimizer_step(&trainee->optimizer, compute, lr, grad_norm, error);
  shard_zero_gradients(&trainee->shard);
  if (made) shard_share_values(&trainee->shard);
  return made || error_context(error, "%s", trainee->predictor.name);
}

void trainee_zero_gradients(Trainee *trainee, Compute *compute) {
  shard_zero_gradients(&trainee->shard);
  optimizer_zero_gradients(&trainee->optimizer, compute);
}

bool origin_state(Checkpoint *checkpoint, const char *owner, const char *what, const char *path,
                  const WeightsDigest *digest, Error *error) {
  char name[64], half[17];
  snprintf(name, sizeof name, "%s.%s", owner, what);
  snprintf(half, sizeof half, "%.16s", digest->exact);
  const int64_t now = (int64_t)strtoull(half, NULL, 16);
  int64_t begun = now;
  if (!checkpoint_int(checkpoint, name, &begun, error)) return false;
  if (begun == now) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: the weights in %s are not those that the run began with. Give the former ones, "
                   "another run.dir, or "
                   "run.resume false to start over",
                   owner, path);
}

bool trainee_state(Trainee *trainee, Checkpoint *checkpoint, Error *error) {
  const char *name = trainee->predictor.name;
  if (!origin_state(checkpoint, name, "base", trainee->predictor.model->directory, &trainee->base, error) ||
      !origin_state(checkpoint, name, "adapter", trainee->origin, &trainee->before, error) ||
      !optimizer_state(&trainee->optimizer, checkpoint, name, error)) {
    return false;
  }
  if (checkpoint->loading) shard_share_values(&trainee->shard);
  return true;
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
  bool ok =
      !trainee->predictor.adapted || origin_state(checkpoint, trainee->predictor.name, "base",
                                                  trainee->predictor.model->directory, &trainee->base, error);
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
  char name[HUB_NAME_SIZE], commit[HUB_NAME_SIZE];
  const LoraBase base =
      hub_name_of(source, name, commit) ? (LoraBase){name, commit} : (LoraBase){source, NULL};
  if (!predictor_has_head(&trainee->predictor)) {
    return lora_save(&trainee->predictor.adapter, NULL, model_width(&trainee->predictor.model->spec),
                     (ScoreZero){0}, base, directory, compute, error);
  }
  float *weight = memory_alloc(tensor_bytes(trainee->predictor.head.weight));
  bool ok = weight || error_out_of_memory(error, "score head", tensor_bytes(trainee->predictor.head.weight));
  if (ok) {
    compute_download(compute, weight, trainee->predictor.head.weight);
    ok = lora_save(&trainee->predictor.adapter, weight, model_width(&trainee->predictor.model->spec),
                   trainee->predictor.head.zero, base, directory, compute, error);
  }
  memory_free(weight);
  return ok;
}

/* A GGUF file's tokenizer becomes a tree of JSON, which for a vocabulary of 49,152 takes 35 MiB: it has the room of the workspace, which
 * nothing lies in between operations and is as large as a vocabulary too, and what is free then goes back. */
static bool save_tokenizer(const char *source, const char *directory, const Compute *compute, Error *error) {
  const Arena *scratch = &compute->scratch;
  if (scratch->owned && scratch->used == 0) madvise(scratch->base, scratch->capacity, MADV_DONTNEED);
  const bool ok = saved_tokenizer_write(source, directory, error);
  memory_give_back();
  return ok;
}

static bool save_into(const Trainee *trainee, const char *source, const SavedTokens *tokens,
                      const char *directory, Compute *compute, Error *error) {
  const Model *model = trainee->predictor.model;
  if (trainee->predictor.adapted) {
    return save_adapter(trainee, source, directory, compute, error) &&
           generation_config_save(model->config, tokens, source, directory, error);
  }
  const ScoreHead *head = predictor_has_head(&trainee->predictor) ? &trainee->predictor.head : NULL;
  return model_save(model, head, NULL, tokens, source, directory, model->dtype, compute, error) &&
         save_tokenizer(source, directory, compute, error);
}

static bool save_identity(const Trainee *trainee, const char *directory, Error *error) {
  Identity identity = {0};
  if (trainee->predictor.adapted) {
    const WeightFormat *format = &trainee->predictor.model->format;
    identity.base = trainee->base;
    identity.quantize = format->quantize;
    identity.int8_tables = format->int8_tables;
  }
  if (trainee->text) identity.text = *trainee->text;
  return identity_write(&identity, directory, error);
}

static bool save_about(const char *about, const char *directory, Error *error) {
  if (!about) return true;
  char *path = path_join(directory, "best.json");
  const bool ok = path ? file_write_text(path, about, error) : error_out_of_memory(error, "path", 0);
  memory_free(path);
  return ok;
}

/* Of the rank that writes. */
static bool save_at(const Trainee *trainee, const char *source, const TextTools *text, const char *place,
                    const char *about, Compute *compute, Error *error) {
  _Static_assert((int)SAVED_ENDS >= (int)TEXT_MAX_ENDS, "all ends of a tokenizer and a template have room");
  SavedTokens tokens = {.pad = -1};
  if (text) {
    tokens.end_count = text_tools_ends(text, tokens.ends);
    saved_tokens_find_pad(&tokens, text->tokenizer, trainee->predictor.model->spec.vocab);
  }
  Draft draft = {0};
  const bool ok = draft_directory(&draft, place, error) &&
                  save_into(trainee, source, &tokens, draft.path, compute, error) &&
                  (!text || !text->has_chat || template_save(&text->chat, draft.path, error)) &&
                  save_identity(trainee, draft.path, error) && save_about(about, draft.path, error) &&
                  directory_replace(draft.path, place, error);
  draft_drop(&draft);
  return ok;
}

bool trainee_save_as(const Trainee *trainee, const char *source, const TextTools *text, const char *place,
                     const char *about, Compute *compute, Error *error) {
  BlockWeights *sliced = trainee->predictor.model->block_weights;
  if (compute->comm.rank > 0) {
    if (sliced) block_weights_help(sliced, compute);
    return true;
  }
  const bool ok = save_at(trainee, source, text, place, about, compute, error);
  if (sliced) block_weights_ask(sliced, compute, -1);
  return ok;
}

bool trainee_save(const Trainee *trainee, const char *source, const TextTools *text, const char *directory,
                  Compute *compute, char **path, Error *error) {
  char *place = path_join(directory, trainee->predictor.adapted ? "adapter" : "model");
  const bool ok = place ? trainee_save_as(trainee, source, text, place, NULL, compute, error)
                        : error_out_of_memory(error, "path", strlen(directory));
  if (ok && path && compute->comm.rank == 0) {
    *path = place;
  } else {
    memory_free(place);
  }
  return ok;
}
