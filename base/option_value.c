/* One value of an option table: from text, from JSON, with its checks. */
#include "base/option_value.h"

#include "base/option_elsewhere.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool option_error(Error *error, OptionPlace place, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char text[sizeof error->message];
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (place.line) {
    return error_set(error, ERROR_USAGE, "%s:%d: '%s': %s", place.file, place.line, place.key, text);
  }
  if (place.file) return error_set(error, ERROR_USAGE, "%s: '%s': %s", place.file, place.key, text);
  return error_set(error, ERROR_USAGE, "--%s: %s", place.key, text);
}

static void *field(const Option *option, void *config) {
  return (char *)config + option->offset;
}

void option_clear(const Option *option, void *config) {
  if (option->type == OPTION_STRING || option->type == OPTION_OBJECT || option->type == OPTION_OBJECTS) {
    char **text = field(option, config);
    memory_free(*text);
    *text = NULL;
  } else if (option->type == OPTION_STRINGS) {
    OptionStrings *list = field(option, config);
    for (size_t i = 0; i < list->count; i++) memory_free(list->items[i]);
    memory_free(list->items);
    *list = (OptionStrings){0};
  } else if (option->type == OPTION_SOURCES) {
    OptionSources *list = field(option, config);
    for (size_t i = 0; i < list->count; i++) memory_free(list->items[i].path);
    memory_free(list->items);
    *list = (OptionSources){0};
  }
}

void option_float_text(double value, char *out, size_t size) {
  if (fabs(value) < 1e15 && value == floor(value)) {
    snprintf(out, size, "%.0f", value); /* 100000 rather than 1e+05 */
    return;
  }
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(out, size, "%.*g", digits, value);
    if (strtod(out, NULL) == value) return;
  }
}

void option_range_text(const Option *option, char *out, size_t size) {
  char low[32], high[32];
  option_float_text(option->min, low, sizeof low);
  option_float_text(option->max, high, sizeof high);
  *out = '\0';
  if (option->min == 0 && option->max == 0) return;
  if (isinf(option->max)) {
    if (!isinf(option->min)) snprintf(out, size, ">= %s", low);
  } else if (isinf(option->min)) {
    snprintf(out, size, "<= %s", high);
  } else {
    snprintf(out, size, "%s .. %s", low, high);
  }
}

static bool check_range(const Option *option, double value, OptionPlace place, Error *error) {
  if ((option->min == 0 && option->max == 0) || (value >= option->min && value <= option->max)) return true;
  char range[80], found[32];
  option_range_text(option, range, sizeof range);
  option_float_text(value, found, sizeof found);
  return option_error(error, place, "%s is out of range, expected %s", found, range);
}

static bool set_int(const Option *option, void *config, int64_t value, OptionPlace place, Error *error) {
  if (!check_range(option, (double)value, place, error)) return false;
  *(int64_t *)field(option, config) = value;
  return true;
}

static bool set_float(const Option *option, void *config, double value, OptionPlace place, Error *error) {
  if (!isfinite(value)) return option_error(error, place, "expected a finite number");
  if (!check_range(option, value, place, error)) return false;
  *(double *)field(option, config) = value;
  return true;
}

/* Whether a real like 1e5 stands for an integer; beyond 2^53 a double no longer says which. */
static bool integral(double value, int64_t *out) {
  if (!(fabs(value) <= 0x1p53) || value != floor(value)) return false;
  *out = (int64_t)value;
  return true;
}

static bool parse_int(const char *text, int64_t *out) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (end != text && !*end && errno == 0) {
    *out = value;
    return true;
  }
  double real = strtod(text, &end);
  return end != text && !*end && errno == 0 && integral(real, out);
}

/* "1048576", "512MiB", "1.5 GiB", "8G", "8GB". */
static bool parse_bytes(const char *text, int64_t *out) {
  static const struct {
    const char *name;
    double scale;
  } units[] = {{"", 1},       {"B", 1},        {"K", 0x1p10},   {"M", 0x1p20},   {"G", 0x1p30},
               {"T", 0x1p40}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
               {"kB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  char *end;
  if (parse_int(text, out)) return *out >= 0;
  double number = strtod(text, &end);
  if (end == text) return false;
  while (*end == ' ') end++;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (strcmp(end, units[i].name) != 0) continue;
    double bytes = number * units[i].scale;
    return bytes >= 0 && integral(floor(bytes), out);
  }
  return false;
}

/* A number without a unit; few bytes are a unit that was left out. */
static bool set_bytes(const Option *option, void *config, int64_t bytes, OptionPlace place, Error *error) {
  if (bytes > 0 && bytes < 1024)
    return option_error(error, place, "%lld bytes; of GiB it is written %lldGiB", (long long)bytes,
                        (long long)bytes);
  return set_int(option, config, bytes, place, error);
}

/* The choice that a text is near to in lower case, or that it begins with: adamw_torch. */
static const char *nearest_choice(const Option *option, size_t count, const char *text) {
  char lower[64];
  size_t n = 0;
  for (; text[n] && n + 1 < sizeof lower; n++) lower[n] = (char)tolower((unsigned char)text[n]);
  lower[n] = '\0';
  const char *near = nearest_name(lower, option->choices, count);
  for (size_t i = 0; i < count && !near; i++) {
    const size_t length = strlen(option->choices[i]);
    if (strncmp(lower, option->choices[i], length) == 0 && lower[length] == '_') near = option->choices[i];
  }
  return near;
}

static bool set_choice(const Option *option, void *config, const char *text, OptionPlace place,
                       Error *error) {
  size_t count = 0;
  for (; option->choices[count]; count++) {
    if (strcmp(text, option->choices[count]) != 0) continue;
    *(int *)field(option, config) = (int)count;
    return true;
  }
  char list[512] = "";
  for (size_t i = 0, used = 0; i < count && used < sizeof list; i++) {
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", option->choices[i]);
  }
  char word[64];
  const bool theirs = option_elsewhere_value(option->key, text, word);
  const char *near = theirs ? NULL : nearest_choice(option, count, text);
  return option_error(error, place, "'%s' is not one of %s%s%s%s", text, list,
                      theirs ? "; here it is '"
                      : near ? "; did you mean '"
                             : "",
                      theirs ? word
                      : near ? near
                             : "",
                      theirs ? "'"
                      : near ? "'?"
                             : "");
}

char *option_copy_text(const char *text, OptionPlace place, Error *error) {
  json_t *probe = json_string(text);
  if (!probe) {
    option_error(error, place, "the text is not valid UTF-8");
    return NULL;
  }
  json_decref(probe);
  char *copy = memory_copy_string(text);
  if (!copy) error_out_of_memory(error, "option value", strlen(text) + 1);
  return copy;
}

static bool set_string(const Option *option, void *config, const char *text, OptionPlace place,
                       Error *error) {
  char *copy = option_copy_text(text, place, error);
  if (!copy) return false;
  option_clear(option, config);
  *(char **)field(option, config) = copy;
  return true;
}

bool option_wrong_type(Error *error, OptionPlace place, const char *expected, const json_t *value) {
  char *shown = json_is_object(value) || json_is_array(value) || json_is_null(value)
                    ? NULL
                    : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
  option_error(error, place, "expected %s, found %s%s%.60s%s", expected, json_kind(value), shown ? " (" : "",
               shown ? shown : "", shown ? ")" : "");
  free(shown);
  return false;
}

static bool set_compact(const Option *option, void *config, const json_t *value, OptionPlace place,
                        Error *error) {
  Buffer text = {0};
  const bool ok =
      json_append_text(&text, value, error) && set_string(option, config, text.data, place, error);
  buffer_free(&text);
  return ok;
}

static bool set_objects(const Option *option, void *config, json_t *list, OptionPlace place, Error *error) {
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *item = json_array_get(list, i);
    if (!json_holds_object(item))
      return option_wrong_type(error, place, "a list of objects with an object in it", item);
  }
  if (json_array_size(list) > 0) return set_compact(option, config, list, place, error);
  option_clear(option, config);
  return true;
}

/* An object, or a list of them. */
static bool set_object(const Option *option, void *config, const json_t *value, OptionPlace place,
                       Error *error) {
  const bool list = option->type == OPTION_OBJECTS;
  if (json_is_null(value)) {
    option_clear(option, config);
    return true;
  }
  if (list && json_is_array(value)) return set_objects(option, config, (json_t *)value, place, error);
  if (!json_holds_object(value))
    return option_wrong_type(error, place, list ? "a list of objects" : "a JSON object", value);
  if (!list) return set_compact(option, config, value, place, error);
  json_t *one = json_pack("[O]", value);
  const bool ok =
      one ? set_objects(option, config, one, place, error) : error_out_of_memory(error, option->key, 0);
  json_decref(one);
  return ok;
}

static bool set_object_text(const Option *option, void *config, const char *text, OptionPlace place,
                            Error *error) {
  json_error_t broken;
  json_t *value = *text ? json_loads(text, JSON_REJECT_DUPLICATES, &broken) : json_null();
  if (!value) return option_error(error, place, "broken JSON at column %d: %s", broken.column, broken.text);
  const bool ok = set_object(option, config, value, place, error);
  json_decref(value);
  return ok;
}

bool option_set_text(const Option *option, void *config, const char *text, OptionPlace place, Error *error) {
  int64_t whole;
  char *end;
  switch (option->type) {
    case OPTION_BOOL:
      if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        return option_error(error, place, "expected true or false, found '%s'", text);
      }
      *(bool *)field(option, config) = *text == 't';
      return true;
    case OPTION_INT:
      if (!parse_int(text, &whole)) {
        return option_error(error, place, "expected an integer, found '%s'", text);
      }
      return set_int(option, config, whole, place, error);
    case OPTION_FLOAT: {
      double value = strtod(text, &end);
      if (end == text || *end) return option_error(error, place, "expected a number, found '%s'", text);
      return set_float(option, config, value, place, error);
    }
    case OPTION_BYTES:
      if (!parse_bytes(text, &whole))
        return option_error(error, place, "expected a size like 512MiB or 8GiB, found '%s'", text);
      return isdigit((unsigned char)text[strlen(text) - 1]) ? set_bytes(option, config, whole, place, error)
                                                            : set_int(option, config, whole, place, error);
    case OPTION_STRING:
      return set_string(option, config, text, place, error);
    case OPTION_OBJECT:
    case OPTION_OBJECTS:
      return set_object_text(option, config, text, place, error);
    case OPTION_CHOICE:
      return set_choice(option, config, text, place, error);
    default:
      return option_set_list_text(option, config, text, false, place, error);
  }
}

bool option_set_json(const Option *option, void *config, const json_t *value, OptionPlace place,
                     Error *error) {
  int64_t whole = json_integer_value(value);
  bool number_is_whole =
      json_is_integer(value) || (json_is_real(value) && integral(json_real_value(value), &whole));
  switch (option->type) {
    case OPTION_BOOL:
      if (!json_is_boolean(value)) return option_wrong_type(error, place, "true or false", value);
      *(bool *)field(option, config) = json_is_true(value);
      return true;
    case OPTION_INT:
      if (!number_is_whole) return option_wrong_type(error, place, "an integer", value);
      return set_int(option, config, whole, place, error);
    case OPTION_FLOAT:
      if (!json_is_number(value)) return option_wrong_type(error, place, "a number", value);
      return set_float(option, config, json_number_value(value), place, error);
    case OPTION_BYTES:
      if (json_is_string(value)) {
        return option_set_text(option, config, json_string_value(value), place, error);
      }
      if (!number_is_whole || whole < 0) {
        return option_wrong_type(error, place, "a number of bytes or a size like \"8GiB\"", value);
      }
      return set_bytes(option, config, whole, place, error);
    case OPTION_STRING:
      if (json_is_null(value)) {
        option_clear(option, config);
        return true;
      }
      if (!json_is_string(value)) return option_wrong_type(error, place, "a string", value);
      return set_string(option, config, json_string_value(value), place, error);
    case OPTION_OBJECT:
    case OPTION_OBJECTS:
      return set_object(option, config, value, place, error);
    case OPTION_CHOICE:
      if (!json_is_string(value)) return option_wrong_type(error, place, "a string", value);
      return set_choice(option, config, json_string_value(value), place, error);
    default:
      return option_set_list_json(option, config, value, place, error);
  }
}
