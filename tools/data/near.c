#include "tools/data/near.h"

#include <stdlib.h>

bool near_init(Near *near, double threshold, int permutations, int n, uint64_t seed, const char *place,
               Error *error) {
  int bands, rows;
  *near = (Near){.threshold = threshold, .n = n};
  bands_choose(threshold, permutations, &bands, &rows);
  return minhash_init(&near->minhash, bands, rows, seed, error) && spool_open(&near->spool, place, error);
}

void near_free(Near *near) {
  minhash_free(&near->minhash);
  shingles_free(&near->shingles);
  spool_close(&near->spool);
  memory_free(near->keys);
  memory_free(near->records);
  memory_free(near->parents);
  *near = (Near){0};
}

static bool grow(Near *near, Error *error) {
  const size_t capacity = near->capacity ? 2 * near->capacity : 1024, bands = (size_t)near->minhash.bands;
  uint64_t *keys = memory_resize(near->keys, capacity * bands * sizeof *keys);
  if (keys) near->keys = keys;
  uint32_t *records = memory_resize(near->records, capacity * sizeof *records);
  if (records) near->records = records;
  if (!keys || !records) return error_out_of_memory(error, "bands of records", capacity * bands * 8);
  near->capacity = capacity;
  return true;
}

bool near_add(Near *near, uint32_t record, const uint32_t *units, size_t count, Error *error) {
  if (count == 0) return true;
  if (near->count == near->capacity && !grow(near, error)) return false;
  if (!spool_add(&near->spool, units, count, error) ||
      !shingles_cut(&near->shingles, units, count, near->n, error))
    return false;
  minhash_keys(&near->minhash, &near->shingles, near->keys + near->count * (size_t)near->minhash.bands);
  near->records[near->count++] = record;
  return true;
}

/* ---- Groups ---------------------------------------------------------------------------------------- */

static uint32_t find_root(uint32_t *parents, uint32_t i) {
  while (parents[i] != i) {
    parents[i] = parents[parents[i]];
    i = parents[i];
  }
  return i;
}

static void join(uint32_t *parents, uint32_t a, uint32_t b) {
  a = find_root(parents, a);
  b = find_root(parents, b);
  if (a < b) {
    parents[b] = a;
  } else {
    parents[a] = b;
  }
}

uint32_t near_first(const Near *near, size_t i) {
  return near->records[near->parents[i]];
}

/* ---- Comparing ------------------------------------------------------------------------------------- */

/* The sets that were needed last, each in the place that its number gives it. */
enum { CACHED = 1024 };

typedef struct Member {
  uint64_t key;
  uint32_t index;
} Member;

typedef struct Compare {
  Near *near;
  Member *members;
  Shingles sets[CACHED];
  uint32_t owner[CACHED]; /* 1 + index; 0 = none */
} Compare;

static const Shingles *set_of(Compare *compare, uint32_t index, Error *error) {
  const size_t place = index % CACHED;
  Shingles *set = &compare->sets[place];
  if (compare->owner[place] == index + 1) return set;
  size_t count;
  const uint32_t *units = spool_units(&compare->near->spool, index, &count);
  compare->owner[place] = 0;
  if (!shingles_cut(set, units, count, compare->near->n, error)) return NULL;
  shingles_sort(set);
  compare->owner[place] = index + 1;
  return set;
}

static bool resemble(Compare *compare, uint32_t a, uint32_t b, bool *alike, Error *error) {
  Shingles *sets = compare->sets;
  if (a % CACHED == b % CACHED) { /* they would have one place */
    Shingles copy = {0};
    size_t count;
    const uint32_t *units = spool_units(&compare->near->spool, a, &count);
    const Shingles *other = set_of(compare, b, error);
    const bool ok = other && shingles_cut(&copy, units, count, compare->near->n, error);
    if (ok) {
      shingles_sort(&copy);
      *alike = shingles_resemblance(&copy, other) >= compare->near->threshold;
    }
    shingles_free(&copy);
    return ok;
  }
  if (!set_of(compare, a, error) || !set_of(compare, b, error)) return false;
  *alike = shingles_resemblance(&sets[a % CACHED], &sets[b % CACHED]) >= compare->near->threshold;
  return true;
}

/* Those of one key that later ones are compared with. */
typedef struct Window {
  uint32_t indices[MOST_COMPARED];
  size_t count, next; /* next: the oldest one, when it is full */
} Window;

static void window_add(Window *window, uint32_t index, bool joined, Near *near) {
  if (window->count < MOST_COMPARED) {
    window->indices[window->count++] = index;
  } else if (!joined) { /* else the one it was joined with stands for it */
    window->indices[window->next] = index;
    window->next = (window->next + 1) % MOST_COMPARED;
    near->left_out++;
  }
}

/* Members of one key, by rising index. */
static bool compare_bucket(Compare *compare, const Member *members, size_t count, Error *error) {
  Near *near = compare->near;
  Window window = {.indices[0] = members[0].index, .count = 1};
  for (size_t i = 1; i < count; i++) {
    const uint32_t late = members[i].index;
    bool joined = false;
    for (size_t k = window.count; k-- > 0;) {
      const uint32_t early = window.indices[k];
      bool alike;
      if (find_root(near->parents, early) == find_root(near->parents, late)) {
        joined = true;
        continue;
      }
      if (!resemble(compare, early, late, &alike, error)) return false;
      near->compared++;
      if (alike) join(near->parents, early, late);
      joined |= alike;
    }
    window_add(&window, late, joined, near);
  }
  return true;
}

static int compare_members(const void *a, const void *b) {
  const Member *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static bool compare_band(Compare *compare, size_t band, Error *error) {
  const Near *near = compare->near;
  Member *members = compare->members;
  const size_t bands = (size_t)near->minhash.bands;
  for (size_t i = 0; i < near->count; i++) {
    members[i] = (Member){near->keys[i * bands + band], (uint32_t)i};
  }
  qsort(members, near->count, sizeof *members, compare_members);
  for (size_t begin = 0, end; begin < near->count; begin = end) {
    for (end = begin + 1; end < near->count && members[end].key == members[begin].key;) end++;
    if (!compare_bucket(compare, members + begin, end - begin, error)) return false;
  }
  return true;
}

bool near_finish(Near *near, Error *error) {
  if (!spool_finish(&near->spool, error)) return false;
  near->parents = memory_alloc(near->count * sizeof *near->parents);
  Compare *compare = memory_zeroed(1, sizeof *compare);
  if (compare) compare->members = memory_alloc(near->count * sizeof *compare->members);
  bool ok = near->parents && compare && compare->members;
  if (!ok) error_out_of_memory(error, "near duplicates", near->count * (sizeof(Member) + 4));
  if (ok) compare->near = near;
  for (size_t i = 0; ok && i < near->count; i++) near->parents[i] = (uint32_t)i;
  for (size_t band = 0; ok && band < (size_t)near->minhash.bands; band++) {
    ok = compare_band(compare, band, error);
  }
  for (size_t i = 0; ok && i < near->count; i++) near->parents[i] = near->parents[near->parents[i]];
  if (compare) {
    for (size_t i = 0; i < CACHED; i++) shingles_free(&compare->sets[i]);
    memory_free(compare->members);
  }
  memory_free(compare);
  return ok;
}
