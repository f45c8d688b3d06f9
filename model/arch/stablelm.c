/* StableLM 2 and StableLM 3B: layer norms with biases around LLaMA's linears, a quarter of each head rotates; the 12B model reads
 * one norm in both branches and normalises each head of q and k with a weight of its own. */
#include "model/arch/llama_like.h"

static bool read_stablelm(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 4096,
                                  .kv_heads = 32,
                                  .eps_key = "layer_norm_eps",
                                  .eps = 1e-5,
                                  .rope = {.theta = 10000, .part = 0.25}};
  bool qk_norm;
  if (!config_refuse(config, "head_dim", "not known for stablelm: it is hidden_size / heads", error) ||
      !llama_like_read(config, defaults, spec, error) ||
      !config_bool_or(config, "qk_layernorm", false, &qk_norm, error) ||
      !config_bool_or(config, "use_parallel_residual", false, &spec->parallel, error))
    return false;
  spec->norm.kind = NORM_LAYER;
  spec->parallel_shared = spec->parallel;
  if (qk_norm) spec->qk_norm = QK_NORM_HEADS;
  /* Keys of the first files, beside those that Transformers reads: they must say the same. */
  double part;
  const double size = (double)spec->head_size;
  if (!config_float_or(config, "rope_pct", (double)spec->rotary_size / size, &part, error) ||
      !config_expect(config, "rotary_scaling_factor", "1", error))
    return false;
  return (int64_t)(size * part) == spec->rotary_size ||
         reader_fail(config, error, "rope_pct: %g, but %lld of %lld elements of a head rotate", part,
                     (long long)spec->rotary_size, (long long)spec->head_size);
}

static bool bias_of_qkv(const json_t *config, LinearRole role) {
  return (role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V) &&
         json_is_true(json_object_get(config, "use_qkv_bias"));
}

static const char *const keys[] = {LLAMA_KEYS,
                                   "layer_norm_eps",
                                   "use_qkv_bias",
                                   "qk_layernorm",
                                   "use_parallel_residual",
                                   "rope_pct",
                                   "rotary_scaling_factor",
                                   NULL};

const Architecture architecture_stablelm = {.model_type = "stablelm",
                                            .causal_class = "StableLmForCausalLM",
                                            .score_class = "StableLmForSequenceClassification",
                                            LLAMA_FRAME,
                                            .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                            .norm = {LLAMA_NORMS, [NORM_Q] = "self_attn.q_layernorm.norms.%d",
                                                     [NORM_K] = "self_attn.k_layernorm.norms.%d"},
                                            .norm_bias = true,
                                            .keys = keys,
                                            .read = read_stablelm,
                                            .bias = bias_of_qkv};
