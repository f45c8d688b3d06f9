/* LLaMA, OpenLLaMA, Llama 2 and 3, SmolLM2, Mistral and Mistral-Nemo, Ministral, Qwen2, Qwen3. They differ in biases, in the
 * window of attention, and (Qwen3) in a norm over each query and key head. */
#include "model/arch/llama_like.h"

static const RopeDefaults usual_rope = {.theta = 10000};

static bool read_llama(const Reader *config, ModelSpec *spec, Error *error) {
  return config_refuse(config, "sliding_window", "not known for llama", error) &&
         llama_like_read(config, (LlamaDefaults){.max_positions = 2048, .rope = usual_rope}, spec, error);
}

static const LlamaDefaults mistral_defaults = {
    .max_positions = 131072, .kv_heads = 8, .rope = {.theta = 10000}};

static bool read_mistral(const Reader *config, ModelSpec *spec, Error *error) {
  bool windowed[MODEL_MAX_LAYERS];
  if (!llama_like_read(config, mistral_defaults, spec, error) ||
      !llama_like_window(config, 4096, spec, error))
    return false;
  if (!reader_has(config, "layer_types")) return true;
  /* Transformers passes layer_types over for this type. */
  windows_every(0, windowed);
  const int window = spec->window[0];
  if (!llama_like_windows(config, 4096, windowed, spec, error)) return false;
  for (int64_t i = 0; i < spec->layers && i < MODEL_MAX_LAYERS; i++)
    if (spec->window[i] != window)
      return reader_fail(
          config, error,
          "layer_types[%lld]: all layers of model_type \"mistral\" are alike, by sliding_window; "
          "\"ministral\" has layers of different kinds",
          (long long)i);
  return true;
}

static bool read_ministral(const Reader *config, ModelSpec *spec, Error *error) {
  bool windowed[MODEL_MAX_LAYERS];
  const json_t *window = json_object_get(config->value, "sliding_window");
  windows_every(json_is_null(window) ? 0 : INT64_MAX, windowed);
  return llama_like_read(config, mistral_defaults, spec, error) &&
         llama_like_windows(config, 4096, windowed, spec, error);
}

/* Layers from max_window_layers on have a window, when it is switched on; or layer_types says it for each. */
static bool read_qwen_windows(const Reader *config, ModelSpec *spec, Error *error) {
  bool on, windowed[MODEL_MAX_LAYERS];
  int64_t first;
  if (!config_bool_or(config, "use_sliding_window", false, &on, error) ||
      !config_int_or(config, "max_window_layers", 28, &first, error))
    return false;
  const bool none = json_is_null(json_object_get(config->value, "sliding_window"));
  for (int64_t i = 0; i < MODEL_MAX_LAYERS; i++) windowed[i] = on && !none && i >= first;
  if (!llama_like_windows(config, 4096, windowed, spec, error)) return false;
  for (int64_t i = 0; i < spec->layers && i < MODEL_MAX_LAYERS; i++)
    if (spec->window[i] > 0 && !on)
      return reader_fail(config, error,
                         "layer_types[%lld]: a sliding window, but \"use_sliding_window\" is off",
                         (long long)i);
  return true;
}

static bool read_qwen2(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 32768, .kv_heads = 32, .rope = usual_rope};
  return config_refuse(config, "use_mrope", "not supported", error) &&
         llama_like_read(config, defaults, spec, error) && read_qwen_windows(config, spec, error);
}

static bool read_qwen3(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 32768, .kv_heads = 32, .head_size = 128, .rope = usual_rope};
  spec->qk_norm = QK_NORM_HEAD;
  return llama_like_read(config, defaults, spec, error) && read_qwen_windows(config, spec, error);
}

static const char *const llama_keys[] = {LLAMA_KEYS, "attention_bias", "mlp_bias", NULL};
static const char *const mistral_keys[] = {LLAMA_KEYS, "sliding_window", "layer_types", NULL};
static const char *const qwen2_keys[] = {LLAMA_KEYS,          "use_sliding_window", "sliding_window",
                                         "max_window_layers", "layer_types",        NULL};
static const char *const qwen3_keys[] = {
    LLAMA_KEYS, "use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "attention_bias",
    NULL};

const Architecture architecture_llama = {.model_type = "llama",
                                         .causal_class = "LlamaForCausalLM",
                                         .score_class = "LlamaForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                         .norm = {LLAMA_NORMS},
                                         .keys = llama_keys,
                                         .read = read_llama,
                                         .bias = bias_attention_mlp};

const Architecture architecture_mistral = {.model_type = "mistral",
                                           .causal_class = "MistralForCausalLM",
                                           .score_class = "MistralForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {LLAMA_NORMS},
                                           .keys = mistral_keys,
                                           .read = read_mistral};

const Architecture architecture_ministral = {.model_type = "ministral",
                                             .causal_class = "MinistralForCausalLM",
                                             .score_class = "MinistralForSequenceClassification",
                                             LLAMA_FRAME,
                                             .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                             .norm = {LLAMA_NORMS},
                                             .keys = mistral_keys,
                                             .read = read_ministral};

const Architecture architecture_qwen2 = {
    .model_type = "qwen2",
    .causal_class = "Qwen2ForCausalLM",
    .score_class = "Qwen2ForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm = {LLAMA_NORMS},
    .keys = qwen2_keys,
    .read = read_qwen2,
    .linear_bias = {[LINEAR_Q] = true, [LINEAR_K] = true, [LINEAR_V] = true}};

const Architecture architecture_qwen3 = {
    .model_type = "qwen3",
    .causal_class = "Qwen3ForCausalLM",
    .score_class = "Qwen3ForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm = {LLAMA_NORMS, [NORM_Q] = "self_attn.q_norm", [NORM_K] = "self_attn.k_norm"},
    .keys = qwen3_keys,
    .read = read_qwen3,
    .bias = bias_attention};
