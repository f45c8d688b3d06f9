/* map, select, reject and their kin: a filter, a test or an attribute for each item, when it is asked for. */
#include "template/filters.h"
#include "template/object.h"

#include <string.h>

/* The arguments without the first `count`. */
static CallArguments arguments_from(const CallArguments *arguments, size_t count) {
  CallArguments rest = *arguments;
  rest.positional += count;
  rest.count -= count;
  return rest;
}

static const Value *keyword(const CallArguments *arguments, const char *name) {
  for (size_t i = 0; i < arguments->keyword_count; i++)
    if (string_equals(arguments->keywords[i].name.as.string, name)) return &arguments->keywords[i].value;
  return NULL;
}

static bool find_builtin(Run *run, BuiltinTable table, const char *kind, Value name, const Builtin **out) {
  *out = value_is_string(name) ? builtin_find(table, name.as.string->bytes, name.as.string->size) : NULL;
  if (*out && ((*out)->function || (*out)->variadic)) return true;
  if (*out) return run_fail(run, "the %s '%s' is not supported", kind, (*out)->name);
  if (!value_is_string(name))
    return run_fail(run, "No %s named by a value of type %s.", kind, value_type(name));
  return run_fail(run, "No %s named '%.*s'.", kind, (int)name.as.string->size, name.as.string->bytes);
}

/* Begun only when the first item is asked for, and not at all for what is empty. */
static bool begin(Run *run, Iterator *iterator, bool *empty) {
  *empty = !iterator->begun && !value_is_true(iterator->source);
  if (*empty || iterator->begun) return true;
  return iterate(run, iterator->source, &iterator->inner);
}

/* ---- map ---- */

/* extra: the attribute; arguments.positional[0] then what stands for a missing one. */
static bool next_mapped(Run *run, Iterator *iterator, Value *out, bool *done) {
  bool fresh = !iterator->begun;
  if (!begin(run, iterator, done) || *done) return *done;
  CallArguments *arguments = &iterator->arguments;
  if (fresh && !iterator->flag) {
    if (!arguments->count) return run_fail(run, "map requires a filter argument");
    if (!find_builtin(run, filters_table, "filter", arguments->positional[0], &iterator->builtin))
      return false;
    *arguments = arguments_from(arguments, 1);
  }
  if (fresh && iterator->flag) {
    const Value *attribute = keyword(arguments, "attribute"), *fallback = keyword(arguments, "default");
    for (size_t i = 0; i < arguments->keyword_count; i++) {
      const Value *value = &arguments->keywords[i].value;
      const ValueString *name = arguments->keywords[i].name.as.string;
      if (value != attribute && value != fallback)
        return run_fail(run, "Unexpected keyword argument '%.*s'", (int)name->size, name->bytes);
    }
  }
  iterator->begun = true;
  Value item;
  if (!iterator_next(run, iterator->inner, &item, done)) return false;
  if (*done) return true;
  if (!iterator->flag) return builtin_call(run, iterator->builtin, item, arguments, out);
  const Value *fallback = keyword(arguments, "default");
  return attribute_path(run, item, *keyword(arguments, "attribute"), fallback ? *fallback : value_missing(),
                        out);
}

bool filter_map(Run *run, Value self, const CallArguments *arguments, Value *out) {
  Iterator *iterator;
  if (!iterator_new(run, next_mapped, self, &iterator, out)) return false;
  iterator->arguments = *arguments;
  iterator->flag = !arguments->count && keyword(arguments, "attribute");
  return true;
}

/* ---- select ---- */

typedef struct Selection {
  bool rejects, by_attribute;
  Value attribute;
} Selection;

static bool prepare_selection(Run *run, Iterator *iterator, Selection *selection) {
  CallArguments *arguments = &iterator->arguments;
  if (selection->by_attribute) {
    if (!arguments->count) return run_fail(run, "Missing parameter for attribute name");
    selection->attribute = arguments->positional[0];
    *arguments = arguments_from(arguments, 1);
  }
  if (!arguments->count) return true;
  if (!find_builtin(run, tests_table, "test", arguments->positional[0], &iterator->builtin)) return false;
  *arguments = arguments_from(arguments, 1);
  return true;
}

static bool next_selected(Run *run, Iterator *iterator, Value *out, bool *done) {
  Selection *selection = iterator->state;
  bool fresh = !iterator->begun;
  if (!begin(run, iterator, done) || *done) return *done;
  iterator->begun = true;
  if (fresh && !prepare_selection(run, iterator, selection)) return false;
  for (;;) {
    if (!iterator_next(run, iterator->inner, out, done)) return false;
    if (*done) return true;
    Value part;
    if (!attribute_path(run, *out, selection->attribute, value_missing(), &part)) return false;
    if (iterator->builtin && !builtin_call(run, iterator->builtin, part, &iterator->arguments, &part))
      return false;
    if (value_is_true(part) != selection->rejects) return true;
  }
}

static bool make_selection(Run *run, Value self, const CallArguments *arguments, bool rejects,
                           bool by_attribute, Value *out) {
  Iterator *iterator;
  Selection *selection = run_alloc(run, sizeof *selection);
  if (!selection || !iterator_new(run, next_selected, self, &iterator, out)) return false;
  *selection = (Selection){.rejects = rejects, .by_attribute = by_attribute, .attribute = value_missing()};
  iterator->arguments = *arguments;
  iterator->state = selection;
  return true;
}

bool filter_select(Run *run, Value self, const CallArguments *arguments, Value *out) {
  return make_selection(run, self, arguments, false, false, out);
}

bool filter_reject(Run *run, Value self, const CallArguments *arguments, Value *out) {
  return make_selection(run, self, arguments, true, false, out);
}

bool filter_selectattr(Run *run, Value self, const CallArguments *arguments, Value *out) {
  return make_selection(run, self, arguments, false, true, out);
}

bool filter_rejectattr(Run *run, Value self, const CallArguments *arguments, Value *out) {
  return make_selection(run, self, arguments, true, true, out);
}
