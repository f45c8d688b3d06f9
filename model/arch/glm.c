/* GLM-4 as Transformers has it: GLM-4-9B ("glm") and GLM-4-0414 ("glm4", with norms on both sides of each branch). A fused gate
 * and up, biases of q, k and v, neighbouring rotary pairs on half of each head. The files with code on the hub are "chatglm". */
#include "model/arch/llama_like.h"

static bool read_glm(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 131072,
                                  .kv_heads = 2,
                                  .head_size = 128,
                                  .eps = 1.5625e-7,
                                  .rope = {.theta = 10000, .part = 0.5}};
  if (!llama_like_read(config, defaults, spec, error)) return false;
  spec->gate_up_fused = true;
  spec->rotary_interleaved = true;
  return true;
}

static bool read_glm4(const Reader *config, ModelSpec *spec, Error *error) {
  spec->placement = NORM_SANDWICH;
  return read_glm(config, spec, error);
}

static bool bias_of_qkv(const json_t *config, LinearRole role) {
  return (role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V) &&
         !json_is_false(json_object_get(config, "attention_bias"));
}

static const char *const keys[] = {LLAMA_KEYS, "attention_bias", NULL};

#define FUSED_MLP [LINEAR_GATE_UP] = "mlp.gate_up_proj", [LINEAR_DOWN] = "mlp.down_proj"

const Architecture architecture_glm = {.model_type = "glm",
                                       .causal_class = "GlmForCausalLM",
                                       .score_class = "GlmForSequenceClassification",
                                       LLAMA_FRAME,
                                       .linear = {LLAMA_ATTENTION, FUSED_MLP},
                                       .norm = {LLAMA_NORMS},
                                       .keys = keys,
                                       .read = read_glm,
                                       .bias = bias_of_qkv};

const Architecture architecture_glm4 = {
    .model_type = "glm4",
    .causal_class = "Glm4ForCausalLM",
    .score_class = "Glm4ForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, FUSED_MLP},
    .norm = {LLAMA_NORMS, [NORM_ATTENTION_POST] = "post_self_attn_layernorm",
             [NORM_MLP_POST] = "post_mlp_layernorm"},
    .keys = keys,
    .read = read_glm4,
    .bias = bias_of_qkv};
