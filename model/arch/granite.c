/* Granite 3: LLaMA with four multipliers, on embeddings, scores, branches and logits. */
#include "model/arch/llama_like.h"

static bool read_multiplier(const Reader *config, const char *key, float *out, Error *error) {
  double value;
  if (!config_float_or(config, key, 1, &value, error)) return false;
  *out = (float)value;
  return value > 0 || reader_fail(config, error, "%s: expected a number above 0, found %g", key, value);
}

static bool read_granite(const Reader *config, ModelSpec *spec, Error *error) {
  float scaling;
  if (!llama_like_read(config, (LlamaDefaults){.max_positions = 2048, .rope = {.theta = 10000}}, spec,
                       error) ||
      !read_multiplier(config, "embedding_multiplier", &spec->embedding_scale, error) ||
      !read_multiplier(config, "attention_multiplier", &spec->attention_scale, error) ||
      !read_multiplier(config, "residual_multiplier", &spec->residual_scale, error) ||
      !read_multiplier(config, "logits_scaling", &scaling, error))
    return false;
  spec->logit_scale = 1 / scaling;
  return true;
}

static const char *const keys[] = {LLAMA_KEYS,
                                   "attention_bias",
                                   "mlp_bias",
                                   "embedding_multiplier",
                                   "attention_multiplier",
                                   "residual_multiplier",
                                   "logits_scaling",
                                   NULL};

const Architecture architecture_granite = {.model_type = "granite",
                                           .causal_class = "GraniteForCausalLM",
                                           .score_class = "GraniteForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {LLAMA_NORMS},
                                           .keys = keys,
                                           .read = read_granite,
                                           .bias = bias_attention_mlp};
