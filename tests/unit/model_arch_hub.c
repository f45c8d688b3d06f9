/* Models with code on the hub: what their real config.json says becomes the mathematics that their code has, and what it does not
 * say, or says of something that is not here, is refused by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/arch.h"

#include <math.h>
#include <string.h>

static bool read_spec(const char *base, const char *changes, ModelSpec *spec, const Architecture **arch,
                      Error *error) {
  json_t *config = json_loads(base, 0, NULL), *extra = json_loads(changes, 0, NULL);
  assert_non_null(config);
  assert_non_null(extra);
  const char *key;
  json_t *value;
  json_object_foreach(extra, key, value) {
    if (json_is_string(value) && strcmp(json_string_value(value), "absent") == 0)
      json_object_del(config, key);
    else
      json_object_set(config, key, value);
  }
  *arch = architecture_find(config, error);
  const bool ok = *arch && architecture_read(*arch, config, spec, error);
  json_decref(config);
  json_decref(extra);
  return ok;
}

static ModelSpec spec_of(const char *base, const char *changes, const char *causal_class) {
  ModelSpec spec;
  const Architecture *arch;
  Error error = {0};
  if (!read_spec(base, changes, &spec, &arch, &error)) fail_msg("%s", error.message);
  assert_string_equal(arch->causal_class, causal_class);
  return spec;
}

static const char baichuan_7b[] =
    "{\"architectures\": [\"BaiChuanForCausalLM\"], \"model_type\": \"baichuan\", \"hidden_act\": \"silu\", "
    "\"hidden_size\": 4096, \"intermediate_size\": 11008, \"max_position_embeddings\": 4096, "
    "\"num_attention_heads\": 32, "
    "\"num_hidden_layers\": 32, \"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": false, \"vocab_size\": "
    "64000, "
    "\"auto_map\": {\"AutoConfig\": \"configuration_baichuan.BaiChuanConfig\"}}";

static const char baichuan_13b[] =
    "{\"architectures\": [\"BaichuanForCausalLM\"], \"model_type\": \"baichuan\", \"_from_model_config\": "
    "true, "
    "\"gradient_checkpointing\": false, \"hidden_act\": \"silu\", \"hidden_size\": 5120, "
    "\"intermediate_size\": 13696, "
    "\"model_max_length\": 4096, \"num_attention_heads\": 40, \"num_hidden_layers\": 40, \"rms_norm_eps\": "
    "1e-06, "
    "\"tie_word_embeddings\": false, \"vocab_size\": 64000}";

#define SECOND  "{\"vocab_size\": 125696, \"z_loss_weight\": 0}"
#define CLASS_2 "BaichuanForCausalLM"

static void baichuan_is_four_models(void **state) {
  (void)state;
  ModelSpec s = spec_of(baichuan_7b, "{}", "BaiChuanForCausalLM");
  assert_int_equal(s.position, POSITION_ROTARY);
  assert_int_equal(s.rotary_size, 128);
  assert_int_equal(s.qkv, QKV_BLOCKS);
  assert_false(s.head_normalized);
  s = spec_of(baichuan_13b, "{}", CLASS_2);
  assert_int_equal(s.position, POSITION_ALIBI);
  assert_int_equal(s.max_positions, 4096);
  assert_false(s.head_normalized);
  s = spec_of(baichuan_13b, SECOND, CLASS_2);
  assert_int_equal(s.position, POSITION_ALIBI);
  assert_true(s.head_normalized);
  s = spec_of(baichuan_7b,
              "{\"architectures\": [\"" CLASS_2 "\"], \"model_max_length\": 4096, \"vocab_size\": 125696}",
              CLASS_2);
  assert_int_equal(s.position, POSITION_ROTARY);
  assert_true(s.head_normalized);
}

static void the_head_of_baichuan_is_told_by_vocabulary_or_key(void **state) {
  (void)state;
  assert_false(spec_of(baichuan_13b, "{\"vocab_size\": 64003}", CLASS_2).head_normalized);
  assert_true(spec_of(baichuan_13b, "{\"vocab_size\": 125699}", CLASS_2).head_normalized);
  assert_true(spec_of(baichuan_13b, "{\"vocab_size\": 100, \"z_loss_weight\": 0}", CLASS_2).head_normalized);
  assert_false(
      spec_of(baichuan_13b, "{\"vocab_size\": 100, \"z_loss_weight\": null}", CLASS_2).head_normalized);
}

static const char internlm[] =
    "{\"architectures\": [\"InternLMForCausalLM\"], \"model_type\": \"internlm\", \"bias\": true, "
    "\"hidden_act\": \"silu\", "
    "\"hidden_size\": 4096, \"intermediate_size\": 11008, \"max_position_embeddings\": 2048, "
    "\"num_attention_heads\": 32, "
    "\"num_hidden_layers\": 32, \"rms_norm_eps\": 1e-06, \"tie_word_embeddings\": false, \"vocab_size\": "
    "103168}";

static const char internlm2[] =
    "{\"architectures\": [\"InternLM2ForCausalLM\"], \"attn_implementation\": \"eager\", \"bias\": false, "
    "\"hidden_act\": \"silu\", "
    "\"hidden_size\": 4096, \"intermediate_size\": 14336, \"max_position_embeddings\": 32768, "
    "\"model_type\": \"internlm2\", "
    "\"num_attention_heads\": 32, \"num_hidden_layers\": 32, \"num_key_value_heads\": 8, \"pretraining_tp\": "
    "1, "
    "\"rms_norm_eps\": 1e-05, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}, \"rope_theta\": "
    "1000000, "
    "\"tie_word_embeddings\": false, \"vocab_size\": 92544}";

static void internlm_rotates_more_slowly_beyond_its_context(void **state) {
  (void)state;
  ModelSpec s = spec_of(internlm, "{}", "InternLMForCausalLM");
  assert_int_equal(s.rope.kind, ROPE_DYNAMIC);
  assert_true(s.rope.factor == 1 && s.rope.theta == 10000 && s.rope.original_max == 2048);
  s = spec_of(internlm, "{\"rotary\": {\"base\": 20000, \"type\": \"origin\"}}", "InternLMForCausalLM");
  assert_int_equal(s.rope.kind, ROPE_DEFAULT);
  assert_true(s.rope.theta == 20000);
  s = spec_of(internlm, "{\"rotary\": {\"base\": 10000, \"type\": \"dynamic\", \"scaling_factor\": 3}}",
              "InternLMForCausalLM");
  assert_true(s.rope.factor == 3);
  s = spec_of(internlm2, "{}", "InternLM2ForCausalLM");
  assert_int_equal(s.qkv, QKV_GROUPS);
  assert_int_equal(s.rope.kind, ROPE_DYNAMIC);
  assert_true(s.rope.factor == 2 && s.rope.original_max == 32768);
}

/* How many linears of a block have a bias. */
static int biases(const char *base, const char *changes) {
  ModelSpec spec;
  const Architecture *arch;
  Error error = {0};
  if (!read_spec(base, changes, &spec, &arch, &error)) fail_msg("%s", error.message);
  json_t *config = json_loads(base, 0, NULL), *extra = json_loads(changes, 0, NULL);
  json_object_update(config, extra);
  int count = 0;
  for (int role = 0; role < LINEAR_ROLES; role++)
    count +=
        arch->linear[role] && (arch->bias ? arch->bias(config, (LinearRole)role) : arch->linear_bias[role]);
  json_decref(config);
  json_decref(extra);
  return count;
}

static const char chatglm2[] =
    "{\"model_type\": \"chatglm\", \"architectures\": [\"ChatGLMModel\"], \"add_bias_linear\": false, "
    "\"add_qkv_bias\": true, "
    "\"apply_query_key_layer_scaling\": true, \"apply_residual_connection_post_layernorm\": false, "
    "\"attention_dropout\": 0.0, \"attention_softmax_in_fp32\": true, \"bias_dropout_fusion\": true, "
    "\"ffn_hidden_size\": 13696, \"fp32_residual_connection\": false, \"hidden_dropout\": 0.0, "
    "\"hidden_size\": 4096, "
    "\"kv_channels\": 128, \"layernorm_epsilon\": 1e-05, \"multi_query_attention\": true, "
    "\"multi_query_group_num\": 2, "
    "\"num_attention_heads\": 32, \"num_layers\": 28, \"original_rope\": true, \"padded_vocab_size\": 65024, "
    "\"post_layer_norm\": true, \"rmsnorm\": true, \"seq_length\": 32768, \"use_cache\": true, "
    "\"torch_dtype\": \"float16\", \"tie_word_embeddings\": false, \"eos_token_id\": 2}";
#define CHATGLM "ChatGLMForConditionalGeneration"

static void chatglm_rotates_half_of_each_head(void **state) {
  (void)state;
  ModelSpec s = spec_of(chatglm2, "{}", CHATGLM);
  assert_int_equal(s.rotary_size, 64);
  assert_true(s.rotary_interleaved && s.gate_up_fused);
  assert_int_equal(s.kv_heads, 2);
  assert_int_equal(s.qkv, QKV_BLOCKS);
  assert_int_equal(s.vocab, 65024);
  s = spec_of(chatglm2, "{\"rope_ratio\": 500, \"seq_length\": 131072, \"num_hidden_layers\": 28}",
              CHATGLM); /* GLM-4 */
  assert_true(s.rope.theta == 5e6);
  assert_int_equal(s.max_positions, 131072);
  s = spec_of(chatglm2, "{\"multi_query_attention\": \"absent\"}", CHATGLM);
  assert_int_equal(s.qkv, QKV_HEADS);
  assert_int_equal(s.kv_heads, 32);
}

static const char minicpm[] =
    "{\"architectures\": [\"MiniCPMForCausalLM\"], \"hidden_act\": \"silu\", \"hidden_size\": 2304, "
    "\"initializer_range\": 0.1, "
    "\"intermediate_size\": 5760, \"max_position_embeddings\": 2048, \"num_attention_heads\": 36, "
    "\"num_hidden_layers\": 40, "
    "\"num_key_value_heads\": 36, \"rms_norm_eps\": 1e-05, \"rope_scaling\": null, \"torch_dtype\": "
    "\"bfloat16\", "
    "\"vocab_size\": 122753, \"scale_emb\": 12, \"dim_model_base\": 256, \"scale_depth\": 1.4}";
#define MINICPM "MiniCPMForCausalLM"

static void minicpm_is_found_by_its_class_and_scaled(void **state) {
  (void)state;
  ModelSpec s = spec_of(minicpm, "{}", MINICPM);
  assert_true(s.tied);
  assert_true(s.embedding_scale == 12 && !s.embedding_scale_rounded);
  assert_true(fabs(s.residual_scale - 1.4 / sqrt(40)) < 1e-7);
  assert_true(fabs(s.logit_scale - 256.0 / 2304) < 1e-7);
  assert_false(
      spec_of(minicpm, "{\"model_type\": \"minicpm\", \"tie_word_embeddings\": false}", MINICPM).tied);
  assert_int_equal(
      spec_of(minicpm, "{\"architectures\": [\"MiniCPMForSequenceClassification\"]}", MINICPM).hidden, 2304);
}

static const char exaone[] =
    "{\"activation_function\": \"silu\", \"architectures\": [\"ExaoneForCausalLM\"], \"attention_dropout\": "
    "0.0, "
    "\"bos_token_id\": 1, \"embed_dropout\": 0.0, \"eos_token_id\": 361, \"hidden_size\": 4096, "
    "\"intermediate_size\": 14336, "
    "\"layer_norm_epsilon\": 1e-05, \"max_position_embeddings\": 4096, \"model_type\": \"exaone\", "
    "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"num_layers\": 32, \"pad_token_id\": 0, "
    "\"rope_scaling\": null, \"rope_theta\": 500000.0, \"tie_word_embeddings\": false, \"vocab_size\": "
    "102400}";

static const char exaone_of_transformers[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, \"head_dim\": 128, "
    "\"hidden_act\": \"silu\", "
    "\"hidden_size\": 4096, \"intermediate_size\": 14336, \"max_position_embeddings\": 4096, \"mlp_bias\": "
    "false, "
    "\"model_type\": \"exaone\", \"num_attention_heads\": 32, \"num_hidden_layers\": 32, "
    "\"num_key_value_heads\": 8, "
    "\"rms_norm_eps\": 1e-05, \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"default\"}, "
    "\"tie_word_embeddings\": false, \"vocab_size\": 102400}";

static void exaone_is_spelled_in_two_ways(void **state) {
  (void)state;
  const ModelSpec hub = spec_of(exaone, "{}", "ExaoneForCausalLM");
  const ModelSpec other = spec_of(exaone_of_transformers, "{}", "ExaoneForCausalLM");
  assert_memory_equal(&hub, &other, sizeof hub);
  assert_int_equal(hub.layers, 32);
}

static const char qwen[] =
    "{\"architectures\": [\"QWenLMHeadModel\"], \"attn_dropout_prob\": 0.0, \"bf16\": false, "
    "\"emb_dropout_prob\": 0.0, "
    "\"fp16\": false, \"fp32\": false, \"hidden_size\": 4096, \"intermediate_size\": 22016, "
    "\"initializer_range\": 0.02, "
    "\"kv_channels\": 128, \"layer_norm_epsilon\": 1e-06, \"max_position_embeddings\": 32768, "
    "\"model_type\": \"qwen\", "
    "\"no_bias\": true, \"num_attention_heads\": 32, \"num_hidden_layers\": 32, \"onnx_safe\": null, "
    "\"rotary_emb_base\": 10000, \"rotary_pct\": 1.0, \"scale_attn_weights\": true, \"seq_length\": 8192, "
    "\"tie_word_embeddings\": false, \"use_cache\": true, \"use_dynamic_ntk\": true, \"use_flash_attn\": "
    "\"auto\", "
    "\"use_logn_attn\": true, \"vocab_size\": 151936}";
#define QWEN "QWenLMHeadModel"

static void qwen_has_half_an_mlp_and_a_context_without_tricks(void **state) {
  (void)state;
  ModelSpec s = spec_of(qwen, "{}", QWEN);
  assert_int_equal(s.intermediate, 11008);
  assert_int_equal(s.max_positions, 8192);
  assert_true(s.positions_end);
  assert_false(spec_of(qwen, "{\"use_dynamic_ntk\": false, \"use_logn_attn\": false}", QWEN).positions_end);
  assert_true(spec_of(qwen, "{\"use_logn_attn\": false}", QWEN).positions_end);
  assert_int_equal(spec_of(qwen, "{\"use_dynamic_ntk\": false}", QWEN).max_positions, 8192);
  assert_int_equal(
      spec_of(qwen, "{\"use_dynamic_ntk\": false, \"use_logn_attn\": false}", QWEN).max_positions, 32768);
}

static void biases_are_where_the_code_has_them(void **state) {
  (void)state;
  assert_int_equal(biases(baichuan_7b, "{}"), 0);
  assert_int_equal(biases(internlm, "{}"), 4);
  assert_int_equal(biases(internlm, "{\"bias\": false}"), 0);
  assert_int_equal(biases(internlm2, "{}"), 0);
  assert_int_equal(biases(internlm2, "{\"bias\": true}"), 2);
  assert_int_equal(biases(internlm2, "{\"model_type\": \"internlm3\", \"bias\": true, \"qkv_bias\": true}"),
                   7);
  assert_int_equal(biases(chatglm2, "{}"), 1);
  assert_int_equal(biases(chatglm2, "{\"add_bias_linear\": true, \"add_qkv_bias\": false}"), 4);
  assert_int_equal(biases(qwen, "{}"), 1);
  assert_int_equal(biases(qwen, "{\"no_bias\": false}"), 5);
}

static void what_is_not_here_is_refused_by_name(void **state) {
  (void)state;
  const struct {
    const char *base, *changes, *message;
  } cases[] = {
      {baichuan_13b, "{\"model_max_length\": null}",
       "expected \"max_position_embeddings\" (rotary positions: 7B)"},
      {baichuan_13b, "{\"max_position_embeddings\": 4096}",
       "\"max_position_embeddings\" is there, but a hidden_size of 5120 is that of Baichuan 13B, which has "
       "ALiBi"},
      {baichuan_7b, "{\"max_position_embeddings\": null, \"model_max_length\": 4096}",
       "\"max_position_embeddings\" is not there, but a hidden_size of 4096 is that of Baichuan 7B"},
      {baichuan_13b, "{\"vocab_size\": 100000}", "vocab_size: 100000 tells neither Baichuan 1 (64000) nor"},
      {baichuan_13b, "{\"vocab_size\": 1000}", "add \"z_loss_weight\": 0 where the code has NormHead"},
      {baichuan_13b, "{\"vocab_size\": 125696, \"z_loss_weight\": 2e-4}",
       "z_loss_weight: 0.0002 is not supported"},
      {baichuan_13b, "{\"vocab_size\": 125696, \"tie_word_embeddings\": true}",
       "tie_word_embeddings: not supported"},
      {baichuan_7b, "{\"num_key_value_heads\": 8}", "num_key_value_heads: not known for baichuan"},
      {baichuan_7b, "{\"rope_theta\": 5e5}", "rope_theta: not known for baichuan"},
      {internlm, "{\"rotary\": {\"type\": \"linear\"}}",
       "rotary: type \"linear\" is not supported (known: dynamic, origin)"},
      {internlm, "{\"rotary\": {\"base\": -1}}", "rotary: expected a base and a scaling_factor above 0"},
      {internlm, "{\"rotary\": {\"theta\": 1}}", "rotary: \"theta\" is not known"},
      {internlm, "{\"bias\": 1}", "bias: expected true or false"},
      {internlm2, "{\"head_dim\": 64}", "head_dim: not known for internlm2"},
      {internlm2, "{\"model_type\": \"internlm3\", \"bias\": true}",
       "qkv_bias and bias (attention_bias and mlp_bias) differ"},
      {chatglm2, "{\"position_encoding_2d\": true}",
       "position_encoding_2d: the first ChatGLM-6B is not supported"},
      {chatglm2, "{\"num_hidden_layers\": 40}",
       "num_layers and num_hidden_layers are two names of one number, and differ"},
      {chatglm2, "{\"rmsnorm\": false}", "rmsnorm: false is not supported"},
      {chatglm2, "{\"post_layer_norm\": false}", "post_layer_norm: false is not supported"},
      {chatglm2, "{\"original_rope\": false}", "original_rope: false is not supported"},
      {chatglm2, "{\"apply_residual_connection_post_layernorm\": true}",
       "apply_residual_connection_post_layernorm: true"},
      {chatglm2, "{\"fp32_residual_connection\": true}", "fp32_residual_connection: not known for chatglm"},
      {chatglm2, "{\"quantization_bit\": 4}", "quantization_bit: quantised checkpoints are not supported"},
      {chatglm2, "{\"pre_seq_len\": 128}", "pre_seq_len: not known for chatglm"},
      {chatglm2, "{\"tie_word_embeddings\": true}", "tie_word_embeddings: true is not supported"},
      {chatglm2, "{\"rope_ratio\": 0}", "rope_ratio: expected a number above 0"},
      {chatglm2, "{\"rotary_percent\": 0.5}", "rotary_percent: 0.5 is not supported"},
      {chatglm2, "{\"vocab_size\": 64794}",
       "vocab_size is 64794 and padded_vocab_size 65024: expected the same"},
      {minicpm, "{\"scale_depth\": 0}", "scale_depth: expected a number above 0"},
      {minicpm, "{\"pretraining_tp\": 2}", "pretraining_tp: 2 is not supported"},
      {minicpm, "{\"sparse_config\": {\"topk\": 64}}", "sparse_config: sparse attention is not supported"},
      {minicpm, "{\"architectures\": [\"MiniCPM3ForCausalLM\"]}", "model_type: expected one of llama"},
      {exaone, "{\"tie_word_embeddings\": \"absent\"}", "tie_word_embeddings: expected a value"},
      {exaone, "{\"rope_theta\": \"absent\"}", "rope_theta: expected a value"},
      {exaone, "{\"rms_norm_eps\": 1e-6}", "layer_norm_epsilon and rms_norm_eps are two names of one thing"},
      {exaone, "{\"num_hidden_layers\": 30}", "num_layers and num_hidden_layers are two names of one number"},
      {exaone, "{\"rotary_pct\": 0.25}", "rotary_pct: not known for exaone"},
      {qwen, "{\"intermediate_size\": 11007}", "intermediate_size: expected an even number"},
      {qwen, "{\"scale_attn_weights\": false}", "scale_attn_weights: false is not supported"},
      {qwen, "{\"kv_channels\": 64}", "hidden_size 4096 is not 32 heads of 64 kv_channels"},
      {qwen, "{\"use_cache_quantization\": true}", "use_cache_quantization: not known for qwen"},
      {qwen, "{\"visual\": {\"heads\": 16}}", "visual: not known for qwen"},
      {qwen, "{\"model_type\": \"Yi\"}", "rms_norm_eps: expected a value, found nothing"},
      {qwen, "{\"model_type\": \"orion\"}", "rms_norm_eps: expected a value, found nothing"},
      {qwen, "{\"model_type\": \"xverse\", \"quantization_bit\": 8}",
       "quantization_bit: quantised checkpoints"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    ModelSpec spec;
    const Architecture *arch;
    assert_false(read_spec(cases[i].base, cases[i].changes, &spec, &arch, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].message))
      fail_msg("case %zu: \"%s\" is not in \"%s\"", i, cases[i].message, error.message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(baichuan_is_four_models),
                                     cmocka_unit_test(the_head_of_baichuan_is_told_by_vocabulary_or_key),
                                     cmocka_unit_test(internlm_rotates_more_slowly_beyond_its_context),
                                     cmocka_unit_test(chatglm_rotates_half_of_each_head),
                                     cmocka_unit_test(minicpm_is_found_by_its_class_and_scaled),
                                     cmocka_unit_test(exaone_is_spelled_in_two_ways),
                                     cmocka_unit_test(qwen_has_half_an_mlp_and_a_context_without_tricks),
                                     cmocka_unit_test(biases_are_where_the_code_has_them),
                                     cmocka_unit_test(what_is_not_here_is_refused_by_name)};
  return cmocka_run_group_tests_name("unit/model_arch_hub", tests, NULL, NULL);
}
