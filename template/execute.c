/* Statements. */
#include "template/object.h"
#include "template/text.h"

#include <string.h>

void frame_load(Run *run, const Loads *loads) {
  for (size_t i = 0; i < loads->count; i++) {
    const Load *load = &loads->items[i];
    Value value = value_missing();
    if (load->action == LOAD_RESOLVE) {
      value = run->context[load->name];
    } else if (load->action == LOAD_ALIAS) {
      const Frame *frame = run->frame;
      for (int hops = load->outer.hops; hops > 0; hops--) frame = frame->outer;
      value = frame->slots[load->outer.slot];
    }
    run->frame->slots[load->slot] = value;
  }
}

/* ---- assignment ---- */

static bool assign_field(Run *run, const Node *target, Value value) {
  Value object;
  if (!evaluate(run, target->as.field.name, &object)) return false;
  if (!value_is_object(object, OBJECT_NAMESPACE))
    return run_fail(run, "cannot assign attribute on non-namespace object");
  Value name = target->as.field.field;
  return namespace_check(run, name) &&
         dict_set(run->heap, &object.as.object->as.fields, name, value, run->error);
}

static bool assign_tuple(Run *run, const Node *target, Value value) {
  Iterator *iterator;
  if (!value_is_iterable(value))
    return run_fail(run, "cannot unpack non-iterable %s object", value_type(value));
  if (!iterate(run, value, &iterator)) return false;
  size_t got = 0, count = target->as.items.count;
  Value *items = run_alloc(run, count * sizeof *items + 16), item;
  if (!items) return false;
  for (bool done; got <= count; got++) {
    if (!iterator_next(run, iterator, got < count ? &items[got] : &item, &done)) return false;
    if (done) break;
  }
  if (got > count) return run_fail(run, "too many values to unpack (expected %zu)", count);
  if (got < count) return run_fail(run, "not enough values to unpack (expected %zu, got %zu)", count, got);
  const Node *part = target->as.items.first;
  for (size_t i = 0; part; i++, part = part->next)
    if (!assign(run, part, items[i])) return false;
  return true;
}

bool assign(Run *run, const Node *target, Value value) {
  if (target->kind == NODE_NAME) { /* always of the function that runs */
    run->frame->slots[target->as.name.place.slot] = value;
    return true;
  }
  run->line = target->line;
  return target->kind == NODE_FIELD ? assign_field(run, target, value) : assign_tuple(run, target, value);
}

/* That all fields in a target are of namespaces; found before the value is evaluated. */
static bool check_fields(Run *run, const Node *target) {
  if (target->kind == NODE_NAME) return true;
  if (target->kind == NODE_TUPLE) {
    for (const Node *part = target->as.items.first; part; part = part->next)
      if (!check_fields(run, part)) return false;
    return true;
  }
  Value object;
  if (!evaluate(run, target->as.field.name, &object)) return false;
  return value_is_object(object, OBJECT_NAMESPACE) ||
         run_fail(run, "cannot assign attribute on non-namespace object");
}

static bool execute_set(Run *run, const Node *node) {
  Value value;
  return check_fields(run, node->as.set.target) && evaluate(run, node->as.set.value, &value) &&
         assign(run, node->as.set.target, value);
}

/* ---- blocks ---- */

/* What a body writes, as a string; only if it runs to its end. */
static Flow capture(Run *run, const Node *body, Value *out) {
  size_t mark = text_mark(run);
  Flow flow = execute(run, body);
  if (flow == FLOW_ON) return text_cut(run, mark, out) ? FLOW_ON : FLOW_FAILED;
  if (flow != FLOW_FAILED) text_drop(run, mark);
  return flow;
}

static Flow execute_block(Run *run, const Node *node) {
  Value text;
  frame_load(run, &node->as.block.loads);
  Flow flow = capture(run, node->as.block.body, &text);
  if (flow != FLOW_ON) return flow;
  if (node->as.block.filter && !evaluate_block_filter(run, node->as.block.filter, text, &text))
    return FLOW_FAILED;
  bool done =
      node->kind == NODE_SET_BLOCK ? assign(run, node->as.block.target, text) : print_value(run, text);
  return done ? FLOW_ON : FLOW_FAILED;
}

static Flow execute_with(Run *run, const Node *node) {
  const Node *target = node->as.with.targets;
  frame_load(run, &node->as.with.loads);
  for (const Node *value = node->as.with.values; value; value = value->next, target = target->next) {
    Value given;
    if (!evaluate(run, value, &given) || !assign(run, target, given)) return FLOW_FAILED;
  }
  return execute(run, node->as.with.body);
}

static Flow execute_generation(Run *run, const Node *node) {
  size_t mark = text_mark(run);
  frame_load(run, &node->as.with.loads);
  Flow flow = execute(run, node->as.with.body);
  return flow == FLOW_ON && !text_mark_generation(run, mark) ? FLOW_FAILED : flow;
}

static Flow execute_if(Run *run, const Node *node) {
  for (const Branch *branch = node->as.branch.branches; branch; branch = branch->next) {
    Value test;
    if (!evaluate(run, branch->test, &test)) return FLOW_FAILED;
    if (value_is_true(test)) return execute(run, branch->body);
  }
  return execute(run, node->as.branch.otherwise);
}

static bool make_macro(Run *run, const Node *node, Value *out) {
  ValueObject *object;
  if (!object_new(run, OBJECT_MACRO, &object, out)) return false;
  object->as.macro.function = node->as.macro.function;
  object->as.macro.outer = run->frame;
  return true;
}

static bool execute_call_block(Run *run, const Node *node) {
  Value caller, text;
  return make_macro(run, node, &caller) && evaluate_call_block(run, node->as.macro.call, caller, &text) &&
         print_value(run, text);
}

static bool execute_macro(Run *run, const Node *node) {
  Value macro;
  return make_macro(run, node, &macro) && assign(run, node->as.macro.call, macro);
}

static bool execute_print(Run *run, const Node *node) {
  Value value;
  return evaluate(run, node->as.one.expression, &value) && print_value(run, value);
}

static Flow execute_statement(Run *run, const Node *node) {
  bool done = true;
  switch (node->kind) {
    case NODE_TEXT:
      done = text_add_string(run, node->as.value.as.string);
      break;
    case NODE_PRINT:
      done = execute_print(run, node);
      break;
    case NODE_SET:
      done = execute_set(run, node);
      break;
    case NODE_MACRO:
      done = execute_macro(run, node);
      break;
    case NODE_CALL_BLOCK:
      done = execute_call_block(run, node);
      break;
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
      return execute_block(run, node);
    case NODE_IF:
      return execute_if(run, node);
    case NODE_FOR:
      return execute_loop(run, node);
    case NODE_WITH:
      return execute_with(run, node);
    case NODE_GENERATION:
      return execute_generation(run, node);
    case NODE_BREAK:
      return FLOW_BREAK;
    default: /* NODE_CONTINUE */
      return FLOW_CONTINUE;
  }
  return done ? FLOW_ON : FLOW_FAILED;
}

Flow execute(Run *run, const Node *body) {
  if (!body) return FLOW_ON;
  if (!run_deepen(run)) return FLOW_FAILED;
  Flow flow = FLOW_ON;
  for (const Node *node = body; node && flow == FLOW_ON; node = node->next) {
    if (!run_step(run)) return FLOW_FAILED;
    run->line = node->line;
    flow = execute_statement(run, node);
  }
  run->depth--;
  return flow;
}
