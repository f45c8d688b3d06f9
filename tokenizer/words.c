#include "tokenizer/words.h"

#include "base/memory.h"
#include "tokenizer/text.h"

#include <limits.h>
#include <string.h>

typedef struct Words {
  TokenModel base;
  char *unk_token;  /* the vocabulary may lack it: an error only when it is needed */
  char *prefix;     /* of a token that continues a piece; owned */
  size_t most;      /* characters of a piece */
  uint32_t longest; /* bytes of a token */
} Words;

static bool push_unknown(const Words *words, ModelWork *result, size_t bytes, Error *error) {
  result->count = 0;
  if (words->base.unk < 0)
    return error_set(error, ERROR_MODEL, "unk_token %s is not in the tokenizer's vocabulary",
                     words->unk_token);
  return model_work_push(result, (ModelToken){words->base.unk, 0, (uint32_t)bytes}, error);
}

static size_t count_characters(const char *text, size_t bytes) {
  size_t count = 0;
  for (size_t i = 0; i < bytes; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
  return count;
}

/* The longest token that text[begin..bytes) begins with, *end where it ends; -1: none. `spelled` begins with the
 * prefix, of `prefix` bytes, and has room for the longest token behind it. */
static int longest_token(const Words *words, char *spelled, size_t prefix, const char *text, size_t begin,
                         size_t bytes, size_t *end) {
  size_t most = bytes - begin;
  const Vocabulary *vocabulary = &words->base.vocabulary;
  if (most > words->longest) {
    most = words->longest;
    while (((unsigned char)text[begin + most] & 0xc0) == 0x80) most--;
  }
  memcpy(spelled + prefix, text + begin, most);
  for (*end = begin + most; *end > begin; *end = utf8_previous(text, *end)) {
    size_t skip = begin > 0 ? 0 : prefix;
    int id = vocabulary_id(vocabulary, spelled + skip, prefix - skip + (*end - begin));
    if (id >= 0) return id;
  }
  return -1;
}

static bool wordpiece_encode(const TokenModel *model, ModelWork *result, const char *piece, size_t bytes,
                             Error *error) {
  const Words *words = (const Words *)model;
  if (count_characters(piece, bytes) > words->most) return push_unknown(words, result, bytes, error);
  size_t prefix = strlen(words->prefix), room = prefix + words->longest + 1;
  if (!result->own) {
    result->own = memory_alloc(room);
    if (!result->own) return error_out_of_memory(error, "encoding", room);
    memcpy(result->own, words->prefix, prefix);
  }
  for (size_t at = 0, end = 0; at < bytes; at = end) {
    int id = longest_token(words, result->own, prefix, piece, at, bytes, &end);
    if (id < 0) return push_unknown(words, result, bytes, error);
    if (!model_work_push(result, (ModelToken){id, (uint32_t)at, (uint32_t)end}, error)) return false;
  }
  return true;
}

static bool wordlevel_encode(const TokenModel *model, ModelWork *result, const char *piece, size_t bytes,
                             Error *error) {
  int id = vocabulary_id(&model->vocabulary, piece, bytes);
  if (id < 0) return push_unknown((const Words *)model, result, bytes, error);
  return model_work_push(result, (ModelToken){id, 0, (uint32_t)bytes}, error);
}

/* ---- opening ---- */

static bool words_digest(const TokenModel *model, Digest *digest, Error *error) {
  (void)error;
  const Words *words = (const Words *)model;
  uint64_t most = words->most;
  digest_add(digest, &most, sizeof most);
  digest_add(digest, words->prefix, strlen(words->prefix) + 1);
  digest_add(digest, &model->unk, sizeof model->unk);
  return true;
}

static void words_free(TokenModel *model) {
  Words *words = (Words *)model;
  memory_free(words->unk_token);
  memory_free(words->prefix);
  memory_free(words);
}

static bool read_text(const Reader *model, const char *key, char **out, Error *error) {
  const char *text;
  size_t bytes;
  if (!reader_text(model, key, true, &text, &bytes, error)) return false;
  *out = memory_copy_string(text);
  return *out || error_out_of_memory(error, key, bytes);
}

static bool read_words(Words *words, const Reader *model, bool pieces, Error *error) {
  Reader vocab;
  long long most = LLONG_MAX;
  Vocabulary *vocabulary = &words->base.vocabulary;
  if (!reader_member(model, "vocab", &vocab, error) || !vocabulary_read(vocabulary, &vocab, error) ||
      !read_text(model, "unk_token", &words->unk_token, error))
    return false;
  words->base.unk = vocabulary_id(vocabulary, words->unk_token, strlen(words->unk_token));
  for (int id = 0; id < vocabulary->size; id++)
    if (vocabulary->lengths[id] > words->longest) words->longest = vocabulary->lengths[id];
  if (pieces && (!reader_int(model, "max_input_chars_per_word", 0, LLONG_MAX, &most, error) ||
                 !read_text(model, "continuing_subword_prefix", &words->prefix, error)))
    return false;
  words->most = (size_t)most;
  if (!words->prefix) words->prefix = memory_copy_string("");
  return words->prefix || error_out_of_memory(error, "tokenizer", 1);
}

static TokenModel *words_open(const Reader *model, const ModelKind *kind, bool pieces, Error *error) {
  Words *words = memory_zeroed(1, sizeof *words);
  if (!words) {
    error_out_of_memory(error, "tokenizer", sizeof *words);
    return NULL;
  }
  words->base = (TokenModel){.kind = kind, .unk = -1};
  if (read_words(words, model, pieces, error)) return &words->base;
  token_model_free(&words->base);
  return NULL;
}

TokenModel *wordpiece_open(const Reader *model, Error *error) {
  static const ModelKind kind = {"WordPiece", wordpiece_encode, words_digest, words_free, memory_free};
  return words_open(model, &kind, true, error);
}

TokenModel *wordlevel_open(const Reader *model, Error *error) {
  static const ModelKind kind = {"WordLevel", wordlevel_encode, words_digest, words_free, NULL};
  return words_open(model, &kind, false, error);
}
