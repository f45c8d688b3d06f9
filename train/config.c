#include "train/config.h"

const char *const model_dtype_choices[] = {"auto", "f32", "bf16", NULL};
const char *const tokenizer_choices[] = {"auto", "file", "sentencepiece", NULL};
const char *const optimizer_choices[] = {"adamw", "lion", "sgd", NULL};
const char *const optimizer_state_choices[] = {"f32", "8bit", NULL};
const char *const optim_offload_choices[] = {"none", "state", NULL};
const char *const schedule_choices[] = {"constant", "linear", "cosine", NULL};
const char *const cache_dtype_choices[] = {"auto", "int8", NULL};
const char *const sampler_weights_choices[] = {"exact", "int8", NULL};
const char *const device_choices[] = {"auto", "cpu", "cuda", NULL};
const char *const shard_choices[] = {"none", "optimizer", "gradients", "weights", NULL};

const char *const model_quantize_choices[] = {"none", "nf4", "int8", NULL};
const char *const model_tables_choices[] = {"none", "int8", NULL};
const char *const model_offload_choices[] = {"none", "activations", NULL};

WeightFormat weight_format(int dtype, int quantize, int tables) {
  return (WeightFormat){.dtype = dtype == MODEL_DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32,
                        .as_filed = dtype == MODEL_DTYPE_AUTO,
                        .quantize = (ModelQuantize)quantize,
                        .int8_tables = quantize != MODEL_QUANTIZE_NONE && tables == MODEL_TABLES_INT8};
}

int model_quantize_bits(ModelQuantize quantize) {
  return quantize == MODEL_QUANTIZE_INT8 ? 8 : 4;
}

DType cache_dtype(int choice, DType activations) {
  return choice == CACHE_DTYPE_INT8 ? DTYPE_I8 : activations;
}

bool rollout_config_check(const RolloutConfig *config, const char *prefix, const char *glue, Error *error) {
  if (config->min_new_tokens > config->max_new_tokens) {
    return error_set(error, ERROR_USAGE,
                     "%smin%snew%stokens: expected at most the longest answer, %lld tokens, found %lld",
                     prefix, glue, glue, (long long)config->max_new_tokens,
                     (long long)config->min_new_tokens);
  }
  const int64_t from = config->limit_from;
  if (from > config->max_new_tokens || (from > 0 && from < config->min_new_tokens)) {
    return error_set(error, ERROR_USAGE,
                     "%smax%snew%stokens%sfrom: expected from %smin%snew%stokens %lld to %smax%snew%stokens "
                     "%lld, found %lld",
                     prefix, glue, glue, glue, prefix, glue, glue, (long long)config->min_new_tokens, prefix,
                     glue, glue, (long long)config->max_new_tokens, (long long)from);
  }
  for (size_t i = 0; i < config->stop.count; i++) {
    if (!*config->stop.items[i])
      return error_set(error, ERROR_USAGE, "%sstop: expected texts, found an empty one", prefix);
  }
  return true;
}

WeightFormat model_config_format(const ModelConfig *config) {
  return weight_format(config->dtype, config->quantize, config->tables);
}

bool training_config_check(const ModelConfig *model, const LoraConfig *lora, const OptimConfig *optim,
                           Error *error) {
  if (model->offload == MODEL_OFFLOAD_ACTIVATIONS && !model->recompute) {
    return error_set(
        error, ERROR_USAGE,
        "model.offload activations: expected model.recompute true, since it is what recomputation "
        "keeps that can lie in the host's memory; found false");
  }
  if (optim->offload == OPTIM_OFFLOAD_STATE && lora->enabled) {
    return error_set(
        error, ERROR_USAGE,
        "optim.offload state: expected lora.enabled false: the state of an adapter is small, and "
        "stays on the device; found true");
  }
  if (optim->lr * optim->weight_decay >= 1) {
    return error_set(
        error, ERROR_USAGE,
        "optim.weight_decay: expected less than 1 / optim.lr, since each update takes optim.lr x "
        "optim.weight_decay off every weight; found %g with optim.lr %g",
        optim->weight_decay, optim->lr);
  }
  return true;
}
