/* Methods by type. Those of strings are in methods_text.c. */
#include "template/methods.h"

#include "template/object.h"
#include "template/text.h"

#include <string.h>

/* ---- dicts ---- */

static bool dict_view(Run *run, Value self, ViewType type, Value *out) {
  ValueObject *object;
  if (!object_new(run, OBJECT_VIEW, &object, out)) return false;
  object->as.view.type = type;
  object->as.view.dict = self.as.dict;
  return true;
}

static bool dict_items(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return dict_view(run, self, VIEW_ITEMS, out);
}

static bool dict_keys(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return dict_view(run, self, VIEW_KEYS, out);
}

static bool dict_values(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return dict_view(run, self, VIEW_VALUES, out);
}

static bool dict_get_method(Run *run, Value self, const Value *arguments, Value *out) {
  if (!value_key(run, arguments[0])) return false;
  const Value *found = dict_get(self.as.dict, arguments[0]);
  *out = found ? *found : value_is_missing(arguments[1]) ? value_none() : arguments[1];
  return true;
}

static bool dict_copy(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  if (!value_dict(run->heap, out, run->error)) return false;
  for (size_t i = 0; i < self.as.dict->count; i++)
    if (!run_step(run) || !dict_set(run->heap, out->as.dict, self.as.dict->entries[i].key,
                                    self.as.dict->entries[i].value, run->error))
      return false;
  return true;
}

static const Builtin dict_methods[] = {
    {"get", "/key ?/default", .function = dict_get_method},
    {"items", "", .function = dict_items},
    {"keys", "", .function = dict_keys},
    {"values", "", .function = dict_values},
    {"copy", "", .function = dict_copy},
    {"fromkeys", "", .function = NULL},
};

/* ---- lists and tuples ---- */

static bool list_count(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t count = 0;
  for (size_t i = 0; i < self.as.list->count; i++) {
    bool equal;
    if (!values_equal(run, self.as.list->items[i], arguments[0], &equal)) return false;
    count += equal;
  }
  *out = value_int(count);
  return true;
}

static bool list_index(Run *run, Value self, const Value *arguments, Value *out) {
  size_t begin, end;
  if (!methods_range(run, arguments[1], arguments[2], self.as.list->count, &begin, &end)) return false;
  for (size_t i = begin; i < end; i++) {
    bool equal;
    if (!values_equal(run, self.as.list->items[i], arguments[0], &equal)) return false;
    if (!equal) continue;
    *out = value_int((int64_t)i);
    return true;
  }
  size_t mark = text_mark(run);
  if (value_is_tuple(self)) return run_fail(run, "tuple.index(x): x not in tuple");
  if (!print_repr(run, arguments[0])) return false;
  return run_fail(run, "%.*s is not in list", (int)(run->text->size - mark), run->text->data + mark);
}

static bool list_copy(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return value_to_list(run, self, out);
}

static const Builtin list_methods[] = {
    {"count", "/value", .function = list_count},
    {"index", "/value ?/start ?/stop", .function = list_index},
    {"copy", "", .function = list_copy}, /* not of tuples, which have the first two alone */
};

/* ---- cyclers ---- */

static bool cycler_next(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  ValueObject *cycler = self.as.object;
  const ValueList *items = cycler->as.turn.items.as.list;
  *out = items->items[cycler->as.turn.at];
  cycler->as.turn.at = (cycler->as.turn.at + 1) % items->count;
  return true;
}

static bool cycler_reset(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  self.as.object->as.turn.at = 0;
  *out = value_none();
  return true;
}

static const Builtin cycler_methods[] = {{"next", "", .function = cycler_next},
                                         {"reset", "", .function = cycler_reset}};

/* ---- loops ---- */

static bool loop_cycle(Run *run, Value self, const CallArguments *arguments, Value *out) {
  if (arguments->keyword_count) return run_fail(run, "cycle() got an unexpected keyword argument");
  if (!arguments->count) return run_fail(run, "no items for cycling given");
  *out = arguments->positional[(size_t)self.as.object->as.loop.index0 % arguments->count];
  return true;
}

static bool loop_changed(Run *run, Value self, const CallArguments *arguments, Value *out) {
  Loop *loop = &self.as.object->as.loop;
  Value now;
  bool same = false;
  if (!list_new(run->heap, LIST_TUPLE, arguments->count, &now, run->error)) return false;
  for (size_t i = 0; i < arguments->count; i++)
    now.as.list->items[now.as.list->count++] = arguments->positional[i];
  if (!value_is_missing(loop->changed) && !values_equal(run, loop->changed, now, &same)) return false;
  if (!same) loop->changed = now;
  *out = value_bool(!same);
  return true;
}

static const Builtin loop_methods[] = {{"cycle", "", .variadic = loop_cycle},
                                       {"changed", "", .variadic = loop_changed}};

/* ---- the tables by type ---- */

/* What the immutable sandbox keeps from templates. */
static bool is_mutating(ValueKind kind, const char *name, size_t size) {
  static const char *const of_lists[] = {"append", "clear",  "pop",    "reverse", "insert",
                                         "sort",   "extend", "remove", NULL};
  static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
  for (const char *const *known = kind == VALUE_LIST ? of_lists : of_dicts; *known; known++)
    if (strlen(*known) == size && memcmp(*known, name, size) == 0) return true;
  return false;
}

#define TABLE(items) ((BuiltinTable){items, sizeof items / sizeof *items})

const Builtin *method_find(Value self, const char *name, size_t size, bool *mutates) {
  *mutates = false;
  if (self.kind == VALUE_STRING) return builtin_find(text_methods_table, name, size);
  if (self.kind == VALUE_DICT || (self.kind == VALUE_LIST && !value_is_tuple(self)))
    *mutates = is_mutating(self.kind, name, size);
  if (self.kind == VALUE_DICT) return builtin_find(TABLE(dict_methods), name, size);
  if (self.kind == VALUE_LIST) {
    BuiltinTable table = TABLE(list_methods);
    if (value_is_tuple(self)) table.count = 2;
    return builtin_find(table, name, size);
  }
  if (value_is_object(self, OBJECT_CYCLER)) return builtin_find(TABLE(cycler_methods), name, size);
  if (value_is_object(self, OBJECT_LOOP)) return builtin_find(TABLE(loop_methods), name, size);
  return NULL;
}
