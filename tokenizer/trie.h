/* A prefix tree over byte strings: which of many keys a text begins with. Built once, from keys in any order. */
#ifndef TOKENIZER_TRIE_H
#define TOKENIZER_TRIE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct TrieKey {
  const char *text; /* borrowed while building */
  uint32_t bytes;   /* at least 1 */
  int value;        /* >= 0 */
} TrieKey;

typedef struct TrieNode {
  uint32_t first; /* its children are nodes[first .. (node + 1)->first), by byte */
  int32_t value;  /* of the key that ends here; -1: none does */
  uint8_t byte;
} TrieNode;

typedef struct Trie {
  TrieNode *nodes; /* breadth first; nodes[0] is the root, one more node ends the last list of children */
  size_t count;
  uint32_t roots[256]; /* child of the root by byte; 0: none */
} Trie;

/* Sorts the keys. Of equal keys the one with the largest value counts. */
NODISCARD bool trie_init(Trie *trie, TrieKey *keys, size_t count, Error *error);
void trie_free(Trie *trie);

/* The child of a node, 0 when there is none. */
static inline uint32_t trie_child(const Trie *trie, uint32_t node, uint8_t byte) {
  if (node == 0) return trie->roots[byte];
  uint32_t low = trie->nodes[node].first, high = trie->nodes[node + 1].first;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (trie->nodes[middle].byte == byte) return middle;
    if (trie->nodes[middle].byte < byte)
      low = middle + 1;
    else
      high = middle;
  }
  return 0;
}

#endif
