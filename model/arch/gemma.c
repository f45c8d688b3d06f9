/* Gemma 1, 2, 3 and VaultGemma: RMS norms that multiply by 1 + w, embeddings times sqrt(hidden), a gated MLP of the tanh GELU.
 * From the second on there are caps on scores and logits, a window on some of the layers, a scale of their own on scores and
 * norms on both sides of each branch; the third has norms of q and k instead of the cap on scores, and a rotary table for each
 * type of layer. */
#include "model/arch/llama_like.h"

#include <math.h>
#include <string.h>

static bool read_gemma_like(const Reader *config, LlamaDefaults defaults, ModelSpec *spec, Error *error) {
  defaults.kv_heads = defaults.kv_heads ? defaults.kv_heads : 4;
  defaults.head_size = 256;
  defaults.tied = true;
  defaults.activation = "gelu_pytorch_tanh";
  if (!config_refuse(config, "use_bidirectional_attention", "only causal attention is supported", error) ||
      !llama_like_read(config, defaults, spec, error))
    return false;
  spec->norm.weight_offset = 1;
  spec->embedding_scale = sqrtf((float)spec->hidden);
  spec->embedding_scale_rounded = true;
  return true;
}

/* The other key for the activation, which Transformers passes over: it must not contradict. */
static bool check_activation(const Reader *config, const char *other, const ModelSpec *spec, Error *error) {
  Activation activation;
  if (!reader_has(config, other)) return true;
  if (!config_activation(config, other, NULL, &activation, error)) return false;
  if (activation == ACTIVATION_GELU) activation = ACTIVATION_GELU_TANH; /* what the first files call it */
  return activation == spec->activation ||
         reader_fail(config, error, "\"%s\" is not the activation that the model has: take it out", other);
}

static bool read_gemma(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 8192, .kv_heads = 16, .rope = {.theta = 10000}};
  if (!read_gemma_like(config, defaults, spec, error)) return false;
  /* The released files say "gelu" and mean the tanh form. */
  if (spec->activation == ACTIVATION_GELU) spec->activation = ACTIVATION_GELU_TANH;
  return check_activation(config, "hidden_activation", spec, error);
}

/* A cap: null = none. */
static bool read_cap(const Reader *config, const char *key, double fallback, float *out, Error *error) {
  double value;
  if (json_object_get(config->value, key)) fallback = 0;
  if (!config_float_or(config, key, fallback, &value, error)) return false;
  *out = (float)value;
  return value >= 0 || reader_fail(config, error, "%s: expected a number above 0, found %g", key, value);
}

static bool read_scores(const Reader *config, double logit_cap, ModelSpec *spec, Error *error) {
  double scalar;
  if (!config_float_or(config, "query_pre_attn_scalar", 256, &scalar, error) ||
      !read_cap(config, "final_logit_softcapping", logit_cap, &spec->logit_softcap, error))
    return false;
  if (!(scalar > 0))
    return reader_fail(config, error, "query_pre_attn_scalar: expected a number above 0, found %g", scalar);
  spec->attention_scale = (float)(1 / sqrt(scalar));
  return check_activation(config, "hidden_act", spec, error);
}

static bool read_gemma2(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 8192, .activation_key = "hidden_activation", .rope = {.theta = 10000}};
  bool windowed[MODEL_MAX_LAYERS];
  windows_every(2, windowed);
  spec->placement = NORM_SANDWICH;
  return read_gemma_like(config, defaults, spec, error) && read_scores(config, 30, spec, error) &&
         read_cap(config, "attn_logit_softcapping", 50, &spec->attention_softcap, error) &&
         llama_like_windows(config, 4096, windowed, spec, error);
}

static bool read_vaultgemma(const Reader *config, ModelSpec *spec, Error *error) {
  if (!read_gemma2(config, spec, error)) return false;
  spec->placement = NORM_PRE;
  return true;
}

static bool read_gemma3(const Reader *config, ModelSpec *spec, Error *error) {
  /* The text part of a multimodal file leaves out whatever is the class's own. */
  const LlamaDefaults defaults = {.vocab = 262208,
                                  .hidden = 2304,
                                  .intermediate = 9216,
                                  .layers = 26,
                                  .heads = 8,
                                  .max_positions = 131072,
                                  .activation_key = "hidden_activation"};
  const LayerRopeDefaults rope = {.theta = 1e6, .local_theta = 1e4, .local_key = "rope_local_base_freq"};
  int64_t period;
  bool windowed[MODEL_MAX_LAYERS];
  if (!config_size_or(config, "sliding_window_pattern", 6, &period, error)) return false;
  windows_every(period, windowed);
  spec->placement = NORM_SANDWICH;
  spec->qk_norm = QK_NORM_HEAD;
  return config_refuse(config, "attn_logit_softcapping", "Gemma 3 has no cap on scores", error) &&
         read_gemma_like(config, defaults, spec, error) && read_scores(config, 0, spec, error) &&
         llama_like_windows(config, 4096, windowed, spec, error) &&
         config_rotary_by_layer(config, rope, spec, error);
}

#define GEMMA_KEYS \
  LLAMA_KEYS, "hidden_activation", "attention_bias", "use_bidirectional_attention", "cache_implementation"
#define GEMMA2_KEYS                                                                         \
  GEMMA_KEYS, "query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping", \
      "sliding_window", "layer_types"

static const char *const gemma_keys[] = {GEMMA_KEYS, NULL};
static const char *const gemma2_keys[] = {GEMMA2_KEYS, NULL};
static const char *const gemma3_keys[] = {GEMMA2_KEYS, "sliding_window_pattern", "_sliding_window_pattern",
                                          "rope_local_base_freq", NULL};

/* clang-format off */
#define SANDWICH_NORMS                                    \
  [NORM_ATTENTION] = "input_layernorm",                   \
  [NORM_ATTENTION_POST] = "post_attention_layernorm",     \
  [NORM_MLP] = "pre_feedforward_layernorm",               \
  [NORM_MLP_POST] = "post_feedforward_layernorm"
/* clang-format on */

const Architecture architecture_gemma = {.model_type = "gemma",
                                         .causal_class = "GemmaForCausalLM",
                                         .score_class = "GemmaForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                         .norm = {LLAMA_NORMS},
                                         .keys = gemma_keys,
                                         .read = read_gemma,
                                         .bias = bias_attention};

const Architecture architecture_gemma2 = {.model_type = "gemma2",
                                          .causal_class = "Gemma2ForCausalLM",
                                          .score_class = "Gemma2ForSequenceClassification",
                                          LLAMA_FRAME,
                                          .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                          .norm = {SANDWICH_NORMS},
                                          .keys = gemma2_keys,
                                          .read = read_gemma2,
                                          .bias = bias_attention};

const Architecture architecture_vaultgemma = {
    .model_type = "vaultgemma",
    .causal_class = "VaultGemmaForCausalLM",
    .score_class = "VaultGemmaForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "pre_feedforward_layernorm"},
    .keys = gemma2_keys,
    .read = read_vaultgemma,
    .bias = bias_attention};

const Architecture architecture_gemma3 = {
    .model_type = "gemma3_text",
    .causal_class = "Gemma3ForCausalLM",
    .score_class = "Gemma3TextForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm = {SANDWICH_NORMS, [NORM_Q] = "self_attn.q_norm", [NORM_K] = "self_attn.k_norm"},
    .keys = gemma3_keys,
    .read = read_gemma3,
    .bias = bias_attention};
