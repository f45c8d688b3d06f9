#include "tokenizer/trie.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static int compare_keys(const void *left, const void *right) {
  const TrieKey *a = left, *b = right;
  uint32_t common = a->bytes < b->bytes ? a->bytes : b->bytes;
  int order = memcmp(a->text, b->text, common);
  if (order != 0) return order;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
  return (a->value > b->value) - (a->value < b->value);
}

/* Sorted keys[begin..end) that have the node's string in common. */
typedef struct Range {
  uint32_t begin, end;
} Range;

/* How many nodes the sorted keys make: one for each byte that is no prefix of the key before. */
static size_t count_nodes(const TrieKey *keys, size_t count) {
  size_t nodes = 1;
  for (size_t i = 0; i < count; i++) {
    uint32_t same = 0;
    if (i > 0)
      while (same < keys[i].bytes && same < keys[i - 1].bytes && keys[i].text[same] == keys[i - 1].text[same])
        same++;
    nodes += keys[i].bytes - same;
  }
  return nodes;
}

/* Level by level: `ranges` holds the keys below each node of this level, `next` those of the following one. */
static void fill(Trie *trie, const TrieKey *keys, size_t count, Range *ranges, Range *next) {
  size_t width = 1, made = 1;
  size_t level = 0; /* first node of this level */
  ranges[0] = (Range){0, (uint32_t)count};
  for (uint32_t depth = 0; width > 0; depth++) {
    size_t children = 0;
    for (size_t i = 0; i < width; i++) {
      TrieNode *node = &trie->nodes[level + i];
      uint32_t at = ranges[i].begin;
      node->first = (uint32_t)made;
      node->value = -1;
      for (; at < ranges[i].end && keys[at].bytes == depth; at++) node->value = keys[at].value;
      while (at < ranges[i].end) {
        uint32_t begin = at;
        uint8_t byte = (uint8_t)keys[at].text[depth];
        while (at < ranges[i].end && (uint8_t)keys[at].text[depth] == byte) at++;
        trie->nodes[made++].byte = byte;
        next[children++] = (Range){begin, at};
      }
    }
    level += width;
    width = children;
    Range *swap = ranges;
    ranges = next;
    next = swap;
  }
  trie->nodes[made].first = (uint32_t)made;
}

bool trie_init(Trie *trie, TrieKey *keys, size_t count, Error *error) {
  *trie = (Trie){0};
  qsort(keys, count, sizeof *keys, compare_keys);
  size_t nodes = count_nodes(keys, count);
  if (nodes >= UINT32_MAX) return error_set(error, ERROR_MODEL, "too many tokens");
  trie->count = nodes;
  trie->nodes = memory_zeroed(nodes + 1, sizeof *trie->nodes);
  Range *ranges = memory_alloc((count + 1) * 2 * sizeof *ranges);
  if (!trie->nodes || !ranges) {
    memory_free(ranges);
    trie_free(trie);
    return error_out_of_memory(error, "token tree", nodes * sizeof *trie->nodes);
  }
  fill(trie, keys, count, ranges, ranges + count + 1);
  memory_free(ranges);
  for (uint32_t child = trie->nodes[0].first; child < trie->nodes[1].first; child++)
    trie->roots[trie->nodes[child].byte] = child;
  return true;
}

void trie_free(Trie *trie) {
  memory_free(trie->nodes);
  *trie = (Trie){0};
}
