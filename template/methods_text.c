/* Methods of strings. */
#include "template/format.h"
#include "template/letters.h"
#include "template/markup.h"
#include "template/methods.h"
#include "template/object.h"
#include "template/strings.h"
#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

/* ---- arguments ---- */

static bool given(Value argument) {
  return !value_is_missing(argument) && argument.kind != VALUE_NONE;
}

static bool int_argument(Run *run, Value argument, int64_t fallback, int64_t *out) {
  *out = fallback;
  if (value_is_missing(argument)) return true;
  if (!value_is_integral(argument))
    return run_fail(run, "'%s' object cannot be interpreted as an integer", value_type(argument));
  *out = value_integral(argument);
  return true;
}

static bool text_argument(Run *run, Value argument, const char *method, const ValueString **out) {
  if (!value_is_string(argument))
    return run_fail(run, "%s() argument must be str, not %s", method, value_type(argument));
  *out = argument.as.string;
  return true;
}

static bool range_end(Run *run, Value argument, int64_t count, int64_t fallback, int64_t *out) {
  *out = fallback;
  if (!given(argument)) return true;
  if (!value_is_integral(argument))
    return run_fail(run, "slice indices must be integers or None or have an __index__ method");
  *out = value_integral(argument);
  if (*out < 0) *out += count;
  if (*out < 0) *out = 0;
  return true;
}

bool methods_range(Run *run, Value start, Value stop, size_t count, size_t *begin, size_t *end) {
  int64_t from, to, all = (int64_t)count;
  if (!range_end(run, start, all, 0, &from) || !range_end(run, stop, all, all, &to)) return false;
  *begin = (size_t)from;
  *end = (size_t)(to > all ? all : to);
  return true;
}

/* The same in bytes of a string; *valid: the beginning is not behind its end. */
static bool byte_range(Run *run, const ValueString *string, Value start, Value stop, size_t *begin,
                       size_t *end, bool *valid) {
  *begin = 0;
  *end = string->size;
  *valid = true;
  if (!given(start) && !given(stop)) return true;
  size_t length = string_length(string);
  if (!run_charge(run, string->size) || !methods_range(run, start, stop, length, begin, end)) return false;
  *valid = *begin <= *end;
  if (*valid) {
    *begin = string_offset(string, *begin);
    *end = string_offset(string, *end);
  }
  return true;
}

/* ---- case, and what strings consist of ---- */

#define CHANGE(name, kind)                                                     \
  static bool name(Run *run, Value self, const Value *arguments, Value *out) { \
    (void)arguments;                                                           \
    return letters_change(run, self.as.string, kind, out);                     \
  }
CHANGE(text_upper, CHANGE_UPPER)
CHANGE(text_lower, CHANGE_LOWER)
CHANGE(text_title, CHANGE_TITLE)
CHANGE(text_capitalize, CHANGE_CAPITALIZE)
CHANGE(text_swapcase, CHANGE_SWAP)

#define CLASS(name, kind)                                                      \
  static bool name(Run *run, Value self, const Value *arguments, Value *out) { \
    (void)arguments;                                                           \
    *out = value_bool(letters_are(self.as.string, kind));                      \
    return run_charge(run, self.as.string->size);                              \
  }
CLASS(text_islower, LETTERS_LOWER)
CLASS(text_isupper, LETTERS_UPPER)
CLASS(text_istitle, LETTERS_TITLE)
CLASS(text_isspace, LETTERS_SPACE)
CLASS(text_isalpha, LETTERS_ALPHA)
CLASS(text_isdigit, LETTERS_DIGIT)
CLASS(text_isdecimal, LETTERS_DECIMAL)
CLASS(text_isalnum, LETTERS_ALNUM)
CLASS(text_isascii, LETTERS_ASCII)
CLASS(text_isprintable, LETTERS_PRINTABLE)
CLASS(text_isidentifier, LETTERS_IDENTIFIER)

/* ---- ends ---- */

static bool strip(Run *run, Value self, Value characters, const char *method, bool left, bool right,
                  Value *out) {
  const ValueString *set;
  size_t begin, end;
  if (!strings_cut_set(run, method, characters, &set) || !run_charge(run, self.as.string->size)) return false;
  return letters_strip(run, self.as.string, set, left, right, &begin, &end) &&
         string_slice(run->heap, self.as.string, begin, end, out, run->error);
}

static bool text_strip(Run *run, Value self, const Value *arguments, Value *out) {
  return strip(run, self, arguments[0], "strip", true, true, out);
}

static bool text_lstrip(Run *run, Value self, const Value *arguments, Value *out) {
  return strip(run, self, arguments[0], "lstrip", true, false, out);
}

static bool text_rstrip(Run *run, Value self, const Value *arguments, Value *out) {
  return strip(run, self, arguments[0], "rstrip", false, true, out);
}

static bool has_end(const ValueString *string, size_t begin, size_t end, const ValueString *part,
                    bool front) {
  if (part->size > end - begin) return false;
  return memcmp(string->bytes + (front ? begin : end - part->size), part->bytes, part->size) == 0;
}

/* startswith and endswith: a string, or a tuple of which one has to fit. */
static bool fits(Run *run, Value self, const Value *arguments, bool front, Value *out) {
  const char *method = front ? "startswith" : "endswith";
  size_t begin, end;
  bool valid, found = false;
  if (!byte_range(run, self.as.string, arguments[1], arguments[2], &begin, &end, &valid)) return false;
  Value part = arguments[0];
  if (!value_is_string(part) && !value_is_tuple(part))
    return run_fail(run, "%s first arg must be str or a tuple of str, not %s", method, value_type(part));
  size_t count = value_is_string(part) ? 1 : part.as.list->count;
  for (size_t i = 0; i < count && !found; i++) {
    Value candidate = value_is_string(part) ? part : part.as.list->items[i];
    if (!value_is_string(candidate))
      return run_fail(run, "tuple for %s must only contain str, not %s", method, value_type(candidate));
    found = valid && has_end(self.as.string, begin, end, candidate.as.string, front);
  }
  *out = value_bool(found);
  return true;
}

static bool text_startswith(Run *run, Value self, const Value *arguments, Value *out) {
  return fits(run, self, arguments, true, out);
}

static bool text_endswith(Run *run, Value self, const Value *arguments, Value *out) {
  return fits(run, self, arguments, false, out);
}

static bool remove_end(Run *run, Value self, Value part, const char *method, bool front, Value *out) {
  const ValueString *string = self.as.string, *end;
  if (!text_argument(run, part, method, &end)) return false;
  bool found = has_end(string, 0, string->size, end, front);
  size_t cut = found ? end->size : 0;
  return string_slice(run->heap, string, front ? cut : 0, front ? string->size : string->size - cut, out,
                      run->error);
}

static bool text_removeprefix(Run *run, Value self, const Value *arguments, Value *out) {
  return remove_end(run, self, arguments[0], "removeprefix", true, out);
}

static bool text_removesuffix(Run *run, Value self, const Value *arguments, Value *out) {
  return remove_end(run, self, arguments[0], "removesuffix", false, out);
}

/* ---- finding ---- */

static bool find(Run *run, Value self, const Value *arguments, const char *method, bool last, int64_t *out) {
  const ValueString *string = self.as.string, *part;
  size_t begin, end;
  bool valid;
  *out = -1;
  if (!text_argument(run, arguments[0], method, &part) || !run_charge(run, string->size) ||
      !byte_range(run, string, arguments[1], arguments[2], &begin, &end, &valid))
    return false;
  if (!valid) return true;
  size_t at;
  if (!last)
    at = strings_find(string, part, begin, end);
  else if (!strings_find_last(run, string, part, begin, end, &at))
    return false;
  if (at != SIZE_MAX) *out = (int64_t)unicode_count(string->bytes, at);
  return true;
}

static bool text_find(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t at;
  bool done = find(run, self, arguments, "find", false, &at);
  *out = value_int(done ? at : 0);
  return done;
}

static bool text_rfind(Run *run, Value self, const Value *arguments, Value *out) {
  int64_t at;
  bool done = find(run, self, arguments, "rfind", true, &at);
  *out = value_int(done ? at : 0);
  return done;
}

static bool index_of(Run *run, Value self, const Value *arguments, bool last, Value *out) {
  int64_t at;
  if (!find(run, self, arguments, last ? "rindex" : "index", last, &at)) return false;
  *out = value_int(at);
  return at >= 0 || run_fail(run, "substring not found");
}

static bool text_index(Run *run, Value self, const Value *arguments, Value *out) {
  return index_of(run, self, arguments, false, out);
}

static bool text_rindex(Run *run, Value self, const Value *arguments, Value *out) {
  return index_of(run, self, arguments, true, out);
}

static bool text_count(Run *run, Value self, const Value *arguments, Value *out) {
  const ValueString *string = self.as.string, *part;
  size_t begin, end;
  bool valid;
  if (!text_argument(run, arguments[0], "count", &part) || !run_charge(run, string->size) ||
      !byte_range(run, string, arguments[1], arguments[2], &begin, &end, &valid))
    return false;
  int64_t count = 0;
  if (valid && part->size == 0) {
    count = (int64_t)unicode_count(string->bytes + begin, end - begin) + 1;
  } else if (valid) {
    for (size_t at = begin; (at = strings_find(string, part, at, end)) != SIZE_MAX; at += part->size) count++;
  }
  *out = value_int(count);
  return true;
}

/* ---- parts ---- */

static bool split(Run *run, Value self, const Value *arguments, bool right, Value *out) {
  int64_t count;
  const ValueString *separator = NULL;
  if (given(arguments[0]) && !value_is_string(arguments[0]))
    return run_fail(run, "must be str or None, not %s", value_type(arguments[0]));
  if (given(arguments[0])) separator = arguments[0].as.string;
  return int_argument(run, arguments[1], -1, &count) &&
         strings_split(run, self.as.string, separator, count, right, out);
}

static bool text_split(Run *run, Value self, const Value *arguments, Value *out) {
  return split(run, self, arguments, false, out);
}

static bool text_rsplit(Run *run, Value self, const Value *arguments, Value *out) {
  return split(run, self, arguments, true, out);
}

static bool text_splitlines(Run *run, Value self, const Value *arguments, Value *out) {
  return strings_lines(run, self.as.string, !value_is_missing(arguments[0]) && value_is_true(arguments[0]),
                       out);
}

static bool partition(Run *run, Value self, Value separator, bool last, Value *out) {
  const ValueString *string = self.as.string, *part;
  if (!value_is_string(separator)) return run_fail(run, "must be str, not %s", value_type(separator));
  part = separator.as.string;
  if (part->size == 0) return run_fail(run, "empty separator");
  size_t at, size = part->size;
  if (!last)
    at = strings_find(string, part, 0, string->size);
  else if (!strings_find_last(run, string, part, 0, string->size, &at))
    return false;
  if (at == SIZE_MAX) {
    at = last ? 0 : string->size;
    size = 0;
  }
  const size_t ends[4] = {0, at, at + size, string->size};
  if (!run_charge(run, string->size) || !list_new(run->heap, LIST_TUPLE, 3, out, run->error)) return false;
  for (size_t i = 0; i < 3; i++)
    if (!string_slice(run->heap, string, ends[i], ends[i + 1], &out->as.list->items[out->as.list->count++],
                      run->error))
      return false;
  return true;
}

static bool text_partition(Run *run, Value self, const Value *arguments, Value *out) {
  return partition(run, self, arguments[0], false, out);
}

static bool text_rpartition(Run *run, Value self, const Value *arguments, Value *out) {
  return partition(run, self, arguments[0], true, out);
}

/* ---- putting together ---- */

static bool text_join(Run *run, Value self, const Value *arguments, Value *out) {
  Iterator *iterator;
  if (!value_is_iterable(arguments[0])) return run_fail(run, "can only join an iterable");
  if (!iterate(run, arguments[0], &iterator)) return false;
  bool markup = self.as.string->markup;
  size_t mark = text_mark(run);
  for (size_t i = 0;; i++) {
    Value item;
    bool done;
    if (!iterator_next(run, iterator, &item, &done)) return false;
    if (done) break;
    if (!value_is_string(item))
      return run_fail(run, "sequence item %zu: expected str instance, %s found", i, value_type(item));
    if ((markup && !markup_escape(run, item, &item)) || (i && !text_add_string(run, self.as.string)) ||
        !text_add_string(run, item.as.string))
      return false;
  }
  return text_cut(run, mark, out) && (!markup || markup_mark(run, *out, true, out));
}

static bool text_replace(Run *run, Value self, const Value *arguments, Value *out) {
  const ValueString *old, *new;
  int64_t count;
  if (!value_is_string(arguments[0]) || !value_is_string(arguments[1]))
    return run_fail(run, "replace() argument %d must be str, not %s", value_is_string(arguments[0]) ? 2 : 1,
                    value_type(arguments[value_is_string(arguments[0]) ? 1 : 0]));
  old = arguments[0].as.string;
  new = arguments[1].as.string;
  return int_argument(run, arguments[2], -1, &count) &&
         strings_replace(run, self.as.string, old, new, count, out);
}

static bool pad(Run *run, Value self, const Value *arguments, PadSide side, Value *out) {
  int64_t width;
  const ValueString *fill = NULL;
  if (!int_argument(run, arguments[0], 0, &width)) return false;
  if (!value_is_missing(arguments[1])) {
    if (!value_is_string(arguments[1]) || string_length(arguments[1].as.string) != 1)
      return run_fail(run, "The fill character must be exactly one character long");
    fill = arguments[1].as.string;
  }
  return strings_pad(run, self.as.string, width, fill, side, out);
}

static bool text_center(Run *run, Value self, const Value *arguments, Value *out) {
  return pad(run, self, arguments, PAD_CENTER, out);
}

static bool text_ljust(Run *run, Value self, const Value *arguments, Value *out) {
  return pad(run, self, arguments, PAD_RIGHT, out);
}

static bool text_rjust(Run *run, Value self, const Value *arguments, Value *out) {
  return pad(run, self, arguments, PAD_LEFT, out);
}

static bool text_zfill(Run *run, Value self, const Value *arguments, Value *out) {
  const ValueString *string = self.as.string;
  int64_t width;
  if (!int_argument(run, arguments[0], 0, &width)) return false;
  size_t sign = string->size && (*string->bytes == '-' || *string->bytes == '+'), mark = text_mark(run);
  return text_add_slice(run, string, 0, sign) &&
         text_repeat(run, "0", 1, width - (int64_t)string_length(string)) &&
         text_add_slice(run, string, sign, string->size) && text_cut_if_changed(run, mark, string, out);
}

static bool text_expandtabs(Run *run, Value self, const Value *arguments, Value *out) {
  const ValueString *string = self.as.string;
  int64_t size, column = 0;
  if (!int_argument(run, arguments[0], 8, &size)) return false;
  size_t mark = text_mark(run), width;
  for (size_t at = 0; at < string->size; at += width) {
    width = unicode_width(string->bytes + at, string->size - at);
    char c = string->bytes[at];
    int64_t blanks = size > 0 ? size - column % size : 0;
    if (!(c == '\t' ? text_repeat(run, " ", 1, blanks) : text_add_slice(run, string, at, at + width)))
      return false;
    column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? blanks : 1);
  }
  return text_cut_if_changed(run, mark, string, out);
}

static bool text_format(Run *run, Value self, const CallArguments *arguments, Value *out) {
  return format_braces(run, self.as.string, arguments, out);
}

/* ---- the table ---- */

static const Builtin methods[] = {
    {"capitalize", "", .function = text_capitalize},
    {"casefold", "", .function = NULL},
    {"center", "/width ?/fillchar", .function = text_center},
    {"count", "/sub ?/start ?/end", .function = text_count},
    {"encode", "", .function = NULL},
    {"endswith", "/suffix ?/start ?/end", .function = text_endswith},
    {"expandtabs", "?tabsize", .function = text_expandtabs},
    {"find", "/sub ?/start ?/end", .function = text_find},
    {"format", "", .variadic = text_format},
    {"format_map", "", .function = NULL},
    {"index", "/sub ?/start ?/end", .function = text_index},
    {"isalnum", "", .function = text_isalnum},
    {"isalpha", "", .function = text_isalpha},
    {"isascii", "", .function = text_isascii},
    {"isdecimal", "", .function = text_isdecimal},
    {"isdigit", "", .function = text_isdigit},
    {"isidentifier", "", .function = text_isidentifier},
    {"islower", "", .function = text_islower},
    {"isnumeric", "", .function = NULL},
    {"isprintable", "", .function = text_isprintable},
    {"isspace", "", .function = text_isspace},
    {"istitle", "", .function = text_istitle},
    {"isupper", "", .function = text_isupper},
    {"join", "/iterable", .function = text_join},
    {"ljust", "/width ?/fillchar", .function = text_ljust},
    {"lower", "", .function = text_lower},
    {"lstrip", "?/chars", .function = text_lstrip},
    {"maketrans", "", .function = NULL},
    {"partition", "/sep", .function = text_partition},
    {"removeprefix", "/prefix", .function = text_removeprefix},
    {"removesuffix", "/suffix", .function = text_removesuffix},
    {"replace", "/old /new ?/count", .function = text_replace},
    {"rfind", "/sub ?/start ?/end", .function = text_rfind},
    {"rindex", "/sub ?/start ?/end", .function = text_rindex},
    {"rjust", "/width ?/fillchar", .function = text_rjust},
    {"rpartition", "/sep", .function = text_rpartition},
    {"rsplit", "?sep ?maxsplit", .function = text_rsplit},
    {"rstrip", "?/chars", .function = text_rstrip},
    {"split", "?sep ?maxsplit", .function = text_split},
    {"splitlines", "?keepends", .function = text_splitlines},
    {"startswith", "/prefix ?/start ?/end", .function = text_startswith},
    {"strip", "?/chars", .function = text_strip},
    {"swapcase", "", .function = text_swapcase},
    {"title", "", .function = text_title},
    {"translate", "", .function = NULL},
    {"upper", "", .function = text_upper},
    {"zfill", "/width", .function = text_zfill},
};

const BuiltinTable text_methods_table = {methods, sizeof methods / sizeof *methods};
