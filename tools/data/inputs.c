#include "tools/data/inputs.h"

#include "base/file.h"
#include "datasets/stream.h"

#include <stdlib.h>
#include <string.h>

static bool has_stream(const OptionStrings *paths) {
  for (size_t i = 0; i < paths->count; i++) {
    if (is_stream(paths->items[i])) return true;
  }
  return false;
}

static bool resolve(Inputs *inputs, const OptionStrings *paths, const char *name, OptionSources *out,
                    Log *log, Error *error) {
  OptionSources asked = {.items = memory_zeroed(paths->count, sizeof *asked.items), .count = paths->count};
  if (!asked.items) return error_out_of_memory(error, name, paths->count * sizeof *asked.items);
  for (size_t i = 0; i < paths->count; i++) asked.items[i] = (OptionSource){paths->items[i], 1};
  const bool ok = sources_resolve(out, &asked, name, inputs->kept.path, log, error);
  memory_free(asked.items);
  return ok;
}

bool inputs_open(Inputs *inputs, const DataConfig *config, Log *log, Error *error) {
  const char *root = getenv("TMPDIR");
  *inputs = (Inputs){0};
  inputs->place = config->out ? memory_copy_string(config->out)
                              : memory_format("%s/drover-data", root && *root ? root : "/tmp");
  if (!inputs->place) return error_out_of_memory(error, "path", 0);
  return ((!has_stream(&config->data) && !has_stream(&config->against)) ||
          draft_directory(&inputs->kept, inputs->place, error)) &&
         resolve(inputs, &config->data, "data", &inputs->data, log, error) &&
         resolve(inputs, &config->against, "against", &inputs->against, log, error);
}

void inputs_close(Inputs *inputs) {
  sources_free(&inputs->data);
  sources_free(&inputs->against);
  draft_drop(&inputs->kept);
  memory_free(inputs->place);
  *inputs = (Inputs){0};
}

const char *inputs_name(const Inputs *inputs, const char *path) {
  const char *kept = inputs->kept.path;
  return kept && strncmp(path, kept, strlen(kept)) == 0 ? path_name(path) : path;
}
