/* Opening a tokenizer: tokenizer.json and the files beside it. */
#include "base/file.h"
#include "tokenizer/internal.h"

#include <limits.h>
#include <stdio.h>
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

/* Adds a token unless one with this text is there. A text in the model's vocabulary keeps the id it has there. */
static bool add_token(Tokenizer *tokenizer, const Reader *reader, AddedToken token, Error *error) {
  if (token.bytes == 0 || string_table_get(&tokenizer->added_ids, token.text, token.bytes) >= 0) return true;
  int known = bpe_id(tokenizer->bpe, token.text, token.bytes);
  if (known >= 0) token.id = known;
  size_t other_bytes;
  const char *other = known < 0 ? bpe_token(tokenizer->bpe, token.id, &other_bytes) : NULL;
  for (size_t i = 0; !other && i < tokenizer->added_count; i++)
    if (tokenizer->added[i].id == token.id) other = tokenizer->added[i].text;
  if (other)
    return reader_fail(reader, error, "added token \"%.60s\" has the id %d of token \"%.60s\"", token.text,
                       token.id, other);
  token.text = string_pool_add(&tokenizer->pool, token.text, token.bytes, error);
  if (!token.text) return false;
  AddedToken *added = memory_resize(tokenizer->added, (tokenizer->added_count + 1) * sizeof *added);
  if (!added) return error_out_of_memory(error, "added tokens", (tokenizer->added_count + 1) * sizeof *added);
  tokenizer->added = added;
  added[tokenizer->added_count] = token;
  return string_table_put(&tokenizer->added_ids, token.text, token.bytes, (int)tokenizer->added_count++,
                          error);
}

static bool read_added_token(Tokenizer *tokenizer, const Reader *reader, long long id, Error *error) {
  AddedToken token = {.id = (int)id};
  return reader_text(reader, "content", true, &token.text, &token.bytes, error) &&
         reader_bool(reader, "special", false, &token.special, error) &&
         reader_bool(reader, "normalized", !token.special, &token.normalized, error) &&
         reader_bool(reader, "lstrip", false, &token.lstrip, error) &&
         reader_bool(reader, "rstrip", false, &token.rstrip, error) &&
         reader_bool(reader, "single_word", false, &token.single_word, error) &&
         add_token(tokenizer, reader, token, error);
}

static bool read_added_tokens(Tokenizer *tokenizer, const Reader *top, Error *error) {
  Reader list, item;
  if (!reader_member(top, "added_tokens", &list, error)) return false;
  if (!list.value) return true;
  if (!reader_as_list(&list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++) {
    long long id;
    if (!reader_item(&list, i, &item, error) || !reader_int(&item, "id", 0, MAX_ADDED_ID, &id, error) ||
        !read_added_token(tokenizer, &item, id, error))
      return false;
  }
  return true;
}

/* tokenizer_config.json: "added_tokens_decoder": {"5": {"content": ...}}. */
static bool read_added_decoder(Tokenizer *tokenizer, const Reader *config, Error *error) {
  Reader tokens, token;
  const char *key;
  json_t *value;
  if (!reader_member(config, "added_tokens_decoder", &tokens, error)) return false;
  if (!tokens.value) return true;
  if (!reader_as_object(&tokens, error)) return false;
  json_object_foreach(tokens.value, key, value) {
    char *end;
    long long id = strtoll(key, &end, 10);
    if (*key == 0 || *end != 0 || id < 0 || id > MAX_ADDED_ID)
      return reader_fail(&tokens, error, "\"%.40s\" is not an id", key);
    if (!reader_member(&tokens, key, &token, error) || !read_added_token(tokenizer, &token, id, error))
      return false;
  }
  return true;
}

static bool index_tokens(Tokenizer *tokenizer, Error *error) {
  RegexScratch *scratch = regex_scratch_new(error);
  bool done = scratch != NULL;
  tokenizer->vocab_size = bpe_vocab_size(tokenizer->bpe);
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

/* ---- tokenizer.json ---- */

static bool read_main(Tokenizer *tokenizer, const Reader *top, Error *error) {
  Reader model, part;
  const char *type;
  size_t bytes;
  if (!reader_member(top, "model", &model, error)) return false;
  if (!model.value) return reader_fail(&model, error, "missing");
  if (!reader_text(&model, "type", false, &type, &bytes, error)) return false;
  if (!type) type = reader_has(&model, "merges") ? "BPE" : "(none)"; /* files of 2020 leave it out */
  if (strcmp(type, "BPE") != 0)
    return reader_fail(&model, error, "tokenizer model %s is not supported (known: BPE)", type);
  tokenizer->bpe = bpe_open(&model, error);
  return tokenizer->bpe && reader_member(top, "normalizer", &part, error) &&
         normalizer_init(&tokenizer->normalizer, &part, error) &&
         reader_member(top, "pre_tokenizer", &part, error) &&
         pretokenizer_init(&tokenizer->pretokenizer, &part, error) &&
         reader_member(top, "post_processor", &part, error) &&
         postprocessor_init(&tokenizer->postprocessor, &part, error) &&
         reader_member(top, "decoder", &part, error) && decoder_init(&tokenizer->decoder, &part, error) &&
         read_added_tokens(tokenizer, top, error);
}

/* ---- the files beside it ---- */

/* A special token is named by its text or by an object with its content. NULL when the file names none. */
static bool named_token(const Reader *config, const char *key, const char **text, size_t *bytes,
                        Error *error) {
  Reader member;
  *text = NULL;
  *bytes = 0;
  if (!config->value) return true;
  if (!reader_member(config, key, &member, error)) return false;
  if (!member.value) return true;
  if (json_is_object(member.value)) return reader_text(&member, "content", true, text, bytes, error);
  return reader_as_text(&member, text, bytes, error);
}

/* The files' readers; value NULL when a file is not there. */
typedef struct Companions {
  Reader config, special, generation, model;
} Companions;

static bool named_token_anywhere(const Companions *files, const char *key, const char **text, size_t *bytes,
                                 Error *error) {
  if (!named_token(&files->config, key, text, bytes, error)) return false;
  return *text || named_token(&files->special, key, text, bytes, error);
}

static const char *const token_keys[] = {"bos_token", "eos_token", "pad_token", "unk_token",
                                         "sep_token", "cls_token", "mask_token"};

/* A named special token that is in the vocabulary but not among the added tokens is one all the same. */
static bool add_named_tokens(Tokenizer *tokenizer, const Companions *files, Error *error) {
  for (size_t i = 0; i < sizeof token_keys / sizeof token_keys[0]; i++) {
    AddedToken token = {.special = true};
    if (!named_token_anywhere(files, token_keys[i], &token.text, &token.bytes, error)) return false;
    if (token.bytes > 0 && bpe_id(tokenizer->bpe, token.text, token.bytes) >= 0 &&
        !add_token(tokenizer, &files->config, token, error))
      return false;
  }
  return true;
}

static int text_id(const Tokenizer *tokenizer, const char *text, size_t bytes) {
  int index = string_table_get(&tokenizer->added_ids, text, bytes);
  return index >= 0 ? tokenizer->added[index].id : bpe_id(tokenizer->bpe, text, bytes);
}

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

/* A named token's id; where the tokenizer's files name none, config.json's `id_key`. */
static bool find_named(const Tokenizer *tokenizer, const Companions *files, const char *key,
                       const char *id_key, int *id, Error *error) {
  const char *text;
  size_t bytes;
  IntArray ids = {0};
  *id = -1;
  if (!named_token_anywhere(files, key, &text, &bytes, error)) return false;
  if (text) *id = text_id(tokenizer, text, bytes);
  bool done = text || read_ids(&files->model, id_key, &ids, error);
  if (!text && ids.size > 0) *id = ids.data[0];
  int_array_free(&ids);
  return done;
}

static bool find_special_ids(Tokenizer *tokenizer, const Companions *files, Error *error) {
  const char *text;
  size_t bytes;
  if (!find_named(tokenizer, files, "bos_token", "bos_token_id", &tokenizer->bos, error) ||
      !find_named(tokenizer, files, "pad_token", "pad_token_id", &tokenizer->pad, error) ||
      !named_token_anywhere(files, "unk_token", &text, &bytes, error))
    return false;
  tokenizer->unk = text ? text_id(tokenizer, text, bytes) : bpe_unk(tokenizer->bpe);
  if (!named_token_anywhere(files, "eos_token", &text, &bytes, error)) return false;
  IntArray *ids = &tokenizer->eos_ids;
  int eos = text ? text_id(tokenizer, text, bytes) : -1;
  if (eos >= 0 && !push_unique(ids, eos, error)) return false;
  size_t named = ids->size;
  if (!read_ids(&files->generation, "eos_token_id", ids, error)) return false;
  if (ids->size == named && !read_ids(&files->model, "eos_token_id", ids, error)) return false;
  tokenizer->eos = ids->size > 0 ? ids->data[0] : -1;
  return true;
}

/* add_bos_token and add_eos_token say what the post-processor does, whatever tokenizer.json has. */
static bool override_specials(Tokenizer *tokenizer, const Reader *config, Error *error) {
  static const char *const keys[] = {"add_bos_token", "add_eos_token"};
  IntArray *lists[] = {&tokenizer->postprocessor.before, &tokenizer->postprocessor.after};
  int ids[] = {tokenizer->bos, tokenizer->eos};
  for (size_t i = 0; i < 2; i++) {
    bool wanted;
    if (!config->value || !reader_has(config, keys[i])) continue;
    if (!reader_bool_required(config, keys[i], &wanted, error)) return false;
    lists[i]->size = 0;
    if (wanted && ids[i] >= 0 && !int_array_push(lists[i], ids[i], error)) return false;
  }
  return true;
}

static bool keep_template(Tokenizer *tokenizer, const char *text, Error *error) {
  memory_free(tokenizer->chat_template);
  tokenizer->chat_template = memory_copy_string(text);
  return tokenizer->chat_template || error_out_of_memory(error, "chat template", strlen(text));
}

/* "chat_template": text, or [{"name": "default", "template": text}, ...]. */
static bool read_chat_template(Tokenizer *tokenizer, const Reader *config, Error *error) {
  Reader member, item;
  const char *name, *text;
  size_t bytes;
  if (!config->value) return true;
  if (!reader_member(config, "chat_template", &member, error)) return false;
  if (!member.value) return true;
  if (!json_is_array(member.value))
    return reader_as_text(&member, &text, &bytes, error) && keep_template(tokenizer, text, error);
  for (size_t i = 0; i < json_array_size(member.value); i++) {
    if (!reader_item(&member, i, &item, error) || !reader_text(&item, "name", true, &name, &bytes, error) ||
        !reader_text(&item, "template", true, &text, &bytes, error))
      return false;
    if (strcmp(name, "default") == 0) return keep_template(tokenizer, text, error);
  }
  return true;
}

/* ---- files ---- */

/* Reads DIRECTORY/NAME into text, and appends it to `all`, from which the digest is made, unless that is NULL.
 * *path is a new string. A file that need not exist leaves text empty. */
static bool read_file(const char *directory, const char *name, bool required, char **path, Buffer *text,
                      Buffer *all, Error *error) {
  *path = path_join(directory, name);
  if (!*path) return error_out_of_memory(error, "path", strlen(directory));
  if (!required && !file_exists(*path)) return true;
  if (!file_read(*path, text, error)) return false;
  return !all || (buffer_append(all, name, strlen(name) + 1, error) &&
                  buffer_append(all, text->data ? text->data : "", text->size, error));
}

typedef struct JsonFile {
  char *path;
  json_t *root;
} JsonFile;

static bool json_open(JsonFile *file, const char *directory, const char *name, bool required, Buffer *all,
                      Error *error) {
  Buffer text = {0};
  bool done = read_file(directory, name, required, &file->path, &text, all, error);
  if (done && (required || text.size > 0)) {
    file->root = reader_parse(file->path, &text, error);
    done = file->root != NULL;
  }
  buffer_free(&text);
  return done;
}

static void json_close(JsonFile *file) {
  json_decref(file->root);
  memory_free(file->path);
}

static bool read_template_file(Tokenizer *tokenizer, const char *directory, Buffer *all, Error *error) {
  Buffer text = {0};
  char *path = NULL;
  bool done = read_file(directory, "chat_template.jinja", false, &path, &text, all, error) &&
              (text.size == 0 || keep_template(tokenizer, text.data, error));
  buffer_free(&text);
  memory_free(path);
  return done;
}

enum { FILE_MAIN, FILE_CONFIG, FILE_SPECIAL, FILE_GENERATION, FILE_MODEL, FILE_COUNT };

static bool open_files(Tokenizer *tokenizer, const char *directory, JsonFile files[FILE_COUNT], Buffer *all,
                       Error *error) {
  static const char *const names[FILE_COUNT] = {"tokenizer.json", "tokenizer_config.json",
                                                "special_tokens_map.json", "generation_config.json",
                                                "config.json"};
  for (size_t i = 0; i < FILE_COUNT; i++)
    if (!json_open(&files[i], directory, names[i], i == FILE_MAIN, i < FILE_GENERATION ? all : NULL, error))
      return false;
  Reader top = reader_top(files[FILE_MAIN].path, files[FILE_MAIN].root);
  Companions beside = {.config = reader_top(files[FILE_CONFIG].path, files[FILE_CONFIG].root),
                       .special = reader_top(files[FILE_SPECIAL].path, files[FILE_SPECIAL].root),
                       .generation = reader_top(files[FILE_GENERATION].path, files[FILE_GENERATION].root),
                       .model = reader_top(files[FILE_MODEL].path, files[FILE_MODEL].root)};
  return read_main(tokenizer, &top, error) &&
         (!beside.config.value || read_added_decoder(tokenizer, &beside.config, error)) &&
         add_named_tokens(tokenizer, &beside, error) && index_tokens(tokenizer, error) &&
         find_special_ids(tokenizer, &beside, error) && override_specials(tokenizer, &beside.config, error) &&
         read_chat_template(tokenizer, &beside.config, error) &&
         read_template_file(tokenizer, directory, all, error);
}

Tokenizer *tokenizer_open(const char *directory, Error *error) {
  Tokenizer *tokenizer = memory_zeroed(1, sizeof *tokenizer);
  char *name = memory_copy_string(directory);
  if (!tokenizer || !name) {
    memory_free(tokenizer);
    memory_free(name);
    error_out_of_memory(error, "tokenizer", sizeof *tokenizer);
    return NULL;
  }
  tokenizer->directory = name;
  JsonFile files[FILE_COUNT] = {0};
  Buffer all = {0};
  bool done = open_files(tokenizer, directory, files, &all, error) &&
              buffer_append(&all, &tokenizer->bos, sizeof tokenizer->bos, error) &&
              buffer_append(&all, &tokenizer->eos, sizeof tokenizer->eos, error);
  if (done) bytes_digest(all.data, all.size, tokenizer->digest);
  for (size_t i = 0; i < FILE_COUNT; i++) json_close(&files[i]);
  buffer_free(&all);
  if (done) return tokenizer;
  tokenizer_free(tokenizer);
  return NULL;
}
