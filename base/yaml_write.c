#include "base/yaml_write.h"

#include "base/yaml.h"

#include <string.h>

enum { NOTE_COLUMN = 38 };

/* Letters, digits and what a path has, beginning with a letter or as a path; and nothing but text to any version. */
static bool is_plain(const char *text) {
  static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_./";
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_./0123456789@+-";
  char why[JSON_ERROR_TEXT_LENGTH];
  if (!*text || !strchr(first, *text) || text[strspn(text, letters)]) return false;
  if (strlen(text) == 1 && strchr("yYnN", *text)) return false; /* booleans to the letter of 1.1 */
  json_t *value = yaml_plain_value(text, why, sizeof why);
  const bool is_text = json_is_string(value);
  json_decref(value);
  return is_text;
}

static bool append_list(Buffer *out, const json_t *list, Error *error) {
  bool ok = buffer_text(out, "[", error);
  for (size_t i = 0; ok && i < json_array_size(list); i++)
    ok = (i == 0 || buffer_text(out, ", ", error)) && yaml_append_value(out, json_array_get(list, i), error);
  return ok && buffer_text(out, "]", error);
}

static bool append_object(Buffer *out, const json_t *object, Error *error) {
  const char *name, *between = "";
  json_t *value;
  bool ok = buffer_text(out, "{", error);
  json_object_foreach((json_t *)object, name, value) {
    json_t *key = json_string(name);
    ok = ok && (key || error_out_of_memory(error, "YAML", strlen(name))) &&
         buffer_text(out, between, error) && yaml_append_value(out, key, error) &&
         buffer_text(out, ": ", error) && yaml_append_value(out, value, error);
    json_decref(key);
    between = ", ";
  }
  return ok && buffer_text(out, "}", error);
}

bool yaml_append_value(Buffer *out, const json_t *value, Error *error) {
  if (json_is_array(value)) return append_list(out, value, error);
  if (json_is_object(value)) return append_object(out, value, error);
  if (json_is_string(value) && is_plain(json_string_value(value)))
    return buffer_text(out, json_string_value(value), error);
  return json_append_text(out, value, error); /* JSON's strings in quotes are YAML's */
}

static size_t section_length(const char *key) {
  const char *dot = strchr(key, '.');
  return dot ? (size_t)(dot - key) : 0;
}

static bool write_line(Buffer *out, const YamlLine *line, int indent, Error *error) {
  const size_t begin = out->size, section = section_length(line->key);
  if (!buffer_format(out, error, "%*s%s%s: ", indent + (section ? 2 : 0), "", line->off ? "# " : "",
                     line->key + (section ? section + 1 : 0)) ||
      !yaml_append_value(out, line->value, error))
    return false;
  if (line->note && *line->note) {
    const int used = (int)(out->size - begin), column = indent + NOTE_COLUMN;
    if (!buffer_format(out, error, "%*s# %s", used < column ? column - used : 2, "", line->note))
      return false;
  }
  return buffer_text(out, "\n", error);
}

bool yaml_write(Buffer *out, const YamlLine *lines, size_t count, int indent, Error *error) {
  for (size_t i = 0; i < count; i++) {
    const size_t length = section_length(lines[i].key);
    const bool opens = length > 0 && (i == 0 || section_length(lines[i - 1].key) != length ||
                                      strncmp(lines[i - 1].key, lines[i].key, length) != 0);
    if (opens && !buffer_format(out, error, "%*s%.*s:\n", indent, "", (int)length, lines[i].key))
      return false;
    if (!write_line(out, &lines[i], indent, error)) return false;
  }
  return true;
}
