#include "tools/convert/convert.h"

#include "base/option_elsewhere.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *theirs(const Conversion *c, const char *name) {
  json_t *value = json_object_get(c->file.root, name);
  return json_is_null(value) ? NULL : value;
}

bool is_off(const json_t *value) {
  const char *text = json_string_value(value);
  if (!value || json_is_null(value) || json_is_false(value)) return true;
  if (text) return !*text || strcmp(text, "none") == 0 || strcmp(text, "no") == 0;
  if (json_is_number(value)) return json_number_value(value) == 0;
  return (json_is_array(value) && json_array_size(value) == 0) ||
         (json_is_object(value) && json_object_size(value) == 0);
}

bool is_made(const Conversion *c, const char *key) {
  return json_at(c->made, key) != NULL;
}

bool put_take(Conversion *c, const char *key, json_t *value, const char *note, Error *error) {
  if (is_made(c, key)) {
    json_decref(value);
    return true;
  }
  if (!json_put_take(c->made, key, value, error)) return false;
  if (!note) return true;
  ASSERT(c->note_count < MOST_TAKEN);
  Note *to = &c->notes[c->note_count];
  *to = (Note){.key = memory_copy_string(key), .text = memory_copy_string(note)};
  c->note_count++;
  return (to->key && to->text) || error_out_of_memory(error, "note", strlen(note));
}

bool see(Conversion *c, const char *name, Error *error) {
  return string_list_push(&c->seen, name, error);
}

bool problem(Conversion *c, const char *name, Error *error, const char *format, ...) {
  va_list arguments;
  char why[512];
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  const int line = key_lines_find(&c->file.lines, name);
  char *text = line ? memory_format("%s:%d: '%s': %s", c->file.path, line, name, why)
                    : memory_format("%s: '%s': %s", c->file.path, name, why);
  const bool ok =
      text ? string_list_push(&c->problems, text, error) : error_out_of_memory(error, "problem", 0);
  memory_free(text);
  return ok && see(c, name, error);
}

bool aside(Conversion *c, const char *name, const char *why, Error *error) {
  char *text = memory_format("%s: %s", name, why);
  const bool ok = text ? string_list_push(&c->asides, text, error) : error_out_of_memory(error, "note", 0);
  memory_free(text);
  return ok && see(c, name, error);
}

/* -- by the table --------------------------------------------------------------------------------------- */

/* The value as it stands in ELSEWHERE_WORDS, or "" where it is none of a word. */
static void word_of(const json_t *value, char out[64]) {
  *out = '\0';
  if (json_is_string(value)) {
    snprintf(out, 64, "%s", json_string_value(value));
  } else if (json_is_boolean(value)) {
    snprintf(out, 64, json_is_true(value) ? "true" : "false");
  } else if (json_is_integer(value)) {
    snprintf(out, 64, "%lld", (long long)json_integer_value(value));
  }
}

/* "true", "8" or "nf4" as a value. */
static json_t *word_value(const char *word) {
  json_t *value = json_loads(word, JSON_DECODE_ANY, NULL);
  return value ? value : json_string(word);
}

static bool take_word(Conversion *c, const OptionElsewhere *row, const char *name, const json_t *value,
                      Error *error) {
  char word[64], here[64];
  word_of(value, word);
  if (elsewhere_word(row->words, word, here))
    return !*here || put_take(c, row->key, word_value(here), NULL, error);
  return is_off(value) ||
         problem(c, name, error, "'%s' has no equal here%s%s", *word ? word : json_kind(value),
                 row->remark ? ": " : "", row->remark ? row->remark : "");
}

/* Numbers that YAML's readers in Python take for text (1e-5). */
static json_t *same_value(const json_t *value) {
  const char *text = json_string_value(value);
  char *end;
  const double number = text && *text ? strtod(text, &end) : 0;
  return text && *text && !*end ? json_real(number) : json_deep_copy(value);
}

static bool take_row(Conversion *c, const OptionElsewhere *row, const char *name, const json_t *value,
                     Error *error) {
  if (row->use == ELSEWHERE_WORDS) return take_word(c, row, name, value, error);
  if (is_off(value) && !(json_is_number(value) || json_is_boolean(value))) return true;
  switch (row->use) {
    case ELSEWHERE_SAME:
      return put_take(c, row->key, same_value(value), NULL, error);
    case ELSEWHERE_ASIDE:
      return is_off(value) || aside(c, name, row->remark, error);
    default:
      return is_off(value) || problem(c, name, error, "%s%s%s", row->key ? row->key : "it has no equal here",
                                      row->remark ? ": " : "", row->remark ? row->remark : "");
  }
}

static bool is_seen(const Conversion *c, const char *name) {
  for (size_t i = 0; i < c->seen.count; i++) {
    if (strcmp(c->seen.items[i], name) == 0) return true;
  }
  return false;
}

bool take_rest(Conversion *c, Error *error) {
  const char *name;
  json_t *value;
  bool ok = true;
  json_object_foreach(c->file.root, name, value) {
    if (!ok || is_seen(c, name) || json_is_null(value)) continue;
    const OptionElsewhere *row = option_elsewhere_of(c->stage, name);
    ok = row             ? take_row(c, row, name, value, error)
         : is_off(value) ? aside(c, name, "off, whatever it is", error)
                         : problem(c, name, error, "not known here, or not for %s", c->stage);
  }
  return ok;
}
