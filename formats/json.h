/* JSON files of models and adapters: whole-file reading with the line of a mistake, atomic writing. */
#ifndef FORMATS_JSON_H
#define FORMATS_JSON_H

#include "base/error.h"

#include <jansson.h>

/* A new reference, or NULL. A file that cannot be read is ERROR_FILE, broken JSON is ERROR_MODEL "PATH:LINE: ...". */
json_t *json_file_read(const char *path, Error *error);
/* Indented by two spaces, newline at the end; keys in the object's order. */
NODISCARD bool json_file_write(const char *path, const json_t *value, Error *error);

#endif
