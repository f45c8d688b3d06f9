/* A configuration as YAML for people: sections, and beside the values what they mean. base/config_file.h reads it back to the same values. */
#ifndef BASE_YAML_WRITE_H
#define BASE_YAML_WRITE_H

#include "base/json.h"

typedef struct YamlLine {
  const char *key;     /* "optim.lr"; lines of a section stand together */
  const json_t *value; /* borrowed */
  const char *note;    /* shown behind the value as a comment; NULL or "": none */
  bool off;            /* the whole line is a comment: what could stand there */
} YamlLine;

/* Appends the lines behind `indent` blanks. */
NODISCARD bool yaml_write(Buffer *out, const YamlLine *lines, size_t count, int indent, Error *error);
/* Appends a value on one line: a text without quotes where every YAML reads it as that text. */
NODISCARD bool yaml_append_value(Buffer *out, const json_t *value, Error *error);

#endif
