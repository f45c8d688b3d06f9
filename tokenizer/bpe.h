/* The "model" of tokenizer.json, type BPE: a vocabulary and ranked merges (Sennrich et al., ACL 2016).
 *
 * A piece starts as its characters. Again and again the adjacent pair whose merge has the lowest rank, of equals
 * the leftmost, becomes one token: O(n log n) with a heap of candidate merges over a linked list of symbols.
 * Characters outside the vocabulary become their bytes (byte_fallback) or the unknown token.
 * Short pieces and their ids are remembered in a table shared by all threads (a lost race only costs time). */
#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H

#include "base/digest.h"
#include "base/reader.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Bpe Bpe;

NODISCARD Bpe *bpe_open(const Reader *model, Error *error);
void bpe_free(Bpe *bpe);

int bpe_vocab_size(const Bpe *bpe); /* largest id + 1 */
int bpe_count(const Bpe *bpe);      /* number of tokens */
/* The token's text, NUL-terminated, borrowed; NULL for an id that is not used. */
const char *bpe_token(const Bpe *bpe, int id, size_t *bytes);
int bpe_id(const Bpe *bpe, const char *token, size_t bytes); /* -1 when absent */
int bpe_unk(const Bpe *bpe);                                 /* -1 when there is none */

/* Adds the merges in their order to a digest. */
NODISCARD bool bpe_digest_merges(const Bpe *bpe, Digest *digest, Error *error);

/* A token and the bytes of the piece it covers. */
typedef struct BpeToken {
  int id;
  uint32_t begin, end;
} BpeToken;

/* Working space, one per thread; tokens[0..count) is the last result. */
typedef struct BpeWork {
  BpeToken *tokens;
  size_t count, token_capacity;
  struct BpeSymbol *symbols;
  size_t symbol_count, symbol_capacity;
  struct BpeCandidate *heap;
  size_t heap_count, heap_capacity;
  Buffer character; /* a character with prefix or suffix */
} BpeWork;
void bpe_work_free(BpeWork *work);

/* Encodes one non-empty piece of at most UINT32_MAX/2 bytes. */
NODISCARD bool bpe_encode(const Bpe *bpe, BpeWork *work, const char *piece, size_t bytes, Error *error);

#endif
