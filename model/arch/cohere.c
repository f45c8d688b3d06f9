/* Cohere's Command-R and Aya, and the second kind, Command-R7B and Command-A: both branches read one layer norm without a bias,
 * rotary pairs are neighbours, logits are scaled. The second kind has windows on three layers of four, and its heads rotate
 * only there. */
#include "model/arch/llama_like.h"

static bool read_common(const Reader *config, double theta, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 8192,
                                  .eps_key = "layer_norm_eps",
                                  .eps = 1e-5,
                                  .tied = true,
                                  .rope = {.theta = theta}};
  double scale;
  if (!llama_like_read(config, defaults, spec, error) ||
      !config_float_or(config, "logit_scale", 0.0625, &scale, error))
    return false;
  if (!(scale > 0))
    return reader_fail(config, error, "logit_scale: expected a number above 0, found %g", scale);
  spec->norm.kind = NORM_LAYER;
  spec->logit_scale = (float)scale;
  spec->rotary_interleaved = true;
  spec->parallel = spec->parallel_shared = true;
  return true;
}

static bool read_cohere(const Reader *config, ModelSpec *spec, Error *error) {
  bool qk_norm;
  if (!read_common(config, 500000, spec, error) ||
      !config_bool_or(config, "use_qk_norm", false, &qk_norm, error))
    return false;
  if (qk_norm) spec->qk_norm = QK_NORM_HEADS;
  return true;
}

/* Keys of the released files that the code in Transformers does not look at: they say what it does. */
static bool check_fixed(const Reader *config, Error *error) {
  return config_expect(config, "use_parallel_block", "true", error) &&
         config_expect(config, "use_gated_activation", "true", error) &&
         config_expect(config, "use_embedding_sharing", "true", error) &&
         config_expect(config, "position_embedding_type", "\"rope_gptj\"", error) &&
         config_expect(config, "rotary_pct", "1", error) &&
         config_expect(config, "order_of_interleaved_layers", "\"local_attn_first\"", error);
}

static bool read_cohere2(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t period, layer_switch;
  bool windowed[MODEL_MAX_LAYERS];
  if (!config_size_or(config, "sliding_window_pattern", 4, &period, error) ||
      !config_size_or(config, "layer_switch", period, &layer_switch, error) || !check_fixed(config, error))
    return false;
  windows_every(period, windowed);
  if (layer_switch != period && !reader_has(config, "layer_types"))
    return reader_fail(config, error, "layer_switch is %lld, but every %lldth layer is without a window",
                       (long long)layer_switch, (long long)period);
  if (!read_common(config, 10000, spec, error) || !llama_like_windows(config, 4096, windowed, spec, error))
    return false;
  if (spec->head_size * spec->heads != spec->hidden)
    return reader_fail(config, error, "head_dim: %lld, but this model type has hidden_size / heads",
                       (long long)spec->head_size);
  for (int64_t i = 0; i < MODEL_MAX_LAYERS; i++) spec->without_rotary[i] = !windowed[i];
  return true;
}

static const char *const cohere_keys[] = {LLAMA_KEYS,    "layer_norm_eps", "logit_scale",
                                          "use_qk_norm", "attention_bias", NULL};
static const char *const cohere2_keys[] = {LLAMA_KEYS,
                                           "layer_norm_eps",
                                           "logit_scale",
                                           "attention_bias",
                                           "sliding_window",
                                           "layer_types",
                                           "sliding_window_pattern",
                                           "_sliding_window_pattern",
                                           "layer_switch",
                                           "cache_implementation",
                                           "order_of_interleaved_layers",
                                           "position_embedding_type",
                                           "rotary_pct",
                                           "use_embedding_sharing",
                                           "use_gated_activation",
                                           "use_parallel_block",
                                           "use_parallel_embedding",
                                           NULL};

const Architecture architecture_cohere = {
    .model_type = "cohere",
    .causal_class = "CohereForCausalLM",
    .score_class = "CohereForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm =
        {[NORM_ATTENTION] = "input_layernorm", [NORM_Q] = "self_attn.q_norm", [NORM_K] = "self_attn.k_norm"},
    .keys = cohere_keys,
    .read = read_cohere,
    .bias = bias_attention};

const Architecture architecture_cohere2 = {.model_type = "cohere2",
                                           .causal_class = "Cohere2ForCausalLM",
                                           .score_class = "Cohere2ForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {[NORM_ATTENTION] = "input_layernorm"},
                                           .keys = cohere2_keys,
                                           .read = read_cohere2,
                                           .bias = bias_attention};
