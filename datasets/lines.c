#include "datasets/lines.h"

#include "base/file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

bool line_reader_open(LineReader *reader, const char *path, Error *error) {
  *reader = (LineReader){.limit = json_limit_record};
  struct stat status;
  reader->file = fopen(path, "rb");
  if (!reader->file || fstat(fileno(reader->file), &status) != 0) {
    error_set(error, ERROR_FILE, "%s: %s", path, strerror(errno));
    line_reader_close(reader);
    return false;
  }
  if (S_ISDIR(status.st_mode)) {
    line_reader_close(reader);
    return error_set(error, ERROR_FILE, "%s: is a directory, expected a JSONL file", path);
  }
  reader->size = (uint64_t)status.st_size;
  reader->path = memory_copy_string(path);
  if (!reader->path) {
    line_reader_close(reader);
    return error_out_of_memory(error, "path", strlen(path));
  }
  return true;
}

void line_reader_limit(LineReader *reader, int64_t bytes) {
  const size_t more = json_limit_record.memory / json_limit_record.bytes;
  reader->limit =
      (JsonLimit){(size_t)bytes, (size_t)bytes > SIZE_MAX / more ? SIZE_MAX : (size_t)bytes * more};
}

void line_reader_close(LineReader *reader) {
  if (reader->file) fclose(reader->file);
  memory_free(reader->path);
  buffer_free(&reader->line);
  *reader = (LineReader){0};
}

static bool is_blank(const Buffer *line) {
  for (size_t i = 0; i < line->size; i++) {
    if (!strchr(" \t\r", line->data[i]) || line->data[i] == '\0') return false;
  }
  return true;
}

/* Reads up to and including '\n'; *ended when there was nothing left. */
static bool read_line(LineReader *reader, bool *ended, Error *error) {
  char piece[4096];
  buffer_clear(&reader->line);
  *ended = false;
  for (;;) {
    size_t count = 0;
    int c = EOF;
    while (count < sizeof piece && (c = getc_unlocked(reader->file)) != EOF) {
      if (c == '\n') break;
      piece[count++] = (char)c;
    }
    if (reader->line.size + count > reader->limit.bytes) {
      return error_set(error, ERROR_DATA, "%s:%llu: a line of more than %zu bytes (data.max_record)",
                       reader->path, (unsigned long long)reader->number + 1, reader->limit.bytes);
    }
    if (!buffer_append(&reader->line, piece, count, error)) return false;
    reader->bytes += count + (c == '\n');
    if (c == '\n') return true;
    if (c != EOF) continue;
    if (ferror(reader->file)) {
      return error_set(error, ERROR_FILE, "%s: %s", reader->path, strerror(errno));
    }
    *ended = reader->line.size == 0;
    return true;
  }
}

/* Files that are no text, or not in UTF-8, by their first bytes, and what makes text of them. */
static const struct {
  const char *bytes;
  size_t count;
  const char *what;
} foreign_files[] = {{"\x1f\x8b", 2, "compressed by gzip: gunzip it"},
                     {"\x28\xb5\x2f\xfd", 4, "compressed by zstd: unzstd it"},
                     {"\xfd"
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

static bool check_first_line(const LineReader *reader, Error *error) {
  const Buffer *line = &reader->line;
  for (size_t i = 0; i < sizeof foreign_files / sizeof *foreign_files; i++) {
    const size_t count = foreign_files[i].count;
    if (line->size < count || memcmp(line->data, foreign_files[i].bytes, count) != 0) continue;
    return error_set(error, ERROR_DATA, "%s: expected lines of text in UTF-8; this is %s", reader->path,
                     foreign_files[i].what);
  }
  return true;
}

bool line_reader_next(LineReader *reader, bool *found, Error *error) {
  static const char mark[] = "\xef\xbb\xbf"; /* UTF-8 byte order mark, as some Windows programs write it */
  for (;;) {
    bool ended;
    if (!read_line(reader, &ended, error)) return false;
    *found = !ended;
    if (ended) return true;
    reader->number++;
    Buffer *line = &reader->line;
    if (reader->number == 1 && !check_first_line(reader, error)) return false;
    if (line->size >= 3 && memcmp(line->data, mark, 3) == 0) {
      if (reader->number > 1) {
        return error_set(error, ERROR_DATA,
                         "%s:%llu: begins with a byte order mark, as where files were joined: take it out",
                         reader->path, (unsigned long long)reader->number);
      }
      memmove(line->data, line->data + 3, line->size - 3 + 1);
      line->size -= 3;
    }
    if (!is_blank(line)) return true;
  }
}

bool line_reader_record(LineReader *reader, json_t **record, Error *error) {
  *record = NULL;
  bool found;
  if (!line_reader_next(reader, &found, error)) return false;
  if (!found) return true;
  json_error_t where;
  unsigned long long line = reader->number;
  const char *text = reader->line.data;
  if (line == 1 && text[strspn(text, " \t")] == '[') {
    return error_set(error, ERROR_DATA,
                     "%s:1: a JSON list; expected JSON Lines, one object per line (jq -c '.[]' makes them)",
                     reader->path);
  }
  json_t *value =
      json_parse(text, reader->line.size, reader->limit, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
  if (!value) {
    const char *hint = strncmp(where.text, "too large", 9) == 0 ? " (data.max_record sets the limit)" : "";
    return error_set(error, ERROR_DATA, "%s:%llu:%d: %s%s", reader->path, line, where.column, where.text,
                     hint);
  }
  if (!json_holds_object(value)) {
    error_set(error, ERROR_DATA, "%s:%llu: expected an object, found %s", reader->path, line,
              json_kind(value));
    json_decref(value);
    return false;
  }
  *record = value;
  return true;
}
