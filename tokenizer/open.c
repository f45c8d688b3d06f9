/* Opening a tokenizer: tokenizer.json and the files beside it, or what stands in their place (source.h). Which tokens are added and special: special.c. */
#include "base/file.h"
#include "base/json.h"
#include "formats/gguf.h"
#include "tokenizer/source.h"

#include <string.h>

/* ---- tokenizer.json ---- */

static bool read_main(Tokenizer *tokenizer, const Reader *top, Error *error) {
  Reader model, part;
  if (!reader_member(top, "model", &model, error)) return false;
  tokenizer->model = token_model_open(&model, error);
  return tokenizer->model && reader_member(top, "normalizer", &part, error) &&
         normalizer_init(&tokenizer->normalizer, &part, error) &&
         reader_member(top, "pre_tokenizer", &part, error) &&
         pretokenizer_init(&tokenizer->pretokenizer, &part, error) &&
         reader_member(top, "post_processor", &part, error) &&
         postprocessor_init(&tokenizer->postprocessor, &part, error) &&
         reader_member(top, "decoder", &part, error) && decoder_init(&tokenizer->decoder, &part, error);
}

/* ---- files ---- */

/* Reads DIRECTORY/NAME into text, and appends it to `all`, from which the digest is made, unless that is NULL.
 * *path is a new string. A file that need not exist leaves text empty. */
static bool read_file(const char *directory, const char *name, bool required, char **path, Buffer *text,
                      Buffer *all, Error *error) {
  *path = path_join(directory, name);
  if (!*path) return error_out_of_memory(error, "path", strlen(directory));
  if (!required && !file_exists(*path)) return true;
  if (!json_file_text(*path, json_limit_tokenizer, text, error)) return false;
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

/* The first is there or its like is made; of the others none need be there. */
enum { FILE_MAIN, FILE_CONFIG, FILE_SPECIAL, FILE_ADDED, FILE_GENERATION, FILE_MODEL, FILE_COUNT };

static bool open_beside(const char *directory, JsonFile files[FILE_COUNT], Buffer *all, Error *error) {
  static const char *const names[FILE_COUNT] = {"tokenizer.json",          "tokenizer_config.json",
                                                "special_tokens_map.json", "added_tokens.json",
                                                "generation_config.json",  "config.json"};
  for (size_t i = FILE_CONFIG; i < FILE_COUNT; i++)
    if (!json_open(&files[i], directory, names[i], false, i < FILE_GENERATION ? all : NULL, error))
      return false;
  return true;
}

static Companions companions(const JsonFile files[FILE_COUNT]) {
  return (Companions){.config = reader_top(files[FILE_CONFIG].path, files[FILE_CONFIG].root),
                      .special = reader_top(files[FILE_SPECIAL].path, files[FILE_SPECIAL].root),
                      .added = reader_top(files[FILE_ADDED].path, files[FILE_ADDED].root),
                      .generation = reader_top(files[FILE_GENERATION].path, files[FILE_GENERATION].root),
                      .model = reader_top(files[FILE_MODEL].path, files[FILE_MODEL].root)};
}

/* ---- where the vocabulary is ---- */

/* The name of a file in the directory, or NULL where there is none. */
static char *there(const char *directory, const char *name) {
  char *path = path_join(directory, name);
  if (path && file_exists(path)) return path;
  memory_free(path);
  return NULL;
}

/* tiktoken's files have ranks of byte strings and no pattern to split text by: that stands in code of the hub. */
static bool refuse_tiktoken(const char *directory, Error *error) {
  static const char *const names[] = {"qwen.tiktoken", "tiktoken.model", "tekken.json"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char *path = there(directory, names[i]);
    if (!path) continue;
    error_set(
        error, ERROR_MODEL,
        "%s: tiktoken vocabularies are not read: the pattern that belongs to it is in no file. Load the "
        "tokenizer with "
        "Transformers (AutoTokenizer.from_pretrained) and save_pretrained it, which writes a tokenizer.json",
        path);
    memory_free(path);
    return false;
  }
  return true;
}

/* Makes FILE_MAIN and FILE_CONFIG from a vocabulary of another form. */
static bool make_main(Tokenizer *tokenizer, TokenizerKind kind, JsonFile files[FILE_COUNT], Error *error) {
  const char *directory = tokenizer->directory;
  const Companions beside = companions(files);
  TokenizerSource source = {0};
  char *pieces = there(directory, "tokenizer.model"), *vocab = there(directory, "vocab.json"),
       *merges = there(directory, "merges.txt"), *gguf = NULL;
  bool done;
  if (pieces)
    done = source_sentencepiece(pieces, &beside, kind, &source, error);
  else if (kind == TOKENIZER_SENTENCEPIECE)
    done = error_set(error, ERROR_MODEL,
                     "%s has no tokenizer.model, which model.tokenizer sentencepiece reads", directory);
  else if (vocab && merges)
    done = source_merges_file(vocab, merges, &beside, &source, error);
  else
    done = refuse_tiktoken(directory, error) && gguf_locate(directory, &gguf, error) &&
           (gguf ? source_gguf(gguf, &source, error)
                 : json_open(&files[FILE_MAIN], directory, "tokenizer.json", true, NULL, error));
  if (done && source.top) {
    char **path = pieces ? &pieces : vocab && merges ? &vocab : &gguf;
    if (pieces && !json_object_get(source.config, "added_tokens_decoder"))
      json_object_del(files[FILE_SPECIAL].root,
                      "additional_special_tokens"); /* the pieces' own go over it there */
    memory_free(files[FILE_MAIN].path);
    files[FILE_MAIN] = (JsonFile){.path = *path, .root = source.top};
    *path = NULL;
    json_decref(files[FILE_CONFIG].root);
    files[FILE_CONFIG].root = source.config;
    tokenizer->note = source.note;
    tokenizer->made = true;
  }
  memory_free(pieces);
  memory_free(vocab);
  memory_free(merges);
  memory_free(gguf);
  return done;
}

/* What was made decides the ids, and not the bytes that it was made from. */
static bool add_made(const json_t *top, Buffer *all, Error *error) {
  char *text = json_dumps(top, JSON_COMPACT);
  const bool done = text ? buffer_text(all, text, error) : error_out_of_memory(error, "tokenizer", 0);
  memory_free(text);
  return done;
}

/* Whether ByteLevel is one of its steps. */
static bool has_bytes(const json_t *value) {
  size_t i;
  const char *key, *type = json_string_value(json_object_get(value, "type"));
  json_t *inner;
  if (type && strcmp(type, "ByteLevel") == 0) return true;
  json_array_foreach(value, i, inner) {
    if (has_bytes(inner)) return true;
  }
  json_object_foreach((json_t *)value, key, inner) {
    if (strcmp(key, "model") != 0 && has_bytes(inner)) return true;
  }
  return false;
}

/* tokenizer.json, with the steps of the class that AutoTokenizer takes. */
static bool read_steps_of_class(Tokenizer *tokenizer, JsonFile files[FILE_COUNT], Buffer *all, Error *error) {
  const Companions beside = companions(files);
  json_t *top = files[FILE_MAIN].root;
  TokenizerClass class;
  if (!class_choose(&beside, has_bytes(top), &class, error)) return false;
  json_t *before = json_copy(top), **config = &files[FILE_CONFIG].root;
  if (!*config) *config = json_object();
  if (!before || !*config) {
    json_decref(before);
    return error_out_of_memory(error, "tokenizer", 0);
  }
  bool done = (!json_is_object(*config) || class_names(&class, *config, error)) &&
              class_steps(&class, &beside.config, top, error) && buffer_text(all, class.name, error);
  if (done && !class_same_steps(before, top)) {
    tokenizer->note = memory_format(
        "%s: the class %s of Transformers 5 builds normalizer, pre_tokenizer and decoder itself, "
        "and other ones than this file has: they are taken as there; model.tokenizer file "
        "takes the file's own",
        files[FILE_MAIN].path, class.name);
    done = tokenizer->note || error_out_of_memory(error, "note", 0);
  }
  json_decref(before);
  return done;
}

static bool read_files(Tokenizer *tokenizer, TokenizerKind kind, JsonFile files[FILE_COUNT], Buffer *all,
                       Error *error) {
  const char *directory = tokenizer->directory;
  char *path = kind == TOKENIZER_SENTENCEPIECE ? NULL : there(directory, "tokenizer.json");
  const bool as_file = path != NULL;
  memory_free(path);
  if (as_file)
    return json_open(&files[FILE_MAIN], directory, "tokenizer.json", true, all, error) &&
           open_beside(directory, files, all, error) &&
           (kind == TOKENIZER_FILE || read_steps_of_class(tokenizer, files, all, error));
  return open_beside(directory, files, all, error) && make_main(tokenizer, kind, files, error) &&
         add_made(files[FILE_MAIN].root, all, error);
}

static bool read_all(Tokenizer *tokenizer, TokenizerKind kind, JsonFile files[FILE_COUNT], Buffer *all,
                     Error *error) {
  if (!read_files(tokenizer, kind, files, all, error)) return false;
  const Reader top = reader_top(files[FILE_MAIN].path, files[FILE_MAIN].root);
  const Companions beside = companions(files);
  return read_main(tokenizer, &top, error) && special_tokens_read(tokenizer, &top, &beside, error) &&
         chat_templates_read(tokenizer, tokenizer->directory, &beside.config, all, error);
}

bool tokenizer_files_read(const char *directory, TokenizerKind kind, json_t **top, json_t **config,
                          Error *error) {
  Tokenizer *tokenizer = memory_zeroed(1, sizeof *tokenizer);
  JsonFile files[FILE_COUNT] = {0};
  Buffer all = {0};
  *top = *config = NULL;
  bool done = tokenizer && (tokenizer->directory = memory_copy_string(directory));
  done = done ? read_files(tokenizer, kind, files, &all, error) : error_out_of_memory(error, "tokenizer", 0);
  if (done) {
    *top = json_incref(files[FILE_MAIN].root);
    *config = files[FILE_CONFIG].root ? json_incref(files[FILE_CONFIG].root) : json_object();
    done = *config || error_out_of_memory(error, "tokenizer", 0);
  }
  for (size_t i = 0; i < FILE_COUNT; i++) json_close(&files[i]);
  buffer_free(&all);
  tokenizer_free(tokenizer);
  return done;
}

bool tokenizer_exists(const char *directory) {
  static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json",
                                      "qwen.tiktoken",  "tiktoken.model",  "tekken.json"};
  Error ignored = {0};
  bool found = false;
  for (size_t i = 0; !found && i < sizeof names / sizeof *names; i++) {
    char *path = there(directory, names[i]);
    found = path != NULL;
    memory_free(path);
  }
  char *gguf = NULL;
  found = found || !gguf_locate(directory, &gguf, &ignored) || gguf;
  memory_free(gguf);
  return found;
}

Tokenizer *tokenizer_open_kind(const char *directory, TokenizerKind kind, Error *error) {
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
  bool done = read_all(tokenizer, kind, files, &all, error) &&
              buffer_append(&all, &tokenizer->bos, sizeof tokenizer->bos, error) &&
              buffer_append(&all, &tokenizer->eos, sizeof tokenizer->eos, error);
  if (done) bytes_digest(all.data, all.size, tokenizer->digest);
  for (size_t i = 0; i < FILE_COUNT; i++) json_close(&files[i]);
  buffer_free(&all);
  if (done) return tokenizer;
  tokenizer_free(tokenizer);
  return NULL;
}

Tokenizer *tokenizer_open(const char *directory, Error *error) {
  return tokenizer_open_kind(directory, TOKENIZER_AUTO, error);
}
