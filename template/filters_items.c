/* Filters on lists and dicts. */
#include "template/filters.h"
#include "template/letters.h"
#include "template/object.h"
#include "template/sort.h"
#include "template/strings.h"
#include "template/text.h"

#include <string.h>

/* ---- the parts of items that filters look at ---- */

/* "0" in a path is a number. */
static bool path_part(const ValueString *part, Value *out) {
  if (part->size == 0 || part->size > 18) return false;
  int64_t number = 0;
  for (size_t i = 0; i < part->size; i++) {
    if (part->bytes[i] < '0' || part->bytes[i] > '9') return false;
    number = number * 10 + (part->bytes[i] - '0');
  }
  *out = value_int(number);
  return true;
}

bool attribute_path(Run *run, Value item, Value attribute, Value fallback, Value *out) {
  *out = item;
  if (value_is_missing(attribute) || attribute.kind == VALUE_NONE) return true;
  bool given = !value_is_missing(fallback) && fallback.kind != VALUE_NONE;
  if (!value_is_string(attribute)) {
    if (!value_item(run, item, attribute, out)) return false;
    if (given && out->kind == VALUE_UNDEFINED) *out = fallback;
    return true;
  }
  const ValueString *path = attribute.as.string;
  for (size_t begin = 0, end; begin <= path->size; begin = end + 1) {
    const char *dot = memchr(path->bytes + begin, '.', path->size - begin);
    end = dot ? (size_t)(dot - path->bytes) : path->size;
    Value part;
    if (!string_slice(run->heap, path, begin, end, &part, run->error)) return false;
    (void)path_part(part.as.string, &part);
    if (!value_item(run, *out, part, out)) return false;
    if (given && out->kind == VALUE_UNDEFINED) *out = fallback;
  }
  return true;
}

static bool is_set(Value argument) {
  return !value_is_missing(argument) && value_is_true(argument);
}

static bool fold_case(Run *run, Value *value) {
  return !value_is_string(*value) || letters_change(run, value->as.string, CHANGE_LOWER, value);
}

/* The key by which an item is compared: the part of it, in small letters unless case counts. */
static bool item_key(Run *run, Value item, Value attribute, Value fallback, bool case_sensitive, Value *out) {
  return attribute_path(run, item, attribute, fallback, out) && (case_sensitive || fold_case(run, out));
}

/* ---- lengths and ends ---- */

bool filter_length(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  size_t length;
  if (!value_length(run, self, &length)) return false;
  *out = value_int((int64_t)length);
  return true;
}

static bool first_of(Run *run, Value iterable, const char *hint, Value *out) {
  Iterator *iterator;
  bool done;
  if (!iterate(run, iterable, &iterator) || !iterator_next(run, iterator, out, &done)) return false;
  return !done || run_undefined(run, hint, value_missing(), value_none(), out);
}

bool filter_first(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return first_of(run, self, "No first item, sequence was empty.", out);
}

bool filter_last(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  Value reversed;
  bool possible;
  if (!iterate_reversed(run, self, &reversed, &possible)) return false;
  if (!possible) return run_fail(run, "'%s' object is not reversible", value_type(self));
  return first_of(run, reversed, "No last item, sequence was empty.", out);
}

bool filter_list(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return value_to_list(run, self, out);
}

bool filter_reverse(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  bool possible;
  if (value_is_string(self)) return value_slice(run, self, value_none(), value_none(), value_int(-1), out);
  if (!iterate_reversed(run, self, out, &possible) || possible) return possible;
  if (!value_is_iterable(self)) return run_fail(run, "argument must be iterable");
  if (!value_to_list(run, self, out)) return false;
  ValueList *list = out->as.list;
  for (size_t i = 0; i < list->count / 2; i++) {
    Value swap = list->items[i];
    list->items[i] = list->items[list->count - 1 - i];
    list->items[list->count - 1 - i] = swap;
  }
  return true;
}

bool filter_join(Run *run, Value self, const Value *arguments, Value *out) {
  Iterator *iterator;
  Value separator = arguments[0];
  if (value_is_missing(separator) && !string_literal(run->heap, "", &separator, run->error)) return false;
  if (!value_to_string(run, separator, &separator) || !iterate(run, self, &iterator)) return false;
  size_t mark = text_mark(run);
  for (bool first = true;; first = false) {
    Value item;
    bool done;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done) return text_cut(run, mark, out);
    if ((!first && !text_add_string(run, separator.as.string)) ||
        !attribute_path(run, item, arguments[1], value_missing(), &item) || !print_value(run, item))
      return false;
  }
}

/* ---- order ---- */

/* "a,b": by a, then by b. Keys are lists of them. */
static bool sort_key(Run *run, Value item, Value attributes, bool case_sensitive, Value *out) {
  if (!list_new(run->heap, LIST_PLAIN, 1, out, run->error)) return false;
  Value key, parts;
  if (!value_is_string(attributes))
    return item_key(run, item, attributes, value_missing(), case_sensitive, &key) &&
           value_list_push(run->heap, *out, key, run->error);
  Value comma;
  if (!string_literal(run->heap, ",", &comma, run->error) ||
      !strings_split(run, attributes.as.string, comma.as.string, -1, false, &parts))
    return false;
  for (size_t i = 0; i < parts.as.list->count; i++)
    if (!item_key(run, item, parts.as.list->items[i], value_missing(), case_sensitive, &key) ||
        !value_list_push(run->heap, *out, key, run->error))
      return false;
  return true;
}

bool filter_sort(Run *run, Value self, const Value *arguments, Value *out) {
  if (!value_to_list(run, self, out)) return false;
  ValueList *list = out->as.list;
  SortItem *items = run_alloc(run, list->count * sizeof *items + 16);
  if (!items) return false;
  for (size_t i = 0; i < list->count; i++) {
    items[i].item = list->items[i];
    if (!sort_key(run, list->items[i], arguments[2], is_set(arguments[1]), &items[i].key)) return false;
  }
  if (!sort_items(run, items, list->count, is_set(arguments[0]))) return false;
  for (size_t i = 0; i < list->count; i++) list->items[i] = items[i].item;
  return true;
}

static bool make_pair(Run *run, ListType type, Value first, Value second, Value *out) {
  if (!list_new(run->heap, type, 2, out, run->error)) return false;
  out->as.list->items[0] = first;
  out->as.list->items[1] = second;
  out->as.list->count = 2;
  return true;
}

bool filter_dictsort(Run *run, Value self, const Value *arguments, Value *out) {
  Value by = arguments[1];
  bool by_value = value_is_string(by) && string_equals(by.as.string, "value");
  if (!value_is_missing(by) && !by_value && !(value_is_string(by) && string_equals(by.as.string, "key")))
    return run_fail(run, "You can only sort by either \"key\" or \"value\"");
  if (self.kind == VALUE_UNDEFINED) return run_fail_undefined(run, self);
  if (self.kind != VALUE_DICT) return run_fail(run, "'%s' object has no attribute 'items'", value_type(self));
  const ValueDict *dict = self.as.dict;
  SortItem *items = run_alloc(run, dict->count * sizeof *items + 16);
  if (!items || !list_new(run->heap, LIST_PLAIN, dict->count, out, run->error)) return false;
  for (size_t i = 0; i < dict->count; i++) {
    DictEntry entry = dict->entries[i];
    items[i].key = by_value ? entry.value : entry.key;
    if (!is_set(arguments[0]) && !fold_case(run, &items[i].key)) return false;
    if (!make_pair(run, LIST_TUPLE, entry.key, entry.value, &items[i].item)) return false;
  }
  if (!sort_items(run, items, dict->count, is_set(arguments[2]))) return false;
  for (size_t i = 0; i < dict->count; i++) out->as.list->items[out->as.list->count++] = items[i].item;
  return true;
}

static bool extreme(Run *run, Value self, const Value *arguments, Operator op, Value *out) {
  Iterator *iterator;
  if (!iterate(run, self, &iterator)) return false;
  Value best = value_missing(), best_key = value_missing();
  for (bool first = true;; first = false) {
    Value item, key;
    bool done, better = first;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done && first)
      return run_undefined(run, "No aggregated item, sequence was empty.", value_missing(), value_none(),
                           out);
    *out = best;
    if (done) return true;
    if (!item_key(run, item, arguments[1], value_missing(), is_set(arguments[0]), &key)) return false;
    if (!first && !values_order(run, op, key, best_key, &better)) return false;
    if (better) {
      best = item;
      best_key = key;
    }
  }
}

bool filter_min(Run *run, Value self, const Value *arguments, Value *out) {
  return extreme(run, self, arguments, OP_LT, out);
}

bool filter_max(Run *run, Value self, const Value *arguments, Value *out) {
  return extreme(run, self, arguments, OP_GT, out);
}

bool filter_sum(Run *run, Value self, const Value *arguments, Value *out) {
  Iterator *iterator;
  *out = value_is_missing(arguments[1]) ? value_int(0) : arguments[1];
  if (value_is_string(*out)) return run_fail(run, "sum() can't sum strings [use ''.join(seq) instead]");
  if (!iterate(run, self, &iterator)) return false;
  for (;;) {
    Value item;
    bool done;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done) return true;
    if (!attribute_path(run, item, arguments[0], value_missing(), &item) ||
        !values_operate(run, OP_ADD, *out, item, out))
      return false;
  }
}

/* ---- groups ---- */

/* unique: state is the dict of keys that came before. */
static bool next_unique(Run *run, Iterator *iterator, Value *out, bool *done) {
  ValueDict *seen = iterator->state;
  if (!iterator->inner && !iterate(run, iterator->source, &iterator->inner)) return false;
  for (;;) {
    Value key;
    if (!iterator_next(run, iterator->inner, out, done)) return false;
    if (*done) return true;
    if (!item_key(run, *out, iterator->extra, value_missing(), iterator->flag, &key) || !value_key(run, key))
      return false;
    if (dict_get(seen, key)) continue;
    return dict_set(run->heap, seen, key, value_none(), run->error);
  }
}

bool filter_unique(Run *run, Value self, const Value *arguments, Value *out) {
  Iterator *iterator;
  Value seen;
  if (!value_dict(run->heap, &seen, run->error) || !iterator_new(run, next_unique, self, &iterator, out))
    return false;
  iterator->state = seen.as.dict;
  iterator->flag = is_set(arguments[0]);
  iterator->extra = arguments[1];
  return true;
}

bool filter_groupby(Run *run, Value self, const Value *arguments, Value *out) {
  Value list, fallback = arguments[1], key;
  bool case_sensitive = is_set(arguments[2]);
  if (!value_to_list(run, self, &list) || !list_new(run->heap, LIST_PLAIN, 0, out, run->error)) return false;
  size_t count = list.as.list->count;
  SortItem *items = run_alloc(run, count * sizeof *items + 16);
  if (!items) return false;
  for (size_t i = 0; i < count; i++) {
    items[i].item = list.as.list->items[i];
    if (!item_key(run, items[i].item, arguments[0], fallback, case_sensitive, &items[i].key)) return false;
  }
  if (!sort_items(run, items, count, false)) return false;
  for (size_t i = 0; i < count;) {
    Value group, members;
    size_t first = i;
    if (!list_new(run->heap, LIST_PLAIN, 0, &members, run->error)) return false;
    for (bool same = true; same && i < count;) {
      if (!value_list_push(run->heap, members, items[i++].item, run->error)) return false;
      if (i < count && !values_equal(run, items[first].key, items[i].key, &same)) return false;
    }
    if (!attribute_path(run, items[first].item, arguments[0], fallback, &key) ||
        !make_pair(run, LIST_GROUP, key, members, &group) ||
        !value_list_push(run->heap, *out, group, run->error))
      return false;
  }
  return true;
}

static bool wanted_count(Run *run, Value value, int64_t *out) {
  if (!value_is_integral(value))
    return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(value));
  *out = value_integral(value);
  return true;
}

bool filter_batch(Run *run, Value self, const Value *arguments, Value *out) {
  Iterator *iterator;
  int64_t size;
  Value fill = arguments[1], batch = value_missing(), batches;
  if (!wanted_count(run, arguments[0], &size) || !iterate(run, self, &iterator) ||
      !list_new(run->heap, LIST_PLAIN, 0, &batches, run->error))
    return false;
  for (bool done = false; !done;) {
    Value item;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done) break;
    bool full = !value_is_missing(batch) && (int64_t)batch.as.list->count == size;
    if (full && !value_list_push(run->heap, batches, batch, run->error)) return false;
    if ((full || value_is_missing(batch)) && !list_new(run->heap, LIST_PLAIN, 0, &batch, run->error))
      return false;
    if (!value_list_push(run->heap, batch, item, run->error)) return false;
  }
  if (!value_is_missing(batch)) {
    bool filled = !value_is_missing(fill) && fill.kind != VALUE_NONE;
    while (filled && (int64_t)batch.as.list->count < size)
      if (!run_step(run) || !value_list_push(run->heap, batch, fill, run->error)) return false;
    if (!value_list_push(run->heap, batches, batch, run->error)) return false;
  }
  Iterator *items;
  return iterate(run, batches, &items) && object_of_iterator(run, items, out);
}

bool filter_slice(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t slices;
  Value list, fill = arguments[1], result;
  if (!wanted_count(run, arguments[0], &slices) || !value_to_list(run, self, &list) ||
      !list_new(run->heap, LIST_PLAIN, 0, &result, run->error))
    return false;
  if (slices == 0) return run_fail(run, "integer division or modulo by zero");
  int64_t count = (int64_t)list.as.list->count, at = 0;
  for (int64_t i = 0; i < slices; i++) {
    int64_t size = count / slices + (i < count % slices);
    Value part;
    if (!run_step(run) || !list_new(run->heap, LIST_PLAIN, (size_t)size + 1, &part, run->error)) return false;
    for (int64_t k = 0; k < size; k++) part.as.list->items[part.as.list->count++] = list.as.list->items[at++];
    if (!value_is_missing(fill) && fill.kind != VALUE_NONE && i >= count % slices)
      part.as.list->items[part.as.list->count++] = fill;
    if (!value_list_push(run->heap, result, part, run->error)) return false;
  }
  Iterator *items;
  return iterate(run, result, &items) && object_of_iterator(run, items, out);
}

static bool next_item_of(Run *run, Iterator *iterator, Value *out, bool *done) {
  Value source = iterator->source;
  *done = source.kind == VALUE_UNDEFINED;
  if (*done) return true;
  if (source.kind != VALUE_DICT) return run_fail(run, "Can only get item pairs from a mapping.");
  *done = iterator->at >= source.as.dict->count;
  if (*done) return true;
  DictEntry entry = source.as.dict->entries[iterator->at++];
  return make_pair(run, LIST_TUPLE, entry.key, entry.value, out);
}

bool filter_items(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  Iterator *iterator;
  return iterator_new(run, next_item_of, self, &iterator, out);
}
