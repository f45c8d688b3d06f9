#include "base/json_quick.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 256, MOST_DIGITS = 18 };

typedef struct Quick {
  const char *at, *end;
  size_t memory; /* what may still be allocated */
  int depth;
  Buffer unescaped; /* the text at hand, where it has escapes */
} Quick;

/* Bytes of a text: from `data`, within the input or within `unescaped`. */
typedef struct Text {
  const char *data;
  size_t size;
} Text;

static json_t *read_value(Quick *quick);

static bool spend(Quick *quick, size_t bytes) {
  if (bytes > quick->memory) return false;
  quick->memory -= bytes;
  return true;
}

static void skip_space(Quick *quick) {
  while (quick->at < quick->end &&
         (*quick->at == ' ' || *quick->at == '\n' || *quick->at == '\r' || *quick->at == '\t'))
    quick->at++;
}

/* Steps over `c` after white space. */
static bool take(Quick *quick, char c) {
  skip_space(quick);
  if (quick->at == quick->end || *quick->at != c) return false;
  quick->at++;
  return true;
}

/* ---- texts ---- */

/* Bytes of the UTF-8 sequence at `at`, 0 where there is none: shortest forms of U+0080..U+10FFFF without surrogates. */
static size_t sequence_length(const unsigned char *at, size_t left) {
  const unsigned char first = at[0];
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || left < length) return 0;
  for (size_t i = 1; i < length; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  if (first == 0xe0 && at[1] < 0xa0) return 0;
  if (first == 0xed && at[1] > 0x9f) return 0;
  if (first == 0xf0 && at[1] < 0x90) return 0;
  if (first == 0xf4 && at[1] > 0x8f) return 0;
  return length;
}

/* Whether all bytes are printable or from 0x80 on, *high: whether there are such ones. */
static bool scan_bytes(const char *text, size_t size, bool *high) {
  unsigned char low = 0, all = 0;
  for (size_t i = 0; i < size; i++) {
    const unsigned char c = (unsigned char)text[i];
    low |= (unsigned char)(c < 0x20);
    all |= c;
  }
  *high = all >= 0x80;
  return low == 0;
}

/* A stretch without quotes and escapes is fit to stand in a text. */
static bool check_stretch(const char *text, size_t size) {
  bool high;
  if (!scan_bytes(text, size, &high)) return false;
  for (size_t i = 0; high && i < size;) {
    size_t length = 1;
    if ((unsigned char)text[i] >= 0x80) length = sequence_length((const unsigned char *)text + i, size - i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The four digits at `at`, or -1. */
static int hex_unit(const char *at, const char *end) {
  int unit = 0;
  if (end - at < 4) return -1;
  for (int i = 0; i < 4; i++) {
    const int digit = hex_digit(at[i]);
    if (digit < 0) return -1;
    unit = unit << 4 | digit;
  }
  return unit;
}

static bool append_code(Buffer *out, unsigned code) {
  char bytes[4];
  size_t count = 0;
  Error error = {0};
  if (code < 0x80) {
    bytes[count++] = (char)code;
  } else if (code < 0x800) {
    bytes[count++] = (char)(0xc0 | code >> 6);
    bytes[count++] = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    bytes[count++] = (char)(0xe0 | code >> 12);
    bytes[count++] = (char)(0x80 | (code >> 6 & 0x3f));
    bytes[count++] = (char)(0x80 | (code & 0x3f));
  } else {
    bytes[count++] = (char)(0xf0 | code >> 18);
    bytes[count++] = (char)(0x80 | (code >> 12 & 0x3f));
    bytes[count++] = (char)(0x80 | (code >> 6 & 0x3f));
    bytes[count++] = (char)(0x80 | (code & 0x3f));
  }
  return buffer_append(out, bytes, count, &error);
}

/* What follows "\u"; a pair of surrogates is one character. */
static bool take_unicode(Quick *quick) {
  const int unit = hex_unit(quick->at, quick->end);
  if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff)) return false;
  quick->at += 4;
  if (unit < 0xd800 || unit > 0xdbff) return append_code(&quick->unescaped, (unsigned)unit);
  if (quick->end - quick->at < 6 || quick->at[0] != '\\' || quick->at[1] != 'u') return false;
  const int low = hex_unit(quick->at + 2, quick->end);
  if (low < 0xdc00 || low > 0xdfff) return false;
  quick->at += 6;
  return append_code(&quick->unescaped,
                     0x10000 + ((unsigned)(unit - 0xd800) << 10) + (unsigned)(low - 0xdc00));
}

/* What follows a backslash. */
static bool take_escape(Quick *quick) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (quick->at == quick->end || *quick->at == '\0') return false;
  const char c = *quick->at++;
  if (c == 'u') return take_unicode(quick);
  const char *found = strchr(from, c);
  Error error = {0};
  return found && buffer_append(&quick->unescaped, &to[found - from], 1, &error);
}

/* The text after an opening quote, up to and over the closing one. */
static bool take_text(Quick *quick, Text *text) {
  Error error = {0};
  const char *quote = memchr(quick->at, '"', (size_t)(quick->end - quick->at));
  if (!quote) return false;
  const char *escape = memchr(quick->at, '\\', (size_t)(quote - quick->at));
  if (!escape) {
    *text = (Text){quick->at, (size_t)(quote - quick->at)};
    quick->at = quote + 1;
    return check_stretch(text->data, text->size);
  }
  buffer_clear(&quick->unescaped);
  while (escape) {
    const size_t plain = (size_t)(escape - quick->at);
    if (!check_stretch(quick->at, plain) || !buffer_append(&quick->unescaped, quick->at, plain, &error)) {
      return false;
    }
    quick->at = escape + 1;
    if (!take_escape(quick)) return false;
    if (quote < quick->at) quote = memchr(quick->at, '"', (size_t)(quick->end - quick->at));
    if (!quote) return false;
    escape = memchr(quick->at, '\\', (size_t)(quote - quick->at));
  }
  const size_t plain = (size_t)(quote - quick->at);
  if (!check_stretch(quick->at, plain) || !buffer_append(&quick->unescaped, quick->at, plain, &error)) {
    return false;
  }
  quick->at = quote + 1;
  *text = (Text){quick->unescaped.data, quick->unescaped.size};
  return true;
}

/* ---- values ---- */

static json_t *read_string(Quick *quick) {
  Text text;
  quick->at++;
  if (!take_text(quick, &text) || !spend(quick, STRING_BYTES + text.size)) return NULL;
  return json_stringn_nocheck(text.data, text.size);
}

static json_t *read_number(Quick *quick) {
  char copy[64];
  size_t length = 0;
  const char *at = quick->at;
  while (at + length < quick->end && length < sizeof copy - 1 && strchr("+-.0123456789eE", at[length]) &&
         at[length])
    length++;
  memcpy(copy, at, length);
  copy[length] = '\0';
  const char *digits = copy + (*copy == '-');
  const size_t count = strspn(digits, "0123456789");
  if (count == 0 || count > MOST_DIGITS || (count > 1 && *digits == '0')) return NULL;
  if (!spend(quick, NUMBER_BYTES)) return NULL;
  quick->at += length;
  if (digits[count] == '\0') return json_integer(strtoll(copy, NULL, 10));
  /* What is no whole number is rare enough for the library to look at its grammar. */
  return json_loadb(copy, length, JSON_DECODE_ANY, NULL);
}

static json_t *read_word(Quick *quick, const char *word, json_t *value) {
  const size_t length = strlen(word);
  if ((size_t)(quick->end - quick->at) < length || memcmp(quick->at, word, length) != 0) return NULL;
  quick->at += length;
  return value;
}

static bool read_members(Quick *quick, json_t *object) {
  if (take(quick, '}')) return true;
  size_t members = 0;
  do {
    Text key;
    char name[256];
    if (!take(quick, '"') || !take_text(quick, &key) || key.size >= sizeof name) return false;
    memcpy(name, key.data, key.size);
    name[key.size] = '\0';
    if (!spend(quick, STRING_BYTES + ITEM_BYTES + key.size) || !take(quick, ':')) return false;
    json_t *value = read_value(quick);
    if (!value || json_object_set_new_nocheck(object, name, value) != 0) return false;
    members++;
  } while (take(quick, ','));
  return members == json_object_size(object) && take(quick, '}'); /* a key that is given twice is unusual */
}

static bool read_items(Quick *quick, json_t *list) {
  if (take(quick, ']')) return true;
  do {
    if (!spend(quick, ITEM_BYTES)) return false;
    json_t *value = read_value(quick);
    if (!value || json_array_append_new(list, value) != 0) return false;
  } while (take(quick, ','));
  return take(quick, ']');
}

static json_t *read_container(Quick *quick, bool object) {
  if (quick->depth == MOST_DEPTH || !spend(quick, object ? OBJECT_BYTES : LIST_BYTES)) return NULL;
  json_t *value = object ? json_object() : json_array();
  quick->at++;
  quick->depth++;
  const bool whole = value && (object ? read_members(quick, value) : read_items(quick, value));
  quick->depth--;
  if (whole) return value;
  json_decref(value);
  return NULL;
}

static json_t *read_value(Quick *quick) {
  skip_space(quick);
  if (quick->at == quick->end) return NULL;
  switch (*quick->at) {
    case '{':
      return read_container(quick, true);
    case '[':
      return read_container(quick, false);
    case '"':
      return read_string(quick);
    case 't':
      return read_word(quick, "true", json_true());
    case 'f':
      return read_word(quick, "false", json_false());
    case 'n':
      return read_word(quick, "null", json_null());
    default:
      return read_number(quick);
  }
}

json_t *json_quick(const char *text, size_t bytes, size_t memory) {
  Quick quick = {.at = text, .end = text + bytes, .memory = memory};
  skip_space(&quick);
  if (quick.at == quick.end || (*quick.at != '{' && *quick.at != '[')) return NULL;
  json_t *value = read_value(&quick);
  skip_space(&quick);
  if (value && quick.at != quick.end) {
    json_decref(value);
    value = NULL;
  }
  buffer_free(&quick.unescaped);
  return value;
}
