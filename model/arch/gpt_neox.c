/* GPT-NeoX: Pythia, RedPajama-INCITE, Dolly v2.
 *
 * LayerNorm with bias, one fused projection with rows [head][q,k,v][D], rotary positions on the first part of each
 * head, attention and MLP side by side (or one after the other: RedPajama). The LM head is a table of its own. */
#include "model/arch/list.h"

static bool read_rotary(const Reader *config, ModelSpec *spec, Error *error) {
  Reader rope;
  double part, theta;
  if (!config_float_or(config, "rope_theta", 10000, &theta, error) ||
      !config_float_or(config, "rotary_emb_base", theta, &theta, error) ||
      !config_rope_object(config, &rope, error) ||
      !config_float_or(config, "partial_rotary_factor", 0.25, &part, error) ||
      !config_float_or(config, "rotary_pct", part, &part, error) ||
      !config_float_or(&rope, "partial_rotary_factor", part, &part, error) ||
      !config_rope(config, theta, &spec->rope, error))
    return false;
  if (part <= 0 || part > 1)
    return reader_fail(config, error, "rotary_pct: expected a number above 0 and up to 1, found %g", part);
  if (!reader_has(&rope, "rope_theta")) spec->rope.theta = theta; /* rotary_emb_base goes before rope_theta */
  spec->position = POSITION_ROTARY;
  spec->rotary_size = (int64_t)((double)spec->head_size * part);
  return true;
}

static bool read_gpt_neox(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size(config, "vocab_size", &spec->vocab, error) ||
      !config_size(config, "hidden_size", &spec->hidden, error) ||
      !config_size(config, "intermediate_size", &spec->intermediate, error) ||
      !config_size(config, "num_hidden_layers", &spec->layers, error) ||
      !config_size(config, "num_attention_heads", &spec->heads, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error) ||
      !config_float_or(config, "layer_norm_eps", 1e-5, &eps, error) ||
      !config_activation(config, "hidden_act", "gelu", &spec->activation, error) ||
      !config_bool_or(config, "use_parallel_residual", true, &spec->parallel, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->qkv = QKV_HEADS;
  return config_even_heads(config, spec, error) && read_rotary(config, spec, error);
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  if (role != LINEAR_QKV && role != LINEAR_O) return true;
  return !json_is_false(json_object_get(config, "attention_bias"));
}

static const char *const keys[] = {"hidden_size",
                                   "intermediate_size",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "max_position_embeddings",
                                   "layer_norm_eps",
                                   "hidden_act",
                                   "use_parallel_residual",
                                   "attention_bias",
                                   "rotary_pct",
                                   "rotary_emb_base",
                                   "rope_theta",
                                   "rope_scaling",
                                   "rope_parameters",
                                   "partial_rotary_factor",
                                   NULL};

const Architecture architecture_gpt_neox = {
    .model_type = "gpt_neox",
    .causal_class = "GPTNeoXForCausalLM",
    .score_class = "GPTNeoXForSequenceClassification",
    .prefix = "gpt_neox.",
    .layer = "layers.%d.",
    .embedding = "embed_in",
    .final_norm = "final_layer_norm",
    .head = "embed_out",
    .linear = {[LINEAR_QKV] = "attention.query_key_value",
               [LINEAR_O] = "attention.dense",
               [LINEAR_UP] = "mlp.dense_h_to_4h",
               [LINEAR_DOWN] = "mlp.dense_4h_to_h"},
    .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"},
    .norm_bias = true,
    .keys = keys,
    .read = read_gpt_neox,
    .bias = bias_by_config};
