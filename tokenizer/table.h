/* Hash tables of the tokenizer: token text -> id, and pair of ids -> merge. Open addressing, never shrinking. */
#ifndef TOKENIZER_TABLE_H
#define TOKENIZER_TABLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const char *bytes, size_t count);

/* Strings that live until the pool is freed and never move. */
typedef struct StringPool {
  struct StringBlock *blocks;
} StringPool;
NODISCARD const char *string_pool_add(StringPool *pool, const char *bytes, size_t count,
                                      Error *error); /* + NUL */
void string_pool_free(StringPool *pool);

typedef struct StringSlot {
  const char *text; /* borrowed; NULL = free */
  uint32_t bytes;
  int value;
} StringSlot;

typedef struct StringTable {
  StringSlot *slots;
  size_t capacity, count;
} StringTable;

/* Adds or overwrites; text must outlive the table. */
NODISCARD bool string_table_put(StringTable *table, const char *text, size_t bytes, int value, Error *error);
int string_table_get(const StringTable *table, const char *text, size_t bytes); /* -1 when absent */
void string_table_free(StringTable *table);

typedef struct PairSlot {
  uint32_t left, right; /* left == UINT32_MAX: free */
  uint32_t rank, id;
} PairSlot;

typedef struct PairTable {
  PairSlot *slots;
  size_t capacity, count;
} PairTable;

NODISCARD bool pair_table_reserve(PairTable *table, size_t pairs, Error *error);
/* The slot of the pair, made (rank and id UINT32_MAX) when absent; NULL when memory is out. Slots move when pairs
 * are added. */
NODISCARD PairSlot *pair_table_put(PairTable *table, uint32_t left, uint32_t right, Error *error);
const PairSlot *pair_table_get(const PairTable *table, uint32_t left, uint32_t right); /* NULL when absent */
void pair_table_free(PairTable *table);

#endif
