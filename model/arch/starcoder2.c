/* StarCoder 2: layer norms, biases everywhere, a plain MLP, one window for all layers. */
#include "model/arch/llama_like.h"

static bool read_starcoder2(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 4096,
                                  .kv_heads = 2,
                                  .eps_key = "norm_epsilon",
                                  .eps = 1e-5,
                                  .activation = "gelu_pytorch_tanh",
                                  .tied = true,
                                  .rope = {.theta = 10000}};
  if (!llama_like_read(config, defaults, spec, error)) return false;
  spec->norm.kind = NORM_LAYER;
  spec->gated = false;
  /* Keys of the released files beside those that Transformers reads. */
  return llama_like_window(config, 0, spec, error) &&
         config_expect(config, "mlp_type", "\"default\"", error) &&
         config_expect(config, "norm_type", "\"layer_norm\"", error) &&
         config_expect(config, "scale_attn_weights", "true", error);
}

static bool bias_everywhere(const json_t *config, LinearRole role) {
  (void)role;
  return !json_is_false(json_object_get(config, "use_bias"));
}

static const char *const keys[] = {LLAMA_KEYS, "norm_epsilon", "use_bias", "sliding_window", "mlp_type",
                                   "norm_type", "scale_attn_weights",
                                   /* of the first files, and looked at by nobody */
                                   "activation_function", "layer_norm_epsilon", "attention_softmax_in_fp32",
                                   "scale_attention_softmax_in_fp32", NULL};

const Architecture architecture_starcoder2 = {
    .model_type = "starcoder2",
    .causal_class = "Starcoder2ForCausalLM",
    .score_class = "Starcoder2ForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, [LINEAR_UP] = "mlp.c_fc", [LINEAR_DOWN] = "mlp.c_proj"},
    .norm = {LLAMA_NORMS},
    .norm_bias = true,
    .keys = keys,
    .read = read_starcoder2,
    .bias = bias_everywhere};
