/* Falcon: LayerNorm with bias, one fused projection, rotary positions or ALiBi, tied head. Three kinds of block:
 *
 *   7B        attention and MLP side by side over one norm; rows of the projection q, then one k, one v for all heads
 *   40B, 11B  new_decoder_architecture: side by side, with a norm each (or one: 11B); rows [k/v head][its query heads, k, v]
 *   RW        one after the other, biases, rows [head][q,k,v], ALiBi of its own
 *
 * The first versions of these files were called RefinedWeb (40B) and RefinedWebModel, and have n_layer, n_head, n_head_kv. */
#include "model/arch/list.h"

#include <string.h>

static bool is_true_or(const json_t *config, const char *key, bool fallback) {
  const json_t *value = json_object_get(config, key);
  return value && !json_is_null(value) ? json_is_true(value) : fallback;
}

/* The 40B of the first version has no other. */
static bool is_new(const json_t *config) {
  const char *type = json_string_value(json_object_get(config, "model_type"));
  return is_true_or(config, "new_decoder_architecture", type && strcmp(type, "RefinedWeb") == 0);
}

static bool has_two_norms(const json_t *config) {
  const json_t *norms = json_object_get(config, "num_ln_in_parallel_attn");
  return is_new(config) && (!json_is_integer(norms) || json_integer_value(norms) == 2);
}

static bool is_sequential(const json_t *config) {
  return !is_new(config) && !is_true_or(config, "parallel_attn", true);
}

static bool read_layout(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t kv, norms;
  bool parallel, multi_query;
  const bool new = is_new(config->value);
  if (!config_bool_or(config, "parallel_attn", true, &parallel, error) ||
      !config_bool_or(config, "multi_query", true, &multi_query, error) ||
      !config_size_named(config, "num_kv_heads", "n_head_kv", spec->heads, &kv, error) ||
      !config_size_or(config, "num_ln_in_parallel_attn", new ? 2 : 1, &norms, error))
    return false;
  if (new && !parallel)
    return reader_fail(config, error, "parallel_attn: false contradicts new_decoder_architecture");
  if (norms > 2 || (norms == 2 && !new))
    return reader_fail(config, error, "num_ln_in_parallel_attn: expected %s, found %lld",
                       new ? "1 or 2" : "1, without new_decoder_architecture,", (long long)norms);
  if (!new && !multi_query && kv != spec->heads)
    return reader_fail(config, error,
                       "num_kv_heads: %lld, but without multi_query each of %lld heads has its own",
                       (long long)kv, (long long)spec->heads);
  spec->parallel = new || parallel;
  spec->parallel_shared = spec->parallel && norms == 1;
  spec->qkv = new ? QKV_GROUPS : multi_query ? QKV_BLOCKS : QKV_HEADS;
  spec->kv_heads = new ? kv : multi_query ? 1 : spec->heads;
  return true;
}

static bool read_positions(const Reader *config, ModelSpec *spec, Error *error) {
  bool alibi;
  Reader rope;
  double part;
  if (!config_bool_or(config, "alibi", false, &alibi, error) || !config_rope_object(config, &rope, error) ||
      !config_float_or(&rope, "partial_rotary_factor", 1, &part, error) ||
      !config_rope(config, 10000, &spec->rope, error))
    return false;
  if (part != 1)
    return reader_fail(&rope, error, "partial_rotary_factor: %g is not supported for falcon", part);
  spec->position = alibi ? POSITION_ALIBI : POSITION_ROTARY;
  spec->alibi_by_place = alibi;
  spec->rotary_size = alibi ? 0 : spec->head_size;
  if (alibi) spec->max_positions = 0;
  return true;
}

static bool read_falcon(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  bool bias;
  int64_t factor;
  if (!config_size_or(config, "vocab_size", 65024, &spec->vocab, error) ||
      !config_size_named(config, "hidden_size", "n_embed", 4544, &spec->hidden, error) ||
      !config_size_named(config, "num_hidden_layers", "n_layer", 32, &spec->layers, error) ||
      !config_size_named(config, "num_attention_heads", "n_head", 71, &spec->heads, error) ||
      !config_size_or(config, "ffn_hidden_size", 4 * spec->hidden, &spec->intermediate, error) ||
      !config_size_or(config, "ff_factor", 4, &factor, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_activation(config, "activation", "gelu", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error) ||
      !config_bool_or(config, "bias", false, &bias, error) ||
      !config_refuse(config, "apply_residual_connection_post_layernorm", "not supported", error))
    return false;
  if (reader_has(config, "ff_factor") && factor * spec->hidden != spec->intermediate)
    return reader_fail(config, error, "ff_factor: %lld contradicts ffn_hidden_size %lld", (long long)factor,
                       (long long)spec->intermediate);
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  return config_even_heads(config, spec, error) && read_layout(config, spec, error) &&
         read_positions(config, spec, error);
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  (void)role;
  return is_true_or(config, "bias", false);
}

static const char *const keys[] = {"hidden_size",
                                   "n_embed",
                                   "num_hidden_layers",
                                   "n_layer",
                                   "num_attention_heads",
                                   "n_head",
                                   "num_kv_heads",
                                   "n_head_kv",
                                   "ffn_hidden_size",
                                   "ff_factor",
                                   "max_position_embeddings",
                                   "layer_norm_epsilon",
                                   "activation",
                                   "alibi",
                                   "bias",
                                   "multi_query",
                                   "parallel_attn",
                                   "new_decoder_architecture",
                                   "num_ln_in_parallel_attn",
                                   "rope_theta",
                                   "rope_scaling",
                                   "rope_parameters",
                                   NULL};

/* clang-format off */
#define BLOCK                                                                                             \
  .prefix = "transformer.", .layer = "h.%d.",                                                             \
  .embedding = "word_embeddings", .final_norm = "ln_f", .head = "lm_head",                                \
  .linear = {[LINEAR_QKV] = "self_attention.query_key_value", [LINEAR_O] = "self_attention.dense",        \
             [LINEAR_UP] = "mlp.dense_h_to_4h", [LINEAR_DOWN] = "mlp.dense_4h_to_h"},                     \
  .norm_bias = true, .keys = keys, .read = read_falcon, .bias = bias_by_config
#define FALCON                                                             \
  .model_type = "falcon", .causal_class = "FalconForCausalLM",             \
  .score_class = "FalconForSequenceClassification", BLOCK
#define REFINED(type)                                                      \
  .model_type = type, .causal_class = "RWForCausalLM",                     \
  .score_class = "RWForSequenceClassification", BLOCK
#define TWO_NORMS  .norm = {[NORM_ATTENTION] = "ln_attn", [NORM_MLP] = "ln_mlp"}
#define SEQUENTIAL .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"}
#define ONE_NORM   .norm = {[NORM_ATTENTION] = "input_layernorm"}
/* clang-format on */

const Architecture architecture_falcon_two_norms = {FALCON, TWO_NORMS, .applies = has_two_norms};
const Architecture architecture_falcon_sequential = {FALCON, SEQUENTIAL, .applies = is_sequential};
const Architecture architecture_falcon = {FALCON, ONE_NORM};
const Architecture architecture_refined_web = {REFINED("RefinedWeb"), TWO_NORMS};
const Architecture architecture_refined_web_sequential = {REFINED("RefinedWebModel"), SEQUENTIAL,
                                                          .applies = is_sequential};
const Architecture architecture_refined_web_model = {REFINED("RefinedWebModel"), ONE_NORM};
