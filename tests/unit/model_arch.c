/* config.json to ModelSpec: the old and the new spelling of every family, the defaults of absent keys, and what is
 * refused. Rotary frequencies and ALiBi slopes are those of Transformers 5.23. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/arch.h"

#include <math.h>
#include <string.h>

/* `base` with the keys of `changes` (JSON texts) set over it. */
static json_t *merged(const char *base, const char *changes) {
  json_t *config = json_loads(base, 0, NULL), *extra = json_loads(changes, 0, NULL);
  assert_non_null(config);
  assert_non_null(extra);
  assert_int_equal(json_object_update(config, extra), 0);
  json_decref(extra);
  return config;
}

static bool read_spec(const char *base, const char *changes, ModelSpec *spec, Error *error) {
  json_t *config = merged(base, changes);
  const Architecture *arch = architecture_find(config, error);
  bool ok = arch && architecture_read(arch, config, spec, error);
  json_decref(config);
  return ok;
}

static ModelSpec spec_of(const char *base, const char *changes) {
  ModelSpec spec;
  Error error = {0};
  bool ok = read_spec(base, changes, &spec, &error);
  if (!ok) print_error("%s\n", error.message);
  assert_true(ok);
  return spec;
}

#define COMMON                                                                                     \
  "\"vocab_size\": 96, \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 3, " \
  "\"num_attention_heads\": 4"

static const char llama[] = "{\"model_type\": \"llama\", " COMMON "}";
static const char mistral[] = "{\"model_type\": \"mistral\", " COMMON ", \"num_key_value_heads\": 2}";
static const char qwen2[] = "{\"model_type\": \"qwen2\", " COMMON ", \"num_key_value_heads\": 2}";
static const char qwen3[] = "{\"model_type\": \"qwen3\", " COMMON ", \"num_key_value_heads\": 2}";
static const char neox[] = "{\"model_type\": \"gpt_neox\", " COMMON "}";
static const char gemma[] = "{\"model_type\": \"gemma\", " COMMON "}";
static const char gemma3[] = "{\"model_type\": \"gemma3_text\", " COMMON ", \"sliding_window\": 5}";
static const char olmo3[] = "{\"model_type\": \"olmo3\", " COMMON ", \"sliding_window\": 5}";
static const char cohere2[] = "{\"model_type\": \"cohere2\", " COMMON "}";
static const char smollm3[] = "{\"model_type\": \"smollm3\", " COMMON "}";
static const char stablelm[] = "{\"model_type\": \"stablelm\", " COMMON ", \"num_key_value_heads\": 4}";
static const char phi3[] = "{\"model_type\": \"phi3\", " COMMON ", \"max_position_embeddings\": 8192}";
static const char gpt2[] =
    "{\"model_type\": \"gpt2\", \"vocab_size\": 96, \"n_embd\": 32, \"n_layer\": 3, \"n_head\": 4, "
    "\"n_positions\": 64}";

static void llama_has_the_defaults_of_its_class(void **state) {
  (void)state;
  ModelSpec s = spec_of(llama, "{}");
  assert_int_equal(s.vocab, 96);
  assert_int_equal(s.hidden, 32);
  assert_int_equal(s.layers, 3);
  assert_int_equal(s.kv_heads, 4);
  assert_int_equal(s.head_size, 8);
  assert_int_equal(s.rotary_size, 8);
  assert_int_equal(s.max_positions, 2048);
  assert_int_equal(s.norm.kind, NORM_RMS);
  assert_float_equal(s.norm.eps, 1e-6, 1e-12);
  assert_int_equal(s.activation, ACTIVATION_SILU);
  assert_int_equal(s.rope.kind, ROPE_DEFAULT);
  assert_float_equal(s.rope.theta, 10000, 0);
  assert_float_equal(s.embedding_scale, 1, 0);
  assert_int_equal(s.window[0], 0);
  assert_true(s.gated && s.final_norm);
  assert_false(s.tied || s.parallel);
  s = spec_of(llama, "{\"head_dim\": 16, \"num_key_value_heads\": 2, \"tie_word_embeddings\": true}");
  assert_int_equal(s.head_size, 16);
  assert_int_equal(s.rotary_size, 16);
  assert_int_equal(s.kv_heads, 2);
  assert_true(s.tied);
  s = spec_of(llama, "{\"head_dim\": null, \"num_key_value_heads\": null, \"rope_scaling\": null}");
  assert_int_equal(s.head_size, 8);
  assert_int_equal(s.kv_heads, 4);
}

static void rope_is_read_in_both_spellings(void **state) {
  (void)state;
  static const char numbers[] =
      "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
      "\"original_max_position_embeddings\": 8192";
  char changes[2][512];
  snprintf(changes[0], sizeof changes[0],
           "{\"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", %s}}", numbers);
  snprintf(changes[1], sizeof changes[1],
           "{\"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 500000, %s}}", numbers);
  for (int i = 0; i < 2; i++) {
    ModelSpec s = spec_of(llama, changes[i]);
    assert_int_equal(s.rope.kind, ROPE_LLAMA3);
    assert_float_equal(s.rope.theta, 500000, 0);
    assert_float_equal(s.rope.factor, 8, 0);
    assert_float_equal(s.rope.high_freq_factor, 4, 0);
    assert_float_equal(s.rope.original_max, 8192, 0);
  }
  /* the oldest spelling says "type"; both objects may stand if they say the same */
  ModelSpec s = spec_of(llama, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}");
  assert_int_equal(s.rope.kind, ROPE_LINEAR);
  assert_float_equal(s.rope.factor, 2, 0);
  s = spec_of(llama,
              "{\"rope_theta\": 5, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, "
              "\"rope_parameters\": {\"rope_theta\": 5.0, \"type\": \"linear\", \"factor\": 2.0}}");
  assert_int_equal(s.rope.kind, ROPE_LINEAR);
  assert_float_equal(s.rope.theta, 5, 0);
  /* without the length of the first training, llama3 takes the longest position */
  s = spec_of(
      llama,
      "{\"max_position_embeddings\": 512, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 2, "
      "\"low_freq_factor\": 1, \"high_freq_factor\": 4}}");
  assert_float_equal(s.rope.original_max, 512, 0);
}

static void assert_frequencies(RopeSpec spec, const float expected[8], float expected_scale) {
  float found[8], scale;
  rope_frequencies(&spec, 16, found, &scale);
  for (int i = 0; i < 8; i++) assert_true(fabsf(found[i] - expected[i]) <= 1.5e-7f * expected[i]);
  assert_true(fabsf(scale - expected_scale) <= 1e-6f);
}

static void frequencies_are_those_of_transformers(void **state) {
  (void)state;
  assert_frequencies((RopeSpec){.kind = ROPE_DEFAULT, .theta = 10000},
                     (const float[]){1, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f,
                                     0.00316227786f, 0.00100000005f, 0.000316227786f},
                     1);
  assert_frequencies((RopeSpec){.kind = ROPE_LINEAR, .theta = 10000, .factor = 4},
                     (const float[]){0.25f, 0.079056941f, 0.0250000004f, 0.00790569466f, 0.00249999994f,
                                     0.000790569466f, 0.000250000012f, 7.90569466e-05f},
                     1);
  assert_frequencies((RopeSpec){.kind = ROPE_LLAMA3,
                                .theta = 500000,
                                .factor = 8,
                                .low_freq_factor = 1,
                                .high_freq_factor = 4,
                                .original_max = 64},
                     (const float[]){1, 0.079403013f, 0.00470075384f, 0.000911583134f, 0.000176776681f,
                                     3.42810235e-05f, 6.64786967e-06f, 1.28917316e-06f},
                     1);
}

static void yarn_is_that_of_transformers(void **state) {
  (void)state;
  ModelSpec s =
      spec_of(llama,
              "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000, \"factor\": 4, "
              "\"original_max_position_embeddings\": 64}}");
  assert_frequencies(s.rope,
                     (const float[]){1, 0.237170815f, 0.049999997f, 0.00790569466f, 0.00249999994f,
                                     0.000790569466f, 0.000250000012f, 7.90569466e-05f},
                     1.138629436f);
  s = spec_of(llama,
              "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000, \"factor\": 4, "
              "\"original_max_position_embeddings\": 64, \"mscale\": 1.5, \"mscale_all_dim\": 0.5, "
              "\"beta_fast\": 8, \"beta_slow\": 2}}");
  assert_frequencies(s.rope,
                     (const float[]){1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f,
                                     0.000790569466f, 0.000250000012f, 7.90569466e-05f},
                     1.129643251f);
  s = spec_of(llama,
              "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000, \"factor\": 4, "
              "\"original_max_position_embeddings\": 64, \"truncate\": false}}");
  assert_frequencies(s.rope,
                     (const float[]){1, 0.198583528f, 0.0255952496f, 0.00790569466f, 0.00249999994f,
                                     0.000790569466f, 0.000250000012f, 7.90569466e-05f},
                     1.138629436f);
}

/* Tables of dynamic and longrope are those of a run's longest sequence: Transformers' with seq_len. */
static void long_sequences_have_frequencies_of_their_own(void **state) {
  (void)state;
  static const char head[] = "{\"num_attention_heads\": 2, \"max_position_embeddings\": 64, ";
  char changes[1024];
  snprintf(changes, sizeof changes, "%s\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.5}}", head);
  ModelSpec s = spec_of(llama, changes);
  static const float plain[8] = {1,
                                 0.316227764f,
                                 0.100000001f,
                                 0.0316227786f,
                                 0.00999999978f,
                                 0.00316227786f,
                                 0.00100000005f,
                                 0.000316227786f};
  assert_frequencies(s.rope, plain, 1);
  s.rope.context = 64;
  assert_false(rope_is_extended(&s.rope));
  assert_frequencies(s.rope, plain, 1);
  s.rope.context = 100;
  assert_true(rope_is_extended(&s.rope));
  assert_frequencies(s.rope,
                     (const float[]){1, 0.278947681f, 0.0778118074f, 0.0217054226f, 0.00605467707f,
                                     0.00168893812f, 0.000471125386f, 0.000131419336f},
                     1);
  s.rope.context = 1000;
  assert_frequencies(s.rope,
                     (const float[]){1, 0.188380122f, 0.0354870707f, 0.00668505812f, 0.00125933206f,
                                     0.000237233136f, 4.46900085e-05f, 8.4187086e-06f},
                     1);

  static const char lists[] =
      "\"short_factor\": [1, 1.05, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5], "
      "\"long_factor\": [1, 1.2, 1.7, 2.9, 5.5, 9.25, 16, 31.5]";
  static const float near[8] = {1,
                                0.301169306f,
                                0.0909090936f,
                                0.0252982229f,
                                0.00666666683f,
                                0.00180701585f,
                                0.000500000024f,
                                0.000126491112f};
  static const float far[8] = {1,
                               0.263523132f,
                               0.0588235296f,
                               0.0109044053f,
                               0.00181818183f,
                               0.000341867883f,
                               6.2500003e-05f,
                               1.00389771e-05f};
  static const char *const places[] = {
      "{\"num_attention_heads\": 2, \"max_position_embeddings\": 512, \"original_max_position_embeddings\": "
      "64, "
      "\"rope_scaling\": {\"type\": \"longrope\", %s}}",
      "{\"num_attention_heads\": 2, \"max_position_embeddings\": 512, \"rope_parameters\": {\"rope_type\": "
      "\"longrope\", \"original_max_position_embeddings\": 64, \"rope_theta\": 10000, %s}}"};
  for (int i = 0; i < 2; i++) {
    snprintf(changes, sizeof changes, places[i], lists);
    s = spec_of(llama, changes);
    assert_frequencies(s.rope, near, 1.22474487f);
    s.rope.context = 64;
    assert_frequencies(s.rope, near, 1.22474487f);
    assert_true(rope_serves(&s.rope, 64));
    assert_false(rope_serves(&s.rope, 65));
    s.rope.context = 65;
    assert_frequencies(s.rope, far, 1.22474487f);
    assert_true(rope_serves(&s.rope, 3) && rope_serves(&s.rope, 65));
    assert_false(rope_serves(&s.rope, 66));
  }
  s.rope.factor = 3;
  assert_frequencies(s.rope, far, 1.12434889f);
  s.rope.attention_factor = 1.5;
  assert_frequencies(s.rope, far, 1.5f);
}

static void alibi_slopes_are_those_of_bloom(void **state) {
  (void)state;
  static const float expected[6] = {0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
  float found[6];
  alibi_slopes(&(ModelSpec){.heads = 6, .alibi_max = 8}, found);
  for (int i = 0; i < 6; i++) assert_float_equal(found[i], expected[i], 0);
}

static void windows_stand_where_the_config_puts_them(void **state) {
  (void)state;
  ModelSpec s = spec_of(mistral, "{}");
  assert_int_equal(s.window[0], 4096); /* the class default */
  s = spec_of(mistral, "{\"sliding_window\": null}");
  assert_int_equal(s.window[2], 0);
  s = spec_of(mistral, "{\"sliding_window\": 7}");
  assert_int_equal(s.window[2], 7);
  s = spec_of(qwen2, "{\"sliding_window\": 8, \"max_window_layers\": 1}");
  assert_int_equal(s.window[2], 0); /* off unless use_sliding_window */
  s = spec_of(qwen2, "{\"use_sliding_window\": true, \"sliding_window\": 8, \"max_window_layers\": 1}");
  assert_int_equal(s.window[0], 0);
  assert_int_equal(s.window[1], 8);
  assert_int_equal(s.window[2], 8);
  s = spec_of(
      qwen2,
      "{\"use_sliding_window\": true, \"sliding_window\": 8, \"layer_types\": [\"sliding_attention\", "
      "\"full_attention\", \"full_attention\"]}");
  assert_int_equal(s.window[0], 8);
  assert_int_equal(s.window[2], 0);
}

static void qwen_heads(void **state) {
  (void)state;
  ModelSpec s = spec_of(qwen3, "{}");
  assert_int_equal(s.qk_norm, QK_NORM_HEAD);
  assert_int_equal(s.head_size, 128);
  s = spec_of(qwen3, "{\"head_dim\": 16}");
  assert_int_equal(s.head_size, 16);
  assert_int_equal(spec_of(qwen2, "{}").head_size, 8);
}

static void neox_is_read_in_both_spellings(void **state) {
  (void)state;
  ModelSpec s =
      spec_of(neox, "{\"rotary_pct\": 0.5, \"rotary_emb_base\": 20000, \"use_parallel_residual\": false}");
  assert_int_equal(s.rotary_size, 4);
  assert_float_equal(s.rope.theta, 20000, 0);
  assert_false(s.parallel);
  s = spec_of(
      neox,
      "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5, \"rope_theta\": 20000}, \"rotary_pct\": 1}");
  assert_int_equal(s.rotary_size, 4);
  assert_float_equal(s.rope.theta, 20000, 0);
  assert_true(s.parallel);
  s = spec_of(neox, "{}");
  assert_int_equal(s.rotary_size, 2); /* a quarter of 8 */
  assert_int_equal(s.qkv, QKV_HEADS);
  assert_int_equal(s.norm.kind, NORM_LAYER);
  assert_int_equal(s.activation, ACTIVATION_GELU);
  assert_int_equal(spec_of(neox, "{\"hidden_act\": \"gelu_fast\"}").activation, ACTIVATION_GELU_TANH);
}

static void layers_have_tables_by_their_type(void **state) {
  (void)state;
  ModelSpec s = spec_of(gemma3, "{}"); /* every sixth layer sees all */
  assert_true(s.rope_by_window);
  assert_float_equal(s.rope.theta, 1e6, 0);
  assert_float_equal(s.rope_local.theta, 1e4, 0);
  assert_int_equal(s.window[2], 5);
  s = spec_of(gemma3,
              "{\"sliding_window_pattern\": 2, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}, "
              "\"rope_theta\": 2e6, \"rope_local_base_freq\": 500}");
  assert_int_equal(s.window[0], 5);
  assert_int_equal(s.window[1], 0);
  assert_int_equal(s.rope.kind, ROPE_LINEAR);
  assert_float_equal(s.rope.theta, 2e6, 0);
  assert_int_equal(s.rope_local.kind, ROPE_DEFAULT);
  assert_float_equal(s.rope_local.theta, 500, 0);
  s = spec_of(gemma3,
              "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"yarn\", \"factor\": 4}, "
              "\"sliding_attention\": {\"rope_theta\": 300}}}");
  assert_int_equal(s.rope.kind, ROPE_YARN);
  assert_float_equal(s.rope.theta, 1e6, 0);
  assert_float_equal(s.rope_local.theta, 300, 0);
  s = spec_of(olmo3, "{}");
  assert_float_equal(s.rope.theta, 500000, 0);
  assert_float_equal(s.rope_local.theta, 500000, 0);
}

static void phi3_is_read_in_all_spellings(void **state) {
  (void)state;
  static const char *const types[] = {"longrope", "su", "yarn"};
  char changes[512];
  for (int i = 0; i < 3; i++) {
    snprintf(
        changes, sizeof changes,
        "{\"rope_scaling\": {\"type\": \"%s\", \"short_factor\": [1, 1, 2], \"long_factor\": [1, 2, 4]}, "
        "\"partial_rotary_factor\": 0.75}",
        types[i]);
    const ModelSpec s = spec_of(phi3, changes);
    assert_int_equal(s.rope.kind, ROPE_LONGROPE);
    assert_int_equal(s.rotary_size, 6);
    assert_float_equal(s.rope.original_max, 4096, 0); /* of the class */
    assert_float_equal(s.rope.factor, 2, 0);
  }
}

static void gpt2_is_read(void **state) {
  (void)state;
  ModelSpec s = spec_of(gpt2, "{\"n_inner\": null}");
  assert_int_equal(s.intermediate, 128);
  assert_int_equal(s.position, POSITION_LEARNED);
  assert_int_equal(s.max_positions, 64);
  assert_int_equal(s.activation, ACTIVATION_GELU_TANH);
  assert_float_equal(s.attention_scale, 0, 0);
  assert_true(s.tied);
  s = spec_of(gpt2,
              "{\"n_inner\": 50, \"scale_attn_weights\": false, \"scale_attn_by_inverse_layer_idx\": true, "
              "\"activation_function\": \"relu\", \"tie_word_embeddings\": false}");
  assert_int_equal(s.intermediate, 50);
  assert_float_equal(s.attention_scale, 1, 0);
  assert_true(s.scale_by_layer);
  assert_int_equal(s.activation, ACTIVATION_RELU);
  assert_false(s.tied);
  static const char other_names[] =
      "{\"model_type\": \"gpt2\", \"vocab_size\": 9, \"hidden_size\": 8, \"num_hidden_layers\": 1, "
      "\"num_attention_heads\": 2, \"max_position_embeddings\": 5}";
  assert_int_equal(spec_of(other_names, "{}").max_positions, 5);
}

static void biases_follow_the_config(void **state) {
  (void)state;
  static const struct {
    const char *base, *changes;
    LinearRole role;
    bool expected;
  } cases[] = {{llama, "{}", LINEAR_Q, false},
               {llama, "{\"attention_bias\": true}", LINEAR_O, true},
               {llama, "{\"attention_bias\": true}", LINEAR_DOWN, false},
               {llama, "{\"mlp_bias\": true}", LINEAR_GATE, true},
               {qwen3, "{\"attention_bias\": true}", LINEAR_K, true},
               {qwen3, "{\"mlp_bias\": true}", LINEAR_UP, false},
               {neox, "{}", LINEAR_QKV, true},
               {neox, "{\"attention_bias\": false}", LINEAR_QKV, false},
               {neox, "{\"attention_bias\": false}", LINEAR_UP, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    json_t *config = merged(cases[i].base, cases[i].changes);
    const Architecture *arch = architecture_find(config, NULL);
    assert_int_equal(arch->bias(config, cases[i].role), cases[i].expected);
    json_decref(config);
  }
}

static void what_is_not_supported_is_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *base, *changes, *message; /* a part of it */
  } cases[] = {
      {llama, "{\"model_type\": \"mamba\"}",
       "model_type: \"mamba\" is not supported (known: llama, mistral, ministral"},
      {llama, "{\"model_type\": null}", "model_type: expected one of llama, mistral, ministral"},
      {llama, "{\"hidden_size\": null}", "hidden_size: expected an integer, found nothing"},
      {llama, "{\"hidden_size\": \"32\"}", "hidden_size: expected an integer, found a string"},
      {llama, "{\"hidden_size\": 0}", "hidden_size: expected a number from 1 to 16777216, found 0"},
      {llama, "{\"vocab_size\": 4000000000}", "vocab_size: expected a number from 1 to 16777216"},
      {llama, "{\"num_attention_heads\": 16000, \"head_dim\": 16000}", "16000 heads of 16000 elements"},
      {llama, "{\"num_hidden_layers\": 1000}", "1000 layers"},
      {llama, "{\"num_attention_heads\": 5}", "not a multiple of 5 attention heads"},
      {llama, "{\"num_key_value_heads\": 3}", "not a multiple of 3 key/value heads"},
      {llama, "{\"hidden_act\": \"mish\"}", "hidden_act: activation \"mish\" is not supported"},
      {llama, "{\"rms_norm_eps\": true}", "rms_norm_eps: expected a number, found a boolean"},
      {llama, "{\"tie_word_embeddings\": 1}", "tie_word_embeddings: expected true or false"},
      {llama, "{\"quantization_config\": {\"bits\": 4}}", "quantization_config: quantised checkpoints"},
      {llama, "{\"rope_scaling\": {\"type\": \"cubic\", \"factor\": 2}}",
       "rope_scaling: rope type \"cubic\" is not supported"},
      {llama, "{\"rope_parameters\": {\"rope_type\": \"longrope\"}}", "rope_parameters.short_factor: "},
      {llama,
       "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1, 1], \"long_factor\": "
       "[1, 1, 1]}}",
       "\"long_factor\": expected a number for each of 4 rotary pairs"},
      {llama,
       "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 0, 1], \"long_factor\": "
       "[1]}}",
       "rope_parameters.short_factor[2]: expected a number above 0"},
      {llama, "{\"rope_theta\": 1e6, \"rope_parameters\": {\"rope_theta\": 10000}}",
       "\"rope_theta\" is 10000 here and 1e+06 beside it"},
      {llama, "{\"rope_scaling\": {\"type\": \"linear\", \"rope_type\": \"yarn\", \"factor\": 2}}",
       "\"rope_type\" is \"yarn\" and \"type\" is \"linear\""},
      {llama,
       "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"rope_theta\": 5}}",
       "rope_parameters: \"rope_theta\" is not what \"rope_scaling\" says"},
      {llama,
       "{\"original_max_position_embeddings\": 32, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, "
       "\"original_max_position_embeddings\": 64}}",
       "\"original_max_position_embeddings\" is 64 here and 32 beside it"},
      {llama, "{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 5}}}",
       "rope_parameters: parameters by layer type are not known"},
      {llama, "{\"rope_scaling\": {\"type\": \"linear\"}}",
       "rope_scaling.factor: expected a number, found nothing"},
      {llama, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": -1}}",
       "rope_scaling.factor: expected a number above 0"},
      {llama, "{\"rope_scaling\": [2]}", "rope_scaling: expected an object"},
      {llama, "{\"head_dim\": 7}", "7 rotary elements in heads of 7"},
      {llama, "{\"sliding_window\": 64}", "sliding_window: not known for llama"},
      {llama, "{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor: 0.5 is not supported"},
      {llama, "{\"is_encoder_decoder\": true}", "is_encoder_decoder: only"},
      {mistral, "{\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}",
       "layer_types[0]: all layers of model_type \"mistral\" are alike"},
      {qwen2, "{\"layer_types\": [\"full_attention\", \"chunked_attention\", \"full_attention\"]}",
       "layer_types[1]: \"chunked_attention\" is not supported"},
      {qwen2, "{\"layer_types\": [\"full_attention\"]}",
       "layer_types: expected a string for each layer, found 1 of them"},
      {qwen2, "{\"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\"]}",
       "layer_types[0]: a sliding window, but \"use_sliding_window\" is off"},
      {llama, "{\"logit_scale\": 0.25}", "logit_scale: not known for llama; take it out if"},
      {llama, "{\"an_option_to_come\": true}", "an_option_to_come: not known for llama"},
      {llama, "{\"an_option_to_come\": \"cubic\"}", "an_option_to_come: "},
      {llama, "{\"an_option_to_come\": [1]}", "an_option_to_come: "},
      {llama, "{\"max_window_layers\": 2}", "max_window_layers: not known for llama"},
      {llama, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"mrope_section\": [1, 2]}}",
       "rope_scaling.mrope_section: not known"},
      {mistral, "{\"attention_bias\": true}", "attention_bias: not known for mistral"},
      {gpt2, "{\"rms_norm_eps\": 1e-5}", "rms_norm_eps: not known for gpt2"},
      {neox, "{\"rotary_pct\": 1.5}", "rotary_pct: "},
      {gemma, "{\"hidden_activation\": \"relu\"}", "\"hidden_activation\" is not the activation"},
      {gemma, "{\"use_bidirectional_attention\": true}", "use_bidirectional_attention: only causal"},
      {gemma3, "{\"attn_logit_softcapping\": 50.0}", "attn_logit_softcapping: Gemma 3 has no cap"},
      {gemma3, "{\"rope_parameters\": {\"rope_theta\": 10000}}", "rope_parameters: expected parameters of"},
      {gemma3, "{\"rope_parameters\": {\"full_attention\": {}, \"factor\": 2}}", "\"factor\" stands beside"},
      {gemma3, "{\"rope_theta\": 5, \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 6}}}",
       "rope_parameters.full_attention: the base is 6 here and \"rope_theta\" is 5"},
      {gemma3,
       "{\"rope_local_base_freq\": 5, \"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 6}}}",
       "rope_parameters.sliding_attention: the base is 6 here and \"rope_local_base_freq\" is 5"},
      {gemma3, "{\"sliding_window\": null}",
       "layer_types[0]: a sliding window, but \"sliding_window\" is off"},
      {olmo3, "{\"rope_theta\": 10000}", "rope_theta: Transformers gives 10000 to the layers without"},
      {cohere2, "{\"use_parallel_block\": false}", "use_parallel_block: only true is supported"},
      {cohere2, "{\"head_dim\": 4}", "head_dim: 4, but this model type has hidden_size / heads"},
      {smollm3,
       "{\"sliding_window\": 5, \"layer_types\": [\"sliding_attention\", \"full_attention\", "
       "\"full_attention\"]}",
       "\"use_sliding_window\" is off"},
      {smollm3, "{\"no_rope_layers\": [1, 0]}", "no_rope_layers: expected a number for each layer"},
      {stablelm, "{\"rope_pct\": 0.5}", "rope_pct: 0.5, but 2 of 8 elements of a head rotate"},
      {stablelm, "{\"head_dim\": 4}", "head_dim: not known for stablelm"},
      {phi3, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "(known: longrope)"},
      {phi3,
       "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 1, 1], \"long_factor\": [1, 1, "
       "1, 1], "
       "\"original_max_position_embeddings\": 2048}}",
       "\"original_max_position_embeddings\" is 2048 here and 4096 beside it"},
      {gpt2, "{\"add_cross_attention\": true}", "add_cross_attention: "},
      {gpt2, "{\"n_head\": 5}", "not a multiple of 5"},
      {gpt2, "{\"n_embd\": null}", "n_embd: expected an integer, found nothing"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    ModelSpec spec;
    assert_false(read_spec(cases[i].base, cases[i].changes, &spec, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].message))
      fail_msg("case %zu: \"%s\" is not in \"%s\"", i, cases[i].message, error.message);
  }
}

/* Keys of real files that say nothing about the logits, and options that are off. */
static void what_changes_nothing_is_passed_over(void **state) {
  (void)state;
  static const char *const changes[] = {
      "{\"is_llama_config\": true, \"transformers.js_config\": {\"dtype\": \"q4\"}, \"pretraining_tp\": 1}",
      "{\"_name_or_path\": \"x\", \"use_cache\": true, \"temperature\": 0.7, \"attention_dropout\": 0.1, "
      "\"auto_map\": {\"a\": 1}}",
      "{\"an_option_to_come\": false, \"another\": null, \"third\": [], \"fourth\": {}}"};
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    Error error = {0};
    ModelSpec spec;
    if (!read_spec(llama, changes[i], &spec, &error)) fail_msg("%s", error.message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(llama_has_the_defaults_of_its_class),
                                     cmocka_unit_test(rope_is_read_in_both_spellings),
                                     cmocka_unit_test(frequencies_are_those_of_transformers),
                                     cmocka_unit_test(yarn_is_that_of_transformers),
                                     cmocka_unit_test(long_sequences_have_frequencies_of_their_own),
                                     cmocka_unit_test(alibi_slopes_are_those_of_bloom),
                                     cmocka_unit_test(windows_stand_where_the_config_puts_them),
                                     cmocka_unit_test(qwen_heads),
                                     cmocka_unit_test(neox_is_read_in_both_spellings),
                                     cmocka_unit_test(layers_have_tables_by_their_type),
                                     cmocka_unit_test(phi3_is_read_in_all_spellings),
                                     cmocka_unit_test(gpt2_is_read),
                                     cmocka_unit_test(biases_follow_the_config),
                                     cmocka_unit_test(what_is_not_supported_is_refused_by_name),
                                     cmocka_unit_test(what_changes_nothing_is_passed_over)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
