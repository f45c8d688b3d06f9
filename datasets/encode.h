/* Inside datasets/ only: one record -> tokenised examples in the cache, with masks, limits and counts. */
#ifndef DATASETS_ENCODE_H
#define DATASETS_ENCODE_H

#include "datasets/cache.h"
#include "datasets/record.h"

/* Ids of one conversation or text with a mask of the same length. Reused from record to record. */
typedef struct Encoded {
  IntArray ids;
  IntArray loss;
} Encoded;

typedef struct Encoder {
  const DatasetOptions *options; /* borrowed */
  CacheWriter *writer;           /* borrowed */
  DatasetCounts counts;
  Encoded first, second;
  Buffer mask; /* loss as bytes */
  ChatText rendered;
} Encoder;

/* Adds what the record gives to the cache and to the counts. ERROR_DATA when it does not fit the template, or
 * is too long with TRUNCATION_ERROR. */
NODISCARD bool encoder_add(Encoder *encoder, const Record *record, DatasetFormat format, RecordPlace place,
                           Error *error);
void encoder_free(Encoder *encoder);

#endif
