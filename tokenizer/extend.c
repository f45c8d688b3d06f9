#include "tokenizer/extend.h"

#include "base/companions.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/source.h"

#include <string.h>
#include <unistd.h>

typedef struct Extension {
  const Tokenizer *old;
  const NewToken *tokens;
  size_t count;
  int first;
  json_t *top, *config; /* of the files */
} Extension;

static bool check_tokens(const Extension *e, Error *error) {
  for (size_t i = 0; i < e->count; i++) {
    const char *text = e->tokens[i].text;
    const size_t bytes = strlen(text);
    size_t skip;
    if (bytes == 0 || utf8_valid_prefix(text, bytes, &skip) < bytes)
      return error_set(error, ERROR_USAGE, "token %zu: expected a text in UTF-8, found '%.60s'", i + 1, text);
    const int id = tokenizer_id(e->old, text);
    if (id >= 0)
      return error_set(error, ERROR_USAGE, "token '%.60s' is in the vocabulary already, with the id %d", text,
                       id);
    for (size_t k = 0; k < i; k++)
      if (strcmp(e->tokens[k].text, text) == 0)
        return error_set(error, ERROR_USAGE, "token '%.60s' is given twice", text);
  }
  return true;
}

/* ---- a file that is made ---- */

static bool put_own_tokens(const Extension *e, json_t *list, Error *error) {
  json_array_clear(list);
  for (int id = 0; id < e->old->vocab_size; id++) { /* in the order of the ids */
    const AddedToken *token = added_by_id(e->old, id);
    if (!token) continue;
    json_t *item = source_added_token(id, token->text, token->bytes, token->special);
    if (!json_push(list, item, error) ||
        !json_put(item, "single_word", json_boolean(token->single_word), error) ||
        !json_put(item, "lstrip", json_boolean(token->lstrip), error) ||
        !json_put(item, "rstrip", json_boolean(token->rstrip), error) ||
        !json_put(item, "normalized", json_boolean(token->normalized), error))
      return false;
  }
  return true;
}

/* One token before or behind the text; both lists have at most one. */
static bool put_around(const IntArray *ids, const Tokenizer *old, json_t *single, json_t *known,
                       Error *error) {
  for (size_t i = 0; i < ids->size; i++) {
    const char *text = tokenizer_token(old, ids->data[i]);
    if (!json_push(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", 0), error) ||
        !json_put(known, text,
                  json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", ids->data[i], "tokens", text), error))
      return false;
  }
  return true;
}

static bool put_postprocessor(const Extension *e, Error *error) {
  json_t *single = json_array(), *known = json_object();
  json_t *pair = json_pack("[{s:{s:s, s:i}}, {s:{s:s, s:i}}]", "Sequence", "id", "A", "type_id", 0,
                           "Sequence", "id", "B", "type_id", 1);
  json_t *all = json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                          pair, "special_tokens", known);
  return json_put(e->top, "post_processor", all, error) &&
         put_around(&e->old->postprocessor.before, e->old, single, known, error) &&
         json_push(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0), error) &&
         put_around(&e->old->postprocessor.after, e->old, single, known, error);
}

/* Everything that the tokenizer was made with stands in tokenizer.json now. */
static bool finish_made(const Extension *e, Error *error) {
  static const char *const done[] = {"added_tokens_decoder",
                                     "additional_special_tokens",
                                     "extra_special_tokens",
                                     "add_bos_token",
                                     "add_eos_token",
                                     "add_prefix_space",
                                     "legacy",
                                     "auto_map",
                                     "sp_model_kwargs"};
  static const char *const empty[] = {"truncation", "padding", "normalizer", "pre_tokenizer", "decoder"};
  json_t *list = json_array();
  if (!json_put(e->top, "added_tokens", list, error) || !put_own_tokens(e, list, error) ||
      !put_postprocessor(e, error))
    return false;
  json_object_del(json_object_get(e->top, "model"),
                  "merge_ranks"); /* the library has none; their order is the same */
  for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
    if (!json_object_get(e->top, empty[i]) && !json_put(e->top, empty[i], json_null(), error)) return false;
  for (size_t i = 0; i < sizeof done / sizeof *done; i++) json_object_del(e->config, done[i]);
  return json_put(e->top, "version", json_string("1.0"), error) &&
         json_put(e->config, "tokenizer_class", json_string("PreTrainedTokenizerFast"), error);
}

static bool leave_out(const char *to, Error *error) {
  static const char *const names[] = {"tokenizer.model", "vocab.json", "merges.txt",
                                      "special_tokens_map.json", "added_tokens.json"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char *path = path_join(to, names[i]);
    if (!path) return error_out_of_memory(error, "path", strlen(to));
    if (file_exists(path)) unlink(path);
    memory_free(path);
  }
  return true;
}

/* ---- the new tokens ---- */

static json_t *decoder_entry(const NewToken *token) {
  return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", token->text, "single_word", 0, "lstrip", 0,
                   "rstrip", 0, "normalized", 0, "special", (int)token->special);
}

static bool add_tokens(const Extension *e, Error *error) {
  json_t *list = json_object_get(e->top, "added_tokens"),
         *decoder = json_object_get(e->config, "added_tokens_decoder");
  if (!json_is_array(list)) {
    list = json_array();
    if (!json_put(e->top, "added_tokens", list, error)) return false;
  }
  for (size_t i = 0; i < e->count; i++) {
    const NewToken *token = &e->tokens[i];
    const int id = e->first + (int)i;
    char key[16];
    snprintf(key, sizeof key, "%d", id);
    if (!json_push(list, source_added_token(id, token->text, strlen(token->text), token->special), error) ||
        (decoder && !json_put(decoder, key, decoder_entry(token), error)))
      return false;
  }
  return true;
}

static bool write_json(const char *directory, const char *name, const json_t *value, Error *error) {
  char *path = path_join(directory, name);
  const bool done = path ? json_file_write(path, value, error) : error_out_of_memory(error, "path", 0);
  memory_free(path);
  return done;
}

/* What is read back is the old tokenizer with the new tokens. */
static bool check_written(const Extension *e, const char *to, Error *error) {
  Tokenizer *new = tokenizer_open(to, error);
  if (!new) return false;
  bool same = tokenizer_vocab_size(new) == e->first + (int)e->count;
  for (size_t i = 0; same && i < e->count; i++)
    same = tokenizer_id(new, e->tokens[i].text) == e->first + (int)i;
  for (int id = 0; same && id < e->first; id++) {
    const char *was = tokenizer_token(e->old, id), *is = tokenizer_token(new, id);
    same = (!was && !is) || (was && is && strcmp(was, is) == 0 &&
                             tokenizer_is_special(e->old, id) == tokenizer_is_special(new, id));
  }
  tokenizer_free(new);
  return same || error_set(error, ERROR_MODEL,
                           "%s: the tokenizer as it was written is not the one of %s with the new tokens", to,
                           tokenizer_directory(e->old));
}

static bool extend(Extension *e, const char *from, const char *to, Error *error) {
  e->first = tokenizer_vocab_size(e->old);
  if (!check_tokens(e, error) || (directory_exists(from) && !companions_copy(from, to, error))) return false;
  if (!e->old->made && e->count == 0) return true;
  if (!tokenizer_files_read(from, e->old->made ? TOKENIZER_AUTO : TOKENIZER_FILE, &e->top, &e->config, error))
    return false;
  if (e->old->made && (!leave_out(to, error) || !finish_made(e, error))) return false;
  return add_tokens(e, error) && write_json(to, "tokenizer.json", e->top, error) &&
         (!json_object_size(e->config) || write_json(to, "tokenizer_config.json", e->config, error)) &&
         check_written(e, to, error);
}

bool tokenizer_extend(const char *from, const char *to, const NewToken *tokens, size_t count, int *first,
                      Error *error) {
  Tokenizer *old = tokenizer_open(from, error);
  if (!old) return false;
  Extension e = {.old = old, .tokens = tokens, .count = count};
  const bool done = extend(&e, from, to, error);
  *first = e.first;
  json_decref(e.top);
  json_decref(e.config);
  tokenizer_free(old);
  return done;
}
