/* GPT-J: LayerNorm with bias, attention and MLP side by side over one norm, rotary positions in neighbouring pairs on the first
 * rotary_dim elements of each head. No biases in attention; the LM head has one. */
#include "model/arch/list.h"

static bool read_attention(const Reader *config, ModelSpec *spec, Error *error) {
  bool rotary, scaled;
  if (!config_size_named(config, "n_head", "num_attention_heads", 16, &spec->heads, error) ||
      !config_size_or(config, "rotary_dim", 64, &spec->rotary_size, error) ||
      !config_bool_or(config, "rotary", true, &rotary, error) ||
      !config_bool_or(config, "scale_attn_weights", true, &scaled, error))
    return false;
  if (!rotary || !scaled)
    return reader_fail(config, error, "%s: false is not supported", rotary ? "scale_attn_weights" : "rotary");
  spec->qkv = QKV_SEPARATE;
  spec->position = POSITION_ROTARY;
  spec->rotary_interleaved = true;
  spec->rope = (RopeSpec){.kind = ROPE_DEFAULT, .theta = 10000};
  return config_even_heads(config, spec, error);
}

static bool read_gptj(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size_or(config, "vocab_size", 50400, &spec->vocab, error) ||
      !config_size_named(config, "n_embd", "hidden_size", 4096, &spec->hidden, error) ||
      !config_size_named(config, "n_layer", "num_hidden_layers", 28, &spec->layers, error) ||
      !config_size_named(config, "n_positions", "max_position_embeddings", 2048, &spec->max_positions,
                         error) ||
      !config_size_or(config, "n_inner", 4 * spec->hidden, &spec->intermediate, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_activation(config, "activation_function", "gelu_new", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->parallel = spec->parallel_shared = true;
  spec->head_bias = true;
  return read_attention(config, spec, error);
}

static const char *const keys[] = {"n_embd",
                                   "n_layer",
                                   "n_head",
                                   "n_inner",
                                   "n_positions",
                                   "n_ctx",
                                   "hidden_size",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "max_position_embeddings",
                                   "rotary",
                                   "rotary_dim",
                                   "layer_norm_epsilon",
                                   "activation_function",
                                   "scale_attn_weights",
                                   NULL};

const Architecture architecture_gptj = {.model_type = "gptj",
                                        .causal_class = "GPTJForCausalLM",
                                        .score_class = "GPTJForSequenceClassification",
                                        .prefix = "transformer.",
                                        .layer = "h.%d.",
                                        .embedding = "wte",
                                        .final_norm = "ln_f",
                                        .head = "lm_head",
                                        .linear = {[LINEAR_Q] = "attn.q_proj",
                                                   [LINEAR_K] = "attn.k_proj",
                                                   [LINEAR_V] = "attn.v_proj",
                                                   [LINEAR_O] = "attn.out_proj",
                                                   [LINEAR_UP] = "mlp.fc_in",
                                                   [LINEAR_DOWN] = "mlp.fc_out"},
                                        .norm = {[NORM_ATTENTION] = "ln_1"},
                                        .norm_bias = true,
                                        .keys = keys,
                                        .read = read_gptj,
                                        .linear_bias = {[LINEAR_UP] = true, [LINEAR_DOWN] = true}};
