/* What stands behind `is`. */
#include "template/builtin.h"
#include "template/letters.h"
#include "template/object.h"
#include "template/text.h"

#include <math.h>

static bool test_defined(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind != VALUE_UNDEFINED);
  return true;
}

static bool test_undefined(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_UNDEFINED);
  return true;
}

static bool test_none(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_NONE);
  return true;
}

static bool test_boolean(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_BOOL);
  return true;
}

static bool test_true(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_BOOL && self.as.boolean);
  return true;
}

static bool test_false(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_BOOL && !self.as.boolean);
  return true;
}

static bool test_integer(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_INT);
  return true;
}

static bool test_float(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_FLOAT);
  return true;
}

static bool test_number(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(value_is_number(self));
  return true;
}

static bool test_string(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(value_is_string(self));
  return true;
}

static bool test_mapping(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(self.kind == VALUE_DICT);
  return true;
}

/* What has a length and items by number or key: views and sets of methods do not. */
static bool test_sequence(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  size_t length;
  if (self.kind == VALUE_OBJECT)
    *out = value_bool(self.as.object->kind == OBJECT_RANGE);
  else
    *out = value_bool(value_has_length(self, &length)); /* of what is undefined, too */
  return true;
}

static bool test_iterable(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(value_is_iterable(self) || value_is_object(self, OBJECT_LOOP));
  return true;
}

static bool test_callable(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  bool callable = self.kind == VALUE_UNDEFINED;
  if (self.kind == VALUE_OBJECT) {
    ObjectKind kind = self.as.object->kind;
    callable = kind == OBJECT_MACRO || kind == OBJECT_FUNCTION || kind == OBJECT_METHOD ||
               kind == OBJECT_JOINER || kind == OBJECT_LOOP;
  }
  *out = value_bool(callable);
  return true;
}

static bool test_escaped(Run *run, Value self, const Value *arguments, Value *out) {
  (void)run;
  (void)arguments;
  *out = value_bool(value_is_string(self) && self.as.string->markup);
  return true;
}

/* The same object; numbers and strings are the same when they are equal and of one type. */
static bool test_sameas(Run *run, Value self, const Value *arguments, Value *out) {
  Value other = arguments[0];
  bool same = self.kind == other.kind;
  if (same) switch (self.kind) {
      case VALUE_LIST:
        same = self.as.list == other.as.list;
        break;
      case VALUE_DICT:
        same = self.as.dict == other.as.dict;
        break;
      case VALUE_OBJECT:
        same = self.as.object == other.as.object ||
               (self.as.object->kind == OBJECT_FUNCTION && other.as.object->kind == OBJECT_FUNCTION &&
                self.as.object->as.call.builtin == other.as.object->as.call.builtin);
        break;
      case VALUE_UNDEFINED:
        same = self.as.undefined == other.as.undefined;
        break;
      default:
        if (!values_equal(run, self, other, &same)) return false;
    }
  *out = value_bool(same);
  return true;
}

/* ---- numbers ---- */

static bool test_remainder(Run *run, Value self, Value divisor, int64_t rest, Value *out) {
  Value value;
  bool equal;
  if (!values_operate(run, OP_MOD, self, divisor, &value) ||
      !values_equal(run, value, value_int(rest), &equal))
    return false;
  *out = value_bool(equal);
  return true;
}

static bool test_odd(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return test_remainder(run, self, value_int(2), 1, out);
}

static bool test_even(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return test_remainder(run, self, value_int(2), 0, out);
}

static bool test_divisibleby(Run *run, Value self, const Value *arguments, Value *out) {
  return test_remainder(run, self, arguments[0], 0, out);
}

/* ---- letters ---- */

static bool test_lower(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  if (!value_to_string(run, self, &self)) return false;
  *out = value_bool(letters_are(self.as.string, LETTERS_LOWER));
  return true;
}

static bool test_upper(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  if (!value_to_string(run, self, &self)) return false;
  *out = value_bool(letters_are(self.as.string, LETTERS_UPPER));
  return true;
}

/* ---- comparisons ---- */

static bool compare(Run *run, Operator op, Value self, Value other, Value *out) {
  bool holds;
  if (!values_compare(run, op, self, other, &holds)) return false;
  *out = value_bool(holds);
  return true;
}

static bool test_eq(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_EQ, self, arguments[0], out);
}

static bool test_ne(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_NE, self, arguments[0], out);
}

static bool test_lt(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_LT, self, arguments[0], out);
}

static bool test_le(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_LTEQ, self, arguments[0], out);
}

static bool test_gt(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_GT, self, arguments[0], out);
}

static bool test_ge(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_GTEQ, self, arguments[0], out);
}

static bool test_in(Run *run, Value self, const Value *arguments, Value *out) {
  return compare(run, OP_IN, self, arguments[0], out);
}

/* ---- names ---- */

static bool is_name_in(Run *run, BuiltinTable table, Value name, Value *out) {
  if (!value_key(run, name)) return false;
  *out = value_bool(value_is_string(name) &&
                    builtin_find(table, name.as.string->bytes, name.as.string->size) != NULL);
  return true;
}

static bool test_filter(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return is_name_in(run, filters_table, self, out);
}

static bool test_test(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return is_name_in(run, tests_table, self, out);
}

static const Builtin tests[] = {
    {"defined", "", .function = test_defined},
    {"undefined", "", .function = test_undefined},
    {"none", "", .function = test_none},
    {"boolean", "", .function = test_boolean},
    {"true", "", .function = test_true},
    {"false", "", .function = test_false},
    {"integer", "", .function = test_integer},
    {"float", "", .function = test_float},
    {"number", "", .function = test_number},
    {"string", "", .function = test_string},
    {"mapping", "", .function = test_mapping},
    {"sequence", "", .function = test_sequence},
    {"iterable", "", .function = test_iterable},
    {"callable", "", .function = test_callable},
    {"escaped", "", .function = test_escaped},
    {"sameas", "other", .function = test_sameas},
    {"odd", "", .function = test_odd},
    {"even", "", .function = test_even},
    {"divisibleby", "num", .function = test_divisibleby},
    {"lower", "", .function = test_lower},
    {"upper", "", .function = test_upper},
    {"==", "/other", .function = test_eq},
    {"eq", "/other", .function = test_eq},
    {"equalto", "/other", .function = test_eq},
    {"!=", "/other", .function = test_ne},
    {"ne", "/other", .function = test_ne},
    {"<", "/other", .function = test_lt},
    {"lt", "/other", .function = test_lt},
    {"lessthan", "/other", .function = test_lt},
    {"<=", "/other", .function = test_le},
    {"le", "/other", .function = test_le},
    {">", "/other", .function = test_gt},
    {"gt", "/other", .function = test_gt},
    {"greaterthan", "/other", .function = test_gt},
    {">=", "/other", .function = test_ge},
    {"ge", "/other", .function = test_ge},
    {"in", "seq", .function = test_in},
    {"filter", "", .function = test_filter},
    {"test", "", .function = test_test},
};

const BuiltinTable tests_table = {tests, sizeof tests / sizeof *tests};
