/* What values are made of, for the files of this room: strings and where their bytes came from, lists, dicts, and
 * what every operation on them needs. */
#ifndef TEMPLATE_VALUES_H
#define TEMPLATE_VALUES_H

#include "base/memory.h"
#include "template/value.h"

/* Bytes [begin, end) of a string have a story: they came from `bytes` bytes at `from` (NULL: they did not), unchanged if exact;
 * and stood in a {% generation %} block or not. Spans of a string ascend and do not overlap. */
typedef struct Span {
  size_t begin, end;
  const char *from;
  size_t bytes;
  bool exact, generation;
} Span;

/* The memory behind a string that was added to: the next addition goes behind it if nothing else has, so that adding many small ones is
 * linear. */
typedef struct Growth {
  char *bytes;
  size_t used, capacity;
  Span *spans;
  size_t spans_used, span_capacity;
} Growth;

#define LENGTH_UNKNOWN SIZE_MAX

typedef struct ValueString {
  const char *bytes; /* not NUL-terminated */
  size_t size;
  size_t length; /* code points; LENGTH_UNKNOWN until string_length counts them */
  const Span *spans;
  size_t span_count;
  Growth *growth; /* NULL: nothing can be added in place */
  bool markup;    /* went through |safe or |escape: what is added with + is escaped */
} ValueString;

typedef enum ListType {
  LIST_PLAIN,
  LIST_TUPLE,
  LIST_GROUP /* a tuple of groupby: has .grouper and .list */
} ListType;

typedef struct ValueList {
  Value *items;
  size_t count, capacity;
  ListType type;
} ValueList;

typedef struct DictEntry {
  Value key, value;
} DictEntry;

typedef struct ValueDict {
  DictEntry *entries; /* in the order in which keys first came */
  size_t count, capacity;
  uint32_t *slots; /* hash table of entry number + 1; NULL while the dict is small */
  size_t slot_count;
} ValueDict;

typedef struct ValueUndefined {
  const char *hint; /* says it all; or NULL */
  Value object;     /* what lacks `name`; VALUE_UNDEFINED: a variable of this name */
  Value name;
} ValueUndefined;

/* Returned by nothing that a template sees: a variable that has no value yet. */
static inline Value value_missing(void) {
  return (Value){.kind = VALUE_UNDEFINED};
}
static inline bool value_is_missing(Value value) {
  return value.kind == VALUE_UNDEFINED && !value.as.undefined;
}

/* heap.c */
void *heap_alloc(ValueHeap *heap, size_t bytes, Error *error); /* NULL with error set */
typedef struct SpanArray {
  Span *items;
  size_t count, capacity;
} SpanArray;
SpanArray *heap_spans(ValueHeap *heap); /* the spans of the text that is being written (text.h) */

/* value.c */
static inline Value value_float(double real) {
  return (Value){.kind = VALUE_FLOAT, .as.real = real};
}
static inline Value value_of_string(const ValueString *string) {
  return (Value){.kind = VALUE_STRING, .as.string = string};
}
static inline bool value_is_string(Value value) {
  return value.kind == VALUE_STRING;
}
static inline bool value_is_number(Value value) {
  return value.kind == VALUE_BOOL || value.kind == VALUE_INT || value.kind == VALUE_FLOAT;
}
/* VALUE_BOOL and VALUE_INT, which Python takes for each other. */
static inline bool value_is_integral(Value value) {
  return value.kind == VALUE_BOOL || value.kind == VALUE_INT;
}
static inline int64_t value_integral(Value value) {
  return value.kind == VALUE_BOOL ? value.as.boolean : value.as.integer;
}
static inline double value_real(Value value) {
  return value.kind == VALUE_FLOAT ? value.as.real : (double)value_integral(value);
}
static inline bool value_is_tuple(Value value) {
  return value.kind == VALUE_LIST && value.as.list->type != LIST_PLAIN;
}

NODISCARD bool string_copy(ValueHeap *heap, const char *bytes, size_t size, Value *out, Error *error);
NODISCARD bool string_literal(ValueHeap *heap, const char *text, Value *out, Error *error); /* text: static */
NODISCARD bool list_new(ValueHeap *heap, ListType type, size_t capacity, Value *out, Error *error);
NODISCARD bool dict_set(ValueHeap *heap, ValueDict *dict, Value key, Value value, Error *error);
const Value *dict_get(const ValueDict *dict, Value key); /* NULL: not there; the key must be hashable */
const Value *dict_get_text(const ValueDict *dict, const char *key, size_t size);
NODISCARD bool undefined_new(ValueHeap *heap, const char *hint, Value object, Value name, Value *out,
                             Error *error); /* hint: static, or on the heap */

/* What Python calls the type: "str", "dict", "NoneType" ... */
const char *value_type(Value value);
bool value_is_hashable(Value value);
uint64_t value_hash(Value value);

/* string.c: strings in code points, and as parts of each other. */
size_t string_length(const ValueString *string);
/* The byte at which code point `index` (at most length) begins. */
size_t string_offset(const ValueString *string, size_t index);
NODISCARD bool string_slice(ValueHeap *heap, const ValueString *string, size_t begin, size_t end, Value *out,
                            Error *error); /* bytes [begin, end) */
NODISCARD bool string_add(ValueHeap *heap, const ValueString *left, const ValueString *right, Value *out,
                          Error *error);
bool string_equals(const ValueString *string, const char *text);
bool strings_equal(const ValueString *left, const ValueString *right);
int strings_compare(const ValueString *left, const ValueString *right);
/* The part of a span within bytes [begin, end), moved by -begin. */
Span span_clip(Span span, size_t begin, size_t end);
/* The first of the spans that end behind byte `at`. */
size_t span_after(const Span *spans, size_t count, size_t at);

#endif
