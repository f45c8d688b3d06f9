/* Calls: of macros, functions and methods. */
#include "template/builtin.h"
#include "template/object.h"
#include "template/text.h"

#include <string.h>

Frame *frame_new(Run *run, const Function *function, Frame *outer) {
  size_t bytes = sizeof(Frame) + (size_t)function->slot_count * sizeof(Value);
  Frame *frame = run_alloc(run, bytes);
  if (!frame) return NULL;
  memset(frame, 0, bytes);
  frame->outer = outer;
  return frame;
}

bool run_enter_call(Run *run) {
  if (++run->calls <= run->limits.depth) return true;
  return run_fail(run, "macros call each other too deeply: more than %d calls within each other",
                  run->limits.depth);
}

/* ---- macros ---- */

static const Value *find_keyword(const CallArguments *arguments, Value name) {
  for (size_t i = 0; i < arguments->keyword_count; i++)
    if (strings_equal(arguments->keywords[i].name.as.string, name.as.string))
      return &arguments->keywords[i].value;
  return NULL;
}

static Value name_of(const Node *parameter) {
  return parameter->as.name.undefined.as.undefined->name;
}

static bool is_parameter(const Function *function, Value name, size_t from) {
  size_t i = 0;
  for (const Node *parameter = function->parameters; parameter; parameter = parameter->next, i++)
    if (i >= from && strings_equal(name_of(parameter).as.string, name.as.string)) return true;
  return false;
}

static bool fail_macro(Run *run, const Function *function, const char *what, Value name) {
  const ValueString *macro = function->name.kind == VALUE_STRING ? function->name.as.string : NULL;
  const ValueString *argument = name.kind == VALUE_STRING ? name.as.string : NULL;
  return run_fail(run, "macro %s%.*s%s %s%s%.*s%s", macro ? "'" : "", macro ? (int)macro->size : 4,
                  macro ? macro->bytes : "None", macro ? "'" : "", what, argument ? "'" : "",
                  argument ? (int)argument->size : 0, argument ? argument->bytes : "", argument ? "'" : "");
}

/* Keywords that are no parameters: for `kwargs`, or an error. `caller` is taken by the macro's own. */
static bool bind_keywords(Run *run, const Function *function, const CallArguments *arguments, Frame *frame) {
  Value kwargs = value_missing();
  if (function->kwargs_slot >= 0) {
    if (!value_dict(run->heap, &kwargs, run->error)) return false;
    frame->slots[function->kwargs_slot] = kwargs;
  }
  for (size_t i = 0; i < arguments->keyword_count; i++) {
    Value name = arguments->keywords[i].name;
    if (is_parameter(function, name, arguments->count)) continue;
    bool caller = string_equals(name.as.string, "caller");
    if (caller && function->caller_slot >= 0) continue;
    if (function->kwargs_slot < 0 && caller)
      return fail_macro(
          run, function,
          "was invoked with two values for the special caller argument. This is most likely a bug.",
          value_none());
    if (function->kwargs_slot < 0) return fail_macro(run, function, "takes no keyword argument ", name);
    if (!dict_set(run->heap, kwargs.as.dict, name, arguments->keywords[i].value, run->error)) return false;
  }
  return true;
}

static bool bind_special(Run *run, const Function *function, const CallArguments *arguments, Frame *frame) {
  if (function->caller_slot >= 0) {
    Value name;
    if (!string_literal(run->heap, "caller", &name, run->error)) return false;
    const Value *caller = find_keyword(arguments, name);
    Value *slot = &frame->slots[function->caller_slot];
    if (caller && caller->kind != VALUE_NONE)
      *slot = *caller;
    else if (!run_undefined(run, "No caller defined", value_missing(), name, slot))
      return false;
  }
  if (function->varargs_slot >= 0) {
    Value rest;
    if (!list_new(run->heap, LIST_TUPLE, 0, &rest, run->error)) return false;
    for (size_t i = function->parameter_count; i < arguments->count; i++)
      if (!value_list_push(run->heap, rest, arguments->positional[i], run->error)) return false;
    frame->slots[function->varargs_slot] = rest;
  } else if (arguments->count > function->parameter_count) {
    if (function->name.kind != VALUE_STRING)
      return run_fail(run, "macro None takes not more than %zu argument(s)", function->parameter_count);
    return run_fail(run, "macro '%.*s' takes not more than %zu argument(s)",
                    (int)function->name.as.string->size, function->name.as.string->bytes,
                    function->parameter_count);
  }
  return true;
}

static const char *not_provided(Run *run, Value name) {
  size_t mark = text_mark(run);
  Value text;
  if (!text_add_text(run, "parameter ") || !print_repr(run, name) ||
      !text_add_text(run, " was not provided") || !text_add(run, "", 1) || !text_cut(run, mark, &text))
    return NULL;
  return text.as.string->bytes;
}

/* Parameters in their order, each with its default where nothing was given; in the macro's own frame. */
static bool bind_parameters(Run *run, const Function *function, const CallArguments *arguments,
                            Frame *frame) {
  size_t index = 0;
  for (const Node *parameter = function->parameters; parameter; parameter = parameter->next, index++) {
    Value *slot = &frame->slots[parameter->as.name.place.slot];
    const Value *given = index < arguments->count ? &arguments->positional[index]
                                                  : find_keyword(arguments, name_of(parameter));
    if (given) *slot = *given;
  }
  for (const Node *parameter = function->parameters; parameter; parameter = parameter->next) {
    Value *slot = &frame->slots[parameter->as.name.place.slot];
    if (!value_is_missing(*slot)) continue;
    if (parameter->as.name.fallback) {
      if (!evaluate(run, parameter->as.name.fallback, slot)) return false;
      continue;
    }
    const char *hint = not_provided(run, name_of(parameter));
    if (!hint || !run_undefined(run, hint, value_missing(), name_of(parameter), slot)) return false;
  }
  return true;
}

bool function_call(Run *run, const Function *function, Frame *outer, const CallArguments *arguments,
                   Value *out) {
  Frame *caller = run->frame, *frame = frame_new(run, function, outer);
  if (!frame || !run_enter_call(run) || !bind_keywords(run, function, arguments, frame) ||
      !bind_special(run, function, arguments, frame))
    return false;
  run->frame = frame;
  frame_load(run, &function->loads);
  size_t mark = text_mark(run);
  bool done = bind_parameters(run, function, arguments, frame) &&
              execute(run, function->body) != FLOW_FAILED && text_cut(run, mark, out);
  run->frame = caller;
  run->calls--;
  return done;
}

/* ---- all that can be called ---- */

static bool call_joiner(Run *run, ValueObject *joiner, Value *out) {
  bool first = joiner->as.turn.at == 0;
  joiner->as.turn.at = 1;
  *out = joiner->as.turn.items;
  return !first || string_literal(run->heap, "", out, run->error);
}

static bool call_loop(Run *run, const Loop *loop, const CallArguments *arguments, Value *out) {
  if (!loop->recursive)
    return run_fail(run, "The loop must have the 'recursive' marker to be called recursively.");
  if (arguments->count != 1 || arguments->keyword_count)
    return run_fail(run, "LoopContext.__call__() takes 1 argument");
  return loop_recurse(run, loop->recursive, loop->outer, arguments->positional[0], loop->depth + 1, out);
}

bool value_call(Run *run, Value callee, const CallArguments *arguments, Value *out) {
  if (callee.kind == VALUE_UNDEFINED) return run_fail_undefined(run, callee);
  ValueObject *object = callee.kind == VALUE_OBJECT ? callee.as.object : NULL;
  if (object) switch (object->kind) {
      case OBJECT_MACRO:
        return function_call(run, object->as.macro.function, object->as.macro.outer, arguments, out);
      case OBJECT_FUNCTION:
      case OBJECT_METHOD:
        return builtin_call(run, object->as.call.builtin, object->as.call.self, arguments, out);
      case OBJECT_JOINER:
        return call_joiner(run, object, out);
      case OBJECT_LOOP:
        return call_loop(run, &object->as.loop, arguments, out);
      default:
        break;
    }
  return run_fail(run, "'%s' object is not callable", value_type(callee));
}
