/* ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B by the code on the hub ("chatglm"; the GLM-4 of Transformers is "glm" and "glm4").
 *
 * RMS norms, one linear for q, k and v and one for gate and up; neighbours rotate, in the first half of each head, by a base of
 * 10000 times rope_ratio. The first ChatGLM-6B is no causal decoder: its positions are of two kinds, and its prompt sees all of
 * itself. */
#include "model/arch/list.h"

static bool refuse_first(const Reader *config, Error *error) {
  return config_refuse(
      config, "position_encoding_2d",
      "the first ChatGLM-6B is not supported: it is no causal decoder (ChatGLM2, ChatGLM3 and GLM-4 are)",
      error);
}

/* Switches of the configuration class of which the published models use one side. */
static bool read_switches(const Reader *config, Error *error) {
  static const struct {
    const char *key;
    bool wanted;
  } known[] = {{"rmsnorm", true},
               {"post_layer_norm", true},
               {"original_rope", true}, /* false: unused by the code on the hub, rotated halves elsewhere */
               {"apply_residual_connection_post_layernorm", false},
               {"interleaved_qkv", false},
               {"tie_word_embeddings", false}};
  bool value;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (!config_bool_or(config, known[i].key, known[i].wanted, &value, error)) return false;
    if (value != known[i].wanted)
      return reader_fail(config, error, "%s: %s is not supported", known[i].key, value ? "true" : "false");
  }
  double percent;
  int64_t bits;
  if (!config_float_or(config, "rotary_percent", 1, &percent, error) ||
      !config_int_or(config, "quantization_bit", 0, &bits, error))
    return false;
  if (percent != 1) return reader_fail(config, error, "rotary_percent: %g is not supported", percent);
  if (bits != 0)
    return reader_fail(config, error, "quantization_bit: quantised checkpoints are not supported");
  return true;
}

/* Without multi_query_attention the rows are q, k, v of each head. */
static bool read_attention(const Reader *config, ModelSpec *spec, Error *error) {
  bool grouped;
  if (!config_size(config, "num_attention_heads", &spec->heads, error) ||
      !config_size_or(config, "kv_channels", 128, &spec->head_size, error) ||
      !config_bool_or(config, "multi_query_attention", false, &grouped, error))
    return false;
  spec->qkv = grouped ? QKV_BLOCKS : QKV_HEADS;
  spec->kv_heads = spec->heads;
  return !grouped || config_size_or(config, "multi_query_group_num", 1, &spec->kv_heads, error);
}

static bool read_positions(const Reader *config, ModelSpec *spec, Error *error) {
  double ratio;
  if (!config_size_or(config, "seq_length", 2048, &spec->max_positions, error) ||
      !config_float_or(config, "rope_ratio", 1, &ratio, error))
    return false;
  if (!(ratio > 0))
    return reader_fail(config, error, "rope_ratio: expected a number above 0, found %g", ratio);
  spec->position = POSITION_ROTARY;
  spec->rope = (RopeSpec){.kind = ROPE_DEFAULT, .theta = 10000 * ratio};
  spec->rotary_size = spec->head_size / 2;
  spec->rotary_interleaved = true;
  return true;
}

static bool read_chatglm(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  bool bias;
  int64_t vocab;
  if (!refuse_first(config, error) || !config_size(config, "padded_vocab_size", &spec->vocab, error) ||
      !config_size_or(config, "vocab_size", spec->vocab, &vocab, error) ||
      !config_size(config, "hidden_size", &spec->hidden, error) ||
      !config_size(config, "ffn_hidden_size", &spec->intermediate, error) ||
      !config_size_named(config, "num_layers", "num_hidden_layers", 0, &spec->layers, error) ||
      !read_attention(config, spec, error) || !read_positions(config, spec, error) ||
      !config_float_or(config, "layernorm_epsilon", 1e-5, &eps, error) ||
      !config_bool_or(config, "add_bias_linear", false, &bias, error) ||
      !config_bool_or(config, "add_qkv_bias", false, &bias, error) || !read_switches(config, error))
    return false;
  if (vocab != spec->vocab)
    return reader_fail(config, error, "vocab_size is %lld and padded_vocab_size %lld: expected the same",
                       (long long)vocab, (long long)spec->vocab);
  spec->norm = (NormSpec){.kind = NORM_RMS, .eps = (float)eps};
  spec->activation = ACTIVATION_SILU;
  spec->gated = spec->gate_up_fused = true;
  return true;
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  return json_is_true(json_object_get(config, "add_bias_linear")) ||
         (role == LINEAR_QKV && json_is_true(json_object_get(config, "add_qkv_bias")));
}

static const char *const keys[] = {
    "num_hidden_layers", "padded_vocab_size", "hidden_size", "ffn_hidden_size", "num_layers",
    "num_attention_heads", "kv_channels", "multi_query_attention", "multi_query_group_num", "seq_length",
    "rope_ratio", "layernorm_epsilon", "add_bias_linear", "add_qkv_bias", "rmsnorm", "post_layer_norm",
    "original_rope", "apply_residual_connection_post_layernorm", "interleaved_qkv", "rotary_percent",
    "quantization_bit",
    /* how the same numbers are computed */
    "apply_query_key_layer_scaling", "attention_softmax_in_fp32", "bias_dropout_fusion", NULL};

const Architecture architecture_chatglm = {
    .model_type = "chatglm",
    .causal_class = "ChatGLMForConditionalGeneration",
    .score_class = "ChatGLMForSequenceClassification",
    .prefix = "transformer.",
    .layer = "encoder.layers.%d.",
    .embedding = "embedding.word_embeddings",
    .final_norm = "encoder.final_layernorm",
    .head = "transformer.output_layer",
    .linear = {[LINEAR_QKV] = "self_attention.query_key_value",
               [LINEAR_O] = "self_attention.dense",
               [LINEAR_GATE_UP] = "mlp.dense_h_to_4h",
               [LINEAR_DOWN] = "mlp.dense_4h_to_h"},
    .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"},
    .keys = keys,
    .read = read_chatglm,
    .bias = bias_by_config};
