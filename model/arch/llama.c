/* LLaMA and its kin: LLaMA, OpenLLaMA, Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen3.
 *
 * RMS norm before attention and MLP, rotary positions over the whole head, gated MLP, query groups. They differ in
 * biases, in the window of attention, and (Qwen3) in a norm over each query and key head. Defaults of absent keys
 * are those of the configuration class in Transformers. */
#include "model/arch/list.h"

#include <string.h>

typedef struct LlamaDefaults {
  int64_t kv_heads; /* when the key is absent; 0 = as many as heads. null always means as many as heads. */
  int64_t max_positions;
  int64_t head_size; /* 0 = hidden / heads */
} LlamaDefaults;

static bool read_heads(const Reader *config, LlamaDefaults defaults, ModelSpec *spec, Error *error) {
  if (!config_size(config, "num_attention_heads", &spec->heads, error)) return false;
  int64_t kv = spec->heads;
  if (!json_object_get(config->value, "num_key_value_heads") && defaults.kv_heads) kv = defaults.kv_heads;
  if (!config_size_or(config, "num_key_value_heads", kv, &spec->kv_heads, error)) return false;
  int64_t head_size = defaults.head_size;
  if (!head_size && !reader_has(config, "head_dim")) {
    if (spec->hidden % spec->heads != 0)
      return error_set(error, ERROR_MODEL, "\"hidden_size\" %lld is not a multiple of %lld attention heads",
                       (long long)spec->hidden, (long long)spec->heads);
    head_size = spec->hidden / spec->heads;
  }
  return config_size_or(config, "head_dim", head_size, &spec->head_size, error);
}

static bool read_rotary(const Reader *config, ModelSpec *spec, Error *error) {
  Reader rope;
  double top, part;
  if (!config_rope(config, 10000, &spec->rope, error) || !config_rope_object(config, &rope, error) ||
      !config_float_or(config, "partial_rotary_factor", 1, &top, error) ||
      !config_float_or(&rope, "partial_rotary_factor", top, &part, error))
    return false;
  if (part != 1)
    return reader_fail(config, error, "partial_rotary_factor: %g is not supported for this model type", part);
  spec->position = POSITION_ROTARY;
  spec->rotary_size = spec->head_size;
  return true;
}

static bool read_common(const Reader *config, LlamaDefaults defaults, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size(config, "vocab_size", &spec->vocab, error) ||
      !config_size(config, "hidden_size", &spec->hidden, error) ||
      !config_size(config, "intermediate_size", &spec->intermediate, error) ||
      !config_size(config, "num_hidden_layers", &spec->layers, error) ||
      !read_heads(config, defaults, spec, error) ||
      !config_size_or(config, "max_position_embeddings", defaults.max_positions, &spec->max_positions,
                      error) ||
      !config_float_or(config, "rms_norm_eps", 1e-6, &eps, error) ||
      !config_activation(config, "hidden_act", "silu", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error) ||
      !read_rotary(config, spec, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_RMS, .eps = (float)eps};
  spec->gated = true;
  spec->qkv = QKV_SEPARATE;
  return true;
}

static bool read_llama(const Reader *config, ModelSpec *spec, Error *error) {
  return config_refuse(config, "sliding_window", "not known for llama", error) &&
         read_common(config, (LlamaDefaults){.max_positions = 2048}, spec, error);
}

/* What "layer_types" says of a layer, when it is there: *windowed keeps its value otherwise. */
static bool read_layer_type(const Reader *config, int64_t layer, bool *windowed, Error *error) {
  Reader types, item;
  const char *type;
  size_t bytes;
  if (!reader_has(config, "layer_types")) return true;
  if (!reader_array(config, "layer_types", &types, error)) return false;
  const size_t count = json_array_size(types.value);
  if ((size_t)layer >= count)
    return reader_fail(&types, error, "expected a string for each layer, found %zu of them", count);
  if (!reader_item(&types, (size_t)layer, &item, error) || !reader_as_text(&item, &type, &bytes, error))
    return false;
  *windowed = strcmp(type, "sliding_attention") == 0;
  if (*windowed || strcmp(type, "full_attention") == 0) return true;
  return reader_fail(&item, error, "\"%s\" is not supported (known: full_attention, sliding_attention)",
                     type);
}

static bool read_mistral(const Reader *config, ModelSpec *spec, Error *error) {
  if (!read_common(config, (LlamaDefaults){.max_positions = 131072, .kv_heads = 8}, spec, error))
    return false;
  int64_t window =
      json_object_get(config->value, "sliding_window") ? 0 : 4096; /* null = none, absent = 4096 */
  if (!config_size_or(config, "sliding_window", window, &window, error)) return false;
  for (int64_t i = 0; i < spec->layers && i < MODEL_MAX_LAYERS; i++) {
    bool windowed = window > 0;
    if (!read_layer_type(config, i, &windowed, error)) return false;
    if (windowed != (window > 0))
      return reader_fail(config, error, "layer_types: layers of different kinds are not supported");
    spec->window[i] = (int)window;
  }
  return true;
}

/* Layers from max_window_layers on have a window, when it is switched on; or layer_types says it for each. */
static bool read_qwen_windows(const Reader *config, ModelSpec *spec, Error *error) {
  bool on;
  int64_t window, first;
  int64_t fallback = json_object_get(config->value, "sliding_window") ? 0 : 4096;
  if (!config_bool_or(config, "use_sliding_window", false, &on, error) ||
      !config_size_or(config, "sliding_window", fallback, &window, error) ||
      !config_int_or(config, "max_window_layers", 28, &first, error))
    return false;
  if (!on) window = 0;
  for (int64_t i = 0; i < spec->layers && i < MODEL_MAX_LAYERS; i++) {
    bool windowed = window > 0 && i >= first;
    if (!read_layer_type(config, i, &windowed, error)) return false;
    if (windowed && window == 0)
      return reader_fail(config, error, "layer_types[%lld]: a sliding window, but \"sliding_window\" is off",
                         (long long)i);
    spec->window[i] = windowed ? (int)window : 0;
  }
  return true;
}

static bool read_qwen2(const Reader *config, ModelSpec *spec, Error *error) {
  return config_refuse(config, "use_mrope", "not supported", error) &&
         read_common(config, (LlamaDefaults){.max_positions = 32768, .kv_heads = 32}, spec, error) &&
         read_qwen_windows(config, spec, error);
}

static bool read_qwen3(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 32768, .kv_heads = 32, .head_size = 128};
  spec->qk_norm = QK_NORM_HEAD;
  return read_common(config, defaults, spec, error) && read_qwen_windows(config, spec, error);
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  bool attention = role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V || role == LINEAR_O;
  return json_is_true(json_object_get(config, attention ? "attention_bias" : "mlp_bias"));
}

static bool bias_attention_only(const json_t *config, LinearRole role) {
  bool attention = role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V || role == LINEAR_O;
  return attention && json_is_true(json_object_get(config, "attention_bias"));
}

/* clang-format off */
#define LLAMA_KEYS                                                                                              \
  "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", \
  "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_theta", "rope_scaling", "rope_parameters",     \
  "partial_rotary_factor", "original_max_position_embeddings"

static const char *const llama_keys[] = {LLAMA_KEYS, "attention_bias", "mlp_bias", NULL};
static const char *const mistral_keys[] = {LLAMA_KEYS, "sliding_window", "layer_types", NULL};
static const char *const qwen2_keys[] = {LLAMA_KEYS, "use_sliding_window", "sliding_window", "max_window_layers",
                                         "layer_types", NULL};
static const char *const qwen3_keys[] = {LLAMA_KEYS, "use_sliding_window", "sliding_window", "max_window_layers",
                                         "layer_types", "attention_bias", NULL};

#define LLAMA_NAMES                                                                  \
  .prefix = "model.", .layer = "layers.%d.", .embedding = "embed_tokens",            \
  .final_norm = "norm", .head = "lm_head",                                           \
  .linear = {[LINEAR_Q] = "self_attn.q_proj", [LINEAR_K] = "self_attn.k_proj",       \
             [LINEAR_V] = "self_attn.v_proj", [LINEAR_O] = "self_attn.o_proj",       \
             [LINEAR_GATE] = "mlp.gate_proj", [LINEAR_UP] = "mlp.up_proj",           \
             [LINEAR_DOWN] = "mlp.down_proj"}

#define LLAMA_NORMS [NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"
/* clang-format on */

const Architecture architecture_llama = {.model_type = "llama",
                                         .causal_class = "LlamaForCausalLM",
                                         .score_class = "LlamaForSequenceClassification",
                                         LLAMA_NAMES,
                                         .norm = {LLAMA_NORMS},
                                         .keys = llama_keys,
                                         .read = read_llama,
                                         .bias = bias_by_config};

const Architecture architecture_mistral = {.model_type = "mistral",
                                           .causal_class = "MistralForCausalLM",
                                           .score_class = "MistralForSequenceClassification",
                                           LLAMA_NAMES,
                                           .norm = {LLAMA_NORMS},
                                           .keys = mistral_keys,
                                           .read = read_mistral};

const Architecture architecture_qwen2 = {
    .model_type = "qwen2",
    .causal_class = "Qwen2ForCausalLM",
    .score_class = "Qwen2ForSequenceClassification",
    LLAMA_NAMES,
    .norm = {LLAMA_NORMS},
    .keys = qwen2_keys,
    .read = read_qwen2,
    .linear_bias = {[LINEAR_Q] = true, [LINEAR_K] = true, [LINEAR_V] = true}};

const Architecture architecture_qwen3 = {
    .model_type = "qwen3",
    .causal_class = "Qwen3ForCausalLM",
    .score_class = "Qwen3ForSequenceClassification",
    LLAMA_NAMES,
    .norm = {LLAMA_NORMS, [NORM_Q] = "self_attn.q_norm", [NORM_K] = "self_attn.k_norm"},
    .keys = qwen3_keys,
    .read = read_qwen3,
    .bias = bias_attention_only};
