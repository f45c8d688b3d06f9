/* "%s %5.2f" % values. */
#include "template/format.h"

#include "template/number.h"
#include "template/object.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

typedef struct Percent {
  Run *run;
  const ValueString *format;
  size_t at;
  Value values; /* a tuple, or the only value */
  size_t used;
  bool by_name; /* a value was asked for by its name */
} Percent;

static bool next_value(Percent *percent, Value *out) {
  bool tuple = value_is_tuple(percent->values);
  size_t count = tuple ? percent->values.as.list->count : 1;
  if (percent->used >= count) return run_fail(percent->run, "not enough arguments for format string");
  *out = tuple ? percent->values.as.list->items[percent->used] : percent->values;
  percent->used++;
  return true;
}

static bool peek(const Percent *percent, char *c) {
  *c = percent->at < percent->format->size ? percent->format->bytes[percent->at] : '\0';
  return percent->at < percent->format->size;
}

static bool read_name(Percent *percent, Value *value, bool *named) {
  Run *run = percent->run;
  char c;
  *named = peek(percent, &c) && c == '(';
  if (!*named) return true;
  if (percent->values.kind != VALUE_DICT) return run_fail(run, "format requires a mapping");
  size_t begin = ++percent->at;
  int depth = 1;
  for (; peek(percent, &c); percent->at++) {
    depth += (c == '(') - (c == ')');
    if (depth == 0) break;
  }
  if (depth) return run_fail(run, "incomplete format key");
  const ValueString *format = percent->format;
  const Value *found = dict_get_text(percent->values.as.dict, format->bytes + begin, percent->at - begin);
  if (!found)
    return run_fail(run, "'%.*s'", (int)(percent->at - begin), format->bytes + begin); /* KeyError */
  percent->at++;
  percent->by_name = true;
  *value = *found;
  return true;
}

/* "*" or digits. */
static bool read_number(Percent *percent, int64_t *out) {
  char c;
  if (peek(percent, &c) && c == '*') {
    Value value;
    percent->at++;
    if (!next_value(percent, &value)) return false;
    if (!value_is_integral(value)) return run_fail(percent->run, "* wants int");
    *out = value_integral(value);
    return true;
  }
  int64_t number = 0;
  for (; peek(percent, &c) && c >= '0' && c <= '9'; percent->at++) {
    number = number * 10 + (c - '0');
    if (number > INT32_MAX) return run_fail(percent->run, "width too big");
  }
  *out = number;
  return true;
}

static bool read_layout(Percent *percent, FieldFormat *field) {
  char c;
  for (; peek(percent, &c) && c && strchr("-+ #0", c); percent->at++) {
    if (c == '-') field->align = '<';
    if (c == '+' || (c == ' ' && field->sign != '+')) field->sign = c;
    if (c == '#') field->alternate = true;
    if (c == '0') field->zero = true;
  }
  if (!read_number(percent, &field->width)) return false;
  if (field->width < 0) {
    field->align = '<';
    field->width = field->width < -INT32_MAX ? INT32_MAX : -field->width;
  }
  if (peek(percent, &c) && c == '.') {
    percent->at++;
    if (!read_number(percent, &field->precision)) return false;
    if (field->precision < 0) field->precision = 0;
  }
  while (peek(percent, &c) && c && strchr("hlL", c)) percent->at++;
  if (field->align == '<') field->zero = false;
  return true;
}

static bool add_text(Run *run, const FieldFormat *field, Value value, bool repr) {
  size_t mark = text_mark(run);
  if (!(repr ? print_repr(run, value) : print_value(run, value)) || !text_cut(run, mark, &value))
    return false;
  FieldFormat layout = *field;
  layout.align = field->align ? field->align : '>';
  return format_string(run, &layout, value.as.string);
}

static bool add_int(Run *run, FieldFormat *field, char type, Value value) {
  int64_t number;
  if (value.kind == VALUE_FLOAT && strchr("diu", type)) {
    if (!number_to_int(value.as.real, &number))
      return run_fail(run, "a whole number gets too large: more than 64 bits");
  } else if (value_is_integral(value)) {
    number = value_integral(value);
  } else if (value.kind == VALUE_UNDEFINED) {
    return run_fail_undefined(run, value);
  } else {
    return run_fail(run,
                    strchr("diu", type) ? "%%%c format: a real number is required, not %s"
                                        : "%%%c format: an integer is required, not %s",
                    type, value_type(value));
  }
  field->type = strchr("diu", type) ? 'd' : type;
  return format_int(run, field, number);
}

static bool add_real(Run *run, FieldFormat *field, char type, Value value) {
  if (value.kind == VALUE_UNDEFINED) return run_fail_undefined(run, value);
  if (!value_is_number(value)) return run_fail(run, "must be real number, not %s", value_type(value));
  field->type = type;
  return format_real(run, field, value_real(value));
}

static bool add_character(Run *run, const FieldFormat *field, Value value) {
  if (value_is_string(value)) {
    if (string_length(value.as.string) == 1) return add_text(run, field, value, false);
    return run_fail(run, "%%c requires int or char");
  }
  if (!value_is_integral(value)) return run_fail(run, "%%c requires int or char");
  int64_t point = value_integral(value);
  if (point < 0 || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
    return run_fail(run, "%%c arg not in range(0x110000)");
  char bytes[4];
  return string_copy(run->heap, bytes, unicode_write((int32_t)point, bytes), &value, run->error) &&
         add_text(run, field, value, false);
}

/* Behind the "%". */
static bool add_field(Percent *percent) {
  Run *run = percent->run;
  FieldFormat field = {.precision = -1};
  Value value;
  bool named;
  char type;
  if (!read_name(percent, &value, &named) || !read_layout(percent, &field)) return false;
  if (!peek(percent, &type)) return run_fail(run, "incomplete format");
  size_t at = percent->at++;
  if (type == '%') return text_add(run, "%", 1);
  if (!named && !next_value(percent, &value)) return false;
  if (type == 's' || type == 'r') return add_text(run, &field, value, type == 'r');
  if (type == 'c') return add_character(run, &field, value);
  if (type && strchr("diuxXo", type)) return add_int(run, &field, type, value);
  if (type && strchr("eEfFgG", type)) return add_real(run, &field, type, value);
  return run_fail(run, "unsupported format character '%c' (0x%x) at index %zu", type, (unsigned char)type,
                  at);
}

bool format_percent(Run *run, const ValueString *format, Value values, Value *out) {
  if (format->markup) return run_fail(run, "%% on text that is marked safe is not supported");
  Percent percent = {.run = run, .format = format, .values = values};
  size_t mark = text_mark(run);
  while (percent.at < format->size) {
    const char *sign = memchr(format->bytes + percent.at, '%', format->size - percent.at);
    size_t end = sign ? (size_t)(sign - format->bytes) : format->size;
    if (!text_add_slice(run, format, percent.at, end)) return false;
    percent.at = end + 1;
    if (sign && (!run_step(run) || !add_field(&percent))) return false;
  }
  bool tuple = value_is_tuple(values);
  size_t count = tuple ? values.as.list->count : 1;
  bool mapping = values.kind == VALUE_DICT || values.kind == VALUE_LIST; /* what has items may stay unused */
  if (percent.used < count && (tuple || !mapping))
    return run_fail(run, "not all arguments converted during string formatting");
  return text_cut(run, mark, out);
}
