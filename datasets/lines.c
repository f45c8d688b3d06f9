#include "datasets/lines.h"

#include "base/file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

bool line_reader_open(LineReader *reader, const char *path, Error *error) {
  *reader = (LineReader){0};
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

bool line_reader_next(LineReader *reader, bool *found, Error *error) {
  static const char mark[] = "\xef\xbb\xbf"; /* UTF-8 byte order mark, as some Windows programs write it */
  for (;;) {
    bool ended;
    if (!read_line(reader, &ended, error)) return false;
    *found = !ended;
    if (ended) return true;
    reader->number++;
    Buffer *line = &reader->line;
    if (reader->number == 1 && line->size >= 3 && memcmp(line->data, mark, 3) == 0) {
      memmove(line->data, line->data + 3, line->size - 3 + 1);
      line->size -= 3;
    }
    if (!is_blank(line)) return true;
  }
}

const char *json_kind_name(const json_t *value) {
  if (!value) return "nothing";
  switch (json_typeof(value)) {
    case JSON_OBJECT:
      return "object";
    case JSON_ARRAY:
      return "list";
    case JSON_STRING:
      return "string";
    case JSON_INTEGER:
    case JSON_REAL:
      return "number";
    case JSON_TRUE:
    case JSON_FALSE:
      return "boolean";
    case JSON_NULL:
      return "null";
  }
  return "something else";
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
  json_t *value = json_loadb(text, reader->line.size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
  if (!value) {
    return error_set(error, ERROR_DATA, "%s:%llu:%d: broken JSON: %s", reader->path, line, where.column,
                     where.text);
  }
  if (!json_is_object(value)) {
    error_set(error, ERROR_DATA, "%s:%llu: expected an object, found %s", reader->path, line,
              json_kind_name(value));
    json_decref(value);
    return false;
  }
  *record = value;
  return true;
}
