/* A configuration file: JSON or YAML, known by its name (*.json, *.yaml, *.yml), else by whether it begins with { or [.
 *
 * JSON may have comments here, in the form of C: from // to the end of the line, and between slash-star and star-slash. YAML is
 * that of base/yaml.h. Keys know their lines, for messages. */
#ifndef BASE_CONFIG_FILE_H
#define BASE_CONFIG_FILE_H

#include "base/json.h"
#include "base/key_lines.h"

typedef struct ConfigFile {
  char *path;
  json_t *root;
  bool yaml;
  KeyLines lines;
} ConfigFile;

/* What cannot be read is ERROR_FILE; what is broken, has a key twice or is no object is ERROR_USAGE "PATH:LINE:COLUMN: ...". */
NODISCARD bool config_file_open(ConfigFile *file, const char *path, Error *error);
void config_file_close(ConfigFile *file);

/* The lines of all keys of a JSON text that parses. */
NODISCARD bool json_key_lines(KeyLines *lines, const char *text, Error *error);

#endif
