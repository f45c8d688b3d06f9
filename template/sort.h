/* Stable sorting by keys. */
#ifndef TEMPLATE_SORT_H
#define TEMPLATE_SORT_H

#include "template/run.h"

typedef struct SortItem {
  Value key, item;
} SortItem;

/* In place; reverse keeps the order of equal ones, as Python's does. */
NODISCARD bool sort_items(Run *run, SortItem *items, size_t count, bool reverse);
/* The dict's entries by their keys, in new memory. */
NODISCARD bool sort_entries(Run *run, const ValueDict *dict, const DictEntry **out);

#endif
