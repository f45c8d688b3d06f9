#include "formats/json.h"

#include "base/file.h"

#include <stdlib.h>

json_t *json_file_read(const char *path, Error *error) {
  Buffer text = {0};
  json_t *value = NULL;
  if (file_read(path, &text, error)) {
    json_error_t where;
    value = json_loadb(text.data ? text.data : "", text.size, 0, &where);
    if (!value) error_set(error, ERROR_MODEL, "%s:%d: broken JSON: %s", path, where.line, where.text);
  }
  buffer_free(&text);
  return value;
}

bool json_file_write(const char *path, const json_t *value, Error *error) {
  char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
  char *line = text ? memory_format("%s\n", text) : NULL;
  bool ok = line ? file_write_text(path, line, error) : error_out_of_memory(error, "JSON text", 0);
  memory_free(line);
  free(text);
  return ok;
}
