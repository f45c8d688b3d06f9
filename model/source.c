#include "model/source.h"

#include "base/file.h"
#include "formats/bitsandbytes.h"
#include "formats/gguf.h"
#include "model/gguf_config.h"
#include "model/text_part.h"

#include <string.h>

json_t *model_config_read(const char *path, char **shown, Error *error) {
  if (!gguf_locate(path, shown, error)) return NULL;
  if (*shown) return gguf_config_read(*shown, error);
  *shown = path_join(path, "config.json");
  if (!*shown) {
    error_out_of_memory(error, "path", strlen(path));
    return NULL;
  }
  json_t *config = json_file_read(*shown, error);
  if (!config || !text_part_is(config)) return config;
  Error why = {0};
  json_t *text = text_part_config_take(config, &why);
  if (!text) error_set(error, why.code, "%s: %s", *shown, why.message);
  return text;
}

bool model_source_is_part(const char *path) {
  Error ignored = {0};
  char *file = path_join(path, "config.json");
  json_t *config = file && file_exists(file) ? json_file_read(file, &ignored) : NULL;
  const bool is = config && text_part_is(config);
  json_decref(config);
  memory_free(file);
  return is;
}

/* A directory of several models has none that could be read, but is not without. */
static bool is_gguf(const char *path) {
  Error ignored = {0};
  char *file;
  const bool is = !gguf_locate(path, &file, &ignored) || file;
  memory_free(file);
  return is;
}

bool model_config_exists(const char *path) {
  char *config = path_join(path, "config.json");
  const bool there = config && file_exists(config);
  memory_free(config);
  return there || is_gguf(path);
}

bool model_weights_exist(const char *path) {
  return weight_files_exist(path) || is_gguf(path);
}

bool model_weights_open(WeightFiles *files, const char *path, Error *error) {
  char *file;
  *files = (WeightFiles){0};
  if (!gguf_locate(path, &file, error)) return false;
  const bool ok = file ? gguf_weights_open(files, file, error)
                       : weight_files_open(files, path, error) && bnb_weights(files, error);
  memory_free(file);
  return ok && (!model_source_is_part(path) || text_part_weights(files, error));
}
