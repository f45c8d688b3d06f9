/* Which strings are added tokens, and which tokens are BOS, EOS, PAD and UNK: tokenizer.json's list and the files beside
 * it, put together as AutoTokenizer does (Transformers 5.23, TokenizersBackend): what has another meaning there than the
 * file's own words say, an id above all, is refused. */
#include "tokenizer/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ADDED_ID = (1 << 24) - 1 };

/* ---- added tokens ---- */

/* The token is found by its normalised form when it is looked for in normalised text. */
static bool set_pattern(Tokenizer *tokenizer, AddedToken *token, RegexScratch *scratch, Error *error) {
  token->pattern = token->text;
  token->pattern_bytes = token->bytes;
  if (!token->normalized || tokenizer->normalizer.count == 0) return true;
  Text text = {0}, spare = {0};
  bool done = text_append(&text, token->text, token->bytes, (TokenSpan){0, 0}, error) &&
              normalizer_apply(&tokenizer->normalizer, &text, &spare, scratch, error);
  if (done) {
    token->pattern = string_pool_add(&tokenizer->pool, text.data ? text.data : "", text.size, error);
    token->pattern_bytes = text.size;
    done = token->pattern != NULL;
  }
  text_free(&text);
  text_free(&spare);
  return done;
}

/* The id that `tokenizers` gives to a text: that of the vocabulary, else the next free one. */
static bool choose_id(const Tokenizer *tokenizer, const Reader *reader, AddedToken *token, Error *error) {
  int known = vocabulary_id(&tokenizer->model->vocabulary, token->text, token->bytes), written = token->id;
  token->id = known;
  if (known >= 0) return true;
  int next = tokenizer->model->vocabulary.count;
  if (next <= tokenizer->largest_added) next = tokenizer->largest_added + 1;
  size_t bytes;
  const char *other = vocabulary_token(&tokenizer->model->vocabulary, next, &bytes);
  token->id = next;
  if (other || next > MAX_ADDED_ID)
    return reader_fail(reader, error, "added token \"%.60s\" would get the id %d of token \"%.60s\"",
                       token->text, next, other ? other : "");
  if (written < 0 || written == next) return true;
  return reader_fail(
      reader, error,
      "added token \"%.60s\" has the id %d, but Transformers gives it the next free one, %d: ids of added "
      "tokens must follow the vocabulary without a gap",
      token->text, written, next);
}

/* Adds a token (id -1: any), or sets the flags of the one that has its text. */
static bool add_token(Tokenizer *tokenizer, const Reader *reader, AddedToken token, Error *error) {
  if (token.bytes == 0) return true;
  int index = string_table_get(&tokenizer->added_ids, token.text, token.bytes);
  if (index >= 0) {
    AddedToken *same = &tokenizer->added[index];
    token.text = same->text;
    token.id = same->id;
    token.special = token.special || same->special; /* `tokenizers` never forgets it */
    *same = token;
    return true;
  }
  if (!choose_id(tokenizer, reader, &token, error)) return false;
  token.text = string_pool_add(&tokenizer->pool, token.text, token.bytes, error);
  if (!token.text) return false;
  if (tokenizer->added_count == tokenizer->added_capacity) {
    size_t capacity = tokenizer->added_capacity * 2 + 64;
    AddedToken *added = memory_resize(tokenizer->added, capacity * sizeof *added);
    if (!added) return error_out_of_memory(error, "added tokens", capacity * sizeof *added);
    tokenizer->added = added;
    tokenizer->added_capacity = capacity;
  }
  tokenizer->added[tokenizer->added_count] = token;
  if (token.id > tokenizer->largest_added) tokenizer->largest_added = token.id;
  return string_table_put(&tokenizer->added_ids, token.text, token.bytes, (int)tokenizer->added_count++,
                          error);
}

static bool is_added(const Tokenizer *tokenizer, const AddedToken *token) {
  return string_table_get(&tokenizer->added_ids, token->text, token->bytes) >= 0;
}

/* {"content": ..., "special": ..., ...} */
static bool read_object(const Reader *reader, AddedToken *token, Error *error) {
  return reader_text(reader, "content", true, &token->text, &token->bytes, error) &&
         reader_bool(reader, "special", false, &token->special, error) &&
         reader_bool(reader, "normalized", !token->special, &token->normalized, error) &&
         reader_bool(reader, "lstrip", false, &token->lstrip, error) &&
         reader_bool(reader, "rstrip", false, &token->rstrip, error) &&
         reader_bool(reader, "single_word", false, &token->single_word, error);
}

static bool read_list(Tokenizer *tokenizer, const Reader *top, Error *error) {
  Reader list, item;
  if (!reader_member(top, "added_tokens", &list, error)) return false;
  if (!list.value) return true;
  if (!reader_as_list(&list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++) {
    long long id;
    AddedToken token = {0};
    if (!reader_item(&list, i, &item, error) || !reader_int(&item, "id", 0, MAX_ADDED_ID, &id, error) ||
        !read_object(&item, &token, error))
      return false;
    token.id = (int)id;
    if (!add_token(tokenizer, &item, token, error)) return false;
  }
  return true;
}

/* ---- named special tokens ---- */

static const char *const standard_keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};
enum { STANDARD_COUNT = sizeof standard_keys / sizeof standard_keys[0] };

/* tokenizer_config.json with "added_tokens_decoder" says everything; without it special_tokens_map.json goes first. */
static bool has_decoder(const Companions *files) {
  return json_object_get(files->config.value, "added_tokens_decoder") != NULL;
}

/* Positions `out` on what a key says; value NULL: nothing. */
static bool find_value(const Companions *files, const char *key, Reader *out, Error *error) {
  bool map_first = !has_decoder(files) && json_object_get(files->special.value, key);
  const Reader *file = map_first ? &files->special : &files->config;
  *out = (Reader){.path = file->path};
  return !file->value || reader_member(file, key, out, error);
}

/* A special token is named by its text, or by an object with content and flags. */
static bool read_value(const Reader *value, AddedToken *token, Error *error) {
  *token = (AddedToken){.id = -1};
  bool done = json_is_object(value->value) ? read_object(value, token, error)
                                           : reader_as_text(value, &token->text, &token->bytes, error);
  token->special = true;
  return done;
}

/* Adds the token unless one with its text is among the added ones, whose flags stand. */
static bool add_special(Tokenizer *tokenizer, const Reader *value, Error *error) {
  AddedToken token;
  return read_value(value, &token, error) &&
         (is_added(tokenizer, &token) || add_token(tokenizer, value, token, error));
}

static bool is_standard(const char *key) {
  for (size_t i = 0; i < STANDARD_COUNT; i++)
    if (strcmp(key, standard_keys[i]) == 0) return true;
  return false;
}

/* Further "..._token" keys: "image_token": "<image>". */
static bool add_model_tokens(Tokenizer *tokenizer, const Companions *files, const Reader *file,
                             Error *error) {
  const char *key;
  json_t *ignored;
  Reader value;
  json_object_foreach(file->value, key, ignored) {
    size_t length = strlen(key);
    if (length < 6 || strcmp(key + length - 6, "_token") != 0 || is_standard(key)) continue;
    if (!find_value(files, key, &value, error)) return false;
    bool names = json_is_string(value.value) || json_object_get(value.value, "content");
    if (names && !add_special(tokenizer, &value, error)) return false;
  }
  return true;
}

/* "extra_special_tokens", or, where that says nothing, its old name: a list, or an object with names. */
static bool add_extra_tokens(Tokenizer *tokenizer, const Companions *files, Error *error) {
  Reader list, item;
  const char *name;
  json_t *ignored;
  if (!find_value(files, "extra_special_tokens", &list, error)) return false;
  if (json_array_size(list.value) + json_object_size(list.value) == 0 &&
      !find_value(files, "additional_special_tokens", &list, error))
    return false;
  if (!list.value) return true;
  if (json_is_object(list.value)) {
    json_object_foreach(list.value, name, ignored) {
      if (!reader_member(&list, name, &item, error) || !add_special(tokenizer, &item, error)) return false;
    }
    return true;
  }
  if (!reader_as_list(&list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++)
    if (!reader_item(&list, i, &item, error) || !add_special(tokenizer, &item, error)) return false;
  return true;
}

/* ---- added_tokens_decoder, added_tokens.json ---- */

static bool is_named(const Companions *files, const AddedToken *token, bool *named, Error *error) {
  *named = false;
  for (size_t i = 0; i < STANDARD_COUNT && !*named; i++) {
    Reader value;
    AddedToken other;
    if (!find_value(files, standard_keys[i], &value, error)) return false;
    if (!value.value) continue;
    if (!read_value(&value, &other, error)) return false;
    *named = other.bytes == token->bytes && memcmp(other.text, token->text, token->bytes) == 0;
  }
  return true;
}

typedef struct NumberedToken {
  long long id;
  const char *key;
} NumberedToken;

static int by_id(const void *a, const void *b) {
  long long left = ((const NumberedToken *)a)->id, right = ((const NumberedToken *)b)->id;
  return (left > right) - (left < right);
}

/* "added_tokens_decoder": {"5": {"content": ...}}: in the order of the ids; flags there go over tokenizer.json's. */
static bool add_decoder_item(Tokenizer *tokenizer, const Companions *files, const Reader *tokens,
                             NumberedToken item, Error *error) {
  Reader reader;
  bool named;
  AddedToken token = {.id = (int)item.id};
  if (!reader_member(tokens, item.key, &reader, error) || !read_object(&reader, &token, error) ||
      !is_named(files, &token, &named, error))
    return false;
  int index = string_table_get(&tokenizer->added_ids, token.text, token.bytes);
  const AddedToken *same = index >= 0 ? &tokenizer->added[index] : NULL;
  if (same && same->id != token.id)
    return reader_fail(&reader, error, "token \"%.60s\" has the id %d, but %d in tokenizer.json", token.text,
                       token.id, same->id);
  if (same && same->special == token.special && same->normalized == token.normalized &&
      same->lstrip == token.lstrip && same->rstrip == token.rstrip && same->single_word == token.single_word)
    return true;
  token.special = token.special || named;
  return add_token(tokenizer, &reader, token, error);
}

static bool add_decoder(Tokenizer *tokenizer, const Companions *files, Error *error) {
  Reader tokens;
  const char *key;
  json_t *value;
  if (!files->config.value) return true;
  if (!reader_member(&files->config, "added_tokens_decoder", &tokens, error)) return false;
  if (!tokens.value) return true;
  if (!reader_as_object(&tokens, error)) return false;
  size_t count = 0, size = json_object_size(tokens.value);
  NumberedToken *items = memory_zeroed(size + 1, sizeof *items);
  if (!items) return error_out_of_memory(error, "added tokens", size * sizeof *items);
  bool done = true;
  json_object_foreach(tokens.value, key, value) {
    char *end;
    long long id = strtoll(key, &end, 10);
    if (*key == 0 || *end != 0 || id < 0 || id > MAX_ADDED_ID) {
      done = reader_fail(&tokens, error, "\"%.40s\" is not an id", key);
      break;
    }
    items[count++] = (NumberedToken){.id = id, .key = key};
  }
  if (done) qsort(items, count, sizeof *items, by_id);
  for (size_t i = 0; done && i < count; i++)
    done = add_decoder_item(tokenizer, files, &tokens, items[i], error);
  memory_free(items);
  return done;
}

/* added_tokens.json: {"<extra>": 800}, read where there is no added_tokens_decoder. */
static bool add_old_file(Tokenizer *tokenizer, const Companions *files, Error *error) {
  const char *text;
  json_t *value;
  if (!files->added.value || has_decoder(files)) return true;
  size_t count = 0, size = json_object_size(files->added.value);
  NumberedToken *items = memory_zeroed(size + 1, sizeof *items);
  if (!items) return error_out_of_memory(error, "added tokens", size * sizeof *items);
  bool done = true;
  json_object_foreach(files->added.value, text, value) {
    done = done && reader_int(&files->added, text, 0, MAX_ADDED_ID, &items[count].id, error);
    items[count++].key = text;
  }
  if (done) qsort(items, count, sizeof *items, by_id);
  for (size_t i = 0; done && i < count; i++) {
    AddedToken token = {.text = items[i].key, .bytes = strlen(items[i].key), .id = (int)items[i].id};
    done = is_named(files, &token, &token.special, error);
    token.normalized = !token.special;
    if (done && !is_added(tokenizer, &token)) done = add_token(tokenizer, &files->added, token, error);
  }
  memory_free(items);
  return done;
}

static bool index_tokens(Tokenizer *tokenizer, Error *error) {
  RegexScratch *scratch = regex_scratch_new(error);
  bool done = scratch != NULL;
  tokenizer->vocab_size = tokenizer->model->vocabulary.size;
  for (size_t i = 0; done && i < tokenizer->added_count; i++) {
    AddedToken *token = &tokenizer->added[i];
    if (token->id >= tokenizer->vocab_size) tokenizer->vocab_size = token->id + 1;
    done = set_pattern(tokenizer, token, scratch, error);
  }
  regex_scratch_free(scratch);
  size_t rows = (size_t)tokenizer->vocab_size;
  tokenizer->added_of = done ? memory_alloc((rows + 1) * sizeof *tokenizer->added_of) : NULL;
  if (!done) return false;
  if (!tokenizer->added_of)
    return error_out_of_memory(error, "vocabulary", rows * sizeof *tokenizer->added_of);
  for (size_t id = 0; id < rows; id++) tokenizer->added_of[id] = -1;
  for (size_t i = 0; i < tokenizer->added_count; i++) tokenizer->added_of[tokenizer->added[i].id] = (int)i;
  return added_set_init(&tokenizer->added_raw, tokenizer->added, tokenizer->added_count, false, error) &&
         added_set_init(&tokenizer->added_normalized, tokenizer->added, tokenizer->added_count, true, error);
}

/* ---- BOS, EOS, PAD, UNK ---- */

static bool push_unique(IntArray *ids, long long id, Error *error) {
  for (size_t i = 0; i < ids->size; i++)
    if (ids->data[i] == id) return true;
  return int_array_push(ids, (int)id, error);
}

/* Appends an id or a list of ids; an absent member appends nothing. */
static bool read_ids(const Reader *config, const char *key, IntArray *ids, Error *error) {
  Reader member, item;
  long long id;
  if (!config->value) return true;
  if (!reader_member(config, key, &member, error)) return false;
  if (!member.value) return true;
  if (!json_is_array(member.value))
    return reader_as_int(&member, -1, INT_MAX, &id, error) && (id < 0 || push_unique(ids, id, error));
  for (size_t i = 0; i < json_array_size(member.value); i++)
    if (!reader_item(&member, i, &item, error) || !reader_as_int(&item, 0, INT_MAX, &id, error) ||
        !push_unique(ids, id, error))
      return false;
  return true;
}

/* A named token's id, *named whether there is one; all named tokens have been added. */
static bool named_id(const Tokenizer *tokenizer, const Companions *files, const char *key, int *id,
                     bool *named, Error *error) {
  Reader value;
  AddedToken token;
  *id = -1;
  *named = false;
  if (!find_value(files, key, &value, error)) return false;
  if (!value.value) return true;
  if (!read_value(&value, &token, error)) return false;
  int index = string_table_get(&tokenizer->added_ids, token.text, token.bytes);
  if (index >= 0) *id = tokenizer->added[index].id;
  *named = true;
  return true;
}

/* Where the tokenizer's files name none, config.json's `id_key`. */
static bool find_named(const Tokenizer *tokenizer, const Companions *files, const char *key,
                       const char *id_key, int *id, Error *error) {
  bool named;
  IntArray ids = {0};
  bool done = named_id(tokenizer, files, key, id, &named, error) &&
              (named || read_ids(&files->model, id_key, &ids, error));
  if (ids.size > 0) *id = ids.data[0];
  int_array_free(&ids);
  return done;
}

static bool find_special_ids(Tokenizer *tokenizer, const Companions *files, Error *error) {
  int eos;
  bool named;
  if (!find_named(tokenizer, files, "bos_token", "bos_token_id", &tokenizer->bos, error) ||
      !find_named(tokenizer, files, "pad_token", "pad_token_id", &tokenizer->pad, error) ||
      !named_id(tokenizer, files, "unk_token", &tokenizer->unk, &named, error))
    return false;
  if (!named) tokenizer->unk = tokenizer->model->unk;
  IntArray *ids = &tokenizer->eos_ids;
  if (!named_id(tokenizer, files, "eos_token", &eos, &named, error)) return false;
  if (eos >= 0 && !push_unique(ids, eos, error)) return false;
  size_t before = ids->size;
  if (!read_ids(&files->generation, "eos_token_id", ids, error)) return false;
  if (ids->size == before && !read_ids(&files->model, "eos_token_id", ids, error)) return false;
  tokenizer->eos = ids->size > 0 ? ids->data[0] : -1;
  return true;
}

/* ---- settings that go over tokenizer.json ---- */

static bool check_settings(const Companions *files, Error *error) {
  bool split;
  if (!files->config.value) return true;
  if (!reader_bool(&files->config, "split_special_tokens", false, &split, error)) return false;
  return !split || reader_fail(&files->config, error, "split_special_tokens: true is not supported");
}

/* Without a tokenizer.json, and so without its post-processor, two keys say what goes before and behind a text. */
static bool add_around(Tokenizer *tokenizer, const Companions *files, Error *error) {
  bool bos, eos;
  if (!files->config.value) return true;
  return reader_bool(&files->config, "add_bos_token", false, &bos, error) &&
         reader_bool(&files->config, "add_eos_token", false, &eos, error) &&
         (!bos || tokenizer->bos < 0 ||
          int_array_push(&tokenizer->postprocessor.before, tokenizer->bos, error)) &&
         (!eos || tokenizer->eos < 0 ||
          int_array_push(&tokenizer->postprocessor.after, tokenizer->eos, error));
}

/* Transformers 5 leaves add_bos_token and add_eos_token aside where there is a tokenizer.json; earlier versions did not. */
static bool note_ignored(Tokenizer *tokenizer, const Companions *files, Error *error) {
  static const char *const keys[] = {"add_bos_token", "add_eos_token"};
  const bool adds[] = {tokenizer_adds_bos(tokenizer), tokenizer_adds_eos(tokenizer)};
  for (size_t i = 0; i < 2 && !tokenizer->note; i++) {
    bool wanted;
    if (!files->config.value || !reader_has(&files->config, keys[i])) continue;
    if (!reader_bool(&files->config, keys[i], false, &wanted, error)) return false;
    if (wanted == adds[i]) continue;
    tokenizer->note = memory_format(
        "%s: %s is %s, but the post_processor of tokenizer.json decides, as in Transformers 5: "
        "it %s",
        files->config.path, keys[i], wanted ? "true" : "false", adds[i] ? "adds the token" : "adds none");
    if (!tokenizer->note) return error_out_of_memory(error, "note", 0);
  }
  return true;
}

bool special_tokens_read(Tokenizer *tokenizer, const Reader *top, const Companions *files, Error *error) {
  tokenizer->largest_added = -1;
  if (!check_settings(files, error) || !read_list(tokenizer, top, error) ||
      !add_decoder(tokenizer, files, error) || !add_old_file(tokenizer, files, error))
    return false;
  for (size_t i = 0; i < STANDARD_COUNT; i++) {
    Reader value;
    if (!find_value(files, standard_keys[i], &value, error) ||
        (value.value && !add_special(tokenizer, &value, error)))
      return false;
  }
  return add_model_tokens(tokenizer, files, &files->config, error) &&
         (has_decoder(files) || add_model_tokens(tokenizer, files, &files->special, error)) &&
         add_extra_tokens(tokenizer, files, error) && index_tokens(tokenizer, error) &&
         find_special_ids(tokenizer, files, error) &&
         (tokenizer->made ? add_around(tokenizer, files, error) : note_ignored(tokenizer, files, error));
}
