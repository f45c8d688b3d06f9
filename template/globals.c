/* Functions that every template has. */
#include "template/builtin.h"
#include "template/clock.h"
#include "template/object.h"
#include "template/text.h"

#include <string.h>

enum { MAX_RANGE = 100000 }; /* of jinja2's sandbox */

/* ---- range ---- */

static bool call_range(Run *run, Value self, const CallArguments *arguments, Value *out) {
  (void)self;
  int64_t parts[3] = {0, 0, 1};
  if (arguments->keyword_count) return run_fail(run, "range() takes no keyword arguments");
  if (arguments->count == 0 || arguments->count > 3)
    return run_fail(run, "range expected at %s %d argument%s, got %zu", arguments->count ? "most" : "least",
                    arguments->count ? 3 : 1, arguments->count ? "s" : "", arguments->count);
  for (size_t i = 0; i < arguments->count; i++) {
    Value value = arguments->positional[i];
    if (!value_is_integral(value))
      return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(value));
    parts[arguments->count == 1 ? 1 : i] = value_integral(value);
  }
  int64_t start = parts[0], stop = parts[1], step = parts[2], span;
  if (step == 0) return run_fail(run, "range() arg 3 must not be zero");
  bool wide =
      step > 0 ? __builtin_sub_overflow(stop, start, &span) : __builtin_sub_overflow(start, stop, &span);
  bool empty = step > 0 ? stop <= start : stop >= start;
  uint64_t pace = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
  uint64_t count = empty ? 0 : wide ? UINT64_MAX : (uint64_t)(span - 1) / pace + 1;
  if (count > MAX_RANGE)
    return run_fail(run, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
  ValueObject *range;
  if (!object_new(run, OBJECT_RANGE, &range, out)) return false;
  range->as.range.start = start;
  range->as.range.stop = stop;
  range->as.range.step = step;
  range->as.range.count = (size_t)count;
  return true;
}

/* ---- dict, namespace ---- */

/* What dict() takes: a dict or pairs, then keywords. */
static bool fill_pair(Run *run, ValueDict *dict, Value pair, size_t index) {
  Value list;
  if (!value_is_iterable(pair))
    return run_fail(run, "cannot convert dictionary update sequence element #%zu to a sequence", index);
  if (!value_to_list(run, pair, &list)) return false;
  if (list.as.list->count != 2)
    return run_fail(run, "dictionary update sequence element #%zu has length %zu; 2 is required", index,
                    list.as.list->count);
  return value_key(run, list.as.list->items[0]) &&
         dict_set(run->heap, dict, list.as.list->items[0], list.as.list->items[1], run->error);
}

static bool fill_dict(Run *run, ValueDict *dict, const CallArguments *arguments) {
  if (arguments->count > 1)
    return run_fail(run, "dict expected at most 1 argument, got %zu", arguments->count);
  Value from = arguments->count ? arguments->positional[0] : value_missing();
  if (from.kind == VALUE_DICT) {
    for (size_t i = 0; i < from.as.dict->count; i++)
      if (!run_step(run) || !dict_set(run->heap, dict, from.as.dict->entries[i].key,
                                      from.as.dict->entries[i].value, run->error))
        return false;
  } else if (from.kind == VALUE_UNDEFINED && arguments->count) {
    return run_fail_undefined(run, from);
  } else if (arguments->count) {
    Iterator *iterator;
    if (!iterate(run, from, &iterator)) return false;
    for (size_t index = 0;; index++) {
      Value pair;
      bool done;
      if (!iterator_next(run, iterator, &pair, &done)) return false;
      if (done) break;
      if (!fill_pair(run, dict, pair, index)) return false;
    }
  }
  for (size_t i = 0; i < arguments->keyword_count; i++)
    if (!dict_set(run->heap, dict, arguments->keywords[i].name, arguments->keywords[i].value, run->error))
      return false;
  return true;
}

static bool call_dict(Run *run, Value self, const CallArguments *arguments, Value *out) {
  (void)self;
  return value_dict(run->heap, out, run->error) && fill_dict(run, out->as.dict, arguments);
}

bool namespace_check(Run *run, Value name) {
  if (!value_is_string(name) || name.as.string->size == 0 || *name.as.string->bytes != '_') return true;
  return run_fail(
      run,
      "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. "
      "Please rename the attribute.",
      (int)name.as.string->size, name.as.string->bytes);
}

static bool call_namespace(Run *run, Value self, const CallArguments *arguments, Value *out) {
  (void)self;
  ValueObject *object;
  if (!object_new(run, OBJECT_NAMESPACE, &object, out) || !fill_dict(run, &object->as.fields, arguments))
    return false;
  for (size_t i = 0; i < object->as.fields.count; i++)
    if (!namespace_check(run, object->as.fields.entries[i].key)) return false;
  return true;
}

/* ---- joiner, cycler ---- */

static bool call_joiner(Run *run, Value self, const Value *arguments, Value *out) {
  (void)self;
  ValueObject *object;
  if (!object_new(run, OBJECT_JOINER, &object, out)) return false;
  object->as.turn.items = arguments[0];
  return !value_is_missing(arguments[0]) ||
         string_literal(run->heap, ", ", &object->as.turn.items, run->error);
}

static bool call_cycler(Run *run, Value self, const CallArguments *arguments, Value *out) {
  (void)self;
  ValueObject *object;
  if (arguments->keyword_count) return run_fail(run, "Cycler() got an unexpected keyword argument");
  if (!arguments->count) return run_fail(run, "at least one item has to be provided");
  if (!object_new(run, OBJECT_CYCLER, &object, out) ||
      !list_new(run->heap, LIST_PLAIN, arguments->count, &object->as.turn.items, run->error))
    return false;
  ValueList *items = object->as.turn.items.as.list;
  for (size_t i = 0; i < arguments->count; i++) items->items[items->count++] = arguments->positional[i];
  return true;
}

/* ---- raise_exception, strftime_now ---- */

static bool call_raise(Run *run, Value self, const Value *arguments, Value *out) {
  (void)self;
  size_t mark = text_mark(run);
  if (!print_value(run, arguments[0])) return false;
  (void)out;
  return error_set(run->error, ERROR_DATA, "the chat template refuses: %.*s", (int)(run->text->size - mark),
                   run->text->data + mark);
}

static bool call_strftime(Run *run, Value self, const Value *arguments, Value *out) {
  (void)self;
  if (!value_is_string(arguments[0]))
    return run_fail(run, "strftime() argument 1 must be str, not %s", value_type(arguments[0]));
  return clock_format(run, arguments[0].as.string, out);
}

static const Builtin functions[] = {
    {"range", "", .variadic = call_range},
    {"dict", "", .variadic = call_dict},
    {"namespace", "", .variadic = call_namespace},
    {"cycler", "", .variadic = call_cycler},
    {"joiner", "?sep", .function = call_joiner},
    {"raise_exception", "message", .function = call_raise},
    {"strftime_now", "format", .function = call_strftime},
    {"lipsum", "", .function = NULL},
};

static const Builtin *find(const ValueString *name) {
  const BuiltinTable table = {functions, sizeof functions / sizeof *functions};
  return builtin_find(table, name->bytes, name->size);
}

bool global_exists(const ValueString *name) {
  return find(name) != NULL;
}

bool global_find(Run *run, Value name, Value *out) {
  const Builtin *builtin = find(name.as.string);
  ValueObject *object;
  if (!builtin) return true;
  if (!object_new(run, OBJECT_FUNCTION, &object, out)) return false;
  object->as.call.builtin = builtin;
  return true;
}
