#include "tokenizer/model.h"

#include "base/memory.h"
#include "tokenizer/bpe.h"
#include "tokenizer/unigram.h"
#include "tokenizer/wordcache.h"
#include "tokenizer/words.h"

#include <string.h>

/* Files of 2020 leave the type out. */
static const char *guessed_type(const Reader *reader) {
  if (reader_has(reader, "merges")) return "BPE";
  if (reader_has(reader, "max_input_chars_per_word")) return "WordPiece";
  return json_is_array(json_object_get(reader->value, "vocab")) ? "Unigram" : "WordLevel";
}

TokenModel *token_model_open(const Reader *reader, Error *error) {
  static const struct {
    const char *type;
    TokenModel *(*open)(const Reader *, Error *);
  } kinds[] = {{"BPE", bpe_open},
               {"Unigram", unigram_open},
               {"WordPiece", wordpiece_open},
               {"WordLevel", wordlevel_open}};
  const char *type;
  size_t bytes;
  if (!reader->value) {
    reader_fail(reader, error, "missing");
    return NULL;
  }
  if (!reader_text(reader, "type", false, &type, &bytes, error)) return NULL;
  if (!type) type = guessed_type(reader);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strcmp(type, kinds[i].type) != 0) continue;
    TokenModel *model = kinds[i].open(reader, error);
    if (!model) return NULL;
    model->cache = word_cache_new(error);
    if (model->cache) return model;
    token_model_free(model);
    return NULL;
  }
  reader_fail(reader, error,
              "tokenizer model %s is not supported (known: BPE, Unigram, WordPiece, WordLevel)", type);
  return NULL;
}

void token_model_free(TokenModel *model) {
  if (!model) return;
  vocabulary_free(&model->vocabulary);
  word_cache_free(model->cache);
  model->kind->free(model);
}

bool token_model_encode(const TokenModel *model, ModelWork *work, const char *piece, size_t bytes,
                        Error *error) {
  ASSERT(bytes > 0 && bytes <= UINT32_MAX / 2);
  work->count = 0;
  if (bytes > WORD_CACHE_BYTES) return model->kind->encode(model, work, piece, bytes, error);
  ModelToken found[WORD_CACHE_TOKENS];
  uint64_t hash = hash_bytes(piece, bytes);
  size_t count = word_cache_get(model->cache, hash, piece, bytes, found);
  for (size_t i = 0; i < count; i++)
    if (!model_work_push(work, found[i], error)) return false;
  if (count > 0) return true;
  if (!model->kind->encode(model, work, piece, bytes, error)) return false;
  word_cache_put(model->cache, hash, piece, bytes, work->tokens, work->count);
  return true;
}

bool token_model_digest(const TokenModel *model, Digest *digest, Error *error) {
  return !model->kind->digest || model->kind->digest(model, digest, error);
}

void model_work_free(const TokenModel *model, ModelWork *work) {
  memory_free(work->tokens);
  if (work->own) model->kind->work_free(work->own);
  *work = (ModelWork){0};
}

void *model_work_grown(void *data, size_t *capacity, size_t count, size_t size, Error *error) {
  if (data && count <= *capacity) return data;
  size_t bigger = count + *capacity / 2 + 32;
  void *moved = memory_resize(data, bigger * size);
  if (!moved) {
    error_out_of_memory(error, "encoding", bigger * size);
    return NULL;
  }
  *capacity = bigger;
  return moved;
}

bool model_work_push(ModelWork *work, ModelToken token, Error *error) {
  ModelToken *tokens =
      model_work_grown(work->tokens, &work->capacity, work->count + 1, sizeof *tokens, error);
  if (!tokens) return false;
  work->tokens = tokens;
  work->tokens[work->count++] = token;
  return true;
}
