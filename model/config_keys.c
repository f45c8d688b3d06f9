/* Which keys a config.json may have. A key that is not listed would mean something to Transformers, and nothing here: it is
 * refused unless it is off. */
#include "model/arch.h"

#include <string.h>

/* Read by every architecture, or by what opens, saves and scores models. */
static const char *const read_keys[] = {
    "architectures", "model_type", "vocab_size", "tie_word_embeddings", "bos_token_id", "eos_token_id",
    "pad_token_id", "dtype", "torch_dtype", "initializer_range", "score_shift", "score_zero_point",
    /* refused by name in arch.c, with a better message */
    "quantization_config", "is_encoder_decoder", "add_cross_attention", "pruned_heads"};

/* What changes no logit of an evaluation: */
static const char *const harmless_keys[] = {
    /* where a model comes from, and which program wrote or runs it */
    "_name_or_path", "name_or_path", "_from_model_config", "transformers_version", "auto_map",
    "tokenizer_class", "custom_pipelines", "unsloth_fixed", "unsloth_version", "transformers.js_config",
    "is_llama_config", "use_cache", "use_flash_attn", "use_flash_attention", "_attn_implementation",
    "attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled", "gradient_checkpointing",
    "use_bfloat16", "torchscript", "pretraining_tp", "model_max_length", "max_sequence_length",
    "reorder_and_upcast_attn", "is_decoder",
    /* training */
    "initializer_factor", "attention_dropout", "hidden_dropout", "classifier_dropout", "attn_pdrop",
    "embd_pdrop", "resid_pdrop", "residual_dropout", "embedding_dropout", "neftune_noise_alpha",
    /* names of classes and tasks, other heads than those here */
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj",
    /* the shape of what a call returns */
    "return_dict", "use_return_dict", "output_attentions", "output_hidden_states", "output_scores",
    "return_dict_in_generate", "chunk_size_feed_forward", "tf_legacy_loss",
    /* generation, as old versions saved it here (all at its defaults) */
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
    "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "cross_attention_hidden_size", "decoder_start_token_id",
    "sep_token_id", "unk_token_id", "prefix"};

static const char *const rope_keys[] = {"type",
                                        "rope_type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        "attention_factor",
                                        "short_factor",
                                        "long_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "mscale",
                                        "mscale_all_dim",
                                        "truncate",
                                        "partial_rotary_factor",
                                        "finetuned"};

static bool among(const char *key, const char *const *names, size_t count) {
  for (size_t i = 0; i < count && names[i]; i++)
    if (strcmp(key, names[i]) == 0) return true;
  return false;
}

bool config_check_members(const Reader *config, const char *const *keys, const char *type, Error *error) {
  const char *key;
  json_t *value;
  json_object_foreach(config->value, key, value) {
    if (among(key, read_keys, sizeof read_keys / sizeof *read_keys) ||
        among(key, harmless_keys, sizeof harmless_keys / sizeof *harmless_keys) || among(key, keys, SIZE_MAX))
      continue;
    char why[160];
    snprintf(why, sizeof why, "not known for %s; take it out if the model is the same without it", type);
    if (!config_refuse(config, key, why, error)) return false;
  }
  return true;
}

bool config_check_keys(const Reader *config, const Architecture *arch, Error *error) {
  return config_check_members(config, arch->keys, arch->model_type, error);
}

bool config_check_rope_keys(const Reader *rope, const char *own_key, Error *error) {
  const char *key;
  json_t *value;
  json_object_foreach(rope->value, key, value) {
    if (!among(key, rope_keys, sizeof rope_keys / sizeof *rope_keys) &&
        (!own_key || strcmp(key, own_key) != 0) &&
        !config_refuse(rope, key, "not known among rotary parameters", error))
      return false;
  }
  return true;
}
