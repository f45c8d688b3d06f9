#include "template/json.h"

#include "template/number.h"
#include "template/object.h"
#include "template/sort.h"
#include "template/text.h"
#include "template/unicode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Dump {
  Run *run;
  bool ascii, sorted;
  const ValueString *indent; /* one level; NULL: all on one line */
  const ValueString *item_separator, *key_separator;
  int64_t level;
} Dump;

/* ---- strings ---- */

/* The escape of a code point, 0 if it stands for itself. */
static int escape_point(int32_t point, bool ascii, char out[16]) {
  static const char letters[] = "\"\"\\\\\nn\rr\tt\bb\ff";
  for (size_t i = 0; i + 1 < sizeof letters; i += 2)
    if (letters[i] == point) return snprintf(out, 16, "\\%c", letters[i + 1]);
  if (point < 0x20) return snprintf(out, 16, "\\u%04x", (unsigned)point);
  if (!ascii || point < 0x7f) return 0;
  if (point >= UNICODE_BROKEN) return snprintf(out, 16, "\\udc%02x", (unsigned)(point - UNICODE_BROKEN));
  if (point < 0x10000) return snprintf(out, 16, "\\u%04x", (unsigned)point);
  unsigned rest = (unsigned)(point - 0x10000);
  return snprintf(out, 16, "\\u%04x\\u%04x", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
}

static bool dump_string(Dump *dump, const ValueString *string) {
  Run *run = dump->run;
  size_t plain = 0, width;
  if (!text_add(run, "\"", 1)) return false;
  for (size_t at = 0; at < string->size; at += width) {
    unsigned char c = (unsigned char)string->bytes[at];
    width = 1;
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') continue;
    char escape[16];
    int size = escape_point(unicode_read(string->bytes + at, string->size - at, &width), dump->ascii, escape);
    if (size == 0) continue;
    if (!text_add_slice(run, string, plain, at) ||
        !text_add_changed(run, string, at, at + width, escape, (size_t)size))
      return false;
    plain = at + width;
  }
  return text_add_slice(run, string, plain, string->size) && text_add(run, "\"", 1);
}

/* ---- containers ---- */

static bool dump_value(Dump *dump, Value value);

static bool new_line(Dump *dump) {
  if (!dump->indent) return true;
  return text_add(dump->run, "\n", 1) &&
         text_repeat(dump->run, dump->indent->bytes, dump->indent->size, dump->level);
}

static bool begin_item(Dump *dump, size_t index) {
  return (index == 0 || text_add_string(dump->run, dump->item_separator)) && new_line(dump);
}

static bool dump_list(Dump *dump, const ValueList *list) {
  if (list->count == 0) return text_add_text(dump->run, "[]");
  if (!text_add_text(dump->run, "[")) return false;
  dump->level++;
  for (size_t i = 0; i < list->count; i++)
    if (!begin_item(dump, i) || !dump_value(dump, list->items[i])) return false;
  dump->level--;
  return new_line(dump) && text_add_text(dump->run, "]");
}

static bool dump_number(Dump *dump, Value value) {
  if (value.kind != VALUE_FLOAT) return print_repr(dump->run, value);
  if (isnan(value.as.real)) return text_add_text(dump->run, "NaN");
  if (isinf(value.as.real)) return text_add_text(dump->run, value.as.real < 0 ? "-Infinity" : "Infinity");
  return print_repr(dump->run, value);
}

/* Keys that are no strings are written as they would be as values. */
static bool dump_key(Dump *dump, Value key) {
  if (value_is_string(key)) return dump_string(dump, key.as.string);
  if (!value_is_number(key) && key.kind != VALUE_NONE)
    return run_fail(dump->run, "keys must be str, int, float, bool or None, not %s", value_type(key));
  return text_add_text(dump->run, "\"") && dump_value(dump, key) && text_add_text(dump->run, "\"");
}

static bool dump_dict(Dump *dump, const ValueDict *dict) {
  if (dict->count == 0) return text_add_text(dump->run, "{}");
  if (!text_add_text(dump->run, "{")) return false;
  const DictEntry *entries = dict->entries;
  if (dump->sorted && !sort_entries(dump->run, dict, &entries)) return false;
  dump->level++;
  for (size_t i = 0; i < dict->count; i++)
    if (!begin_item(dump, i) || !dump_key(dump, entries[i].key) ||
        !text_add_string(dump->run, dump->key_separator) || !dump_value(dump, entries[i].value))
      return false;
  dump->level--;
  return new_line(dump) && text_add_text(dump->run, "}");
}

static bool dump_container(Dump *dump, Value value) {
  if (!run_deepen(dump->run)) return false;
  bool done = value.kind == VALUE_LIST ? dump_list(dump, value.as.list) : dump_dict(dump, value.as.dict);
  dump->run->depth--;
  return done;
}

static bool dump_value(Dump *dump, Value value) {
  if (!run_step(dump->run)) return false;
  switch (value.kind) {
    case VALUE_NONE:
      return text_add_text(dump->run, "null");
    case VALUE_BOOL:
      return text_add_text(dump->run, value.as.boolean ? "true" : "false");
    case VALUE_INT:
    case VALUE_FLOAT:
      return dump_number(dump, value);
    case VALUE_STRING:
      return dump_string(dump, value.as.string);
    case VALUE_LIST:
    case VALUE_DICT:
      return dump_container(dump, value);
    default:
      return run_fail(dump->run, "Object of type %s is not JSON serializable", value_type(value));
  }
}

/* ---- options ---- */

static bool read_indent(Dump *dump, Value indent) {
  Run *run = dump->run;
  Value text;
  if (value_is_missing(indent) || indent.kind == VALUE_NONE) return true;
  if (value_is_string(indent)) {
    dump->indent = indent.as.string;
    return true;
  }
  if (!value_is_integral(indent))
    return run_fail(run, "can't multiply sequence by non-int of type '%s'", value_type(indent));
  size_t mark = text_mark(run);
  if (!text_repeat(run, " ", 1, value_integral(indent)) || !text_cut(run, mark, &text)) return false;
  dump->indent = text.as.string;
  return true;
}

static bool read_separators(Dump *dump, Value separators) {
  Run *run = dump->run;
  Value item, key;
  if (!string_literal(run->heap, dump->indent ? "," : ", ", &item, run->error) ||
      !string_literal(run->heap, ": ", &key, run->error))
    return false;
  if (!value_is_missing(separators) && separators.kind != VALUE_NONE) {
    const ValueList *list = separators.kind == VALUE_LIST ? separators.as.list : NULL;
    if (!list || list->count != 2 || !value_is_string(list->items[0]) || !value_is_string(list->items[1]))
      return run_fail(run, "tojson: separators are two strings");
    item = list->items[0];
    key = list->items[1];
  }
  dump->item_separator = item.as.string;
  dump->key_separator = key.as.string;
  return true;
}

bool json_dump(Run *run, Value value, Value ensure_ascii, Value indent, Value separators, Value sort_keys,
               Value *out) {
  Dump dump = {.run = run, .ascii = value_is_true(ensure_ascii), .sorted = value_is_true(sort_keys)};
  if (!read_indent(&dump, indent) || !read_separators(&dump, separators)) return false;
  size_t mark = text_mark(run);
  return dump_value(&dump, value) && text_cut(run, mark, out);
}
