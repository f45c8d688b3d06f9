#include "model/saved_config.h"

#include "base/file.h"
#include "base/json.h"

#include <limits.h>
#include <string.h>

#define GENERATION_CONFIG "generation_config.json"
#define EOS               "eos_token_id"
#define PAD               "pad_token_id"

/* ---- ids that end a text ---- */

static bool has_id(const json_t *ids, json_int_t id) {
  size_t i;
  json_t *one;
  json_array_foreach(ids, i, one) {
    if (json_integer_value(one) == id) return true;
  }
  return false;
}

static void add_id(json_t *ids, const json_t *id) {
  if (json_is_integer(id) && json_integer_value(id) >= 0 && !has_id(ids, json_integer_value(id)))
    json_array_append_new(ids, json_integer(json_integer_value(id)));
}

/* Adds the key's id, or its list of them. */
static void add_ids(json_t *ids, const json_t *config) {
  const json_t *value = json_object_get(config, EOS);
  size_t i;
  json_t *one;
  add_id(ids, value);
  json_array_foreach(value, i, one) add_id(ids, one);
}

static void add_tokens(json_t *ids, const SavedTokens *tokens) {
  for (int i = 0; tokens && i < tokens->end_count; i++) {
    json_t *id = json_integer(tokens->ends[i]);
    add_id(ids, id);
    json_decref(id);
  }
}

/* The ids of `config`, and behind them those of `tokens` that it lacks: readers that know only one take the first. True
 * when there were any to add. */
static bool complete_ends(json_t *config, const SavedTokens *tokens) {
  json_t *ids = json_array();
  add_ids(ids, config);
  const size_t before = json_array_size(ids);
  add_tokens(ids, tokens);
  const size_t count = json_array_size(ids);
  if (count > before) json_object_set(config, EOS, count == 1 ? json_array_get(ids, 0) : ids);
  json_decref(ids);
  return count > before;
}

/* ---- generation_config.json ---- */

/* *config is a new reference, or NULL when there is no such file. */
static bool read_generation(const char *directory, json_t **config, Error *error) {
  char *path = path_join(directory, GENERATION_CONFIG);
  *config = NULL;
  bool ok = path || error_out_of_memory(error, "path", strlen(directory));
  if (ok && file_exists(path)) {
    *config = json_file_read(path, error);
    ok = *config != NULL;
    if (ok && !json_holds_object(*config)) ok = error_set(error, ERROR_MODEL, "%s: expected an object", path);
  }
  memory_free(path);
  return ok;
}

static bool write_generation(const json_t *config, const char *directory, Error *error) {
  char *path = path_join(directory, GENERATION_CONFIG);
  const bool ok =
      path ? json_file_write(path, config, error) : error_out_of_memory(error, "path", strlen(directory));
  memory_free(path);
  return ok;
}

static bool copy_generation(const char *source, const char *directory, Error *error) {
  char *from = path_join(source, GENERATION_CONFIG), *to = path_join(directory, GENERATION_CONFIG);
  bool ok = (from && to) || error_out_of_memory(error, "path", strlen(source));
  ok = ok && (strcmp(from, to) == 0 || file_copy(from, to, error));
  memory_free(from);
  memory_free(to);
  return ok;
}

bool generation_config_save(const json_t *config, const SavedTokens *tokens, const char *source,
                            const char *directory, Error *error) {
  static const char *const taken[] = {"bos_token_id", EOS,
                                      PAD}; /* what Transformers takes over from config.json */
  json_t *generation = NULL;
  if (source && !read_generation(source, &generation, error)) return false;
  const bool found = generation != NULL;
  if (!found) generation = json_object();
  if (!generation) return error_out_of_memory(error, GENERATION_CONFIG, 0);
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    json_t *value = json_object_get(config, taken[i]);
    if (value && !json_is_null(value) && (!found || (i == 1 && !json_object_get(generation, EOS))))
      json_object_set(generation, taken[i], value);
  }
  bool ok = true;
  if (complete_ends(generation, tokens)) {
    ok = write_generation(generation, directory, error);
  } else if (found) {
    ok = copy_generation(source, directory, error);
  } else if (tokens && tokens->end_count) {
    ok = write_generation(generation, directory, error);
  }
  json_decref(generation);
  return ok;
}

bool generation_config_ends(SavedTokens *tokens, const char *directory, Error *error) {
  json_t *generation;
  if (!read_generation(directory, &generation, error)) return false;
  json_t *ids = json_array();
  size_t i;
  json_t *id;
  add_tokens(ids, tokens);
  add_ids(ids, generation);
  tokens->end_count = 0;
  json_array_foreach(ids, i, id) {
    const json_int_t value = json_integer_value(id);
    if (tokens->end_count < SAVED_ENDS && value <= INT_MAX) tokens->ends[tokens->end_count++] = (int)value;
  }
  json_decref(ids);
  json_decref(generation);
  return true;
}

/* ---- config.json ---- */

/* Transformers reads the score at the last token that is not padding. The token that Drover scores is the last one,
 * which ends the text: an id that ends texts must never be the padding, or the score is read one token too early. With
 * none, Transformers takes the last token, and refuses batches. */
static void set_pad_token(json_t *config, const SavedTokens *tokens, const json_t *ends, int64_t vocab) {
  const json_t *own = json_object_get(config, PAD);
  const json_int_t candidates[] = {json_is_integer(own) ? json_integer_value(own) : -1,
                                   tokens ? tokens->pad : -1};
  for (size_t i = 0; i < 2; i++) {
    const json_int_t pad = candidates[i];
    if (pad < 0 || pad >= vocab || has_id(ends, pad)) continue;
    if (i > 0) json_object_set_new(config, PAD, json_integer(pad));
    return;
  }
  json_object_del(config, PAD);
}

static void set_labels(json_t *config, ScoreZero zero) {
  json_object_del(config, "num_labels"); /* follows from id2label */
  json_object_set_new(config, "id2label", json_pack("{s:s}", "0", "LABEL_0"));
  json_object_set_new(config, "label2id", json_pack("{s:i}", "LABEL_0", 0));
  json_object_set_new(config, "score_shift", json_real((double)zero.shift));
  json_object_set_new(config, "score_zero_point", json_boolean(zero.known));
}

/* The newer spelling where the model has it, the older where it has that alone; never both. */
static void set_dtype(json_t *config, DType dtype) {
  const bool newer = json_object_get(config, "dtype") != NULL;
  if (newer) json_object_del(config, "torch_dtype");
  json_object_set_new(config, newer ? "dtype" : "torch_dtype", json_string(dtype_torch_name(dtype)));
}

/* Of config.json and generation_config.json, and those that are added. */
static json_t *all_ends(const json_t *config, const SavedTokens *tokens, const char *source, Error *error) {
  json_t *ids = json_array(), *generation = NULL;
  add_ids(ids, config);
  add_tokens(ids, tokens);
  const bool ok = !source || read_generation(source, &generation, error);
  add_ids(ids, generation);
  json_decref(generation);
  if (ok) return ids;
  json_decref(ids);
  return NULL;
}

static void set_untied(json_t *config) {
  json_object_set_new(config, "tie_word_embeddings", json_false());
}

bool saved_config_can_untie(const Model *model, Error *error) {
  ModelSpec spec = {0};
  json_t *config = json_deep_copy(model->config);
  if (!config) return error_out_of_memory(error, "config.json", 0);
  set_untied(config);
  bool ok = architecture_read(model->arch, config, &spec, error);
  if (ok && spec.tied)
    ok =
        error_set(error, ERROR_MODEL,
                  "the adapter changes the embedding table and the LM head apart, and a model of type \"%s\" "
                  "always ties them: it cannot be merged",
                  model->arch->model_type);
  json_decref(config);
  return ok;
}

bool saved_config_write(const Model *model, const ScoreHead *head, bool untied, const SavedTokens *tokens,
                        DType dtype, const char *source, const char *directory, Error *error) {
  json_t *ends = all_ends(model->config, tokens, source, error);
  if (!ends) return false;
  json_t *config = json_deep_copy(model->config);
  char *path = path_join(directory, "config.json");
  bool ok = (config && path) || error_out_of_memory(error, "config.json", 0);
  if (ok) {
    const char *name = head ? model->arch->score_class : model->arch->causal_class;
    json_object_set_new(config, "architectures", json_pack("[s]", name));
    set_dtype(config, dtype);
    if (untied) set_untied(config);
    complete_ends(config, tokens);
    if (head) {
      set_labels(config, head->zero);
      set_pad_token(config, tokens, ends, model->spec.vocab);
    } else {
      json_object_del(config, "score_shift");
      json_object_del(config, "score_zero_point");
    }
    ok = json_file_write(path, config, error);
  }
  json_decref(ends);
  json_decref(config);
  memory_free(path);
  return ok;
}
