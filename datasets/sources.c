#include "datasets/sources.h"

#include "base/file.h"
#include "base/path_hint.h"
#include "datasets/stream.h"

#include <stdio.h>
#include <string.h>

void sources_free(OptionSources *sources) {
  for (size_t i = 0; i < sources->count; i++) memory_free(sources->items[i].path);
  memory_free(sources->items);
  *sources = (OptionSources){0};
}

/* Takes the path over, also when it fails. */
static bool push_take(OptionSources *out, char *path, double weight, Error *error) {
  OptionSource *items = path ? memory_resize(out->items, (out->count + 1) * sizeof *items) : NULL;
  if (!items) {
    memory_free(path);
    return error_out_of_memory(error, "data sources", (out->count + 1) * sizeof *items);
  }
  items[out->count] = (OptionSource){.path = path, .weight = weight};
  out->items = items;
  out->count++;
  return true;
}

static bool ends_with(const char *name, size_t length, const char *ending) {
  const size_t size = strlen(ending);
  return length > size && memcmp(name + length - size, ending, size) == 0;
}

static bool is_shard(const char *name) {
  size_t length = strlen(name);
  if (ends_with(name, length, ".gz")) {
    length -= 3;
  } else if (ends_with(name, length, ".zst")) {
    length -= 4;
  }
  return *name != '.' && (ends_with(name, length, ".jsonl") || ends_with(name, length, ".json"));
}

/* Names that are passed over, as many as a line of the log holds. */
static bool note_other(Buffer *others, const char *name, Error *error) {
  if (others->size > 200) return true;
  return buffer_format(others, error, "%s%s", others->size ? ", " : "", others->size > 180 ? "..." : name);
}

static bool push_directory(OptionSources *out, const OptionSource *asked, const char *label, Log *log,
                           Error *error) {
  StringList names = {0};
  Buffer others = {0};
  const size_t before = out->count;
  bool ok = directory_list(asked->path, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    char *path = path_join(asked->path, names.items[i]);
    if (path && (!is_shard(names.items[i]) || directory_exists(path))) {
      memory_free(path);
      ok = note_other(&others, names.items[i], error);
    } else {
      ok = push_take(out, path, asked->weight, error);
    }
  }
  if (ok && out->count == before) {
    ok = error_set(error, ERROR_FILE,
                   "%s: %s: a directory without data files (*.jsonl or *.json, also with .gz or .zst)", label,
                   asked->path);
  }
  if (ok && others.size && log) {
    log_info(log, "%s: %s: passed over: %s", label, asked->path, others.data);
  }
  string_list_free(&names);
  buffer_free(&others);
  return ok;
}

static bool push_stream(OptionSources *out, const OptionSource *asked, const char *label,
                        const char *cache_dir, Log *log, Error *error) {
  char *file, count[32];
  uint64_t bytes;
  if (!stream_keep(asked->path, cache_dir, &file, &bytes, error)) return false;
  if (bytes == 0) {
    memory_free(file);
    return error_set(error, ERROR_FILE, "%s: %s: nothing came; a pipe can be given once", label, asked->path);
  }
  if (log) {
    log_info(log, "%s: %s: %s bytes kept as %s", label, asked->path, grouped_number((int64_t)bytes, count),
             file);
  }
  return push_take(out, file, asked->weight, error);
}

/* A name of a data set on the hub: one slash, and no such folder here. */
static bool sounds_like_hub(const char *path) {
  const char *slash = strchr(path, '/');
  if (!slash || slash == path || strchr(slash + 1, '/') || strstr(path, ".json") || path[0] == '.')
    return false;
  char *folder = path_parent(path);
  const bool here = folder && directory_exists(folder);
  memory_free(folder);
  return !here;
}

static bool push_file(OptionSources *out, const OptionSource *source, const char *label, Error *error) {
  char hint[512] = "";
  if (file_exists(source->path))
    return push_take(out, memory_copy_string(source->path), source->weight, error);
  path_hint(source->path, hint, sizeof hint);
  if (!*hint && sounds_like_hub(source->path))
    snprintf(hint, sizeof hint,
             "; nothing is downloaded: hf download --type dataset %s fetches one of the hub", source->path);
  return error_set(error, ERROR_FILE, "%s: there is no file %s%s", label, source->path, hint);
}

bool sources_resolve(OptionSources *out, const OptionSources *asked, const char *name, const char *cache_dir,
                     Log *log, Error *error) {
  bool ok = true;
  *out = (OptionSources){0};
  for (size_t i = 0; ok && i < asked->count; i++) {
    const OptionSource *source = &asked->items[i];
    if (is_stream(source->path)) {
      ok = push_stream(out, source, name, cache_dir, log, error);
    } else if (directory_exists(source->path)) {
      ok = push_directory(out, source, name, log, error);
    } else {
      ok = push_file(out, source, name, error);
    }
  }
  if (!ok) sources_free(out);
  return ok;
}
