/* What LLaMA shares with the many models that were built like it: names, keys, how they are read. */
#ifndef MODEL_ARCH_LLAMA_LIKE_H
#define MODEL_ARCH_LLAMA_LIKE_H

#include "model/arch/list.h"

/* Values of keys that a config lacks: those of the family's configuration class in Transformers. */
typedef struct LlamaDefaults {
  int64_t vocab, hidden, intermediate, layers,
      heads;        /* 0 = the key must be there, as in all files but Gemma 3's */
  int64_t kv_heads; /* 0 = as many as heads; null always means as many as heads */
  int64_t max_positions;
  int64_t head_size;                       /* 0 = hidden / heads */
  const char *eps_key;                     /* NULL = "rms_norm_eps" */
  double eps;                              /* 0 = 1e-6 */
  const char *activation_key, *activation; /* NULL = "hidden_act", "silu" */
  bool tied;
  RopeDefaults rope; /* theta 0: rotary keys are left to the caller */
} LlamaDefaults;

/* Sizes, heads, norm, activation, tying, rotary table: a pre-norm block of RMS norms, three projections, a gated MLP. */
NODISCARD bool llama_like_read(const Reader *config, LlamaDefaults defaults, ModelSpec *spec, Error *error);

/* Windows of the layers: "sliding_window" (`fallback` when the key is absent; null = none) for those layers that `windowed`
 * says, or "layer_types" where it is there; `windowed` receives what holds. ERROR_MODEL for a layer with a window when there is
 * none. */
NODISCARD bool llama_like_windows(const Reader *config, int64_t fallback, bool windowed[MODEL_MAX_LAYERS],
                                  ModelSpec *spec, Error *error);
/* All layers but each `period`-th have a window; 0 = none has. */
void windows_every(int64_t period, bool windowed[MODEL_MAX_LAYERS]);
/* One window for all layers: "sliding_window", null = none. */
NODISCARD bool llama_like_window(const Reader *config, int64_t fallback, ModelSpec *spec, Error *error);

/* Biases: "attention_bias" of q, k, v and o; "mlp_bias" of the others; absent = none. */
bool bias_attention_mlp(const json_t *config, LinearRole role);
bool bias_attention(const json_t *config, LinearRole role); /* of q, k, v and o alone */

/* clang-format off */
#define LLAMA_KEYS                                                                                                       \
  "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",     \
  "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_theta", "rope_scaling", "rope_parameters",              \
  "partial_rotary_factor", "original_max_position_embeddings"

#define LLAMA_ATTENTION                                                                                                  \
  [LINEAR_Q] = "self_attn.q_proj", [LINEAR_K] = "self_attn.k_proj",                                                      \
  [LINEAR_V] = "self_attn.v_proj", [LINEAR_O] = "self_attn.o_proj"
#define LLAMA_MLP [LINEAR_GATE] = "mlp.gate_proj", [LINEAR_UP] = "mlp.up_proj", [LINEAR_DOWN] = "mlp.down_proj"
#define LLAMA_NORMS [NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"

/* Names around the blocks. */
#define LLAMA_FRAME                                                                                                      \
  .prefix = "model.", .layer = "layers.%d.", .embedding = "embed_tokens", .final_norm = "norm", .head = "lm_head"
/* clang-format on */

#endif
