/* GPT-J, GPT-Neo, BLOOM, OPT, MPT, Falcon, Phi: the keys that their real config.json have, defaults of absent ones, and what is
 * refused by name. (What the values mean is shown by tests/parity/architectures.c.) */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/arch.h"

#include <string.h>

/* Reads `base` with the keys of `changes` over it. */
static bool read_spec(const char *base, const char *changes, ModelSpec *spec, const Architecture **arch,
                      Error *error) {
  json_t *config = json_loads(base, 0, NULL), *extra = json_loads(changes, 0, NULL);
  assert_non_null(config);
  assert_non_null(extra);
  assert_int_equal(json_object_update(config, extra), 0);
  *arch = architecture_find(config, error);
  const bool ok = *arch && architecture_read(*arch, config, spec, error);
  json_decref(config);
  json_decref(extra);
  return ok;
}

static ModelSpec spec_of(const char *base, const char *changes) {
  ModelSpec spec;
  const Architecture *arch;
  Error error = {0};
  if (!read_spec(base, changes, &spec, &arch, &error)) fail_msg("%s", error.message);
  return spec;
}

/* As the first files on the hub have it, in what matters. */
static const char gptj[] =
    "{\"model_type\": \"gptj\", \"activation_function\": \"gelu_new\", \"attn_pdrop\": 0.0, "
    "\"gradient_checkpointing\": false, "
    "\"layer_norm_epsilon\": 1e-05, \"n_embd\": 4096, \"n_head\": 16, \"n_inner\": null, \"n_layer\": 28, "
    "\"n_positions\": 2048, "
    "\"rotary\": true, \"rotary_dim\": 64, \"scale_attn_weights\": true, \"summary_type\": \"cls_index\", "
    "\"tie_word_embeddings\": false, \"vocab_size\": 50400}";
static const char gpt_neo[] =
    "{\"model_type\": \"gpt_neo\", \"attention_types\": [[[\"global\", \"local\"], 2]], "
    "\"attention_layers\": [\"global\", \"local\", \"global\", \"local\"], \"num_layers\": 4, "
    "\"hidden_size\": 64, "
    "\"num_heads\": 4, \"intermediate_size\": null, \"window_size\": 256, \"embed_dropout\": 0, "
    "\"resid_dropout\": 0}";
static const char bloom[] =
    "{\"model_type\": \"bloom\", \"architectures\": [\"BloomModel\"], "
    "\"apply_residual_connection_post_layernorm\": false, "
    "\"attention_softmax_in_fp32\": true, \"bias_dropout_fusion\": true, \"hidden_dropout\": 0.0, "
    "\"masked_softmax_fusion\": true, "
    "\"n_embed\": 1024, \"n_layer\": 24, \"num_attention_heads\": 16, \"n_inner\": null, \"offset_alibi\": "
    "100, "
    "\"pretraining_tp\": 1, \"skip_bias_add\": true, \"skip_bias_add_qkv\": false, \"slow_but_exact\": "
    "false, "
    "\"unk_token_id\": 0, \"vocab_size\": 250880}";
static const char opt[] =
    "{\"model_type\": \"opt\", \"activation_dropout\": 0.0, \"activation_function\": \"relu\", "
    "\"do_layer_norm_before\": false, "
    "\"dropout\": 0.1, \"ffn_dim\": 4096, \"hidden_size\": 1024, \"init_std\": 0.02, \"layerdrop\": 0.0, "
    "\"max_position_embeddings\": 2048, \"num_attention_heads\": 16, \"num_hidden_layers\": 24, \"prefix\": "
    "\"</s>\", "
    "\"vocab_size\": 50272, \"word_embed_proj_dim\": 512}";
static const char mpt[] =
    "{\"model_type\": \"mpt\", \"attn_config\": {\"alibi\": true, \"alibi_bias_max\": 16, \"attn_impl\": "
    "\"torch\", "
    "\"attn_pdrop\": 0, \"attn_type\": \"multihead_attention\", \"attn_uses_sequence_id\": false, "
    "\"clip_qkv\": 6, "
    "\"prefix_lm\": false, \"qk_ln\": false, \"softmax_scale\": null}, \"d_model\": 4096, \"emb_pdrop\": 0, "
    "\"embedding_fraction\": 1.0, \"expansion_ratio\": 4, \"init_config\": {\"name\": \"kaiming_normal_\"}, "
    "\"init_device\": \"cpu\", "
    "\"learned_pos_emb\": true, \"logit_scale\": null, \"max_seq_len\": 65536, \"n_heads\": 32, "
    "\"n_layers\": 32, \"no_bias\": true, "
    "\"norm_type\": \"low_precision_layernorm\", \"resid_pdrop\": 0, \"tokenizer_name\": "
    "\"EleutherAI/gpt-neox-20b\", "
    "\"verbose\": 0, \"vocab_size\": 50432}";
static const char falcon[] =
    "{\"model_type\": \"falcon\", \"alibi\": false, \"apply_residual_connection_post_layernorm\": false, "
    "\"bias\": false, \"hidden_size\": 4544, \"multi_query\": true, \"num_attention_heads\": 71, "
    "\"num_hidden_layers\": 32, \"parallel_attn\": true, \"vocab_size\": 65024}";
static const char refined_web[] =
    "{\"model_type\": \"RefinedWeb\", \"alibi\": false, \"apply_residual_connection_post_layernorm\": false, "
    "\"bias\": false, "
    "\"hidden_size\": 8192, \"n_head\": 128, \"n_head_kv\": 8, \"n_layer\": 60, \"parallel_attn\": true, "
    "\"vocab_size\": 65024}";
static const char phi[] =
    "{\"model_type\": \"phi\", \"embd_pdrop\": 0.0, \"hidden_act\": \"gelu_new\", \"hidden_size\": 2560, "
    "\"intermediate_size\": 10240, "
    "\"layer_norm_eps\": 1e-05, \"max_position_embeddings\": 2048, \"num_attention_heads\": 32, "
    "\"num_hidden_layers\": 32, "
    "\"num_key_value_heads\": 32, \"partial_rotary_factor\": 0.4, \"qk_layernorm\": false, \"resid_pdrop\": "
    "0.1, "
    "\"rope_scaling\": null, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false, \"vocab_size\": 51200}";

static void real_configurations_are_read(void **state) {
  (void)state;
  ModelSpec s = spec_of(gptj, "{}");
  assert_int_equal(s.head_size, 256);
  assert_int_equal(s.rotary_size, 64);
  assert_int_equal(s.intermediate, 16384);
  assert_true(s.rotary_interleaved && s.head_bias && s.parallel_shared && !s.tied);
  s = spec_of(gpt_neo, "{}");
  assert_int_equal(s.window[0], 0);
  assert_int_equal(s.window[3], 256);
  assert_int_equal(s.intermediate, 256);
  assert_float_equal(attention_scale(&s), 1, 0);
  s = spec_of(bloom, "{}");
  assert_int_equal(s.hidden, 1024);
  assert_int_equal(s.heads, 16);
  assert_true(s.embedding_norm && s.tied);
  s = spec_of(opt, "{}");
  assert_int_equal(model_width(&s), 512);
  assert_int_equal(s.placement, NORM_POST);
  assert_false(s.final_norm);
  s = spec_of(mpt, "{}");
  assert_int_equal(s.intermediate, 16384);
  assert_float_equal(s.clip_qkv, 6, 0);
  assert_float_equal(s.alibi_max, 16, 0);
  s = spec_of(phi, "{}");
  assert_int_equal(s.rotary_size, 32);
}

static void falcon_has_three_kinds_of_block(void **state) {
  (void)state;
  ModelSpec s = spec_of(falcon, "{}");
  assert_int_equal(s.qkv, QKV_BLOCKS);
  assert_int_equal(s.kv_heads, 1);
  assert_true(s.parallel_shared);
  s = spec_of(falcon,
              "{\"new_decoder_architecture\": true, \"num_attention_heads\": 8, \"num_kv_heads\": 2, "
              "\"num_ln_in_parallel_attn\": null}");
  assert_int_equal(s.qkv, QKV_GROUPS);
  assert_int_equal(s.kv_heads, 2);
  assert_true(s.parallel && !s.parallel_shared);
  s = spec_of(falcon, "{\"multi_query\": false, \"parallel_attn\": false, \"alibi\": true}");
  assert_int_equal(s.qkv, QKV_HEADS);
  assert_int_equal(s.position, POSITION_ALIBI);
  assert_true(s.alibi_by_place && !s.parallel);
  s = spec_of(refined_web, "{}");
  assert_int_equal(s.qkv, QKV_GROUPS);
  assert_int_equal(s.kv_heads, 8);
  assert_int_equal(s.layers, 60);
}

static void what_is_absent_has_the_default_of_its_class(void **state) {
  (void)state;
  ModelSpec s = spec_of("{\"model_type\": \"gpt_neo\"}", "{}");
  assert_int_equal(s.layers, 24);
  assert_int_equal(s.window[23], 256);
  s = spec_of("{\"model_type\": \"opt\"}", "{}");
  assert_int_equal(s.hidden, 768);
  assert_int_equal(s.activation, ACTIVATION_RELU);
  assert_true(s.final_norm && s.tied);
  s = spec_of("{\"model_type\": \"mpt\"}", "{}");
  assert_int_equal(s.heads, 16);
  assert_float_equal(s.alibi_max, 8, 0);
  s = spec_of("{\"model_type\": \"falcon\"}", "{}");
  assert_int_equal(s.heads, 71);
  assert_float_equal(s.rope.theta, 10000, 0);
  s = spec_of("{\"model_type\": \"phi\"}", "{}");
  assert_int_equal(s.rotary_size, 32);
  s = spec_of("{\"model_type\": \"bloom\"}", "{}");
  assert_int_equal(s.hidden, 64);
  s = spec_of("{\"model_type\": \"gptj\"}", "{}");
  assert_int_equal(s.rotary_size, 64);
}

static void what_is_not_supported_is_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *base, *changes, *message; /* a part of it */
  } cases[] = {
      {gptj, "{\"rotary\": false}", "rotary: false is not supported"},
      {gptj, "{\"scale_attn_weights\": false}", "scale_attn_weights: false"},
      {gptj, "{\"rotary_dim\": 63}", "63 rotary elements"},
      {gptj, "{\"hidden_size\": 64}", "n_embd and hidden_size are two names of one number, and differ"},
      {gpt_neo, "{\"attention_types\": [[[\"global\"], 3]]}",
       "expected a kind for each of 4 layers, found 3"},
      {gpt_neo, "{\"attention_types\": [[[\"global\"], 5]]}", "more of them than there are layers"},
      {gpt_neo, "{\"attention_types\": [[[\"blocks\"], 4]]}",
       "\"blocks\" is not supported (known: global, local)"},
      {gpt_neo, "{\"attention_types\": [[\"global\", 4]]}", "attention_types[0][0]: expected"},
      {bloom, "{\"apply_residual_connection_post_layernorm\": true}",
       "apply_residual_connection_post_layernorm: "},
      {bloom, "{\"n_inner\": 100}", "n_inner: not known for bloom"},
      {opt, "{\"learned_embeddings\": false}", "learned_embeddings: false"},
      {opt, "{\"scale_embeddings\": true}", "scale_embeddings: "},
      {mpt, "{\"attn_config\": {\"qk_ln\": true}}", "attn_config.qk_ln: not known for mpt"},
      {mpt, "{\"attn_config\": {\"prefix_lm\": true}}", "attn_config.prefix_lm: "},
      {mpt, "{\"attn_config\": {\"kv_n_heads\": 4}}", "attn_config.kv_n_heads: "},
      {mpt, "{\"attn_config\": {\"alibi\": false}}", "alibi: false is not supported"},
      {mpt, "{\"attn_config\": {\"attn_type\": \"multiquery_attention\"}}",
       "attn_type: expected \"multihead_attention\""},
      {mpt, "{\"attn_config\": {\"clip_qkv\": -1}}",
       "clip_qkv, softmax_scale and alibi_bias_max are not below 0"},
      {mpt, "{\"no_bias\": false}", "no_bias: false is not supported"},
      {mpt, "{\"logit_scale\": \"inv_sqrt_d_model\"}", "logit_scale: not supported"},
      {mpt, "{\"embedding_fraction\": 0.5}", "embedding_fraction: 0.5"},
      {mpt, "{\"norm_type\": \"rmsnorm\"}", "norm_type: \"rmsnorm\" is not supported"},
      {mpt, "{\"expansion_ratio\": 3}", "expansion_ratio: 3"},
      {falcon, "{\"apply_residual_connection_post_layernorm\": true}",
       "apply_residual_connection_post_layernorm: "},
      {falcon, "{\"new_decoder_architecture\": true, \"parallel_attn\": false}",
       "contradicts new_decoder_architecture"},
      {falcon, "{\"num_ln_in_parallel_attn\": 2}", "num_ln_in_parallel_attn: expected 1, without"},
      {falcon, "{\"multi_query\": false, \"num_kv_heads\": 3}", "num_kv_heads: 3, but without multi_query"},
      {falcon, "{\"ffn_hidden_size\": 100, \"ff_factor\": 4}",
       "ff_factor: 4 contradicts ffn_hidden_size 100"},
      {falcon, "{\"n_head\": 3}", "num_attention_heads and n_head are two names of one number, and differ"},
      {phi, "{\"partial_rotary_factor\": 2}", "partial_rotary_factor: expected a number above 0 and up to 1"},
      {phi, "{\"qk_layernorm\": true, \"head_dim\": 64}", "head_dim: 64 with qk_layernorm"},
      {phi, "{\"num_key_value_heads\": 3}", "not a multiple of 3 key/value heads"},
      {phi, "{\"clip_qkv\": 8}", "clip_qkv: not known for phi"},
      {phi, "{\"alibi\": true}", "alibi: not known for phi"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ModelSpec spec;
    const Architecture *arch;
    Error error = {0};
    assert_false(read_spec(cases[i].base, cases[i].changes, &spec, &arch, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].message))
      fail_msg("\"%s\" is not in \"%s\"", cases[i].message, error.message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(real_configurations_are_read),
                                     cmocka_unit_test(falcon_has_three_kinds_of_block),
                                     cmocka_unit_test(what_is_absent_has_the_default_of_its_class),
                                     cmocka_unit_test(what_is_not_supported_is_refused_by_name)};
  return cmocka_run_group_tests_name("unit/model_arch_old", tests, NULL, NULL);
}
