/* MiniCPM 1B, 2B and MiniCPM4, by the code on the hub: LLaMA with scaled embeddings (scale_emb), branches
 * (scale_depth / sqrt(layers)) and logits (dim_model_base / hidden_size). mup_denominator is for draft models. Its real configs
 * may lack model_type. */
#include "model/arch/llama_like.h"

#include <math.h>

static bool read_scale(const Reader *config, const char *key, double *out, Error *error) {
  if (!config_float_or(config, key, 1, out, error)) return false;
  return (*out > 0 && isfinite(*out)) ||
         reader_fail(config, error, "%s: expected a number above 0, found %g", key, *out);
}

static bool read_minicpm(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 2048, .tied = true, .rope = {.theta = 10000}};
  double embedding, depth, base;
  int64_t slices;
  if (!config_refuse(config, "sparse_config",
                     "sparse attention is not supported: take it out for dense attention", error) ||
      !llama_like_read(config, defaults, spec, error) ||
      !read_scale(config, "scale_emb", &embedding, error) ||
      !read_scale(config, "scale_depth", &depth, error) ||
      !read_scale(config, "dim_model_base", &base, error) ||
      !config_int_or(config, "pretraining_tp", 1, &slices, error))
    return false;
  if (slices > 1) /* the code on the hub then forgets to scale the logits */
    return reader_fail(config, error, "pretraining_tp: %lld is not supported: set it to 1",
                       (long long)slices);
  spec->embedding_scale = (float)embedding;
  spec->residual_scale = (float)(depth / sqrt((double)spec->layers));
  spec->logit_scale = (float)(base / (double)spec->hidden);
  return true;
}

static const char *const keys[] = {LLAMA_KEYS,       "attention_bias",  "scale_emb",     "scale_depth",
                                   "dim_model_base", "mup_denominator", "sparse_config", NULL};

const Architecture architecture_minicpm = {.model_type = "minicpm",
                                           .causal_class = "MiniCPMForCausalLM",
                                           .score_class = "MiniCPMForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {LLAMA_NORMS},
                                           .keys = keys,
                                           .read = read_minicpm,
                                           .bias = bias_attention};
