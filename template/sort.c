#include "template/sort.h"

#include <string.h>

/* Whether `right` has to stand before `left`, which came first. */
static bool swapped(Run *run, const SortItem *left, const SortItem *right, bool reverse, bool *out) {
  return values_order(run, OP_LT, reverse ? left->key : right->key, reverse ? right->key : left->key, out);
}

static bool merge(Run *run, const SortItem *from, SortItem *to, size_t middle, size_t count, bool reverse) {
  size_t left = 0, right = middle;
  for (size_t i = 0; i < count; i++) {
    bool take_right = left == middle;
    if (left < middle && right < count && !swapped(run, &from[left], &from[right], reverse, &take_right))
      return false;
    to[i] = take_right ? from[right++] : from[left++];
  }
  return true;
}

bool sort_items(Run *run, SortItem *items, size_t count, bool reverse) {
  SortItem *spare = run_alloc(run, count * sizeof *spare + 16), *from = items, *to = spare;
  if (!spare) return false;
  for (size_t width = 1; width < count; width *= 2) {
    for (size_t begin = 0; begin < count; begin += 2 * width) {
      size_t size = count - begin < 2 * width ? count - begin : 2 * width;
      if (!merge(run, from + begin, to + begin, size < width ? size : width, size, reverse)) return false;
    }
    SortItem *swap = from;
    from = to;
    to = swap;
  }
  if (from != items) memcpy(items, from, count * sizeof *items);
  return true;
}

bool sort_entries(Run *run, const ValueDict *dict, const DictEntry **out) {
  SortItem *items = run_alloc(run, dict->count * sizeof *items + 16);
  DictEntry *entries = run_alloc(run, dict->count * sizeof *entries + 16);
  if (!items || !entries) return false;
  for (size_t i = 0; i < dict->count; i++)
    items[i] = (SortItem){.key = dict->entries[i].key, .item = dict->entries[i].value};
  if (!sort_items(run, items, dict->count, false)) return false;
  for (size_t i = 0; i < dict->count; i++)
    entries[i] = (DictEntry){.key = items[i].key, .value = items[i].item};
  *out = entries;
  return true;
}
