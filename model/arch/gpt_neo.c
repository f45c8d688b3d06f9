/* GPT-Neo: as GPT-2, but with plain linears of their own for q, k and v, scores that are not divided by sqrt(head size), and
 * layers that see all keys ("global") or the last window_size ("local"). */
#include "model/arch/list.h"

#include <string.h>

/* One kind of attention_types, for the next layer. */
static bool read_kind(const Reader *item, int64_t layer, int64_t window, ModelSpec *spec, Error *error) {
  const char *kind;
  size_t bytes;
  if (!reader_as_text(item, &kind, &bytes, error)) return false;
  const bool local = strcmp(kind, "local") == 0;
  if (!local && strcmp(kind, "global") != 0)
    return reader_fail(item, error, "\"%s\" is not supported (known: global, local)", kind);
  if (layer >= spec->layers)
    return reader_fail(item, error, "more of them than there are layers (%lld)", (long long)spec->layers);
  if (layer < MODEL_MAX_LAYERS) spec->window[layer] = local ? (int)window : 0;
  return true;
}

/* A pair [kinds, times]: the kinds, one after the other, so many times. */
static bool read_pair(const Reader *pair, int64_t window, int64_t *layer, ModelSpec *spec, Error *error) {
  Reader kinds, count, item;
  long long times;
  if (!reader_as_list(pair, error) || !reader_item(pair, 0, &kinds, error) ||
      !reader_item(pair, 1, &count, error) || !reader_as_list(&kinds, error) ||
      !reader_as_int(&count, 0, MODEL_MAX_LAYERS, &times, error))
    return false;
  for (long long t = 0; t < times; t++)
    for (size_t k = 0; k < json_array_size(kinds.value); k++)
      if (!reader_item(&kinds, k, &item, error) || !read_kind(&item, (*layer)++, window, spec, error))
        return false;
  return true;
}

/* Without attention_types global and local layers take turns. */
static bool read_windows(const Reader *config, ModelSpec *spec, Error *error) {
  Reader types, pair;
  int64_t window, layer = 0;
  if (!config_size_or(config, "window_size", 256, &window, error)) return false;
  if (!reader_has(config, "attention_types")) {
    for (; layer < spec->layers && layer < MODEL_MAX_LAYERS; layer++)
      spec->window[layer] = layer % 2 ? (int)window : 0;
    return true;
  }
  if (!reader_array(config, "attention_types", &types, error)) return false;
  for (size_t i = 0; i < json_array_size(types.value); i++)
    if (!reader_item(&types, i, &pair, error) || !read_pair(&pair, window, &layer, spec, error)) return false;
  return layer == spec->layers ||
         reader_fail(&types, error, "expected a kind for each of %lld layers, found %lld",
                     (long long)spec->layers, (long long)layer);
}

static bool read_gpt_neo(const Reader *config, ModelSpec *spec, Error *error) {
  double eps;
  if (!config_size_or(config, "vocab_size", 50257, &spec->vocab, error) ||
      !config_size_or(config, "hidden_size", 2048, &spec->hidden, error) ||
      !config_size_named(config, "num_layers", "num_hidden_layers", 24, &spec->layers, error) ||
      !config_size_named(config, "num_heads", "num_attention_heads", 16, &spec->heads, error) ||
      !config_size_or(config, "max_position_embeddings", 2048, &spec->max_positions, error) ||
      !config_size_or(config, "intermediate_size", 4 * spec->hidden, &spec->intermediate, error) ||
      !config_float_or(config, "layer_norm_epsilon", 1e-5, &eps, error) ||
      !config_activation(config, "activation_function", "gelu_new", &spec->activation, error) ||
      !config_bool_or(config, "tie_word_embeddings", true, &spec->tied, error))
    return false;
  spec->norm = (NormSpec){.kind = NORM_LAYER, .eps = (float)eps};
  spec->position = POSITION_LEARNED;
  spec->qkv = QKV_SEPARATE;
  spec->attention_scale = 1;
  return config_even_heads(config, spec, error) && read_windows(config, spec, error);
}

/* attention_layers is attention_types written out; Transformers reads the one and writes both. */
static const char *const keys[] = {"hidden_size",       "num_layers",          "num_hidden_layers",
                                   "num_heads",         "num_attention_heads", "max_position_embeddings",
                                   "intermediate_size", "layer_norm_epsilon",  "activation_function",
                                   "attention_types",   "attention_layers",    "window_size",
                                   "resid_dropout",     "embed_dropout",       NULL};

const Architecture architecture_gpt_neo = {
    .model_type = "gpt_neo",
    .causal_class = "GPTNeoForCausalLM",
    .score_class = "GPTNeoForSequenceClassification",
    .prefix = "transformer.",
    .layer = "h.%d.",
    .embedding = "wte",
    .positions = "wpe",
    .final_norm = "ln_f",
    .head = "lm_head",
    .linear = {[LINEAR_Q] = "attn.attention.q_proj",
               [LINEAR_K] = "attn.attention.k_proj",
               [LINEAR_V] = "attn.attention.v_proj",
               [LINEAR_O] = "attn.attention.out_proj",
               [LINEAR_UP] = "mlp.c_fc",
               [LINEAR_DOWN] = "mlp.c_proj"},
    .norm = {[NORM_ATTENTION] = "ln_1", [NORM_MLP] = "ln_2"},
    .norm_bias = true,
    .keys = keys,
    .read = read_gpt_neo,
    .linear_bias = {[LINEAR_O] = true, [LINEAR_UP] = true, [LINEAR_DOWN] = true}};
