/* SmolLM3: LLaMA in which every fourth layer's heads do not rotate. */
#include "model/arch/llama_like.h"

static int64_t listed_layers(const ModelSpec *spec) {
  return spec->layers < MODEL_MAX_LAYERS ? spec->layers : MODEL_MAX_LAYERS;
}

/* "no_rope_layers" has a 1 for each layer that rotates, or each no_rope_layer_interval-th does not. */
static bool read_resting(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t period;
  Reader list, item;
  if (!config_size_or(config, "no_rope_layer_interval", 4, &period, error)) return false;
  for (int64_t i = 0; i < listed_layers(spec); i++) spec->without_rotary[i] = (i + 1) % period == 0;
  if (!reader_has(config, "no_rope_layers")) return true;
  if (!reader_array(config, "no_rope_layers", &list, error)) return false;
  if (json_array_size(list.value) < (size_t)spec->layers)
    return reader_fail(&list, error, "expected a number for each layer, found %zu of them",
                       json_array_size(list.value));
  for (int64_t i = 0; i < listed_layers(spec); i++) {
    long long rotates;
    if (!reader_item(&list, (size_t)i, &item, error) || !reader_as_int(&item, 0, 1, &rotates, error))
      return false;
    spec->without_rotary[i] = rotates == 0;
  }
  return true;
}

static bool read_smollm3(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 32768, .kv_heads = 4, .tied = true, .rope = {.theta = 2000000}};
  bool on, windowed[MODEL_MAX_LAYERS];
  if (!llama_like_read(config, defaults, spec, error) || !read_resting(config, spec, error) ||
      !config_bool_or(config, "use_sliding_window", false, &on, error))
    return false;
  const bool window = on && reader_has(config, "sliding_window");
  for (int64_t i = 0; i < MODEL_MAX_LAYERS; i++) windowed[i] = window && spec->without_rotary[i];
  if (!llama_like_windows(config, 0, windowed, spec, error)) return false;
  for (int64_t i = 0; i < listed_layers(spec); i++)
    if (spec->window[i] > 0 && !on)
      return reader_fail(config, error,
                         "layer_types[%lld]: a sliding window, but \"use_sliding_window\" is off",
                         (long long)i);
  return true;
}

static const char *const keys[] = {
    LLAMA_KEYS,    "attention_bias", "mlp_bias",           "no_rope_layers",    "no_rope_layer_interval",
    "layer_types", "sliding_window", "use_sliding_window", "max_window_layers", NULL};

const Architecture architecture_smollm3 = {.model_type = "smollm3",
                                           .causal_class = "SmolLM3ForCausalLM",
                                           .score_class = "SmolLM3ForSequenceClassification",
                                           LLAMA_FRAME,
                                           .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                           .norm = {LLAMA_NORMS},
                                           .keys = keys,
                                           .read = read_smollm3,
                                           .bias = bias_attention_mlp};
