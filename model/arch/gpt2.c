/* GPT-2: LayerNorm with bias, learned positions, tied head, and Conv1D linears, whose weights are [in, out].
 * c_attn holds q, then k, then v. */
#include "model/arch/list.h"

static bool read_attention(const Reader *config, ModelSpec *spec, Error *error) {
  bool scaled;
  if (!config_bool_or(config, "scale_attn_weights", true, &scaled, error) ||
      !config_bool_or(config, "scale_attn_by_inverse_layer_idx", false, &spec->scale_by_layer, error))
    return false;
  spec->attention_scale = scaled ? 0 : 1;
  spec->qkv = QKV_BLOCKS;
  return config_even_heads(config, spec, error);
}

static bool read_gpt2(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size(config, "vocab_size", &spec->vocab, error) ||
      !config_size_named(config, "n_embd", "hidden_size", 0, &spec->hidden, error) ||
      !config_size_named(config, "n_layer", "num_hidden_layers", 0, &spec->layers, error) ||
      !config_size_named(config, "n_head", "num_attention_heads", 0, &spec->heads, error) ||
      !config_size_named(config, "n_positions", "max_position_embeddings", 0, &spec->max_positions, error) ||
      !config_size_or(config, "n_inner", 4 * spec->hidden, &spec->intermediate, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_activation(config, "activation_function", "gelu_new", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->position = POSITION_LEARNED;
  return read_attention(config, spec, error);
}

static const char *const keys[] = {"n_embd",
                                   "hidden_size",
                                   "n_layer",
                                   "num_hidden_layers",
                                   "n_head",
                                   "num_attention_heads",
                                   "n_inner",
                                   "n_positions",
                                   "n_ctx",
                                   "max_position_embeddings",
                                   "layer_norm_epsilon",
                                   "activation_function",
                                   "scale_attn_weights",
                                   "scale_attn_by_inverse_layer_idx",
                                   NULL};

const Architecture architecture_gpt2 = {
    .model_type = "gpt2",
    .causal_class = "GPT2LMHeadModel",
    .score_class = "GPT2ForSequenceClassification",
    .prefix = "transformer.",
    .layer = "h.%d.",
    .embedding = "wte",
    .positions = "wpe",
    .final_norm = "ln_f",
    .head = "lm_head",
    .linear = {[LINEAR_QKV] = "attn.c_attn",
               [LINEAR_O] = "attn.c_proj",
               [LINEAR_UP] = "mlp.c_fc",
               [LINEAR_DOWN] = "mlp.c_proj"},
    .norm = {[NORM_ATTENTION] = "ln_1", [NORM_MLP] = "ln_2"},
    .norm_bias = true,
    .transposed = true,
    .residual_init = true,
    .keys = keys,
    .read = read_gpt2,
    .linear_bias = {[LINEAR_QKV] = true, [LINEAR_O] = true, [LINEAR_UP] = true, [LINEAR_DOWN] = true}};
