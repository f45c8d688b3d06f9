/* The records of a file, one after the other, with their texts. */
#ifndef TOOLS_DATA_CORPUS_H
#define TOOLS_DATA_CORPUS_H

#include "datasets/columns.h"
#include "datasets/lines.h"
#include "tools/data/record_text.h"

typedef enum CorpusItem {
  CORPUS_RECORD, /* `text` is its text */
  CORPUS_BROKEN, /* it cannot be used, as `problem` says; the next one can be asked for */
  CORPUS_END,
  CORPUS_FAILED /* error */
} CorpusItem;

typedef struct CorpusReader {
  LineReader lines; /* lines.number is the record's line */
  Columns columns;
  Record record;
  RecordText text;
  DatasetFormat format; /* FORMAT_AUTO until the first record shows it */
  uint64_t records;     /* sound ones so far */
  Error problem;
} CorpusReader;

/* The format FORMAT_AUTO is that of the first record; all must have it. The first record must be sound. columns: as data.columns, NULL
 * for none. max_record: bytes, 0 for the usual limit. */
NODISCARD bool corpus_open(CorpusReader *reader, const char *path, DatasetFormat format, const char *columns,
                           int64_t max_record, Error *error);
void corpus_close(CorpusReader *reader);
CorpusItem corpus_next(CorpusReader *reader, Error *error);

#endif
