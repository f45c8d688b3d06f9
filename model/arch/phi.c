/* Phi-1, Phi-1.5, Phi-2: LayerNorm with bias, attention and MLP side by side over one norm, rotary positions on the first part of
 * each head, biases everywhere, in the LM head too; with qk_layernorm a LayerNorm over each query and key head. */
#include "model/arch/list.h"

static bool read_rotary(const Reader *config, ModelSpec *spec, Error *error) {
  Reader rope;
  double top, part;
  if (!config_rope_object(config, &rope, error) ||
      !config_float_or(config, "partial_rotary_factor", 0.5, &top, error) ||
      !config_float_or(&rope, "partial_rotary_factor", top, &part, error) ||
      !config_rope(config, 10000, &spec->rope, error))
    return false;
  if (part <= 0 || part > 1)
    return reader_fail(config, error,
                       "partial_rotary_factor: expected a number above 0 and up to 1, found %g", part);
  spec->position = POSITION_ROTARY;
  spec->rotary_size = (int64_t)((double)spec->head_size * part);
  return true;
}

static bool read_phi(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  bool normalized;
  if (!config_size_or(config, "vocab_size", 51200, &spec->vocab, error) ||
      !config_size_or(config, "hidden_size", 2048, &spec->hidden, error) ||
      !config_size_or(config, "intermediate_size", 8192, &spec->intermediate, error) ||
      !config_size_or(config, "num_hidden_layers", 24, &spec->layers, error) ||
      !config_size_or(config, "num_attention_heads", 32, &spec->heads, error) ||
      !config_even_heads(config, spec, error) ||
      !config_size_or(config, "num_key_value_heads", spec->heads, &spec->kv_heads, error) ||
      !config_size_or(config, "head_dim", spec->head_size, &spec->head_size, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error) ||
      !config_float_or(config, "layer_norm_eps", 1e-5, &eps, error) ||
      !config_activation(config, "hidden_act", "gelu_new", &spec->activation, error) ||
      !config_bool_or(config, "qk_layernorm", false, &normalized, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error))
    return false;
  if (normalized && spec->head_size * spec->heads != spec->hidden)
    return reader_fail(config, error, "head_dim: %lld with qk_layernorm is not supported",
                       (long long)spec->head_size);
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->parallel = spec->parallel_shared = true;
  spec->head_bias = true;
  spec->qkv = QKV_SEPARATE;
  spec->qk_norm = normalized ? QK_NORM_HEAD : QK_NORM_NONE;
  return read_rotary(config, spec, error);
}

static const char *const keys[] = {"hidden_size",
                                   "intermediate_size",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "num_key_value_heads",
                                   "head_dim",
                                   "max_position_embeddings",
                                   "layer_norm_eps",
                                   "hidden_act",
                                   "rope_theta",
                                   "rope_scaling",
                                   "rope_parameters",
                                   "partial_rotary_factor",
                                   "qk_layernorm",
                                   NULL};

const Architecture architecture_phi = {.model_type = "phi",
                                       .causal_class = "PhiForCausalLM",
                                       .score_class = "PhiForSequenceClassification",
                                       .prefix = "model.",
                                       .layer = "layers.%d.",
                                       .embedding = "embed_tokens",
                                       .final_norm = "final_layernorm",
                                       .head = "lm_head",
                                       .linear = {[LINEAR_Q] = "self_attn.q_proj",
                                                  [LINEAR_K] = "self_attn.k_proj",
                                                  [LINEAR_V] = "self_attn.v_proj",
                                                  [LINEAR_O] = "self_attn.dense",
                                                  [LINEAR_UP] = "mlp.fc1",
                                                  [LINEAR_DOWN] = "mlp.fc2"},
                                       .norm = {[NORM_ATTENTION] = "input_layernorm",
                                                [NORM_Q] = "self_attn.q_layernorm",
                                                [NORM_K] = "self_attn.k_layernorm"},
                                       .norm_bias = true,
                                       .qk_norm_bias = true,
                                       .keys = keys,
                                       .read = read_phi,
                                       .linear_bias = {[LINEAR_Q] = true,
                                                       [LINEAR_K] = true,
                                                       [LINEAR_V] = true,
                                                       [LINEAR_O] = true,
                                                       [LINEAR_UP] = true,
                                                       [LINEAR_DOWN] = true}};
