/* Truth, equality, order and membership, as Python has them. */
#include "template/object.h"

#include <math.h>
#include <string.h>

bool value_is_true(Value value) {
  size_t length;
  switch (value.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
      return false;
    case VALUE_BOOL:
      return value.as.boolean;
    case VALUE_INT:
      return value.as.integer != 0;
    case VALUE_FLOAT:
      return value.as.real != 0;
    case VALUE_STRING:
      return value.as.string->size > 0;
    case VALUE_LIST:
      return value.as.list->count > 0;
    case VALUE_DICT:
      return value.as.dict->count > 0;
    case VALUE_OBJECT:
      return value.as.object->kind == OBJECT_LOOP || !value_has_length(value, &length) || length > 0;
  }
  return false;
}

/* ---- numbers ---- */

/* -1, 0, 1; 2 when one of them is no number (NaN). Exact also where a double cannot hold the whole number. */
static int compare_int_real(int64_t whole, double real) {
  if (isnan(real)) return 2;
  if (real >= 9223372036854775808.0) return -1;
  if (real < -9223372036854775808.0) return 1;
  int64_t floor_of = (int64_t)floor(real);
  if (whole != floor_of) return whole < floor_of ? -1 : 1;
  return real > (double)floor_of ? -1 : 0;
}

static int compare_numbers(Value left, Value right) {
  bool real_left = left.kind == VALUE_FLOAT, real_right = right.kind == VALUE_FLOAT;
  if (!real_left && !real_right) {
    int64_t a = value_integral(left), b = value_integral(right);
    return (a > b) - (a < b);
  }
  if (real_left && real_right) {
    double a = left.as.real, b = right.as.real;
    return isnan(a) || isnan(b) ? 2 : (a > b) - (a < b);
  }
  if (real_right) return compare_int_real(value_integral(left), right.as.real);
  int order = compare_int_real(value_integral(right), left.as.real);
  return order == 2 ? 2 : -order;
}

/* ---- equality ---- */

static bool equal_lists(Run *run, const ValueList *left, const ValueList *right, bool *out) {
  *out = left->count == right->count && (left->type == LIST_PLAIN) == (right->type == LIST_PLAIN);
  for (size_t i = 0; *out && i < left->count; i++)
    if (!values_equal(run, left->items[i], right->items[i], out)) return false;
  return true;
}

static bool equal_dicts(Run *run, const ValueDict *left, const ValueDict *right, bool *out) {
  *out = left->count == right->count;
  for (size_t i = 0; *out && i < left->count; i++) {
    const Value *other = dict_get(right, left->entries[i].key);
    *out = other != NULL;
    if (other && !values_equal(run, left->entries[i].value, *other, out)) return false;
  }
  return true;
}

static bool equal_objects(Run *run, const ValueObject *left, const ValueObject *right, bool *out) {
  *out = left == right;
  if (left->kind != right->kind || *out) return true;
  if (left->kind == OBJECT_FUNCTION) *out = left->as.call.builtin == right->as.call.builtin;
  if (left->kind == OBJECT_RANGE) {
    size_t count = left->as.range.count;
    *out = count == right->as.range.count &&
           (count == 0 || (left->as.range.start == right->as.range.start &&
                           (count == 1 || left->as.range.step == right->as.range.step)));
  }
  if (left->kind != OBJECT_VIEW || left->as.view.type == VIEW_VALUES ||
      left->as.view.type != right->as.view.type)
    return true;
  if (left->as.view.type == VIEW_ITEMS) return equal_dicts(run, left->as.view.dict, right->as.view.dict, out);
  *out = left->as.view.dict->count == right->as.view.dict->count;
  for (size_t i = 0; *out && i < left->as.view.dict->count; i++)
    *out = dict_get(right->as.view.dict, left->as.view.dict->entries[i].key) != NULL;
  return true;
}

static bool equal_within(Run *run, Value left, Value right, bool *out) {
  if (left.kind == VALUE_LIST) return equal_lists(run, left.as.list, right.as.list, out);
  if (left.kind == VALUE_DICT) return equal_dicts(run, left.as.dict, right.as.dict, out);
  return equal_objects(run, left.as.object, right.as.object, out);
}

bool values_equal(Run *run, Value left, Value right, bool *out) {
  if (!run_step(run)) return false;
  if (value_is_number(left) && value_is_number(right)) {
    *out = compare_numbers(left, right) == 0;
    return true;
  }
  *out = false;
  if (left.kind != right.kind) return true;
  if (left.kind == VALUE_STRING) {
    *out = strings_equal(left.as.string, right.as.string);
    return run_charge(run, left.as.string->size);
  }
  *out = true;
  if (left.kind == VALUE_NONE || left.kind == VALUE_UNDEFINED) return true;
  if (!run_deepen(run)) return false;
  bool done = equal_within(run, left, right, out);
  run->depth--;
  return done;
}

/* ---- order ---- */

static const char *operator_text(Operator op) {
  return op == OP_LT ? "<" : op == OP_LTEQ ? "<=" : op == OP_GT ? ">" : ">=";
}

static bool order_by(Operator op, int order) {
  if (order == 2) return false;
  return op == OP_LT ? order < 0 : op == OP_LTEQ ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
}

/* By the first items that differ. */
static bool order_lists(Run *run, Operator op, const ValueList *left, const ValueList *right, bool *out) {
  size_t common = left->count < right->count ? left->count : right->count;
  for (size_t i = 0; i < common; i++) {
    bool equal;
    if (!values_equal(run, left->items[i], right->items[i], &equal)) return false;
    if (!equal) return values_order(run, op, left->items[i], right->items[i], out);
  }
  *out = order_by(op, (left->count > right->count) - (left->count < right->count));
  return true;
}

bool values_order(Run *run, Operator op, Value left, Value right, bool *out) {
  if (!run_step(run)) return false;
  if (left.kind == VALUE_UNDEFINED) return run_fail_undefined(run, left);
  if (right.kind == VALUE_UNDEFINED) return run_fail_undefined(run, right);
  if (value_is_number(left) && value_is_number(right)) {
    *out = order_by(op, compare_numbers(left, right));
    return true;
  }
  if (left.kind == VALUE_STRING && right.kind == VALUE_STRING) {
    *out = order_by(op, strings_compare(left.as.string, right.as.string));
    return run_charge(run, left.as.string->size);
  }
  if (left.kind == VALUE_LIST && right.kind == VALUE_LIST && value_is_tuple(left) == value_is_tuple(right)) {
    if (!run_deepen(run)) return false;
    bool done = order_lists(run, op, left.as.list, right.as.list, out);
    run->depth--;
    return done;
  }
  return run_fail(run, "'%s' not supported between instances of '%s' and '%s'", operator_text(op),
                  value_type(left), value_type(right));
}

/* ---- membership ---- */

bool value_key(Run *run, Value key) {
  if (value_is_hashable(key)) return true;
  const char *type = value_type(key);
  if (value_is_tuple(key)) type = "list"; /* of what is in it */
  return run_fail(run, "unhashable type: '%s'", type);
}

static bool contains_item(Run *run, Value container, Value item, bool *out) {
  Iterator *iterator;
  if (!iterate(run, container, &iterator)) return false;
  for (*out = false; !*out;) {
    Value candidate;
    bool done;
    if (!iterator_next(run, iterator, &candidate, &done)) return false;
    if (done) return true;
    if (!values_equal(run, candidate, item, out)) return false;
  }
  return true;
}

static bool range_contains(const ValueObject *range, Value item) {
  if (!value_is_number(item)) return false;
  double real = value_real(item);
  if (item.kind == VALUE_FLOAT && real != floor(real)) return false;
  int64_t number = item.kind == VALUE_FLOAT ? (int64_t)real : value_integral(item);
  int64_t start = range->as.range.start, step = range->as.range.step, away;
  if (__builtin_sub_overflow(number, start, &away) || away % step != 0) return false;
  return away / step >= 0 && (uint64_t)(away / step) < range->as.range.count;
}

bool value_contains(Run *run, Value container, Value item, bool *out) {
  *out = false;
  switch (container.kind) {
    case VALUE_STRING: {
      if (item.kind == VALUE_UNDEFINED || item.kind != VALUE_STRING)
        return run_fail(run, "'in <string>' requires string as left operand, not %s", value_type(item));
      const ValueString *text = container.as.string, *part = item.as.string;
      *out = part->size == 0 || memmem(text->bytes, text->size, part->bytes, part->size) != NULL;
      return run_charge(run, text->size);
    }
    case VALUE_DICT:
      if (!value_key(run, item)) return false;
      *out = dict_get(container.as.dict, item) != NULL;
      return true;
    case VALUE_OBJECT:
      if (container.as.object->kind == OBJECT_RANGE) {
        *out = range_contains(container.as.object, item);
        return true;
      }
      if (value_is_object(container, OBJECT_VIEW) && container.as.object->as.view.type == VIEW_KEYS) {
        if (!value_key(run, item)) return false;
        *out = dict_get(container.as.object->as.view.dict, item) != NULL;
        return true;
      }
      break;
    default:
      break;
  }
  if (!value_is_iterable(container))
    return run_fail(run, "argument of type '%s' is not iterable", value_type(container));
  return contains_item(run, container, item, out);
}

bool values_compare(Run *run, Operator op, Value left, Value right, bool *out) {
  switch (op) {
    case OP_EQ:
      return values_equal(run, left, right, out);
    case OP_NE:
      if (!values_equal(run, left, right, out)) return false;
      *out = !*out;
      return true;
    case OP_IN:
      return value_contains(run, right, left, out);
    case OP_NOT_IN:
      if (!value_contains(run, right, left, out)) return false;
      *out = !*out;
      return true;
    default:
      return values_order(run, op, left, right, out);
  }
}
