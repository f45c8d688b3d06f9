/* Items one by one. */
#include "template/object.h"

#include "template/unicode.h"

bool iterator_new(Run *run, IteratorNext *next, Value source, Iterator **iterator, Value *out) {
  ValueObject *object;
  if (!object_new(run, OBJECT_ITERATOR, &object, out)) return false;
  *iterator = &object->as.iterator;
  **iterator = (Iterator){.next = next, .type = "generator", .source = source};
  return true;
}

static bool next_of_inner(Run *run, Iterator *iterator, Value *out, bool *done) {
  return iterator->inner->next(run, iterator->inner, out, done);
}

bool object_of_iterator(Run *run, Iterator *iterator, Value *out) {
  Iterator *outer;
  if (!iterator_new(run, next_of_inner, value_none(), &outer, out)) return false;
  outer->inner = iterator;
  return true;
}

/* ---- forwards ---- */

static bool next_of_list(Run *run, Iterator *iterator, Value *out, bool *done) {
  (void)run;
  const ValueList *list = iterator->source.as.list;
  *done = iterator->at >= list->count;
  if (!*done) *out = list->items[iterator->at++];
  return true;
}

static bool next_of_string(Run *run, Iterator *iterator, Value *out, bool *done) {
  const ValueString *string = iterator->source.as.string;
  *done = iterator->at >= string->size;
  if (*done) return true;
  size_t begin = iterator->at;
  iterator->at += unicode_width(string->bytes + begin, string->size - begin);
  return string_slice(run->heap, string, begin, iterator->at, out, run->error);
}

static bool next_of_dict(Run *run, Iterator *iterator, Value *out, bool *done) {
  (void)run;
  const ValueDict *dict = iterator->source.as.dict;
  *done = iterator->at >= dict->count;
  if (!*done) *out = dict->entries[iterator->at++].key;
  return true;
}

static bool next_of_view(Run *run, Iterator *iterator, Value *out, bool *done) {
  const ValueObject *view = iterator->source.as.object;
  *done = iterator->at >= view->as.view.dict->count;
  return *done || view_item(run, view, iterator->at++, out);
}

static bool next_of_range(Run *run, Iterator *iterator, Value *out, bool *done) {
  (void)run;
  const ValueObject *range = iterator->source.as.object;
  *done = iterator->at >= range->as.range.count;
  if (!*done) *out = range_item(range, iterator->at++);
  return true;
}

static bool next_of_nothing(Run *run, Iterator *iterator, Value *out, bool *done) {
  (void)run;
  (void)iterator;
  (void)out;
  *done = true;
  return true;
}

bool view_item(Run *run, const ValueObject *view, size_t index, Value *out) {
  const DictEntry *entry = &view->as.view.dict->entries[index];
  *out = view->as.view.type == VIEW_KEYS ? entry->key : entry->value;
  if (view->as.view.type != VIEW_ITEMS) return true;
  if (!list_new(run->heap, LIST_TUPLE, 2, out, run->error)) return false;
  ValueList *pair = out->as.list;
  pair->items[0] = entry->key;
  pair->items[1] = entry->value;
  pair->count = 2;
  return true;
}

static IteratorNext *next_of(Value value) {
  switch (value.kind) {
    case VALUE_UNDEFINED:
      return next_of_nothing;
    case VALUE_STRING:
      return next_of_string;
    case VALUE_LIST:
      return next_of_list;
    case VALUE_DICT:
      return next_of_dict;
    case VALUE_OBJECT:
      if (value.as.object->kind == OBJECT_RANGE) return next_of_range;
      if (value.as.object->kind == OBJECT_VIEW) return next_of_view;
      if (value.as.object->kind == OBJECT_ITERATOR) return value.as.object->as.iterator.next;
      return NULL;
    default:
      return NULL;
  }
}

bool value_is_iterable(Value value) {
  return next_of(value) != NULL;
}

bool iterate(Run *run, Value value, Iterator **out) {
  IteratorNext *next = next_of(value);
  if (!next) return run_fail(run, "'%s' object is not iterable", value_type(value));
  if (value_is_object(value, OBJECT_ITERATOR)) {
    *out = &value.as.object->as.iterator;
    return true;
  }
  *out = run_alloc(run, sizeof **out);
  if (!*out) return false;
  **out = (Iterator){.next = next, .source = value};
  return true;
}

/* ---- backwards ---- */

static bool next_back(Run *run, Iterator *iterator, Value *out, bool *done) {
  *done = iterator->at == 0;
  if (*done) return true;
  size_t index = --iterator->at;
  Value source = iterator->source;
  if (source.kind == VALUE_LIST)
    *out = source.as.list->items[index];
  else if (source.kind == VALUE_DICT)
    *out = source.as.dict->entries[index].key;
  else if (value_is_object(source, OBJECT_RANGE))
    *out = range_item(source.as.object, index);
  else
    return view_item(run, source.as.object, index, out);
  return true;
}

static bool next_back_of_string(Run *run, Iterator *iterator, Value *out, bool *done) {
  const ValueString *string = iterator->source.as.string;
  *done = iterator->at == 0;
  if (*done) return true;
  size_t end = iterator->at, width;
  (void)unicode_read_back(string->bytes, end, &width);
  iterator->at -= width;
  return string_slice(run->heap, string, iterator->at, end, out, run->error);
}

bool iterate_reversed(Run *run, Value value, Value *out, bool *possible) {
  size_t length = 0;
  *possible = value_has_length(value, &length) && !value_is_object(value, OBJECT_LOOP);
  if (!*possible) return true;
  static const char *const view_types[] = {"dict_reversekeyiterator", "dict_reversevalueiterator",
                                           "dict_reverseitemiterator"};
  Iterator *iterator;
  if (!iterator_new(run, next_back, value, &iterator, out)) return false;
  iterator->at = length;
  iterator->type = "reversed";
  if (value.kind == VALUE_STRING) {
    iterator->next = next_back_of_string;
    iterator->at = value.as.string->size;
  } else if (value.kind == VALUE_LIST) {
    if (value.as.list->type == LIST_PLAIN) iterator->type = "list_reverseiterator";
  } else if (value.kind == VALUE_DICT) {
    iterator->type = view_types[VIEW_KEYS];
  } else if (value_is_object(value, OBJECT_VIEW)) {
    iterator->type = view_types[value.as.object->as.view.type];
  } else if (value_is_object(value, OBJECT_RANGE)) {
    iterator->type = "range_iterator";
  }
  return true;
}

bool value_to_list(Run *run, Value value, Value *out) {
  Iterator *iterator;
  size_t length = 0;
  (void)value_has_length(value, &length);
  if (!iterate(run, value, &iterator) || !list_new(run->heap, LIST_PLAIN, length, out, run->error))
    return false;
  for (;;) {
    Value item;
    bool done;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done) return true;
    if (!value_list_push(run->heap, *out, item, run->error)) return false;
  }
}
