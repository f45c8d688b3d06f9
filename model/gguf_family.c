#include "model/gguf_family.h"

#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const char *const linear_names[LINEAR_ROLES] = {
    [LINEAR_QKV] = "attn_qkv",  [LINEAR_Q] = "attn_q",      [LINEAR_K] = "attn_k",
    [LINEAR_V] = "attn_v",      [LINEAR_O] = "attn_output", [LINEAR_GATE_UP] = "ffn_up",
    [LINEAR_GATE] = "ffn_gate", [LINEAR_UP] = "ffn_up",     [LINEAR_DOWN] = "ffn_down"};

static const char *const norm_names[NORM_ROLES] = {[NORM_ATTENTION] = "attn_norm",
                                                   [NORM_MLP] = "ffn_norm",
                                                   [NORM_ATTENTION_POST] = "post_attention_norm",
                                                   [NORM_MLP_POST] = "post_ffw_norm",
                                                   [NORM_Q] = "attn_q_norm",
                                                   [NORM_K] = "attn_k_norm"};

const char *gguf_linear_name(LinearRole role) {
  return linear_names[role];
}

const char *gguf_norm_name(const GgufFamily *family, NormRole role) {
  return family->norm[role] ? family->norm[role] : norm_names[role];
}

/* ---- keys ---- */

#define SIZES(positions, hidden, layers, inner, heads)                                  \
  {"context_length", positions}, {"embedding_length", hidden}, {"block_count", layers}, \
      {"feed_forward_length", inner}, {                                                 \
    "attention.head_count", heads                                                       \
  }
#define LLAMA_SIZES                                                                         \
  SIZES("max_position_embeddings", "hidden_size", "num_hidden_layers", "intermediate_size", \
        "num_attention_heads"),                                                             \
      {"attention.head_count_kv", "num_key_value_heads"}, {                                 \
    "rope.freq_base", "rope_theta"                                                          \
  }
#define RMS_EPS(name) \
  { "attention.layer_norm_rms_epsilon", name }
#define LAYER_EPS(name) \
  { "attention.layer_norm_epsilon", name }
#define HEAD_SIZE \
  { "attention.key_length", "head_dim" }

static const GgufKey llama_keys[] = {LLAMA_SIZES, RMS_EPS("rms_norm_eps"), HEAD_SIZE, {NULL, NULL}};
static const GgufKey qwen2_keys[] = {LLAMA_SIZES, RMS_EPS("rms_norm_eps"), {NULL, NULL}};
static const GgufKey gemma2_keys[] = {LLAMA_SIZES,
                                      RMS_EPS("rms_norm_eps"),
                                      HEAD_SIZE,
                                      {"attn_logit_softcapping", "attn_logit_softcapping"},
                                      {"final_logit_softcapping", "final_logit_softcapping"},
                                      {"attention.sliding_window", "sliding_window"},
                                      {NULL, NULL}};
static const GgufKey gemma3_keys[] = {LLAMA_SIZES,
                                      RMS_EPS("rms_norm_eps"),
                                      HEAD_SIZE,
                                      {"final_logit_softcapping", "final_logit_softcapping"},
                                      {"attention.sliding_window", "sliding_window"},
                                      {"rope.freq_base_swa", "rope_local_base_freq"},
                                      {NULL, NULL}};
static const GgufKey gpt2_keys[] = {
    SIZES("n_ctx", "n_embd", "n_layer", "n_inner", "n_head"), LAYER_EPS("layer_norm_epsilon"), {NULL, NULL}};
static const GgufKey gpt_neox_keys[] = {SIZES("max_position_embeddings", "hidden_size", "num_hidden_layers",
                                              "intermediate_size", "num_attention_heads"),
                                        LAYER_EPS("layer_norm_eps"),
                                        {"use_parallel_residual", "use_parallel_residual"},
                                        {"rope.freq_base", "rotary_emb_base"},
                                        {NULL, NULL}};

static const GgufKey layer_norm_keys[] = {LLAMA_SIZES, LAYER_EPS("layer_norm_eps"), {NULL, NULL}};
static const GgufKey starcoder2_keys[] = {LLAMA_SIZES, LAYER_EPS("norm_epsilon"), {NULL, NULL}};
static const GgufKey stablelm_keys[] = {LLAMA_SIZES,
                                        LAYER_EPS("layer_norm_eps"),
                                        {"use_parallel_residual", "use_parallel_residual"},
                                        {NULL, NULL}};
static const GgufKey nemotron_keys[] = {LLAMA_SIZES, LAYER_EPS("norm_eps"), HEAD_SIZE, {NULL, NULL}};
static const GgufKey granite_keys[] = {LLAMA_SIZES,
                                       RMS_EPS("rms_norm_eps"),
                                       {"attention.scale", "attention_multiplier"},
                                       {"embedding_scale", "embedding_multiplier"},
                                       {"residual_scale", "residual_multiplier"},
                                       {"logit_scale", "logits_scaling"},
                                       {NULL, NULL}};
static const GgufKey cohere_keys[] = {
    LLAMA_SIZES, LAYER_EPS("layer_norm_eps"), {"logit_scale", "logit_scale"}, {NULL, NULL}};

/* ---- what the keys do not say ---- */

static bool is_absent(const GgufMeta *meta, const char *key) {
  return !json_object_get(meta->config, key);
}

static bool describe_llama(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "silu");
  meta_set_bool(meta, "attention_bias", meta_has_tensor(meta, "blk.0.attn_q.bias"));
  meta_set_bool(meta, "mlp_bias", meta_has_tensor(meta, "blk.0.ffn_up.bias"));
  return true;
}

static bool describe_qwen(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "silu");
  return true;
}

static bool describe_gemma(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "gelu_pytorch_tanh");
  meta_set_text(meta, "hidden_activation", "gelu_pytorch_tanh");
  return true;
}

static void set_layer_types(GgufMeta *meta, const bool *windowed) {
  json_t *types = json_array();
  for (int64_t i = 0; i < meta_config_int(meta, "num_hidden_layers"); i++)
    json_array_append_new(types, json_string(windowed[i] ? "sliding_attention" : "full_attention"));
  json_object_set_new(meta->config, "layer_types", types);
}

/* The scale of the scores is no metadata: of the sizes that there are, one takes the width of a head as if heads filled the hidden
 * state (llama.cpp knows it by its layers too). */
static void set_query_scalar(GgufMeta *meta, int64_t layers_of_the_other) {
  const int64_t layers = meta_config_int(meta, "num_hidden_layers");
  const int64_t heads = meta_config_int(meta, "num_attention_heads");
  meta_set_int(meta, "query_pre_attn_scalar",
               layers == layers_of_the_other ? meta_config_int(meta, "hidden_size") / heads
                                             : meta_config_int(meta, "head_dim"));
}

/* Defaults of llama.cpp: files of the first weeks lack these keys. */
static bool describe_gemma2(GgufMeta *meta, Error *error) {
  bool windowed[MODEL_MAX_LAYERS];
  (void)error;
  meta_set_text(meta, "hidden_activation", "gelu_pytorch_tanh");
  if (is_absent(meta, "attn_logit_softcapping")) meta_set_number(meta, "attn_logit_softcapping", 50);
  if (is_absent(meta, "final_logit_softcapping")) meta_set_number(meta, "final_logit_softcapping", 30);
  if (is_absent(meta, "sliding_window")) meta_set_int(meta, "sliding_window", 4096);
  for (int i = 0; i < MODEL_MAX_LAYERS; i++) windowed[i] = i % 2 == 0;
  set_layer_types(meta, windowed);
  set_query_scalar(meta, 46);
  return true;
}

/* Every sixth layer sees all keys, unless the file gives another number or says it for each layer. */
static bool read_window_pattern(GgufMeta *meta, bool *windowed, Error *error) {
  static const char key[] = "attention.sliding_window_pattern";
  const int64_t layers = meta_config_int(meta, "num_hidden_layers");
  const GgufValue *value = meta_find(meta, key);
  int64_t period = 6;
  if (value && value->array && value->kind == GGUF_BOOL) {
    if (value->count != (uint64_t)layers)
      return meta_fail(meta, key, error, "expected a bool for each of %lld layers, found %llu",
                       (long long)layers, (unsigned long long)value->count);
    for (int64_t i = 0; i < layers; i++) windowed[i] = ((const uint8_t *)value->data)[i] != 0;
    return true;
  }
  if (!meta_int(meta, key, 1, &period, error)) return false;
  for (int64_t i = 0; i < layers; i++) windowed[i] = (i + 1) % period != 0;
  return true;
}

static bool describe_gemma3(GgufMeta *meta, Error *error) {
  bool windowed[MODEL_MAX_LAYERS] = {false};
  meta_set_text(meta, "hidden_activation", "gelu_pytorch_tanh");
  const bool windows = !is_absent(meta, "sliding_window") && meta_config_int(meta, "sliding_window") > 0;
  if (windows && !read_window_pattern(meta, windowed, error)) return false;
  if (!windows) json_object_set_new(meta->config, "sliding_window", json_null());
  if (is_absent(meta, "rope_theta")) meta_set_number(meta, "rope_theta", 1e6);
  if (is_absent(meta, "rope_local_base_freq")) meta_set_number(meta, "rope_local_base_freq", 1e4);
  set_layer_types(meta, windowed);
  set_query_scalar(meta, 62);
  return true;
}

static bool describe_gpt2(GgufMeta *meta, Error *error) {
  (void)error;
  const GgufTensor *positions = gguf_set_find(meta->set, GGUF_POSITIONS ".weight");
  if (positions) meta_set_int(meta, "n_positions", positions->shape[0]);
  meta_set_text(meta, "activation_function", "gelu_new");
  return true;
}

static bool describe_gpt_neox(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "gelu");
  if (is_absent(meta, "use_parallel_residual")) meta_set_bool(meta, "use_parallel_residual", true);
  return true;
}

static bool describe_phi2(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "gelu_new");
  return true;
}

static bool describe_starcoder2(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "gelu_pytorch_tanh");
  meta_set_bool(meta, "use_bias", meta_has_tensor(meta, "blk.0.attn_q.bias"));
  return true;
}

static bool describe_stablelm(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "silu");
  meta_set_bool(meta, "use_qkv_bias", meta_has_tensor(meta, "blk.0.attn_q.bias"));
  return true;
}

static bool describe_nemotron(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "relu2");
  return true;
}

static bool describe_cohere(GgufMeta *meta, Error *error) {
  (void)error;
  meta_set_text(meta, "hidden_act", "silu");
  meta_set_bool(meta, "use_qk_norm", meta_has_tensor(meta, "blk.0.attn_q_norm.weight"));
  return true;
}

/* ---- all of them ---- */

#define FAMILY(name, type, list, function) \
  .architecture = name, .model_type = type, .keys = list, .describe = function

static const GgufFamily families[] = {
    {FAMILY("llama", "llama", llama_keys, describe_llama), .partial = "partial_rotary_factor",
     .interleaved = true},
    {FAMILY("qwen2", "qwen2", qwen2_keys, describe_qwen)},
    {FAMILY("qwen3", "qwen3", llama_keys, describe_qwen)},
    {FAMILY("gemma", "gemma", llama_keys, describe_gemma)},
    {FAMILY("gemma2", "gemma2", gemma2_keys, describe_gemma2)},
    {FAMILY("gemma3", "gemma3_text", gemma3_keys, describe_gemma3)},
    {FAMILY("gpt2", "gpt2", gpt2_keys, describe_gpt2)},
    {FAMILY("gptneox", "gpt_neox", gpt_neox_keys, describe_gpt_neox), .partial = "rotary_pct"},
    {FAMILY("phi2", "phi", layer_norm_keys, describe_phi2), .partial = "partial_rotary_factor"},
    {FAMILY("starcoder2", "starcoder2", starcoder2_keys, describe_starcoder2)},
    {FAMILY("stablelm", "stablelm", stablelm_keys, describe_stablelm), .partial = "partial_rotary_factor"},
    {FAMILY("nemotron", "nemotron", nemotron_keys, describe_nemotron), .partial = "partial_rotary_factor"},
    {FAMILY("olmo2", "olmo2", qwen2_keys, describe_qwen),
     .norm = {[NORM_ATTENTION] = "post_attention_norm", [NORM_MLP] = "post_ffw_norm"}},
    {FAMILY("granite", "granite", granite_keys, describe_llama), .interleaved = true},
    {FAMILY("command-r", "cohere", cohere_keys, describe_cohere)},
};
enum { FAMILIES = sizeof families / sizeof *families };

const GgufFamily *gguf_family_find(const GgufFile *file, Error *error) {
  static const char key[] = "general.architecture";
  GgufText name = {0};
  char known[256] = "";
  if (!gguf_text(file, key, &name, error)) return NULL;
  for (int i = 0; i < FAMILIES; i++)
    if (name.data && gguf_text_is(name, families[i].architecture)) return &families[i];
  for (int i = 0; i < FAMILIES; i++) {
    const size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", families[i].architecture);
  }
  gguf_fail(file, key, error, "%.*s is not supported (known: %s)",
            name.data ? (int)(name.size < 60 ? name.size : 60) : 7, name.data ? name.data : "nothing", known);
  return NULL;
}
