/* MPT: LayerNorm without bias, ALiBi, one fused projection with rows q, k, v that may be clamped, no biases, tied head.
 *
 * The reference for attn_config.alibi_bias_max (16 in StoryWriter) is the code beside these models on the hub; Transformers' own
 * class reads the key and computes with 8. */
#include "model/arch/list.h"

#include <string.h>

/* Everything else in attn_config must be off: qk_ln, prefix_lm, attn_uses_sequence_id, rope ... */
static const char *const attention_keys[] = {"attn_type",     "attn_pdrop", "attn_impl",      "clip_qkv",
                                             "softmax_scale", "alibi",      "alibi_bias_max", NULL};

static bool read_attention(const Reader *config, ModelSpec *spec, Error *error) {
  Reader attention;
  const char *type = NULL;
  size_t bytes;
  double clip, scale, alibi_max;
  bool alibi;
  if (!reader_member(config, "attn_config", &attention, error) ||
      (attention.value && (!reader_as_object(&attention, error) ||
                           !config_check_members(&attention, attention_keys, "mpt", error))) ||
      (attention.value && !reader_text(&attention, "attn_type", false, &type, &bytes, error)) ||
      !config_float_or(&attention, "clip_qkv", 0, &clip, error) ||
      !config_float_or(&attention, "softmax_scale", 0, &scale, error) ||
      !config_float_or(&attention, "alibi_bias_max", 8, &alibi_max, error) ||
      !config_bool_or(&attention, "alibi", true, &alibi, error))
    return false;
  if (type && strcmp(type, "multihead_attention") != 0)
    return reader_fail(&attention, error, "attn_type: expected \"multihead_attention\", found \"%s\"", type);
  if (!alibi) return reader_fail(&attention, error, "alibi: false is not supported");
  if (clip < 0 || scale < 0 || alibi_max <= 0)
    return reader_fail(&attention, error, "clip_qkv, softmax_scale and alibi_bias_max are not below 0");
  spec->clip_qkv = (float)clip;
  spec->attention_scale = (float)scale;
  spec->alibi_max = (float)alibi_max;
  spec->position = POSITION_ALIBI;
  spec->qkv = QKV_BLOCKS;
  return true;
}

/* Settings of which Transformers knows one value alone. */
static bool check_rest(const Reader *config, Error *error) {
  const char *norm;
  size_t bytes;
  bool no_bias;
  double fraction;
  if (!config_bool_or(config, "no_bias", true, &no_bias, error) ||
      !config_float_or(config, "embedding_fraction", 1, &fraction, error) ||
      !config_refuse(config, "logit_scale", "not supported", error) ||
      !reader_text(config, "norm_type", false, &norm, &bytes, error))
    return false;
  if (!no_bias) return reader_fail(config, error, "no_bias: false is not supported");
  if (fraction != 1) return reader_fail(config, error, "embedding_fraction: %g is not supported", fraction);
  return !norm || strcmp(norm, "low_precision_layernorm") == 0 || strcmp(norm, "layernorm") == 0 ||
         reader_fail(config, error,
                     "norm_type: \"%s\" is not supported (known: low_precision_layernorm, layernorm)", norm);
}

static bool read_mpt(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t ratio;
  double eps;
  if (!config_size_or(config, "vocab_size", 50368, &spec->vocab, error) ||
      !config_size_named(config, "d_model", "hidden_size", 2048, &spec->hidden, error) ||
      !config_size_named(config, "n_layers", "num_hidden_layers", 24, &spec->layers, error) ||
      !config_size_named(config, "n_heads", "num_attention_heads", 16, &spec->heads, error) ||
      !config_size_or(config, "expansion_ratio", 4, &ratio, error) ||
      !config_size_or(config, "max_seq_len", 2048, &spec->max_positions, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error) || !check_rest(config, error))
    return false;
  if (ratio != 4)
    return reader_fail(config, error, "expansion_ratio: %lld is not supported", (long long)ratio);
  spec->intermediate = ratio * spec->hidden;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->activation = ACTIVATION_GELU;
  return config_even_heads(config, spec, error) && read_attention(config, spec, error);
}

/* learned_pos_emb counts only without ALiBi. */
static const char *const keys[] = {"d_model",
                                   "hidden_size",
                                   "n_layers",
                                   "num_hidden_layers",
                                   "n_heads",
                                   "num_attention_heads",
                                   "expansion_ratio",
                                   "max_seq_len",
                                   "layer_norm_epsilon",
                                   "attn_config",
                                   "learned_pos_emb",
                                   "logit_scale",
                                   "no_bias",
                                   "embedding_fraction",
                                   "norm_type",
                                   "emb_pdrop",
                                   "init_device",
                                   "init_config",
                                   "tokenizer_name",
                                   "verbose",
                                   NULL};

const Architecture architecture_mpt = {.model_type = "mpt",
                                       .causal_class = "MptForCausalLM",
                                       .score_class = "MptForSequenceClassification",
                                       .prefix = "transformer.",
                                       .layer = "blocks.%d.",
                                       .embedding = "wte",
                                       .final_norm = "norm_f",
                                       .head = "lm_head",
                                       .linear = {[LINEAR_QKV] = "attn.Wqkv",
                                                  [LINEAR_O] = "attn.out_proj",
                                                  [LINEAR_UP] = "ffn.up_proj",
                                                  [LINEAR_DOWN] = "ffn.down_proj"},
                                       .norm = {[NORM_ATTENTION] = "norm_1", [NORM_MLP] = "norm_2"},
                                       .keys = keys,
                                       .read = read_mpt};
