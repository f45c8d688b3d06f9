#include "template/number.h"

#include "template/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_TEXT = 400 /* that is read */ };

/* ---- writing ---- */

/* The shortest that reads back, as sign, digits and exponent of ten: "-d.ddde+xx". */
static void shortest(double real, char out[FLOAT_TEXT]) {
  for (int digits = 0; digits < 17; digits++) {
    snprintf(out, FLOAT_TEXT, "%.*e", digits, real);
    if (strtod(out, NULL) == real) return;
  }
}

void number_print(double real, char out[FLOAT_TEXT]) {
  if (isnan(real) || isinf(real)) {
    strcpy(out, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
    return;
  }
  char text[FLOAT_TEXT], digits[18];
  shortest(real, text);
  char *e = strchr(text, 'e');
  int exponent = atoi(e + 1), count = 0;
  for (const char *c = text; c < e; c++)
    if (*c >= '0' && *c <= '9' && count < 17) digits[count++] = *c;
  digits[count] = '\0';
  const char *sign = *text == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16)
    snprintf(out, FLOAT_TEXT, "%s%c%s%se%c%02d", sign, digits[0], count > 1 ? "." : "", digits + 1,
             exponent < 0 ? '-' : '+', abs(exponent));
  else if (exponent < 0)
    snprintf(out, FLOAT_TEXT, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
  else if (count <= exponent + 1)
    snprintf(out, FLOAT_TEXT, "%s%s%.*s.0", sign, digits, exponent + 1 - count, "0000000000000000");
  else
    snprintf(out, FLOAT_TEXT, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
}

/* ---- reading ---- */

static void trim(const char **text, size_t *size) {
  size_t width;
  while (*size && unicode_is_space(unicode_read(*text, *size, &width))) {
    *text += width;
    *size -= width;
  }
  while (*size && unicode_is_space(unicode_read_back(*text, *size, &width))) *size -= width;
}

/* Digits of every script as those of ASCII; a longer text with others is no number. Decimal digits stand together by tens, from 0 on. */
static bool to_ascii(const char **text, size_t *size, char copy[NUMBER_TEXT]) {
  size_t used = 0, width, plain = 0;
  while (plain < *size && (unsigned char)(*text)[plain] < 0x80) plain++;
  if (plain == *size) return true;
  if (*size >= NUMBER_TEXT) return false;
  for (size_t i = 0; i < *size; i += width) {
    int32_t point = unicode_read(*text + i, *size - i, &width), first = point;
    if (point >= 0x80 && !unicode_is_decimal(point)) return false;
    while (point >= 0x80 && unicode_is_decimal(first - 1)) first--;
    copy[used++] = (char)(point < 0x80 ? point : '0' + (point - first) % 10);
  }
  copy[used] = '\0';
  *text = copy;
  *size = used;
  return true;
}

static int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)(c | 32);
  return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* Skips "0x", "0o", "0b" where the base allows it; base 0 is decided by it. */
static void read_prefix(const char **text, size_t *size, int *base) {
  int named = *size > 1 && **text == '0' ? ((*text)[1] | 32) : 0;
  int of_name = named == 'x' ? 16 : named == 'o' ? 8 : named == 'b' ? 2 : 0;
  if (of_name && (*base == 0 || *base == of_name)) {
    *base = of_name;
    *text += 2;
    *size -= 2;
    if (*size && **text == '_') {
      (*text)++;
      (*size)--;
    }
  } else if (*base == 0) {
    *base = 10;
  }
}

bool number_read_int(const char *text, size_t size, int base, int64_t *out, bool *overflow) {
  char copy[NUMBER_TEXT];
  *overflow = false;
  trim(&text, &size);
  if (!to_ascii(&text, &size, copy)) return false;
  bool negative = size && *text == '-';
  if (size && (*text == '-' || *text == '+')) {
    text++;
    size--;
  }
  bool any_base = base == 0;
  read_prefix(&text, &size, &base);
  if (any_base && base == 10 && size > 1 && *text == '0')
    for (size_t i = 1; i < size; i++)
      if (text[i] != '0' && text[i] != '_') return false;
  int64_t number = 0;
  bool digit_before = false;
  for (size_t i = 0; i < size; i++) {
    if (text[i] == '_' && digit_before && i + 1 < size) {
      digit_before = false;
      continue;
    }
    int digit = digit_value(text[i]);
    if (digit >= base) return false;
    digit_before = true;
    if (__builtin_mul_overflow(number, base, &number) ||
        __builtin_add_overflow(number, negative ? -digit : digit, &number))
      *overflow = true;
  }
  *out = number;
  return digit_before;
}

static bool is_word(const char *text, size_t size, const char *word) {
  return strlen(word) == size && strncasecmp(text, word, size) == 0;
}

/* [sign] digits [. digits] [e [sign] digits], or inf, infinity, nan */
static bool is_float(const char *text) {
  if (*text == '-' || *text == '+') text++;
  size_t size = strlen(text);
  if (is_word(text, size, "inf") || is_word(text, size, "infinity") || is_word(text, size, "nan"))
    return true;
  size_t whole = strspn(text, "0123456789"), fraction = 0;
  text += whole;
  if (*text == '.') {
    fraction = strspn(++text, "0123456789");
    text += fraction;
  }
  if (whole + fraction == 0) return false;
  if ((*text | 32) != 'e') return *text == '\0';
  text++;
  if (*text == '-' || *text == '+') text++;
  size_t exponent = strspn(text, "0123456789");
  return exponent > 0 && text[exponent] == '\0';
}

bool number_read_float(const char *text, size_t size, double *out) {
  char ascii[NUMBER_TEXT], copy[NUMBER_TEXT];
  size_t used = 0;
  trim(&text, &size);
  if (!to_ascii(&text, &size, ascii) || size >= sizeof copy) return false;
  for (size_t i = 0; i < size; i++) {
    bool between = i > 0 && i + 1 < size && digit_value(text[i - 1]) < 10 && digit_value(text[i + 1]) < 10;
    if (text[i] == '_' && between) continue;
    if (text[i] == '\0') return false;
    copy[used++] = text[i];
  }
  copy[used] = '\0';
  if (!is_float(copy)) return false;
  *out = strtod(copy, NULL);
  return true;
}

/* ---- rounding ---- */

double number_round(double real, int digits) {
  if (isnan(real) || isinf(real) || digits > 323) return real;
  if (digits < -308) return copysign(0, real);
  char text[800];
  if (digits >= 0) {
    snprintf(text, sizeof text, "%.*f", digits, real); /* exact, half to even, as Python does */
    return strtod(text, NULL);
  }
  double unit = pow(10, -digits), quotient = real / unit, rounded = round(quotient);
  if (fabs(quotient - rounded) == 0.5) rounded = 2 * round(quotient / 2);
  return rounded * unit;
}

bool number_to_int(double real, int64_t *out) {
  if (!(real >= -9223372036854775808.0 && real < 9223372036854775808.0)) return false;
  *out = (int64_t)real;
  return true;
}
