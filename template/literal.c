#include "template/literal.h"

#include "template/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static bool is_digit(char c, int base) {
  if (base == 16) return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
  return c >= '0' && c < '0' + base;
}

/* Digits that single underscores may separate, from `at` on; the end. */
static size_t digits(const char *text, size_t size, size_t at, int base) {
  while (at < size) {
    size_t digit = at + (text[at] == '_');
    if (digit >= size || !is_digit(text[digit], base)) break;
    at = digit + 1;
  }
  return at;
}

/* As above, but not beginning with an underscore. */
static size_t plain_digits(const char *text, size_t size, size_t at) {
  return at < size && is_digit(text[at], 10) ? digits(text, size, at, 10) : at;
}

static size_t float_size(const char *text, size_t size) {
  size_t whole = plain_digits(text, size, 0), end = whole;
  if (!whole) return 0;
  if (end < size && text[end] == '.') {
    size_t fraction = plain_digits(text, size, end + 1);
    if (fraction > end + 1) end = fraction;
  }
  if (end < size && (text[end] | 32) == 'e') {
    size_t power = end + 1;
    if (power < size && (text[power] == '+' || text[power] == '-')) power++;
    size_t exponent = plain_digits(text, size, power);
    if (exponent > power) return exponent;
  }
  return end > whole ? end : 0;
}

static int prefix_base(const char *text, size_t size) {
  if (size < 2 || *text != '0') return 10;
  char c = (char)(text[1] | 32);
  return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
}

size_t literal_number_size(const char *text, size_t size, bool after_dot, TokenKind *kind) {
  size_t real = after_dot ? 0 : float_size(text, size);
  *kind = real ? TOKEN_FLOAT : TOKEN_INTEGER;
  if (real) return real;
  int base = prefix_base(text, size);
  if (base != 10) {
    size_t end = digits(text, size, 2, base);
    if (end > 2) return end;
  }
  if (!size || !is_digit(*text, 10)) return 0;
  if (*text != '0') return digits(text, size, 0, 10);
  size_t end = 1; /* zeros alone */
  while (end < size && (text[end] == '0' || (text[end] == '_' && end + 1 < size && text[end + 1] == '0')))
    end++;
  return end;
}

const char *literal_number(const char *text, size_t size, TokenKind kind, Value *out) {
  char copy[400];
  size_t used = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] == '_') continue;
    if (used == sizeof copy - 1) return "a number of more than 400 digits";
    copy[used++] = text[i];
  }
  copy[used] = '\0';
  if (kind == TOKEN_FLOAT) {
    *out = value_float(strtod(copy, NULL));
    return NULL;
  }
  int base = prefix_base(copy, used);
  int64_t number = 0;
  for (const char *digit = copy + (base == 10 ? 0 : 2); *digit; digit++) {
    int value = *digit <= '9' ? *digit - '0' : (*digit | 32) - 'a' + 10;
    if (__builtin_mul_overflow(number, base, &number) || __builtin_add_overflow(number, value, &number))
      return "a whole number of more than 64 bits";
  }
  *out = value_int(number);
  return NULL;
}

/* ---- strings ---- */

typedef struct Unescape {
  const char *text;
  size_t size, at;
  char *out;
  size_t used;
  const char *problem;
} Unescape;

static void put(Unescape *work, int32_t point) {
  work->used += unicode_write(point, work->out + work->used);
}

/* \xhh, \uhhhh, \Uhhhhhhhh: `digits` hexadecimal digits at work->at. */
static void hexadecimal(Unescape *work, int count) {
  int32_t point = 0;
  for (int i = 0; i < count; i++, work->at++) {
    char c = work->at < work->size ? work->text[work->at] : '\0';
    if (!is_digit(c, 16) || point > 0x110000 / 16) {
      work->problem = "a broken \\x, \\u or \\U escape";
      return;
    }
    point = point * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
    work->problem = "an escape that is no character (surrogates are none)";
  else
    put(work, point);
}

static void octal(Unescape *work) {
  int32_t point = 0;
  for (int i = 0; i < 3 && work->at < work->size && is_digit(work->text[work->at], 8); i++)
    point = point * 8 + (work->text[work->at++] - '0');
  put(work, point);
}

/* A backslash before a character beyond ASCII: jinja2 writes the character as Python's escape first, and that one's backslash
 * is then the escaped one. */
static void escaped_wide(Unescape *work) {
  size_t width;
  int32_t point = unicode_read(work->text + work->at, work->size - work->at, &width);
  work->at += width;
  if (point >= UNICODE_BROKEN) point -= UNICODE_BROKEN;
  const char *format = point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x";
  work->used += (size_t)sprintf(work->out + work->used, format, (unsigned)point);
}

static void escape(Unescape *work) {
  static const char simple[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
  char c = work->at < work->size ? work->text[work->at] : '\\';
  if ((unsigned char)c >= 0x80) {
    escaped_wide(work);
    return;
  }
  if (is_digit(c, 8)) {
    octal(work);
    return;
  }
  work->at++;
  for (size_t i = 0; i + 1 < sizeof simple; i += 2)
    if (simple[i] == c) {
      work->out[work->used++] = simple[i + 1];
      return;
    }
  if (c == 'x' || c == 'u' || c == 'U') {
    hexadecimal(work, c == 'x' ? 2 : c == 'u' ? 4 : 8);
  } else if (c == 'N') {
    work->problem = "\\N{...} escapes are not supported";
  } else if (c != '\n') {
    work->out[work->used++] = '\\';
    work->out[work->used++] = c;
  }
}

bool literal_string(ValueHeap *heap, const char *text, size_t size, Value *out, const char **problem,
                    Error *error) {
  *problem = NULL;
  if (!memchr(text, '\\', size)) {
    if (!value_text(heap, text, size, false, out, error)) return false;
  } else {
    /* A wide character of two bytes behind a backslash becomes six. */
    Unescape work = {.text = text, .size = size, .out = heap_alloc(heap, size * 3 + 16, error)};
    if (!work.out) return false;
    while (work.at < size && !work.problem) {
      char c = text[work.at++];
      if (c == '\\')
        escape(&work);
      else
        work.out[work.used++] = c;
    }
    *problem = work.problem;
    if (!value_text(heap, work.out, work.used, false, out, error)) return false;
  }
  (void)string_length(out->as.string); /* counted here, since renderings in several threads share it */
  return true;
}
