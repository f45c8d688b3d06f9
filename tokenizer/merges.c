#include "tokenizer/merges.h"

#include "base/memory.h"
#include "tokenizer/table.h"
#include "tokenizer/text.h"

#include <stdlib.h>

static int by_key(const void *a, const void *b) {
  const MergePiece *left = *(const MergePiece *const *)a, *right = *(const MergePiece *const *)b;
  if (left->key != right->key) return left->key < right->key ? -1 : 1;
  return (left > right) - (left < right);
}

static bool push_merge(json_t *merges, const char *text, size_t cut, size_t bytes, Error *error) {
  json_t *pair = json_array();
  if (pair && json_array_append_new(pair, json_stringn(text, cut)) == 0 &&
      json_array_append_new(pair, json_stringn(text + cut, bytes - cut)) == 0)
    return json_array_append_new(merges, pair) == 0 || error_out_of_memory(error, "merges", bytes);
  json_decref(pair);
  return error_out_of_memory(error, "merges", bytes);
}

/* Appends the merges into one piece. */
static bool push_piece(const StringTable *table, const MergePiece *piece, json_t *merges, json_t *ranks,
                       json_int_t rank, Error *error) {
  size_t cut = 0;
  for ((void)utf8_next(piece->text, &cut); cut < piece->bytes; (void)utf8_next(piece->text, &cut)) {
    if (string_table_get(table, piece->text, cut) < 0 ||
        string_table_get(table, piece->text + cut, piece->bytes - cut) < 0)
      continue;
    if (!push_merge(merges, piece->text, cut, piece->bytes, error)) return false;
    if (ranks && json_array_append_new(ranks, json_integer(rank)) != 0)
      return error_out_of_memory(error, "merges", 0);
  }
  return true;
}

static bool derive(const MergePiece *pieces, const MergePiece **order, size_t count, StringTable *table,
                   json_t *merges, json_t *ranks, Error *error) {
  for (size_t i = 0; i < count; i++) {
    if (!string_table_put(table, pieces[i].text, pieces[i].bytes, (int)i, error)) return false;
    order[i] = &pieces[i];
  }
  qsort(order, count, sizeof *order, by_key);
  json_int_t rank = 0;
  for (size_t i = 0; i < count; i++) {
    if (i > 0 && order[i]->key > order[i - 1]->key) rank++;
    if (!push_piece(table, order[i], merges, ranks, rank, error)) return false;
  }
  return true;
}

json_t *merges_derive(const MergePiece *pieces, size_t count, json_t **ranks, Error *error) {
  const MergePiece **order = memory_alloc((count + 1) * sizeof *order);
  StringTable table = {0};
  json_t *merges = json_array(), *list = ranks ? json_array() : NULL;
  const bool ready = (order && merges && (list || !ranks)) || error_out_of_memory(error, "merges", count);
  const bool done = ready && derive(pieces, order, count, &table, merges, list, error);
  memory_free(order);
  string_table_free(&table);
  if (!done) {
    json_decref(merges);
    json_decref(list);
    return NULL;
  }
  if (ranks) *ranks = list;
  return merges;
}
