/* A model in GGUF: its file, or its parts, and where they are. */
#include "formats/gguf.h"

#include "formats/weight_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 10000 };

/* ---- parts ---- */

/* NAME-00002-of-00005.gguf: the length of NAME, and both numbers; false for other names. */
static bool split_name(const char *file, size_t *stem, int *part, int *parts) {
  static const size_t tail = sizeof "-00001-of-00002.gguf" - 1;
  const size_t length = strlen(file);
  int end = 0;
  if (length < tail) return false;
  *stem = length - tail;
  return sscanf(file + *stem, "-%5d-of-%5d.gguf%n", part, parts, &end) == 2 && (size_t)end == tail;
}

static bool add_tensors(GgufSet *set, Error *error) {
  size_t count = 0;
  for (size_t i = 0; i < set->file_count; i++) count += set->files[i].tensor_count;
  set->tensors = memory_zeroed(count, sizeof *set->tensors);
  if (!set->tensors) return error_out_of_memory(error, "list of tensors", count * sizeof *set->tensors);
  for (size_t i = 0; i < set->file_count; i++)
    for (size_t k = 0; k < set->files[i].tensor_count; k++)
      set->tensors[set->tensor_count++] = &set->files[i].tensors[k];
  return true;
}

static int compare_text(GgufText a, GgufText b) {
  const int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
  if (order != 0) return order;
  return a.size < b.size ? -1 : a.size > b.size;
}

static int compare_tensors(const void *a, const void *b) {
  return compare_text((*(const GgufTensor *const *)a)->name, (*(const GgufTensor *const *)b)->name);
}

static bool sort_tensors(GgufSet *set, Error *error) {
  if (set->tensor_count) qsort(set->tensors, set->tensor_count, sizeof *set->tensors, compare_tensors);
  for (size_t i = 1; i < set->tensor_count; i++) {
    const GgufTensor *a = set->tensors[i - 1], *b = set->tensors[i];
    if (compare_text(a->name, b->name) == 0)
      return error_set(error, ERROR_MODEL, "%s: tensor '%.*s' is in %s too", b->path, (int)b->name.size,
                       b->name.data, path_name(a->path));
  }
  return true;
}

static bool check_part(const GgufFile *file, int64_t part, int64_t parts, Error *error) {
  int64_t number = 0, count = 1;
  if (!gguf_int(file, "split.no", 0, MOST_PARTS, &number, error) ||
      !gguf_int(file, "split.count", 0, MOST_PARTS, &count, error))
    return false;
  if (number == part && count == parts) return true;
  return error_set(error, ERROR_MODEL, "%s: says it is part %lld of %lld, expected %lld of %lld", file->path,
                   (long long)number + 1, (long long)count, (long long)part + 1, (long long)parts);
}

/* The parts behind the first one, which is open. */
static bool open_parts(GgufSet *set, const char *path, int64_t parts, Error *error) {
  size_t stem;
  int part, named;
  if (!split_name(path, &stem, &part, &named) || part != 1 || named != parts)
    return error_set(
        error, ERROR_MODEL,
        "%s: the first of %lld parts, but its name does not end in -00001-of-%05lld.gguf, so the "
        "others cannot be found",
        path, (long long)parts, (long long)parts);
  for (int64_t i = 1; i < parts; i++) {
    char *next =
        memory_format("%.*s-%05lld-of-%05lld.gguf", (int)stem, path, (long long)i + 1, (long long)parts);
    const bool ok =
        next ? gguf_file_open(&set->files[i], next, error) : error_out_of_memory(error, "path", strlen(path));
    memory_free(next);
    if (!ok) return false;
    set->file_count++;
    if (!check_part(&set->files[i], i, parts, error)) return false;
  }
  return true;
}

static bool open_files(GgufSet *set, const char *path, Error *error) {
  GgufFile first;
  int64_t part = 0, parts = 1, tensors = -1;
  if (!gguf_file_open(&first, path, error)) return false;
  bool ok = gguf_int(&first, "split.no", 0, MOST_PARTS, &part, error) &&
            gguf_int(&first, "split.count", 0, MOST_PARTS, &parts, error) &&
            gguf_int(&first, "split.tensors.count", 0, INT64_MAX, &tensors, error);
  if (parts < 1) parts = 1; /* a file that was put together again may say 0 */
  if (ok && part != 0)
    ok = error_set(error, ERROR_MODEL, "%s: part %lld of %lld: give the first one", path, (long long)part + 1,
                   (long long)parts);
  set->files = ok ? memory_zeroed((size_t)parts, sizeof *set->files) : NULL;
  if (ok && !set->files) ok = error_out_of_memory(error, "parts of a GGUF model", (size_t)parts);
  if (!ok) {
    gguf_file_close(&first);
    return false;
  }
  set->files[0] = first;
  set->file_count = 1;
  if ((parts > 1 && !open_parts(set, set->files[0].path, parts, error)) || !add_tensors(set, error))
    return false;
  if (parts == 1 || tensors < 0 || (size_t)tensors == set->tensor_count) return true;
  return gguf_fail(&set->files[0], "split.tensors.count", error,
                   "expected the %zu tensors of all parts, found %lld", set->tensor_count,
                   (long long)tensors);
}

bool gguf_set_open(GgufSet *set, const char *file, Error *error) {
  *set = (GgufSet){0};
  if (open_files(set, file, error) && sort_tensors(set, error)) return true;
  gguf_set_close(set);
  return false;
}

void gguf_set_close(GgufSet *set) {
  for (size_t i = 0; i < set->file_count; i++) gguf_file_close(&set->files[i]);
  memory_free(set->files);
  memory_free(set->tensors);
  *set = (GgufSet){0};
}

const GgufTensor *gguf_set_find(const GgufSet *set, const char *name) {
  const GgufTensor wanted = {.name = {.data = name, .size = strlen(name)}}, *pointer = &wanted;
  const GgufTensor *const *found = set->tensor_count ? bsearch(&pointer, set->tensors, set->tensor_count,
                                                               sizeof *set->tensors, compare_tensors)
                                                     : NULL;
  return found ? *found : NULL;
}

/* ---- where they are ---- */

static bool is_gguf(const char *name) {
  const size_t length = strlen(name);
  return length > 5 && strcmp(name + length - 5, ".gguf") == 0;
}

/* Whether it is a part that is opened by way of the first one. */
static bool is_later_part(const char *name) {
  size_t stem;
  int part, parts;
  return split_name(name, &stem, &part, &parts) && part != 1;
}

static bool has_config(const char *directory) {
  char *path = path_join(directory, "config.json");
  const bool there = path && file_exists(path);
  memory_free(path);
  return there;
}

static bool locate_in(const char *directory, char **file, Error *error) {
  StringList names = {0};
  const char *found = NULL;
  bool ok = directory_list(directory, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    const char *name = names.items[i];
    if (!is_gguf(name) || is_later_part(name)) continue;
    if (found)
      ok = error_set(error, ERROR_MODEL, "%s: several GGUF models, %s and %s: give one of the files",
                     directory, found, name);
    found = name;
  }
  if (ok && found) {
    *file = path_join(directory, found);
    ok = *file || error_out_of_memory(error, "path", strlen(directory));
  }
  string_list_free(&names);
  return ok;
}

bool gguf_locate(const char *path, char **file, Error *error) {
  *file = NULL;
  if (directory_exists(path))
    return has_config(path) || weight_files_exist(path) || locate_in(path, file, error);
  if (!is_gguf(path) || !file_exists(path)) return true;
  *file = memory_copy_string(path);
  return *file || error_out_of_memory(error, "path", strlen(path));
}
