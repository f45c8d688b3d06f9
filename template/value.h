/* Values of the template language, and the heap that one rendering makes them in.
 *
 * A Value is small and copied freely; what it points to belongs to the heap, or was lent by the caller, and lives until the heap is
 * cleared. Nothing is freed one by one: a rendering is short, and the heap has a limit.
 *
 * Strings know whose text they are. A string that the caller lends as `tracked` carries, through every operation (slices, strip,
 * split, +, ~, join, replace, filters, macros, set blocks ...), which of its bytes came from which bytes of the caller's memory. A caller that lends
 * the text of its messages so finds each of them again in the rendering (template.h). */
#ifndef TEMPLATE_VALUE_H
#define TEMPLATE_VALUE_H

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ValueHeap ValueHeap;

typedef enum ValueKind {
  VALUE_UNDEFINED,
  VALUE_NONE,
  VALUE_BOOL,
  VALUE_INT,
  VALUE_FLOAT,
  VALUE_STRING,
  VALUE_LIST,
  VALUE_DICT,
  VALUE_OBJECT /* what only the language makes: macros, namespaces, loops */
} ValueKind;

typedef struct Value {
  ValueKind kind;
  union {
    bool boolean;
    int64_t integer;
    double real;
    const struct ValueUndefined *undefined; /* why it is */
    const struct ValueString *string;
    struct ValueList *list; /* lists and tuples */
    struct ValueDict *dict;
    struct ValueObject *object;
  } as;
} Value;

/* limit: bytes of all values together; beyond it ERROR_DATA says that the template needs too much memory. NULL when out of memory. */
ValueHeap *value_heap_open(size_t limit, Error *error);
void value_heap_clear(ValueHeap *heap); /* for the next rendering: memory is kept */
void value_heap_close(ValueHeap *heap); /* NULL is fine */

Value value_none(void);
Value value_bool(bool value);
Value value_int(int64_t value);
/* bytes is borrowed, and must outlive the heap's use of it. Bytes that are not UTF-8 count as one character each. */
NODISCARD bool value_text(ValueHeap *heap, const char *bytes, size_t count, bool tracked, Value *out,
                          Error *error);
/* Empty ones, and what fills them. */
NODISCARD bool value_list(ValueHeap *heap, Value *out, Error *error);
NODISCARD bool value_list_push(ValueHeap *heap, Value list, Value item, Error *error);
NODISCARD bool value_dict(ValueHeap *heap, Value *out, Error *error); /* keeps the order of its keys */
NODISCARD bool value_dict_set(ValueHeap *heap, Value dict, const char *key, Value value,
                              Error *error); /* key: borrowed */
/* A JSON value as Python reads it, its strings borrowed; tracked: all strings that are values are, keys are not. */
NODISCARD bool value_json(ValueHeap *heap, const json_t *json, bool tracked, Value *out, Error *error);

#endif
