/* Numbers and strings laid out by width, precision and sign. */
#include "template/format.h"

#include "template/number.h"
#include "template/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PRECISION = 500 };

/* ---- layout ---- */

static bool fill(Run *run, const FieldFormat *format, int64_t count) {
  return text_repeat(run, format->fill_size ? format->fill : " ", format->fill_size ? format->fill_size : 1,
                     count);
}

/* Digits with a separator after every `group`, from the point leftwards; padded with zeros to `width`. */
static size_t group_digits(const char *digits, size_t count, char separator, size_t group, int64_t width,
                           char *out, size_t capacity) {
  char reversed[1200];
  size_t used = 0, at = 0;
  for (size_t i = 0; (i < count || (int64_t)used < width) && used + 2 < sizeof reversed; i++) {
    if (i && i % group == 0) reversed[used++] = separator;
    reversed[used++] = i < count ? digits[count - 1 - i] : '0';
  }
  for (; at < used && at < capacity; at++) out[at] = reversed[used - 1 - at];
  return at;
}

/* sign, prefix ("0x") and digits with what follows them ("." and more). */
static bool lay_out(Run *run, const FieldFormat *format, const char *sign, const char *digits, size_t whole,
                    const char *rest) {
  char grouped[1200];
  size_t sign_size = strlen(sign), rest_size = strlen(rest);
  bool by_zero = format->zero || (format->align == '=' && format->fill_size == 1 && *format->fill == '0');
  if (format->grouping) {
    int64_t width = by_zero ? format->width - (int64_t)(sign_size + rest_size) : 0;
    bool of_four = format->grouping == '_' && format->type && strchr("xXob", format->type);
    if (width > 1000) return run_fail(run, "a number of more than 1000 digits");
    whole = group_digits(digits, whole, format->grouping, of_four ? 4 : 3, width, grouped, sizeof grouped);
    digits = grouped;
  }
  int64_t missing = format->width - (int64_t)(sign_size + whole + rest_size);
  char align = format->align ? format->align : format->zero ? '=' : '>';
  int64_t left = missing <= 0 || align == '<' || align == '=' ? 0 : align == '^' ? missing / 2 : missing;
  int64_t inner = align == '=' && missing > 0 ? missing : 0;
  FieldFormat padding = *format;
  if (format->zero && !format->fill_size) {
    padding.fill = "0";
    padding.fill_size = 1;
  }
  return fill(run, &padding, left) && text_add(run, sign, sign_size) && fill(run, &padding, inner) &&
         text_add(run, digits, whole) && text_add(run, rest, rest_size) &&
         (missing <= 0 || fill(run, &padding, missing - left - inner));
}

static const char *sign_of(const FieldFormat *format, bool negative) {
  return negative ? "-" : format->sign == '+' ? "+" : format->sign == ' ' ? " " : "";
}

bool format_string(Run *run, const FieldFormat *format, const ValueString *string) {
  size_t length = string_length(string), end = string->size;
  if (format->precision >= 0 && (uint64_t)format->precision < length) {
    length = (size_t)format->precision;
    end = string_offset(string, length);
  }
  int64_t missing = format->width - (int64_t)length;
  if (missing < 0) missing = 0;
  int64_t left = format->align == '>' ? missing : format->align == '^' ? missing / 2 : 0;
  return fill(run, format, left) && text_add_slice(run, string, 0, end) && fill(run, format, missing - left);
}

/* ---- whole numbers ---- */

static void binary_digits(uint64_t number, char *out) {
  char reversed[65];
  size_t used = 0, at = 0;
  do reversed[used++] = (char)('0' + (number & 1));
  while (number >>= 1);
  while (used) out[at++] = reversed[--used];
  out[at] = '\0';
}

bool format_int(Run *run, const FieldFormat *format, int64_t number) {
  uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
  char digits[80], sign[8];
  char type = format->type ? format->type : 'd';
  if (strchr("eEfFgG%", type)) return format_real(run, format, (double)number);
  if (format->precision > MAX_PRECISION) return run_fail(run, "a precision of more than %d", MAX_PRECISION);
  if (type == 'b')
    binary_digits(size, digits);
  else
    snprintf(digits, sizeof digits,
             type == 'x'   ? "%" PRIx64
             : type == 'X' ? "%" PRIX64
             : type == 'o' ? "%" PRIo64
                           : "%" PRIu64,
             size);
  bool prefixed = format->alternate && strchr("xXob", type);
  snprintf(sign, sizeof sign, "%s%s%.1s", sign_of(format, number < 0), prefixed ? "0" : "",
           prefixed ? &type : "");
  char long_digits[MAX_PRECISION + 80];
  int zeros =
      format->precision > (int64_t)strlen(digits) ? (int)(format->precision - (int64_t)strlen(digits)) : 0;
  memset(long_digits, '0', (size_t)zeros);
  strcpy(long_digits + zeros, digits);
  return lay_out(run, format, sign, long_digits, strlen(long_digits), "");
}

/* ---- floats ---- */

/* Python's float without a type: as repr, or as %g with a precision, but always with a point. */
static void print_plain(const FieldFormat *format, double number, char *out, size_t size) {
  char shortest[FLOAT_TEXT];
  number_print(number, shortest);
  if (format->precision < 0) {
    snprintf(out, size, "%s", shortest);
    return;
  }
  snprintf(out, size, "%.*g", format->precision ? (int)format->precision : 1, number);
  if (!strpbrk(out, ".einf")) {
    size_t used = strlen(out);
    /* Where the point would only just be reached, Python writes an exponent. */
    if ((int64_t)used >= format->precision)
      snprintf(out, size, "%.*e", format->precision > 1 ? (int)format->precision - 1 : 0, number);
    else
      snprintf(out + used, size - used, ".0");
  }
}

bool format_real(Run *run, const FieldFormat *format, double number) {
  char text[1200], pattern[8];
  if (format->precision > MAX_PRECISION) return run_fail(run, "a precision of more than %d", MAX_PRECISION);
  double size = fabs(number);
  char type = format->type == '%' ? 'f' : format->type == 'n' ? 'g' : format->type;
  if (format->type == '%') size *= 100;
  snprintf(pattern, sizeof pattern, "%%%s.*%c", format->alternate ? "#" : "", type);
  if (isnan(size) || isinf(size))
    snprintf(text, sizeof text, "%s", isnan(size) ? "nan" : "inf");
  else if (!type)
    print_plain(format, size, text, sizeof text);
  else
    snprintf(text, sizeof text, pattern,
             /* NOLINT: made above */ format->precision < 0 ? 6 : (int)format->precision, size);
  if (format->type && isupper((unsigned char)format->type))
    for (char *c = text; *c; c++) *c = (char)toupper((unsigned char)*c);
  if (format->type == '%') strcat(text, "%");
  size_t whole = strspn(text, "0123456789");
  return lay_out(run, format, sign_of(format, signbit(number) && !isnan(number)), text, whole, text + whole);
}
