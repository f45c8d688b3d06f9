/* For datasets/ and the tools: the records of a file, one at a time, in one buffer.
 *
 * A file is JSON Lines, one object per line, or one JSON list of objects, whatever its lines. Either may be packed by gzip or zstd,
 * and come through a pipe ("-" is standard input). Memory is that of the longest record. */
#ifndef DATASETS_LINES_H
#define DATASETS_LINES_H

#include "base/json.h"
#include "datasets/unpack.h"

#include <stdint.h>

typedef struct LineReader {
  char *path;
  Unpacker *input;
  char *block; /* unpacked bytes; those from `at` to `end` are still to be read */
  size_t at, end;
  uint64_t row;        /* of block[at], from 1 */
  size_t column;       /* of block[at] in its row, from 1; kept in lists only */
  bool begun, is_list; /* whether the first byte has been looked at; it was a bracket */
  size_t items;        /* of the list, so far */

  Buffer line;         /* the current line without its end; the text of the current element of a list */
  uint64_t number;     /* of the line (where the element begins), from 1 */
  size_t first_column; /* of the element */
  uint64_t bytes;      /* of the file, read so far */
  uint64_t size;       /* of the file; 0 for a pipe */
  JsonLimit limit;     /* of a record: json_limit_record after opening */
} LineReader;

NODISCARD bool line_reader_open(LineReader *reader, const char *path, Error *error);
void line_reader_close(LineReader *reader);
/* Other limits: records of at most `bytes` bytes, and eight times as much memory for their values. */
void line_reader_limit(LineReader *reader, int64_t bytes);

/* Moves to the next line that is not blank; *found = false at the end of the file. ERROR_DATA where the first bytes show
 * that the file is none of text in UTF-8 (Parquet, UTF-16 ...), and for a byte order mark further on. */
NODISCARD bool line_reader_next(LineReader *reader, bool *found, Error *error);

/* The next line or element as text, in `line`; *found = false at the end of the file. */
NODISCARD bool line_reader_text(LineReader *reader, bool *found, Error *error);
/* The current text, parsed: a new reference to an object in *record. ERROR_DATA "FILE:LINE:COLUMN: broken JSON: ...", LINE
 * and COLUMN being those of the unpacked text; the next text can be asked for all the same. */
NODISCARD bool line_reader_parse(const LineReader *reader, json_t **record, Error *error);
/* Both; *record = NULL at the end of the file. */
NODISCARD bool line_reader_record(LineReader *reader, json_t **record, Error *error);

/* ---- between lines.c and elements.c ---- */

/* Whether there are bytes at `at`, after reading more if need be; *ended: none, the file is at its end. */
NODISCARD bool line_reader_fill(LineReader *reader, bool *ended, Error *error);
/* Appends `count` bytes to `line`. ERROR_DATA for more than the limit. */
NODISCARD bool line_reader_keep(LineReader *reader, size_t count, const char *what, Error *error);

#endif
