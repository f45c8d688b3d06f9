#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/lines.h"
#include "tests/temporary.h"

static void lines_of_every_shape(void **state) {
  (void)state;
  Temporary temporary;
  temporary_open(&temporary);
  const char *path = temporary_path(&temporary, "lines");
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  fputs(
      "\xef\xbb\xbf"
      "first\r\n\n  \t\r\n",
      file);
  for (int i = 0; i < 10000; i++) fputc('x', file); /* longer than any buffer inside */
  fputs("\nlast without end", file);
  fclose(file);
  LineReader reader;
  Error error = {0};
  bool found;
  assert_true(line_reader_open(&reader, path, &error));
  assert_true(line_reader_next(&reader, &found, &error) && found);
  assert_string_equal(reader.line.data, "first\r");
  assert_int_equal(reader.number, 1);
  assert_true(line_reader_next(&reader, &found, &error) && found);
  assert_int_equal(reader.line.size, 10000);
  assert_int_equal(reader.number, 4);
  assert_true(line_reader_next(&reader, &found, &error) && found);
  assert_string_equal(reader.line.data, "last without end");
  assert_true(line_reader_next(&reader, &found, &error));
  assert_false(found);
  assert_int_equal(reader.bytes, reader.size);
  line_reader_close(&reader);
  line_reader_close(&reader);
  temporary_close(&temporary);
}

static void missing_and_odd_files(void **state) {
  (void)state;
  LineReader reader;
  Error error = {0};
  assert_false(line_reader_open(&reader, "/nonexistent/data.jsonl", &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "/nonexistent/data.jsonl"));
  error = (Error){0};
  assert_false(line_reader_open(&reader, FIXTURES, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "directory"));
}

static void other_files_are_named(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t count;
    const char *fragment;
  } table[] = {{"\x1f\x8b\x08rest", 7, "file: broken gzip data at about byte"},
               {"\x28\xb5\x2f\xfd rest", 9, "file: broken zstd data at about byte"},
               {"\xfd"
                "7zXZ\0",
                6, "unxz"},
               {"BZh9", 4, "bunzip2"},
               {"PAR1\x15\x04\n", 7, "a Parquet file"},
               {"PK\x03\x04rest", 8, "unzip"},
               {"\xff\xfe{\0\"\0", 6, "UTF-16"},
               {"\xfe\xff\0{\0\"", 6, "UTF-16"},
               {"{\0\"\0a\0", 6, "UTF-16LE"},
               {"{}\n\xef\xbb\xbf{}\n", 9, "file:2: begins with a byte order mark"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Temporary temporary;
    temporary_open(&temporary);
    const char *path = temporary_path(&temporary, "file");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(table[i].bytes, 1, table[i].count, file);
    fclose(file);
    LineReader reader;
    Error error = {0};
    bool found = true, ok = true;
    assert_true(line_reader_open(&reader, path, &error));
    while (ok && found) ok = line_reader_next(&reader, &found, &error);
    assert_false(ok);
    assert_int_equal(error.code, ERROR_DATA);
    if (!strstr(error.message, table[i].fragment)) fail_msg("%s", error.message);
    line_reader_close(&reader);
    temporary_close(&temporary);
  }
}

static void write_line(const char *path, const char *begin, const char *part, int count, const char *end) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  fprintf(file, "{\"text\": \"a\"}\n%s", begin);
  for (int i = 0; i < count; i++) fputs(part, file);
  fputs(end, file);
  assert_int_equal(fclose(file), 0);
}

/* Reads both lines of a file under a limit; the second is refused with `fragment`, or not (NULL). */
static void read_limited(const char *path, int64_t limit, const char *fragment) {
  LineReader reader;
  Error error = {0};
  json_t *record;
  assert_true(line_reader_open(&reader, path, &error));
  if (limit) line_reader_limit(&reader, limit);
  assert_true(line_reader_record(&reader, &record, &error));
  json_decref(record);
  bool ok = line_reader_record(&reader, &record, &error);
  if (ok != !fragment) fail_msg("limit %lld: %s", (long long)limit, error.message);
  if (fragment && !strstr(error.message, fragment)) fail_msg("%s", error.message);
  if (fragment) assert_int_equal(error.code, ERROR_DATA);
  json_decref(record);
  line_reader_close(&reader);
}

static void lines_have_a_limit(void **state) {
  (void)state;
  Temporary temporary;
  temporary_open(&temporary);
  const char *path = temporary_path(&temporary, "data.jsonl");
  write_line(path, "{\"text\": \"", "0123456789", 500, "\"}\n");
  read_limited(path, 0, NULL);
  read_limited(path, 5012, NULL);
  read_limited(path, 5000, "data.jsonl:2: a line of more than 5000 bytes (data.max_record)");
  write_line(path, "{\"text\": \"x\", \"x\": [", "{},", 40000, "{}]}\n"); /* 80 times its bytes in memory */
  read_limited(path, 200000, "data.jsonl:2:");
  read_limited(path, 200000, "too large: its values would take more than 1 MiB of memory (data.max_record");
  read_limited(path, 0, NULL);
  temporary_close(&temporary);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_of_every_shape), cmocka_unit_test(missing_and_odd_files),
      cmocka_unit_test(other_files_are_named), cmocka_unit_test(lines_have_a_limit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
