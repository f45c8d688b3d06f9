/* Phi-3, Phi-3.5 and Phi-4: LLaMA with fused linears, rotary factors of their own for long sequences, and in Phi-4-mini heads
 * that rotate in part. */
#include "model/arch/llama_like.h"

static bool read_phi3(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 4096,
      .eps = 1e-5,
      .rope = {.theta = 10000, .part = 1, .original_max = 4096, .longrope_alone = true}};
  if (!llama_like_read(config, defaults, spec, error)) return false;
  spec->qkv = QKV_BLOCKS;
  spec->gate_up_fused = true;
  /* Keys of the released files beside those that Transformers reads. */
  return llama_like_window(config, 0, spec, error) && config_expect(config, "full_attn_mod", "1", error) &&
         config_expect(config, "interpolate_factor", "1", error);
}

static const char *const keys[] = {LLAMA_KEYS, "sliding_window", "full_attn_mod", "interpolate_factor", NULL};

const Architecture architecture_phi3 = {.model_type = "phi3",
                                        .causal_class = "Phi3ForCausalLM",
                                        .score_class = "Phi3ForSequenceClassification",
                                        LLAMA_FRAME,
                                        .linear = {[LINEAR_QKV] = "self_attn.qkv_proj",
                                                   [LINEAR_O] = "self_attn.o_proj",
                                                   [LINEAR_GATE_UP] = "mlp.gate_up_proj",
                                                   [LINEAR_DOWN] = "mlp.down_proj"},
                                        .norm = {LLAMA_NORMS},
                                        .keys = keys,
                                        .read = read_phi3};
