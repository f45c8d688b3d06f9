#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>

/* Records of an archive: their first four bytes, and how long they are without names. */
enum {
  LOCAL = 0x04034b50,
  LOCAL_BYTES = 30,
  CENTRAL = 0x02014b50,
  CENTRAL_BYTES = 46,
  END = 0x06054b50,
  END_BYTES = 22,
  END64 = 0x06064b50,
  END64_BYTES = 56,
  LOCATOR64 = 0x07064b50,
  LOCATOR64_BYTES = 20,
  EXTRA64 = 0x0001,
  COMMENT_LIMIT = 0xffff
};

typedef struct Reading {
  const FileMap *map;
  const char *path;
  uint64_t directory, directory_bytes, count; /* what the end record says */
  Error *error;
} Reading;

static uint64_t number(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes; i-- > 0;) value = value << 8 | at[i];
  return value;
}

static bool fail(const Reading *r, const char *what) {
  return error_set(r->error, ERROR_MODEL, "%s: broken zip archive: %s", r->path, what);
}

static bool fail_entry(const Reading *r, const ZipEntry *entry, const char *what) {
  return error_set(r->error, ERROR_MODEL, "%s: entry '%.*s' %s", r->path,
                   (int)(entry->name_bytes < 200 ? entry->name_bytes : 200), entry->name, what);
}

/* ---- the end of the file ---- */

/* Where the end record is: behind it stands a comment of the length that it says. */
static const uint8_t *find_end(const FileMap *map) {
  for (size_t back = END_BYTES; back <= map->size && back <= END_BYTES + COMMENT_LIMIT; back++) {
    const uint8_t *at = map->data + map->size - back;
    if (number(at, 4) == END && number(at + 20, 2) == back - END_BYTES) return at;
  }
  return NULL;
}

static bool read_end(Reading *r) {
  const FileMap *map = r->map;
  const uint8_t *end = find_end(map);
  if (!end) return fail(r, "no directory at its end: truncated?");
  r->count = number(end + 10, 2);
  r->directory_bytes = number(end + 12, 4);
  r->directory = number(end + 16, 4);
  const size_t place = (size_t)(end - map->data);
  uint64_t limit = place;
  if (place >= LOCATOR64_BYTES && number(end - LOCATOR64_BYTES, 4) == LOCATOR64) {
    limit = number(end - LOCATOR64_BYTES + 8, 8);
    if (map->size < END64_BYTES || limit > map->size - END64_BYTES || number(map->data + limit, 4) != END64)
      return fail(r, "the end record of 64 bits is not where it should be");
    r->count = number(map->data + limit + 32, 8);
    r->directory_bytes = number(map->data + limit + 40, 8);
    r->directory = number(map->data + limit + 48, 8);
  }
  if (r->directory > limit || r->directory_bytes > limit - r->directory)
    return fail(r, "the directory lies beyond the file");
  return r->count <= r->directory_bytes / CENTRAL_BYTES ||
         fail(r, "more entries than its directory has room for");
}

/* ---- entries ---- */

/* The fields of 64 bits, each of which is there if the one of 32 is all ones. */
static bool read_extra64(const uint8_t *extra, size_t bytes, uint64_t *const fields[], int field_count) {
  while (bytes >= 4) {
    const uint64_t id = number(extra, 2), length = number(extra + 2, 2);
    if (length > bytes - 4) return false;
    if (id == EXTRA64) {
      size_t at = 4;
      for (int i = 0; i < field_count; i++) {
        if (*fields[i] != UINT32_MAX) continue;
        if (at + 8 > 4 + length) return false;
        *fields[i] = number(extra + at, 8);
        at += 8;
      }
      return true;
    }
    extra += 4 + length;
    bytes -= 4 + length;
  }
  return true;
}

/* From the entry's own header to its data. */
static bool find_data(const Reading *r, ZipEntry *entry, uint64_t header, uint64_t bytes) {
  const uint64_t limit = r->directory;
  if (limit < LOCAL_BYTES || header > limit - LOCAL_BYTES)
    return fail_entry(r, entry, "lies beyond the data of the archive");
  const uint8_t *local = r->map->data + header;
  if (number(local, 4) != LOCAL) return fail_entry(r, entry, "has no header");
  const uint64_t data = header + LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
  if (data > limit || bytes > limit - data)
    return fail_entry(r, entry, "is longer than the archive: truncated?");
  entry->data = r->map->data + data;
  entry->bytes = (size_t)bytes;
  return true;
}

/* One record of the directory, at `at` with `left` bytes; moves on. */
static bool read_entry(const Reading *r, const uint8_t **at, size_t *left, ZipEntry *entry) {
  const uint8_t *record = *at;
  if (*left < CENTRAL_BYTES || number(record, 4) != CENTRAL) return fail(r, "its directory is torn");
  const uint64_t flags = number(record + 8, 2), method = number(record + 10, 2);
  uint64_t packed = number(record + 20, 4), bytes = number(record + 24, 4), header = number(record + 42, 4);
  const size_t name = (size_t)number(record + 28, 2), extra = (size_t)number(record + 30, 2);
  const size_t length = CENTRAL_BYTES + name + extra + (size_t)number(record + 32, 2);
  if (length > *left) return fail(r, "its directory is torn");
  *entry = (ZipEntry){.name = (const char *)record + CENTRAL_BYTES, .name_bytes = name};
  *at += length;
  *left -= length;
  uint64_t *const wide[] = {&bytes, &packed, &header};
  if (!read_extra64(record + CENTRAL_BYTES + name, extra, wide, 3))
    return fail_entry(r, entry, "has a torn record");
  if (flags & 1) return fail_entry(r, entry, "is encrypted");
  if (method != 0 || packed != bytes)
    return fail_entry(r, entry,
                      "is compressed, and torch.save stores everything as it is: save it in PyTorch again");
  return find_data(r, entry, header, bytes);
}

static int compare_names(const void *a, const void *b) {
  const ZipEntry *x = a, *y = b;
  const size_t shorter = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
  const int order = memcmp(x->name, y->name, shorter);
  return order ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

static int compare_data(const void *a, const void *b) {
  const ZipEntry *x = a, *y = b;
  if (x->data != y->data) return x->data < y->data ? -1 : 1;
  return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool check_apart(const Reading *r, ZipFile *zip) {
  if (zip->count == 0) return true;
  qsort(zip->entries, zip->count, sizeof *zip->entries, compare_data);
  for (size_t i = 1; i < zip->count; i++)
    if ((size_t)(zip->entries[i].data - zip->entries[i - 1].data) < zip->entries[i - 1].bytes)
      return fail_entry(r, &zip->entries[i], "covers another one");
  qsort(zip->entries, zip->count, sizeof *zip->entries, compare_names);
  for (size_t i = 1; i < zip->count; i++)
    if (compare_names(&zip->entries[i], &zip->entries[i - 1]) == 0)
      return fail_entry(r, &zip->entries[i], "is there twice");
  return true;
}

bool zip_is(const FileMap *map) {
  return map->size >= 4 && number(map->data, 4) == LOCAL;
}

bool zip_open(ZipFile *zip, const FileMap *map, const char *path, Error *error) {
  *zip = (ZipFile){0};
  Reading r = {.map = map, .path = path, .error = error};
  if (!read_end(&r)) return false;
  zip->entries = memory_zeroed((size_t)r.count, sizeof *zip->entries);
  if (!zip->entries)
    return error_out_of_memory(error, "directory of an archive", r.count * sizeof *zip->entries);
  const uint8_t *at = map->data + r.directory;
  size_t left = (size_t)r.directory_bytes;
  bool ok = true;
  for (; ok && zip->count < r.count; zip->count++) ok = read_entry(&r, &at, &left, &zip->entries[zip->count]);
  ok = ok && check_apart(&r, zip);
  if (!ok) zip_close(zip);
  return ok;
}

void zip_close(ZipFile *zip) {
  memory_free(zip->entries);
  *zip = (ZipFile){0};
}

const ZipEntry *zip_find(const ZipFile *zip, const char *name, size_t name_bytes) {
  const ZipEntry wanted = {.name = name, .name_bytes = name_bytes};
  return zip->count ? bsearch(&wanted, zip->entries, zip->count, sizeof wanted, compare_names) : NULL;
}
