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

/* The median of the counters, or COUNTED where it is more. */
static uint64_t find_median(const Frequent *frequent) {
  enum { COUNTED = 1024 };
  size_t having[COUNTED] = {0}, seen = 0;
  for (size_t i = 0; i < PLACES; i++) {
    const uint64_t count = frequent->items[i].count;
    having[count < COUNTED ? count : 0] += count > 0;
  }
  for (uint64_t count = 1; count < COUNTED; count++) {
    seen += having[count];
    if (2 * seen >= frequent->count) return count;
  }
  return COUNTED;
}

/* Takes the median off every counter: half of them or more become free. */
static bool lower(Frequent *frequent, Error *error) {
  FrequentItem *items = memory_zeroed(PLACES, sizeof *items);
  if (!items) return error_out_of_memory(error, "counters", PLACES * sizeof *items);
  const uint64_t median = find_median(frequent);
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

void frequent_expect(const Frequent *frequent, uint64_t hash) {
  __builtin_prefetch(&frequent->items[hash % PLACES], 1);
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
    if (item.text && item.count > 1 && item.count > frequent->error) {
      frequent->items[frequent->count++] = item;
    } else {
      memory_free(item.text);
    }
  }
  if (frequent->count) qsort(frequent->items, frequent->count, sizeof *frequent->items, compare_items);
}
