#include "tests/fuzz/weights.h"

#include "base/memory.h"
#include "formats/bitsandbytes.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"
#ifndef LIBFUZZER /* built from base/ and formats/ alone */
#include "model/gguf_config.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PIECE = 1024 };

/* Shapes may say anything as long as no memory is needed for it (a stride of 0), so of a large tensor only the ends are read. */
static void read_entry(const WeightEntry *entry) {
  double values[PIECE];
  const size_t n = entry->count < PIECE ? entry->count : PIECE;
  ASSERT(entry->name && entry->path && entry->kind && entry->rank <= WEIGHT_MAX_RANK);
  weight_read(entry, 0, n, entry->dtype, values);
  weight_read(entry, entry->count - n, n, dtype_is_float(entry->dtype) ? DTYPE_F64 : entry->dtype, values);
  weight_release(entry, 0, entry->count);
}

static void read_entries(WeightFiles *files) {
  for (size_t i = 0; i < files->count; i++) {
    read_entry(&files->entries[i]);
    ASSERT(weight_files_find(files, files->entries[i].name) == &files->entries[i]);
  }
  weight_files_close(files);
}

static bool try_torch(const char *path, Error *error) {
  WeightFiles files;
  if (!torch_file_open(&files, path, error)) return false;
  read_entries(&files);
  return true;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

/* The list of weights that a directory with this file gives, where bitsandbytes' tensors are one weight. */
static bool try_weights(const SafetensorsFile *file, const char *path, Error *error) {
  WeightFiles files = {.entries = memory_zeroed(file->count, sizeof *files.entries), .count = file->count};
  ASSERT(files.entries || file->count == 0);
  for (size_t i = 0; i < file->count; i++) {
    const SafetensorsEntry *from = &file->entries[i];
    WeightEntry *entry = &files.entries[i];
    *entry = (WeightEntry){.name = from->name,
                           .path = path,
                           .kind = "?",
                           .dtype = from->dtype,
                           .rank = from->rank,
                           .count = from->bytes / dtype_size(from->dtype),
                           .data = from->data,
                           .bytes = from->bytes};
    memcpy(entry->shape, from->shape, sizeof entry->shape);
  }
  if (files.count) qsort(files.entries, files.count, sizeof *files.entries, by_name);
  if (!bnb_weights(&files, error)) return false;
  read_entries(&files);
  return true;
}

static bool try_safetensors(const char *path, Error *error) {
  SafetensorsFile file;
  if (!safetensors_file_open(&file, path, error)) return false;
  for (size_t i = 0; i < file.count; i++) {
    const SafetensorsEntry *entry = &file.entries[i];
    char value[8];
    const size_t size = dtype_size(entry->dtype);
    ASSERT(safetensors_file_find(&file, entry->name) == entry);
    if (entry->bytes) memcpy(value, entry->data, size);
    if (entry->bytes) memcpy(value, (const char *)entry->data + entry->bytes - size, size);
  }
  const bool ok = try_weights(&file, path, error);
  safetensors_file_close(&file);
  return ok;
}

static bool try_gguf(const char *path, Error *error) {
  GgufSet set;
  if (!gguf_set_open(&set, path, error)) return false;
  for (size_t i = 0; i < set.tensor_count; i++) {
    const GgufTensor *tensor = set.tensors[i];
    float values[BLOCK_MOST];
    const size_t n = tensor->count < BLOCK_MOST ? tensor->count : BLOCK_MOST;
    if (!tensor->type->read) continue;
    block_read(tensor->type, tensor->data, 0, n, values);
    block_read(tensor->type, tensor->data, tensor->count - n, n, values);
  }
  gguf_set_close(&set);
#ifndef LIBFUZZER
  WeightFiles files;
  json_t *config = gguf_config_read(path, error);
  json_decref(config);
  if (!config || !gguf_weights_open(&files, path, error)) return false;
  read_entries(&files);
#endif
  return true;
}

bool weights_try(const uint8_t *data, size_t size, Error *error) {
  char path[64];
  const int file = memfd_create("weights", MFD_CLOEXEC);
  ASSERT(file >= 0 && write(file, data, size) == (ssize_t)size);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  bool ok;
  if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
    ok = try_gguf(path, error);
  else if (size >= 2 && (memcmp(data, "PK", 2) == 0 || data[0] == 0x80))
    ok = try_torch(path, error);
  else
    ok = try_safetensors(path, error);
  close(file);
  ASSERT(ok == (error->code == ERROR_NONE));
  if (!ok && (error->code != ERROR_MODEL || !strstr(error->message, path))) {
    fprintf(stderr, "code %d: %s\n", (int)error->code, error->message);
    assert_failed(__FILE__, __LINE__, "ERROR_MODEL, and the file is named");
  }
  return ok;
}
