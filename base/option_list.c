/* Options that are lists: names, and the files of a data set with their weights. */
#include "base/option_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef union List {
  OptionStrings strings;
  OptionSources sources;
} List;

static bool strings_push(OptionStrings *list, const char *text, OptionPlace place, Error *error) {
  char **items = memory_resize(list->items, (list->count + 1) * sizeof *items);
  if (!items) return error_out_of_memory(error, "option value", (list->count + 1) * sizeof *items);
  list->items = items;
  items[list->count] = option_copy_text(text, place, error);
  if (!items[list->count]) return false;
  list->count++;
  return true;
}

static bool sources_push(OptionSources *list, const char *path, double weight, OptionPlace place,
                         Error *error) {
  if (!*path) return option_error(error, place, "a path is empty");
  if (!(isfinite(weight) && weight > 0)) return option_error(error, place, "a weight must be above 0");
  OptionSource *items = memory_resize(list->items, (list->count + 1) * sizeof *items);
  if (!items) return error_out_of_memory(error, "option value", (list->count + 1) * sizeof *items);
  list->items = items;
  items[list->count] = (OptionSource){.path = option_copy_text(path, place, error), .weight = weight};
  if (!items[list->count].path) return false;
  list->count++;
  return true;
}

static bool source_object(OptionSources *list, const json_t *value, OptionPlace place, Error *error) {
  const char *name;
  json_t *member;
  json_object_foreach((json_t *)value, name, member) {
    if (strcmp(name, "path") != 0 && strcmp(name, "weight") != 0) {
      return option_error(error, place, "unknown key '%s' in a source; it has 'path' and 'weight'", name);
    }
  }
  const json_t *path = json_object_get(value, "path"), *weight = json_object_get(value, "weight");
  if (!path) return option_error(error, place, "a source without a 'path'");
  if (!json_is_string(path))
    return option_wrong_type(error, place, "a string as the 'path' of a source", path);
  if (weight && !json_is_number(weight)) {
    return option_wrong_type(error, place, "a number as the 'weight' of a source", weight);
  }
  return sources_push(list, json_string_value(path), weight ? json_number_value(weight) : 1, place, error);
}

/* One element, which may have commas in it. */
static bool push_item(OptionType type, List *list, const json_t *item, OptionPlace place, Error *error) {
  const char *text = json_string_value(item);
  if (type == OPTION_STRINGS) {
    return text ? strings_push(&list->strings, text, place, error)
                : option_wrong_type(error, place, "a list of strings with a string in it", item);
  }
  if (text) return sources_push(&list->sources, text, 1, place, error);
  return json_is_object(item)
             ? source_object(&list->sources, item, place, error)
             : option_wrong_type(error, place, "a path or {\"path\": ..., \"weight\": ...}", item);
}

/* The text without the spaces around it, which are overwritten. */
static char *trimmed(char *text) {
  text += strspn(text, " ");
  size_t length = strlen(text);
  while (length > 0 && text[length - 1] == ' ') length--;
  text[length] = '\0';
  return text;
}

/* "a,b" or "a, b"; "" is an empty list. */
static bool push_words(OptionType type, List *list, const char *text, OptionPlace place, Error *error) {
  char *copy = memory_copy_string(text), *rest = copy, *item;
  bool ok = copy || error_out_of_memory(error, "option value", strlen(text));
  while (ok && *text && (item = strsep(&rest, ","))) {
    item = trimmed(item);
    if (!*item) {
      ok = option_error(error, place, "an empty %s in the list '%s'",
                        type == OPTION_STRINGS ? "name" : "path", text);
    } else {
      ok = type == OPTION_STRINGS ? strings_push(&list->strings, item, place, error)
                                  : sources_push(&list->sources, item, 1, place, error);
    }
  }
  memory_free(copy);
  return ok;
}

static bool push_json(OptionType type, List *list, const json_t *value, OptionPlace place, Error *error) {
  if (json_is_null(value)) return true;
  if (json_is_string(value)) return push_words(type, list, json_string_value(value), place, error);
  if (!json_is_array(value)) {
    return type == OPTION_STRINGS ? option_wrong_type(error, place, "a list of strings", value)
                                  : push_item(type, list, value, place, error);
  }
  for (size_t i = 0; i < json_array_size(value); i++) {
    if (!push_item(type, list, json_array_get(value, i), place, error)) return false;
  }
  return true;
}

/* Elements of the option as it is: what a further value of the command line is added to. */
static bool push_former(const Option *option, const void *config, List *list, OptionPlace place,
                        Error *error) {
  const void *field = (const char *)config + option->offset;
  if (option->type == OPTION_STRINGS) {
    const OptionStrings *former = field;
    for (size_t i = 0; i < former->count; i++) {
      if (!strings_push(&list->strings, former->items[i], place, error)) return false;
    }
    return true;
  }
  const OptionSources *former = field;
  for (size_t i = 0; i < former->count; i++) {
    if (!sources_push(&list->sources, former->items[i].path, former->items[i].weight, place, error))
      return false;
  }
  return true;
}

/* The list was built beside the old value, which it replaces only when all of it was good. */
static bool settle(const Option *option, void *config, List *fresh, bool ok) {
  Option whole = *option;
  whole.offset = 0;
  option_clear(ok ? option : &whole, ok ? config : fresh);
  if (!ok) return false;
  void *field = (char *)config + option->offset;
  if (option->type == OPTION_STRINGS) {
    *(OptionStrings *)field = fresh->strings;
  } else {
    *(OptionSources *)field = fresh->sources;
  }
  return true;
}

bool option_set_list_json(const Option *option, void *config, const json_t *value, OptionPlace place,
                          Error *error) {
  List fresh;
  memset(&fresh, 0, sizeof fresh);
  return settle(option, config, &fresh, push_json(option->type, &fresh, value, place, error));
}

bool option_set_list_text(const Option *option, void *config, const char *text, bool add, OptionPlace place,
                          Error *error) {
  List fresh;
  memset(&fresh, 0, sizeof fresh);
  json_t *value = NULL;
  if (*text == '[' || *text == '{') {
    json_error_t broken;
    value = json_loads(text, JSON_REJECT_DUPLICATES, &broken);
    if (!value) return option_error(error, place, "broken JSON at column %d: %s", broken.column, broken.text);
  }
  bool ok = !add || !*text || push_former(option, config, &fresh, place, error);
  ok = ok && (value ? push_json(option->type, &fresh, value, place, error)
                    : push_words(option->type, &fresh, text, place, error));
  json_decref(value);
  return settle(option, config, &fresh, ok);
}
