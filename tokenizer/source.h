/* A vocabulary that is in no tokenizer.json: from it, and from the files beside it, comes what tokenizer.json would say, so
 * that everything behind it (added tokens, post-processor, decoder ...) is the one reading of tokenizer.json.
 *
 * What each becomes is what AutoTokenizer of Transformers 5.24 makes of the directory (class.h: which class), or with
 * TOKENIZER_SENTENCEPIECE what the sentencepiece library makes of the file. */
#ifndef TOKENIZER_SOURCE_H
#define TOKENIZER_SOURCE_H

#include "tokenizer/class.h"

typedef struct TokenizerSource {
  json_t *top;    /* tokenizer.json's structure */
  json_t *config; /* tokenizer_config.json's, with what class and vocabulary name where it names nothing */
  char *note;     /* for tokenizer_note; NULL: nothing */
} TokenizerSource;

void tokenizer_source_free(TokenizerSource *source);

/* tokenizer.model of SentencePiece, BPE or Unigram (formats/sentencepiece.h). */
NODISCARD bool source_sentencepiece(const char *path, const Companions *files, TokenizerKind kind,
                                    TokenizerSource *source, Error *error);

/* vocab.json and merges.txt: byte-level BPE. */
NODISCARD bool source_merges_file(const char *vocab, const char *merges, const Companions *files,
                                  TokenizerSource *source, Error *error);

/* The metadata of a GGUF file: llama.cpp's "llama" and "gpt2". config.json and all other files have no say. */
NODISCARD bool source_gguf(const char *path, TokenizerSource *source, Error *error);

/* ---- for those who make them ---- */

/* Takes the value over, also on failure. */
NODISCARD static inline bool json_put(json_t *object, const char *key, json_t *value, Error *error) {
  return json_object_set_new(object, key, value) == 0 || error_out_of_memory(error, key, 0);
}
NODISCARD static inline bool json_push(json_t *list, json_t *value, Error *error) {
  return json_array_append_new(list, value) == 0 || error_out_of_memory(error, "tokenizer", 0);
}
/* An element of "added_tokens", normalized false. */
json_t *source_added_token(json_int_t id, const char *text, size_t bytes, bool special);
/* A copy of tokenizer_config.json, or an empty object. */
NODISCARD bool source_config(const Companions *files, TokenizerSource *source, Error *error);

#endif
