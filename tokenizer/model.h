/* The "model" of tokenizer.json: a vocabulary, and how one pre-token becomes tokens of it. What all kinds have is
 * here; each kind (bpe.h, ...) is a table of functions. Short pieces and their tokens are remembered in a table
 * shared by all threads (a lost race only costs time). */
#ifndef TOKENIZER_MODEL_H
#define TOKENIZER_MODEL_H

#include "base/digest.h"
#include "base/reader.h"
#include "tokenizer/vocabulary.h"

#include <stddef.h>
#include <stdint.h>

typedef struct TokenModel TokenModel;

/* A token and the bytes of the piece it covers. */
typedef struct ModelToken {
  int id;
  uint32_t begin, end;
} ModelToken;

/* Working space, one per thread and model; tokens[0..count) is the last result. Begin with {0}. */
typedef struct ModelWork {
  ModelToken *tokens;
  size_t count, capacity;
  void *own; /* the kind's, made when it is first needed */
} ModelWork;

typedef struct ModelKind {
  const char *type; /* in tokenizer.json */
  /* Appends the tokens of one non-empty piece to work->tokens. */
  bool (*encode)(const TokenModel *model, ModelWork *work, const char *piece, size_t bytes, Error *error);
  /* Adds what decides the tokens beside the vocabulary (merges, scores) to a digest. NULL: nothing does. */
  bool (*digest)(const TokenModel *model, Digest *digest, Error *error);
  void (*free)(TokenModel *model); /* the whole of it, but for what TokenModel holds */
  void (*work_free)(void *own);    /* NULL: the kind needs none */
} ModelKind;

/* The first member of every kind's struct. */
struct TokenModel {
  const ModelKind *kind;
  Vocabulary vocabulary;
  int unk; /* id of the unknown token; -1: there is none */
  struct WordCache *cache;
};

/* Reads the member "model". Known types: BPE, Unigram, WordPiece, WordLevel. */
NODISCARD TokenModel *token_model_open(const Reader *model, Error *error);
void token_model_free(TokenModel *model); /* NULL is fine */

/* Encodes one non-empty piece of at most UINT32_MAX/2 bytes. */
NODISCARD bool token_model_encode(const TokenModel *model, ModelWork *work, const char *piece, size_t bytes,
                                  Error *error);
NODISCARD bool token_model_digest(const TokenModel *model, Digest *digest, Error *error);
void model_work_free(const TokenModel *model, ModelWork *work);

/* ---- for the kinds ---- */

NODISCARD bool model_work_push(ModelWork *work, ModelToken token, Error *error);
/* `data` with room for `count` items, which may have moved; NULL when memory is out (data is still valid then). */
void *model_work_grown(void *data, size_t *capacity, size_t count, size_t size, Error *error);

#endif
