/* Inside datasets/ only: the file of tokenised examples.
 *
 *   "DROVDATA" | example ... | offset of each example, uint64 | CacheTrailer
 *
 *   example, at a multiple of 8 bytes:
 *     CacheExample | ExampleAnswer[answer_count] | ids int32[count, and those of the answers, one after another]
 *     | loss uint8[count] when loss_count > 0 | prompt text, NUL | reference text, NUL | record text, NUL
 *
 * Little-endian, as every machine that Drover runs on. The trailer is last, so a file is written front to back
 * in one go; it carries the digest of all that decided the content, and that of the content itself. */
#ifndef DATASETS_CACHE_H
#define DATASETS_CACHE_H

#include "base/file.h"
#include "datasets/dataset.h"

/* Raise the first whenever ids or masks change: what runs began with is then gone. The second where this layout does. */
enum { CACHE_VERSION = 8, CACHE_LAYOUT = 10 };

typedef struct CacheExample {
  int32_t count, answer_count, prompt_count, loss_count;
  uint32_t prompt_bytes, reference_bytes, record_bytes; /* without NUL */
  float margin;
  PairLabels labels;
  uint32_t unused; /* 0 */
  uint64_t line;
  uint64_t group; /* hash of the prompt (of the text, for pieces): a split keeps a group together */
} CacheExample;

typedef struct CacheTrailer {
  char magic[8];
  uint32_t layout; /* CACHE_LAYOUT */
  uint32_t format; /* DatasetFormat, as detected */
  char digest[32];
  KeyNames passed;
  DatasetCounts counts;
  uint64_t index_offset;
  uint64_t file_size;
  char content[32]; /* digest of all bytes before these */
} CacheTrailer;

/* Examples as the file has them, on their way to it; begins at a multiple of 8 bytes. */
typedef struct CachePart {
  Buffer bytes;
  size_t *starts; /* of each example in bytes */
  size_t count, capacity;
} CachePart;

typedef struct CacheWriter {
  FileWriter file;
  Digest *content;
  uint64_t *offsets; /* as they grow: 8 bytes per example */
  size_t count, capacity;
} CacheWriter;

/* An example to be written; pointers are borrowed, lengths stand in `fixed`. */
typedef struct CacheItem {
  CacheExample fixed;
  const ExampleAnswer *answers;
  const int *ids; /* with those of the answers */
  const uint8_t *loss;
  const char *prompt, *reference, *record;
} CacheItem;

NODISCARD bool cache_writer_open(CacheWriter *writer, const char *path, Error *error);
NODISCARD bool cache_part_add(CachePart *part, const CacheItem *item, Error *error);
void cache_part_free(CachePart *part);
/* Writes all examples of the part, and empties it. */
NODISCARD bool cache_writer_append(CacheWriter *writer, CachePart *part, Error *error);
NODISCARD bool cache_writer_commit(CacheWriter *writer, const char digest[33], DatasetFormat format,
                                   const DatasetCounts *counts, const KeyNames *passed, Error *error);
void cache_writer_close(CacheWriter *writer);

/* Maps the cache into the source if there is one, whole, with this digest: fills map, offsets, format, counts and
 * the names of keys that were passed over. Every example is checked here, once. false: there is none that could be used
 * (nothing is mapped), whatever the reason: it is made again. */
bool cache_open(DatasetSource *source, const char *path, const char digest[33]);

/* The ids of an example: its own and those of the answers. */
static inline uint64_t cache_id_count(const CacheExample *fixed, const ExampleAnswer *answers) {
  const ExampleAnswer *last = fixed->answer_count ? &answers[fixed->answer_count - 1] : NULL;
  return last ? (uint64_t)last->begin + (uint64_t)last->count : (uint64_t)fixed->count;
}

/* The fixed part of an example of an open source. */
const CacheExample *cache_example(const DatasetSource *source, uint32_t number);

#endif
