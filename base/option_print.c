/* The resolved configuration of an option table as JSON. */
#include "base/option_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int option_section(const char *key) {
  const char *dot = strchr(key, '.');
  return dot ? (int)(dot - key) : 0;
}

bool option_same_section(const Option *a, const Option *b) {
  int length = option_section(a->key);
  return length == option_section(b->key) && !strncmp(a->key, b->key, (size_t)length);
}

bool option_opens_section(const Option *table, size_t i) {
  for (size_t j = 0; j < i; j++) {
    if (option_same_section(&table[j], &table[i])) return false;
  }
  return true;
}

static bool print_string(const char *text, Buffer *out, Error *error) {
  if (!text) return buffer_text(out, "null", error);
  json_t *string = json_string(text);
  char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
  json_decref(string);
  if (!quoted) return error_set(error, ERROR_USAGE, "'%.100s' cannot be printed as JSON", text);
  bool ok = buffer_text(out, quoted, error);
  free(quoted);
  return ok;
}

static bool print_float(double value, Buffer *out, Error *error) {
  char text[40];
  option_float_text(value, text, sizeof text);
  return buffer_text(out, text, error);
}

static bool print_sources(const OptionSources *list, Buffer *out, Error *error) {
  bool ok = buffer_text(out, "[", error);
  for (size_t i = 0; ok && i < list->count; i++) {
    ok = buffer_text(out, i ? ", {\"path\": " : "{\"path\": ", error) &&
         print_string(list->items[i].path, out, error) && buffer_text(out, ", \"weight\": ", error) &&
         print_float(list->items[i].weight, out, error) && buffer_text(out, "}", error);
  }
  return ok && buffer_text(out, "]", error);
}

static bool print_strings(const OptionStrings *list, Buffer *out, Error *error) {
  bool ok = buffer_text(out, "[", error);
  for (size_t i = 0; ok && i < list->count; i++) {
    ok = (i == 0 || buffer_text(out, ", ", error)) && print_string(list->items[i], out, error);
  }
  return ok && buffer_text(out, "]", error);
}

static bool print_value(const Option *option, const void *config, Buffer *out, Error *error) {
  const void *at = (const char *)config + option->offset;
  switch (option->type) {
    case OPTION_BOOL:
      return buffer_text(out, *(const bool *)at ? "true" : "false", error);
    case OPTION_INT:
    case OPTION_BYTES:
      return buffer_format(out, error, "%lld", (long long)*(const int64_t *)at);
    case OPTION_FLOAT:
      return print_float(*(const double *)at, out, error);
    case OPTION_CHOICE:
      return print_string(option->choices[*(const int *)at], out, error);
    case OPTION_STRINGS:
      return print_strings(at, out, error);
    case OPTION_SOURCES:
      return print_sources(at, out, error);
    case OPTION_OBJECT:
    case OPTION_OBJECTS:
      return buffer_text(out, *(char *const *)at ? *(char *const *)at : "null", error);
    default:
      return print_string(*(char *const *)at, out, error);
  }
}

/* The rows of the section that row i opens, as the members of one object. */
static bool print_section(const Option *table, size_t rows, size_t i, const void *config, Buffer *out,
                          Error *error) {
  int length = option_section(table[i].key);
  const char *indent = length ? "    " : "  ", *separator = "";
  if (length && !buffer_format(out, error, "  \"%.*s\": {\n", length, table[i].key)) return false;
  for (size_t j = i; j < rows; j++) {
    if (!option_same_section(&table[i], &table[j])) continue;
    const char *leaf = table[j].key + (length ? length + 1 : 0);
    if (!buffer_format(out, error, "%s%s\"%s\": ", separator, indent, leaf)) return false;
    if (!print_value(&table[j], config, out, error)) return false;
    separator = ",\n";
  }
  return !length || buffer_text(out, "\n  }", error);
}

bool options_json(const Option *table, size_t rows, const void *config, Buffer *out, Error *error) {
  if (!buffer_text(out, "{\n", error)) return false;
  for (size_t i = 0; i < rows; i++) {
    if (!option_opens_section(table, i)) continue;
    if (i && !buffer_text(out, ",\n", error)) return false;
    if (!print_section(table, rows, i, config, out, error)) return false;
  }
  return buffer_text(out, "\n}\n", error);
}
