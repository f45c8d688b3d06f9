/* What options have to do with each other: conditions of rows, and options that are given in vain. */
#include "base/option_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const void *field(const Option *option, const void *config) {
  return (const char *)config + option->offset;
}

static double number(const Option *option, const void *config) {
  ASSERT(option->type == OPTION_INT || option->type == OPTION_BYTES || option->type == OPTION_FLOAT);
  if (option->type == OPTION_FLOAT) return *(const double *)field(option, config);
  return (double)*(const int64_t *)field(option, config);
}

bool option_is_set(const Option *option, const void *config) {
  switch (option->type) {
    case OPTION_BOOL:
      return *(const bool *)field(option, config);
    case OPTION_STRING:
    case OPTION_OBJECT:
    case OPTION_OBJECTS: {
      const char *text = *(char *const *)field(option, config);
      return text != NULL && *text;
    }
    case OPTION_STRINGS:
      return ((const OptionStrings *)field(option, config))->count > 0;
    case OPTION_SOURCES:
      return ((const OptionSources *)field(option, config))->count > 0;
    case OPTION_CHOICE:
      return true;
    default:
      return number(option, config) != 0;
  }
}

/* "a,b": whether the list has these, in this order. */
static bool list_equals(const OptionStrings *list, const char *text) {
  for (size_t i = 0; i < list->count; i++) {
    const size_t length = strlen(list->items[i]);
    if (strncmp(text, list->items[i], length) != 0) return false;
    text += length;
    const bool last = i + 1 == list->count;
    if (*text != (last ? '\0' : ',')) return false;
    text += !last;
  }
  return !*text;
}

/* The number that is written `text` for the option. */
static double number_of(const Option *option, const char *text) {
  union {
    int64_t whole;
    double real;
  } value;
  Option alone = *option;
  alone.offset = 0;
  Error error = {0};
  const bool ok =
      option_set_text(&alone, &value, text, (OptionPlace){.file = "table", .key = option->key}, &error);
  ASSERT(ok);
  return number(&alone, &value);
}

bool option_equals(const Option *option, const void *config, const char *text) {
  switch (option->type) {
    case OPTION_BOOL:
      ASSERT(!strcmp(text, "true") || !strcmp(text, "false"));
      return *(const bool *)field(option, config) == (*text == 't');
    case OPTION_CHOICE: {
      size_t index = 0;
      while (option->choices[index] && strcmp(option->choices[index], text) != 0) index++;
      ASSERT(option->choices[index]);
      return *(const int *)field(option, config) == (int)index;
    }
    case OPTION_STRING:
    case OPTION_OBJECT:
    case OPTION_OBJECTS: {
      const char *found = *(char *const *)field(option, config);
      return found && !strcmp(found, text);
    }
    case OPTION_STRINGS:
      return list_equals(field(option, config), text);
    case OPTION_SOURCES:
      return !*text && !option_is_set(option, config);
    default:
      return number(option, config) == number_of(option, text);
  }
}

/* -- conditions ----------------------------------------------------------------------------------------- */

enum { LONGEST_CONDITION = 256 };

static const Option *known(const Option *table, size_t rows, const char *key) {
  const Option *option = option_find(table, rows, key);
  ASSERT(option);
  return option;
}

static bool term_holds(const Option *table, size_t rows, const void *config, const char *term) {
  char key[64], operator[4], value[64];
  const bool negated = !strncmp(term, "no ", 3);
  const int words = sscanf(term + (negated ? 3 : 0), "%63s %3s %63s", key, operator, value);
  const Option *option = known(table, rows, key);
  if (words == 1) return option_is_set(option, config) != negated;
  ASSERT(words == 3 && !negated);
  if (!strcmp(operator, ">")) return number(option, config) > strtod(value, NULL);
  const bool differs = !strcmp(operator, "!=");
  ASSERT(differs || !strcmp(operator, "="));
  return option_equals(option, config, value) != differs;
}

/* The text up to `separator` of what is left, of which *rest becomes the remainder, or NULL at the end. */
static char *next_part(char **rest, const char *separator) {
  char *part = *rest, *end = strstr(part, separator);
  *rest = end ? end + strlen(separator) : NULL;
  if (end) *end = '\0';
  return part;
}

/* Every term is looked at, whatever the others say, so that a mistake in the table cannot hide. */
bool option_holds(const Option *table, size_t rows, const void *config, const char *condition) {
  char text[LONGEST_CONDITION];
  const int length = snprintf(text, sizeof text, "%s", condition);
  ASSERT(length < LONGEST_CONDITION);
  bool all = true;
  for (char *rest = text; rest;) {
    bool any = false;
    for (char *alternatives = next_part(&rest, ", "); alternatives;) {
      any |= term_holds(table, rows, config, next_part(&alternatives, " or "));
    }
    all &= any;
  }
  return all;
}

/* -- what excludes what --------------------------------------------------------------------------------- */

/* The option gets its default back. */
static bool give_way(OptionGiven *given, const Option *option, void *config, Error *error) {
  option_clear(option, config);
  given->origin[option - given->table] = OPTION_GAVE_WAY;
  if (option->fallback && !option_set_text(option, config, option->fallback,
                                           (OptionPlace){.file = "default", .key = option->key}, error)) {
    return false;
  }
  ASSERT(!option_is_set(option, config)); /* its default sets nothing, or it could not give way */
  return true;
}

bool options_exclude(OptionGiven *given, void *config, Error *error) {
  for (size_t i = 0; i < given->rows; i++) {
    const Option *one = &given->table[i];
    if (!one->excludes) continue;
    const Option *other = known(given->table, given->rows, one->excludes);
    if (!option_is_set(one, config) || !option_is_set(other, config)) continue;
    const bool first = given->origin[i] >= OPTION_FROM_LINE,
               second = given->origin[other - given->table] >= OPTION_FROM_LINE;
    if (first == second)
      return error_set(error, ERROR_USAGE, "%s and %s are both given: choose one", other->key, one->key);
    if (!give_way(given, first ? other : one, config, error)) return false;
  }
  return true;
}

/* -- what is given -------------------------------------------------------------------------------------- */

bool option_given(const OptionGiven *given, const char *key) {
  return given->origin[known(given->table, given->rows, key) - given->table] > OPTION_GAVE_WAY;
}

static bool has_default(const Option *option, const void *config) {
  if (option->instead && option_equals(option, config, option->instead)) return true;
  return option->fallback ? option_equals(option, config, option->fallback) : !option_is_set(option, config);
}

static bool has_no_effect(const OptionGiven *given, size_t row, const void *config) {
  const Option *option = &given->table[row];
  if (!option->when || option_holds(given->table, given->rows, config, option->when)) return false;
  return given->origin[row] >= OPTION_FROM_LINE || !has_default(option, config);
}

/* Whether a number stays on the side of the common default where this configuration has another one. */
static bool stays_behind(const OptionGiven *given, size_t row, const void *config) {
  const Option *option = &given->table[row];
  if (!option->instead || !option_holds(given->table, given->rows, config, option->instead_when))
    return false;
  const double common = number_of(option, option->fallback), value = number(option, config);
  return number_of(option, option->instead) > common ? value <= common : value >= common;
}

/* The other one of two that exclude each other: the row names it, or is named by its row. */
static const char *excluded_by(const OptionGiven *given, const Option *option) {
  if (option->excludes) return option->excludes;
  for (size_t i = 0; i < given->rows; i++) {
    const char *excludes = given->table[i].excludes;
    if (excludes && !strcmp(excludes, option->key)) return given->table[i].key;
  }
  ASSERT(!"one of two that exclude each other");
  return NULL;
}

void options_warn(const OptionGiven *given, const void *config, Log *log) {
  for (size_t i = 0; i < given->rows; i++) {
    const Option *option = &given->table[i];
    if (given->origin[i] == OPTION_DEFAULT) continue;
    if (given->origin[i] == OPTION_ADDED_TO) {
      log_info(log, "%s is given more than once: its values are taken together", option->key);
    }
    if (given->origin[i] == OPTION_GAVE_WAY) {
      log_info(log, "%s of the configuration file gives way to %s on the command line", option->key,
               excluded_by(given, option));
    } else if (has_no_effect(given, i, config)) {
      log_warning(log, "%s is given and has no effect: it matters only with %s", option->key, option->when);
    } else if (stays_behind(given, i, config)) {
      char value[40];
      option_float_text(number(option, config), value, sizeof value);
      log_warning(log, "%s is %s: with %s %s is usual, and %s without", option->key, value,
                  option->instead_when, option->instead, option->fallback);
    }
  }
}
