#include "formats/torch_file.h"

#include "base/file.h"
#include "formats/torch_pickle.h"
#include "formats/weight_index.h"
#include "formats/zip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One file, open. */
typedef struct TorchFile {
  char *path;
  FileMap map;
  ZipFile zip;
  TorchPickle pickle;
  WeightEntry *entries; /* sorted by name */
  size_t count;
} TorchFile;

/* The largest pickle taken: that of a model with ten thousands of tensors has some MB. */
static const size_t pickle_bytes_limit = 64u << 20;

static bool fail(const TorchFile *file, Error *error, const char *format, ...) PRINTF_LIKE(3, 4);

static bool fail(const TorchFile *file, Error *error, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return error_set(error, ERROR_MODEL, "%s: %s", file->path, text);
}

static bool read_pickle(TorchFile *file, const uint8_t *data, size_t size, size_t *used, PickleValue **value,
                        Error *error) {
  *value = torch_pickle_read(&file->pickle, file->path, data,
                             size < pickle_bytes_limit ? size : pickle_bytes_limit, used, error);
  return *value != NULL;
}

/* ---- the zip archive ---- */

/* The entry NAME/data.pkl; all others of the file begin with that NAME. */
static const ZipEntry *find_main(const TorchFile *file, Error *error) {
  static const char end[] = "/data.pkl";
  const size_t tail = sizeof end - 1;
  const ZipEntry *found = NULL;
  for (size_t i = 0; i < file->zip.count; i++) {
    const ZipEntry *entry = &file->zip.entries[i];
    if (entry->name_bytes <= tail || memcmp(entry->name + entry->name_bytes - tail, end, tail) != 0) continue;
    if (memchr(entry->name, '/', entry->name_bytes - tail)) continue;
    if (found) {
      fail(file, error, "has two entries data.pkl");
      return NULL;
    }
    found = entry;
  }
  if (!found) fail(file, error, "is a zip archive without data.pkl: not a file of torch.save");
  return found;
}

/* The entry NAME/PART KEY. */
static const ZipEntry *find_part(const TorchFile *file, const ZipEntry *main, const char *part,
                                 const char *key, size_t key_bytes) {
  char name[512];
  const size_t prefix = main->name_bytes - strlen("data.pkl"), length = strlen(part);
  if (prefix + length + key_bytes > sizeof name) return NULL;
  memcpy(name, main->name, prefix);
  memcpy(name + prefix, part, length);
  memcpy(name + prefix + length, key, key_bytes);
  return zip_find(&file->zip, name, prefix + length + key_bytes);
}

static bool check_byte_order(const TorchFile *file, const ZipEntry *main, Error *error) {
  static const char little[] = "little";
  const ZipEntry *order = find_part(file, main, "byteorder", "", 0);
  if (!order || (order->bytes == sizeof little - 1 && memcmp(order->data, little, order->bytes) == 0))
    return true;
  return fail(file, error, "byteorder is '%.*s', expected '%s'", (int)(order->bytes < 20 ? order->bytes : 20),
              (const char *)order->data, little);
}

static bool find_zip_storages(TorchFile *file, const ZipEntry *main, Error *error) {
  for (TorchStorage *storage = file->pickle.storages; storage; storage = storage->next) {
    const ZipEntry *entry = find_part(file, main, "data/", storage->key, storage->key_bytes);
    const int shown = (int)(storage->key_bytes < 40 ? storage->key_bytes : 40);
    if (!entry) return fail(file, error, "has no entry data/%.*s", shown, storage->key);
    if (entry->bytes != storage->count * dtype_size(storage->dtype))
      return fail(file, error, "entry data/%.*s has %zu bytes, expected %zu elements of %s", shown,
                  storage->key, entry->bytes, storage->count, dtype_file_name(storage->dtype));
    storage->data = entry->data;
  }
  return true;
}

static bool open_zip(TorchFile *file, PickleValue **top, Error *error) {
  if (!zip_open(&file->zip, &file->map, file->path, error)) return false;
  const ZipEntry *main = find_main(file, error);
  size_t used = 0;
  if (!main || !check_byte_order(file, main, error)) return false;
  return read_pickle(file, main->data, main->bytes, &used, top, error) &&
         find_zip_storages(file, main, error);
}

/* ---- the row of pickles ---- */

/* The magic number 0x1950a86a20f9469cfc6c, pickled; the second byte is the protocol. */
static const uint8_t magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static bool is_row(const FileMap *map) {
  return map->size > sizeof magic && map->data[0] == magic[0] &&
         memcmp(map->data + 2, magic + 2, sizeof magic - 2) == 0;
}

/* Protocol and machine. */
static bool check_system(const TorchFile *file, const PickleValue *protocol, const PickleValue *system,
                         Error *error) {
  if (protocol->kind != PICKLE_INT || protocol->integer != 1001)
    return fail(file, error, "is not of torch.save's protocol 1001");
  const PickleValue *little = pickle_member(system, "little_endian");
  return (little && little->kind == PICKLE_BOOL && little->integer) ||
         fail(file, error, "was not saved on a little-endian machine");
}

static int compare_storages(const void *a, const void *b) {
  const TorchStorage *x = *(TorchStorage *const *)a, *y = *(TorchStorage *const *)b;
  const size_t shorter = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
  const int order = memcmp(x->key, y->key, shorter);
  return order ? order : (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
}

/* The storages with that key, which lie in a row: how many, and the first. */
static size_t with_key(TorchStorage **sorted, size_t count, TorchStorage *wanted, TorchStorage ***first) {
  TorchStorage **found = count ? bsearch(&wanted, sorted, count, sizeof *sorted, compare_storages) : NULL;
  if (!found) return 0;
  TorchStorage **end = found + 1;
  while (found > sorted && compare_storages(found - 1, &wanted) == 0) found--;
  while (end < sorted + count && compare_storages(end, &wanted) == 0) end++;
  *first = found;
  return (size_t)(end - found);
}

/* The storage of that key begins at `*at`: says so to all who name it, and moves on. */
static bool place_storage(const TorchFile *file, TorchStorage **sorted, size_t count, const PickleValue *key,
                          size_t *at, Error *error) {
  if (key->kind != PICKLE_TEXT)
    return fail(file, error, "has a storage key that is %s", pickle_kind_name(key));
  TorchStorage wanted = {.key = key->text, .key_bytes = key->count}, **first = NULL;
  const int shown = (int)(key->count < 40 ? key->count : 40);
  const size_t names = with_key(sorted, count, &wanted, &first);
  if (names == 0) return fail(file, error, "has a storage %.*s that no tensor uses", shown, key->text);
  const TorchStorage *storage = *first;
  const size_t left = file->map.size - *at, bytes = storage->count * dtype_size(storage->dtype);
  uint64_t elements = 0;
  if (left < sizeof elements)
    return fail(file, error, "ends before storage %.*s: truncated?", shown, key->text);
  memcpy(&elements, file->map.data + *at, sizeof elements);
  *at += sizeof elements;
  if (storage->data) return fail(file, error, "has storage %.*s twice", shown, key->text);
  if (elements != storage->count || bytes > left - sizeof elements)
    return fail(file, error,
                "storage %.*s has %llu elements and %zu bytes left, expected %zu of %s: truncated?", shown,
                key->text, (unsigned long long)elements, left - sizeof elements, storage->count,
                dtype_file_name(storage->dtype));
  for (size_t i = 0; i < names; i++) {
    if (first[i]->count != storage->count || first[i]->dtype != storage->dtype)
      return fail(file, error, "storage %.*s has two types or sizes", shown, key->text);
    first[i]->data = file->map.data + *at;
  }
  *at += bytes;
  return true;
}

static bool find_row_storages(TorchFile *file, const PickleValue *keys, size_t at, Error *error) {
  if (keys->kind != PICKLE_LIST) return fail(file, error, "has no list of storages");
  size_t count = 0;
  for (const TorchStorage *s = file->pickle.storages; s; s = s->next) count++;
  TorchStorage **sorted = memory_zeroed(count, sizeof *sorted);
  if (!sorted) return error_out_of_memory(error, "list of storages", count * sizeof *sorted);
  count = 0;
  for (TorchStorage *s = file->pickle.storages; s; s = s->next) sorted[count++] = s;
  if (count) qsort(sorted, count, sizeof *sorted, compare_storages);
  bool ok = true;
  for (size_t i = 0; ok && i < keys->count; i++)
    ok = place_storage(file, sorted, count, keys->items[i], &at, error);
  for (size_t i = 0; ok && i < count; i++)
    ok =
        sorted[i]->data || fail(file, error, "lacks the storage %.*s",
                                (int)(sorted[i]->key_bytes < 40 ? sorted[i]->key_bytes : 40), sorted[i]->key);
  memory_free(sorted);
  return ok;
}

static bool open_row(TorchFile *file, PickleValue **top, Error *error) {
  PickleValue *parts[4]; /* protocol, machine, state_dict, keys */
  size_t at = sizeof magic;
  for (int i = 0; i < 4; i++) {
    size_t used;
    if (!read_pickle(file, file->map.data + at, file->map.size - at, &used, &parts[i], error)) return false;
    at += used;
  }
  *top = parts[2];
  return check_system(file, parts[0], parts[1], error) && find_row_storages(file, parts[3], at, error);
}

/* ---- tensors ---- */

/* Gathers elements of a view by its strides. */
static void read_strided(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const int64_t *stride = entry->source;
  const size_t size = dtype_size(entry->dtype);
  const int last = entry->rank - 1;
  int64_t index[WEIGHT_MAX_RANK], left = (int64_t)first;
  for (int d = last; d >= 0; d--) {
    index[d] = left % entry->shape[d];
    left /= entry->shape[d];
  }
  char *to = out;
  while (count > 0) {
    int64_t at = 0;
    for (int d = 0; d <= last; d++) at += index[d] * stride[d];
    const size_t row = (size_t)(entry->shape[last] - index[last]), n = row < count ? row : count;
    const char *from = (const char *)entry->data + (size_t)at * size;
    for (size_t i = 0; i < n; i++) memcpy(to + i * size, from + (size_t)stride[last] * i * size, size);
    to += n * size;
    count -= n;
    index[last] = 0;
    for (int d = last - 1; d >= 0 && ++index[d] == entry->shape[d]; d--) index[d] = 0;
  }
}

static bool is_contiguous(const TorchTensor *tensor) {
  int64_t expected = 1;
  for (int d = tensor->rank - 1; d >= 0; d--) {
    if (tensor->shape[d] != 1 && tensor->stride[d] != expected) return false;
    expected *= tensor->shape[d];
  }
  return true;
}

static WeightEntry from_tensor(const TorchFile *file, const char *name, const TorchTensor *tensor) {
  const TorchStorage *storage = tensor->storage;
  const size_t size = dtype_size(storage->dtype);
  WeightEntry entry = {.name = name,
                       .path = file->path,
                       .kind = dtype_file_name(storage->dtype),
                       .dtype = storage->dtype,
                       .rank = tensor->rank,
                       .count = tensor->count,
                       .data = storage->data + tensor->offset * size,
                       .bytes = tensor->span * size};
  memcpy(entry.shape, tensor->shape, sizeof entry.shape);
  if (tensor->count > 0 && !is_contiguous(tensor)) {
    entry.read = read_strided;
    entry.source = tensor->stride;
  }
  return entry;
}

static int compare_entries(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

/* A text of the pickle as a name; NULL after an error. */
static const char *tensor_name(TorchFile *file, const PickleValue *key, Error *error) {
  if (key->kind != PICKLE_TEXT || memchr(key->text, 0, key->count)) {
    fail(file, error, "has a tensor whose name is %s",
         key->kind == PICKLE_TEXT ? "a text with a NUL in it" : pickle_kind_name(key));
    return NULL;
  }
  char *name = pickle_alloc(&file->pickle.pool, key->count + 1, error);
  if (name) memcpy(name, key->text, key->count);
  return name;
}

static bool list_tensors(TorchFile *file, const PickleValue *top, Error *error) {
  if (top->kind != PICKLE_DICT)
    return fail(file, error, "holds %s, expected a state_dict: a dict of tensors", pickle_kind_name(top));
  file->entries = memory_zeroed(top->count / 2, sizeof *file->entries);
  if (!file->entries)
    return error_out_of_memory(error, "list of tensors", top->count * sizeof *file->entries);
  for (size_t i = 0; i < top->count; i += 2) {
    const char *name = tensor_name(file, top->items[i], error);
    const TorchTensor *tensor = torch_tensor(top->items[i + 1]);
    if (!name) return false;
    if (!tensor)
      return fail(file, error, "'%.200s' is %s, expected a tensor: only a plain state_dict is read", name,
                  pickle_kind_name(top->items[i + 1]));
    file->entries[file->count++] = from_tensor(file, name, tensor);
  }
  if (file->count) qsort(file->entries, file->count, sizeof *file->entries, compare_entries);
  for (size_t i = 1; i < file->count; i++)
    if (!strcmp(file->entries[i].name, file->entries[i - 1].name))
      return fail(file, error, "has the tensor '%.200s' twice", file->entries[i].name);
  return true;
}

/* ---- files ---- */

static void file_close(TorchFile *file) {
  memory_free(file->entries);
  torch_pickle_free(&file->pickle);
  zip_close(&file->zip);
  file_map_close(&file->map);
  memory_free(file->path);
  *file = (TorchFile){0};
}

static bool file_open(TorchFile *file, const char *path, Error *error) {
  *file = (TorchFile){.path = memory_copy_string(path)};
  PickleValue *top = NULL;
  bool ok = (file->path || error_out_of_memory(error, "path", strlen(path))) &&
            file_map_open(&file->map, path, error);
  if (ok && zip_is(&file->map))
    ok = open_zip(file, &top, error);
  else if (ok && is_row(&file->map))
    ok = open_row(file, &top, error);
  else if (ok)
    ok = fail(file, error,
              "is no file of torch.save: it is neither a zip archive nor begins with torch's magic number");
  ok = ok && list_tensors(file, top, error);
  if (!ok) file_close(file);
  return ok;
}

/* What a WeightFiles keeps open. */
typedef struct TorchSet {
  size_t count;
  TorchFile files[];
} TorchSet;

static void set_close(void *source) {
  TorchSet *set = source;
  for (size_t i = 0; i < set->count; i++) file_close(&set->files[i]);
  memory_free(set);
}

/* A set with room for `files`, none of them open, in a WeightFiles with room for `tensors`. */
static TorchSet *set_new(WeightFiles *out, size_t files, size_t tensors, Error *error) {
  TorchSet *set = memory_zeroed(1, sizeof *set + files * sizeof *set->files);
  *out = (WeightFiles){.source = set, .close = set ? set_close : NULL};
  out->entries = memory_zeroed(tensors, sizeof *out->entries);
  if (set && out->entries) return set;
  error_out_of_memory(error, "list of tensors", tensors * sizeof *out->entries);
  return NULL;
}

bool torch_file_open(WeightFiles *files, const char *path, Error *error) {
  TorchSet *set = set_new(files, 1, 0, error);
  const bool ok = set && file_open(&set->files[0], path, error);
  if (ok) {
    set->count = 1;
    memory_free(files->entries);
    files->entries = set->files[0].entries; /* handed over */
    files->count = set->files[0].count;
    set->files[0].entries = NULL;
  }
  if (!ok) weight_files_close(files);
  return ok;
}

static const WeightEntry *file_find(const TorchFile *file, const char *name) {
  const WeightEntry wanted = {.name = name};
  return file->count ? bsearch(&wanted, file->entries, file->count, sizeof wanted, compare_entries) : NULL;
}

static bool open_shards(WeightFiles *files, const char *index_path, const WeightIndex *index, Error *error) {
  TorchSet *set = set_new(files, index->shards.count, json_object_size(index->map), error);
  if (!set) return false;
  for (; set->count < index->shards.count; set->count++)
    if (!file_open(&set->files[set->count], index->shards.items[set->count], error)) return false;
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)index->map, name, value) {
    const TorchFile *shard = &set->files[weight_index_shard(index, value)];
    const WeightEntry *entry = file_find(shard, name);
    if (!entry) return weight_index_lacks(index_path, shard->path, name, error);
    files->entries[files->count++] = *entry;
  }
  if (files->count) qsort(files->entries, files->count, sizeof *files->entries, compare_entries);
  return true;
}

bool torch_file_open_index(WeightFiles *files, const char *index_path, Error *error) {
  WeightIndex index;
  *files = (WeightFiles){0};
  if (!weight_index_open(&index, index_path, ".bin", error)) return false;
  const bool ok = open_shards(files, index_path, &index, error);
  weight_index_close(&index);
  if (!ok) weight_files_close(files);
  return ok;
}
