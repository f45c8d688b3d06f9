#include "datasets/lines.h"

#include "datasets/elements.h"

#include <ctype.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 18 };

bool line_reader_open(LineReader *reader, const char *path, Error *error) {
  *reader = (LineReader){.limit = json_limit_record, .row = 1, .column = 1};
  reader->path = memory_copy_string(path);
  reader->block = memory_alloc(BLOCK_BYTES);
  if (!reader->path || !reader->block) {
    error_out_of_memory(error, "read buffer", BLOCK_BYTES);
  } else {
    reader->input = unpacker_open(reader->path, error);
  }
  if (!reader->input) {
    line_reader_close(reader);
    return false;
  }
  reader->size = unpacker_size(reader->input);
  return true;
}

void line_reader_limit(LineReader *reader, int64_t bytes) {
  const size_t more = json_limit_record.memory / json_limit_record.bytes;
  reader->limit =
      (JsonLimit){(size_t)bytes, (size_t)bytes > SIZE_MAX / more ? SIZE_MAX : (size_t)bytes * more};
}

void line_reader_close(LineReader *reader) {
  unpacker_close(reader->input);
  memory_free(reader->path);
  memory_free(reader->block);
  buffer_free(&reader->line);
  *reader = (LineReader){0};
}

static bool is_blank(const Buffer *line) {
  for (size_t i = 0; i < line->size; i++) {
    if (!strchr(" \t\r", line->data[i]) || line->data[i] == '\0') return false;
  }
  return true;
}

/* Files that are no text, or not in UTF-8, by their first bytes, and what makes text of them. */
static const struct {
  const char *bytes;
  size_t count;
  const char *what;
} foreign_files[] = {{"\xfd"
                      "7zXZ",
                      5, "compressed by xz: unxz it"},
                     {"BZh", 3, "compressed by bzip2: bunzip2 it"},
                     {"PK\x03\x04", 4, "a ZIP archive: unzip it"},
                     {"PAR1", 4,
                      "a Parquet file: convert it, for example by python3 -c \"import pandas; "
                      "pandas.read_parquet('IN').to_json('OUT.jsonl', orient='records', lines=True)\""},
                     {"ARROW1", 6, "an Arrow file: convert it to JSON Lines"},
                     {"\xff\xfe", 2, "UTF-16: convert it by iconv -f UTF-16 -t UTF-8"},
                     {"\xfe\xff", 2, "UTF-16: convert it by iconv -f UTF-16 -t UTF-8"},
                     {"{\0", 2, "UTF-16: convert it by iconv -f UTF-16LE -t UTF-8"},
                     {"\0{", 2, "UTF-16: convert it by iconv -f UTF-16BE -t UTF-8"}};

/* A table has no bytes that tell, but a name. */
static const char table_file[] =
    "a table: convert it, for example by python3 -c \"import pandas; "
    "pandas.read_csv('IN').to_json('OUT.jsonl', orient='records', lines=True)\"";

static bool is_table(const LineReader *reader) {
  const char *dot = strrchr(reader->path, '.');
  return dot && (strcmp(dot, ".csv") == 0 || strcmp(dot, ".tsv") == 0) && reader->end > 0 &&
         reader->block[0] != '{' && reader->block[0] != '[';
}

static bool check_first_bytes(const LineReader *reader, Error *error) {
  enum { TAR_MARK = 257 };
  const char *what = NULL;
  for (size_t i = 0; i < sizeof foreign_files / sizeof *foreign_files; i++) {
    const size_t count = foreign_files[i].count;
    if (reader->end >= count && memcmp(reader->block, foreign_files[i].bytes, count) == 0) {
      what = foreign_files[i].what;
    }
  }
  if (reader->end > TAR_MARK + 5 && memcmp(reader->block + TAR_MARK, "ustar", 5) == 0) {
    what = "a tar archive: unpack it, and give the directory";
  }
  if (!what && is_table(reader)) what = table_file;
  return !what || error_set(error, ERROR_DATA, "%s: expected JSON or lines of JSON in UTF-8; this is %s",
                            reader->path, what);
}

static const char byte_order_mark[] = "\xef\xbb\xbf"; /* of UTF-8, as some Windows programs write it */

static bool begin(LineReader *reader, bool *ended, Error *error) {
  reader->begun = true;
  if (!line_reader_fill(reader, ended, error)) return false;
  if (*ended) return true;
  if (!check_first_bytes(reader, error)) return false;
  if (reader->end >= 3 && memcmp(reader->block, byte_order_mark, 3) == 0) reader->at = 3;
  return true;
}

bool line_reader_fill(LineReader *reader, bool *ended, Error *error) {
  *ended = false;
  if (reader->at < reader->end) return true;
  reader->at = 0;
  if (!unpacker_read(reader->input, reader->block, BLOCK_BYTES, &reader->end, error)) return false;
  reader->bytes = unpacker_taken(reader->input);
  *ended = reader->end == 0;
  return true;
}

bool line_reader_keep(LineReader *reader, size_t count, const char *what, Error *error) {
  if (reader->line.size + count > reader->limit.bytes) {
    return error_set(error, ERROR_DATA, "%s:%llu: %s of more than %zu bytes (data.max_record)", reader->path,
                     (unsigned long long)reader->number, what, reader->limit.bytes);
  }
  return buffer_append(&reader->line, reader->block + reader->at, count, error);
}

/* Reads up to and including '\n'; *ended when there was nothing left. */
static bool read_line(LineReader *reader, bool *ended, Error *error) {
  buffer_clear(&reader->line);
  reader->number = reader->row;
  for (bool some = false;; some = true) {
    if (!line_reader_fill(reader, ended, error)) return false;
    if (*ended) {
      *ended = !some;
      return true;
    }
    const char *from = reader->block + reader->at;
    const char *newline = memchr(from, '\n', reader->end - reader->at);
    const size_t count = newline ? (size_t)(newline - from) : reader->end - reader->at;
    if (!line_reader_keep(reader, count, "a line", error)) return false;
    reader->at += count + (newline != NULL);
    if (!newline) continue;
    reader->row++;
    return true;
  }
}

bool line_reader_next(LineReader *reader, bool *found, Error *error) {
  bool ended = false;
  *found = false;
  if (!reader->begun && !begin(reader, &ended, error)) return false;
  while (!ended) {
    if (!read_line(reader, &ended, error)) return false;
    const Buffer *line = &reader->line;
    if (line->size >= 3 && memcmp(line->data, byte_order_mark, 3) == 0) {
      return error_set(error, ERROR_DATA,
                       "%s:%llu: begins with a byte order mark, as where files were joined: take it out",
                       reader->path, (unsigned long long)reader->number);
    }
    *found = !ended && !is_blank(line);
    if (*found) return true;
  }
  return true;
}

/* Whether the file is a list: its first byte that is no white space is a bracket. */
static bool find_list(LineReader *reader, Error *error) {
  bool ended;
  if (!begin(reader, &ended, error)) return false;
  size_t at = reader->at;
  while (at < reader->end && strchr(" \t\r\n", reader->block[at]) && reader->block[at]) at++;
  reader->is_list = at < reader->end && reader->block[at] == '[';
  for (; reader->is_list && reader->at < at; reader->at++) {
    const bool newline = reader->block[reader->at] == '\n';
    reader->row += newline;
    reader->column = newline ? 1 : reader->column + 1;
  }
  return true;
}

/* Of a text that is no record: a part of one, or none of JSON. */
static const char *line_hint(const LineReader *reader, const char *problem) {
  const char first = reader->line.size ? reader->line.data[0] : '\0';
  if (strncmp(problem, "too large", 9) == 0) return " (data.max_record sets the limit)";
  if (reader->is_list) return "";
  if (strstr(problem, "end of"))
    return reader->at < reader->end ? " (a line holds a whole record: jq -c . writes them so)"
                                    : " (the last line: was the file cut short?)";
  if (reader->number == 1 && isalpha((unsigned char)first) && !strchr(problem, '('))
    return " (of plain text, jq -c -R '{text: .}' makes records, of prompts '{prompt: .}')";
  return "";
}

static bool fail_json(const LineReader *reader, const json_error_t *where, Error *error) {
  const unsigned long long line = reader->number + (unsigned long long)where->line - 1;
  const size_t before = reader->is_list && where->line == 1 ? reader->first_column - 1 : 0;
  return error_set(error, ERROR_DATA, "%s:%llu:%zu: %s%s", reader->path, line, before + (size_t)where->column,
                   where->text, line_hint(reader, where->text));
}

bool line_reader_text(LineReader *reader, bool *found, Error *error) {
  if (!reader->begun && !find_list(reader, error)) return false;
  return (reader->is_list ? element_next : line_reader_next)(reader, found, error);
}

bool line_reader_parse(const LineReader *reader, json_t **record, Error *error) {
  json_error_t where;
  *record = NULL;
  json_t *value = json_parse(reader->line.data, reader->line.size, reader->limit,
                             JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
  if (!value) return fail_json(reader, &where, error);
  if (!json_holds_object(value)) {
    error_set(error, ERROR_DATA, "%s:%llu: expected an object, found %s", reader->path,
              (unsigned long long)reader->number, json_kind(value));
    json_decref(value);
    return false;
  }
  *record = value;
  return true;
}

bool line_reader_record(LineReader *reader, json_t **record, Error *error) {
  bool found;
  *record = NULL;
  return line_reader_text(reader, &found, error) && (!found || line_reader_parse(reader, record, error));
}
