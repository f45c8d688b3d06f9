#include "template/strings.h"

#include "template/object.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

/* ---- finding ---- */

size_t strings_find(const ValueString *string, const ValueString *part, size_t from, size_t to) {
  if (from > to || part->size > to - from) return SIZE_MAX;
  if (part->size == 0) return from;
  const char *found = memmem(string->bytes + from, to - from, part->bytes, part->size);
  return found ? (size_t)(found - string->bytes) : SIZE_MAX;
}

bool strings_find_last(Run *run, const ValueString *string, const ValueString *part, size_t from, size_t to,
                       size_t *out) {
  *out = SIZE_MAX;
  if (from > to || part->size > to - from) return true;
  for (size_t at = to - part->size + 1; at-- > from;) {
    if (!run_charge(run, part->size)) return false; /* long parts are compared again at every place */
    if (memcmp(string->bytes + at, part->bytes, part->size) != 0) continue;
    *out = at;
    return true;
  }
  return true;
}

/* ---- replace ---- */

/* An empty part is found before every code point and at the end. */
static bool replace_nothing(Run *run, const ValueString *string, const ValueString *new, int64_t count) {
  size_t at = 0;
  for (; count != 0; count--) {
    if (!run_step(run) || !text_add_string(run, new)) return false;
    if (at == string->size) return true;
    size_t width = unicode_width(string->bytes + at, string->size - at);
    if (!text_add_slice(run, string, at, at + width)) return false;
    at += width;
  }
  return text_add_slice(run, string, at, string->size);
}

bool strings_replace(Run *run, const ValueString *string, const ValueString *old, const ValueString *new,
                     int64_t count, Value *out) {
  size_t mark = text_mark(run), plain = 0;
  if (!run_charge(run, string->size)) return false;
  if (old->size == 0) {
    if (!replace_nothing(run, string, new, count)) return false;
    return text_cut(run, mark, out);
  }
  for (; count != 0; count--) {
    size_t at = strings_find(string, old, plain, string->size);
    if (at == SIZE_MAX) break;
    if (!run_step(run) || !text_add_slice(run, string, plain, at) || !text_add_string(run, new)) return false;
    plain = at + old->size;
  }
  if (plain == 0) {
    *out = value_of_string(string);
    return true;
  }
  return text_add_slice(run, string, plain, string->size) && text_cut(run, mark, out);
}

/* ---- split ---- */

static bool push_part(Run *run, const ValueString *string, size_t begin, size_t end, Value list) {
  Value part;
  return run_step(run) && string_slice(run->heap, string, begin, end, &part, run->error) &&
         value_list_push(run->heap, list, part, run->error);
}

static bool split_at(Run *run, const ValueString *string, const ValueString *separator, int64_t count,
                     Value list) {
  size_t begin = 0;
  for (; count != 0; count--) {
    size_t at = strings_find(string, separator, begin, string->size);
    if (at == SIZE_MAX) break;
    if (!push_part(run, string, begin, at, list)) return false;
    begin = at + separator->size;
  }
  return push_part(run, string, begin, string->size, list);
}

/* Parts from the right, in reverse order. */
static bool split_back(Run *run, const ValueString *string, const ValueString *separator, int64_t count,
                       Value list) {
  size_t end = string->size;
  for (; count != 0; count--) {
    size_t at;
    if (!strings_find_last(run, string, separator, 0, end, &at)) return false;
    if (at == SIZE_MAX) break;
    if (!push_part(run, string, at + separator->size, end, list)) return false;
    end = at;
  }
  return push_part(run, string, 0, end, list);
}

static size_t skip_space(const ValueString *string, size_t at) {
  size_t width;
  while (at < string->size && unicode_is_space(unicode_read(string->bytes + at, string->size - at, &width)))
    at += width;
  return at;
}

static size_t skip_space_back(const ValueString *string, size_t at) {
  size_t width;
  while (at > 0 && unicode_is_space(unicode_read_back(string->bytes, at, &width))) at -= width;
  return at;
}

static bool split_space(Run *run, const ValueString *string, int64_t count, Value list) {
  size_t at = skip_space(string, 0), width;
  while (at < string->size) {
    size_t begin = at;
    if (count-- == 0) return push_part(run, string, begin, string->size, list);
    while (at < string->size &&
           !unicode_is_space(unicode_read(string->bytes + at, string->size - at, &width)))
      at += width;
    if (!push_part(run, string, begin, at, list)) return false;
    at = skip_space(string, at);
  }
  return true;
}

static bool split_space_back(Run *run, const ValueString *string, int64_t count, Value list) {
  size_t at = skip_space_back(string, string->size), width;
  while (at > 0) {
    size_t end = at;
    if (count-- == 0) return push_part(run, string, 0, end, list);
    while (at > 0 && !unicode_is_space(unicode_read_back(string->bytes, at, &width))) at -= width;
    if (!push_part(run, string, at, end, list)) return false;
    at = skip_space_back(string, at);
  }
  return true;
}

static void reverse_list(ValueList *list) {
  for (size_t i = 0; i < list->count / 2; i++) {
    Value swap = list->items[i];
    list->items[i] = list->items[list->count - 1 - i];
    list->items[list->count - 1 - i] = swap;
  }
}

bool strings_split(Run *run, const ValueString *string, const ValueString *separator, int64_t count,
                   bool from_right, Value *out) {
  if (separator && separator->size == 0) return run_fail(run, "empty separator");
  if (!run_charge(run, string->size) || !list_new(run->heap, LIST_PLAIN, 0, out, run->error)) return false;
  if (!from_right)
    return separator ? split_at(run, string, separator, count, *out) : split_space(run, string, count, *out);
  bool done = separator ? split_back(run, string, separator, count, *out)
                        : split_space_back(run, string, count, *out);
  reverse_list(out->as.list);
  return done;
}

bool strings_lines(Run *run, const ValueString *string, bool keep_ends, Value *out) {
  if (!run_charge(run, string->size) || !list_new(run->heap, LIST_PLAIN, 0, out, run->error)) return false;
  size_t begin = 0, width;
  for (size_t at = 0; at < string->size; at += width) {
    int32_t point = unicode_read(string->bytes + at, string->size - at, &width);
    if (!unicode_is_line_end(point)) continue;
    if (point == '\r' && at + 1 < string->size && string->bytes[at + 1] == '\n') width = 2;
    if (!push_part(run, string, begin, keep_ends ? at + width : at, *out)) return false;
    begin = at + width;
  }
  return begin == string->size || push_part(run, string, begin, string->size, *out);
}

/* ---- padding and cutting ---- */

bool strings_pad(Run *run, const ValueString *string, int64_t width, const ValueString *fill, PadSide side,
                 Value *out) {
  int64_t missing = width - (int64_t)string_length(string);
  *out = value_of_string(string);
  if (missing <= 0) return true;
  int64_t left = side == PAD_LEFT ? missing : side == PAD_RIGHT ? 0 : missing / 2 + (missing & width & 1);
  const char *bytes = fill ? fill->bytes : " ";
  size_t size = fill ? fill->size : 1, mark = text_mark(run);
  return text_repeat(run, bytes, size, left) && text_add_string(run, string) &&
         text_repeat(run, bytes, size, missing - left) && text_cut(run, mark, out);
}

bool strings_cut_set(Run *run, const char *method, Value argument, const ValueString **out) {
  *out = NULL;
  if (value_is_missing(argument) || argument.kind == VALUE_NONE) return true;
  if (!value_is_string(argument)) return run_fail(run, "%s arg must be None or str", method);
  *out = argument.as.string;
  return true;
}

/* ---- tags ---- */

/* Without stretches that begin with `open` and end with `close`. */
static bool strip_between(Run *run, Value *text, const char *open, const char *close) {
  const ValueString *string = text->as.string;
  size_t mark = text_mark(run), at = 0;
  for (;;) {
    const char *begin = memmem(string->bytes + at, string->size - at, open, strlen(open));
    const char *end =
        begin ? memmem(begin, (size_t)(string->bytes + string->size - begin), close, strlen(close)) : NULL;
    if (!end) break;
    if (!text_add_slice(run, string, at, (size_t)(begin - string->bytes))) return false;
    at = (size_t)(end - string->bytes) + strlen(close);
  }
  return text_add_slice(run, string, at, string->size) && text_cut_if_changed(run, mark, string, text);
}

static bool unescape(Run *run, Value *text) {
  static const struct {
    const char *name;
    char letter;
  } entities[] = {{"&amp;", '&'},  {"&lt;", '<'},  {"&gt;", '>'},
                  {"&#39;", '\''}, {"&#34;", '"'}, {"&quot;", '"'}};
  const ValueString *string = text->as.string;
  size_t mark = text_mark(run), plain = 0;
  for (size_t at = 0; at < string->size; at++) {
    if (string->bytes[at] != '&') continue;
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
      size_t size = strlen(entities[i].name);
      if (string->size - at < size || memcmp(string->bytes + at, entities[i].name, size) != 0) continue;
      if (!text_add_slice(run, string, plain, at) ||
          !text_add_changed(run, string, at, at + size, &entities[i].letter, 1))
        return false;
      plain = at + size;
      at = plain - 1;
      break;
    }
  }
  return text_add_slice(run, string, plain, string->size) && text_cut_if_changed(run, mark, string, text);
}

bool strings_strip_tags(Run *run, const ValueString *string, Value *out) {
  Value words;
  *out = value_of_string(string);
  if (!strip_between(run, out, "<!--", "-->") || !strip_between(run, out, "<", ">") ||
      !strings_split(run, out->as.string, NULL, -1, false, &words))
    return false;
  size_t mark = text_mark(run);
  for (size_t i = 0; i < words.as.list->count; i++)
    if ((i && !text_add(run, " ", 1)) || !text_add_string(run, words.as.list->items[i].as.string))
      return false;
  return text_cut(run, mark, out) && unescape(run, out);
}
