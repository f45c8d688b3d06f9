/* What an option table prints: the generated help and the resolved configuration. */
#include "base/option_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_WIDTH = 100, HELP_LEAST_COLUMN = 24, HELP_MOST_COLUMN = 40 };

static int section_of(const char *key) {
  const char *dot = strchr(key, '.');
  return dot ? (int)(dot - key) : 0;
}

static bool same_section(const Option *a, const Option *b) {
  int length = section_of(a->key);
  return length == section_of(b->key) && !strncmp(a->key, b->key, (size_t)length);
}

/* Whether row i is the first of its section; the whole section is printed there, in table order. */
static bool opens_section(const Option *table, size_t i) {
  for (size_t j = 0; j < i; j++) {
    if (same_section(&table[j], &table[i])) return false;
  }
  return true;
}

static const char *placeholder(OptionType type) {
  switch (type) {
    case OPTION_BOOL:
      return "[true|false]";
    case OPTION_INT:
      return "N";
    case OPTION_FLOAT:
      return "X";
    case OPTION_CHOICE:
      return "NAME";
    case OPTION_STRINGS:
      return "A,B,...";
    case OPTION_SOURCES:
      return "PATH";
    case OPTION_OBJECT:
      return "JSON";
    case OPTION_BYTES:
      return "SIZE";
    default:
      return "TEXT";
  }
}

/* The help line with default, range and choices: "meaning (one of a, b; default a)". */
static bool describe(const Option *option, Buffer *out, Error *error) {
  char range[80] = "";
  if (option->type == OPTION_INT || option->type == OPTION_FLOAT || option->type == OPTION_BYTES) {
    option_range_text(option, range, sizeof range);
  }
  const char *between = " (", *none = "";
  bool ok = buffer_text(out, option->help ? option->help : none, error);
  if (option->type == OPTION_CHOICE) {
    for (size_t i = 0; ok && option->choices[i]; i++) {
      ok = buffer_format(out, error, "%s%s", i ? ", " : " (one of ", option->choices[i]);
    }
    between = "; ";
  }
  if (ok && *range) {
    ok = buffer_format(out, error, "%s%s", between, range);
    between = "; ";
  }
  if (ok && option->required) {
    ok = buffer_format(out, error, "%srequired%s", between, option->check_without ? " but for --check" : "");
    between = "; ";
  } else if (ok && option->fallback && *option->fallback) {
    ok = buffer_format(out, error, "%sdefault %s", between, option->fallback);
    between = "; ";
    if (ok && option->instead) {
      ok = buffer_format(out, error, ", %s with %s", option->instead, option->instead_when);
    }
  }
  if (ok && option->when) {
    ok = buffer_format(out, error, "%sonly with %s", between, option->when);
    between = "; ";
  }
  return ok && (*between == ' ' || buffer_text(out, ")", error));
}

/* Appends "  NAME" and the text beside it from `column` on, wrapped at words. */
static bool help_row(const char *name, const char *text, int column, Buffer *out, Error *error) {
  int used = 2 + (int)strlen(name);
  if (!buffer_format(out, error, "  %s", name)) return false;
  bool fits = used + 2 <= column;
  if (!buffer_format(out, error, "%s%*s", fits ? "" : "\n", fits ? column - used : column, "")) return false;
  for (int room = HELP_WIDTH - column; *text;) {
    int length = (int)strlen(text);
    if (length > room) {
      for (length = room; length > 0 && text[length] != ' ';) length--;
      if (length == 0) length = (int)strcspn(text, " "); /* one word wider than the column */
    }
    if (!buffer_format(out, error, "%.*s", length, text)) return false;
    text += length + (text[length] == ' ');
    if (*text && !buffer_format(out, error, "\n%*s", column, "")) return false;
  }
  return buffer_text(out, "\n", error);
}

static void row_name(const Option *option, char *out, size_t size) {
  snprintf(out, size, "--%s %s", option->key, placeholder(option->type));
}

static bool option_row(const Option *option, int column, Buffer *out, Error *error) {
  Buffer text = {0};
  char name[128];
  row_name(option, name, sizeof name);
  bool ok = describe(option, &text, error) && help_row(name, text.data, column, out, error);
  buffer_free(&text);
  return ok;
}

static const char size_help[] =
    "bytes, or a number with a unit: K, M, G, T and KiB, MiB, GiB, TiB are 1024, 1024^2, ... bytes, kB, MB, "
    "GB, TB "
    "1000, 1000^2, ...; 8G and 8GiB are 8589934592, 8GB is 8000000000";

static bool has_type(const Option *table, size_t rows, OptionType type) {
  for (size_t i = 0; i < rows; i++) {
    if (table[i].type == type) return true;
  }
  return false;
}

bool options_help(const Option *table, size_t rows, const char *program, const char *summary, Buffer *out,
                  Error *error) {
  static const char *const general[][2] = {
      {"--config FILE", "JSON file with the same keys, sections as objects; options on the command line win"},
      {"--help", "this text"},
      {"--print-config", "print the resolved configuration as JSON and stop"},
      {"--check", "validate configuration and inputs, then stop"},
      {"--json", "results on standard output as JSON"},
      {"--version", "print the version and stop"},
  };
  int column = HELP_LEAST_COLUMN;
  for (size_t i = 0; i < rows; i++) {
    char name[128];
    row_name(&table[i], name, sizeof name);
    int width = (int)strlen(name) + 4;
    if (width > column && width <= HELP_MOST_COLUMN) column = width;
  }
  const bool own = option_find(table, rows, "config") != NULL; /* then --config is no file of options */
  if (!buffer_format(out, error, "%s: %s\n\nusage: %s%s [--key VALUE ...]\n\ngeneral\n", program, summary,
                     program, own ? "" : " [--config FILE]")) {
    return false;
  }
  for (size_t i = own; i < sizeof general / sizeof *general; i++) {
    if (!help_row(general[i][0], general[i][1], column, out, error)) return false;
  }
  if (has_type(table, rows, OPTION_BYTES) && !help_row("SIZE", size_help, column, out, error)) return false;
  for (size_t i = 0; i < rows; i++) {
    if (!opens_section(table, i)) continue;
    int length = section_of(table[i].key);
    if (!buffer_format(out, error, "\n%.*s\n", length ? length : 7, length ? table[i].key : "options"))
      return false;
    for (size_t j = i; j < rows; j++) {
      if (same_section(&table[i], &table[j]) && !option_row(&table[j], column, out, error)) return false;
    }
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
      return buffer_text(out, *(char *const *)at ? *(char *const *)at : "null", error);
    default:
      return print_string(*(char *const *)at, out, error);
  }
}

/* The rows of the section that row i opens, as the members of one object. */
static bool print_section(const Option *table, size_t rows, size_t i, const void *config, Buffer *out,
                          Error *error) {
  int length = section_of(table[i].key);
  const char *indent = length ? "    " : "  ", *separator = "";
  if (length && !buffer_format(out, error, "  \"%.*s\": {\n", length, table[i].key)) return false;
  for (size_t j = i; j < rows; j++) {
    if (!same_section(&table[i], &table[j])) continue;
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
    if (!opens_section(table, i)) continue;
    if (i && !buffer_text(out, ",\n", error)) return false;
    if (!print_section(table, rows, i, config, out, error)) return false;
  }
  return buffer_text(out, "\n}\n", error);
}
