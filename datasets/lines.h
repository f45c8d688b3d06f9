/* For datasets/ and the tools: reading a JSONL file one line at a time, in one buffer. */
#ifndef DATASETS_LINES_H
#define DATASETS_LINES_H

#include "base/json.h"

#include <stdint.h>
#include <stdio.h>

typedef struct LineReader {
  FILE *file;
  char *path;
  Buffer line;     /* the current line, without its end */
  uint64_t number; /* of the current line, from 1 */
  uint64_t bytes;  /* read so far */
  uint64_t size;   /* of the file */
  JsonLimit limit; /* of a line: json_limit_record after opening */
} LineReader;

NODISCARD bool line_reader_open(LineReader *reader, const char *path, Error *error);
void line_reader_close(LineReader *reader);
/* Other limits: lines of at most `bytes` bytes, and eight times as much memory for their values. */
void line_reader_limit(LineReader *reader, int64_t bytes);

/* Moves to the next line that is not blank; *found = false at the end of the file. ERROR_DATA where the first line shows
 * that the file is none of text in UTF-8 (compressed, Parquet, UTF-16 ...), and for a byte order mark further on. */
NODISCARD bool line_reader_next(LineReader *reader, bool *found, Error *error);

/* The same, parsed: a new reference to an object in *record, NULL at the end of the file. ERROR_DATA
 * "FILE:LINE:COLUMN: broken JSON: ..." */
NODISCARD bool line_reader_record(LineReader *reader, json_t **record, Error *error);

#endif
