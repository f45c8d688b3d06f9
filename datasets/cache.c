#include "datasets/cache.h"

#include <string.h>

static const char magic[8] = {'D', 'R', 'O', 'V', 'D', 'A', 'T', 'A'};

bool cache_writer_open(CacheWriter *writer, const char *path, Error *error) {
  *writer = (CacheWriter){0};
  if (!file_writer_open(&writer->file, path, error)) return false;
  if (!file_writer_write(&writer->file, magic, sizeof magic, error)) {
    cache_writer_close(writer);
    return false;
  }
  return true;
}

void cache_writer_close(CacheWriter *writer) {
  file_writer_close(&writer->file);
  memory_free(writer->offsets);
  writer->offsets = NULL;
  writer->count = writer->capacity = 0;
}

static bool push_offset(CacheWriter *writer, uint64_t offset, Error *error) {
  if (writer->count == writer->capacity) {
    size_t capacity = writer->capacity ? 2 * writer->capacity : 1024;
    uint64_t *offsets = memory_resize(writer->offsets, capacity * sizeof *offsets);
    if (!offsets) return error_out_of_memory(error, "example index", capacity * sizeof *offsets);
    writer->offsets = offsets;
    writer->capacity = capacity;
  }
  writer->offsets[writer->count++] = offset;
  return true;
}

static bool pad(CacheWriter *writer, Error *error) {
  static const char zeros[8];
  return file_writer_write(&writer->file, zeros, (8 - writer->file.written % 8) % 8, error);
}

bool cache_writer_add(CacheWriter *writer, const CacheItem *item, Error *error) {
  const CacheExample *fixed = &item->fixed;
  FileWriter *file = &writer->file;
  return push_offset(writer, file->written, error) &&                                      //
         file_writer_write(file, fixed, sizeof *fixed, error) &&                           //
         file_writer_write(file, item->ids, (size_t)fixed->count * sizeof(int), error) &&  //
         file_writer_write(file, item->rejected, (size_t)fixed->rejected_count * sizeof(int), error) &&
         file_writer_write(file, item->loss, fixed->has_loss ? (size_t)fixed->count : 0, error) &&
         file_writer_write(file, item->prompt, fixed->prompt_bytes, error) &&
         file_writer_write(file, "", 1, error) &&
         file_writer_write(file, item->reference, fixed->reference_bytes, error) &&
         file_writer_write(file, "", 1, error) && pad(writer, error);
}

bool cache_writer_commit(CacheWriter *writer, const char digest[33], DatasetFormat format,
                         const DatasetCounts *counts, Error *error) {
  ASSERT(counts->examples == writer->count);
  CacheTrailer trailer = {.version = CACHE_VERSION, .format = (uint32_t)format, .counts = *counts};
  memcpy(trailer.magic, magic, sizeof magic);
  memcpy(trailer.digest, digest, sizeof trailer.digest);
  trailer.index_offset = writer->file.written;
  trailer.file_size = trailer.index_offset + writer->count * sizeof(uint64_t) + sizeof trailer;
  return file_writer_write(&writer->file, writer->offsets, writer->count * sizeof(uint64_t), error) &&
         file_writer_write(&writer->file, &trailer, sizeof trailer, error) &&
         file_writer_commit(&writer->file, error);
}

/* A torn or foreign file is no error: the cache is simply made again. */
static bool trailer_valid(const FileMap *map, const CacheTrailer *trailer, const char digest[33]) {
  return memcmp(trailer->magic, magic, sizeof magic) == 0 && trailer->version == CACHE_VERSION &&
         memcmp(trailer->digest, digest, sizeof trailer->digest) == 0 && trailer->file_size == map->size &&
         trailer->counts.examples <= UINT32_MAX && trailer->index_offset % 8 == 0 &&
         trailer->index_offset <= map->size &&
         trailer->index_offset + trailer->counts.examples * sizeof(uint64_t) + sizeof *trailer == map->size;
}

bool cache_open(DatasetSource *source, const char *path, const char digest[33]) {
  Error ignored = {0};
  FileMap map = {0};
  if (!file_exists(path) || !file_map_open(&map, path, &ignored)) return false;
  CacheTrailer trailer;
  if (map.size >= sizeof magic + sizeof trailer) {
    memcpy(&trailer, map.data + map.size - sizeof trailer, sizeof trailer);
    if (trailer_valid(&map, &trailer, digest)) {
      source->map = map;
      source->format = (DatasetFormat)trailer.format;
      memcpy(source->digest, digest, sizeof source->digest);
      source->counts = trailer.counts;
      source->offsets = (const uint64_t *)(const void *)(map.data + trailer.index_offset);
      return true;
    }
  }
  file_map_close(&map);
  return false;
}

const CacheExample *cache_example(const DatasetSource *source, uint32_t number) {
  ASSERT(number < source->counts.examples);
  uint64_t offset = source->offsets[number];
  ASSERT(offset % 8 == 0 && offset + sizeof(CacheExample) <= source->map.size);
  const CacheExample *fixed = (const CacheExample *)(const void *)(source->map.data + offset);
  uint64_t bytes = sizeof *fixed + 4ull * ((uint64_t)fixed->count + (uint64_t)fixed->rejected_count) +
                   (fixed->has_loss ? (uint64_t)fixed->count : 0) + fixed->prompt_bytes +
                   fixed->reference_bytes + 2;
  ASSERT(bytes <= source->map.size - offset);
  return fixed;
}
