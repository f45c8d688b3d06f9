/* Opening a tokenizer: tokenizer.json and the files beside it. Which tokens are added and special: special.c. */
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/internal.h"

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

enum { FILE_MAIN, FILE_CONFIG, FILE_SPECIAL, FILE_ADDED, FILE_GENERATION, FILE_MODEL, FILE_COUNT };

static bool open_files(Tokenizer *tokenizer, const char *directory, JsonFile files[FILE_COUNT], Buffer *all,
                       Error *error) {
  static const char *const names[FILE_COUNT] = {"tokenizer.json",          "tokenizer_config.json",
                                                "special_tokens_map.json", "added_tokens.json",
                                                "generation_config.json",  "config.json"};
  for (size_t i = 0; i < FILE_COUNT; i++)
    if (!json_open(&files[i], directory, names[i], i == FILE_MAIN, i < FILE_GENERATION ? all : NULL, error))
      return false;
  Reader top = reader_top(files[FILE_MAIN].path, files[FILE_MAIN].root);
  Companions beside = {.config = reader_top(files[FILE_CONFIG].path, files[FILE_CONFIG].root),
                       .special = reader_top(files[FILE_SPECIAL].path, files[FILE_SPECIAL].root),
                       .added = reader_top(files[FILE_ADDED].path, files[FILE_ADDED].root),
                       .generation = reader_top(files[FILE_GENERATION].path, files[FILE_GENERATION].root),
                       .model = reader_top(files[FILE_MODEL].path, files[FILE_MODEL].root)};
  return read_main(tokenizer, &top, error) && special_tokens_read(tokenizer, &top, &beside, error) &&
         chat_templates_read(tokenizer, directory, &beside.config, all, error);
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
