#include "datasets/cache.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char magic[8] = {'D', 'R', 'O', 'V', 'D', 'A', 'T', 'A'};

static bool write_content(CacheWriter *writer, const void *bytes, size_t count, Error *error) {
  if (count) digest_add(writer->content, bytes, count);
  return file_writer_write(&writer->file, bytes, count, error);
}

bool cache_writer_open(CacheWriter *writer, const char *path, Error *error) {
  *writer = (CacheWriter){0};
  const bool ok = (writer->content = digest_open(error)) && file_writer_open(&writer->file, path, error) &&
                  write_content(writer, magic, sizeof magic, error);
  if (!ok) cache_writer_close(writer);
  return ok;
}

void cache_writer_close(CacheWriter *writer) {
  file_writer_close(&writer->file);
  digest_close(writer->content);
  memory_free(writer->offsets);
  *writer = (CacheWriter){0};
}

/* *list has room for one more; it grows by doubling. */
static bool room_for(void **list, size_t count, size_t *capacity, size_t size, Error *error) {
  if (count < *capacity) return true;
  const size_t more = *capacity ? 2 * *capacity : 1024;
  void *grown = memory_resize(*list, more * size);
  if (!grown) return error_out_of_memory(error, "example index", more * size);
  *list = grown;
  *capacity = more;
  return true;
}

void cache_part_free(CachePart *part) {
  buffer_free(&part->bytes);
  memory_free(part->starts);
  *part = (CachePart){0};
}

static bool add(CachePart *part, const void *bytes, size_t count, Error *error) {
  return count == 0 || buffer_append(&part->bytes, bytes, count, error);
}

bool cache_part_add(CachePart *part, const CacheItem *item, Error *error) {
  static const char zeros[8];
  const CacheExample *fixed = &item->fixed;
  void *starts = part->starts;
  if (!room_for(&starts, part->count, &part->capacity, sizeof *part->starts, error)) return false;
  part->starts = starts;
  part->starts[part->count++] = part->bytes.size;
  return add(part, fixed, sizeof *fixed, error) &&
         add(part, item->answers, (size_t)fixed->answer_count * sizeof *item->answers, error) &&
         add(part, item->ids, cache_id_count(fixed, item->answers) * sizeof(int), error) &&
         add(part, item->loss, fixed->loss_count ? (size_t)fixed->count : 0, error) &&
         add(part, item->prompt, fixed->prompt_bytes, error) && add(part, "", 1, error) &&
         add(part, item->reference, fixed->reference_bytes, error) && add(part, "", 1, error) &&
         add(part, item->record, fixed->record_bytes, error) && add(part, "", 1, error) &&
         add(part, zeros, (8 - part->bytes.size % 8) % 8, error);
}

bool cache_writer_append(CacheWriter *writer, CachePart *part, Error *error) {
  const uint64_t first = writer->file.written;
  for (size_t i = 0; i < part->count; i++) {
    void *offsets = writer->offsets;
    if (!room_for(&offsets, writer->count, &writer->capacity, sizeof *writer->offsets, error)) return false;
    writer->offsets = offsets;
    writer->offsets[writer->count++] = first + part->starts[i];
  }
  const bool ok = write_content(writer, part->bytes.data, part->bytes.size, error);
  part->bytes.size = part->count = 0;
  return ok;
}

bool cache_writer_commit(CacheWriter *writer, const char digest[33], DatasetFormat format,
                         const DatasetCounts *counts, const KeyNames *passed, Error *error) {
  ASSERT(counts->examples == writer->count);
  CacheTrailer trailer;
  char content[33];
  memset(&trailer, 0, sizeof trailer); /* the bytes between the members too: equal data, equal files */
  memcpy(trailer.magic, magic, sizeof magic);
  trailer.layout = CACHE_LAYOUT;
  trailer.format = (uint32_t)format;
  trailer.counts = *counts;
  trailer.passed = *passed;
  memcpy(trailer.digest, digest, sizeof trailer.digest);
  trailer.index_offset = writer->file.written;
  trailer.file_size = trailer.index_offset + writer->count * sizeof(uint64_t) + sizeof trailer;
  if (!write_content(writer, writer->offsets, writer->count * sizeof(uint64_t), error) ||
      !write_content(writer, &trailer, offsetof(CacheTrailer, content), error)) {
    return false;
  }
  digest_text(writer->content, content);
  return file_writer_write(&writer->file, content, sizeof trailer.content, error) &&
         file_writer_commit(&writer->file, error);
}

static bool trailer_valid(const FileMap *map, const CacheTrailer *trailer, const char digest[33]) {
  const uint64_t room = map->size - sizeof *trailer;
  return memcmp(trailer->magic, magic, sizeof magic) == 0 && trailer->layout == CACHE_LAYOUT &&
         memcmp(trailer->digest, digest, sizeof trailer->digest) == 0 && trailer->file_size == map->size &&
         trailer->format > FORMAT_AUTO && trailer->format < FORMAT_COUNT &&
         memchr(trailer->passed.text, '\0', sizeof trailer->passed.text) &&
         trailer->counts.examples <= UINT32_MAX && trailer->index_offset % 8 == 0 &&
         trailer->index_offset >= sizeof magic && trailer->index_offset <= room &&
         trailer->counts.examples * sizeof(uint64_t) == room - trailer->index_offset;
}

/* More tokens than an example can have by any data.max_length. */
enum { MOST_TOKENS = 1 << 24 };

/* Whether the answers are what Example says of them: one after another behind the prompt, by rising rank; or one alone. */
static bool answers_valid(const ExampleAnswer *answers, int32_t count, int32_t prompt) {
  int32_t begin = prompt, rank = count == 1 && answers->rank == 1;
  for (int32_t k = 0; k < count; k++) {
    const ExampleAnswer *answer = &answers[k];
    const bool next = answer->rank == rank + 1 && k > 0;
    if (answer->begin != begin || answer->count < 1 || answer->count > MOST_TOKENS ||
        (answer->rank != rank && !next) || !isfinite(answer->score)) {
      return false;
    }
    begin += answer->count;
    rank = answer->rank;
  }
  return rank > 0 || count == 1;
}

static bool labels_valid(const PairLabels *labels) {
  const int8_t all[] = {labels->better, labels->safer, labels->chosen_safe, labels->rejected_safe};
  for (size_t i = 0; i < sizeof all; i++) {
    if (all[i] < -1 || all[i] > 1) return false;
  }
  return true;
}

/* Whether the example is whole within [offset, end) and its counts fit each other. */
static bool example_valid(const FileMap *map, uint64_t offset, uint64_t end) {
  if (offset % 8 || offset > end || end - offset < sizeof(CacheExample)) return false;
  const CacheExample *fixed = (const CacheExample *)(const void *)(map->data + offset);
  const ExampleAnswer *answers = (const ExampleAnswer *)(const void *)(fixed + 1);
  const int64_t count = fixed->count, room = (int64_t)(end - offset - sizeof *fixed);
  if (count < (fixed->answer_count ? 0 : 1) || count > MOST_TOKENS || fixed->answer_count < 0 ||
      fixed->answer_count > MOST_ANSWERS || fixed->prompt_count < 0 || fixed->prompt_count > count ||
      fixed->loss_count < 0 || fixed->loss_count > count || !isfinite(fixed->margin) ||
      !labels_valid(&fixed->labels) || room < fixed->answer_count * (int64_t)sizeof *answers) {
    return false;
  }
  if (fixed->answer_count && !answers_valid(answers, fixed->answer_count, fixed->count)) return false;
  const uint64_t arrays = (uint64_t)fixed->answer_count * sizeof *answers +
                          4 * cache_id_count(fixed, answers) + (fixed->loss_count ? (uint64_t)count : 0);
  const uint64_t reference_end = (uint64_t)fixed->prompt_bytes + 1 + fixed->reference_bytes,
                 record_end = reference_end + 1 + fixed->record_bytes;
  if (arrays + record_end + 1 > (uint64_t)room) return false;
  const uint8_t *prompt = (const uint8_t *)(fixed + 1) + arrays;
  return !prompt[fixed->prompt_bytes] && !prompt[reference_end] && !prompt[record_end];
}

/* The content is what was written: by its digest, and because a file made up by somebody may have a right one, by
 * every size in it. */
static bool content_valid(const FileMap *map, const CacheTrailer *trailer) {
  char content[33];
  bytes_digest(map->data, map->size - sizeof trailer->content, content);
  if (memcmp(content, trailer->content, sizeof trailer->content) != 0) return false;
  const uint64_t *offsets = (const uint64_t *)(const void *)(map->data + trailer->index_offset);
  const uint64_t count = trailer->counts.examples;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t end = i + 1 < count ? offsets[i + 1] : trailer->index_offset;
    if (end > trailer->index_offset || !example_valid(map, offsets[i], end)) return false;
  }
  return true;
}

bool cache_open(DatasetSource *source, const char *path, const char digest[33]) {
  Error ignored = {0};
  FileMap map = {0};
  if (!file_exists(path) || !file_map_open(&map, path, &ignored)) return false;
  CacheTrailer trailer;
  if (map.size >= sizeof magic + sizeof trailer) {
    memcpy(&trailer, map.data + map.size - sizeof trailer, sizeof trailer);
    if (trailer_valid(&map, &trailer, digest) && content_valid(&map, &trailer)) {
      source->map = map;
      source->format = (DatasetFormat)trailer.format;
      memcpy(source->digest, digest, sizeof source->digest);
      source->passed = trailer.passed;
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
  return (const CacheExample *)(const void *)(source->map.data + source->offsets[number]);
}
