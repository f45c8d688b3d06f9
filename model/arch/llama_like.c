#include "model/arch/llama_like.h"

#include <string.h>

/* -- sizes ------------------------------------------------------------------------------------------------ */

static bool read_size(const Reader *config, const char *key, int64_t fallback, int64_t *out, Error *error) {
  return fallback > 0 ? config_size_or(config, key, fallback, out, error)
                      : config_size(config, key, out, error);
}

static bool read_heads(const Reader *config, const LlamaDefaults *defaults, ModelSpec *spec, Error *error) {
  if (!read_size(config, "num_attention_heads", defaults->heads, &spec->heads, error)) return false;
  int64_t kv = spec->heads;
  if (!json_object_get(config->value, "num_key_value_heads") && defaults->kv_heads) kv = defaults->kv_heads;
  if (!config_size_or(config, "num_key_value_heads", kv, &spec->kv_heads, error)) return false;
  int64_t head_size = defaults->head_size;
  if (!head_size && !reader_has(config, "head_dim")) {
    if (spec->hidden % spec->heads != 0)
      return error_set(error, ERROR_MODEL, "\"hidden_size\" %lld is not a multiple of %lld attention heads",
                       (long long)spec->hidden, (long long)spec->heads);
    head_size = spec->hidden / spec->heads;
  }
  return config_size_or(config, "head_dim", head_size, &spec->head_size, error);
}

static const char *or_else(const char *given, const char *fallback) {
  return given ? given : fallback;
}

bool llama_like_read(const Reader *config, LlamaDefaults defaults, ModelSpec *spec, Error *error) {
  double eps;
  if (!read_size(config, "vocab_size", defaults.vocab, &spec->vocab, error) ||
      !read_size(config, "hidden_size", defaults.hidden, &spec->hidden, error) ||
      !read_size(config, "intermediate_size", defaults.intermediate, &spec->intermediate, error) ||
      !read_size(config, "num_hidden_layers", defaults.layers, &spec->layers, error) ||
      !read_heads(config, &defaults, spec, error) ||
      !config_size_or(config, "max_position_embeddings", defaults.max_positions, &spec->max_positions,
                      error) ||
      !config_float_or(config, or_else(defaults.eps_key, "rms_norm_eps"),
                       defaults.eps > 0 ? defaults.eps : 1e-6, &eps, error) ||
      !config_activation(config, or_else(defaults.activation_key, "hidden_act"),
                         or_else(defaults.activation, "silu"), &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", defaults.tied, &spec->tied, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_RMS, .eps = (float)eps};
  spec->gated = true;
  spec->qkv = QKV_SEPARATE;
  return defaults.rope.theta == 0 || config_rotary(config, defaults.rope, spec, error);
}

/* -- windows ---------------------------------------------------------------------------------------------- */

static int64_t listed_layers(const ModelSpec *spec) {
  return spec->layers < MODEL_MAX_LAYERS ? spec->layers : MODEL_MAX_LAYERS; /* more are refused later */
}

void windows_every(int64_t period, bool windowed[MODEL_MAX_LAYERS]) {
  for (int64_t i = 0; i < MODEL_MAX_LAYERS; i++) windowed[i] = period > 0 && (i + 1) % period != 0;
}

static bool read_layer_type(const Reader *types, size_t layer, bool *windowed, Error *error) {
  Reader item;
  const char *type;
  size_t bytes;
  if (!reader_item(types, layer, &item, error) || !reader_as_text(&item, &type, &bytes, error)) return false;
  *windowed = strcmp(type, "sliding_attention") == 0;
  if (*windowed || strcmp(type, "full_attention") == 0) return true;
  return reader_fail(&item, error, "\"%s\" is not supported (known: full_attention, sliding_attention)",
                     type);
}

static bool read_layer_types(const Reader *config, int64_t layers, bool *windowed, Error *error) {
  Reader types;
  if (!reader_has(config, "layer_types")) return true;
  if (!reader_array(config, "layer_types", &types, error)) return false;
  const size_t count = json_array_size(types.value);
  if (count < (size_t)layers)
    return reader_fail(&types, error, "expected a string for each layer, found %zu of them", count);
  for (size_t i = 0; i < (size_t)layers; i++)
    if (!read_layer_type(&types, i, &windowed[i], error)) return false;
  return true;
}

static bool read_window(const Reader *config, int64_t fallback, int64_t *window, Error *error) {
  if (json_object_get(config->value, "sliding_window")) fallback = 0; /* null */
  return config_size_or(config, "sliding_window", fallback, window, error);
}

bool llama_like_windows(const Reader *config, int64_t fallback, bool windowed[MODEL_MAX_LAYERS],
                        ModelSpec *spec, Error *error) {
  int64_t window;
  const int64_t layers = listed_layers(spec);
  if (!read_window(config, fallback, &window, error) || !read_layer_types(config, layers, windowed, error))
    return false;
  for (int64_t i = 0; i < layers; i++) {
    if (windowed[i] && window == 0)
      return reader_fail(config, error, "layer_types[%lld]: a sliding window, but \"sliding_window\" is off",
                         (long long)i);
    spec->window[i] = windowed[i] ? (int)window : 0;
  }
  return true;
}

bool llama_like_window(const Reader *config, int64_t fallback, ModelSpec *spec, Error *error) {
  int64_t window;
  if (!read_window(config, fallback, &window, error)) return false;
  for (int64_t i = 0; i < listed_layers(spec); i++) spec->window[i] = (int)window;
  return true;
}

/* -- biases ----------------------------------------------------------------------------------------------- */

static bool is_attention(LinearRole role) {
  return role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V || role == LINEAR_O;
}

bool bias_attention(const json_t *config, LinearRole role) {
  return is_attention(role) && json_is_true(json_object_get(config, "attention_bias"));
}

bool bias_attention_mlp(const json_t *config, LinearRole role) {
  return json_is_true(json_object_get(config, is_attention(role) ? "attention_bias" : "mlp_bias"));
}
