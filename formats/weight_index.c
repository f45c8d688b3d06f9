#include "formats/weight_index.h"

#include "base/json.h"

#include <string.h>

static bool fail(Error *error, const char *path, const char *what, const char *name) {
  return error_set(error, ERROR_MODEL, "%s: %s '%.200s'", path, what, name);
}

size_t weight_index_shard(const WeightIndex *index, const json_t *value) {
  /* The last one is tried first, since maps name one shard in a row. */
  for (size_t i = index->shards.count; i-- > 0;)
    if (!strcmp(path_name(index->shards.items[i]), json_string_value(value))) return i;
  return index->shards.count;
}

bool weight_file_is_fetched(const char *path, Error *error) {
  static const char pointer[] = "version https://git-lfs.github.com/spec/";
  char start[sizeof pointer - 1];
  FILE *file = fopen(path, "rb");
  const bool is =
      file && fread(start, 1, sizeof start, file) == sizeof start && !memcmp(start, pointer, sizeof start);
  if (file) fclose(file);
  return !is || error_set(error, ERROR_MODEL,
                          "%s: only the pointer to a file of Git LFS: fetch it (git lfs pull)", path);
}

bool weight_index_lacks(const char *index_path, const char *shard_path, const char *name, Error *error) {
  return error_set(error, ERROR_MODEL, "%s: tensor '%.200s' is not in it, though %s says so", shard_path,
                   name, path_name(index_path));
}

static bool is_plain_name(const char *name, const char *suffix) {
  const size_t length = strlen(name), tail = strlen(suffix);
  return length > tail && !strpbrk(name, "/\\") && *name != '.' && !strcmp(name + length - tail, suffix);
}

static bool add_shard(WeightIndex *index, const char *path, const char *suffix, const char *name,
                      Error *error) {
  if (!is_plain_name(name, suffix))
    return error_set(error, ERROR_MODEL, "%s: expected the name of a %s file, found '%.200s'", path, suffix,
                     name);
  char *directory = path_parent(path);
  char *shard = directory ? path_join(directory, name) : NULL;
  bool ok = shard || error_out_of_memory(error, "path", strlen(name));
  if (ok && !file_exists(shard)) ok = fail(error, path, "names a shard that is not there:", name);
  ok = ok && weight_file_is_fetched(shard, error) && string_list_push(&index->shards, shard, error);
  memory_free(directory);
  memory_free(shard);
  return ok;
}

static bool read_map(WeightIndex *index, const char *path, const char *suffix, Error *error) {
  index->map = json_object_get(index->root, "weight_map");
  if (!json_is_object(index->map)) return fail(error, path, "expected an object", "weight_map");
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)index->map, name, value) {
    const char *shard = json_string_value(value);
    if (!shard) return fail(error, path, "expected the name of a file for", name);
    if (weight_index_shard(index, value) < index->shards.count) continue;
    if (!add_shard(index, path, suffix, shard, error)) return false;
  }
  return true;
}

bool weight_index_open(WeightIndex *index, const char *path, const char *suffix, Error *error) {
  *index = (WeightIndex){0};
  Buffer text = {0};
  bool ok = json_file_text(path, json_limit_tensors, &text, error);
  if (ok) {
    json_error_t broken;
    index->root = json_parse(text.data, text.size, json_limit_tensors, JSON_REJECT_DUPLICATES, &broken);
    ok = index->root ||
         error_set(error, ERROR_MODEL, "%s:%d:%d: %s", path, broken.line, broken.column, broken.text);
  }
  ok = ok && read_map(index, path, suffix, error);
  buffer_free(&text);
  if (!ok) weight_index_close(index);
  return ok;
}

void weight_index_close(WeightIndex *index) {
  json_decref(index->root);
  string_list_free(&index->shards);
  *index = (WeightIndex){0};
}
