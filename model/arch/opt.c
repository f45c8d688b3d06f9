/* OPT, Galactica: LayerNorm, learned positions whose table begins with two rows for nothing, ReLU, biases.
 *
 * The 350M model normalises after each sum and has tables narrower than its blocks, with a linear before and after them. Norms may
 * be without parameters (layer_norm_elementwise_affine): then they have no tensors either. */
#include "model/arch/list.h"

static bool read_shape(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t width;
  if (!config_size_or(config, "vocab_size", 50272, &spec->vocab, error) ||
      !config_size_or(config, "hidden_size", 768, &spec->hidden, error) ||
      !config_size_or(config, "ffn_dim", 3072, &spec->intermediate, error) ||
      !config_size_or(config, "num_hidden_layers", 12, &spec->layers, error) ||
      !config_size_or(config, "num_attention_heads", 12, &spec->heads, error) ||
      !config_size_or(config, "word_embed_proj_dim", spec->hidden, &width, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error))
    return false;
  spec->embedding_size = width == spec->hidden ? 0 : width;
  return config_even_heads(config, spec, error);
}

static bool read_opt(const Reader *config, ModelSpec *spec, Error *error) {
  bool before, removed, learned;
  if (!read_shape(config, spec, error) ||
      !config_bool_or(config, "do_layer_norm_before", true, &before, error) ||
      !config_bool_or(config, "_remove_final_layer_norm", false, &removed, error) ||
      !config_bool_or(config, "learned_embeddings", true, &learned, error) ||
      !config_refuse(config, "scale_embeddings", "not supported", error) ||
      !config_activation(config, "activation_function", "relu", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error))
    return false;
  if (!learned) return reader_fail(config, error, "learned_embeddings: false is not supported");
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = 1e-5f};
  spec->placement = before ? NORM_PRE : NORM_POST;
  spec->final_norm = before && !removed;
  spec->position = POSITION_LEARNED;
  spec->position_offset = 2;
  spec->qkv = QKV_SEPARATE;
  return true;
}

static bool bias_by_config(const json_t *config, LinearRole role) {
  (void)role;
  return !json_is_false(json_object_get(config, "enable_bias"));
}

static bool without_parameters(const json_t *config) {
  return json_is_false(json_object_get(config, "layer_norm_elementwise_affine"));
}

static const char *const keys[] = {"hidden_size",
                                   "ffn_dim",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "word_embed_proj_dim",
                                   "max_position_embeddings",
                                   "do_layer_norm_before",
                                   "_remove_final_layer_norm",
                                   "layer_norm_elementwise_affine",
                                   "enable_bias",
                                   "learned_embeddings",
                                   "scale_embeddings",
                                   "activation_function",
                                   "dropout",
                                   "activation_dropout",
                                   "layerdrop",
                                   "init_std",
                                   NULL};

/* clang-format off */
#define OPT                                                                                              \
  .model_type = "opt", .causal_class = "OPTForCausalLM", .score_class = "OPTForSequenceClassification",  \
  .prefix = "model.decoder.", .layer = "layers.%d.",                                                     \
  .embedding = "embed_tokens", .positions = "embed_positions",                                           \
  .project_in = "project_in", .project_out = "project_out", .head = "lm_head",                           \
  .linear = {[LINEAR_Q] = "self_attn.q_proj", [LINEAR_K] = "self_attn.k_proj",                           \
             [LINEAR_V] = "self_attn.v_proj", [LINEAR_O] = "self_attn.out_proj",                         \
             [LINEAR_UP] = "fc1", [LINEAR_DOWN] = "fc2"},                                                \
  .keys = keys, .read = read_opt, .bias = bias_by_config
/* clang-format on */

const Architecture architecture_opt_plain_norms = {OPT, .applies = without_parameters};

const Architecture architecture_opt = {
    OPT, .final_norm = "final_layer_norm",
    .norm = {[NORM_ATTENTION] = "self_attn_layer_norm", [NORM_MLP] = "final_layer_norm"}, .norm_bias = true};
