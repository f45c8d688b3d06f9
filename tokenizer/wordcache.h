/* Remembers how short pieces were encoded. A fixed table where a new piece replaces the one in its slot; each slot
 * is guarded by a lock that is only tried, so a thread that finds it taken encodes the piece itself. */
#ifndef TOKENIZER_WORDCACHE_H
#define TOKENIZER_WORDCACHE_H

#include "tokenizer/model.h"

enum { WORD_CACHE_BYTES = 32, WORD_CACHE_TOKENS = 6 };

typedef struct WordCache WordCache;

NODISCARD WordCache *word_cache_new(Error *error);
void word_cache_free(WordCache *cache);

/* Number of tokens written to `out`; 0 when the piece is not there. bytes <= WORD_CACHE_BYTES. */
size_t word_cache_get(WordCache *cache, uint64_t hash, const char *piece, size_t bytes,
                      ModelToken out[WORD_CACHE_TOKENS]);
/* Keeps the tokens unless there are too many. */
void word_cache_put(WordCache *cache, uint64_t hash, const char *piece, size_t bytes,
                    const ModelToken *tokens, size_t count);

#endif
