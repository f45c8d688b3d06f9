#include "formats/weight_files.h"

#include "base/file.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "formats/weight_index.h"

#include <stdlib.h>
#include <string.h>

/* ---- entries ---- */

static int compare_names(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

const WeightEntry *weight_files_find(const WeightFiles *files, const char *name) {
  const WeightEntry wanted = {.name = name};
  return files->count ? bsearch(&wanted, files->entries, files->count, sizeof wanted, compare_names) : NULL;
}

/* By way of a piece on the stack, where the form's own order and the wanted type differ from what lies in the file. */
static void read_converted(const WeightEntry *entry, size_t first, size_t count, DType type, char *out) {
  enum { PIECE = 2048 };
  double piece[PIECE]; /* of the widest type */
  for (size_t done = 0; done < count; done += PIECE) {
    const size_t n = count - done < PIECE ? count - done : PIECE;
    entry->read(entry, first + done, n, piece);
    dtype_convert(out + done * dtype_size(type), type, piece, entry->dtype, n);
  }
}

void weight_read(const WeightEntry *entry, size_t first, size_t count, DType type, void *out) {
  ASSERT(first <= entry->count && count <= entry->count - first);
  const size_t size = dtype_size(entry->dtype);
  const char *from = (const char *)entry->data + first * size;
  if (count == 0) return;
  if (entry->read && type == entry->dtype)
    entry->read(entry, first, count, out);
  else if (entry->read)
    read_converted(entry, first, count, type, out);
  else if (type == entry->dtype)
    memcpy(out, from, count * size);
  else
    dtype_convert(out, type, from, entry->dtype, count);
}

size_t weight_read_counted(const WeightEntry *entry, size_t first, size_t count, DType type, void *out) {
  enum { PIECE = 4096 };
  const size_t size = dtype_size(entry->dtype), out_size = dtype_size(type);
  ASSERT(first <= entry->count && count <= entry->count - first);
  size_t broken = 0;
  for (size_t done = 0; done < count; done += PIECE) {
    const size_t n = count - done < PIECE ? count - done : PIECE;
    double undone[PIECE]; /* of the widest type */
    const void *values = (const char *)entry->data + (first + done) * size;
    if (entry->read) {
      entry->read(entry, first + done, n, undone);
      values = undone;
    }
    broken += dtype_count_not_finite(values, entry->dtype, n);
    if (out) dtype_convert((char *)out + done * out_size, type, values, entry->dtype, n);
  }
  return broken;
}

void weight_release(const WeightEntry *entry, size_t first, size_t count) {
  if (count == 0) return;
  const double per_element = (double)entry->bytes / (double)entry->count; /* of blocks: not whole */
  const size_t begin = (size_t)((double)first * per_element);
  const size_t end =
      first + count == entry->count ? entry->bytes : (size_t)((double)(first + count) * per_element);
  file_pages_release((const char *)entry->data + begin, end - begin);
}

bool weight_not_finite(const WeightEntry *entry, size_t broken, Error *error) {
  const SafetensorsEntry shown = {.name = entry->name,
                                  .path = entry->path,
                                  .dtype = entry->dtype,
                                  .bytes = entry->count * dtype_size(entry->dtype)};
  return safetensors_not_finite(&shown, broken, error);
}

void weight_files_close(WeightFiles *files) {
  if (files->close) files->close(files->source);
  memory_free(files->entries);
  *files = (WeightFiles){0};
}

/* ---- safetensors ---- */

static void close_safetensors(void *source) {
  safetensors_set_close(source);
  memory_free(source);
}

static WeightEntry from_safetensors(const SafetensorsEntry *from) {
  WeightEntry entry = {.name = from->name,
                       .path = from->path,
                       .kind = dtype_file_name(from->dtype),
                       .dtype = from->dtype,
                       .rank = from->rank,
                       .count = from->bytes / dtype_size(from->dtype),
                       .data = from->data,
                       .bytes = from->bytes};
  memcpy(entry.shape, from->shape, sizeof entry.shape);
  return entry;
}

bool weight_files_open_safetensors(WeightFiles *files, const char *directory, const char *stem,
                                   Error *error) {
  _Static_assert((int)SAFETENSORS_MAX_RANK == (int)WEIGHT_MAX_RANK, "shapes are copied");
  *files = (WeightFiles){0};
  SafetensorsSet *set = memory_alloc(sizeof *set);
  if (!set) return error_out_of_memory(error, "list of tensors", sizeof *set);
  if (!safetensors_set_open(set, directory, stem, error)) {
    memory_free(set);
    return false;
  }
  *files = (WeightFiles){.source = set, .close = close_safetensors, .count = set->count};
  files->entries = memory_zeroed(set->count, sizeof *files->entries);
  if (!files->entries) {
    error_out_of_memory(error, "list of tensors", set->count * sizeof *files->entries);
    weight_files_close(files);
    return false;
  }
  for (size_t i = 0; i < set->count; i++) files->entries[i] = from_safetensors(set->entries[i]);
  return true;
}

/* ---- directories ---- */

static char *path_if_there(const char *directory, const char *name, Error *error) {
  char *path = path_join(directory, name);
  if (!path) error_out_of_memory(error, "path", strlen(directory));
  if (path && file_exists(path)) return path;
  memory_free(path);
  return NULL;
}

typedef bool Opener(WeightFiles *files, const char *path, Error *error);

/* Opens by the file's path, which names the directory too. */
static bool open_model_safetensors(WeightFiles *files, const char *path, Error *error) {
  char *directory = path_parent(path);
  const bool ok = directory ? weight_files_open_safetensors(files, directory, "model", error)
                            : error_out_of_memory(error, "path", strlen(path));
  memory_free(directory);
  return ok;
}

/* The file of a directory that goes first, and what opens it. NULL: none is there, or an error. */
static char *find_form(const char *directory, Opener **opener, Error *error) {
  static const struct {
    const char *name;
    Opener *opener;
  } forms[] = {{"model.safetensors", open_model_safetensors},
               {"model.safetensors.index.json", open_model_safetensors},
               {"pytorch_model.bin", torch_file_open},
               {"pytorch_model.bin.index.json", torch_file_open_index}};
  char *path = NULL;
  for (size_t i = 0; !path && i < sizeof forms / sizeof *forms && error->code == ERROR_NONE; i++) {
    path = path_if_there(directory, forms[i].name, error);
    *opener = forms[i].opener;
  }
  return path;
}

bool weight_files_exist(const char *path) {
  Error error = {0};
  Opener *opener;
  char *file = find_form(path, &opener, &error);
  memory_free(file);
  return file != NULL;
}

bool weight_files_open(WeightFiles *files, const char *path, Error *error) {
  *files = (WeightFiles){0};
  Error local = {0};
  Opener *opener;
  char *file = find_form(path, &opener, &local);
  if (!file && local.code != ERROR_NONE) return error_set(error, local.code, "%s", local.message);
  if (!file)
    return error_set(
        error, ERROR_MODEL,
        "%s: no weights: expected model.safetensors or pytorch_model.bin, or the index of its shards", path);
  const bool ok = weight_file_is_fetched(file, error) && opener(files, file, error);
  memory_free(file);
  return ok;
}
