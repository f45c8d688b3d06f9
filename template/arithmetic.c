/* + - * / // % ** on numbers, strings and lists. Whole numbers have 64 bits; beyond them is an error. */
#include "template/format.h"
#include "template/markup.h"
#include "template/object.h"
#include "template/text.h"

#include <math.h>
#include <string.h>

static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

static bool overflow(Run *run) {
  return run_fail(run, "a whole number gets too large: more than 64 bits");
}

/* ---- numbers ---- */

static int64_t floor_quotient(int64_t left, int64_t right) {
  int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

static bool int_power(Run *run, int64_t base, int64_t exponent, Value *out) {
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) return overflow(run);
    exponent >>= 1;
    if (exponent && __builtin_mul_overflow(base, base, &base)) return overflow(run);
  }
  *out = value_int(result);
  return true;
}

static bool operate_ints(Run *run, Operator op, int64_t left, int64_t right, Value *out) {
  int64_t result = 0;
  bool fits = true;
  switch (op) {
    case OP_ADD:
      fits = !__builtin_add_overflow(left, right, &result);
      break;
    case OP_SUB:
      fits = !__builtin_sub_overflow(left, right, &result);
      break;
    case OP_MUL:
      fits = !__builtin_mul_overflow(left, right, &result);
      break;
    case OP_DIV:
      if (right == 0) return run_fail(run, "division by zero");
      *out = value_float((double)left / (double)right);
      return true;
    case OP_FLOORDIV:
    case OP_MOD:
      if (right == 0)
        return run_fail(run, op == OP_MOD ? "integer modulo by zero" : "integer division or modulo by zero");
      fits = right != -1 || left != INT64_MIN;
      if (!fits) break;
      result = floor_quotient(left, right);
      if (op == OP_MOD) result = left - result * right;
      break;
    default: /* OP_POW */
      if (right >= 0) return int_power(run, left, right, out);
      if (left == 0) return run_fail(run, "0.0 cannot be raised to a negative power");
      *out = value_float(pow((double)left, (double)right));
      return true;
  }
  *out = value_int(result);
  return fits || overflow(run);
}

static bool power(Run *run, double left, double right, Value *out) {
  if (left == 0 && right < 0) return run_fail(run, "0.0 cannot be raised to a negative power");
  if (left < 0 && right != floor(right)) return run_fail(run, "complex numbers are not supported");
  double result = pow(left, right);
  if (isinf(result) && !isinf(left) && !isinf(right))
    return run_fail(run, "(34, 'Numerical result out of range')");
  *out = value_float(result);
  return true;
}

static bool operate_reals(Run *run, Operator op, double left, double right, Value *out) {
  double rest;
  switch (op) {
    case OP_ADD:
      *out = value_float(left + right);
      return true;
    case OP_SUB:
      *out = value_float(left - right);
      return true;
    case OP_MUL:
      *out = value_float(left * right);
      return true;
    case OP_POW:
      return power(run, left, right, out);
    default:
      break;
  }
  if (right == 0)
    return run_fail(run, "%s",
                    op == OP_DIV   ? "float division by zero"
                    : op == OP_MOD ? "float modulo"
                                   : "float floor division by zero");
  if (op == OP_DIV) {
    *out = value_float(left / right);
    return true;
  }
  rest = fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0 && (rest < 0) != (right < 0)) {
    rest += right;
    quotient -= 1;
  } else if (rest == 0) {
    rest = copysign(0, right);
  }
  if (op == OP_MOD) {
    *out = value_float(rest);
    return true;
  }
  double whole = floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  *out = value_float(quotient == 0 ? copysign(0, left / right) : whole);
  return true;
}

/* ---- strings and lists ---- */

static bool repeat_string(Run *run, const ValueString *string, int64_t times, Value *out) {
  size_t mark = text_mark(run);
  if (times > 0 && string->size > 0) {
    if ((size_t)times > run->limits.output / string->size)
      return run_fail(run, "the text gets too long: more than %zu bytes", run->limits.output);
    for (int64_t i = 0; i < times; i++)
      if (!run_step(run) || !text_add_string(run, string)) return false;
  }
  if (!text_cut(run, mark, out)) return false;
  ((ValueString *)out->as.string)->markup = string->markup; /* just made */
  return true;
}

static bool repeat_list(Run *run, const ValueList *list, int64_t times, Value *out) {
  size_t count = 0;
  if (times > 0 && __builtin_mul_overflow(list->count, (size_t)times, &count)) count = SIZE_MAX;
  if (!run_charge(run, count > SIZE_MAX / 16 ? SIZE_MAX / 16 : count * 16)) return false;
  if (!list_new(run->heap, list->type == LIST_PLAIN ? LIST_PLAIN : LIST_TUPLE, count, out, run->error))
    return false;
  ValueList *result = out->as.list;
  for (; result->count < count; result->count += list->count)
    memcpy(result->items + result->count, list->items, list->count * sizeof(Value));
  return true;
}

static bool add_lists(Run *run, const ValueList *left, const ValueList *right, Value *out) {
  size_t count = left->count + right->count;
  if (!run_charge(run, count * sizeof(Value)) ||
      !list_new(run->heap, left->type == LIST_PLAIN ? LIST_PLAIN : LIST_TUPLE, count, out, run->error))
    return false;
  if (left->count) memcpy(out->as.list->items, left->items, left->count * sizeof(Value));
  if (right->count) memcpy(out->as.list->items + left->count, right->items, right->count * sizeof(Value));
  out->as.list->count = count;
  return true;
}

/* Two strings; a part that is not markup is escaped when the other is. */
static bool add_strings(Run *run, Value left, Value right, Value *out) {
  if (left.as.string->markup != right.as.string->markup) {
    if (!markup_escape(run, left, &left) || !markup_escape(run, right, &right)) return false;
  }
  return run_charge(run, right.as.string->size) &&
         string_add(run->heap, left.as.string, right.as.string, out, run->error);
}

static bool fail_add(Run *run, Value left, Value right) {
  if (left.kind == VALUE_STRING)
    return run_fail(run, "can only concatenate str (not \"%s\") to str", value_type(right));
  if (left.kind == VALUE_LIST && left.as.list->type == LIST_PLAIN)
    return run_fail(run, "can only concatenate list (not \"%s\") to list", value_type(right));
  if (left.kind == VALUE_LIST)
    return run_fail(run, "can only concatenate tuple (not \"%s\") to tuple", value_type(right));
  return run_fail(run, "unsupported operand type(s) for +: '%s' and '%s'", value_type(left),
                  value_type(right));
}

static bool operate_others(Run *run, Operator op, Value left, Value right, Value *out) {
  if (op == OP_ADD) {
    if (left.kind == VALUE_STRING && right.kind == VALUE_STRING) return add_strings(run, left, right, out);
    if (left.kind == VALUE_LIST && right.kind == VALUE_LIST && value_is_tuple(left) == value_is_tuple(right))
      return add_lists(run, left.as.list, right.as.list, out);
    return fail_add(run, left, right);
  }
  if (op == OP_MUL) {
    if (value_is_integral(left)) {
      Value swap = left;
      left = right;
      right = swap;
    }
    if (value_is_integral(right) && left.kind == VALUE_STRING)
      return repeat_string(run, left.as.string, value_integral(right), out);
    if (value_is_integral(right) && left.kind == VALUE_LIST)
      return repeat_list(run, left.as.list, value_integral(right), out);
    bool sequence = left.kind == VALUE_STRING || left.kind == VALUE_LIST;
    if (sequence || right.kind == VALUE_STRING || right.kind == VALUE_LIST)
      return run_fail(run, "can't multiply sequence by non-int of type '%s'",
                      value_type(sequence ? right : left));
  }
  if (op == OP_MOD && left.kind == VALUE_STRING) return format_percent(run, left.as.string, right, out);
  return run_fail(run, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op], value_type(left),
                  value_type(right));
}

bool values_operate(Run *run, Operator op, Value left, Value right, Value *out) {
  if (left.kind == VALUE_INT && right.kind == VALUE_INT)
    return operate_ints(run, op, left.as.integer, right.as.integer, out);
  if (left.kind == VALUE_UNDEFINED) return run_fail_undefined(run, left);
  if (right.kind == VALUE_UNDEFINED && !(op == OP_MOD && left.kind == VALUE_STRING))
    return run_fail_undefined(run, right);
  if (value_is_number(left) && value_is_number(right)) {
    if (left.kind == VALUE_FLOAT || right.kind == VALUE_FLOAT)
      return operate_reals(run, op, value_real(left), value_real(right), out);
    return operate_ints(run, op, value_integral(left), value_integral(right), out);
  }
  return operate_others(run, op, left, right, out);
}

bool value_negate(Run *run, Value value, Value *out) {
  if (value.kind == VALUE_UNDEFINED) return run_fail_undefined(run, value);
  if (!value_is_number(value)) return run_fail(run, "bad operand type for unary -: '%s'", value_type(value));
  if (value.kind == VALUE_FLOAT)
    *out = value_float(-value.as.real);
  else if (value_integral(value) == INT64_MIN)
    return overflow(run);
  else
    *out = value_int(-value_integral(value));
  return true;
}

bool value_plus(Run *run, Value value, Value *out) {
  if (value.kind == VALUE_UNDEFINED) return run_fail_undefined(run, value);
  if (!value_is_number(value)) return run_fail(run, "bad operand type for unary +: '%s'", value_type(value));
  *out = value.kind == VALUE_FLOAT ? value : value_int(value_integral(value));
  return true;
}
