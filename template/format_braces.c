/* "{} {name!r:>8}".format(values). */
#include "template/format.h"

#include "template/object.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

typedef struct Braces {
  Run *run;
  const CallArguments *arguments;
  int64_t next; /* of {}; -1 once numbers were written out */
} Braces;

/* Format text, of a string or of a layout within it. */
typedef struct Part {
  const char *bytes;
  size_t size;
} Part;

/* ---- which value ---- */

static bool read_index(Part part, int64_t *out) {
  if (part.size == 0 || part.size > 9) return false;
  *out = 0;
  for (size_t i = 0; i < part.size; i++) {
    if (part.bytes[i] < '0' || part.bytes[i] > '9') return false;
    *out = *out * 10 + (part.bytes[i] - '0');
  }
  return true;
}

static bool first_value(Braces *braces, Part name, Value *out) {
  Run *run = braces->run;
  int64_t index;
  bool numbered = read_index(name, &index);
  if (name.size == 0 && braces->next < 0)
    return run_fail(run, "cannot switch from manual field specification to automatic field numbering");
  if (numbered && braces->next > 0)
    return run_fail(run, "cannot switch from manual field specification to automatic field numbering");
  if (name.size == 0) index = braces->next++;
  if (numbered) braces->next = -1;
  if (numbered || name.size == 0) {
    if ((uint64_t)index >= braces->arguments->count)
      return run_fail(run, "Replacement index %lld out of range for positional args tuple", (long long)index);
    *out = braces->arguments->positional[index];
    return true;
  }
  for (size_t i = 0; i < braces->arguments->keyword_count; i++) {
    const ValueString *keyword = braces->arguments->keywords[i].name.as.string;
    if (keyword->size != name.size || memcmp(keyword->bytes, name.bytes, name.size) != 0) continue;
    *out = braces->arguments->keywords[i].value;
    return true;
  }
  return run_fail(run, "'%.*s'", (int)name.size, name.bytes); /* KeyError */
}

/* "name.attribute[item]" */
static bool find_value(Braces *braces, Part field, Value *out) {
  Run *run = braces->run;
  size_t at = 0;
  while (at < field.size && field.bytes[at] != '.' && field.bytes[at] != '[') at++;
  if (!first_value(braces, (Part){field.bytes, at}, out)) return false;
  while (at < field.size) {
    bool item = field.bytes[at] == '[';
    size_t begin = ++at;
    while (at < field.size &&
           (item ? field.bytes[at] != ']' : field.bytes[at] != '.' && field.bytes[at] != '['))
      at++;
    if (item && at == field.size) return run_fail(run, "Missing ']' in format string");
    Part part = {field.bytes + begin, at - begin};
    int64_t index;
    Value name;
    if (part.size == 0) return run_fail(run, "Empty attribute in format string");
    if (!string_copy(run->heap, part.bytes, part.size, &name, run->error)) return false;
    if (item && read_index(part, &index)) name = value_int(index);
    if (!(item ? value_item(run, *out, name, out) : value_attribute(run, *out, name, out))) return false;
    if (item) at++;
    if (item && at < field.size && field.bytes[at] != '.' && field.bytes[at] != '[')
      return run_fail(run, "Only '.' or '[' may follow ']' in format field specifier");
  }
  return true;
}

/* ---- how it is laid out ---- */

static bool is_align(char c) {
  return c && strchr("<>=^", c);
}

static bool read_width(Run *run, Part spec, size_t *at, int64_t *out) {
  int64_t number = 0;
  for (; *at < spec.size && spec.bytes[*at] >= '0' && spec.bytes[*at] <= '9'; (*at)++) {
    number = number * 10 + (spec.bytes[*at] - '0');
    if (number > INT32_MAX) return run_fail(run, "Too many decimal digits in format string");
  }
  *out = number;
  return true;
}

static bool read_spec(Run *run, Part spec, FieldFormat *out) {
  size_t at = 0, width = spec.size ? unicode_width(spec.bytes, spec.size) : 0;
  *out = (FieldFormat){.precision = -1};
  if (spec.size > width && is_align(spec.bytes[width])) {
    out->fill = spec.bytes;
    out->fill_size = width;
    out->align = spec.bytes[width];
    at = width + 1;
  } else if (spec.size && is_align(*spec.bytes)) {
    out->align = spec.bytes[at++];
  }
  if (at < spec.size && spec.bytes[at] && strchr("+- ", spec.bytes[at])) out->sign = spec.bytes[at++];
  if (at < spec.size && spec.bytes[at] == '#') out->alternate = at++ < spec.size;
  if (at < spec.size && spec.bytes[at] == '0') out->zero = at++ < spec.size;
  if (!read_width(run, spec, &at, &out->width)) return false;
  if (at < spec.size && (spec.bytes[at] == ',' || spec.bytes[at] == '_')) out->grouping = spec.bytes[at++];
  if (at < spec.size && spec.bytes[at] == '.') {
    size_t begin = ++at;
    if (!read_width(run, spec, &at, &out->precision)) return false;
    if (at == begin) return run_fail(run, "Format specifier missing precision");
  }
  if (at < spec.size) out->type = spec.bytes[at++];
  if (at < spec.size) return run_fail(run, "Invalid format specifier");
  return true;
}

static bool unknown_type(Run *run, char type, Value value) {
  return run_fail(run, "Unknown format code '%c' for object of type '%s'", type, value_type(value));
}

static bool add_value(Run *run, Part spec, Value value) {
  FieldFormat format;
  if (spec.size == 0) return print_value(run, value);
  if (!read_spec(run, spec, &format)) return false;
  char type = format.type;
  if (value_is_string(value)) {
    if (type && type != 's') return unknown_type(run, type, value);
    if (format.align == '=') return run_fail(run, "'=' alignment not allowed in string format specifier");
    if (format.sign) return run_fail(run, "Sign not allowed in string format specifier");
    if (format.zero && !format.fill_size) {
      format.fill = "0";
      format.fill_size = 1;
    }
    return format_string(run, &format, value.as.string);
  }
  if (value.kind == VALUE_FLOAT)
    return type && !strchr("eEfFgGn%", type) ? unknown_type(run, type, value)
                                             : format_real(run, &format, value.as.real);
  if (!value_is_integral(value))
    return run_fail(run, "unsupported format string passed to %s.__format__", value_type(value));
  if (type == 'c') return run_fail(run, "the format code 'c' is not supported");
  if (type && !strchr("dnxXobeEfFgG%", type)) return unknown_type(run, type, value);
  if (format.precision >= 0 && !(type && strchr("eEfFgG%", type)))
    return run_fail(run, "Precision not allowed in integer format specifier");
  return format_int(run, &format, value_integral(value));
}

/* ---- the text ---- */

static bool expand(Braces *braces, Part format, int depth);

/* "{" is at format.bytes[at - 1]; *end: behind the "}". */
static bool add_field(Braces *braces, Part format, size_t at, int depth, size_t *end) {
  Run *run = braces->run;
  size_t begin = at;
  int open = 1;
  bool bracket = false;
  size_t colon = SIZE_MAX;
  for (; at < format.size; at++) {
    char c = format.bytes[at];
    if (colon == SIZE_MAX && c == '[') bracket = true;
    if (colon == SIZE_MAX && c == ']') bracket = false;
    if (bracket) continue;
    if (c == '{') open++;
    if (c == '}' && --open == 0) break;
    if ((c == ':' || c == '!') && open == 1 && colon == SIZE_MAX) colon = at;
  }
  if (open)
    return run_fail(
        run, at == begin ? "Single '{' encountered in format string" : "expected '}' before end of string");
  size_t name_end = colon == SIZE_MAX ? at : colon;
  Value value;
  char conversion = '\0';
  if (!find_value(braces, (Part){format.bytes + begin, name_end - begin}, &value)) return false;
  if (colon != SIZE_MAX && format.bytes[colon] == '!') {
    conversion = colon + 1 < at ? format.bytes[colon + 1] : '\0';
    colon += 2;
    if (colon > at || (colon < at && format.bytes[colon] != ':'))
      return run_fail(run, "expected ':' after conversion specifier");
    if (conversion != 's' && conversion != 'r')
      return run_fail(run, "Unknown conversion specifier %c", conversion ? conversion : '}');
  }
  size_t mark = text_mark(run);
  Value spec;
  Part written = colon < at ? (Part){format.bytes + colon + 1, at - colon - 1} : (Part){"", 0};
  if (!expand(braces, written, depth + 1) || !text_cut(run, mark, &spec)) return false;
  if (conversion == 'r') {
    if (!print_repr(run, value) || !text_cut(run, mark, &value)) return false;
  } else if (conversion == 's' && !value_to_string(run, value, &value)) {
    return false;
  }
  *end = at + 1;
  return add_value(run, (Part){spec.as.string->bytes, spec.as.string->size}, value);
}

static bool expand(Braces *braces, Part format, int depth) {
  Run *run = braces->run;
  if (depth > 2) return run_fail(run, "Max string recursion exceeded");
  for (size_t at = 0; at < format.size;) {
    size_t begin = at;
    while (at < format.size && format.bytes[at] != '{' && format.bytes[at] != '}') at++;
    if (!text_add(run, format.bytes + begin, at - begin)) return false;
    if (at == format.size) break;
    char brace = format.bytes[at++];
    if (at < format.size && format.bytes[at] == brace) {
      if (!text_add(run, &brace, 1)) return false;
      at++;
    } else if (brace == '}') {
      return run_fail(run, "Single '}' encountered in format string");
    } else if (!run_step(run) || !add_field(braces, format, at, depth, &at)) {
      return false;
    }
  }
  return true;
}

bool format_braces(Run *run, const ValueString *format, const CallArguments *arguments, Value *out) {
  if (format->markup) return run_fail(run, "format() of text that is marked safe is not supported");
  Braces braces = {.run = run, .arguments = arguments};
  size_t mark = text_mark(run);
  return expand(&braces, (Part){format->bytes, format->size}, 0) && text_cut(run, mark, out);
}
