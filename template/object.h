/* Values that only the language makes. */
#ifndef TEMPLATE_OBJECT_H
#define TEMPLATE_OBJECT_H

#include "template/run.h"

typedef enum ObjectKind {
  OBJECT_MACRO,
  OBJECT_NAMESPACE,
  OBJECT_LOOP,
  OBJECT_RANGE,
  OBJECT_VIEW, /* keys, values or items of a dict */
  OBJECT_ITERATOR,
  OBJECT_FUNCTION, /* range, namespace ... */
  OBJECT_METHOD,   /* of a value */
  OBJECT_JOINER,
  OBJECT_CYCLER
} ObjectKind;

typedef enum ViewType { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } ViewType;

typedef struct Iterator Iterator;
/* The next item, or *done. */
typedef bool IteratorNext(Run *run, Iterator *iterator, Value *out, bool *done);

/* Items one by one, each once. What the fields mean is between those who make it and its `next`. */
struct Iterator {
  IteratorNext *next;
  const char *type; /* Python's name: "generator" ... */
  Value source;
  size_t at, end;
  Iterator *inner;
  const Builtin *builtin;
  CallArguments arguments;
  Value extra;
  bool flag;
  bool begun;
  void *state;
};

/* `loop` in a for loop. */
typedef struct Loop {
  Iterator *items;
  Value iterable;                        /* whose length is known, or missing */
  int64_t index0;                        /* -1 before the first */
  int64_t length;                        /* -1: not counted yet */
  Value before, current, after, changed; /* missing where there is none */
  int depth;                             /* of a recursive loop, from 1 */
  const Node *recursive;                 /* the loop, if it is one */
  Frame *outer;                          /* in which it stands */
} Loop;

typedef struct ValueObject {
  ObjectKind kind;
  union {
    struct {
      const Function *function;
      Frame *outer;
    } macro;
    ValueDict fields; /* OBJECT_NAMESPACE */
    Loop loop;
    struct {
      int64_t start, stop, step;
      size_t count;
    } range;
    struct {
      ViewType type;
      const ValueDict *dict;
    } view;
    Iterator iterator;
    struct {
      const Builtin *builtin;
      Value self; /* OBJECT_METHOD */
    } call;
    struct {
      Value items; /* OBJECT_CYCLER: a list; OBJECT_JOINER: the separator */
      size_t at;
    } turn;
  } as;
} ValueObject;

/* object.c */
const char *object_type(const ValueObject *object);
const char *object_path(Value value); /* the type's name with its module, as jinja2's messages have it */
NODISCARD bool object_new(Run *run, ObjectKind kind, ValueObject **object, Value *out);
static inline bool value_is_object(Value value, ObjectKind kind) {
  return value.kind == VALUE_OBJECT && value.as.object->kind == kind;
}
Value range_item(const ValueObject *range, size_t index);

/* iterate.c */
NODISCARD bool iterate(Run *run, Value value, Iterator **out); /* "'int' object is not iterable" */
bool value_is_iterable(Value value);
static inline bool iterator_next(Run *run, Iterator *iterator, Value *out, bool *done) {
  return run_step(run) && iterator->next(run, iterator, out, done);
}
NODISCARD bool iterator_new(Run *run, IteratorNext *next, Value source, Iterator **iterator, Value *out);
NODISCARD bool iterate_reversed(Run *run, Value value, Value *out, bool *possible);
NODISCARD bool value_to_list(Run *run, Value value, Value *out); /* a new one */
NODISCARD bool view_item(Run *run, const ValueObject *view, size_t index, Value *out);

/* An iterator as a value. */
NODISCARD bool object_of_iterator(Run *run, Iterator *iterator, Value *out);

/* loop.c: what `loop` has by this name. */
NODISCARD bool loop_attribute(Run *run, Loop *loop, const ValueString *name, Value *out, bool *found);
NODISCARD bool loop_length(Run *run, Loop *loop, size_t *out);

/* methods.c: of a value's type, NULL if it has none of this name. *mutates: it has, but it would change the value. */
const Builtin *method_find(Value self, const char *name, size_t size, bool *mutates);

/* globals.c: what the language gives by itself; missing if nothing. */
NODISCARD bool global_find(Run *run, Value name, Value *out);
bool global_exists(const ValueString *name);
/* That a namespace may have a field of this name. */
NODISCARD bool namespace_check(Run *run, Value name);

#endif
