#include "base/json.h"

#include "base/file.h"
#include "base/json_quick.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- numbers that the parser does not take ---- */

/* Such a number is an object with this key (U+FDD0, which is no character of any text) and its spelling. */
#define SPELLED "\xef\xb7\x90"

static const char *spelled_number(const json_t *value) {
  return json_object_size(value) == 1 ? json_string_value(json_object_get(value, SPELLED)) : NULL;
}

bool json_holds_object(const json_t *value) {
  return json_is_object(value) && !spelled_number(value);
}

/* Whether the parser would refuse the `length` bytes of a number or word, though Python writes them. */
static bool is_foreign(const char *token, size_t length) {
  static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (length == strlen(words[i]) && memcmp(token, words[i], length) == 0) return true;
  char copy[512];
  if (length < 4 || length >= sizeof copy || !strchr("-0123456789", *token)) return false;
  memcpy(copy, token, length);
  copy[length] = '\0';
  char *end;
  errno = 0;
  if (strpbrk(copy, ".eE")) return isinf(strtod(copy, &end)) && *end == '\0';
  (void)strtoll(copy, &end, 10);
  return errno == ERANGE && *end == '\0';
}

/* ---- limits ---- */

/* A text on its way to the parser: what it will take, and a copy with foreign numbers spelled (or empty: as it is). */
typedef struct Scan {
  const char *text;
  size_t bytes, memory;
  Buffer copy;
  size_t copied; /* bytes of text that are in copy */
} Scan;

static size_t string_end(const Scan *scan, size_t at) {
  for (at++; at < scan->bytes && scan->text[at] != '"'; at++)
    if (scan->text[at] == '\\') at++;
  return at < scan->bytes ? at + 1 : scan->bytes;
}

static size_t word_end(const Scan *scan, size_t at) {
  while (at < scan->bytes && (isalnum((unsigned char)scan->text[at]) || strchr("+-.", scan->text[at])) &&
         scan->text[at] != '\0')
    at++;
  return at;
}

static bool spell(Scan *scan, size_t begin, size_t end, Error *error) {
  bool done = buffer_append(&scan->copy, scan->text + scan->copied, begin - scan->copied, error) &&
              buffer_text(&scan->copy, "{\"" SPELLED "\":\"", error) &&
              buffer_append(&scan->copy, scan->text + begin, end - begin, error) &&
              buffer_text(&scan->copy, "\"}", error);
  scan->copied = end;
  scan->memory += OBJECT_BYTES + 2 * STRING_BYTES;
  return done;
}

static bool scan_all(Scan *scan, size_t limit, Error *error) {
  for (size_t at = 0; at < scan->bytes && scan->memory <= limit;) {
    char c = scan->text[at];
    size_t end = at + 1;
    if (c == '"') {
      end = string_end(scan, at);
      scan->memory += STRING_BYTES + (end - at);
    } else if (c == '{' || c == '[') {
      scan->memory += c == '{' ? OBJECT_BYTES : LIST_BYTES;
    } else if (c == ',') {
      scan->memory += ITEM_BYTES;
    } else if (isalnum((unsigned char)c) || c == '-') {
      end = word_end(scan, at);
      scan->memory += NUMBER_BYTES;
      if (is_foreign(scan->text + at, end - at) && !spell(scan, at, end, error)) return false;
    }
    at = end;
  }
  return true;
}

static bool begins_with(const char *text, size_t bytes, const char *prefix) {
  return bytes >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

/* What the parser's own words do not say of a text that it stopped in after `position` bytes. */
static const char *cure_of(const char *text, size_t bytes, int position, const char *why) {
  if (begins_with(text, bytes, "version https://git-lfs."))
    return " (only the pointer to a file of Git LFS: git lfs pull fetches it)";
  if (begins_with(text, bytes, "<")) return " (a web page: fetch the file itself)";
  if (strstr(why, "decode byte")) return " (not UTF-8: iconv -f LATIN1 -t UTF-8 makes it so)";
  if (strstr(why, "near 'None'") || strstr(why, "near 'True'") || strstr(why, "near 'False'"))
    return " (Python's: JSON has null, true and false)";
  if (position < 1 || (size_t)position > bytes) return "";
  const char *at = text + position - 1; /* the last character that was read */
  if (*at == '\'') return " (JSON's texts stand in double quotes)";
  if (*at != '}' && *at != ']') return "";
  while (at > text && strchr(" \t\r\n", *--at)) continue;
  return *at == ',' ? " (no comma stands before a closing } or ])" : "";
}

json_t *json_parse(const char *text, size_t bytes, JsonLimit limit, size_t flags, json_error_t *problem) {
  Scan scan = {.text = text ? text : "", .bytes = bytes};
  Error error = {0};
  json_t *value = NULL;
  *problem = (json_error_t){.line = 1};
  if (bytes > 0 && bytes <= limit.bytes &&
      (flags & ~(size_t)(JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES)) == 0) {
    value = json_quick(text, bytes, limit.memory);
    if (value) return value;
  }
  bool done =
      bytes <= limit.bytes && scan_all(&scan, limit.memory, &error) && scan.memory <= limit.memory &&
      (scan.copied == 0 || buffer_append(&scan.copy, text + scan.copied, bytes - scan.copied, &error));
  if (done) {
    const char *whole = scan.copy.size ? scan.copy.data : scan.text;
    const size_t size = scan.copy.size ? scan.copy.size : bytes;
    value = json_loadb(whole, size, flags, problem);
    if (!value) {
      char why[JSON_ERROR_TEXT_LENGTH];
      memcpy(why, problem->text, sizeof why);
      snprintf(problem->text, sizeof problem->text, "broken JSON: %.80s%s", why,
               cure_of(whole, size, problem->position, why));
    }
  } else if (error.code) {
    snprintf(problem->text, sizeof problem->text, "no memory for parsing it");
  } else if (bytes > limit.bytes) {
    snprintf(problem->text, sizeof problem->text, "too large: %zu bytes, at most %zu are read", bytes,
             limit.bytes);
  } else {
    snprintf(problem->text, sizeof problem->text,
             "too large: its values would take more than %zu MiB of memory", limit.memory >> 20);
  }
  buffer_free(&scan.copy);
  return value;
}

/* ---- files ---- */

bool json_file_text(const char *path, JsonLimit limit, Buffer *text, Error *error) {
  struct stat status;
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
    return error_set(error, ERROR_FILE, "%s: expected a regular file", path);
  if (stat(path, &status) == 0 && (uint64_t)status.st_size > limit.bytes)
    return error_set(error, ERROR_MODEL, "%s: too large: %lld bytes, at most %zu are read", path,
                     (long long)status.st_size, limit.bytes);
  return file_read(path, text, error);
}

json_t *json_file_read(const char *path, Error *error) {
  Buffer text = {0};
  json_t *value = NULL;
  if (json_file_text(path, json_limit_config, &text, error)) {
    json_error_t problem;
    value = json_parse(text.data, text.size, json_limit_config, 0, &problem);
    if (!value) error_set(error, ERROR_MODEL, "%s:%d: %s", path, problem.line, problem.text);
  }
  buffer_free(&text);
  return value;
}

/* Numbers as they were spelled in the place of the objects that stand for them. */
static bool restore_numbers(const char *text, Buffer *out, Error *error) {
  static const char key[] = "\"" SPELLED "\": \"";
  for (const char *at; (at = strstr(text, key));) {
    const char *open = at, *number = at + strlen(key), *end = strchr(number, '"');
    do open--;
    while (open > text && *open != '{');
    if (!buffer_append(out, text, (size_t)(open - text), error) ||
        !buffer_append(out, number, (size_t)(end - number), error))
      return false;
    text = strchr(end, '}') + 1;
  }
  return buffer_text(out, text, error);
}

bool json_file_write(const char *path, const json_t *value, Error *error) {
  char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
  Buffer line = {0};
  bool ok = text || error_out_of_memory(error, "JSON text", 0);
  ok = ok && restore_numbers(text, &line, error) && buffer_text(&line, "\n", error) &&
       file_write_text(path, line.data, error);
  buffer_free(&line);
  free(text);
  return ok;
}

/* ---- kinds ---- */

const char *json_kind(const json_t *value) {
  if (!value) return "nothing";
  const char *spelled = spelled_number(value);
  if (spelled) return spelled;
  switch (json_typeof(value)) {
    case JSON_OBJECT:
      return "an object";
    case JSON_ARRAY:
      return "a list";
    case JSON_STRING:
      return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
      return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
      return "a boolean";
    default:
      return "null";
  }
}

/* ---- sections ---- */

/* The key within its section, whose name goes to section[64]; "" without one. */
static const char *split_key(const char *key, char section[64]) {
  const char *dot = strchr(key, '.');
  snprintf(section, 64, "%.*s", dot ? (int)(dot - key) : 0, key);
  return dot ? dot + 1 : key;
}

json_t *json_at(const json_t *root, const char *key) {
  char section[64];
  const char *leaf = split_key(key, section);
  json_t *value = json_object_get(*section ? json_object_get(root, section) : root, leaf);
  return json_is_null(value) ? NULL : value;
}

bool json_put_take(json_t *root, const char *key, json_t *value, Error *error) {
  char section[64];
  const char *leaf = split_key(key, section);
  json_t *members = *section ? json_object_get(root, section) : root;
  bool ok = value != NULL;
  if (ok && !members) {
    members = json_object();
    ok = members && json_object_set_new(root, section, members) == 0;
  }
  if (!ok) json_decref(value);
  ok = ok && json_object_set_new(members, leaf, value) == 0;
  return ok || error_out_of_memory(error, key, 0);
}
