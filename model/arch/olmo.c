/* OLMo 1, 2 and 3, and EXAONE 4. The first has layer norms without parameters and clamps q, k and v; the others have the norms
 * after the branches. OLMo 2 and 3 normalise q and k over the whole projection, EXAONE 4 by head; windows and rotary tables of
 * OLMo 3 go by the type of the layer, and EXAONE 4's heads rotate only where there is a window, if any layer has one. */
#include "model/arch/llama_like.h"

static bool read_olmo(const Reader *config, ModelSpec *spec, Error *error) {
  double clip;
  if (!llama_like_read(config, (LlamaDefaults){.max_positions = 2048, .rope = {.theta = 10000}}, spec,
                       error) ||
      !config_float_or(config, "clip_qkv", 0, &clip, error))
    return false;
  if (reader_has(config, "clip_qkv") && !(clip > 0))
    return reader_fail(config, error, "clip_qkv: expected a number above 0, found %g", clip);
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = 1e-5f};
  spec->clip_qkv = (float)clip;
  return true;
}

static bool read_olmo2(const Reader *config, ModelSpec *spec, Error *error) {
  spec->placement = NORM_OUTPUT;
  spec->qk_norm = QK_NORM_ALL;
  return llama_like_read(
      config, (LlamaDefaults){.max_positions = 2048, .eps = 1e-5, .rope = {.theta = 10000}}, spec, error);
}

static bool read_olmo3(const Reader *config, ModelSpec *spec, Error *error) {
  static const double base = 500000;
  double theta;
  bool windowed[MODEL_MAX_LAYERS];
  windows_every(4, windowed);
  spec->placement = NORM_OUTPUT;
  spec->qk_norm = QK_NORM_ALL;
  if (!llama_like_read(config, (LlamaDefaults){.max_positions = 2048, .eps = 1e-5}, spec, error) ||
      !llama_like_windows(config, 4096, windowed, spec, error) ||
      !config_rotary_by_layer(config, (LayerRopeDefaults){.theta = base, .local_theta = base}, spec, error) ||
      !config_float_or(config, "rope_theta", base, &theta, error))
    return false;
  if (theta == base || reader_has(config, "rope_parameters")) return true;
  return reader_fail(
      config, error,
      "rope_theta: Transformers gives %g to the layers without a window and %g to the others; say "
      "which you mean with \"rope_parameters\" by layer type",
      theta, base);
}

static bool read_exaone4(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t period = 4;
  bool windowed[MODEL_MAX_LAYERS];
  const json_t *pattern = json_object_get(config->value, "sliding_window_pattern");
  const json_t *window = json_object_get(config->value, "sliding_window");
  const bool none = window && json_is_null(window);
  /* A text ("LLLG") comes with layer_types, which says the same for each layer. */
  if (!(json_is_string(pattern) && reader_has(config, "layer_types")) && !none &&
      !config_size_or(config, "sliding_window_pattern", 4, &period, error))
    return false;
  windows_every(none ? 0 : period, windowed);
  spec->placement = NORM_OUTPUT;
  spec->qk_norm = QK_NORM_HEAD;
  if (!llama_like_read(
          config,
          (LlamaDefaults){.max_positions = 2048, .kv_heads = 32, .eps = 1e-5, .rope = {.theta = 10000}}, spec,
          error) ||
      !llama_like_windows(config, 4096, windowed, spec, error))
    return false;
  for (int64_t i = 0; i < MODEL_MAX_LAYERS; i++) spec->without_rotary[i] = !none && !windowed[i];
  return true;
}

static const char *const olmo_keys[] = {LLAMA_KEYS, "attention_bias", "clip_qkv", NULL};
static const char *const olmo2_keys[] = {LLAMA_KEYS, "attention_bias", NULL};
static const char *const olmo3_keys[] = {LLAMA_KEYS, "attention_bias", "sliding_window", "layer_types", NULL};
static const char *const exaone4_keys[] = {LLAMA_KEYS, "sliding_window", "layer_types",
                                           "sliding_window_pattern", NULL};

/* clang-format off */
#define OUTPUT_NORMS                                                                                     \
  [NORM_ATTENTION] = "post_attention_layernorm", [NORM_MLP] = "post_feedforward_layernorm",              \
  [NORM_Q] = "self_attn.q_norm", [NORM_K] = "self_attn.k_norm"
/* clang-format on */

const Architecture architecture_olmo = {.model_type = "olmo",
                                        .causal_class = "OlmoForCausalLM",
                                        .score_class = "OlmoForSequenceClassification",
                                        .prefix = "model.",
                                        .layer = "layers.%d.",
                                        .embedding = "embed_tokens",
                                        .head = "lm_head",
                                        .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                        .keys = olmo_keys,
                                        .read = read_olmo,
                                        .bias = bias_attention};

const Architecture architecture_olmo2 = {.model_type = "olmo2",
                                         .causal_class = "Olmo2ForCausalLM",
                                         .score_class = "Olmo2ForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                         .norm = {OUTPUT_NORMS},
                                         .keys = olmo2_keys,
                                         .read = read_olmo2,
                                         .bias = bias_attention};

const Architecture architecture_olmo3 = {.model_type = "olmo3",
                                         .causal_class = "Olmo3ForCausalLM",
                                         .score_class = "Olmo3ForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                         .norm = {OUTPUT_NORMS},
                                         .keys = olmo3_keys,
                                         .read = read_olmo3,
                                         .bias = bias_attention};

const Architecture architecture_exaone4 = {.model_type = "exaone4",
                                           .causal_class = "Exaone4ForCausalLM",
                                           .score_class = "Exaone4ForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {OUTPUT_NORMS},
                                           .keys = exaone4_keys,
                                           .read = read_exaone4};
