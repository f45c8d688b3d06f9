/* Expressions. */
#include "template/builtin.h"
#include "template/object.h"
#include "template/text.h"

#include <string.h>

/* ---- names and literals ---- */

static bool evaluate_name(Run *run, const Node *node, Value *out) {
  const Frame *frame = run->frame;
  for (int hops = node->as.name.place.hops; hops > 0; hops--) frame = frame->outer;
  *out = frame->slots[node->as.name.place.slot];
  if (value_is_missing(*out)) *out = node->as.name.undefined;
  return true;
}

static bool evaluate_items(Run *run, const Node *node, Value *out) {
  ListType type = node->kind == NODE_LIST ? LIST_PLAIN : LIST_TUPLE;
  if (!list_new(run->heap, type, node->as.items.count, out, run->error)) return false;
  ValueList *list = out->as.list;
  for (const Node *item = node->as.items.first; item; item = item->next)
    if (!evaluate(run, item, &list->items[list->count++])) return false;
  return true;
}

static bool evaluate_dict(Run *run, const Node *node, Value *out) {
  if (!value_dict(run->heap, out, run->error)) return false;
  for (const Node *item = node->as.items.first; item; item = item->next->next) {
    Value key, value;
    if (!evaluate(run, item, &key) || !evaluate(run, item->next, &value) || !value_key(run, key) ||
        !dict_set(run->heap, out->as.dict, key, value, run->error))
      return false;
  }
  return true;
}

/* ---- calls ---- */

/* "*values" behind the arguments that are written out. */
static bool spread(Run *run, Value values, Value **positional, size_t *count) {
  Value list;
  if (!value_to_list(run, values, &list)) return false;
  Value *all = run_alloc(run, (*count + list.as.list->count) * sizeof *all);
  if (!all) return false;
  if (*count) memcpy(all, *positional, *count * sizeof *all);
  if (list.as.list->count) memcpy(all + *count, list.as.list->items, list.as.list->count * sizeof *all);
  *positional = all;
  *count += list.as.list->count;
  return true;
}

static bool spread_keywords(Run *run, Value values, KeywordValue **keywords, size_t *count) {
  if (values.kind != VALUE_DICT)
    return run_fail(run, "argument after ** must be a mapping, not %s", value_type(values));
  const ValueDict *dict = values.as.dict;
  KeywordValue *all = run_alloc(run, (*count + dict->count) * sizeof *all);
  if (!all) return false;
  if (*count) memcpy(all, *keywords, *count * sizeof *all);
  for (size_t i = 0; i < dict->count; i++) {
    Value name = dict->entries[i].key;
    if (!value_is_string(name)) return run_fail(run, "keywords must be strings");
    for (size_t k = 0; k < *count; k++)
      if (strings_equal(all[k].name.as.string, name.as.string))
        return run_fail(run, "got multiple values for keyword argument '%.*s'", (int)name.as.string->size,
                        name.as.string->bytes);
    all[*count + i] = (KeywordValue){.name = name, .value = dict->entries[i].value};
  }
  *keywords = all;
  *count += dict->count;
  return true;
}

/* One more keyword than the template has may be added: `extra`, with a name. */
static bool evaluate_arguments(Run *run, const Arguments *arguments, const KeywordValue *extra,
                               CallArguments *out) {
  *out = (CallArguments){0};
  if (!arguments->count && !arguments->keyword_count && !arguments->spread && !arguments->spread_keywords &&
      !extra)
    return true;
  size_t count = arguments->count, keyword_count = 0;
  Value *positional = run_alloc(run, count * sizeof *positional + 16);
  KeywordValue *keywords = run_alloc(run, (arguments->keyword_count + 1) * sizeof *keywords);
  if (!positional || !keywords) return false;
  size_t i = 0;
  for (const Node *argument = arguments->positional; argument; argument = argument->next)
    if (!evaluate(run, argument, &positional[i++])) return false;
  for (const Keyword *keyword = arguments->keywords; keyword; keyword = keyword->next) {
    keywords[keyword_count].name = keyword->name;
    if (!evaluate(run, keyword->value, &keywords[keyword_count++].value)) return false;
  }
  if (extra) keywords[keyword_count++] = *extra;
  Value values;
  if (arguments->spread &&
      (!evaluate(run, arguments->spread, &values) || !spread(run, values, &positional, &count)))
    return false;
  if (arguments->spread_keywords && (!evaluate(run, arguments->spread_keywords, &values) ||
                                     !spread_keywords(run, values, &keywords, &keyword_count)))
    return false;
  *out = (CallArguments){
      .positional = positional, .count = count, .keywords = keywords, .keyword_count = keyword_count};
  return true;
}

static bool evaluate_call(Run *run, const Node *node, const KeywordValue *extra, Value *out) {
  Value callee;
  CallArguments arguments;
  if (!evaluate(run, node->as.call.callee, &callee) ||
      !evaluate_arguments(run, &node->as.call.arguments, extra, &arguments))
    return false;
  run->line = node->line;
  return value_call(run, callee, &arguments, out);
}

bool evaluate_call_block(Run *run, const Node *call, Value caller, Value *out) {
  KeywordValue extra = {.value = caller};
  return string_literal(run->heap, "caller", &extra.name, run->error) &&
         evaluate_call(run, call, &extra, out);
}

static bool apply(Run *run, const Node *node, Value operand, Value *out) {
  CallArguments arguments;
  if (!evaluate_arguments(run, &node->as.apply.arguments, NULL, &arguments)) return false;
  run->line = node->line;
  return builtin_call(run, node->as.apply.builtin, operand, &arguments, out);
}

static bool evaluate_apply(Run *run, const Node *node, Value *out) {
  Value operand;
  return evaluate(run, node->as.apply.operand, &operand) && apply(run, node, operand, out);
}

bool evaluate_block_filter(Run *run, const Node *filter, Value operand, Value *out) {
  if (filter->as.apply.operand && !evaluate_block_filter(run, filter->as.apply.operand, operand, &operand))
    return false;
  return apply(run, filter, operand, out);
}

/* ---- operators ---- */

static bool evaluate_slice(Run *run, const Node *node, Value *out) {
  Value object, start = value_none(), stop = value_none(), step = value_none();
  if (!evaluate(run, node->as.slice.object, &object) ||
      (node->as.slice.start && !evaluate(run, node->as.slice.start, &start)) ||
      (node->as.slice.stop && !evaluate(run, node->as.slice.stop, &stop)) ||
      (node->as.slice.step && !evaluate(run, node->as.slice.step, &step)))
    return false;
  run->line = node->line;
  return value_slice(run, object, start, stop, step, out);
}

static bool evaluate_compare(Run *run, const Node *node, Value *out) {
  Value left;
  if (!evaluate(run, node->as.compare.first, &left)) return false;
  bool holds = true;
  for (const Comparison *rest = node->as.compare.rest; holds && rest; rest = rest->next) {
    Value right;
    if (!evaluate(run, rest->right, &right)) return false;
    run->line = node->line;
    if (!values_compare(run, rest->op, left, right, &holds)) return false;
    left = right;
  }
  *out = value_bool(holds);
  return true;
}

static bool evaluate_concat(Run *run, const Node *node, Value *out) {
  size_t mark = text_mark(run);
  for (const Node *item = node->as.items.first; item; item = item->next) {
    Value value;
    if (!evaluate(run, item, &value) || !print_value(run, value)) return false;
  }
  return text_cut(run, mark, out);
}

static bool evaluate_condition(Run *run, const Node *node, Value *out) {
  Value test;
  if (!evaluate(run, node->as.condition.test, &test)) return false;
  if (value_is_true(test)) return evaluate(run, node->as.condition.then, out);
  if (node->as.condition.otherwise) return evaluate(run, node->as.condition.otherwise, out);
  return run_undefined(run, node->as.condition.hint, value_missing(), value_none(), out);
}

static bool evaluate_logic(Run *run, const Node *node, Value *out) {
  if (!evaluate(run, node->as.two.left, out)) return false;
  if (value_is_true(*out) == (node->kind == NODE_OR)) return true;
  return evaluate(run, node->as.two.right, out);
}

static bool evaluate_arithmetic(Run *run, const Node *node, Value *out) {
  Value left, right;
  if (!evaluate(run, node->as.two.left, &left) || !evaluate(run, node->as.two.right, &right)) return false;
  run->line = node->line;
  return values_operate(run, node->as.two.op, left, right, out);
}

static bool evaluate_one(Run *run, const Node *node, Value *out) {
  Value value;
  if (!evaluate(run, node->as.one.expression, &value)) return false;
  run->line = node->line;
  if (node->kind == NODE_NEGATE) return value_negate(run, value, out);
  if (node->kind == NODE_PLUS) return value_plus(run, value, out);
  *out = value_bool(!value_is_true(value));
  return true;
}

static bool evaluate_attribute(Run *run, const Node *node, Value *out) {
  Value object;
  if (!evaluate(run, node->as.attribute.object, &object)) return false;
  run->line = node->line;
  return value_attribute(run, object, node->as.attribute.name, out);
}

static bool evaluate_item(Run *run, const Node *node, Value *out) {
  Value object, index;
  if (!evaluate(run, node->as.item.object, &object) || !evaluate(run, node->as.item.index, &index))
    return false;
  run->line = node->line;
  return value_item(run, object, index, out);
}

static bool evaluate_node(Run *run, const Node *node, Value *out) {
  switch (node->kind) {
    case NODE_CONST:
      *out = node->as.value;
      return true;
    case NODE_NAME:
      return evaluate_name(run, node, out);
    case NODE_LIST:
    case NODE_TUPLE:
      return evaluate_items(run, node, out);
    case NODE_DICT:
      return evaluate_dict(run, node, out);
    case NODE_ATTRIBUTE:
      return evaluate_attribute(run, node, out);
    case NODE_ITEM:
      return evaluate_item(run, node, out);
    case NODE_SLICE:
      return evaluate_slice(run, node, out);
    case NODE_CALL:
      return evaluate_call(run, node, NULL, out);
    case NODE_FILTER:
    case NODE_TEST:
      return evaluate_apply(run, node, out);
    case NODE_AND:
    case NODE_OR:
      return evaluate_logic(run, node, out);
    case NODE_ARITHMETIC:
      return evaluate_arithmetic(run, node, out);
    case NODE_COMPARE:
      return evaluate_compare(run, node, out);
    case NODE_CONCAT:
      return evaluate_concat(run, node, out);
    case NODE_CONDITION:
      return evaluate_condition(run, node, out);
    default:
      return evaluate_one(run, node, out);
  }
}

bool evaluate(Run *run, const Node *node, Value *out) {
  if (!run_step(run)) return false;
  run->line = node->line;
  if (node->kind == NODE_CONST || node->kind == NODE_NAME) return evaluate_node(run, node, out);
  if (!run_deepen(run)) return false;
  bool done = evaluate_node(run, node, out);
  run->depth--;
  return done;
}
