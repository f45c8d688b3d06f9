#include "base/config_file.h"

#include "base/file.h"
#include "base/yaml.h"

#include <stdio.h>
#include <string.h>

/* -- which of the two ----------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *ending) {
  const size_t length = strlen(path), size = strlen(ending);
  return length >= size && strcmp(path + length - size, ending) == 0;
}

/* Whether the text begins as JSON does, behind blanks and C's comments. */
static bool looks_like_json(const char *text) {
  for (;;) {
    text += strspn(text, " \t\r\n");
    if (strncmp(text, "//", 2) == 0) {
      text += strcspn(text, "\n");
    } else if (strncmp(text, "/*", 2) == 0) {
      const char *end = strstr(text + 2, "*/");
      if (!end) return true;
      text = end + 2;
    } else {
      return *text == '{' || *text == '[';
    }
  }
}

static bool is_yaml(const char *path, const char *text) {
  if (ends_with(path, ".yaml") || ends_with(path, ".yml")) return true;
  return !ends_with(path, ".json") && !looks_like_json(text);
}

/* -- JSON ----------------------------------------------------------------------------------------------- */

/* Bytes of the string at hand, quotes included. */
static size_t string_length(const char *string) {
  const char *at = string + 1;
  for (; *at && *at != '"'; at++) {
    if (*at == '\\' && at[1]) at++;
  }
  return (size_t)(at - string) + (*at == '"');
}

static int line_of(const char *text, const char *at) {
  int line = 1;
  for (; text < at; text++) line += *text == '\n';
  return line;
}

/* Comments become blanks, so that lines and columns stay. The line of one that does not end, else 0. */
static int blank_comments(char *text) {
  for (char *at = text; *at;) {
    if (*at == '"') {
      at += string_length(at);
    } else if (at[0] == '/' && at[1] == '/') {
      for (; *at && *at != '\n'; at++) *at = ' ';
    } else if (at[0] == '/' && at[1] == '*') {
      char *end = strstr(at + 2, "*/");
      if (!end) return line_of(text, at);
      for (; at < end + 2; at++) *at = *at == '\n' ? '\n' : ' ';
    } else {
      at++;
    }
  }
  return 0;
}

static bool read_json(ConfigFile *file, Buffer *text, Error *error) {
  json_error_t broken;
  const int open = text->data ? blank_comments(text->data) : 0;
  if (open > 0) return error_set(error, ERROR_USAGE, "%s:%d: a comment that does not end", file->path, open);
  file->root = json_parse(text->data, text->size, json_limit_config, JSON_REJECT_DUPLICATES, &broken);
  if (!file->root) {
    const int at = broken.position;
    const bool hash = at > 0 && (size_t)at <= text->size && text->data[at - 1] == '#';
    return error_set(error, ERROR_USAGE, "%s:%d:%d: %s%s", file->path, broken.line, broken.column,
                     broken.text,
                     hash ? " (comments are // and /* */; a file with # is YAML, and named .yaml)" : "");
  }
  return json_key_lines(&file->lines, text->data, error);
}

/* -- lines of keys -------------------------------------------------------------------------------------- */

typedef struct Walk {
  KeyLines *lines;
  const char *at;
  int line;
  KeyPath path;
  Error *error;
} Walk;

static void skip_blanks(Walk *w) {
  for (; strchr(" \t\r\n,:", *w->at) && *w->at; w->at++) w->line += *w->at == '\n';
}

static bool walk_value(Walk *w);

static bool walk_members(Walk *w) {
  const size_t length = key_path_length(&w->path);
  for (w->at++, skip_blanks(w); *w->at == '"'; skip_blanks(w)) {
    const size_t bytes = string_length(w->at);
    char name[KEY_PATH_SIZE]; /* escapes stay as they are: no key of a configuration has any */
    snprintf(name, sizeof name, "%.*s", (int)bytes - 2, w->at + 1);
    key_path_member(&w->path, length, name);
    if (!key_lines_add(w->lines, w->path.text, w->line, w->error)) return false;
    w->at += bytes;
    skip_blanks(w);
    if (!walk_value(w)) return false;
  }
  w->at++;
  w->path.text[length] = '\0';
  return true;
}

static bool walk_elements(Walk *w) {
  const size_t length = key_path_length(&w->path);
  size_t count = 0;
  for (w->at++, skip_blanks(w); *w->at && *w->at != ']'; skip_blanks(w)) {
    key_path_element(&w->path, length, count++);
    if (!walk_value(w)) return false;
  }
  w->at++;
  w->path.text[length] = '\0';
  return true;
}

/* The parser has taken the text, so its depth is bounded. */
static bool walk_value(Walk *w) {
  if (*w->at == '{') return walk_members(w);
  if (*w->at == '[') return walk_elements(w);
  w->at += *w->at == '"' ? string_length(w->at) : strcspn(w->at, " \t\r\n,:{}[]\"");
  return true;
}

bool json_key_lines(KeyLines *lines, const char *text, Error *error) {
  Walk w = {.lines = lines, .at = text, .line = 1, .error = error};
  skip_blanks(&w);
  return walk_value(&w);
}

/* -- both ----------------------------------------------------------------------------------------------- */

static bool read_yaml(ConfigFile *file, const Buffer *text, Error *error) {
  json_error_t broken;
  file->root = yaml_parse(text->data, text->size, &file->lines, &broken);
  return file->root ||
         error_set(error, ERROR_USAGE, "%s:%d:%d: %s", file->path, broken.line, broken.column, broken.text);
}

static bool read_text(ConfigFile *file, Buffer *text, Error *error) {
  file->yaml = is_yaml(file->path, text->data ? text->data : "");
  if (!(file->yaml ? read_yaml(file, text, error) : read_json(file, text, error))) return false;
  return json_holds_object(file->root) ||
         error_set(error, ERROR_USAGE, "%s: expected an object of keys and values, found %s", file->path,
                   json_kind(file->root));
}

bool config_file_open(ConfigFile *file, const char *path, Error *error) {
  Buffer text = {0};
  *file = (ConfigFile){.path = memory_copy_string(path)};
  bool ok = file->path || error_out_of_memory(error, "path", strlen(path));
  ok = ok && file_read(path, &text, error) && read_text(file, &text, error);
  buffer_free(&text);
  if (!ok) config_file_close(file);
  return ok;
}

void config_file_close(ConfigFile *file) {
  json_decref(file->root);
  key_lines_free(&file->lines);
  memory_free(file->path);
  *file = (ConfigFile){0};
}
