/* The values of a checkpoint, both ways. Its files are in checkpoint_files.c. */
#include "train/checkpoint_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool checkpoint_begin(Checkpoint *checkpoint, const char *stage, int64_t step, const char *config,
                      Compute *compute, Error *error) {
  *checkpoint = (Checkpoint){.step = step, .compute = compute};
  checkpoint->parts = memory_zeroed(1, sizeof *checkpoint->parts);
  if (!checkpoint->parts) return error_out_of_memory(error, "checkpoint", sizeof *checkpoint->parts);
  json_error_t broken;
  json_t *settings = json_loads(config, 0, &broken);
  ASSERT(settings); /* made by options_json */
  checkpoint->parts->manifest = json_pack("{s:i, s:s, s:s, s:I, s:o, s:{}, s:{}}", "version",
                                          CHECKPOINT_VERSION, "program", DROVER_VERSION, "stage", stage,
                                          "step", (json_int_t)step, "config", settings, "ints", "floats");
  return checkpoint->parts->manifest || error_out_of_memory(error, "checkpoint", 0);
}

void checkpoint_close(Checkpoint *checkpoint) {
  struct CheckpointParts *parts = checkpoint->parts;
  if (parts) {
    json_decref(parts->manifest);
    for (size_t i = 0; i < parts->count; i++) memory_free(parts->items[i].name);
    memory_free(parts->items);
    safetensors_file_close(&parts->state);
    memory_free(parts);
  }
  memory_free(checkpoint->path);
  *checkpoint = (Checkpoint){0};
}

static bool missing(const Checkpoint *checkpoint, const char *name, Error *error) {
  return error_set(error, ERROR_MODEL, "checkpoint %s has no value '%s'", checkpoint->path, name);
}

/* The new value goes into `group` when saving; loading returns the stored one, or NULL with an error. */
static const json_t *exchange(Checkpoint *checkpoint, const char *group, const char *name, json_t *value,
                              Error *error) {
  json_t *values = json_object_get(checkpoint->parts->manifest, group);
  if (checkpoint->loading) {
    const json_t *stored = json_object_get(values, name);
    if (!stored) missing(checkpoint, name, error);
    return stored;
  }
  ASSERT(!json_object_get(values, name)); /* names are unique */
  if (!value || json_object_set_new(values, name, value) != 0) {
    error_out_of_memory(error, "checkpoint", 0);
    return NULL;
  }
  return value;
}

bool checkpoint_int(Checkpoint *checkpoint, const char *name, int64_t *value, Error *error) {
  json_t *fresh = checkpoint->loading ? NULL : json_integer((json_int_t)*value);
  const json_t *stored = exchange(checkpoint, "ints", name, fresh, error);
  if (!stored) return false;
  if (!json_is_integer(stored)) return missing(checkpoint, name, error);
  *value = json_integer_value(stored);
  return true;
}

bool checkpoint_count(Checkpoint *checkpoint, const char *name, int64_t *value, Error *error) {
  if (!checkpoint_int(checkpoint, name, value, error)) return false;
  return *value >= 0 ||
         error_set(error, ERROR_MODEL, "checkpoint %s: '%s' is %" PRId64 ", expected at least 0",
                   checkpoint->path, name, *value);
}

bool checkpoint_float(Checkpoint *checkpoint, const char *name, double *value, Error *error) {
  char text[40]; /* hexadecimal: exact, and NaN and infinity have a spelling */
  snprintf(text, sizeof text, "%a", *value);
  const json_t *stored =
      exchange(checkpoint, "floats", name, checkpoint->loading ? NULL : json_string(text), error);
  if (!stored) return false;
  if (!json_is_string(stored)) return missing(checkpoint, name, error);
  *value = strtod(json_string_value(stored), NULL);
  return true;
}

static bool remember(struct CheckpointParts *parts, const char *name, Tensor tensor, const void *host,
                     Error *error) {
  if (parts->count == parts->capacity) {
    size_t capacity = parts->capacity ? 2 * parts->capacity : 256;
    CheckpointItem *items = memory_resize(parts->items, capacity * sizeof *items);
    if (!items) return error_out_of_memory(error, "checkpoint", capacity * sizeof *items);
    parts->items = items;
    parts->capacity = capacity;
  }
  char *copy = memory_copy_string(name);
  if (!copy) return error_out_of_memory(error, "checkpoint", strlen(name));
  parts->items[parts->count++] = (CheckpointItem){.name = copy, .tensor = tensor, .host = host};
  return true;
}

/* Pages that were read are dropped again: a checkpoint is larger than the model, and would count as ours. */
static void forget_pages(const SafetensorsEntry *entry) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)entry->data;
  uintptr_t first = begin / page * page;
  madvise((void *)first, begin + entry->bytes - first, MADV_DONTNEED);
}

static const SafetensorsEntry *stored_tensor(const Checkpoint *checkpoint, const char *name, Tensor shape,
                                             Error *error) {
  const SafetensorsEntry *entry = safetensors_file_find(&checkpoint->parts->state, name);
  if (!entry) {
    missing(checkpoint, name, error);
    return NULL;
  }
  bool equal = entry->dtype == shape.dtype && entry->rank == shape.rank;
  for (int i = 0; equal && i < shape.rank; i++) equal = entry->shape[i] == shape.dim[i];
  if (equal) return entry;
  char found[128], expected[128];
  safetensors_shape_text(entry->rank, entry->shape, found, sizeof found);
  safetensors_shape_text(shape.rank, shape.dim, expected, sizeof expected);
  error_set(error, ERROR_MODEL, "checkpoint %s: '%s': expected %s %s, found %s %s", checkpoint->path, name,
            dtype_file_name(shape.dtype), expected, dtype_file_name(entry->dtype), found);
  return NULL;
}

bool checkpoint_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error) {
  if (!checkpoint->loading) return remember(checkpoint->parts, name, value, NULL, error);
  const SafetensorsEntry *entry = stored_tensor(checkpoint, name, value, error);
  if (!entry) return false;
  compute_upload(checkpoint->compute, value, entry->data);
  forget_pages(entry);
  return true;
}

bool checkpoint_host_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error) {
  if (!checkpoint->loading) return remember(checkpoint->parts, name, value, value.data, error);
  const SafetensorsEntry *entry = stored_tensor(checkpoint, name, value, error);
  if (!entry) return false;
  if (entry->bytes) memcpy(value.data, entry->data, entry->bytes);
  forget_pages(entry);
  return true;
}

bool checkpoint_array(Checkpoint *checkpoint, const char *name, DType dtype, void *values, int64_t count,
                      Error *error) {
  return checkpoint_host_tensor(checkpoint, name, tensor_1d(values, dtype, count), error);
}
