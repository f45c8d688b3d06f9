/* What a scalar without quotes stands for: where YAML 1.1 and 1.2 agree, and which of what they do not agree about is refused. */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_one_of(const char *text, const char *const *words) {
  for (; *words; words++) {
    if (strcmp(text, *words) == 0) return true;
  }
  return false;
}

static const char *unsigned_part(const char *text) {
  return text + (*text == '-' || *text == '+');
}

static size_t digits(const char *text) {
  return strspn(text, "0123456789");
}

/* [-+]?[0-9]+ */
static bool is_integer(const char *text) {
  const char *at = unsigned_part(text);
  return digits(at) > 0 && !at[digits(at)];
}

/* [-+]? ( .[0-9]+ | [0-9]+ (.[0-9]*)? ) ([eE][-+]?[0-9]+)? : the floats of 1.2's core schema. */
static bool is_float(const char *text) {
  const char *at = unsigned_part(text);
  const size_t whole = digits(at);
  at += whole;
  if (*at == '.') {
    const size_t fraction = digits(++at);
    if (whole == 0 && fraction == 0) return false;
    at += fraction;
  } else if (whole == 0) {
    return false;
  }
  if (*at == 'e' || *at == 'E') {
    at = unsigned_part(at + 1);
    if (digits(at) == 0) return false;
    at += digits(at);
  }
  return !*at;
}

/* 0x1f, 0o17, 0b101; also with _ between the digits. */
static bool has_other_base(const char *text) {
  const char *at = unsigned_part(text);
  if (*at != '0') return false;
  const char *of = at[1] == 'x'   ? "0123456789abcdefABCDEF_"
                   : at[1] == 'o' ? "01234567_"
                   : at[1] == 'b' ? "01_"
                                  : "";
  return *of && at[2] && !at[2 + strspn(at + 2, of)];
}

/* 1_000, 1_000.5: a number of 1.1 with underscores. */
static bool has_underscores(const char *text) {
  char copy[64];
  size_t used = 0;
  const char *at = unsigned_part(text);
  if (!strchr(at, '_') || digits(at) == 0) return false;
  for (; *at; at++) {
    if (*at == '_') continue;
    if (used + 1 == sizeof copy) return false;
    copy[used++] = *at;
  }
  copy[used] = '\0';
  return is_float(copy);
}

/* 1:30, 190:20:30.15: base 60 in 1.1. */
static bool is_sexagesimal(const char *text) {
  const char *at = unsigned_part(text);
  size_t parts = 0;
  at += digits(at);
  for (; *at == ':'; parts++) {
    const size_t length = digits(++at);
    if (length == 0 || length > 2 || (length == 2 && *at > '5')) return false;
    at += length;
  }
  if (*at == '.') at += 1 + digits(at + 1);
  return parts > 0 && digits(unsigned_part(text)) > 0 && !*at;
}

static json_t *refuse(char *why, size_t size, const char *text, const char *what) {
  snprintf(why, size, "'%.60s' %s", text, what);
  return NULL;
}

static json_t *number(const char *text, char *why, size_t size) {
  char *end;
  errno = 0;
  if (is_integer(text)) {
    const char *first = unsigned_part(text);
    if (first[0] == '0' && first[1])
      return refuse(why, size, text,
                    "is octal in YAML 1.1 and decimal in YAML 1.2: write it without the leading 0, or in "
                    "quotes if it is a text");
    const long long value = strtoll(text, &end, 10);
    return errno ? refuse(why, size, text, "has more than 64 bits") : json_integer(value);
  }
  const double value = strtod(text, &end);
  return isfinite(value) ? json_real(value) : refuse(why, size, text, "is larger than any number here");
}

json_t *yaml_plain_value(const char *text, char *why, size_t size) {
  static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
  static const char *const trues[] = {"true", "True", "TRUE", NULL};
  static const char *const falses[] = {"false", "False", "FALSE", NULL};
  static const char *const yes[] = {"yes", "Yes", "YES", "on", "On", "ON", NULL};
  static const char *const no[] = {"no", "No", "NO", "off", "Off", "OFF", NULL};
  static const char *const not_finite[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
  if (is_one_of(text, nulls)) return json_null();
  if (is_one_of(text, trues)) return json_true();
  if (is_one_of(text, falses)) return json_false();
  if (is_one_of(text, yes))
    return refuse(why, size, text,
                  "is true in YAML 1.1 and a text in YAML 1.2: write true, or put the text in quotes");
  if (is_one_of(text, no))
    return refuse(why, size, text,
                  "is false in YAML 1.1 and a text in YAML 1.2: write false, or put the text in quotes");
  if (is_integer(text) || is_float(text)) return number(text, why, size);
  if (has_other_base(text) || has_underscores(text) || is_sexagesimal(text))
    return refuse(why, size, text,
                  "is a number to some versions of YAML and a text to others: write plain decimal digits, or "
                  "put the text in quotes");
  if (is_one_of(unsigned_part(text), not_finite)) return refuse(why, size, text, "is no number here");
  json_t *value = json_string(text);
  return value ? value : refuse(why, size, text, "is no UTF-8 text, or memory is out");
}
