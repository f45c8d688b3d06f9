/* Filters that make text of text. */
#include "template/filters.h"
#include "template/letters.h"
#include "template/markup.h"
#include "template/object.h"
#include "template/strings.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

static bool change(Run *run, Value self, LettersChange kind, Value *out) {
  return value_to_string(run, self, &self) && letters_change(run, self.as.string, kind, out);
}

bool filter_upper(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return change(run, self, CHANGE_UPPER, out);
}

bool filter_lower(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return change(run, self, CHANGE_LOWER, out);
}

bool filter_capitalize(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return change(run, self, CHANGE_CAPITALIZE, out);
}

bool filter_title(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return change(run, self, CHANGE_WORDS, out);
}

bool filter_trim(Run *run, Value self, const Value *arguments, Value *out) {
  const ValueString *characters;
  if (!value_to_string(run, self, &self) || !strings_cut_set(run, "strip", arguments[0], &characters))
    return false;
  size_t begin, end;
  return run_charge(run, self.as.string->size) &&
         letters_strip(run, self.as.string, characters, true, true, &begin, &end) &&
         string_slice(run->heap, self.as.string, begin, end, out, run->error);
}

bool filter_string(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return value_to_string(run, self, out);
}

bool filter_safe(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return markup_mark(run, self, true, out);
}

bool filter_escape(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return markup_escape(run, self, out);
}

bool filter_forceescape(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return markup_force(run, self, out);
}

bool filter_replace(Run *run, Value self, const Value *arguments, Value *out) {
  Value old, new;
  int64_t count = -1;
  if (!value_is_missing(arguments[2]) && arguments[2].kind != VALUE_NONE) {
    if (!value_is_integral(arguments[2]))
      return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(arguments[2]));
    count = value_integral(arguments[2]);
  }
  return markup_mark(run, self, false, &self) && value_to_string(run, arguments[0], &old) &&
         value_to_string(run, arguments[1], &new) &&
         strings_replace(run, self.as.string, old.as.string, new.as.string, count, out);
}

/* ---- layout ---- */

static bool int_or(Run *run, Value value, int64_t fallback, int64_t *out) {
  *out = fallback;
  if (value_is_missing(value)) return true;
  if (!value_is_integral(value))
    return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(value));
  *out = value_integral(value);
  return true;
}

bool filter_center(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t width;
  return int_or(run, arguments[0], 80, &width) && value_to_string(run, self, &self) &&
         strings_pad(run, self.as.string, width, NULL, PAD_CENTER, out);
}

static bool indent_with(Run *run, const ValueString *by, Value width) {
  return by ? text_add_string(run, by) : text_repeat(run, " ", 1, value_integral(width));
}

bool filter_indent(Run *run, Value self, const Value *arguments, Value *out) {
  Value width = value_is_missing(arguments[0]) ? value_int(4) : arguments[0], lines, text;
  const ValueString *by = value_is_string(width) ? width.as.string : NULL;
  bool first = !value_is_missing(arguments[1]) && value_is_true(arguments[1]);
  bool blank = !value_is_missing(arguments[2]) && value_is_true(arguments[2]);
  if (!by && !value_is_integral(width))
    return run_fail(run, "can't multiply sequence by non-int of type '%s'", value_type(width));
  if (self.kind == VALUE_UNDEFINED) return run_fail_undefined(run, self);
  if (!value_is_string(self))
    return run_fail(run, "unsupported operand type(s) for +=: '%s' and 'str'", value_type(self));
  /* A line end more, so that an empty last line is one. */
  Value newline;
  if (!string_literal(run->heap, "\n", &newline, run->error) ||
      !string_add(run->heap, self.as.string, newline.as.string, &text, run->error) ||
      !strings_lines(run, text.as.string, false, &lines))
    return false;
  size_t mark = text_mark(run);
  if (first && !indent_with(run, by, width)) return false;
  for (size_t i = 0; i < lines.as.list->count; i++) {
    const ValueString *line = lines.as.list->items[i].as.string;
    if (i && !text_add(run, "\n", 1)) return false;
    if (i && (blank || line->size) && !indent_with(run, by, width)) return false;
    if (!text_add_string(run, line)) return false;
  }
  return text_cut(run, mark, out) && (!self.as.string->markup || markup_mark(run, *out, true, out));
}

bool filter_truncate(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t length, leeway;
  bool kill = !value_is_missing(arguments[1]) && value_is_true(arguments[1]);
  Value end = arguments[2];
  if (!int_or(run, arguments[0], 255, &length) ||
      !int_or(run, arguments[3].kind == VALUE_NONE ? value_missing() : arguments[3], 5, &leeway))
    return false;
  if (value_is_missing(end) && !string_literal(run->heap, "...", &end, run->error)) return false;
  if (!value_is_string(end)) return run_fail(run, "truncate: the end is a string");
  size_t count, end_count = string_length(end.as.string);
  if (length < (int64_t)end_count)
    return run_fail(run, "expected length >= %zu, got %lld", end_count, (long long)length);
  if (leeway < 0) return run_fail(run, "expected leeway >= 0, got %lld", (long long)leeway);
  if (!value_length(run, self, &count)) return false;
  *out = self;
  if (count <= (size_t)length || count - (size_t)length <= (size_t)leeway) return true;
  if (!value_is_string(self)) return run_fail(run, "truncate: expected a string, not %s", value_type(self));
  const ValueString *string = self.as.string;
  size_t stop = string_offset(string, (size_t)length - end_count);
  const char *space = kill ? NULL : memrchr(string->bytes, ' ', stop);
  size_t mark = text_mark(run);
  return text_add_slice(run, string, 0, space ? (size_t)(space - string->bytes) : stop) &&
         text_add_string(run, end.as.string) && text_cut(run, mark, out);
}

/* ---- words and tags ---- */

bool filter_wordcount(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  if (!value_to_string(run, self, &self)) return false;
  const ValueString *string = self.as.string;
  int64_t words = 0;
  size_t width;
  bool inside = false;
  for (size_t at = 0; at < string->size; at += width) {
    bool word = unicode_is_word(unicode_read(string->bytes + at, string->size - at, &width));
    words += word && !inside;
    inside = word;
  }
  *out = value_int(words);
  return run_charge(run, string->size);
}

/* Comments first, then tags; then space is one blank each, and entities are resolved: those with a number or of the five that are
 * written by |escape. */
bool filter_striptags(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  return value_to_string(run, self, &self) && strings_strip_tags(run, self.as.string, out);
}

static bool is_url_safe(char c, bool query) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == '-' || c == '~' || (c == '/' && !query);
}

static bool add_url(Run *run, Value value, bool query) {
  static const char digits[] = "0123456789ABCDEF";
  if (!value_to_string(run, value, &value)) return false;
  const ValueString *string = value.as.string;
  for (size_t i = 0; i < string->size; i++) {
    unsigned char c = (unsigned char)string->bytes[i];
    char escape[3] = {'%', digits[c >> 4], digits[c & 15]};
    bool added = is_url_safe((char)c, query) ? text_add_slice(run, string, i, i + 1)
                 : query && c == ' '         ? text_add_changed(run, string, i, i + 1, "+", 1)
                                             : text_add_changed(run, string, i, i + 1, escape, 3);
    if (!added) return false;
  }
  return true;
}

bool filter_urlencode(Run *run, Value self, const Value *arguments, Value *out) {
  (void)arguments;
  size_t mark = text_mark(run);
  if (value_is_string(self) || !value_is_iterable(self))
    return add_url(run, self, false) && text_cut(run, mark, out);
  ValueObject view = {.kind = OBJECT_VIEW};
  if (self.kind == VALUE_DICT) {
    view.as.view.type = VIEW_ITEMS;
    view.as.view.dict = self.as.dict;
    self = (Value){.kind = VALUE_OBJECT, .as.object = &view};
  }
  Iterator *pairs;
  if (!iterate(run, self, &pairs)) return false;
  for (bool first = true;; first = false) {
    Value pair, parts;
    bool done;
    if (!iterator_next(run, pairs, &pair, &done)) return false;
    if (done) return text_cut(run, mark, out);
    if (!value_to_list(run, pair, &parts)) return false;
    if (parts.as.list->count != 2) return run_fail(run, "urlencode: expected pairs of key and value");
    if ((!first && !text_add(run, "&", 1)) || !add_url(run, parts.as.list->items[0], true) ||
        !text_add(run, "=", 1) || !add_url(run, parts.as.list->items[1], true))
      return false;
  }
}

bool filter_xmlattr(Run *run, Value self, const Value *arguments, Value *out) {
  bool space = value_is_missing(arguments[0]) || value_is_true(arguments[0]);
  if (self.kind != VALUE_DICT) return run_fail(run, "'%s' object has no attribute 'items'", value_type(self));
  size_t mark = text_mark(run);
  const ValueDict *dict = self.as.dict;
  bool first = true;
  for (size_t i = 0; i < dict->count; i++) {
    Value key = dict->entries[i].key, value = dict->entries[i].value;
    if (value.kind == VALUE_NONE || value.kind == VALUE_UNDEFINED) continue;
    if (!value_is_string(key)) return run_fail(run, "expected string or bytes-like object");
    for (size_t k = 0; k < key.as.string->size; k++)
      if (strchr(" \t\n\r\f\v/>=", key.as.string->bytes[k]) && key.as.string->bytes[k])
        return run_fail(run, "Invalid character in attribute name: '%.*s'", (int)key.as.string->size,
                        key.as.string->bytes);
    if (!markup_escape(run, key, &key) || !markup_escape(run, value, &value) ||
        ((space || !first) && !text_add(run, " ", 1)) || !text_add_string(run, key.as.string) ||
        !text_add_text(run, "=\"") || !text_add_string(run, value.as.string) || !text_add_text(run, "\""))
      return false;
    first = false;
  }
  return text_cut(run, mark, out);
}
