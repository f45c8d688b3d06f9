#include "template/letters.h"

#include "template/text.h"
#include "template/unicode.h"

#include <string.h>

/* ---- case ---- */

static bool is_cased(int32_t point) {
  return unicode_is_lower(point) || unicode_is_upper(point) || unicode_is_title(point);
}

/* A capital sigma at `at` ends its word: a letter stands before it, and none behind. */
static bool is_final_sigma(const ValueString *string, size_t at, size_t width) {
  size_t back = at, step;
  int32_t point = 0;
  while (back > 0) {
    point = unicode_read_back(string->bytes, back, &step);
    back -= step;
    if (!unicode_is_case_ignorable(point)) break;
    point = 0;
  }
  if (!is_cased(point)) return false;
  for (size_t next = at + width; next < string->size; next += step) {
    point = unicode_read(string->bytes + next, string->size - next, &step);
    if (!unicode_is_case_ignorable(point)) return !is_cased(point);
  }
  return true;
}

static size_t lower(const ValueString *string, size_t at, size_t width, int32_t point, int32_t out[3]) {
  if (point == 0x3A3 && is_final_sigma(string, at, width)) {
    out[0] = 0x3C2;
    return 1;
  }
  return unicode_lower(point, out);
}

static bool begins_word(int32_t point) {
  return unicode_is_space(point) || (point < 0x80 && point && strchr("-({[<", point));
}

bool letters_change(Run *run, const ValueString *string, LettersChange change, Value *out) {
  size_t mark = text_mark(run), width;
  bool first = true;
  for (size_t at = 0; at < string->size; at += width) {
    int32_t point = unicode_read(string->bytes + at, string->size - at, &width), points[3];
    size_t count;
    if (change == CHANGE_UPPER || (change == CHANGE_SWAP && unicode_is_lower(point)) ||
        (change == CHANGE_WORDS && first))
      count = unicode_upper(point, points);
    else if (change == CHANGE_SWAP && !unicode_is_upper(point))
      count = (points[0] = point, 1);
    else if (first && (change == CHANGE_CAPITALIZE || change == CHANGE_TITLE))
      count = unicode_title(point, points);
    else
      count = lower(string, at, width, point, points);
    char bytes[12];
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += unicode_write(points[i], bytes + size);
    if (!text_add_changed(run, string, at, at + width, bytes, size)) return false;
    first = change == CHANGE_TITLE ? !is_cased(point) : change == CHANGE_WORDS ? begins_word(point) : false;
  }
  return text_cut_if_changed(run, mark, string, out);
}

/* ---- classes ---- */

static bool is_of(int32_t point, LettersClass kind, bool first) {
  switch (kind) {
    case LETTERS_SPACE:
      return unicode_is_space(point);
    case LETTERS_ALPHA:
      return unicode_is_alpha(point);
    case LETTERS_DIGIT:
      return unicode_is_digit(point);
    case LETTERS_DECIMAL:
      return unicode_is_decimal(point);
    case LETTERS_ALNUM:
      return point != '_' && unicode_is_word(point);
    case LETTERS_ASCII:
      return point < 0x80;
    case LETTERS_PRINTABLE:
      return unicode_is_printable(point);
    default: /* LETTERS_IDENTIFIER */
      return unicode_is_name(point, first);
  }
}

/* Lower, upper and title: letters without case do not count, but one with it must be there. */
static bool has_case(const ValueString *string, LettersClass kind) {
  bool any = false, cased = false;
  size_t width;
  for (size_t at = 0; at < string->size; at += width) {
    int32_t point = unicode_read(string->bytes + at, string->size - at, &width);
    bool small = unicode_is_lower(point), capital = unicode_is_upper(point) || unicode_is_title(point);
    if (kind == LETTERS_TITLE && ((capital && cased) || (small && !cased))) return false;
    if (kind == LETTERS_LOWER && capital) return false;
    if (kind == LETTERS_UPPER && (small || unicode_is_title(point))) return false;
    cased = small || capital;
    any = any || cased;
  }
  return any;
}

bool letters_are(const ValueString *string, LettersClass kind) {
  if (kind == LETTERS_LOWER || kind == LETTERS_UPPER || kind == LETTERS_TITLE) return has_case(string, kind);
  if (string->size == 0) return kind == LETTERS_ASCII || kind == LETTERS_PRINTABLE;
  size_t width;
  for (size_t at = 0; at < string->size; at += width)
    if (!is_of(unicode_read(string->bytes + at, string->size - at, &width), kind, at == 0)) return false;
  return true;
}

/* ---- ends ---- */

static bool is_cut(const ValueString *characters, const char *at, size_t width, int32_t point) {
  if (!characters) return unicode_is_space(point);
  size_t step;
  for (size_t i = 0; i < characters->size; i += step) {
    step = unicode_width(characters->bytes + i, characters->size - i);
    if (step == width && memcmp(characters->bytes + i, at, width) == 0) return true;
  }
  return false;
}

bool letters_strip(Run *run, const ValueString *string, const ValueString *characters, bool left, bool right,
                   size_t *begin, size_t *end) {
  *begin = 0;
  *end = string->size;
  size_t width, cost = characters ? characters->size : 0; /* of one character: the set is gone through */
  while (left && *begin < *end) {
    if (!run_charge(run, cost)) return false;
    int32_t point = unicode_read(string->bytes + *begin, *end - *begin, &width);
    if (!is_cut(characters, string->bytes + *begin, width, point)) break;
    *begin += width;
  }
  while (right && *begin < *end) {
    if (!run_charge(run, cost)) return false;
    int32_t point = unicode_read_back(string->bytes + *begin, *end - *begin, &width);
    if (!is_cut(characters, string->bytes + *end - width, width, point)) break;
    *end -= width;
  }
  return true;
}
