#include "formats/safetensors.h"

#include "base/json.h"
#include "formats/weight_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, HEADER_LIMIT = 100000000 };
static const char metadata_key[] = "__metadata__";

void safetensors_shape_text(int rank, const int64_t *shape, char *out, size_t size) {
  int used = snprintf(out, size, "[");
  for (int i = 0; i < rank && (size_t)used < size; i++) {
    used += snprintf(out + used, size - (size_t)used, "%s%lld", i ? ", " : "", (long long)shape[i]);
  }
  if ((size_t)used < size) snprintf(out + used, size - (size_t)used, "]");
}

bool safetensors_not_finite(const SafetensorsEntry *entry, size_t broken, Error *error) {
  const size_t count = entry->bytes / dtype_size(entry->dtype);
  return error_set(error, ERROR_MODEL,
                   "%s: %s: %zu of %zu values are not finite (NaN or infinite): the file is broken",
                   entry->path, entry->name, broken, count);
}

static bool fail(const SafetensorsFile *file, const char *name, Error *error, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* "PATH: tensor 'NAME' ..." or, without a name, "PATH: ...". Always returns false. */
static bool fail(const SafetensorsFile *file, const char *name, Error *error, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (!name) return error_set(error, ERROR_MODEL, "%s: %s", file->path, text);
  return error_set(error, ERROR_MODEL, "%s: tensor '%.200s' %s", file->path, name, text);
}

static bool read_dtype(const SafetensorsFile *file, const json_t *info, SafetensorsEntry *entry,
                       Error *error) {
  const json_t *dtype = json_object_get(info, "dtype");
  if (!json_is_string(dtype)) return fail(file, entry->name, error, "has no 'dtype' string");
  const char *text = json_string_value(dtype);
  /* Only the file spelling counts here: "f32" in a header is as wrong as any other word. */
  if (!dtype_parse(text, &entry->dtype) || strcmp(dtype_file_name(entry->dtype), text) != 0) {
    return fail(file, entry->name, error, "has the type '%.40s', which is not supported", text);
  }
  return true;
}

/* Shape, and the bytes that it asks for. */
static bool read_shape(const SafetensorsFile *file, const json_t *info, SafetensorsEntry *entry,
                       Error *error) {
  const json_t *shape = json_object_get(info, "shape");
  if (!json_is_array(shape)) return fail(file, entry->name, error, "has no 'shape' list");
  size_t rank = json_array_size(shape);
  if (rank > SAFETENSORS_MAX_RANK) {
    return fail(file, entry->name, error, "has %zu dimensions, expected at most %d", rank,
                SAFETENSORS_MAX_RANK);
  }
  entry->rank = (int)rank;
  entry->bytes = dtype_size(entry->dtype);
  for (size_t i = 0; i < rank; i++) {
    const json_t *item = json_array_get(shape, i);
    json_int_t length = json_integer_value(item);
    if (!json_is_integer(item) || length < 0) {
      return fail(file, entry->name, error, "has a 'shape' with something other than sizes in it");
    }
    entry->shape[i] = length;
    if (__builtin_mul_overflow(entry->bytes, (size_t)length, &entry->bytes)) {
      return fail(file, entry->name, error, "has a 'shape' whose size overflows");
    }
  }
  return true;
}

static bool read_offsets(const SafetensorsFile *file, const json_t *info, const uint8_t *data,
                         size_t data_size, SafetensorsEntry *entry, Error *error) {
  const json_t *offsets = json_object_get(info, "data_offsets");
  const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
  json_int_t begin = json_integer_value(first), end = json_integer_value(second);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second) || begin < 0 ||
      end < begin) {
    return fail(file, entry->name, error, "has no 'data_offsets' pair of begin and end");
  }
  if ((uint64_t)end > data_size) {
    return fail(file, entry->name, error,
                "ends at byte %lld of the data, but the file has only %zu: truncated?", (long long)end,
                data_size);
  }
  if ((uint64_t)(end - begin) != entry->bytes) {
    char shape[160];
    safetensors_shape_text(entry->rank, entry->shape, shape, sizeof shape);
    return fail(file, entry->name, error, "of type %s and shape %s has %lld bytes, expected %zu",
                dtype_file_name(entry->dtype), shape, (long long)(end - begin), entry->bytes);
  }
  entry->data = data + begin;
  return true;
}

static int compare_data(const void *a, const void *b) {
  const SafetensorsEntry *x = a, *y = b;
  if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty ones first */
  return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b) {
  return strcmp((*(const SafetensorsEntry *const *)a)->name, (*(const SafetensorsEntry *const *)b)->name);
}

/* The data of all tensors must lie end to end and fill the file. */
static bool check_layout(SafetensorsFile *file, const uint8_t *data, size_t data_size, Error *error) {
  if (file->count) qsort(file->entries, file->count, sizeof *file->entries, compare_data);
  size_t expected = 0;
  for (size_t i = 0; i < file->count; i++) {
    SafetensorsEntry *entry = &file->entries[i];
    size_t begin = (size_t)((const uint8_t *)entry->data - data);
    if (begin != expected) {
      return fail(file, entry->name, error, "begins at byte %zu of the data, expected %zu", begin, expected);
    }
    expected = begin + entry->bytes;
    entry->index = i;
    file->by_name[i] = entry;
  }
  if (expected != data_size) {
    return fail(file, NULL, error, "has %zu bytes of data, expected %zu", data_size, expected);
  }
  if (file->count) qsort(file->by_name, file->count, sizeof *file->by_name, compare_names);
  return true;
}

static bool check_metadata(const SafetensorsFile *file, Error *error) {
  json_t *metadata = json_object_get(file->header, metadata_key);
  if (!metadata || json_is_null(metadata)) return true;
  if (!json_is_object(metadata)) return fail(file, NULL, error, "'%s' is not an object", metadata_key);
  const char *key;
  json_t *value;
  json_object_foreach(metadata, key, value) {
    if (!json_is_string(value)) {
      return fail(file, NULL, error, "'%s' has a value that is no string at '%.100s'", metadata_key, key);
    }
  }
  return true;
}

static bool read_entries(SafetensorsFile *file, const uint8_t *data, size_t data_size, Error *error) {
  size_t most = json_object_size(file->header);
  file->entries = memory_zeroed(most, sizeof *file->entries);
  file->by_name = memory_zeroed(most, sizeof *file->by_name);
  if (!file->entries || !file->by_name) {
    return error_out_of_memory(error, "list of tensors", most * sizeof *file->entries);
  }
  const char *name;
  json_t *info;
  json_object_foreach(file->header, name, info) {
    if (!strcmp(name, metadata_key)) continue;
    SafetensorsEntry *entry = &file->entries[file->count];
    entry->name = name;
    entry->path = file->path;
    if (!json_is_object(info)) return fail(file, name, error, "is not described by an object");
    if (!read_dtype(file, info, entry, error) || !read_shape(file, info, entry, error) ||
        !read_offsets(file, info, data, data_size, entry, error)) {
      return false;
    }
    file->count++;
  }
  return check_metadata(file, error) && check_layout(file, data, data_size, error);
}

static bool read_header(SafetensorsFile *file, Error *error) {
  size_t size = file->map.size;
  if (size < PREFIX) return fail(file, NULL, error, "%zu bytes are too few for a safetensors file", size);
  uint64_t length = 0;
  for (int i = PREFIX; i-- > 0;) length = length << 8 | file->map.data[i];
  if (length > HEADER_LIMIT) {
    return fail(file, NULL, error, "not a safetensors file: a header of %llu bytes, expected at most %d",
                (unsigned long long)length, HEADER_LIMIT);
  }
  if (length > size - PREFIX) {
    return fail(file, NULL, error, "truncated: a header of %llu bytes in a file of %zu",
                (unsigned long long)length, size);
  }
  const char *text = (const char *)file->map.data + PREFIX;
  if (length == 0 || *text != '{') return fail(file, NULL, error, "the header does not begin with '{'");
  json_error_t broken;
  file->header = json_parse(text, (size_t)length, json_limit_tensors, JSON_REJECT_DUPLICATES, &broken);
  if (!file->header) {
    return fail(file, NULL, error, "header at byte %d: %s", PREFIX + broken.position, broken.text);
  }
  const uint8_t *data = file->map.data + PREFIX + length;
  return read_entries(file, data, size - PREFIX - (size_t)length, error);
}

bool safetensors_file_open(SafetensorsFile *file, const char *path, Error *error) {
  *file = (SafetensorsFile){.path = memory_copy_string(path)};
  bool ok = file->path || error_out_of_memory(error, "path", strlen(path));
  if (ok && file_map_open(&file->map, path, error) && read_header(file, error)) return true;
  safetensors_file_close(file);
  return false;
}

void safetensors_file_close(SafetensorsFile *file) {
  json_decref(file->header);
  memory_free(file->entries);
  memory_free(file->by_name);
  memory_free(file->path);
  file_map_close(&file->map);
  *file = (SafetensorsFile){0};
}

static const SafetensorsEntry *find(const SafetensorsEntry *const *sorted, size_t count, const char *name) {
  SafetensorsEntry wanted = {.name = name};
  const SafetensorsEntry *key = &wanted;
  const SafetensorsEntry *const *found =
      count ? bsearch(&key, sorted, count, sizeof *sorted, compare_names) : NULL;
  return found ? *found : NULL;
}

const SafetensorsEntry *safetensors_file_find(const SafetensorsFile *file, const char *name) {
  return find(file->by_name, file->count, name);
}

const char *safetensors_file_metadata(const SafetensorsFile *file, const char *key) {
  return json_string_value(json_object_get(json_object_get(file->header, metadata_key), key));
}

/* ---- sets ---- */

/* All shards that the index names, then the tensors: the map alone says which there are. */
static bool open_shards(SafetensorsSet *set, const char *index_path, const WeightIndex *index, Error *error) {
  const size_t count = json_object_size(index->map);
  set->files = memory_zeroed(index->shards.count, sizeof *set->files);
  set->entries = memory_zeroed(count, sizeof *set->entries);
  if (!set->files || !set->entries)
    return error_out_of_memory(error, "list of tensors", count * sizeof *set->entries);
  for (size_t i = 0; i < index->shards.count; i++) {
    if (!safetensors_file_open(&set->files[i], index->shards.items[i], error)) return false;
    set->file_count++;
  }
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)index->map, name, value) {
    const SafetensorsFile *shard = &set->files[weight_index_shard(index, value)];
    const SafetensorsEntry *entry = safetensors_file_find(shard, name);
    if (!entry) return weight_index_lacks(index_path, shard->path, name, error);
    set->entries[set->count++] = entry;
  }
  if (set->count) qsort(set->entries, set->count, sizeof *set->entries, compare_names);
  return true;
}

static bool open_index(SafetensorsSet *set, const char *index_path, Error *error) {
  WeightIndex index;
  if (!weight_index_open(&index, index_path, ".safetensors", error)) return false;
  const bool ok = open_shards(set, index_path, &index, error);
  weight_index_close(&index);
  return ok;
}

static bool open_single(SafetensorsSet *set, const char *path, Error *error) {
  set->files = memory_zeroed(1, sizeof *set->files);
  if (!set->files) return error_out_of_memory(error, "list of files", sizeof *set->files);
  if (!safetensors_file_open(&set->files[0], path, error)) return false;
  set->file_count = 1;
  set->count = set->files[0].count;
  set->entries = memory_zeroed(set->count, sizeof *set->entries);
  if (!set->entries) return error_out_of_memory(error, "list of tensors", set->count);
  memcpy(set->entries, set->files[0].by_name, set->count * sizeof *set->entries);
  return true;
}

bool safetensors_set_open(SafetensorsSet *set, const char *directory, const char *stem, Error *error) {
  *set = (SafetensorsSet){0};
  bool slash = *directory && directory[strlen(directory) - 1] == '/';
  char *single = memory_format("%s%s%s.safetensors", directory, slash ? "" : "/", stem);
  char *index = single ? memory_format("%s.index.json", single) : NULL;
  bool ok;
  if (!index) {
    ok = error_out_of_memory(error, "path", strlen(directory));
  } else if (file_exists(single)) {
    ok = open_single(set, single, error);
  } else if (file_exists(index)) {
    ok = open_index(set, index, error);
  } else {
    ok = error_set(error, ERROR_MODEL, "%s: neither %s nor %s is there", directory, path_name(single),
                   path_name(index));
  }
  memory_free(single);
  memory_free(index);
  if (!ok) safetensors_set_close(set);
  return ok;
}

void safetensors_set_close(SafetensorsSet *set) {
  for (size_t i = 0; i < set->file_count; i++) safetensors_file_close(&set->files[i]);
  memory_free(set->files);
  memory_free(set->entries);
  *set = (SafetensorsSet){0};
}

const SafetensorsEntry *safetensors_set_find(const SafetensorsSet *set, const char *name) {
  return find(set->entries, set->count, name);
}
