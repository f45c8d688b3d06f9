/* The writer of formats/safetensors.h. */
#include "formats/safetensors.h"

#include "base/room.h"

#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000 };

/* The library's order of types; wide ones are written first, so that all data is aligned. */
static int type_order(DType dtype) {
  static const DType order[] = {DTYPE_BOOL, DTYPE_U8,  DTYPE_I8,  DTYPE_I16, DTYPE_F16,
                                DTYPE_BF16, DTYPE_I32, DTYPE_F32, DTYPE_F64, DTYPE_I64};
  _Static_assert(sizeof order / sizeof *order == DTYPE_COUNT, "every type has a place in the order");
  int place = 0;
  while (order[place] != dtype) place++;
  return place;
}

static bool grow(SafetensorsWriter *writer, Error *error) {
  if (writer->count < writer->capacity) return true;
  size_t capacity = writer->capacity ? 2 * writer->capacity : 64;
  SafetensorsEntry *entries = memory_resize(writer->entries, capacity * sizeof *entries);
  if (!entries) return error_out_of_memory(error, "list of tensors", capacity * sizeof *entries);
  writer->entries = entries;
  writer->capacity = capacity;
  return true;
}

bool safetensors_writer_declare(SafetensorsWriter *writer, const char *name, DType dtype, int rank,
                                const int64_t *shape, Error *error) {
  ASSERT(writer->shards == 0 && rank >= 0 && rank <= SAFETENSORS_MAX_RANK);
  SafetensorsEntry entry = {.dtype = dtype, .rank = rank, .bytes = dtype_size(dtype), .index = writer->count};
  for (int i = 0; i < rank; i++) {
    ASSERT(shape[i] >= 0 && !__builtin_mul_overflow(entry.bytes, (size_t)shape[i], &entry.bytes));
    entry.shape[i] = shape[i];
  }
  if (!grow(writer, error)) return false;
  entry.name = memory_copy_string(name);
  if (!entry.name) return error_out_of_memory(error, "name of a tensor", strlen(name));
  writer->entries[writer->count++] = entry;
  return true;
}

bool safetensors_writer_metadata(SafetensorsWriter *writer, const char *key, const char *value,
                                 Error *error) {
  if (!writer->metadata) writer->metadata = json_pack("{s:s}", "format", "pt");
  if (!writer->metadata) return error_out_of_memory(error, "metadata", strlen(value));
  if (json_object_set_new(writer->metadata, key, json_string(value)) == 0) return true;
  return error_set(error, ERROR_MODEL, "metadata '%.100s' is not valid UTF-8", key);
}

static int compare_names(const void *a, const void *b) {
  return strcmp((*(const SafetensorsEntry *const *)a)->name, (*(const SafetensorsEntry *const *)b)->name);
}

/* By name, for the check of duplicates and the index; the caller frees it. */
static const SafetensorsEntry **sorted_by_name(const SafetensorsWriter *writer, Error *error) {
  const SafetensorsEntry **sorted = memory_zeroed(writer->count, sizeof *sorted);
  if (!sorted) {
    error_out_of_memory(error, "list of tensors", writer->count * sizeof *sorted);
    return NULL;
  }
  for (size_t i = 0; i < writer->count; i++) sorted[i] = &writer->entries[i];
  qsort(sorted, writer->count, sizeof *sorted, compare_names);
  return sorted;
}

static bool check_names(const SafetensorsWriter *writer, Error *error) {
  const SafetensorsEntry **sorted = sorted_by_name(writer, error);
  bool ok = sorted != NULL;
  for (size_t i = 0; ok && i < writer->count; i++) {
    const char *name = sorted[i]->name;
    if (!strcmp(name, "__metadata__") || (i && !strcmp(name, sorted[i - 1]->name))) {
      ok = error_set(error, ERROR_MODEL, "tensor '%.200s' cannot be written: the name is taken", name);
    }
  }
  memory_free(sorted);
  return ok;
}

static int compare_order(const void *a, const void *b, void *shard_of_index) {
  const SafetensorsEntry *x = a, *y = b;
  const size_t *shard = shard_of_index;
  if (shard[x->index] != shard[y->index]) return shard[x->index] < shard[y->index] ? -1 : 1;
  int wide = type_order(y->dtype) - type_order(x->dtype);
  return wide ? wide : strcmp(x->name, y->name);
}

/* Fills shards greedily in declared order, then sorts the entries into the order of writing. */
static bool plan(SafetensorsWriter *writer, uint64_t max_bytes, Error *error) {
  ASSERT(writer->shards == 0);
  if (!check_names(writer, error)) return false;
  writer->shard = memory_zeroed(writer->count, sizeof *writer->shard);
  if (!writer->shard) return error_out_of_memory(error, "list of tensors", writer->count);
  uint64_t filled = 0;
  writer->shards = 1;
  for (size_t i = 0; i < writer->count; i++) {
    uint64_t bytes = writer->entries[i].bytes;
    if (filled && bytes > max_bytes - (filled < max_bytes ? filled : max_bytes)) {
      writer->shards++;
      filled = 0;
    }
    filled += bytes;
    writer->shard[i] = writer->shards - 1;
  }
  if (writer->count) {
    qsort_r(writer->entries, writer->count, sizeof *writer->entries, compare_order, writer->shard);
  }
  return true;
}

static bool append_string(Buffer *out, const char *text, Error *error) {
  json_t *string = json_string(text);
  char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
  json_decref(string);
  if (!quoted) return error_set(error, ERROR_MODEL, "'%.200s' is not valid UTF-8", text);
  bool ok = buffer_text(out, quoted, error);
  free(quoted);
  return ok;
}

static bool append_entry(Buffer *out, const SafetensorsEntry *entry, size_t offset, Error *error) {
  bool ok = buffer_text(out, ",", error) && append_string(out, entry->name, error) &&
            buffer_format(out, error, ":{\"dtype\":\"%s\",\"shape\":[", dtype_file_name(entry->dtype));
  for (int i = 0; ok && i < entry->rank; i++) {
    ok = buffer_format(out, error, "%s%lld", i ? "," : "", (long long)entry->shape[i]);
  }
  return ok && buffer_format(out, error, "],\"data_offsets\":[%zu,%zu]}", offset, offset + entry->bytes);
}

/* Whether entry i belongs to the file that is being written. */
static bool in_open_file(const SafetensorsWriter *writer, size_t i) {
  return writer->shard[writer->entries[i].index] + 1 == writer->open;
}

static bool write_header(SafetensorsWriter *writer, Error *error) {
  Buffer header = {0};
  char *metadata = json_dumps(writer->metadata, JSON_COMPACT);
  bool ok = metadata || error_out_of_memory(error, "metadata", 0);
  ok = ok && buffer_text(&header, "{\"__metadata__\":", error) && buffer_text(&header, metadata, error);
  free(metadata);
  size_t offset = 0;
  for (size_t i = 0; ok && i < writer->count; i++) {
    if (!in_open_file(writer, i)) continue;
    ok = append_entry(&header, &writer->entries[i], offset, error);
    offset += writer->entries[i].bytes;
  }
  ok = ok && buffer_text(&header, "}", error);
  while (ok && header.size % 8) ok = buffer_text(&header, " ", error);
  if (ok && header.size > HEADER_LIMIT) {
    ok = error_set(error, ERROR_MODEL, "%s: too many tensors for one file", writer->file.path);
  }
  unsigned char prefix[8];
  for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
  ok = ok && file_writer_write(&writer->file, prefix, sizeof prefix, error) &&
       file_writer_write(&writer->file, header.data, header.size, error);
  buffer_free(&header);
  return ok;
}

/* The file name of shard number i (from 0); a new string. */
static char *shard_name(const SafetensorsWriter *writer, size_t i) {
  if (writer->shards == 1) return memory_format("%s.safetensors", writer->stem);
  return memory_format("%s-%05zu-of-%05zu.safetensors", writer->stem, i + 1, writer->shards);
}

/* The path of file number i (from 0); a new string. */
static char *file_path(const SafetensorsWriter *writer, size_t i) {
  if (writer->path) return memory_copy_string(writer->path);
  char *name = shard_name(writer, i), *path = name ? path_join(writer->directory, name) : NULL;
  memory_free(name);
  return path;
}

/* Opens the next file and writes its header. */
static bool open_next(SafetensorsWriter *writer, Error *error) {
  char *path = file_path(writer, writer->open);
  bool ok = path || error_out_of_memory(error, "path", 0);
  ok = ok && file_writer_open(&writer->file, path, error);
  memory_free(path);
  if (!ok) return false;
  writer->open++;
  return write_header(writer, error);
}

/* The data of file number i; its header is small beside them. */
static uint64_t file_data(const SafetensorsWriter *writer, size_t i) {
  uint64_t bytes = 0;
  for (size_t e = 0; e < writer->count; e++)
    if (writer->shard[writer->entries[e].index] == i) bytes += writer->entries[e].bytes;
  return bytes;
}

/* Before the first byte is written: a file of the same name still stands beside each that is written, and is gone when that one is whole. */
static bool check_room(const SafetensorsWriter *writer, Error *error) {
  uint64_t most = 0, held = 0, gone = 0; /* of the files so far; held and gone when file i is whole */
  for (size_t i = 0; i < writer->shards; i++) {
    struct stat former;
    char *path = file_path(writer, i);
    if (!path) return error_out_of_memory(error, "path", 0);
    held += file_data(writer, i);
    if (held > gone && held - gone > most) most = held - gone;
    if (stat(path, &former) == 0) gone += (uint64_t)former.st_size;
    memory_free(path);
  }
  char *place = writer->path ? path_parent(writer->path) : memory_copy_string(writer->directory);
  const bool ok = place ? directory_check_room(place, most, error) : error_out_of_memory(error, "path", 0);
  memory_free(place);
  return ok;
}

static bool begin(SafetensorsWriter *writer, uint64_t max_bytes, Error *error) {
  return safetensors_writer_metadata(writer, "format", "pt", error) && plan(writer, max_bytes, error) &&
         check_room(writer, error) && open_next(writer, error);
}

bool safetensors_writer_begin(SafetensorsWriter *writer, const char *path, Error *error) {
  writer->path = memory_copy_string(path);
  if (!writer->path) return error_out_of_memory(error, "path", strlen(path));
  return begin(writer, UINT64_MAX, error);
}

bool safetensors_writer_begin_sharded(SafetensorsWriter *writer, const char *directory, const char *stem,
                                      uint64_t max_bytes, Error *error) {
  writer->directory = memory_copy_string(directory);
  writer->stem = memory_copy_string(stem);
  if (!writer->directory || !writer->stem) return error_out_of_memory(error, "path", strlen(directory));
  return begin(writer, max_bytes, error);
}

const SafetensorsEntry *safetensors_writer_next(SafetensorsWriter *writer) {
  ASSERT(writer->open);
  if (writer->current) {
    ASSERT(writer->piece == writer->entries[writer->next].bytes);
    writer->next++;
    writer->piece = writer->broken = 0;
  }
  writer->current = writer->next < writer->count;
  return writer->current ? &writer->entries[writer->next] : NULL;
}

bool safetensors_writer_write(SafetensorsWriter *writer, const void *bytes, size_t count, Error *error) {
  ASSERT(writer->current && count <= writer->entries[writer->next].bytes - writer->piece);
  if (!in_open_file(writer, writer->next)) { /* the first bytes of the next shard */
    if (!file_writer_commit(&writer->file, error) || !open_next(writer, error)) return false;
    ASSERT(in_open_file(writer, writer->next));
  }
  if (!file_writer_write(&writer->file, bytes, count, error)) return false;
  writer->piece += count;
  return true;
}

bool safetensors_writer_write_finite(SafetensorsWriter *writer, const void *values, size_t bytes,
                                     Error *error) {
  const SafetensorsEntry *entry = &writer->entries[writer->next];
  const size_t size = dtype_size(entry->dtype);
  ASSERT(bytes % size == 0);
  if (dtype_is_float(entry->dtype))
    writer->broken += dtype_count_not_finite(values, entry->dtype, bytes / size);
  if (!safetensors_writer_write(writer, values, bytes, error)) return false;
  if (writer->piece < entry->bytes || writer->broken == 0) return true;
  return error_set(error, ERROR_MODEL, "%s: %zu of %zu values are not finite (NaN or infinite): not saved",
                   entry->name, writer->broken, entry->bytes / size);
}

static char *index_path(const SafetensorsWriter *writer) {
  return memory_format("%s/%s.safetensors.index.json", writer->directory, writer->stem);
}

static bool append_index(const SafetensorsWriter *writer, Buffer *out, Error *error) {
  const SafetensorsEntry **sorted = sorted_by_name(writer, error);
  unsigned long long total = 0;
  for (size_t i = 0; i < writer->count; i++) total += writer->entries[i].bytes;
  bool ok = sorted &&
            buffer_format(out, error, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n", total) &&
            buffer_text(out, "  \"weight_map\": {", error);
  for (size_t i = 0; ok && i < writer->count; i++) {
    char *name = shard_name(writer, writer->shard[sorted[i]->index]);
    ok = name || error_out_of_memory(error, "path", 0);
    ok = ok && buffer_text(out, i ? ",\n    " : "\n    ", error) &&
         append_string(out, sorted[i]->name, error) && buffer_text(out, ": ", error) &&
         append_string(out, name, error);
    memory_free(name);
  }
  memory_free(sorted);
  return ok && buffer_text(out, "\n  }\n}\n", error);
}

/* Whether `name` is a weight file of the stem: STEM.safetensors, its index, or a shard of any set. */
static bool is_of_stem(const SafetensorsWriter *writer, const char *name) {
  const size_t length = strlen(writer->stem);
  if (strncmp(name, writer->stem, length) != 0) return false;
  return fnmatch("-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors", name + length, 0) ==
             0 ||
         strcmp(name + length, ".safetensors") == 0 || strcmp(name + length, ".safetensors.index.json") == 0;
}

static bool was_written(const SafetensorsWriter *writer, const char *name, bool *written, Error *error) {
  *written = writer->shards > 1 && is_of_stem(writer, name) && strstr(name, ".index.json");
  for (size_t i = 0; i < writer->shards && !*written; i++) {
    char *mine = shard_name(writer, i);
    if (!mine) return error_out_of_memory(error, "path", 0);
    *written = strcmp(name, mine) == 0;
    memory_free(mine);
  }
  return true;
}

/* Removes the files of an earlier set, which would be read in place of this one, or lie there for nothing. */
static bool remove_earlier(const SafetensorsWriter *writer, Error *error) {
  StringList names = {0};
  bool ok = directory_list(writer->directory, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    bool written = true;
    if (!is_of_stem(writer, names.items[i])) continue;
    char *path = path_join(writer->directory, names.items[i]);
    ok = path ? was_written(writer, names.items[i], &written, error) : error_out_of_memory(error, "path", 0);
    if (ok && !written && unlink(path) != 0 && errno != ENOENT)
      ok = error_set(error, ERROR_FILE, "cannot remove %s, which is of an earlier model: %s", path,
                     strerror(errno));
    memory_free(path);
  }
  string_list_free(&names);
  return ok;
}

/* The index of a set of shards comes last, and what is not of this set goes. */
static bool finish_set(const SafetensorsWriter *writer, Error *error) {
  Buffer index = {0};
  bool ok = true;
  if (writer->shards > 1) {
    char *path = index_path(writer);
    ok = path ? append_index(writer, &index, error) && file_write_text(path, index.data, error)
              : error_out_of_memory(error, "path", 0);
    memory_free(path);
  }
  buffer_free(&index);
  return ok && remove_earlier(writer, error);
}

bool safetensors_writer_finish(SafetensorsWriter *writer, Error *error) {
  if (writer->current) {
    ASSERT(writer->piece == writer->entries[writer->next].bytes);
    writer->next++;
    writer->current = false;
  }
  ASSERT(writer->next == writer->count);
  if (!file_writer_commit(&writer->file, error)) return false;
  return !writer->directory || finish_set(writer, error);
}

void safetensors_writer_free(SafetensorsWriter *writer) {
  for (size_t i = 0; i < writer->count; i++) memory_free((void *)writer->entries[i].name);
  memory_free(writer->entries);
  memory_free(writer->shard);
  memory_free(writer->directory);
  memory_free(writer->stem);
  memory_free(writer->path);
  json_decref(writer->metadata);
  file_writer_close(&writer->file);
  *writer = (SafetensorsWriter){0};
}
