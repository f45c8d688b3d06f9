#include "tokenizer/wordcache.h"

#include <stdatomic.h>
#include <string.h>

enum { SLOTS = 1 << 14 };

typedef struct CachedToken {
  int id;
  uint8_t begin, end;
} CachedToken;

typedef struct CacheSlot {
  atomic_flag taken;
  uint8_t bytes, count; /* bytes 0: empty */
  char piece[WORD_CACHE_BYTES];
  CachedToken tokens[WORD_CACHE_TOKENS];
} CacheSlot;

struct WordCache {
  CacheSlot slots[SLOTS];
};

WordCache *word_cache_new(Error *error) {
  WordCache *cache = memory_zeroed(1, sizeof *cache);
  if (!cache) {
    error_out_of_memory(error, "word cache", sizeof *cache);
    return NULL;
  }
  for (size_t i = 0; i < SLOTS; i++) atomic_flag_clear(&cache->slots[i].taken);
  return cache;
}

void word_cache_free(WordCache *cache) {
  memory_free(cache);
}

static CacheSlot *take(WordCache *cache, uint64_t hash) {
  CacheSlot *slot = &cache->slots[hash & (SLOTS - 1)];
  return atomic_flag_test_and_set_explicit(&slot->taken, memory_order_acquire) ? NULL : slot;
}

static void give_back(CacheSlot *slot) {
  atomic_flag_clear_explicit(&slot->taken, memory_order_release);
}

size_t word_cache_get(WordCache *cache, uint64_t hash, const char *piece, size_t bytes,
                      ModelToken out[WORD_CACHE_TOKENS]) {
  CacheSlot *slot = take(cache, hash);
  if (!slot) return 0;
  size_t count = 0;
  if (slot->bytes == bytes && memcmp(slot->piece, piece, bytes) == 0) {
    count = slot->count;
    for (size_t i = 0; i < count; i++)
      out[i] = (ModelToken){slot->tokens[i].id, slot->tokens[i].begin, slot->tokens[i].end};
  }
  give_back(slot);
  return count;
}

void word_cache_put(WordCache *cache, uint64_t hash, const char *piece, size_t bytes,
                    const ModelToken *tokens, size_t count) {
  if (count == 0 || count > WORD_CACHE_TOKENS) return;
  CacheSlot *slot = take(cache, hash);
  if (!slot) return;
  memcpy(slot->piece, piece, bytes);
  slot->bytes = (uint8_t)bytes;
  slot->count = (uint8_t)count;
  for (size_t i = 0; i < count; i++)
    slot->tokens[i] = (CachedToken){tokens[i].id, (uint8_t)tokens[i].begin, (uint8_t)tokens[i].end};
  give_back(slot);
}
