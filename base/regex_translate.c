/* Patterns of other engines in PCRE2's spelling: what is listed here goes through, nothing else does. */
#include "base/regex_translate.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GROUPS = 64, MAX_REPEAT = 1000 };

typedef struct Group {
  size_t begin;  /* in out */
  size_t inside; /* in the pattern: behind the opening */
  bool folds;    /* whether case is ignored around it */
  bool looks;    /* a lookaround, which cannot be repeated */
} Group;

typedef struct Translation {
  const char *pattern;
  size_t bytes, at;
  RegexSyntax syntax;
  Buffer *out;
  Error *error;
  Group groups[MAX_GROUPS];
  int depth;
  bool folds;      /* case is ignored here */
  bool repeatable; /* a quantifier may follow: what it repeats begins at `atom` of out */
  size_t atom;
  char last_folded; /* the letter right before, where case is ignored; 0: none */
} Translation;

static bool refuse(const Translation *t, size_t from, size_t to, const char *why) {
  size_t shown = to - from < 24 ? to - from : 24;
  return error_set(t->error, ERROR_MODEL, "\"%.*s\" at byte %zu of the pattern: %s", (int)shown,
                   t->pattern + from, from, why);
}

static bool put(Translation *t, const char *text, size_t bytes) {
  return buffer_append(t->out, text, bytes, t->error);
}

static bool put_text(Translation *t, const char *text) {
  return buffer_text(t->out, text, t->error);
}

/* The byte `ahead` of the place, 0 behind the end. (A NUL in a pattern is copied like any other byte.) */
static char peek(const Translation *t, size_t ahead) {
  return t->at + ahead < t->bytes ? t->pattern[t->at + ahead] : '\0';
}

static bool starts(const Translation *t, const char *text) {
  size_t length = strlen(text);
  return t->bytes - t->at >= length && memcmp(t->pattern + t->at, text, length) == 0;
}

static void begin_atom(Translation *t) {
  t->atom = t->out->size;
  t->repeatable = true;
  t->last_folded = 0;
}

/* The character at the place, standing for itself. */
static bool put_plain(Translation *t) {
  if (ispunct((unsigned char)t->pattern[t->at]) && !put_text(t, "\\")) return false;
  do {
    if (!put(t, t->pattern + t->at++, 1)) return false;
  } while (t->at < t->bytes && ((unsigned char)t->pattern[t->at] & 0xc0) == 0x80);
  return true;
}

/* ---- properties ---- */

/* General categories mean the same everywhere. Scripts by name are those of Script in Oniguruma, and of
 * Script_Extensions in PCRE2 unless it is asked for the other. */
static bool put_property(Translation *t, bool negated, size_t from) {
  static const char *const categories[] = {
      "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd",
      "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};
  static const char *const scripts[] = {
      "Arabic",  "Armenian", "Bengali",  "Cyrillic", "Devanagari", "Ethiopic",  "Georgian",
      "Greek",   "Gujarati", "Gurmukhi", "Han",      "Hangul",     "Hebrew",    "Hiragana",
      "Kannada", "Katakana", "Khmer",    "Lao",      "Latin",      "Malayalam", "Myanmar",
      "Sinhala", "Tamil",    "Telugu",   "Thai",     "Tibetan"};
  const char *open = t->pattern + t->at,
             *end = peek(t, 0) == '{' ? memchr(open, '}', t->bytes - t->at) : NULL;
  if (!end) return refuse(t, from, t->at + 1, "a property is written \\p{...}");
  const char *name = open + 1;
  if (*name == '^') {
    negated = !negated;
    name++;
  }
  size_t length = (size_t)(end - name);
  t->at = (size_t)(end + 1 - t->pattern);
  for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
    if (length != strlen(categories[i]) || memcmp(name, categories[i], length) != 0) continue;
    if (t->folds && length == 2 && name[0] == 'L' && strchr("ult", name[1]))
      return refuse(t, from, t->at, "letters by case, where case is ignored, are not supported");
    return buffer_format(t->out, t->error, "\\%c{%s}", negated ? 'P' : 'p', categories[i]);
  }
  for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
    if (length == strlen(scripts[i]) && memcmp(name, scripts[i], length) == 0)
      return buffer_format(t->out, t->error, "\\%c{sc:%s}", negated ? 'P' : 'p', scripts[i]);
  return refuse(t, from, t->at,
                "this property is not supported (known: general categories such as L, Lu, Nd, and scripts "
                "such as Han)");
}

/* ---- escapes ---- */

static bool put_code_point(Translation *t, uint32_t c) {
  return buffer_format(t->out, t->error, "\\x{%x}", c);
}

static bool hex_digits(Translation *t, size_t count, uint32_t *value) {
  *value = 0;
  for (size_t i = 0; i < count; i++) {
    char digit[2] = {peek(t, i), 0};
    if (!isxdigit((unsigned char)digit[0])) return false;
    *value = *value * 16 + (uint32_t)strtoul(digit, NULL, 16);
  }
  t->at += count;
  return true;
}

/* \xHH, \uHHHH. In Oniguruma \x80 and above are bytes of an encoding, not characters. */
static bool put_number(Translation *t, char kind, size_t from) {
  uint32_t value;
  if (!hex_digits(t, kind == 'x' ? 2 : 4, &value))
    return refuse(t, from, t->at, "expected two digits behind \\x, four behind \\u");
  if (kind == 'x' && value >= 0x80 && t->syntax == REGEX_ONIGURUMA)
    return refuse(t, from, t->at, "a byte that is no character is not supported");
  if (t->folds)
    return refuse(t, from, t->at, "characters by number, where case is ignored, are not supported");
  if (value >= 0xd800 && value <= 0xdfff) return refuse(t, from, t->at, "a surrogate is no character");
  return put_code_point(t, value);
}

/* \s, \w and \d as Oniguruma has them over Unicode; Python's differ from PCRE2's beyond ASCII alone. */
static bool put_class_escape(Translation *t, char c, bool in_class, size_t from) {
  static const char word[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
  if (t->syntax == REGEX_PYTHON || c == 'd' || c == 'D') return buffer_format(t->out, t->error, "\\%c", c);
  if (c == 's' || c == 'S') return put_text(t, c == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
  if (c == 'w') return buffer_format(t->out, t->error, in_class ? "%s" : "[%s]", word);
  if (in_class) return refuse(t, from, t->at, "\\W inside a class is not supported");
  return buffer_format(t->out, t->error, "[^%s]", word);
}

/* What \c means, `at` already behind it. *single: it is one character, which may begin or end a range. */
static bool put_escape(Translation *t, bool in_class, bool *single) {
  static const char controls[][2] = {{'n', '\n'}, {'t', '\t'}, {'r', '\r'},
                                     {'f', '\f'}, {'v', '\v'}, {'a', '\a'}};
  size_t from = t->at++;
  if (t->at == t->bytes) return refuse(t, from, t->at, "nothing stands behind the last \\");
  char c = t->pattern[t->at++];
  *single = true;
  for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
    if (c == controls[i][0]) return put_code_point(t, (uint32_t)controls[i][1]);
  if (c == 'x' || c == 'u') return put_number(t, c, from);
  if (c != '\0' && strchr("sSwWdD", c)) {
    *single = false;
    return put_class_escape(t, c, in_class, from);
  }
  if (t->syntax == REGEX_ONIGURUMA && (c == 'p' || c == 'P')) {
    *single = false;
    return put_property(t, c == 'P', from);
  }
  if (!in_class) {
    if (c == 'A') return put_text(t, "\\A");
    if (c == 'Z') return put_text(t, t->syntax == REGEX_PYTHON ? "\\z" : "\\Z");
    if (c == 'z' && t->syntax == REGEX_ONIGURUMA) return put_text(t, "\\z");
    if ((c == 'b' || c == 'B') && t->syntax == REGEX_PYTHON) return put_text(t, c == 'b' ? "\\b" : "\\B");
  }
  if (isalnum((unsigned char)c)) return refuse(t, from, t->at, "this escape is not supported");
  t->at--;
  return put_plain(t);
}

/* ---- classes ---- */

static bool put_members(Translation *t, size_t from, bool nested);

/* One member of a class; *single: one character, which may begin or end a range. */
static bool put_member(Translation *t, bool nested, bool *single) {
  char c = t->pattern[t->at];
  if (c == '\\') return put_escape(t, true, single);
  *single = true;
  if (t->syntax == REGEX_ONIGURUMA && c == '[') { /* its members are the outer class's too */
    size_t from = t->at++;
    *single = false;
    if (nested || peek(t, 0) == '^' || peek(t, 0) == ':')
      return refuse(t, from, t->at, "this class inside a class is not supported");
    return put_members(t, from, true);
  }
  if (t->syntax == REGEX_ONIGURUMA && starts(t, "&&"))
    return refuse(t, t->at, t->at + 2, "the intersection of classes is not supported");
  if (t->folds && (unsigned char)c >= 0x80)
    return refuse(t, t->at, t->at + 1, "characters beyond ASCII, where case is ignored, are not supported");
  return put_plain(t);
}

/* What stands up to the ] that ends the class, and passes it. */
static bool put_members(Translation *t, size_t from, bool nested) {
  for (bool first = true;;
       first = false) { /* ] right after the opening stands for itself, in all three engines */
    if (t->at == t->bytes) return refuse(t, from, t->at, "this class does not end");
    if (t->pattern[t->at] == ']' && !first) break;
    size_t member = t->at;
    bool single, range = false;
    if (!put_member(t, nested, &single)) return false;
    if (peek(t, 0) == '-' && t->at + 1 < t->bytes && peek(t, 1) != ']') {
      t->at++;
      range = true;
      bool also;
      if (!put_text(t, "-") || !put_member(t, nested, &also)) return false;
      single = single && also;
    }
    if (range && !single) return refuse(t, member, t->at, "this range is not supported");
  }
  t->at++;
  return true;
}

static bool put_class(Translation *t) {
  size_t from = t->at++;
  begin_atom(t);
  if (!put_text(t, "[")) return false;
  if (peek(t, 0) == '^') {
    t->at++;
    if (!put_text(t, "^")) return false;
  }
  return put_members(t, from, false) && put_text(t, "]");
}

/* ---- groups ---- */

static bool open_group(Translation *t, const char *spelled, size_t length, bool folds) {
  if (t->depth == MAX_GROUPS) return refuse(t, t->at, t->at + length, "groups are nested too deeply");
  bool looks = spelled[1] && strchr("=!<", spelled[2]);
  t->at += length;
  t->groups[t->depth++] = (Group){.begin = t->out->size, .inside = t->at, .folds = t->folds, .looks = looks};
  t->folds = folds;
  t->repeatable = false;
  return put_text(t, spelled);
}

/* (?i:...), (?i-m:...) and, where nothing stands before it, (?i): there all engines take it for the rest of the group.
 * Ruby's m is what the others call s. */
static bool open_options(Translation *t) {
  size_t from = t->at, at = t->at + 2;
  char spelled[16] = "(?";
  size_t used = 2;
  bool on = true, folds = t->folds, ruby = t->syntax == REGEX_ONIGURUMA;
  for (; at < t->bytes && used < 10 && t->pattern[at] != ':' && t->pattern[at] != ')'; at++) {
    char c = t->pattern[at];
    bool known = c == 'i' || (c == '-' && on) || c == 'm' || (c == 's' && !ruby);
    if (!known) return refuse(t, from, at + 1, "this kind of group is not supported");
    if (c == '-') on = false;
    if (c == 'i') folds = on;
    spelled[used++] = ruby && c == 'm' ? 's' : c;
  }
  if (at >= t->bytes || used == 2) return refuse(t, from, at, "this kind of group is not supported");
  if (t->pattern[at] == ':') {
    spelled[used] = ':';
    return open_group(t, spelled, at + 1 - from, folds);
  }
  size_t inside = t->depth > 0 ? t->groups[t->depth - 1].inside : 0;
  if (t->pattern[at] != ')' || !ruby || from != inside)
    return refuse(t, from, at + 1, "options that are switched on in the middle are not supported");
  spelled[used] = ')';
  t->folds = folds;
  t->at = at + 1;
  return put_text(t, spelled);
}

/* (?P<name>...) of Python: nothing refers to it here. */
static bool open_named(Translation *t) {
  size_t length = 4;
  while (isalnum((unsigned char)peek(t, length)) || peek(t, length) == '_') length++;
  if (length == 4 || peek(t, length) != '>')
    return refuse(t, t->at, t->at + length, "this kind of group is not supported");
  return open_group(t, "(", length + 1, t->folds);
}

static bool put_group(Translation *t) {
  static const char *const plain[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    if (starts(t, plain[i])) return open_group(t, plain[i], strlen(plain[i]), t->folds);
  if (t->syntax == REGEX_PYTHON && starts(t, "(?P<")) return open_named(t);
  if (starts(t, "(?")) return open_options(t);
  if (starts(t, "(*")) return refuse(t, t->at, t->at + 2, "this kind of group is not supported");
  return open_group(t, "(", 1, t->folds);
}

static bool close_group(Translation *t) {
  if (t->depth == 0) return refuse(t, t->at, t->at + 1, "there is no group to end");
  Group group = t->groups[--t->depth];
  t->at++;
  t->folds = group.folds;
  t->repeatable = !group.looks;
  t->atom = group.begin;
  return put_text(t, ")");
}

/* ---- repetition ---- */

/* {n}, {n,}, {n,m}, {,m}: the numbers; false when the brace is a plain character. */
static bool read_interval(const Translation *t, size_t *length, long *low, long *high) {
  size_t at = t->at + 1;
  *low = 0;
  size_t digits = at;
  while (at < t->bytes && isdigit((unsigned char)t->pattern[at])) at++;
  bool has_low = at > digits;
  if (has_low) *low = strtol(t->pattern + digits, NULL, 10);
  *high = *low;
  bool has_high = false;
  if (at < t->bytes && t->pattern[at] == ',') {
    digits = ++at;
    while (at < t->bytes && isdigit((unsigned char)t->pattern[at])) at++;
    has_high = at > digits;
    *high = has_high ? strtol(t->pattern + digits, NULL, 10) : -1;
  }
  *length = at + 1 - t->at;
  return at < t->bytes && t->pattern[at] == '}' && (has_low || has_high);
}

/* Puts the quantifier (spelled for PCRE2) with what may stand behind it. `fixed`: {n}; `interval`: {...}. */
static bool put_quantifier(Translation *t, const char *spelled, size_t length, bool fixed, bool interval) {
  size_t from = t->at;
  if (!t->repeatable) return refuse(t, from, from + length, "there is nothing to repeat");
  char letter = t->last_folded;
  if (interval && letter && strchr("sf", letter))
    return refuse(t, from, from + length, "this letter repeated, where case is ignored, is not supported");
  t->at += length;
  char after = peek(t, 0);
  if (!put_text(t, spelled)) return false;
  if (after == '?' || after == '+') {
    t->at++;
    /* In Ruby a{2}? is (?:a{2})?, and a{1,3}+ is (?:a{1,3})+. */
    bool again = t->syntax == REGEX_ONIGURUMA && interval && (fixed || after == '+');
    if (again) {
      Buffer atom = {0};
      bool done = buffer_append(&atom, t->out->data + t->atom, t->out->size - t->atom, t->error);
      t->out->size = t->atom;
      done =
          done && put_text(t, "(?:") && put(t, atom.data, atom.size) && put_text(t, ")") && put(t, &after, 1);
      buffer_free(&atom);
      if (!done) return false;
    } else if (!put(t, &after, 1)) {
      return false;
    }
  }
  t->repeatable = false;
  t->last_folded = 0;
  return true;
}

static bool put_interval(Translation *t) {
  size_t length;
  long low, high;
  if (!read_interval(t, &length, &low, &high)) {
    if (isdigit((unsigned char)peek(t, 1)) || peek(t, 1) == ',')
      return refuse(t, t->at, t->at + 2, "expected {n}, {n,}, {n,m} or {,m}");
    t->at++;
    begin_atom(t);
    return put_text(t, "\\{");
  }
  if (low > MAX_REPEAT || high > MAX_REPEAT || (high >= 0 && high < low))
    return refuse(t, t->at, t->at + length,
                  "expected a repetition of at most 1000, the smaller number first");
  char spelled[40];
  bool fixed = high == low && !memchr(t->pattern + t->at, ',', length);
  if (fixed)
    snprintf(spelled, sizeof spelled, "{%ld}", low);
  else if (high < 0)
    snprintf(spelled, sizeof spelled, "{%ld,}", low);
  else
    snprintf(spelled, sizeof spelled, "{%ld,%ld}", low, high);
  return put_quantifier(t, spelled, length, fixed, true);
}

/* ---- characters ---- */

/* Where case is ignored, Oniguruma takes one character for several: "ss" also finds the sharp s, "fi" its ligature. */
static bool check_folding(Translation *t, char c) {
  if (!t->folds || t->syntax != REGEX_ONIGURUMA) return true;
  static const char *const joined[] = {"ss", "ff", "fi", "fl", "st"};
  char pair[3] = {t->last_folded, (char)tolower((unsigned char)c), 0};
  if ((unsigned char)c >= 0x80)
    return refuse(t, t->at, t->at + 1, "characters beyond ASCII, where case is ignored, are not supported");
  for (size_t i = 0; i < sizeof joined / sizeof *joined; i++)
    if (strcmp(pair, joined[i]) == 0)
      return refuse(t, t->at - 1, t->at + 1,
                    "these letters together, where case is ignored, are not supported");
  return true;
}

static bool put_character(Translation *t) {
  char c = t->pattern[t->at];
  if (!check_folding(t, c)) return false;
  begin_atom(t);
  if (t->folds && isalpha((unsigned char)c)) t->last_folded = (char)tolower((unsigned char)c);
  return put_plain(t);
}

static bool put_next(Translation *t) {
  char c = t->pattern[t->at];
  bool single;
  switch (c) {
    case '\\':
      begin_atom(t);
      if (strchr("AZzbB", peek(t, 1))) t->repeatable = false; /* a place, no character */
      return put_escape(t, false, &single);
    case '[':
      return put_class(t);
    case '(':
      return put_group(t);
    case ')':
      return close_group(t);
    case '*':
    case '+':
    case '?':
      return put_quantifier(t, (char[2]){c, 0}, 1, false, false);
    case '{':
      return put_interval(t);
    case '|':
    case '^':
    case '$':
      t->at++;
      t->repeatable = false;
      t->last_folded = 0;
      return put(t, &c, 1);
    case '.':
      t->at++;
      begin_atom(t);
      return put(t, &c, 1);
    default:
      return put_character(t);
  }
}

bool regex_translate(const char *pattern, size_t bytes, RegexSyntax syntax, Buffer *out, Error *error) {
  Translation t = {.pattern = pattern, .bytes = bytes, .syntax = syntax, .out = out, .error = error};
  while (t.at < bytes)
    if (!put_next(&t)) return false;
  return t.depth == 0 || refuse(&t, bytes, bytes, "a group does not end");
}
