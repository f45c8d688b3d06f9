#include "base/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { MOST_BYTES = 1 << 20, MOST_DEPTH = 64 };

typedef struct Reader {
  yaml_parser_t parser;
  const char *text;
  size_t bytes;
  yaml_event_t event; /* the one at hand */
  KeyLines *lines;    /* or NULL */
  KeyPath path;       /* of the value at hand */
  json_error_t *problem;
} Reader;

static bool refuse(Reader *r, yaml_mark_t mark, const char *format, ...) PRINTF_LIKE(3, 4);
static bool refuse(Reader *r, yaml_mark_t mark, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(r->problem->text, sizeof r->problem->text, format, arguments);
  va_end(arguments);
  r->problem->line = (int)mark.line + 1;
  r->problem->column = (int)mark.column + 1;
  return false;
}

/* What the parser's own words do not say. */
static const char *hint(const Reader *r, const yaml_parser_t *parser) {
  const size_t at = parser->problem_mark.index;
  if (at < r->bytes && r->text[at] == '\t') return " (a tab: YAML is indented by spaces)";
  if (strstr(parser->problem, "could not find expected ':'"))
    return " (a key and its value stand as 'key: value')";
  if (strstr(parser->problem, "expected alphabetic or numeric"))
    return " (a text that begins with * or & stands in quotes)";
  return "";
}

static bool parser_failed(Reader *r) {
  const yaml_parser_t *parser = &r->parser;
  if (parser->error == YAML_MEMORY_ERROR) return refuse(r, parser->mark, "no memory for parsing it");
  if (parser->error == YAML_READER_ERROR)
    return refuse(r, parser->mark, "broken YAML: %s at byte %zu", parser->problem, parser->problem_offset);
  return refuse(r, parser->problem_mark, "broken YAML: %s%s%s%s", parser->context ? parser->context : "",
                parser->context ? ": " : "", parser->problem, hint(r, parser));
}

static bool next(Reader *r) {
  yaml_event_delete(&r->event);
  return yaml_parser_parse(&r->parser, &r->event) || parser_failed(r);
}

/* -- what is never taken -------------------------------------------------------------------------------- */

static bool check_properties(Reader *r, const yaml_char_t *anchor, const yaml_char_t *tag) {
  const yaml_mark_t mark = r->event.start_mark;
  if (anchor)
    return refuse(r, mark, "'&%.60s' is an anchor, which is not read here: write the value at each place",
                  (const char *)anchor);
  if (tag)
    return refuse(r, mark, "'%.60s' is a tag, which is not read here: leave it out", (const char *)tag);
  return true;
}

/* -- values --------------------------------------------------------------------------------------------- */

static json_t *read_value(Reader *r, int depth);

static json_t *read_scalar(Reader *r) {
  const char *text = (const char *)r->event.data.scalar.value;
  if (!check_properties(r, r->event.data.scalar.anchor, r->event.data.scalar.tag)) return NULL;
  if (strlen(text) != r->event.data.scalar.length) {
    refuse(r, r->event.start_mark, "a text with the character 0 in it");
    return NULL;
  }
  if (r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
    json_t *value = json_string(text);
    if (!value) refuse(r, r->event.start_mark, "no memory for parsing it");
    return value;
  }
  char why[JSON_ERROR_TEXT_LENGTH];
  json_t *value = yaml_plain_value(text, why, sizeof why);
  if (!value) refuse(r, r->event.start_mark, "%s", why);
  return value;
}

static json_t *read_list(Reader *r, int depth) {
  const size_t length = key_path_length(&r->path);
  json_t *list = json_array();
  bool ok =
      list && check_properties(r, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag);
  while ((ok = ok && next(r)) && r->event.type != YAML_SEQUENCE_END_EVENT) {
    key_path_element(&r->path, length, json_array_size(list));
    json_t *value = read_value(r, depth + 1);
    ok = value && json_array_append_new(list, value) == 0;
  }
  r->path.text[length] = '\0';
  if (ok) return list;
  json_decref(list);
  return NULL;
}

/* Reads the key at hand into *key (a new string) and puts it into the path. */
static bool read_key(Reader *r, const json_t *object, size_t length, char **key) {
  const yaml_mark_t mark = r->event.start_mark;
  Error error = {0};
  if (r->event.type != YAML_SCALAR_EVENT) return refuse(r, mark, "a key that is no text");
  if (!check_properties(r, r->event.data.scalar.anchor, r->event.data.scalar.tag)) return false;
  const char *text = (const char *)r->event.data.scalar.value;
  if (!*text) return refuse(r, mark, "an empty key");
  if (strcmp(text, "<<") == 0)
    return refuse(r, mark, "'<<' merges, which is not read here: write the keys at each place");
  key_path_member(&r->path, length, text);
  if (json_object_get(object, text)) {
    const int before = r->lines ? key_lines_find(r->lines, r->path.text) : 0;
    return before ? refuse(r, mark, "'%.60s' is given twice, first in line %d", text, before)
                  : refuse(r, mark, "'%.60s' is given twice", text);
  }
  if (r->lines && !key_lines_add(r->lines, r->path.text, (int)mark.line + 1, &error))
    return refuse(r, mark, "no memory for parsing it");
  *key = memory_copy_string(text);
  return *key || refuse(r, mark, "no memory for parsing it");
}

static json_t *read_object(Reader *r, int depth) {
  const size_t length = key_path_length(&r->path);
  json_t *object = json_object();
  bool ok =
      object && check_properties(r, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag);
  while ((ok = ok && next(r)) && r->event.type != YAML_MAPPING_END_EVENT) {
    char *key = NULL;
    ok = read_key(r, object, length, &key) && next(r);
    json_t *value = ok ? read_value(r, depth + 1) : NULL;
    ok = value && json_object_set_new(object, key, value) == 0;
    memory_free(key);
  }
  r->path.text[length] = '\0';
  if (ok) return object;
  json_decref(object);
  return NULL;
}

/* The value that the event at hand begins. */
static json_t *read_value(Reader *r, int depth) {
  const yaml_mark_t mark = r->event.start_mark;
  if (depth > MOST_DEPTH) {
    refuse(r, mark, "more than %d levels", MOST_DEPTH);
    return NULL;
  }
  switch (r->event.type) {
    case YAML_SCALAR_EVENT:
      return read_scalar(r);
    case YAML_SEQUENCE_START_EVENT:
      return read_list(r, depth);
    case YAML_MAPPING_START_EVENT:
      return read_object(r, depth);
    case YAML_ALIAS_EVENT:
      refuse(r, mark,
             "'*%.60s' is an alias, which is not read here: write the value itself, or in quotes if it is a "
             "text",
             (const char *)r->event.data.alias.anchor);
      return NULL;
    default:
      refuse(r, mark, "no value");
      return NULL;
  }
}

static json_t *read_document(Reader *r) {
  json_t *value = NULL;
  if (!next(r) || !next(r)) return NULL; /* the stream begins, a document begins */
  if (r->event.type == YAML_STREAM_END_EVENT) return json_null();
  if (next(r)) value = read_value(r, 0);
  if (value && next(r) && next(r)) { /* the document ends, the stream should */
    if (r->event.type == YAML_STREAM_END_EVENT) return value;
    refuse(r, r->event.start_mark, "a second document: one file is one configuration");
  }
  json_decref(value);
  return NULL;
}

json_t *yaml_parse(const char *text, size_t bytes, KeyLines *lines, json_error_t *problem) {
  Reader r = {.text = text ? text : "", .bytes = bytes, .lines = lines, .problem = problem};
  *problem = (json_error_t){.line = 1};
  if (bytes > MOST_BYTES) {
    snprintf(problem->text, sizeof problem->text, "too large: %zu bytes, at most %d are read", bytes,
             MOST_BYTES);
    return NULL;
  }
  if (!yaml_parser_initialize(&r.parser)) {
    snprintf(problem->text, sizeof problem->text, "no memory for parsing it");
    return NULL;
  }
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.text, bytes);
  json_t *value = read_document(&r);
  if (!value && !*problem->text) snprintf(problem->text, sizeof problem->text, "no memory for parsing it");
  yaml_event_delete(&r.event);
  yaml_parser_delete(&r.parser);
  return value;
}
