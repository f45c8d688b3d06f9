/* object.name, object[index], object[start:stop:step], and lengths. */
#include "template/builtin.h"
#include "template/object.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

/* ---- lengths ---- */

bool value_has_length(Value value, size_t *out) {
  *out = 0;
  switch (value.kind) {
    case VALUE_UNDEFINED:
      return true;
    case VALUE_STRING:
      *out = string_length(value.as.string);
      return true;
    case VALUE_LIST:
      *out = value.as.list->count;
      return true;
    case VALUE_DICT:
      *out = value.as.dict->count;
      return true;
    case VALUE_OBJECT:
      if (value.as.object->kind == OBJECT_RANGE)
        *out = value.as.object->as.range.count;
      else if (value.as.object->kind == OBJECT_VIEW)
        *out = value.as.object->as.view.dict->count;
      else
        return false;
      return true;
    default:
      return false;
  }
}

bool value_length(Run *run, Value value, size_t *out) {
  if (value_is_object(value, OBJECT_LOOP)) return loop_length(run, &value.as.object->as.loop, out);
  return value_has_length(value, out) || run_fail(run, "object of type '%s' has no len()", value_type(value));
}

/* ---- attributes ---- */

static bool bound_method(Run *run, const Builtin *method, Value self, Value *out) {
  ValueObject *object;
  if (!object_new(run, OBJECT_METHOD, &object, out)) return false;
  object->as.call.builtin = method;
  object->as.call.self = self;
  return true;
}

static bool unsafe(Run *run, Value object, Value name, Value *out) {
  size_t mark = text_mark(run);
  Value hint;
  if (!text_add_text(run, "access to attribute ") || !print_repr(run, name) || !text_add_text(run, " of '") ||
      !text_add_text(run, value_type(object)) || !text_add_text(run, "' object is unsafe.") ||
      !text_add(run, "", 1) || !text_cut(run, mark, &hint))
    return false;
  return run_undefined(run, hint.as.string->bytes, object, name, out);
}

/* What all objects of Python have, and the sandbox keeps to itself. */
static bool is_inner_name(const ValueString *name) {
  static const char *const names[] = {
      "__class__",   "__init__",         "__dict__",         "__doc__",    "__eq__",           "__ne__",
      "__hash__",    "__str__",          "__repr__",         "__len__",    "__iter__",         "__new__",
      "__format__",  "__dir__",          "__sizeof__",       "__reduce__", "__getattribute__", "__setattr__",
      "__delattr__", "__subclasshook__", "__init_subclass__"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (string_equals(name, names[i])) return true;
  return false;
}

static bool is_macro_field(const ValueString *name) {
  static const char *const names[] = {"name", "arguments", "catch_kwargs", "catch_varargs", "caller"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (string_equals(name, names[i])) return true;
  return false;
}

/* What Python's getattr finds: a method, or a field of an object of the language. */
static bool find_attribute(Run *run, Value object, Value name, Value *out, bool *found) {
  const ValueString *text = name.as.string;
  *found = true;
  if (object.kind == VALUE_UNDEFINED) return run_fail_undefined(run, object);
  if (value_is_object(object, OBJECT_NAMESPACE)) {
    const Value *field = dict_get(&object.as.object->as.fields, name);
    *found = field != NULL;
    if (field) *out = *field;
    return true;
  }
  if (value_is_object(object, OBJECT_LOOP)) {
    if (!loop_attribute(run, &object.as.object->as.loop, text, out, found)) return false;
    if (*found) return true;
  }
  if (value_is_object(object, OBJECT_MACRO) && is_macro_field(text))
    return run_fail(run, "'%.*s' of a macro is not supported", (int)text->size, text->bytes);
  if (value_is_object(object, OBJECT_CYCLER) && string_equals(text, "current")) {
    *out = object.as.object->as.turn.items.as.list->items[object.as.object->as.turn.at];
    return true;
  }
  if (object.kind == VALUE_LIST && object.as.list->type == LIST_GROUP) {
    bool grouper = string_equals(text, "grouper");
    if (grouper || string_equals(text, "list")) {
      *out = object.as.list->items[grouper ? 0 : 1];
      return true;
    }
  }
  bool mutates = false;
  const Builtin *method = method_find(object, text->bytes, text->size, &mutates);
  if (mutates || (!method && is_inner_name(text))) return unsafe(run, object, name, out);
  *found = method != NULL;
  return !method || bound_method(run, method, object, out);
}

static bool find_item(Run *run, Value object, Value index, Value *out, bool *found);

bool value_attribute(Run *run, Value object, Value name, Value *out) {
  bool found;
  if (!find_attribute(run, object, name, out, &found)) return false;
  if (found) return true;
  if (!find_item(run, object, name, out, &found)) return false;
  return found || run_undefined(run, NULL, object, name, out);
}

bool value_own_attribute(Run *run, Value object, Value name, Value *out) {
  bool found;
  if (!find_attribute(run, object, name, out, &found)) return false;
  return found || run_undefined(run, NULL, object, name, out);
}

/* ---- items ---- */

/* A Python index into `count` items; false if there is none. */
static bool find_index(Value index, size_t count, size_t *out) {
  int64_t at = value_integral(index);
  if (at < 0) at += (int64_t)count;
  if (at < 0 || (uint64_t)at >= count) return false;
  *out = (size_t)at;
  return true;
}

static bool find_item(Run *run, Value object, Value index, Value *out, bool *found) {
  size_t at;
  *found = false;
  if (object.kind == VALUE_UNDEFINED) return run_fail_undefined(run, object);
  if (object.kind == VALUE_DICT) {
    const Value *value = value_is_hashable(index) ? dict_get(object.as.dict, index) : NULL;
    *found = value != NULL;
    if (value) *out = *value;
    return true;
  }
  if (!value_is_integral(index)) return true;
  if (object.kind == VALUE_LIST) {
    *found = find_index(index, object.as.list->count, &at);
    if (*found) *out = object.as.list->items[at];
  } else if (object.kind == VALUE_STRING) {
    const ValueString *string = object.as.string;
    if (!run_charge(run, string->size)) return false;
    *found = find_index(index, string_length(string), &at);
    if (!*found) return true;
    size_t begin = string_offset(string, at);
    size_t end = begin + unicode_width(string->bytes + begin, string->size - begin);
    return string_slice(run->heap, string, begin, end, out, run->error);
  } else if (value_is_object(object, OBJECT_RANGE)) {
    *found = find_index(index, object.as.object->as.range.count, &at);
    if (*found) *out = range_item(object.as.object, at);
  }
  return true;
}

bool value_item(Run *run, Value object, Value index, Value *out) {
  bool found;
  if (!find_item(run, object, index, out, &found)) return false;
  if (found) return true;
  if (value_is_string(index)) {
    if (!find_attribute(run, object, index, out, &found)) return false;
    if (found) return true;
  }
  return run_undefined(run, NULL, object, index, out);
}

/* ---- slices ---- */

static bool slice_part(Run *run, Value part, int64_t *out, bool *given) {
  *given = part.kind != VALUE_NONE;
  if (!*given) return true;
  if (!value_is_integral(part))
    return run_fail(run, "slice indices must be integers or None or have an __index__ method");
  *out = value_integral(part);
  return true;
}

static int64_t clamp(int64_t at, int64_t count, int64_t low, int64_t high) {
  if (at < 0) at += count;
  return at < low ? low : at > high ? high : at;
}

typedef struct Slice {
  int64_t start, step;
  size_t count; /* of items that are in it */
} Slice;

/* As Python's slice.indices(). */
static bool resolve_slice(Run *run, Value start, Value stop, Value step, size_t length, Slice *out) {
  int64_t count = (int64_t)length, from = 0, to = 0, by = 1;
  bool has_start, has_stop, has_step;
  if (!slice_part(run, step, &by, &has_step) || !slice_part(run, start, &from, &has_start) ||
      !slice_part(run, stop, &to, &has_stop))
    return false;
  if (by == 0) return run_fail(run, "slice step cannot be zero");
  int64_t low = by > 0 ? 0 : -1, high = by > 0 ? count : count - 1;
  from = has_start ? clamp(from, count, low, high) : by > 0 ? 0 : count - 1;
  to = has_stop ? clamp(to, count, low, high) : by > 0 ? count : -1;
  if (by == INT64_MIN) by++;
  int64_t span = by > 0 ? to - from : from - to, pace = by > 0 ? by : -by;
  *out = (Slice){.start = from, .step = by, .count = span > 0 ? (size_t)((span - 1) / pace + 1) : 0};
  return true;
}

static bool slice_string(Run *run, const ValueString *string, Slice slice, Value *out) {
  if (!run_charge(run, string->size)) return false;
  if (slice.count == 0) return string_literal(run->heap, "", out, run->error);
  bool narrow = string_length(string) == string->size;
  if (slice.step == 1) {
    size_t begin = string_offset(string, (size_t)slice.start);
    size_t end = narrow ? begin + slice.count : begin;
    for (size_t i = 0; !narrow && i < slice.count; i++)
      end += unicode_width(string->bytes + end, string->size - end);
    return string_slice(run->heap, string, begin, end, out, run->error);
  }
  size_t mark = text_mark(run), at = string_offset(string, (size_t)slice.start);
  for (size_t i = 0; i < slice.count; i++) {
    size_t end = at + unicode_width(string->bytes + at, string->size - at), width;
    if (!run_step(run) || !text_add_slice(run, string, at, end)) return false;
    if (i + 1 == slice.count) break;
    for (int64_t step = slice.step; step > 0; step--)
      at += unicode_width(string->bytes + at, string->size - at);
    for (int64_t step = slice.step; step < 0; step++) {
      (void)unicode_read_back(string->bytes, at, &width);
      at -= width;
    }
  }
  return text_cut(run, mark, out);
}

static bool slice_list(Run *run, const ValueList *list, Slice slice, Value *out) {
  ListType type = list->type == LIST_PLAIN ? LIST_PLAIN : LIST_TUPLE;
  if (!run_charge(run, slice.count * sizeof(Value)) ||
      !list_new(run->heap, type, slice.count, out, run->error))
    return false;
  ValueList *result = out->as.list;
  for (size_t i = 0; i < slice.count; i++)
    result->items[result->count++] = list->items[slice.start + (int64_t)i * slice.step];
  return true;
}

static bool slice_range(Run *run, const ValueObject *range, Slice slice, Value *out) {
  ValueObject *object;
  if (!object_new(run, OBJECT_RANGE, &object, out)) return false;
  int64_t start = range->as.range.start + slice.start * range->as.range.step;
  int64_t step = range->as.range.step * slice.step;
  object->as.range.start = start;
  object->as.range.step = step;
  object->as.range.count = slice.count;
  object->as.range.stop = start + (int64_t)slice.count * step;
  return true;
}

bool value_slice(Run *run, Value object, Value start, Value stop, Value step, Value *out) {
  Slice slice = {0};
  if (object.kind == VALUE_UNDEFINED) return run_fail_undefined(run, object);
  if (object.kind == VALUE_DICT) return run_fail(run, "unhashable type: 'slice'");
  bool range = value_is_object(object, OBJECT_RANGE);
  size_t length;
  if (object.kind != VALUE_STRING && object.kind != VALUE_LIST && !range)
    return run_fail(run, "'%s' object is not subscriptable", value_type(object));
  if (!value_has_length(object, &length) || !resolve_slice(run, start, stop, step, length, &slice))
    return false;
  if (object.kind == VALUE_STRING) {
    bool markup = object.as.string->markup;
    if (!slice_string(run, object.as.string, slice, out)) return false;
    if (markup && !out->as.string->markup) ((ValueString *)out->as.string)->markup = true;
    return true;
  }
  return range ? slice_range(run, object.as.object, slice, out) : slice_list(run, object.as.list, slice, out);
}
