/* Values: making them, lists and dicts, and what Python calls them. */
#include "template/values.h"

#include "base/json.h"
#include "template/object.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

Value value_none(void) {
  return (Value){.kind = VALUE_NONE};
}

Value value_bool(bool value) {
  return (Value){.kind = VALUE_BOOL, .as.boolean = value};
}

Value value_int(int64_t value) {
  return (Value){.kind = VALUE_INT, .as.integer = value};
}

/* ---- strings ---- */

bool value_text(ValueHeap *heap, const char *bytes, size_t count, bool tracked, Value *out, Error *error) {
  tracked = tracked && count > 0;
  ValueString *string = heap_alloc(heap, sizeof *string + (tracked ? sizeof(Span) : 0), error);
  if (!string) return false;
  *string = (ValueString){.bytes = bytes, .size = count, .length = LENGTH_UNKNOWN};
  if (tracked) {
    Span *span = (Span *)(string + 1);
    *span = (Span){.end = count, .from = bytes, .bytes = count, .exact = true};
    string->spans = span;
    string->span_count = 1;
  }
  *out = value_of_string(string);
  return true;
}

bool string_copy(ValueHeap *heap, const char *bytes, size_t size, Value *out, Error *error) {
  ValueString *string = heap_alloc(heap, sizeof *string + size, error);
  if (!string) return false;
  char *copy = (char *)(string + 1);
  if (size) memcpy(copy, bytes, size);
  *string = (ValueString){.bytes = copy, .size = size, .length = LENGTH_UNKNOWN};
  *out = value_of_string(string);
  return true;
}

bool string_literal(ValueHeap *heap, const char *text, Value *out, Error *error) {
  return value_text(heap, text, strlen(text), false, out, error);
}

/* ---- undefined ---- */

bool undefined_new(ValueHeap *heap, const char *hint, Value object, Value name, Value *out, Error *error) {
  ValueUndefined *undefined = heap_alloc(heap, sizeof *undefined, error);
  if (!undefined) return false;
  *undefined = (ValueUndefined){.hint = hint, .object = object, .name = name};
  *out = (Value){.kind = VALUE_UNDEFINED, .as.undefined = undefined};
  return true;
}

/* ---- lists ---- */

bool list_new(ValueHeap *heap, ListType type, size_t capacity, Value *out, Error *error) {
  ValueList *list = NULL;
  if (capacity <= SIZE_MAX / sizeof(Value) / 2)
    list = heap_alloc(heap, sizeof *list + capacity * sizeof(Value), error);
  if (!list) return error_out_of_memory(error, "a list of a chat template", SIZE_MAX);
  *list = (ValueList){.items = (Value *)(list + 1), .capacity = capacity, .type = type};
  *out = (Value){.kind = VALUE_LIST, .as.list = list};
  return true;
}

bool value_list(ValueHeap *heap, Value *out, Error *error) {
  return list_new(heap, LIST_PLAIN, 0, out, error);
}

bool value_list_push(ValueHeap *heap, Value value, Value item, Error *error) {
  ValueList *list = value.as.list;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 4;
    Value *items = heap_alloc(heap, capacity * sizeof *items, error);
    if (!items) return false;
    if (list->count) memcpy(items, list->items, list->count * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] = item;
  return true;
}

/* ---- dicts ---- */

enum { DICT_SCANNED = 8 }; /* up to here looking through all keys is quicker than a hash table */

bool value_dict(ValueHeap *heap, Value *out, Error *error) {
  ValueDict *dict = heap_alloc(heap, sizeof *dict, error);
  if (!dict) return false;
  *dict = (ValueDict){0};
  *out = (Value){.kind = VALUE_DICT, .as.dict = dict};
  return true;
}

bool value_is_hashable(Value value) {
  if (value.kind == VALUE_DICT) return false;
  if (value.kind != VALUE_LIST) return true;
  if (value.as.list->type == LIST_PLAIN) return false;
  for (size_t i = 0; i < value.as.list->count; i++) {
    Value item = value.as.list->items[i];
    if (item.kind == VALUE_DICT || item.kind == VALUE_LIST)
      return false; /* tuples in tuples: no key of ours */
  }
  return true;
}

static uint64_t mix(uint64_t hash) {
  hash ^= hash >> 32;
  hash *= 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

static uint64_t hash_bytes(const char *bytes, size_t size) {
  uint64_t hash = 0xCBF29CE484222325u ^ size;
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    hash = mix(hash ^ word);
  }
  uint64_t rest = 0;
  memcpy(&rest, bytes, size);
  return mix(hash ^ rest);
}

/* Numbers that are equal hash alike, whatever their types. */
static uint64_t hash_real(double real) {
  if (real >= -9.2e18 && real <= 9.2e18 && real == (double)(int64_t)real) return mix((uint64_t)(int64_t)real);
  uint64_t bits;
  memcpy(&bits, &real, sizeof bits);
  return mix(bits);
}

uint64_t value_hash(Value value) {
  switch (value.kind) {
    case VALUE_STRING:
      return hash_bytes(value.as.string->bytes, value.as.string->size);
    case VALUE_BOOL:
    case VALUE_INT:
      return mix((uint64_t)value_integral(value));
    case VALUE_FLOAT:
      return hash_real(value.as.real);
    case VALUE_LIST: {
      uint64_t hash = value.as.list->count;
      for (size_t i = 0; i < value.as.list->count; i++)
        hash = mix(hash ^ value_hash(value.as.list->items[i]));
      return hash;
    }
    default:
      return (uint64_t)value.kind;
  }
}

/* Equality of keys: of flat, hashable values. */
static bool keys_equal(Value left, Value right) {
  if (left.kind == VALUE_STRING && right.kind == VALUE_STRING)
    return strings_equal(left.as.string, right.as.string);
  if (value_is_number(left) && value_is_number(right))
    return left.kind == VALUE_FLOAT || right.kind == VALUE_FLOAT
               ? value_real(left) == value_real(right)
               : value_integral(left) == value_integral(right);
  if (left.kind != right.kind) return false;
  if (left.kind == VALUE_LIST) {
    const ValueList *a = left.as.list, *b = right.as.list;
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) equal = keys_equal(a->items[i], b->items[i]);
    return equal;
  }
  return left.kind == VALUE_OBJECT ? left.as.object == right.as.object : true;
}

static size_t find_slot(const ValueDict *dict, Value key) {
  size_t at = value_hash(key) & (dict->slot_count - 1);
  while (dict->slots[at] && !keys_equal(dict->entries[dict->slots[at] - 1].key, key))
    at = (at + 1) & (dict->slot_count - 1);
  return at;
}

static DictEntry *find_entry(const ValueDict *dict, Value key) {
  if (dict->slots) {
    uint32_t slot = dict->slots[find_slot(dict, key)];
    return slot ? &dict->entries[slot - 1] : NULL;
  }
  for (size_t i = 0; i < dict->count; i++)
    if (keys_equal(dict->entries[i].key, key)) return &dict->entries[i];
  return NULL;
}

const Value *dict_get(const ValueDict *dict, Value key) {
  const DictEntry *entry = find_entry(dict, key);
  return entry ? &entry->value : NULL;
}

const Value *dict_get_text(const ValueDict *dict, const char *key, size_t size) {
  ValueString string = {.bytes = key, .size = size, .length = LENGTH_UNKNOWN};
  return dict_get(dict, value_of_string(&string));
}

/* Twice as many entries, and a hash table once there are many. */
static bool grow_dict(ValueHeap *heap, ValueDict *dict, Error *error) {
  size_t capacity = dict->capacity ? dict->capacity * 2 : 4;
  if (capacity > UINT32_MAX / 4) return error_out_of_memory(error, "a dict of a chat template", capacity);
  DictEntry *entries = heap_alloc(heap, capacity * sizeof *entries, error);
  if (!entries) return false;
  if (dict->count) memcpy(entries, dict->entries, dict->count * sizeof *entries);
  dict->entries = entries;
  dict->capacity = capacity;
  if (capacity <= DICT_SCANNED) return true;
  size_t slots = capacity * 2;
  uint32_t *table = heap_alloc(heap, slots * sizeof *table, error);
  if (!table) return false;
  memset(table, 0, slots * sizeof *table);
  dict->slots = table;
  dict->slot_count = slots;
  for (size_t i = 0; i < dict->count; i++) table[find_slot(dict, entries[i].key)] = (uint32_t)i + 1;
  return true;
}

bool dict_set(ValueHeap *heap, ValueDict *dict, Value key, Value value, Error *error) {
  DictEntry *entry = find_entry(dict, key);
  if (entry) {
    entry->value = value;
    return true;
  }
  if (dict->count == dict->capacity && !grow_dict(heap, dict, error)) return false;
  if (dict->slots) dict->slots[find_slot(dict, key)] = (uint32_t)dict->count + 1;
  dict->entries[dict->count++] = (DictEntry){.key = key, .value = value};
  return true;
}

bool value_dict_set(ValueHeap *heap, Value dict, const char *key, Value value, Error *error) {
  Value text;
  return string_literal(heap, key, &text, error) && dict_set(heap, dict.as.dict, text, value, error);
}

/* ---- JSON ---- */

enum { JSON_DEPTH = 2048 }; /* jansson's own */

/* A number that only Python reads: NaN, Infinity, 1e999; whole ones beyond 64 bits are refused. */
static bool foreign_number(const char *spelled, Value *out, Error *error) {
  if (!strpbrk(spelled, ".eENI"))
    return error_set(error, ERROR_DATA, "%s: whole numbers of a chat template have at most 64 bits", spelled);
  *out = value_float(strtod(spelled, NULL));
  return true;
}

static bool from_json(ValueHeap *heap, const json_t *json, bool tracked, int depth, Value *out,
                      Error *error) {
  if (depth > JSON_DEPTH)
    return error_set(error, ERROR_DATA, "values within each other more than %d deep", JSON_DEPTH);
  switch (json_typeof(json)) {
    case JSON_NULL:
      *out = value_none();
      return true;
    case JSON_TRUE:
    case JSON_FALSE:
      *out = value_bool(json_is_true(json));
      return true;
    case JSON_INTEGER:
      *out = value_int(json_integer_value(json));
      return true;
    case JSON_REAL:
      *out = value_float(json_real_value(json));
      return true;
    case JSON_STRING:
      return value_text(heap, json_string_value(json), json_string_length(json), tracked, out, error);
    case JSON_ARRAY: {
      if (!list_new(heap, LIST_PLAIN, json_array_size(json), out, error)) return false;
      size_t index;
      json_t *item;
      json_array_foreach(json, index, item) {
        Value value;
        if (!from_json(heap, item, tracked, depth + 1, &value, error) ||
            !value_list_push(heap, *out, value, error))
          return false;
      }
      return true;
    }
    case JSON_OBJECT:
      break;
  }
  if (!json_holds_object(json)) return foreign_number(json_kind(json), out, error);
  if (!value_dict(heap, out, error)) return false;
  for (void *iter = json_object_iter((json_t *)json); iter;
       iter = json_object_iter_next((json_t *)json, iter)) {
    Value key, value;
    if (!value_text(heap, json_object_iter_key(iter), json_object_iter_key_len(iter), false, &key, error) ||
        !from_json(heap, json_object_iter_value(iter), tracked, depth + 1, &value, error) ||
        !dict_set(heap, out->as.dict, key, value, error))
      return false;
  }
  return true;
}

bool value_json(ValueHeap *heap, const json_t *json, bool tracked, Value *out, Error *error) {
  return from_json(heap, json, tracked, 0, out, error);
}

/* ---- names of types ---- */

const char *value_type(Value value) {
  switch (value.kind) {
    case VALUE_UNDEFINED:
      return "Undefined";
    case VALUE_NONE:
      return "NoneType";
    case VALUE_BOOL:
      return "bool";
    case VALUE_INT:
      return "int";
    case VALUE_FLOAT:
      return "float";
    case VALUE_STRING:
      return value.as.string->markup ? "Markup" : "str";
    case VALUE_LIST: {
      static const char *const names[] = {"list", "tuple", "_GroupTuple"};
      return names[value.as.list->type];
    }
    case VALUE_DICT:
      return "dict";
    case VALUE_OBJECT:
      break;
  }
  return object_type(value.as.object);
}
