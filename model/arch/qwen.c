/* Qwen, the first (1.8B to 72B), by the code on the hub: names of GPT-2, q, k and v in c_attn, and two products of half of
 * intermediate_size, of which w2 is the gate. Beyond seq_length the code rotates more slowly (use_dynamic_ntk) and scales
 * queries (use_logn_attn); neither is done here: with either of them no text may be longer than seq_length. */
#include "model/arch/list.h"

static bool read_attention(const Reader *config, ModelSpec *spec, Error *error) {
  bool scaled;
  if (!config_size(config, "num_attention_heads", &spec->heads, error) ||
      !config_size_or(config, "kv_channels", 128, &spec->head_size, error) ||
      !config_bool_or(config, "scale_attn_weights", true, &scaled, error))
    return false;
  if (!scaled) return reader_fail(config, error, "scale_attn_weights: false is not supported");
  if (spec->heads * spec->head_size != spec->hidden)
    return reader_fail(config, error, "hidden_size %lld is not %lld heads of %lld kv_channels",
                       (long long)spec->hidden, (long long)spec->heads, (long long)spec->head_size);
  spec->kv_heads = spec->heads;
  spec->qkv = QKV_BLOCKS;
  return true;
}

static bool read_positions(const Reader *config, ModelSpec *spec, Error *error) {
  bool grows, scales;
  int64_t trained, longest;
  double part, base;
  if (!config_bool_or(config, "use_dynamic_ntk", true, &grows, error) ||
      !config_bool_or(config, "use_logn_attn", true, &scales, error) ||
      !config_size_or(config, "seq_length", 8192, &trained, error) ||
      !config_size_or(config, "max_position_embeddings", 8192, &longest, error) ||
      !config_float_or(config, "rotary_pct", 1, &part, error) ||
      !config_float_or(config, "rotary_emb_base", 10000, &base, error))
    return false;
  if (!(base > 0) || !(part > 0) || part > 1)
    return reader_fail(config, error,
                       "rotary_emb_base %g, rotary_pct %g: expected numbers above 0, and up to 1", base,
                       part);
  spec->position = POSITION_ROTARY;
  spec->rope = (RopeSpec){.kind = ROPE_DEFAULT, .theta = base};
  spec->rotary_size = (int64_t)((double)spec->head_size * part);
  spec->positions_end = grows || scales;
  spec->max_positions = spec->positions_end ? trained : longest;
  return true;
}

static bool read_qwen(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  bool bare;
  if (!config_size(config, "vocab_size", &spec->vocab, error) ||
      !config_size(config, "hidden_size", &spec->hidden, error) ||
      !config_size(config, "intermediate_size", &spec->intermediate, error) ||
      !config_size(config, "num_hidden_layers", &spec->layers, error) ||
      !read_attention(config, spec, error) || !read_positions(config, spec, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-6, &eps, error) ||
      !config_bool_or(config, "no_bias", true, &bare, error) ||
      !config_bool_or(config, "tie_word_embeddings", false, &spec->tied, error))
    return false;
  if (spec->intermediate % 2)
    return reader_fail(config, error, "intermediate_size: expected an even number, found %lld",
                       (long long)spec->intermediate);
  spec->intermediate /= 2;
  spec->norm = (NormSpec){.kind = NORM_RMS, .eps = (float)eps};
  spec->activation = ACTIVATION_SILU;
  spec->gated = true;
  return true;
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  return role == LINEAR_QKV || json_is_false(json_object_get(config, "no_bias"));
}

static const char *const keys[] = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "kv_channels",
    "layer_norm_epsilon", "no_bias", "rotary_pct", "rotary_emb_base", "seq_length", "max_position_embeddings",
    "use_dynamic_ntk", "use_logn_attn", "scale_attn_weights", "attn_dropout_prob", "emb_dropout_prob",
    /* how the same numbers are computed */
    "bf16", "fp16", "fp32", "softmax_in_fp32", "use_cache_kernel", "onnx_safe", NULL};

const Architecture architecture_qwen = {.model_type = "qwen",
                                        .causal_class = "QWenLMHeadModel",
                                        .score_class = "QWenForSequenceClassification",
                                        .prefix = "transformer.",
                                        .layer = "h.%d.",
                                        .embedding = "wte",
                                        .final_norm = "ln_f",
                                        .head = "lm_head",
                                        .linear = {[LINEAR_QKV] = "attn.c_attn",
                                                   [LINEAR_O] = "attn.c_proj",
                                                   [LINEAR_GATE] = "mlp.w2",
                                                   [LINEAR_UP] = "mlp.w1",
                                                   [LINEAR_DOWN] = "mlp.c_proj"},
                                        .norm = {[NORM_ATTENTION] = "ln_1", [NORM_MLP] = "ln_2"},
                                        .keys = keys,
                                        .read = read_qwen,
                                        .bias = bias_by_config};
