#include "scoring/exact.h"

#include <ctype.h>
#include <string.h>

bool exact_extract(const Regex *pattern, RegexScratch *scratch, const char *text, size_t bytes,
                   const char **part, size_t *part_bytes, bool *found, Error *error) {
  *part = text;
  *part_bytes = bytes;
  *found = true;
  if (!pattern) return true;
  RegexCursor cursor = {0};
  RegexMatch match, taken;
  bool more = true;
  for (*found = false;; *found = true) {
    if (!regex_next(pattern, scratch, text, bytes, &cursor, &match, &more, error)) return false;
    if (!more) return true;
    if (!regex_group(scratch, &taken)) taken = match;
    *part = text + taken.begin;
    *part_bytes = taken.end - taken.begin;
  }
}

/* -- numbers ---------------------------------------------------------------------------------------------- */

typedef struct Text {
  const char *at;
  size_t bytes;
} Text;

static Text trim(Text text) {
  while (text.bytes && isspace((unsigned char)*text.at)) text.at++, text.bytes--;
  while (text.bytes && isspace((unsigned char)text.at[text.bytes - 1])) text.bytes--;
  return text;
}

static bool skip(Text *text, const char *what) {
  const size_t bytes = strlen(what);
  if (text->bytes < bytes || memcmp(text->at, what, bytes) != 0) return false;
  text->at += bytes;
  text->bytes -= bytes;
  return true;
}

static size_t digits_at(Text text) {
  size_t count = 0;
  while (count < text.bytes && isdigit((unsigned char)text.at[count])) count++;
  return count;
}

/* Its digits, without zeros that say nothing; a number is these and where its point stands. */
typedef struct Number {
  bool negative;
  Buffer digits;
  size_t whole; /* of them before the point */
} Number;

static void drop(Text *text, size_t count) {
  text->at += count;
  text->bytes -= count;
}

/* "1000" or "1,000,000": digits, in groups of three where there are commas. */
static bool read_whole(Text *text, Number *number) {
  Error ignored = {0};
  size_t count = digits_at(*text);
  const bool grouped = count >= 1 && count <= 3 && count < text->bytes && text->at[count] == ',';
  bool ok = buffer_append(&number->digits, text->at, count, &ignored);
  drop(text, count);
  while (ok && grouped && skip(text, ",")) {
    ok = digits_at(*text) == 3 && buffer_append(&number->digits, text->at, 3, &ignored);
    if (ok) drop(text, 3);
  }
  return ok;
}

static bool read_number(Text text, Number *number) {
  static const char *const signs[] = {"$", "\xe2\x82\xac", "\xc2\xa3"};
  Error ignored = {0};
  *number = (Number){.negative = skip(&text, "-")};
  if (!number->negative) (void)skip(&text, "+");
  for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
    if (skip(&text, signs[i])) break;
  }
  if (!read_whole(&text, number)) return false;
  number->whole = number->digits.size;
  if (text.bytes > 1 && skip(&text, ".")) { /* a last point ends the sentence */
    const size_t count = digits_at(text);
    if (!buffer_append(&number->digits, text.at, count, &ignored)) return false;
    drop(&text, count);
  }
  if (!skip(&text, "%")) (void)skip(&text, ".");
  return text.bytes == 0 && number->digits.size > 0;
}

/* Zeros before the first and, behind the point, after the last digit that says something. */
static void strip_zeros(Number *number) {
  Buffer *digits = &number->digits;
  size_t zeros = 0;
  while (digits->size > number->whole && digits->data[digits->size - 1] == '0') digits->size--;
  while (zeros < number->whole && digits->data[zeros] == '0') zeros++;
  memmove(digits->data, digits->data + zeros, digits->size -= zeros);
  number->whole -= zeros;
  if (digits->size == 0) number->negative = false;
}

static bool same_number(Text a, Text b) {
  Number x, y = {0};
  bool same = read_number(a, &x) && read_number(b, &y);
  if (same) {
    strip_zeros(&x);
    strip_zeros(&y);
    same = x.negative == y.negative && x.whole == y.whole && x.digits.size == y.digits.size &&
           memcmp(x.digits.data, y.digits.data, x.digits.size) == 0;
  }
  buffer_free(&x.digits);
  buffer_free(&y.digits);
  return same;
}

bool exact_equal(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
  const Text x = trim((Text){a, a_bytes}), y = trim((Text){b, b_bytes});
  if (x.bytes == y.bytes && memcmp(x.at, y.at, x.bytes) == 0) return true;
  return same_number(x, y);
}
