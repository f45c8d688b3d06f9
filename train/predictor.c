/* Models as they are read; trainee.h has the contract. */
#include "train/ranks.h"
#include "train/trainee.h"

static bool check_model_kind(const PredictorSpec *spec, const Model *model, Error *error) {
  if (spec->score_head || model->head >= 0) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: a reward model (%s) has no LM head and only scores, and the %s must be a language model: give the "
      "model that it was made from, or another %s",
      model->directory, model->arch->score_class, spec->name, model->arch->causal_class);
}

static bool check_adapter_kind(const PredictorSpec *spec, Error *error) {
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

/* The shape of the adapter: as the directory to start from says, or as the configuration. */
static bool adapter_spec(LoraSpec *out, const PredictorSpec *spec, Error *error) {
  *out = (LoraSpec){0};
  ASSERT(spec->adapter || spec->lora);
  bool ok =
      spec->adapter ? lora_spec_read(out, spec->adapter, error) : lora_spec_copy(out, spec->lora, error);
  if (!ok) return false;
  if (spec->lora) out->dropout = spec->lora->dropout;
  if (spec->score_head) out->sequence_classification = true;
  /* A language model's adapter that a reward model starts from leaves behind what it has on the LM head. */
  out->names_shared = spec->score_head && (spec->adapter || spec->lora_shared);
  return true;
}

/* A table that is trained whole begins as the model's, not as what 8 bits have left of it. One that comes with the adapter is its own. */
static bool check_copies(const LoraSet *set, const PredictorSpec *spec, Error *error) {
  for (int id = 0; id < set->count; id++) {
    const LoraCopy *copy = lora_copy(set, id);
    if (!copy || copy->frozen || spec->adapter || !dtype_is_blocks(set->modules[id].weight.dtype)) continue;
    return error_set(
        error, ERROR_USAGE,
        "lora.modules_to_save: %s is in 8 bits and cannot be trained whole: set model.quantize_tables none",
        set->modules[id].name);
  }
  return true;
}

static bool open_adapter(Predictor *predictor, const PredictorSpec *spec, PredictorUse use,
                         ParameterList *parameters, Compute *compute, TrainMemory *memory, Error *error) {
  LoraSpec lora;
  const Model *model = predictor->model;
  LoraSet *set = &predictor->adapter;
  bool ok = adapter_spec(&lora, spec, error);
  ok = ok && lora_open(set, &lora, model->modules, model->module_count, model->dtype, use != PREDICTOR_FROZEN,
                       compute, &memory->adapters, error);
  lora_spec_free(&lora);
  ok = ok && check_copies(set, spec, error);
  if (!ok) return error_context(error, "%s", spec->adapter ? spec->adapter : "lora");
  set->dropout_key = random_key(spec->seed, RANDOM_DROPOUT);
  /* In a dry run the files are looked at too, so that --check finds what is wrong with them. */
  const bool dry = memory->adapters.dry;
  if (spec->adapter && (!dry || compute->dry)) {
    if (!lora_read(set, spec->adapter, compute, error)) return false;
  } else if (!dry && use != PREDICTOR_RECALLED && !lora_initialize(set, compute, spec->seed, error)) {
    return false;
  }
  return use == PREDICTOR_FROZEN || lora_parameters(set, parameters, error);
}

/* The head that comes with the adapter is the later one; an SFT adapter has none, and then the model's counts. */
static bool head_directory(const PredictorSpec *spec, const Model *model, const char **out, Error *error) {
  *out = spec->head_from;
  if (!spec->adapter) return true;
  size_t bytes = (size_t)model_width(&model->spec) * sizeof(float);
  float *weight = memory_alloc(bytes);
  ScoreZero zero;
  bool found = false;
  bool ok = weight ? lora_read_score(spec->adapter, model_width(&model->spec), weight, &zero, &found, error)
                   : error_out_of_memory(error, "score head", bytes);
  memory_free(weight);
  if (ok && found) *out = spec->adapter;
  return ok;
}

static bool open_head(Predictor *predictor, const PredictorSpec *spec, PredictorUse use,
                      ParameterList *parameters, Compute *compute, TrainMemory *memory, Error *error) {
  const char *directory;
  Arena *arena = &memory->adapters;
  return head_directory(spec, predictor->model, &directory, error) &&
         score_head_open(&predictor->head, predictor->model, directory, spec->head_must_exist, spec->seed,
                         compute, arena, error) &&
         (use != PREDICTOR_RECALLED || score_head_parameters(&predictor->head, parameters, error)) &&
         (use != PREDICTOR_TRAINED ||
          score_head_make_trainable(&predictor->head, compute, arena, parameters, error));
}

/* A step of the optimiser would leave the rows of such a head at other lengths than 1. */
static bool check_trainable(const PredictorSpec *spec, const Model *model, Error *error) {
  if (model_is_quantized(model))
    return error_set(
        error, ERROR_USAGE,
        "%s: model.quantize is for a base that is not trained: set lora.enabled, or model.quantize none",
        spec->name);
  if (!model->spec.head_normalized || model->head < 0) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: full fine-tuning of this model is not supported: the rows of its LM head are kept at length 1 "
      "(NormHead of Baichuan 2). Train an adapter, or a reward model",
      spec->name);
}

bool predictor_open(Predictor *predictor, const PredictorSpec *spec, Model *model, PredictorUse use,
                    ParameterList *parameters, Compute *compute, TrainMemory *memory, Error *error) {
  *predictor = (Predictor){.name = spec->name, .model = model, .adapted = spec->adapted};
  bool ok = check_model_kind(spec, model, error) && check_adapter_kind(spec, error);
  if (ok && spec->adapted) {
    ok = open_adapter(predictor, spec, use, parameters, compute, memory, error);
  } else if (ok && use == PREDICTOR_RECALLED) {
    ok = model_parameters(model, parameters, error);
  } else if (ok && use == PREDICTOR_TRAINED) {
    ok = check_trainable(spec, model, error) &&
         (spec->offload ? model_make_trainable_offloaded(model, compute, &memory->gradients, &memory->sums,
                                                         parameters, error)
          : spec->slots ? model_make_trainable_in_slots(model, compute, &memory->gradients, parameters, error)
                        : model_make_trainable(model, compute, &memory->gradients, parameters, error));
  }
  ok = ok && (!spec->score_head || open_head(predictor, spec, use, parameters, compute, memory, error));
  if (!ok) predictor_close(predictor);
  return ok;
}

void predictor_close(Predictor *predictor) {
  if (predictor->adapter.pairs) lora_free(&predictor->adapter);
  *predictor = (Predictor){0};
}

const LoraSet *predictor_adapter(const Predictor *predictor) {
  return predictor->adapted ? &predictor->adapter : NULL;
}

int predictor_passes(const Predictor *predictor, const Compute *compute, int own) {
  return predictor->model->block_weights ? ranks_most(&compute->comm, own) : own;
}

bool predictor_has_head(const Predictor *predictor) {
  return !tensor_is_none(predictor->head.weight);
}
