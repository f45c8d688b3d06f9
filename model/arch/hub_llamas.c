/* Models with code on the hub that are LLaMA but for a word: Aquila and Aquila2, XVERSE, Orion (layer norms with bias), and Yi
 * before it became a Llama (other names of norms). What their configuration classes say of absent keys was not always to be found:
 * such keys must be there. */
#include "model/arch/llama_like.h"

static bool need(const Reader *config, const char *const *keys, Error *error) {
  for (; *keys; keys++)
    if (!reader_has(config, *keys))
      return reader_fail(config, error, "%s: expected a value, found nothing", *keys);
  return true;
}

static const LlamaDefaults usual = {.max_positions = 2048, .rope = {.theta = 10000}};

static bool read_aquila(const Reader *config, ModelSpec *spec, Error *error) {
  return llama_like_read(config, usual, spec, error);
}

static bool read_xverse(const Reader *config, ModelSpec *spec, Error *error) {
  int64_t bits;
  if (!config_int_or(config, "quantization_bit", 0, &bits, error)) return false;
  if (bits != 0)
    return reader_fail(config, error, "quantization_bit: quantised checkpoints are not supported");
  return llama_like_read(config, (LlamaDefaults){.max_positions = 8192, .rope = {.theta = 10000}}, spec,
                         error);
}

static bool read_orion(const Reader *config, ModelSpec *spec, Error *error) {
  static const char *const needed[] = {"rms_norm_eps", "max_position_embeddings", NULL};
  if (!need(config, needed, error) || !llama_like_read(config, usual, spec, error)) return false;
  spec->norm.kind = NORM_LAYER;
  return true;
}

static bool read_yi(const Reader *config, ModelSpec *spec, Error *error) {
  static const char *const needed[] = {"rms_norm_eps", "max_position_embeddings", "rope_theta",
                                       "num_key_value_heads", NULL};
  return need(config, needed, error) && llama_like_read(config, usual, spec, error);
}

/* clang-format off */
#define KEYS                                                                                       \
  "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",                  \
  "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_theta",    \
  "rope_scaling"
/* clang-format on */

static const char *const plain_keys[] = {KEYS, NULL};
static const char *const xverse_keys[] = {KEYS, "quantization_bit", "initializer_weight",
                                          "max_tokenizer_truncation", NULL};
static const char *const orion_keys[] = {KEYS, "attention_bias", NULL};

const Architecture architecture_aquila = {.model_type = "aquila",
                                          .causal_class = "AquilaForCausalLM",
                                          .score_class = "AquilaForSequenceClassification",
                                          LLAMA_FRAME,
                                          .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                          .norm = {LLAMA_NORMS},
                                          .keys = plain_keys,
                                          .read = read_aquila};

const Architecture architecture_xverse = {.model_type = "xverse",
                                          .causal_class = "XverseForCausalLM",
                                          .score_class = "XverseForSequenceClassification",
                                          LLAMA_FRAME,
                                          .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                          .norm = {LLAMA_NORMS},
                                          .keys = xverse_keys,
                                          .read = read_xverse};

const Architecture architecture_orion = {.model_type = "orion",
                                         .causal_class = "OrionForCausalLM",
                                         .score_class = "OrionForSequenceClassification",
                                         LLAMA_FRAME,
                                         .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                         .norm = {LLAMA_NORMS},
                                         .norm_bias = true,
                                         .keys = orion_keys,
                                         .read = read_orion,
                                         .bias = bias_attention};

const Architecture architecture_yi = {.model_type = "Yi",
                                      .causal_class = "YiForCausalLM",
                                      .score_class = "YiForSequenceClassification",
                                      LLAMA_FRAME,
                                      .linear = {LLAMA_ATTENTION, LLAMA_MLP},
                                      .norm = {[NORM_ATTENTION] = "ln1", [NORM_MLP] = "ln2"},
                                      .keys = plain_keys,
                                      .read = read_yi};
