/* EXAONE 3, 3.5 and Deep: LLaMA with names of its own. The code on the hub and Transformers (from 5.24 on) call some keys
 * differently, and their classes have other values for two keys that a config may lack: those must be there. */
#include "model/arch/llama_like.h"

/* A key by its name on the hub, or by that of Transformers. */
static bool spelled(const Reader *config, const char *hub, const char *transformers, const char **key,
                    Error *error) {
  *key = reader_has(config, hub) ? hub : transformers;
  return !(reader_has(config, hub) && reader_has(config, transformers)) ||
         reader_fail(config, error, "%s and %s are two names of one thing: take one of them out", hub,
                     transformers);
}

static bool need(const Reader *config, const char *key, Error *error) {
  return reader_has(config, key) ||
         reader_fail(config, error,
                     "%s: expected a value: the code on the hub and Transformers differ without it", key);
}

static bool read_exaone(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  Reader rope;
  const char *eps_key, *activation_key;
  if (!config_rope_object(config, &rope, error) || !need(config, "tie_word_embeddings", error) ||
      (!reader_has(&rope, "rope_theta") && !need(config, "rope_theta", error)) ||
      !config_size(config, "vocab_size", &spec->vocab, error) ||
      !config_size(config, "hidden_size", &spec->hidden, error) ||
      !config_size_or(config, "intermediate_size", 4 * spec->hidden, &spec->intermediate, error) ||
      !config_size_named(config, "num_layers", "num_hidden_layers", 0, &spec->layers, error) ||
      !config_size(config, "num_attention_heads", &spec->heads, error) ||
      !config_size_or(config, "num_key_value_heads", spec->heads, &spec->kv_heads, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error) ||
      !spelled(config, "layer_norm_epsilon", "rms_norm_eps", &eps_key, error) ||
      !spelled(config, "activation_function", "hidden_act", &activation_key, error) ||
      !config_float_or(config, eps_key, 1e-5, &eps, error) ||
      !config_activation(config, activation_key, "silu", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error))
    return false;
  if (!reader_has(config, "head_dim") && spec->hidden % spec->heads != 0)
    return error_set(error, ERROR_MODEL, "\"hidden_size\" %lld is not a multiple of %lld attention heads",
                     (long long)spec->hidden, (long long)spec->heads);
  spec->norm = (NormSpec){.kind = NORM_RMS, .eps = (float)eps};
  spec->gated = true;
  spec->qkv = QKV_SEPARATE;
  return config_size_or(config, "head_dim", spec->hidden / spec->heads, &spec->head_size, error) &&
         config_rotary(config, (RopeDefaults){.theta = 10000}, spec, error);
}

static const char *const keys[] = {
    LLAMA_KEYS,       "num_layers", "layer_norm_epsilon", "activation_function",
    "attention_bias", "mlp_bias",   "embed_dropout",      NULL};

const Architecture architecture_exaone = {.model_type = "exaone",
                                          .causal_class = "ExaoneForCausalLM",
                                          .score_class = "ExaoneForSequenceClassification",
                                          .prefix = "transformer.",
                                          .layer = "h.%d.",
                                          .embedding = "wte",
                                          .final_norm = "ln_f",
                                          .head = "lm_head",
                                          .linear = {[LINEAR_Q] = "attn.attention.q_proj",
                                                     [LINEAR_K] = "attn.attention.k_proj",
                                                     [LINEAR_V] = "attn.attention.v_proj",
                                                     [LINEAR_O] = "attn.attention.out_proj",
                                                     [LINEAR_GATE] = "mlp.c_fc_0",
                                                     [LINEAR_UP] = "mlp.c_fc_1",
                                                     [LINEAR_DOWN] = "mlp.c_proj"},
                                          .norm = {[NORM_ATTENTION] = "ln_1", [NORM_MLP] = "ln_2"},
                                          .keys = keys,
                                          .read = read_exaone,
                                          .bias = bias_attention_mlp};
