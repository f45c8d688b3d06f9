/* The table of filters; here those on numbers and on values of any kind. */
#include "template/filters.h"

#include "template/format.h"
#include "template/json.h"
#include "template/number.h"
#include "template/object.h"
#include "template/text.h"

#include <math.h>
#include <stdio.h>

/* ---- numbers ---- */

static bool filter_abs(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  if (!value_is_number(self)) {
    if (self.kind == VALUE_UNDEFINED) return run_fail(run, "bad operand type for abs(): 'Undefined'");
    return run_fail(run, "bad operand type for abs(): '%s'", value_type(self));
  }
  if (self.kind == VALUE_FLOAT) {
    *out = value_float(fabs(self.as.real));
    return true;
  }
  return value_integral(self) < 0 ? value_negate(run, self, out) : value_plus(run, self, out);
}

static bool too_large(Run *run) {
  return run_fail(run, "a whole number gets too large: more than 64 bits");
}

/* int() of a float: NaN is no number, infinity none that int() has. */
static bool int_of_real(Run *run, double real, Value fallback, Value *out) {
  int64_t number;
  *out = fallback;
  if (isnan(real) || isinf(real)) return true;
  if (!number_to_int(real, &number)) return too_large(run);
  *out = value_int(number);
  return true;
}

static bool filter_int(Run *run, Value self, const Value *arguments, Value *out) {
  Value fallback = value_is_missing(arguments[0]) ? value_int(0) : arguments[0];
  int64_t number, base = 10;
  if (!value_is_missing(arguments[1])) {
    if (!value_is_integral(arguments[1]))
      return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(arguments[1]));
    base = value_integral(arguments[1]);
  }
  if (self.kind == VALUE_UNDEFINED) return run_fail_undefined(run, self);
  if (value_is_integral(self)) {
    *out = value_int(value_integral(self));
    return true;
  }
  if (self.kind == VALUE_FLOAT) {
    if (isinf(self.as.real)) return run_fail(run, "cannot convert float infinity to integer");
    return int_of_real(run, self.as.real, fallback, out);
  }
  *out = fallback;
  if (!value_is_string(self)) return true;
  const ValueString *text = self.as.string;
  bool overflow = false;
  double real;
  bool valid_base = base == 0 || (base >= 2 && base <= 36);
  if (valid_base && number_read_int(text->bytes, text->size, (int)base, &number, &overflow)) {
    if (overflow) return too_large(run);
    *out = value_int(number);
    return true;
  }
  return !number_read_float(text->bytes, text->size, &real) || int_of_real(run, real, fallback, out);
}

static bool filter_float(Run *run, Value self, const Value *arguments, Value *out) {
  double real;
  *out = value_is_missing(arguments[0]) ? value_float(0) : arguments[0];
  if (self.kind == VALUE_UNDEFINED) return run_fail_undefined(run, self);
  if (value_is_number(self))
    *out = value_float(value_real(self));
  else if (value_is_string(self) && number_read_float(self.as.string->bytes, self.as.string->size, &real))
    *out = value_float(real);
  return true;
}

/* round(whole number, negative digits): half to even. */
static bool round_int(Run *run, int64_t number, int64_t digits, Value *out) {
  *out = value_int(number);
  if (digits >= 0) return true;
  int64_t unit = 1;
  if (digits < -18) {
    *out = value_int(0);
    return true;
  }
  while (digits++ < 0) unit *= 10;
  int64_t rest = number % unit;
  if (rest < 0) rest += unit;
  int64_t down = 0;
  if (__builtin_sub_overflow(number, rest, &down)) return too_large(run);
  bool up = rest > unit - rest || (rest == unit - rest && (down / unit) % 2 != 0);
  if (up && __builtin_add_overflow(down, unit, &down)) return too_large(run);
  *out = value_int(down);
  return true;
}

static bool filter_round(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t digits = 0;
  Value method = arguments[1];
  if (!value_is_missing(arguments[0])) {
    if (!value_is_integral(arguments[0]))
      return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(arguments[0]));
    digits = value_integral(arguments[0]);
  }
  if (digits > 400) digits = 400;
  if (digits < -400) digits = -400;
  bool up = value_is_string(method) && string_equals(method.as.string, "ceil");
  bool down = value_is_string(method) && string_equals(method.as.string, "floor");
  if (!value_is_missing(method) && !up && !down &&
      !(value_is_string(method) && string_equals(method.as.string, "common")))
    return run_fail(run, "method must be common, ceil or floor");
  if (self.kind == VALUE_UNDEFINED && (up || down)) return run_fail_undefined(run, self);
  if (!value_is_number(self))
    return run_fail(run, "type %s doesn't define __round__ method", value_type(self));
  if (!up && !down) {
    if (self.kind != VALUE_FLOAT) return round_int(run, value_integral(self), digits, out);
    *out = value_float(number_round(self.as.real, (int)digits));
    return true;
  }
  double unit = pow(10, (double)digits), scaled = value_real(self) * unit;
  if (isnan(scaled) || isinf(scaled)) return run_fail(run, "cannot convert float infinity to integer");
  *out =
      value_float(((up ? ceil(scaled) : floor(scaled)) + 0.0) / unit); /* of whole numbers: there is no -0 */
  return true;
}

static bool filter_filesizeformat(Run *run, Value self, const Value *arguments, Value *out) {
  static const char prefixes[] = "kMGTPEZY";
  bool binary = !value_is_missing(arguments[0]) && value_is_true(arguments[0]);
  Value number;
  const Value none[1] = {value_missing()};
  if (!filter_float(run, self, none, &number)) return false;
  double bytes = number.as.real, base = binary ? 1024 : 1000, unit = base;
  char text[80];
  if (bytes == 1) {
    snprintf(text, sizeof text, "1 Byte");
  } else if (bytes < base) {
    snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
  } else {
    size_t i = 0;
    for (unit *= base; i < 7 && bytes >= unit; i++) unit *= base;
    char prefix = binary && i == 0 ? 'K' : prefixes[i];
    snprintf(text, sizeof text, "%.1f %c%s", base * bytes / unit, prefix, binary ? "iB" : "B");
  }
  size_t mark = text_mark(run);
  return text_add_text(run, text) && text_cut(run, mark, out);
}

/* ---- values of any kind ---- */

static bool filter_default(Run *run, Value self, const Value *arguments, Value *out) {
  bool boolean = !value_is_missing(arguments[1]) && value_is_true(arguments[1]);
  *out = self;
  if (self.kind != VALUE_UNDEFINED && (!boolean || value_is_true(self))) return true;
  *out = arguments[0];
  return !value_is_missing(*out) || string_literal(run->heap, "", out, run->error);
}

static bool filter_attr(Run *run, Value self, const Value *arguments, Value *out) {
  if (!value_is_string(arguments[0])) return run_fail(run, "attribute name must be string");
  return value_own_attribute(run, self, arguments[0], out);
}

static bool filter_tojson(Run *run, Value self, const Value *arguments, Value *out) {
  return json_dump(run, self, arguments[0], arguments[1], arguments[2], arguments[3], out);
}

static bool filter_format(Run *run, Value self, const CallArguments *arguments, Value *out) {
  Value values;
  if (arguments->count && arguments->keyword_count)
    return run_fail(run, "can't handle positional and keyword arguments at the same time");
  if (!value_to_string(run, self, &self)) return false;
  if (arguments->keyword_count) {
    if (!value_dict(run->heap, &values, run->error)) return false;
    for (size_t i = 0; i < arguments->keyword_count; i++)
      if (!dict_set(run->heap, values.as.dict, arguments->keywords[i].name, arguments->keywords[i].value,
                    run->error))
        return false;
  } else {
    if (!list_new(run->heap, LIST_TUPLE, arguments->count, &values, run->error)) return false;
    for (size_t i = 0; i < arguments->count; i++)
      values.as.list->items[values.as.list->count++] = arguments->positional[i];
  }
  return format_percent(run, self.as.string, values, out);
}

/* ---- the table ---- */

static const Builtin filters[] = {
    {"abs", "", .function = filter_abs},
    {"attr", "name", .function = filter_attr},
    {"batch", "linecount ?fill_with", .function = filter_batch},
    {"capitalize", "", .function = filter_capitalize},
    {"center", "?width", .function = filter_center},
    {"count", "", .function = filter_length},
    {"d", "?default_value ?boolean", .function = filter_default},
    {"default", "?default_value ?boolean", .function = filter_default},
    {"dictsort", "?case_sensitive ?by ?reverse", .function = filter_dictsort},
    {"e", "", .function = filter_escape},
    {"escape", "", .function = filter_escape},
    {"filesizeformat", "?binary", .function = filter_filesizeformat},
    {"first", "", .function = filter_first},
    {"float", "?default", .function = filter_float},
    {"forceescape", "", .function = filter_forceescape},
    {"format", "", .variadic = filter_format},
    {"groupby", "attribute ?default ?case_sensitive", .function = filter_groupby},
    {"indent", "?width ?first ?blank", .function = filter_indent},
    {"int", "?default ?base", .function = filter_int},
    {"items", "", .function = filter_items},
    {"join", "?d ?attribute", .function = filter_join},
    {"last", "", .function = filter_last},
    {"length", "", .function = filter_length},
    {"list", "", .function = filter_list},
    {"lower", "", .function = filter_lower},
    {"map", "", .variadic = filter_map},
    {"max", "?case_sensitive ?attribute", .function = filter_max},
    {"min", "?case_sensitive ?attribute", .function = filter_min},
    {"pprint", "", .function = NULL},
    {"random", "", .function = NULL},
    {"reject", "", .variadic = filter_reject},
    {"rejectattr", "", .variadic = filter_rejectattr},
    {"replace", "old new ?count", .function = filter_replace},
    {"reverse", "", .function = filter_reverse},
    {"round", "?precision ?method", .function = filter_round},
    {"safe", "", .function = filter_safe},
    {"select", "", .variadic = filter_select},
    {"selectattr", "", .variadic = filter_selectattr},
    {"slice", "slices ?fill_with", .function = filter_slice},
    {"sort", "?reverse ?case_sensitive ?attribute", .function = filter_sort},
    {"string", "", .function = filter_string},
    {"striptags", "", .function = filter_striptags},
    {"sum", "?attribute ?start", .function = filter_sum},
    {"title", "", .function = filter_title},
    {"tojson", "?ensure_ascii ?indent ?separators ?sort_keys", .function = filter_tojson},
    {"trim", "?chars", .function = filter_trim},
    {"truncate", "?length ?killwords ?end ?leeway", .function = filter_truncate},
    {"unique", "?case_sensitive ?attribute", .function = filter_unique},
    {"upper", "", .function = filter_upper},
    {"urlencode", "", .function = filter_urlencode},
    {"urlize", "", .function = NULL},
    {"wordcount", "", .function = filter_wordcount},
    {"wordwrap", "", .function = NULL},
    {"xmlattr", "?autospace", .function = filter_xmlattr},
};

const BuiltinTable filters_table = {filters, sizeof filters / sizeof *filters};
