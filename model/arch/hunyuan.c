/* HunYuan (dense): LLaMA with a norm of each query and key head after the rotation, whose base grows by a fixed power of "alpha". */
#include "model/arch/llama_like.h"

#include <math.h>

/* With "alpha" the type is called dynamic, and nothing depends on the length. */
static bool read_alpha(const Reader *config, ModelSpec *spec, Error *error) {
  Reader rope;
  double alpha;
  if (!config_rope_object(config, &rope, error) || !config_float_or(&rope, "alpha", 0, &alpha, error))
    return false;
  if (alpha == 0 || spec->rope.kind != ROPE_DYNAMIC) return true;
  if (!(alpha > 0)) return reader_fail(&rope, error, "alpha: expected a number above 0, found %g", alpha);
  if (spec->head_size <= 2)
    return reader_fail(&rope, error, "alpha: heads of %lld elements are too small",
                       (long long)spec->head_size);
  const double power = (double)spec->head_size / (double)(spec->head_size - 2);
  spec->rope = (RopeSpec){.kind = ROPE_DEFAULT, .theta = spec->rope.theta * pow(alpha, power)};
  return true;
}

static bool read_hunyuan(const Reader *config, ModelSpec *spec, Error *error) {
  const LlamaDefaults defaults = {
      .max_positions = 2048, .eps = 1e-5, .rope = {.theta = 10000, .own_key = "alpha"}};
  spec->qk_norm = QK_NORM_HEAD;
  spec->qk_norm_rotated = true;
  return llama_like_read(config, defaults, spec, error) && read_alpha(config, spec, error) &&
         config_expect(config, "use_qk_norm", "true", error);
}

static const char *const keys[] = {LLAMA_KEYS, "attention_bias", "use_qk_norm", "eod_token_id", NULL};

const Architecture architecture_hunyuan = {
    .model_type = "hunyuan_v1_dense",
    .causal_class = "HunYuanDenseV1ForCausalLM",
    .score_class = "HunYuanDenseV1ForSequenceClassification",
    LLAMA_FRAME,
    .linear = {LLAMA_ATTENTION, LLAMA_MLP},
    .norm = {LLAMA_NORMS, [NORM_Q] = "self_attn.query_layernorm", [NORM_K] = "self_attn.key_layernorm"},
    .keys = keys,
    .read = read_hunyuan,
    .bias = bias_attention};
