/* The most frequent of any number of items, in bounded memory, after Anderson and others, "A High-Performance Algorithm for
 * Identifying Frequent Items in Data Streams" (IMC 2017): the counters of Misra and Gries, all of which are lowered by their median
 * when the table is full.
 *
 * An item's true count lies between its `count` and `count` + `error`, which is 0 as long as fewer than FREQUENT_COUNTERS
 * different items came, and never more than 2 / FREQUENT_COUNTERS of all that came (while medians are below 1024). An item that is more frequent than the error
 * is never lost. Items are known by 64 bits of a hash. Memory: 12 MiB, twice as much while they are lowered, and the texts of what came at least twice. */
#ifndef TOOLS_DATA_FREQUENT_H
#define TOOLS_DATA_FREQUENT_H

#include "base/memory.h"

#include <stdint.h>

enum { FREQUENT_COUNTERS = 1 << 18 };

typedef struct FrequentItem {
  uint64_t hash;
  uint64_t count; /* 0 = a free place */
  char *text;     /* owned; NULL for what came once */
} FrequentItem;

typedef struct Frequent {
  FrequentItem *items; /* a hash table, or after frequent_finish a list by falling count */
  size_t count;
  uint64_t error; /* what has been taken off each */
  uint64_t all;   /* items that came */
} Frequent;

NODISCARD bool frequent_init(Frequent *frequent, Error *error);
void frequent_free(Frequent *frequent);
/* The text, of which the beginning is kept, is copied when the item comes for the second time. */
NODISCARD bool frequent_add(Frequent *frequent, uint64_t hash, const char *text, size_t bytes, Error *error);
/* Says that an item will be added soon: its counter is fetched meanwhile, which takes longer than counting. */
void frequent_expect(const Frequent *frequent, uint64_t hash);
/* Sorts by falling count, then by text. What came once is left out, and what may be no more frequent than what was lost. */
void frequent_finish(Frequent *frequent);

#endif
