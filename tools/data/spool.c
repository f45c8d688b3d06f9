#include "tools/data/spool.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool fail(const Spool *spool, Error *error) {
  return error_set(error, ERROR_FILE, "%s: cannot write what is compared later: %s", spool->draft.path,
                   strerror(errno));
}

bool spool_open(Spool *spool, const char *place, Error *error) {
  int descriptor;
  *spool = (Spool){0};
  if (!draft_file(&spool->draft, place, &descriptor, error)) return false;
  spool->stream = fdopen(descriptor, "wb");
  if (spool->stream) return true;
  close(descriptor);
  return fail(spool, error);
}

bool spool_add(Spool *spool, const uint32_t *units, size_t count, Error *error) {
  if (spool->count == spool->capacity) {
    const size_t capacity = spool->capacity ? 2 * spool->capacity : 1024;
    uint64_t *ends = memory_resize(spool->ends, capacity * sizeof *ends);
    if (!ends) return error_out_of_memory(error, "places of records", capacity * sizeof *ends);
    spool->ends = ends;
    spool->capacity = capacity;
  }
  if (count && fwrite(units, sizeof *units, count, spool->stream) != count) return fail(spool, error);
  spool->ends[spool->count] = (spool->count ? spool->ends[spool->count - 1] : 0) + count;
  spool->count++;
  return true;
}

bool spool_finish(Spool *spool, Error *error) {
  const bool written = fclose(spool->stream) == 0;
  spool->stream = NULL;
  if (!written) return fail(spool, error);
  if (spool->count == 0 || spool->ends[spool->count - 1] == 0) return true;
  return file_map_open(&spool->map, spool->draft.path, error);
}

const uint32_t *spool_units(const Spool *spool, size_t record, size_t *count) {
  const uint64_t begin = record ? spool->ends[record - 1] : 0;
  *count = (size_t)(spool->ends[record] - begin);
  return (const uint32_t *)(const void *)spool->map.data + begin;
}

void spool_close(Spool *spool) {
  if (spool->stream) fclose(spool->stream);
  file_map_close(&spool->map);
  draft_drop(&spool->draft);
  memory_free(spool->ends);
  *spool = (Spool){0};
}
