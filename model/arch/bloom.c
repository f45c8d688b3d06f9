/* BLOOM, BLOOMZ: LayerNorm with bias, one of them over the embeddings; ALiBi instead of positions; one fused projection with rows
 * [head][q,k,v][D]; tied head. */
#include "model/arch/list.h"

static bool read_bloom(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size_or(config, "vocab_size", 250880, &spec->vocab, error) ||
      !config_size_named(config, "hidden_size", "n_embed", 64, &spec->hidden, error) ||
      !config_size_named(config, "n_layer", "num_hidden_layers", 2, &spec->layers, error) ||
      !config_size_named(config, "n_head", "num_attention_heads", 8, &spec->heads, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error) ||
      !config_refuse(config, "apply_residual_connection_post_layernorm", "not supported", error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->embedding_norm = true;
  spec->intermediate = 4 * spec->hidden;
  spec->activation = ACTIVATION_GELU_TANH;
  spec->position = POSITION_ALIBI;
  spec->qkv = QKV_HEADS;
  return config_even_heads(config, spec, error);
}

/* What Megatron wrote into these files, from attention_softmax_in_fp32 on, says how it computed, not what. */
static const char *const keys[] = {"hidden_size",
                                   "n_embed",
                                   "n_layer",
                                   "num_hidden_layers",
                                   "n_head",
                                   "num_attention_heads",
                                   "layer_norm_epsilon",
                                   "slow_but_exact",
                                   "attention_softmax_in_fp32",
                                   "bias_dropout_fusion",
                                   "masked_softmax_fusion",
                                   "offset_alibi",
                                   "seq_length",
                                   "skip_bias_add",
                                   "skip_bias_add_qkv",
                                   NULL};

const Architecture architecture_bloom = {
    .model_type = "bloom",
    .causal_class = "BloomForCausalLM",
    .score_class = "BloomForSequenceClassification",
    .prefix = "transformer.",
    .layer = "h.%d.",
    .embedding = "word_embeddings",
    .embedding_norm = "word_embeddings_layernorm",
    .final_norm = "ln_f",
    .head = "lm_head",
    .linear = {[LINEAR_QKV] = "self_attention.query_key_value",
               [LINEAR_O] = "self_attention.dense",
               [LINEAR_UP] = "mlp.dense_h_to_4h",
               [LINEAR_DOWN] = "mlp.dense_4h_to_h"},
    .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"},
    .norm_bias = true,
    .keys = keys,
    .read = read_bloom,
    .linear_bias = {[LINEAR_QKV] = true, [LINEAR_O] = true, [LINEAR_UP] = true, [LINEAR_DOWN] = true}};
