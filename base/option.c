#include "base/option_value.h"

#include "base/config_file.h"
#include "base/file.h"
#include "base/option_elsewhere.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const Option *option_find(const Option *table, size_t rows, const char *key) {
  for (size_t i = 0; i < rows; i++) {
    if (!strcmp(table[i].key, key)) return &table[i];
  }
  return NULL;
}

/* Length of the part before the first dot; 0 for a key without a section. */
static size_t section_length(const char *key) {
  const char *dot = strchr(key, '.');
  return dot ? (size_t)(dot - key) : 0;
}

enum { LONGEST_NAME = 64, LONGEST_HINT = 400 };

/* Optimal string alignment distance: insertions, deletions, changes and swaps of neighbours. */
static size_t edit_distance(const char *a, const char *b) {
  size_t na = strlen(a), nb = strlen(b), row[3][LONGEST_NAME + 1];
  if (na > LONGEST_NAME || nb > LONGEST_NAME) return SIZE_MAX;
  for (size_t j = 0; j <= nb; j++) row[0][j] = j;
  for (size_t i = 1; i <= na; i++) {
    size_t *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
    now[0] = i;
    for (size_t j = 1; j <= nb; j++) {
      size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
      if (before[j] + 1 < best) best = before[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best) {
        best = earlier[j - 2] + 1;
      }
      now[j] = best;
    }
  }
  return row[na % 3][nb];
}

/* A distance from which on two names are unlike: a third of the name, at least 2. */
static size_t unlike(const char *name) {
  size_t third = strlen(name) / 3 + 1;
  return third < 2 ? 2 : third;
}

/* Their distance, SIZE_MAX for names that are unlike: of two letters not one may be another. */
static size_t likeness(const char *name, const char *candidate) {
  const size_t d = edit_distance(name, candidate), a = strlen(name), b = strlen(candidate);
  return d < unlike(name) && 2 * d < (a > b ? a : b) + (d == 0) ? d : SIZE_MAX;
}

const char *nearest_name(const char *name, const char *const *names, size_t count) {
  const char *nearest = NULL;
  size_t least = SIZE_MAX;
  for (size_t i = 0; i < count; i++) {
    const size_t d = likeness(name, names[i]);
    if (d < least) nearest = names[i], least = d;
  }
  return nearest;
}

/* "wd" of weight_decay, "mbt" of micro_batch_tokens; or "temp", the beginning of temperature. */
static bool abbreviates(const char *name, const char *leaf) {
  const size_t length = strlen(name);
  if (length >= 3 && !strncmp(name, leaf, length)) return true;
  size_t at = 0;
  for (const char *c = leaf; *c; c++) {
    if (c != leaf && c[-1] != '_' && c[-1] != '-') continue;
    if (name[at] != *c) return false;
    at++;
  }
  return length >= 2 && at == length;
}

static const char *leaf_of(const char *key) {
  const char *dot = strrchr(key, '.');
  return dot ? dot + 1 : key;
}

/* How far a key is from one of the table: sections and names are likened each by itself, for a section that is right makes no name
 * likelier. What has no section may be the name alone, or all of it with another sign for the dot. */
static size_t key_likeness(const char *key, const char *known) {
  const size_t n = section_length(key), m = section_length(known);
  if (!n || !m) {
    const size_t whole = likeness(key, known), leaf = n ? SIZE_MAX : likeness(key, leaf_of(known));
    return whole < leaf ? whole : leaf;
  }
  char a[LONGEST_NAME], b[LONGEST_NAME];
  snprintf(a, sizeof a, "%.*s", (int)n, key);
  snprintf(b, sizeof b, "%.*s", (int)m, known);
  const size_t sections = likeness(a, b), names = likeness(key + n + 1, known + m + 1);
  return sections == SIZE_MAX || names == SIZE_MAX ? SIZE_MAX : sections + names;
}

/* The one key whose name is abbreviated, of the section that the key names, if it names one that there is; NULL for several. */
static const char *abbreviated(const Option *table, size_t rows, const char *key, bool anywhere) {
  const char *found = NULL;
  const size_t n = section_length(key);
  for (size_t i = 0; i < rows; i++) {
    const char *known = table[i].key;
    if (!anywhere && (section_length(known) != n || strncmp(known, key, n) != 0)) continue;
    if (!abbreviates(leaf_of(key), leaf_of(known))) continue;
    if (found) return NULL;
    found = known;
  }
  return found;
}

const char *option_nearest(const Option *table, size_t rows, const char *key, char section[64]) {
  const char *nearest = NULL;
  size_t least = SIZE_MAX;
  for (size_t i = 0; i < rows; i++) {
    const size_t d = key_likeness(key, table[i].key);
    if (d < least) nearest = table[i].key, least = d;
    char name[LONGEST_NAME];
    snprintf(name, sizeof name, "%.*s", (int)section_length(table[i].key), table[i].key);
    const size_t whole = *name ? likeness(key, name) : SIZE_MAX;
    if (whole < least) nearest = strcpy(section, name), least = whole;
  }
  if (nearest) return nearest;
  /* The right name in the wrong section. */
  for (size_t i = 0; i < rows; i++) {
    if (section_length(table[i].key) && !strcmp(leaf_of(table[i].key), leaf_of(key))) return table[i].key;
  }
  nearest = section_length(key) ? abbreviated(table, rows, key, false) : NULL;
  return nearest ? nearest : abbreviated(table, rows, key, true);
}

static bool known_section(const Option *table, size_t rows, const char *name) {
  size_t length = strlen(name);
  for (size_t i = 0; i < rows; i++) {
    if (!strncmp(table[i].key, name, length) && table[i].key[length] == '.') return true;
  }
  return false;
}

/* An option whose section only other programs have, or a section that stands for one of its options. */
static bool section_hint(const Option *table, size_t rows, OptionPlace place, const char *near,
                         char hint[LONGEST_HINT]) {
  char section[LONGEST_NAME];
  const size_t length = section_length(place.key);
  snprintf(section, sizeof section, "%.*s", length ? (int)length : (int)strlen(place.key), place.key);
  const char *programs = option_section_programs(section);
  if (programs && !known_section(table, rows, section)) {
    snprintf(hint, LONGEST_HINT, "; the options '%s.*' are those of %s", section, programs);
    return true;
  }
  if (place.file || !near || strchr(near, '.') || !known_section(table, rows, near)) return false;
  snprintf(hint, LONGEST_HINT, "; '%s' is a section of options: --help %s lists them", near, near);
  return true;
}

/* What is said of an unknown key: what it is here, where it is known from elsewhere; else the nearest; else "". */
static void key_hint(const Option *table, size_t rows, OptionPlace place, char hint[LONGEST_HINT]) {
  char section[LONGEST_NAME];
  const char *dashes = place.file ? "" : "--";
  const OptionElsewhere *known = option_elsewhere(table, rows, place.key);
  const bool here = known && (!known->key || option_find(table, rows, known->key));
  const bool others = known && !here && !strcmp(known->key, place.key);
  const char *near = here ? NULL : option_nearest(table, rows, place.key, section);
  if (!here && !others && section_hint(table, rows, place, near, hint)) return;
  if (here && known->key) {
    snprintf(hint, LONGEST_HINT, "; here it is '%s%s'%s%s", dashes, known->key, known->remark ? ": " : "",
             known->remark ? known->remark : "");
  } else if (here) {
    snprintf(hint, LONGEST_HINT, "; it has no equal here: %s", known->remark);
  } else if (near && !others) {
    snprintf(hint, LONGEST_HINT, "; did you mean '%s%s'?", dashes, near);
  } else if (others) {
    snprintf(hint, LONGEST_HINT, "; it is an option of %s", known->programs);
  } else if (known) {
    snprintf(hint, LONGEST_HINT, "; it is '%s%s' of %s", dashes, known->key, known->programs);
  } else {
    snprintf(hint, LONGEST_HINT, "%s", place.file ? "" : "; --help lists them");
  }
}

static bool unknown_key(const Option *table, size_t rows, OptionPlace place, Error *error) {
  char hint[LONGEST_HINT];
  key_hint(table, rows, place, hint);
  if (place.line)
    return error_set(error, ERROR_USAGE, "%s:%d: unknown key '%s'%s", place.file, place.line, place.key,
                     hint);
  if (place.file) return error_set(error, ERROR_USAGE, "%s: unknown key '%s'%s", place.file, place.key, hint);
  return error_set(error, ERROR_USAGE, "unknown option '--%s'%s", place.key, hint);
}

/* A config that is being filled. */
typedef struct Target {
  const Option *table;
  size_t rows;
  void *config;
  OptionGiven *given;
  bool set[OPTION_MOST_ROWS]; /* by the file at hand */
} Target;

static void note_origin(Target *target, const Option *option, OptionOrigin origin) {
  target->given->origin[option - target->table] = (unsigned char)origin;
}

static bool set_from_file(Target *target, const Option *option, const json_t *value, OptionPlace place,
                          Error *error) {
  bool *set = &target->set[option - target->table];
  if (*set) return option_error(error, place, "is given twice, within its section and by its whole name");
  *set = true;
  note_origin(target, option, OPTION_FROM_FILE);
  return option_set_json(option, target->config, value, place, error);
}

static bool fail_section(const json_t *value, OptionPlace place, Error *error) {
  const char *text = json_string_value(value), *colon = text ? strchr(text, ':') : NULL;
  return option_error(error, place, "expected an object with the keys of this section, found %s%s",
                      json_kind(value), colon ? " (a space stands behind the colon of a key)" : "");
}

/* Sections stand as objects, or their keys as "section.key". One with nothing in it may be null, as where all its lines are comments. */
static bool read_object(Target *target, const ConfigFile *file, const char *prefix, const json_t *object,
                        Error *error) {
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)object, name, value) {
    if (!*prefix && !strcmp(name, "about") && json_is_string(value)) continue;
    char key[2 * LONGEST_NAME];
    snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name);
    const OptionPlace place = {file->path, key, key_lines_find(&file->lines, key)};
    const Option *option = option_find(target->table, target->rows, key);
    bool ok;
    if (option) {
      ok = set_from_file(target, option, value, place, error);
    } else if (!known_section(target->table, target->rows, key)) {
      ok = unknown_key(target->table, target->rows, place, error);
    } else if (json_is_object(value)) {
      ok = read_object(target, file, key, value, error);
    } else {
      ok = json_is_null(value) || fail_section(value, place, error);
    }
    if (!ok) return false;
  }
  return true;
}

static bool read_file(Target *target, const char *path, Error *error) {
  ConfigFile file;
  Error reading = {0};
  if (config_file_open(&file, path, &reading)) {
    memset(target->set, 0, sizeof target->set);
    const bool ok = json_is_array(json_object_get(file.root, "stages"))
                        ? error_set(error, ERROR_USAGE, "%s is a pipeline: drover run %s", path, path)
                        : read_object(target, &file, "", file.root, error);
    config_file_close(&file);
    return ok;
  }
  if (reading.code != ERROR_FILE) return error_set(error, reading.code, "%s", reading.message);
  return error_set(error, ERROR_USAGE, "--config: %s", reading.message);
}

static bool set_defaults(const Option *table, size_t rows, void *config, Error *error) {
  for (size_t i = 0; i < rows; i++) {
    if (!table[i].fallback) continue;
    /* A default that its own row refuses is a bug of the table, but the message says which. */
    if (!option_set_text(&table[i], config, table[i].fallback,
                         (OptionPlace){.file = "default", .key = table[i].key}, error)) {
      return false;
    }
  }
  return true;
}

static bool read_flag(OptionRequest *request, const char *name) {
  bool *flag = !strcmp(name, "--help") || !strcmp(name, "-h") ? &request->help
               : !strcmp(name, "--print-config")              ? &request->print_config
               : !strcmp(name, "--check")                     ? &request->check
               : !strcmp(name, "--version")                   ? &request->version
               : !strcmp(name, "--json")                      ? &request->json
                                                              : NULL;
  if (flag) *flag = true;
  return flag != NULL;
}

static bool ends_with(const char *text, const char *end) {
  const size_t length = strlen(text), tail = strlen(end);
  return length > tail && strcmp(text + length - tail, end) == 0;
}

/* The option that a file or a directory is most likely meant for; NULL: none. */
static const Option *option_of_path(const Target *target, const char *path) {
  const bool model = directory_exists(path);
  if (!model && !file_exists(path)) return NULL;
  for (size_t i = 0; i < target->rows; i++) {
    const Option *option = &target->table[i];
    if (model ? option->names == OPTION_NAMES_MODEL : option->type == OPTION_SOURCES) return option;
  }
  return NULL;
}

/* A word that no option takes: a value whose spaces stand in no quotes, or a file without its option. */
static bool fail_stray(const Target *target, char **argv, int at, Error *error) {
  const char *word = argv[at];
  const Option *option = *word == '-' ? NULL : option_of_path(target, word);
  const bool torn = at > 2 && *word != '-' && *argv[at - 1] != '-' && !strncmp(argv[at - 2], "--", 2);
  if (ends_with(word, ".yaml") || ends_with(word, ".yml"))
    return error_set(error, ERROR_USAGE, "unexpected argument '%s'; a configuration is given as --config %s",
                     word, word);
  if (option)
    return error_set(error, ERROR_USAGE,
                     "unexpected argument '%s'; options begin with --: did you mean --%s %s?", word,
                     option->key, word);
  return error_set(error, ERROR_USAGE, "unexpected argument '%s'; options begin with --%s%s%s%s%s%s", word,
                   torn ? ", and a value with spaces stands in quotes: " : "", torn ? argv[at - 2] : "",
                   torn ? " '" : "", torn ? argv[at - 1] : "", torn ? " ..." : "", torn ? "'" : "");
}

/* One "--key VALUE", "--key=VALUE" or bare boolean. `*at` is moved past what was used. With `files` only
 * --config is acted on, without it only the other options: files come first wherever they stand. */
static bool read_argument(Target *target, int argc, char **argv, int *at, bool files, Error *error) {
  const char *argument = argv[(*at)++];
  if (strncmp(argument, "--", 2) != 0 || !argument[2]) {
    return fail_stray(target, argv, *at - 1, error);
  }
  char key[2 * LONGEST_NAME];
  const char *equals = strchr(argument, '='), *value = equals ? equals + 1 : NULL;
  snprintf(key, sizeof key, "%.*s", equals ? (int)(equals - argument - 2) : (int)strlen(argument),
           argument + 2);
  const Option *option = option_find(target->table, target->rows, key);
  bool is_file = !option && !strcmp(key, "config");
  if (!is_file && !option) {
    return unknown_key(target->table, target->rows, (OptionPlace){.key = key}, error);
  }
  bool next_is_option = *at >= argc || !strncmp(argv[*at], "--", 2);
  if (!value && !next_is_option) value = argv[(*at)++];
  if (!value && option && option->type == OPTION_BOOL) value = "true";
  if (!value) {
    return error_set(error, ERROR_USAGE, "option '--%s' needs a value%s", key,
                     *at < argc ? " (one that begins with -- is written --key=VALUE)" : "");
  }
  if (is_file != files) return true;
  if (is_file) return read_file(target, value, error);
  const OptionPlace place = {.key = key};
  const bool list = option->type == OPTION_STRINGS || option->type == OPTION_SOURCES;
  const bool again = list && *value && target->given->origin[option - target->table] >= OPTION_FROM_LINE;
  note_origin(target, option, again ? OPTION_ADDED_TO : OPTION_FROM_LINE);
  return list ? option_set_list_text(option, target->config, value, again, place, error)
              : option_set_text(option, target->config, value, place, error);
}

static bool is_missing(const Option *option, const void *config, bool check) {
  return option->required && !(check && option->check_without) && !option_is_set(option, config);
}

/* All that are missing are named at once. */
static bool check_required(const Option *table, size_t rows, const void *config, bool check, Error *error) {
  size_t missing = 0, said = 0;
  for (size_t i = 0; i < rows; i++) missing += is_missing(&table[i], config, check);
  if (!missing) return true;
  Buffer keys = {0}, options = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < rows; i++) {
    const Option *option = &table[i];
    if (!is_missing(option, config, check)) continue;
    const char *between = !said ? "" : said + 1 < missing ? ", " : " and ";
    ok =
        buffer_format(&keys, error, "%s'%s'", between, option->key) &&
        buffer_format(&options, error, "%s--%s (%s)", between, option->key, option->help ? option->help : "");
    said++;
  }
  if (ok) {
    error_set(error, ERROR_USAGE, "%s %s required: give %s or set %s in the config file", keys.data,
              missing > 1 ? "are" : "is", options.data, missing > 1 ? "them" : "it");
  }
  buffer_free(&keys);
  buffer_free(&options);
  return false;
}

/* The text of a path that is "<what belongs here>", as a new configuration has it where something is to be filled in; else NULL. */
static const char *placeholder_of(const Option *option, const void *config) {
  const char *text = NULL;
  if (option->type == OPTION_SOURCES) {
    const OptionSources *list = (const void *)((const char *)config + option->offset);
    if (list->count == 1) text = list->items[0].path;
  } else if (option->names != OPTION_NAMES_NOTHING) {
    text = option_text(option, config);
  }
  return text && text[0] == '<' && text[1] && text[strlen(text) - 1] == '>' ? text : NULL;
}

/* All of them at once. */
static bool check_placeholders(const Option *table, size_t rows, const void *config, Error *error) {
  Buffer list = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < rows; i++) {
    const char *text = placeholder_of(&table[i], config);
    if (!text) continue;
    ok = buffer_format(&list, error, "%s%s (%.*s)", list.size ? ", " : "", table[i].key,
                       (int)strlen(text) - 2, text + 1);
  }
  if (ok && list.size)
    ok = error_set(error, ERROR_USAGE, "still to be filled in, in the file or on the command line: %s",
                   list.data);
  buffer_free(&list);
  return ok;
}

/* Defaults that depend on other options, where the user gave none. */
static bool set_dependent_defaults(Target *target, Error *error) {
  for (size_t i = 0; i < target->rows; i++) {
    const Option *option = &target->table[i];
    if (!option->instead || target->given->origin[i] != OPTION_DEFAULT) continue;
    if (!option_holds(target->table, target->rows, target->config, option->instead_when)) continue;
    const OptionPlace place = {.file = "default", .key = option->key};
    if (!option_set_text(option, target->config, option->instead, place, error)) return false;
  }
  return true;
}

bool options_parse(const Option *table, size_t rows, void *config, int argc, char **argv,
                   OptionRequest *request, Error *error) {
  ASSERT(rows <= OPTION_MOST_ROWS);
  *request = (OptionRequest){.given = {.table = table, .rows = rows}};
  Target target = {.table = table, .rows = rows, .config = config, .given = &request->given};
  if (!set_defaults(table, rows, config, error)) return false;
  /* Who asks for help may have anything else on the line. */
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") || !strcmp(argv[i], "--version")) {
      read_flag(request, argv[i]);
      if (request->help && i + 1 < argc && argv[i + 1][0] != '-') request->help_topic = argv[i + 1];
    }
  }
  if (request->help || request->version) return true;
  for (int pass = 0; pass < 2; pass++) {
    for (int at = 1; at < argc;) {
      if (read_flag(request, argv[at])) {
        at++;
      } else if (!read_argument(&target, argc, argv, &at, pass == 0, error)) {
        return false;
      }
    }
  }
  return options_exclude(&request->given, config, error) && set_dependent_defaults(&target, error) &&
         check_placeholders(table, rows, config, error) &&
         check_required(table, rows, config, request->check, error);
}

static bool check_members(const Option *table, size_t rows, const void *config, const char *place,
                          Error *error) {
  for (size_t i = 0; i < rows; i++) {
    if (!is_missing(&table[i], config, false)) continue;
    return error_set(error, ERROR_USAGE, "%s: '%s' is required (%s)", place, table[i].key, table[i].help);
  }
  return true;
}

bool options_read(const Option *table, size_t rows, void *config, const json_t *object, const char *place,
                  Error *error) {
  ASSERT(rows <= OPTION_MOST_ROWS);
  OptionGiven given = {.table = table, .rows = rows};
  Target target = {.table = table, .rows = rows, .config = config, .given = &given};
  const ConfigFile file = {.path = (char *)place};
  return set_defaults(table, rows, config, error) && read_object(&target, &file, "", object, error) &&
         set_dependent_defaults(&target, error) && check_members(table, rows, config, place, error);
}

bool options_recall(const Option *table, size_t rows, void *config, const char *text, const char *place,
                    Error *error) {
  json_error_t broken;
  json_t *root = json_loads(text, 0, &broken);
  if (!root) return error_set(error, ERROR_MODEL, "%s: broken configuration: %s", place, broken.text);
  bool ok = set_defaults(table, rows, config, error);
  for (size_t i = 0; ok && i < rows; i++) {
    const json_t *value = json_at(root, table[i].key);
    ok = !value ||
         option_set_json(&table[i], config, value, (OptionPlace){.file = place, .key = table[i].key}, error);
  }
  json_decref(root);
  return ok;
}

void options_free(const Option *table, size_t rows, void *config) {
  for (size_t i = 0; i < rows; i++) option_clear(&table[i], config);
}

const char *option_text(const Option *option, const void *config) {
  ASSERT(option->type == OPTION_STRING || option->type == OPTION_OBJECTS);
  return *(char *const *)((const char *)config + option->offset);
}

bool option_replace_text(const Option *option, void *config, const char *text, Error *error) {
  ASSERT(option->type == OPTION_STRING || option->type == OPTION_OBJECTS);
  return option_set_text(option, config, text, (OptionPlace){.key = option->key}, error);
}
