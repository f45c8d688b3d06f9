#include "tokenizer/table.h"

#include "base/digest.h"
#include "base/memory.h"

#include <string.h>

/* A mix so that the low bits depend on all. */
uint64_t hash_bytes(const char *bytes, size_t count) {
  uint64_t hash = bytes_hash(bytes, count);
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

enum { BLOCK_BYTES = 1 << 16 };

typedef struct StringBlock {
  struct StringBlock *next;
  size_t used, capacity;
  char bytes[];
} StringBlock;

const char *string_pool_add(StringPool *pool, const char *bytes, size_t count, Error *error) {
  StringBlock *block = pool->blocks;
  if (!block || block->capacity - block->used <= count) {
    size_t capacity = count + 1 > BLOCK_BYTES ? count + 1 : BLOCK_BYTES;
    block = memory_alloc(sizeof *block + capacity);
    if (!block) {
      error_out_of_memory(error, "token strings", capacity);
      return NULL;
    }
    *block = (StringBlock){.next = pool->blocks, .capacity = capacity};
    pool->blocks = block;
  }
  char *text = block->bytes + block->used;
  memcpy(text, bytes, count);
  text[count] = 0;
  block->used += count + 1;
  return text;
}

void string_pool_free(StringPool *pool) {
  while (pool->blocks) {
    StringBlock *next = pool->blocks->next;
    memory_free(pool->blocks);
    pool->blocks = next;
  }
}

static StringSlot *string_slot(const StringTable *table, const char *text, size_t bytes) {
  size_t at = hash_bytes(text, bytes) & (table->capacity - 1);
  for (;; at = (at + 1) & (table->capacity - 1)) {
    StringSlot *slot = &table->slots[at];
    if (!slot->text || (slot->bytes == bytes && memcmp(slot->text, text, bytes) == 0)) return slot;
  }
}

static bool string_table_grow(StringTable *table, Error *error) {
  StringTable bigger = {.capacity = table->capacity ? table->capacity * 2 : 1024};
  bigger.slots = memory_zeroed(bigger.capacity, sizeof *bigger.slots);
  if (!bigger.slots) return error_out_of_memory(error, "token table", bigger.capacity * sizeof *bigger.slots);
  for (size_t i = 0; i < table->capacity; i++)
    if (table->slots[i].text)
      *string_slot(&bigger, table->slots[i].text, table->slots[i].bytes) = table->slots[i];
  bigger.count = table->count;
  memory_free(table->slots);
  *table = bigger;
  return true;
}

bool string_table_put(StringTable *table, const char *text, size_t bytes, int value, Error *error) {
  if (table->count * 2 >= table->capacity && !string_table_grow(table, error)) return false;
  StringSlot *slot = string_slot(table, text, bytes);
  if (!slot->text) table->count++;
  *slot = (StringSlot){.text = text, .bytes = (uint32_t)bytes, .value = value};
  return true;
}

int string_table_get(const StringTable *table, const char *text, size_t bytes) {
  if (table->capacity == 0) return -1;
  const StringSlot *slot = string_slot(table, text, bytes);
  return slot->text ? slot->value : -1;
}

void string_table_free(StringTable *table) {
  memory_free(table->slots);
  *table = (StringTable){0};
}

static PairSlot *pair_slot(const PairTable *table, uint32_t left, uint32_t right) {
  uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
  size_t at = (hash ^ hash >> 32) & (table->capacity - 1);
  for (;; at = (at + 1) & (table->capacity - 1)) {
    PairSlot *slot = &table->slots[at];
    if (slot->left == UINT32_MAX || (slot->left == left && slot->right == right)) return slot;
  }
}

bool pair_table_reserve(PairTable *table, size_t pairs, Error *error) {
  PairTable bigger = {.capacity = table->capacity ? table->capacity : 1024, .count = table->count};
  while (bigger.capacity < pairs * 2) bigger.capacity *= 2;
  if (bigger.capacity == table->capacity) return true;
  bigger.slots = memory_alloc(bigger.capacity * sizeof *bigger.slots);
  if (!bigger.slots) return error_out_of_memory(error, "merge table", bigger.capacity * sizeof *bigger.slots);
  memset(bigger.slots, 0xff, bigger.capacity * sizeof *bigger.slots);
  for (size_t i = 0; i < table->capacity; i++) {
    const PairSlot *slot = &table->slots[i];
    if (slot->left != UINT32_MAX) *pair_slot(&bigger, slot->left, slot->right) = *slot;
  }
  memory_free(table->slots);
  *table = bigger;
  return true;
}

PairSlot *pair_table_put(PairTable *table, uint32_t left, uint32_t right, Error *error) {
  if (!pair_table_reserve(table, table->count + 1, error)) return NULL;
  PairSlot *slot = pair_slot(table, left, right);
  if (slot->left == UINT32_MAX) {
    *slot = (PairSlot){.left = left, .right = right, .rank = UINT32_MAX, .id = UINT32_MAX};
    table->count++;
  }
  return slot;
}

const PairSlot *pair_table_get(const PairTable *table, uint32_t left, uint32_t right) {
  if (table->capacity == 0) return NULL;
  const PairSlot *slot = pair_slot(table, left, right);
  return slot->left == UINT32_MAX ? NULL : slot;
}

void pair_table_free(PairTable *table) {
  memory_free(table->slots);
  *table = (PairTable){0};
}
