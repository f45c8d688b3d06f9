#include "tools/data/frequent.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 2 * FREQUENT_COUNTERS, LONGEST_TEXT = 200 };

bool frequent_init(Frequent *frequent, Error *error) {
  *frequent = (Frequent){.items = memory_zeroed(PLACES, sizeof *frequent->items)};
  return frequent->items || error_out_of_memory(error, "counters", PLACES * sizeof *frequent->items);
}

void frequent_free(Frequent *frequent) {
  for (size_t i = 0; frequent->items && i < PLACES; i++) memory_free(frequent->items[i].text);
  memory_free(frequent->items);
  *frequent = (Frequent){0};
}

static FrequentItem *find_place(FrequentItem *items, uint64_t hash) {
  size_t at = hash % PLACES;
  while (items[at].count && items[at].hash != hash) at = (at + 1) % PLACES;
  return &items[at];
}

static int compare_counts(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Takes the median off every counter: half of them or more become free. */
static bool lower(Frequent *frequent, Error *error) {
  uint64_t *counts = memory_alloc(frequent->count * sizeof *counts);
  FrequentItem *items = memory_zeroed(PLACES, sizeof *items);
  if (!counts || !items) {
    memory_free(counts);
    memory_free(items);
    return error_out_of_memory(error, "counters", PLACES * sizeof *items);
  }
  size_t used = 0;
  for (size_t i = 0; i < PLACES; i++) {
    if (frequent->items[i].count) counts[used++] = frequent->items[i].count;
  }
  qsort(counts, used, sizeof *counts, compare_counts);
  const uint64_t median = counts[used / 2];
  frequent->count = 0;
  for (size_t i = 0; i < PLACES; i++) {
    FrequentItem item = frequent->items[i];
    if (item.count > median) {
      item.count -= median;
      *find_place(items, item.hash) = item;
      frequent->count++;
    } else {
      memory_free(item.text);
    }
  }
  memory_free(frequent->items);
  memory_free(counts);
  frequent->items = items;
  frequent->error += median;
  return true;
}

/* A whole number of characters. */
static char *copy_text(const char *text, size_t bytes) {
  if (bytes > LONGEST_TEXT) {
    for (bytes = LONGEST_TEXT; bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80;) bytes--;
  }
  char *copy = memory_alloc(bytes + 1);
  if (!copy) return NULL;
  memcpy(copy, text, bytes);
  copy[bytes] = '\0';
  return copy;
}

bool frequent_add(Frequent *frequent, uint64_t hash, const char *text, size_t bytes, Error *error) {
  FrequentItem *item = find_place(frequent->items, hash);
  frequent->all++;
  if (item->count) {
    item->count++;
    if (item->text) return true;
    item->text = copy_text(text, bytes);
    return item->text || error_out_of_memory(error, "text of a frequent item", bytes);
  }
  *item = (FrequentItem){.hash = hash, .count = 1};
  return ++frequent->count < FREQUENT_COUNTERS || lower(frequent, error);
}

static int compare_items(const void *a, const void *b) {
  const FrequentItem *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return x->text && y->text ? strcmp(x->text, y->text) : 0;
}

void frequent_finish(Frequent *frequent) {
  frequent->count = 0;
  for (size_t i = 0; i < PLACES; i++) {
    FrequentItem item = frequent->items[i];
    frequent->items[i] = (FrequentItem){0};
    if (item.text) {
      frequent->items[frequent->count++] = item;
    }
  }
  if (frequent->count) qsort(frequent->items, frequent->count, sizeof *frequent->items, compare_items);
}
