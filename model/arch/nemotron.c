/* Nemotron and Minitron: layer norms that multiply by 1 + w, a plain MLP of the squared ReLU, half of each head rotates. And
 * Arcee's AFM: LLaMA with that MLP. */
#include "model/arch/llama_like.h"

static bool read_nemotron(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {.max_positions = 4096,
                                  .eps_key = "norm_eps",
                                  .eps = 1e-5,
                                  .activation = "relu2",
                                  .rope = {.theta = 10000, .part = 0.5}};
  if (!llama_like_read(config, defaults, spec, error)) return false;
  spec->norm.kind = NORM_LAYER;
  spec->norm.weight_offset = 1;
  spec->gated = false;
  return true;
}

static bool read_arcee(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 4096, .eps = 1e-5, .activation = "relu2", .rope = {.theta = 10000}};
  if (!llama_like_read(config, defaults, spec, error)) return false;
  spec->gated = false;
  return true;
}

static const char *const nemotron_keys[] = {LLAMA_KEYS, "norm_eps", "attention_bias", "mlp_bias", NULL};
static const char *const arcee_keys[] = {LLAMA_KEYS, "attention_bias", "mlp_bias", NULL};

#define PLAIN_MLP [LINEAR_UP] = "mlp.up_proj", [LINEAR_DOWN] = "mlp.down_proj"

const Architecture architecture_nemotron = {.model_type = "nemotron",
                                            .causal_class = "NemotronForCausalLM",
                                            .score_class = "NemotronForSequenceClassification",
                                            LLAMA_FRAME,
                                            .linear = {LLAMA_ATTENTION, PLAIN_MLP},
                                            .norm = {LLAMA_NORMS},
                                            .norm_bias = true,
                                            .keys = nemotron_keys,
                                            .read = read_nemotron,
                                            .bias = bias_attention_mlp};

const Architecture architecture_arcee = {.model_type = "arcee",
                                         .causal_class = "ArceeForCausalLM",
                                         .score_class = "ArceeForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, PLAIN_MLP},
                                         .norm = {LLAMA_NORMS},
                                         .keys = arcee_keys,
                                         .read = read_arcee,
                                         .bias = bias_attention_mlp};
