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
  checkpoint->parts->comm = compute->comm;
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
    for (int r = 0; r < parts->state_count; r++) safetensors_file_close(&parts->states[r]);
    memory_free(parts->states);
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

bool checkpoint_has_int(const Checkpoint *checkpoint, const char *name) {
  return json_object_get(json_object_get(checkpoint->parts->manifest, "ints"), name) != NULL;
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

static bool misshapen(const Checkpoint *checkpoint, const SafetensorsEntry *entry, Tensor shape,
                      Error *error) {
  char found[128], expected[128];
  safetensors_shape_text(entry->rank, entry->shape, found, sizeof found);
  safetensors_shape_text(shape.rank, shape.dim, expected, sizeof expected);
  return error_set(error, ERROR_MODEL, "checkpoint %s: '%s': expected %s %s, found %s %s", checkpoint->path,
                   entry->name, dtype_file_name(shape.dtype), expected, dtype_file_name(entry->dtype), found);
}

/* Where a tensor comes from and goes to. */
typedef struct Transfer {
  Tensor shape;  /* of the whole tensor */
  Tensor value;  /* flat: elements from ... */
  int64_t first; /* ... this one on */
  bool part, host;
} Transfer;

/* Takes what of the wanted elements `entry` has, whose first is element `at` of the tensor. */
static void take(const Checkpoint *checkpoint, const Transfer *to, const SafetensorsEntry *entry,
                 int64_t at) {
  const size_t size = dtype_size(entry->dtype);
  const int64_t end = at + (int64_t)(entry->bytes / size), wanted = to->first + tensor_count(to->value);
  const int64_t from = at > to->first ? at : to->first, until = end < wanted ? end : wanted;
  if (from < until) {
    const Tensor part = tensor_rows(to->value, from - to->first, until - from);
    const char *data = (const char *)entry->data + (size_t)(from - at) * size;
    if (to->host) {
      memcpy(part.data, data, tensor_bytes(part));
    } else {
      compute_upload(checkpoint->compute, part, data);
    }
  }
  forget_pages(entry);
}

static bool same_shape(const SafetensorsEntry *entry, Tensor shape) {
  bool equal = entry->rank == shape.rank;
  for (int i = 0; equal && i < shape.rank; i++) equal = entry->shape[i] == shape.dim[i];
  return equal;
}

/* A tensor is what stands under its name in the files of the ranks, one behind the other: in the first alone, or flat parts of it
 * in several. */
static bool load(const Checkpoint *checkpoint, const char *name, const Transfer *to, Error *error) {
  const struct CheckpointParts *parts = checkpoint->parts;
  const SafetensorsEntry *last = NULL;
  int64_t at = 0;
  bool is_whole = false;
  for (int r = 0; r < parts->state_count; r++) {
    const SafetensorsEntry *entry = safetensors_file_find(&parts->states[r], name);
    if (!entry) continue;
    last = entry;
    if (entry->dtype != to->shape.dtype) return misshapen(checkpoint, entry, to->shape, error);
    is_whole |= same_shape(entry, to->shape);
    take(checkpoint, to, entry, at);
    at += (int64_t)(entry->bytes / dtype_size(entry->dtype));
  }
  if (!last) return missing(checkpoint, name, error);
  if (at == tensor_count(to->shape) && (is_whole || to->part || parts->state_count > 1)) return true;
  return misshapen(checkpoint, last, to->shape, error);
}

static bool exchange_tensor(Checkpoint *checkpoint, const char *name, Tensor value, bool host, Error *error) {
  if (!checkpoint->loading) {
    if (checkpoint->parts->comm.rank > 0) return true; /* rank 0 writes what is the same on all */
    return remember(checkpoint->parts, name, value, host ? value.data : NULL, error);
  }
  const Tensor flat = tensor_1d(value.data, value.dtype, tensor_count(value));
  return load(checkpoint, name, &(Transfer){.shape = value, .value = flat, .host = host}, error);
}

bool checkpoint_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error) {
  return exchange_tensor(checkpoint, name, value, false, error);
}

bool checkpoint_host_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error) {
  return exchange_tensor(checkpoint, name, value, true, error);
}

bool checkpoint_part(Checkpoint *checkpoint, const char *name, Tensor part, int64_t first, int64_t whole,
                     Error *error) {
  struct CheckpointParts *parts = checkpoint->parts;
  parts->divided = true;
  if (!checkpoint->loading) {
    if (!remember(parts, name, part, NULL, error)) return false;
    parts->items[parts->count - 1].part = true;
    return true;
  }
  return load(
      checkpoint, name,
      &(Transfer){.shape = tensor_1d(NULL, part.dtype, whole), .value = part, .first = first, .part = true},
      error);
}

uint64_t checkpoint_bytes(const Checkpoint *checkpoint) {
  const struct CheckpointParts *parts = checkpoint->parts;
  uint64_t bytes = 0;
  for (size_t i = 0; i < parts->count; i++) {
    const uint64_t ranks = parts->items[i].part ? (uint64_t)parts->comm.size : 1;
    bytes += tensor_bytes(parts->items[i].tensor) * ranks;
  }
  return bytes;
}

bool checkpoint_array(Checkpoint *checkpoint, const char *name, DType dtype, void *values, int64_t count,
                      Error *error) {
  return checkpoint_host_tensor(checkpoint, name, tensor_1d(values, dtype, count), error);
}
