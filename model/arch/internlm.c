/* InternLM 1, 2, 2.5 and 3. 1 is LLaMA with biases in attention; 2 has names of its own, and in one linear, wqkv, for each key
 * head its query heads, the key and the value. Their code is on the hub; 3 is a Llama of Transformers, with biases by two keys. */
#include "model/arch/llama_like.h"

#include <string.h>

/* "rotary" {base, type, scaling_factor}. Where it is absent, rotation grows with the text beyond max_position_embeddings. */
static bool read_rotary(const Reader *config, ModelSpec *spec, Error *error) {
  Reader rotary;
  const char *type, *key;
  json_t *value;
  RopeSpec *rope = &spec->rope;
  *rope = (RopeSpec){.original_max = (double)spec->max_positions};
  if (!reader_member(config, "rotary", &rotary, error) ||
      (rotary.value && !reader_as_object(&rotary, error)) ||
      !config_text_or(&rotary, "type", "dynamic", &type, error) ||
      !config_float_or(&rotary, "base", 10000, &rope->theta, error) ||
      !config_float_or(&rotary, "scaling_factor", 1, &rope->factor, error))
    return false;
  json_object_foreach(rotary.value, key, value) {
    if (strcmp(key, "type") != 0 && strcmp(key, "base") != 0 && strcmp(key, "scaling_factor") != 0)
      return reader_fail(&rotary, error, "\"%s\" is not known", key);
  }
  const bool dynamic = strcmp(type, "dynamic") == 0;
  if (!dynamic && strcmp(type, "origin") != 0)
    return reader_fail(&rotary, error, "type \"%s\" is not supported (known: dynamic, origin)", type);
  if (!(rope->theta > 0) || !(rope->factor > 0))
    return reader_fail(&rotary, error, "expected a base and a scaling_factor above 0, found %g and %g",
                       rope->theta, rope->factor);
  rope->kind = dynamic ? ROPE_DYNAMIC : ROPE_DEFAULT;
  spec->position = POSITION_ROTARY;
  spec->rotary_size = spec->head_size;
  return true;
}

static bool read_internlm(const Reader *config, ModelSpec *spec, Error *error) {
  bool bias;
  return llama_like_read(config, (LlamaDefaults){.max_positions = 2048}, spec, error) &&
         config_bool_or(config, "bias", true, &bias, error) && read_rotary(config, spec, error);
}

static bool read_internlm2(const Reader *config, ModelSpec *spec, Error *error) {
  bool bias;
  if (!llama_like_read(config, (LlamaDefaults){.max_positions = 2048, .rope = {.theta = 10000}}, spec,
                       error) ||
      !config_bool_or(config, "bias", true, &bias, error))
    return false;
  spec->qkv = QKV_GROUPS;
  return true;
}

/* "bias": of all linears of attention, absent = there are. */
static bool bias_attention_unless_off(const json_t *config, LinearRole role) {
  const bool attention =
      role == LINEAR_QKV || role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V || role == LINEAR_O;
  return attention && !json_is_false(json_object_get(config, "bias"));
}

/* Of q, k and v; and of the others. The code on the hub has names for them that Transformers writes otherwise. */
static const char *const qkv_bias[] = {"qkv_bias", "attention_bias"}, *const other_bias[] = {"bias",
                                                                                             "mlp_bias"};

static bool is_on(const json_t *config, const char *const names[2]) {
  return json_is_true(json_object_get(config, names[0])) || json_is_true(json_object_get(config, names[1]));
}

static bool bias_internlm3(const json_t *config, LinearRole role) {
  return is_on(config, role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V ? qkv_bias : other_bias);
}

static bool read_internlm3(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 32768, .kv_heads = 2, .head_size = 128, .eps = 1e-5, .rope = {.theta = 10000}};
  if (is_on(config->value, qkv_bias) != is_on(config->value, other_bias))
    return reader_fail(
        config, error,
        "qkv_bias and bias (attention_bias and mlp_bias) differ: Transformers refuses that, too");
  return llama_like_read(config, defaults, spec, error);
}

/* clang-format off */
#define INTERNLM_KEYS                                                                              \
  "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",                  \
  "max_position_embeddings", "rms_norm_eps", "hidden_act", "bias"
/* clang-format on */

static const char *const internlm_keys[] = {INTERNLM_KEYS, "rotary", NULL};
static const char *const internlm2_keys[] = {INTERNLM_KEYS, "num_key_value_heads", "rope_theta",
                                             "rope_scaling", NULL};
static const char *const internlm3_keys[] = {LLAMA_KEYS,       "bias",     "qkv_bias",
                                             "attention_bias", "mlp_bias", NULL};

const Architecture architecture_internlm = {.model_type = "internlm",
                                            .causal_class = "InternLMForCausalLM",
                                            .score_class = "InternLMForSequenceClassification",
                                            LLAMA_FRAME,
                                            .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                            .norm = {LLAMA_NORMS},
                                            .keys = internlm_keys,
                                            .read = read_internlm,
                                            .bias = bias_attention_unless_off};

const Architecture architecture_internlm2 = {
    .model_type = "internlm2",
    .causal_class = "InternLM2ForCausalLM",
    .score_class = "InternLM2ForSequenceClassification",
    .prefix = "model.",
    .layer = "layers.%d.",
    .embedding = "tok_embeddings",
    .final_norm = "norm",
    .head = "output",
    .linear = {[LINEAR_QKV] = "attention.wqkv",
               [LINEAR_O] = "attention.wo",
               [LINEAR_GATE] = "feed_forward.w1",
               [LINEAR_UP] = "feed_forward.w3",
               [LINEAR_DOWN] = "feed_forward.w2"},
    .norm = {[NORM_ATTENTION] = "attention_norm", [NORM_MLP] = "ffn_norm"},
    .keys = internlm2_keys,
    .read = read_internlm2,
    .bias = bias_attention_unless_off};

const Architecture architecture_internlm3 = {.model_type = "internlm3",
                                             .causal_class = "InternLM3ForCausalLM",
                                             .score_class = "InternLM3ForSequenceClassification",
                                             LLAMA_FRAME,
                                             .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                             .norm = {LLAMA_NORMS},
                                             .keys = internlm3_keys,
                                             .read = read_internlm3,
                                             .bias = bias_internlm3};
