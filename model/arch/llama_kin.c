/* Models that are LLaMA but for a default or a bias: Seed-OSS, ERNIE 4.5 (dense), Helium. */
#include "model/arch/llama_like.h"

static bool read_seed_oss(const Reader *config, ModelSpec *spec, Error *error) {
  return llama_like_read(
      config,
      (LlamaDefaults){.max_positions = 524288, .kv_heads = 8, .head_size = 128, .rope = {.theta = 10000}},
      spec, error);
}

static bool seed_oss_bias(const json_t *config, LinearRole role) {
  if (role == LINEAR_O) return json_is_true(json_object_get(config, "attention_out_bias"));
  if (role == LINEAR_Q || role == LINEAR_K || role == LINEAR_V)
    return !json_is_false(json_object_get(config, "attention_bias"));
  return json_is_true(json_object_get(config, "mlp_bias"));
}

static bool read_ernie(const Reader *config, ModelSpec *spec, Error *error) {
  spec->rotary_interleaved = true;
  return llama_like_read(config,
                         (LlamaDefaults){.max_positions = 131072,
                                         .kv_heads = 2,
                                         .head_size = 128,
                                         .eps = 1e-5,
                                         .tied = true,
                                         .rope = {.theta = 500000}},
                         spec, error);
}

static bool ernie_bias(const json_t *config, LinearRole role) {
  (void)role;
  return json_is_true(json_object_get(config, "use_bias"));
}

static bool read_helium(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 4096, .kv_heads = 20, .head_size = 128, .eps = 1e-8, .rope = {.theta = 100000}};
  spec->rotary_interleaved = true;
  return llama_like_read(config, defaults, spec, error);
}

static bool helium_bias(const json_t *config, LinearRole role) {
  return role != LINEAR_O && bias_attention_mlp(config, role);
}

static const char *const seed_oss_keys[] = {LLAMA_KEYS, "attention_bias", "attention_out_bias", "mlp_bias",
                                            NULL};
static const char *const ernie_keys[] = {LLAMA_KEYS, "use_bias", NULL};
static const char *const helium_keys[] = {LLAMA_KEYS, "attention_bias", "mlp_bias", NULL};

const Architecture architecture_seed_oss = {.model_type = "seed_oss",
                                            .causal_class = "SeedOssForCausalLM",
                                            .score_class = "SeedOssForSequenceClassification",
                                            LLAMA_FRAME,
                                            .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                            .norm = {LLAMA_NORMS},
                                            .keys = seed_oss_keys,
                                            .read = read_seed_oss,
                                            .bias = seed_oss_bias};

const Architecture architecture_ernie4_5 = {.model_type = "ernie4_5",
                                            .causal_class = "Ernie4_5ForCausalLM",
                                            .score_class = "Ernie4_5ForSequenceClassification",
                                            LLAMA_FRAME,
                                            .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                            .norm = {LLAMA_NORMS},
                                            .keys = ernie_keys,
                                            .read = read_ernie,
                                            .bias = ernie_bias};

const Architecture architecture_helium = {.model_type = "helium",
                                          .causal_class = "HeliumForCausalLM",
                                          .score_class = "HeliumForSequenceClassification",
                                          LLAMA_FRAME,
                                          .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                          .norm = {LLAMA_NORMS},
                                          .keys = helium_keys,
                                          .read = read_helium,
                                          .bias = helium_bias};
