/* Baichuan 1 and 2, whose code is on the hub: LLaMA with q, k and v in one linear, W_pack. One model_type has four files of code:
 *
 *            positions   head
 *   1   7B   rotary      a linear        class BaiChuanForCausalLM
 *   1  13B   ALiBi       a linear
 *   2   7B   rotary      NormHead        NormHead: a linear whose rows are made unit length
 *   2  13B   ALiBi       NormHead
 *
 * The code with rotation reads max_position_embeddings, that with ALiBi model_max_length alone. Of the heads config.json says
 * nothing: Baichuan 1 has 64000 tokens, Baichuan 2 125696, and the configuration class of 2 alone writes z_loss_weight. */
#include "model/arch/llama_like.h"

#include <string.h>

enum { VOCAB_1 = 64000, VOCAB_1_EXTENDED = 65536, VOCAB_2 = 125696, HIDDEN_7B = 4096, HIDDEN_13B = 5120 };

static bool read_positions(const Reader *config, ModelSpec *spec, Error *error) {
  static const char *const longest = "max_position_embeddings", *const trained = "model_max_length";
  const bool rotary = reader_has(config, longest);
  if (!rotary && !reader_has(config, trained))
    return reader_fail(config, error, "expected \"%s\" (rotary positions: 7B) or \"%s\" (ALiBi: 13B)",
                       longest, trained);
  if (spec->hidden == (rotary ? HIDDEN_13B : HIDDEN_7B))
    return reader_fail(config, error,
                       "\"%s\" %s there, but a hidden_size of %d is that of Baichuan %s, which has %s",
                       longest, rotary ? "is" : "is not", (int)spec->hidden, rotary ? "13B" : "7B",
                       rotary ? "ALiBi" : "rotary positions");
  spec->position = rotary ? POSITION_ROTARY : POSITION_ALIBI;
  spec->rope = (RopeSpec){.kind = ROPE_DEFAULT, .theta = 10000};
  spec->rotary_size = rotary ? spec->head_size : 0;
  return config_size(config, rotary ? longest : trained, &spec->max_positions, error);
}

static bool is_first_7b(const json_t *config) {
  const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
  return name && strncmp(name, "BaiChuan", strlen("BaiChuan")) == 0;
}

static bool is_other(const json_t *config) {
  return !is_first_7b(config);
}

static bool read_head(const Reader *config, ModelSpec *spec, Error *error) {
  double weight;
  if (!config_float_or(config, "z_loss_weight", 0, &weight, error)) return false;
  if (weight != 0)
    return reader_fail(config, error,
                       "z_loss_weight: %g is not supported: set it to 0 to train without this loss", weight);
  const json_t *given = json_object_get(config->value, "z_loss_weight");
  if (is_first_7b(config->value)) return true;
  if (!given && (spec->vocab < VOCAB_1 || spec->vocab >= VOCAB_1_EXTENDED) && spec->vocab < VOCAB_2)
    return reader_fail(
        config, error,
        "vocab_size: %d tells neither Baichuan 1 (%d) nor Baichuan 2 (%d): add \"z_loss_weight\": 0 "
        "where the code has NormHead, null where its lm_head is a linear",
        (int)spec->vocab, VOCAB_1, VOCAB_2);
  spec->head_normalized = given ? !json_is_null(given) : spec->vocab >= VOCAB_2;
  if (spec->head_normalized && spec->tied)
    return reader_fail(config, error, "tie_word_embeddings: not supported with NormHead");
  return true;
}

static bool read_baichuan(const Reader *config, ModelSpec *spec, Error *error) {
  if (!llama_like_read(config, (LlamaDefaults){.max_positions = 4096}, spec, error) ||
      !read_positions(config, spec, error) || !read_head(config, spec, error))
    return false;
  spec->qkv = QKV_BLOCKS;
  return true;
}

static const char *const keys[] = {"hidden_size",
                                   "intermediate_size",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "rms_norm_eps",
                                   "hidden_act",
                                   "max_position_embeddings",
                                   "z_loss_weight",
                                   NULL};

/* clang-format off */
#define BAICHUAN                                                        \
  .model_type = "baichuan", LLAMA_FRAME,                                \
  .linear = {[LINEAR_QKV] = "self_attn.W_pack",                         \
             [LINEAR_O] = "self_attn.o_proj", LLAMA_MLP},               \
  .norm = {LLAMA_NORMS}, .keys = keys, .read = read_baichuan
/* clang-format on */

const Architecture architecture_baichuan_7b = {BAICHUAN, .applies = is_first_7b,
                                               .causal_class = "BaiChuanForCausalLM",
                                               .score_class = "BaiChuanForSequenceClassification"};

const Architecture architecture_baichuan = {BAICHUAN, .applies = is_other,
                                            .causal_class = "BaichuanForCausalLM",
                                            .score_class = "BaichuanForSequenceClassification"};
