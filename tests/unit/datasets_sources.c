/* Where records come from: packed files, lists, pipes, directories. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/lines.h"
#include "datasets/sources.h"
#include "tests/temporary.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

/* ---- writing ---- */

static const char *write_file(Temporary *temporary, const char *name, const void *bytes, size_t count) {
  const char *path = temporary_path(temporary, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
  return path;
}

/* Appends `text` as one gzip member, or one zstd frame. */
static void pack(Buffer *out, const char *text, size_t count, bool gzip) {
  const size_t room = count + 4096;
  char *packed = memory_alloc(room);
  Error error = {0};
  size_t size;
  if (gzip) {
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)text;
    stream.avail_in = (unsigned)count;
    stream.next_out = (unsigned char *)packed;
    stream.avail_out = (unsigned)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size = room - stream.avail_out;
    deflateEnd(&stream);
  } else {
    size = ZSTD_compress(packed, room, text, count, 3);
    assert_false(ZSTD_isError(size));
  }
  assert_true(buffer_append(out, packed, size, &error));
  memory_free(packed);
}

/* ---- reading ---- */

/* "NUMBER@LINE " for each record {"n": NUMBER}, or the message. */
static const char *read_all(const char *path, ErrorCode *code) {
  static char text[1100];
  LineReader reader;
  Error error = {0};
  json_t *record = NULL;
  text[0] = '\0';
  *code = ERROR_NONE;
  bool ok = line_reader_open(&reader, path, &error);
  while (ok && (ok = line_reader_record(&reader, &record, &error)) && record) {
    const size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%lld@%llu", used ? " " : "",
             (long long)json_integer_value(json_object_get(record, "n")), (unsigned long long)reader.number);
    json_decref(record);
  }
  line_reader_close(&reader);
  *code = error.code;
  if (!ok) {
    const char *name = strrchr(path, '/');
    const char *found = name ? strstr(error.message, name) : NULL;
    snprintf(text, sizeof text, "%s", found ? found + 1 : error.message);
  }
  return text;
}

static void expect(const char *path, const char *expected) {
  ErrorCode code;
  const char *found = read_all(path, &code);
  if (strcmp(found, expected) != 0) fail_msg("expected: %s\nfound:    %s", expected, found);
}

static void packed_files_read_like_plain_ones(void **state) {
  (void)state;
  static const char lines[] = "{\"n\": 1}\n\n{\"n\": 2}\n";
  static const char list[] = "[{\"n\": 3},\n {\"n\": 4}]";
  for (int gzip = 0; gzip < 2; gzip++) {
    Temporary temporary;
    Buffer file = {0};
    temporary_open(&temporary);
    pack(&file, lines, strlen(lines), gzip);
    expect(write_file(&temporary, "no-ending", file.data, file.size), "1@1 2@3");
    pack(&file, "{\"n\": 5}\n", 9, gzip); /* cat a.gz b.gz */
    expect(write_file(&temporary, "two.jsonl", file.data, file.size), "1@1 2@3 5@4");
    expect(write_file(&temporary, "cut", file.data, file.size - 3),
           gzip ? "cut: the gzip data end in the middle: the file was cut short"
                : "cut: the zstd data end in the middle: the file was cut short");
    buffer_clear(&file);
    pack(&file, list, strlen(list), gzip);
    expect(write_file(&temporary, "list", file.data, file.size), "3@1 4@2");
    buffer_clear(&file);
    pack(&file, "", 0, gzip);
    expect(write_file(&temporary, "nothing", file.data, file.size), "");
    buffer_free(&file);
    temporary_close(&temporary);
  }
}

/* Larger than all buffers, and read in the memory of one record. */
static void large_files_of_each_kind_give_all_records(void **state) {
  (void)state;
  Temporary temporary;
  Buffer lines = {0}, list = {0}, packed = {0};
  Error error = {0};
  temporary_open(&temporary);
  for (int i = 0; i < 30000; i++) {
    assert_true(
        buffer_format(&lines, &error, "{\"n\": %d, \"text\": \"%0*d \\\" ] }\"}\n", i, 1 + i % 97, i));
    assert_true(buffer_format(&list, &error, "%c{\"n\": %d, \"text\": \"%0*d \\\" ] }\"}", i ? ',' : '[', i,
                              1 + i % 97, i));
  }
  assert_true(buffer_text(&list, "]", &error));
  pack(&packed, lines.data, lines.size, true);
  for (int kind = 0; kind < 3; kind++) {
    const Buffer *bytes = kind == 0 ? &lines : kind == 1 ? &list : &packed;
    LineReader reader;
    json_t *record;
    assert_true(line_reader_open(&reader, write_file(&temporary, "data", bytes->data, bytes->size), &error));
    for (int i = 0; i < 30000; i++) {
      assert_true(line_reader_record(&reader, &record, &error) && record);
      assert_int_equal(json_integer_value(json_object_get(record, "n")), i);
      assert_int_equal(reader.number, kind == 1 ? 1 : i + 1);
      json_decref(record);
    }
    assert_true(line_reader_record(&reader, &record, &error) && !record);
    assert_int_equal(reader.bytes, reader.size);
    assert_true(reader.line.capacity < 1024);
    line_reader_close(&reader);
  }
  buffer_free(&lines);
  buffer_free(&list);
  buffer_free(&packed);
  temporary_close(&temporary);
}

static void lists_are_read_and_their_faults_named(void **state) {
  (void)state;
  static const struct {
    const char *text, *expected;
  } table[] = {
      {"[]", ""},
      {" \n [ ] \n", ""},
      {"\xef\xbb\xbf[{\"n\": 1}]", "1@1"},
      {"[\n  {\n    \"n\": 1\n  },\n  {\"n\":\n 2, \"t\": [\"]\", {}]}\n]\n", "1@2 2@5"},
      {"[{\"n\": 1} {\"n\": 2}]", "file:1:11: expected a comma or the end of the list after a record"},
      {"[{\"n\": 1},\n]", "file:2:1: expected a record"},
      {"[{\"n\": 1}", "file:1:10: the file ends within its list: expected ]"},
      {"[{\"n\": 1},\n\n", "file:3:1: the file ends within its list: expected ]"},
      {"[{\"n\": 1},\n {\"n\": \"]", "file:2: the file ends within the record that begins here"},
      {"[{\"n\": 1}]\n {\"n\": 2}", "file:2:2: expected nothing after the end of the list"},
      {"[{\"n\": 1}, 7]", "file:1: expected an object, found a number"},
      {"[{\"n\": 1}, \"a ] b\"]", "file:1: expected an object, found a string"},
      {"[{\"n\": 1},\n {\"n\": 1 2}]", "file:2:10: broken JSON: '}' expected near '2'"},
      {"[{\"n\": 1},\n {\"n\":\n 1 2}]", "file:3:4: broken JSON: '}' expected near '2'"},
  };
  Temporary temporary;
  temporary_open(&temporary);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    expect(write_file(&temporary, "file", table[i].text, strlen(table[i].text)), table[i].expected);
  }
  temporary_close(&temporary);
}

static void tar_is_named(void **state) {
  (void)state;
  char block[512] = "data.jsonl";
  Buffer file = {0};
  Temporary temporary;
  temporary_open(&temporary);
  memcpy(block + 257, "ustar", 5);
  pack(&file, block, sizeof block, true);
  expect(write_file(&temporary, "a.tar.gz", file.data, file.size),
         "a.tar.gz: expected JSON or lines of JSON in UTF-8; this is a tar archive: unpack it, and give the "
         "directory");
  buffer_free(&file);
  temporary_close(&temporary);
}

/* Whatever a byte is changed to, reading ends, and says where it ended. */
static void damage_is_told(void **state) {
  (void)state;
  static const char lines[] =
      "{\"n\": 1, \"t\": \"a \\\" ] } b\"}\n{\"n\": 2}\n{\"n\": [3, {\"x\": \"\\u00e9\"}]}\n";
  static const char list[] =
      "[{\"n\": 1, \"t\": \"a \\\" ] } b\"},\n{\"n\": 2},\n{\"n\": [3, {\"x\": \"\\u00e9\"}]}]\n";
  static const char values[] = "\"\\[]{},:\n 0\xff\x1f";
  Temporary temporary;
  temporary_open(&temporary);
  int told = 0;
  for (int kind = 0; kind < 4; kind++) {
    Buffer file = {0};
    Error error = {0};
    if (kind < 2) {
      assert_true(buffer_text(&file, kind ? list : lines, &error));
    } else {
      pack(&file, kind == 2 ? list : lines, kind == 2 ? strlen(list) : strlen(lines), kind == 2);
    }
    for (size_t at = 0; at < file.size; at++) {
      const char kept = file.data[at];
      file.data[at] = values[(at * 7 + (size_t)kind) % (sizeof values - 1)];
      ErrorCode code;
      read_all(write_file(&temporary, "damaged", file.data, file.size), &code);
      assert_true(code == ERROR_NONE || code == ERROR_DATA);
      told += code == ERROR_DATA;
      file.data[at] = kept;
    }
    buffer_free(&file);
  }
  assert_true(told > 150);
  temporary_close(&temporary);
}

/* ---- what paths stand for ---- */

static void check_resolved(OptionSource asked, const char *cache, size_t count, OptionSources *files) {
  const OptionSources list = {.items = &asked, .count = 1};
  Error error = {0};
  if (!sources_resolve(files, &list, "data.train", cache, NULL, &error)) fail_msg("%s", error.message);
  assert_int_equal(files->count, count);
}

static void a_directory_is_its_shards(void **state) {
  (void)state;
  static const char *const names[] = {"b.jsonl",  "a.json.gz", "c.jsonl.zst", "README.md",
                                      ".d.jsonl", "d.csv",     "e.json",      "f.jsonl.xz"};
  static const char *const taken[] = {"/a.json.gz", "/b.jsonl", "/c.jsonl.zst", "/e.json"};
  Temporary temporary;
  OptionSources files;
  Error error = {0};
  temporary_open(&temporary);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) write_file(&temporary, names[i], "{}\n", 3);
  assert_int_equal(mkdir(temporary_path(&temporary, "g.jsonl"), 0700), 0);
  check_resolved((OptionSource){.path = temporary.directory, .weight = 0.5}, "cache", 4, &files);
  for (size_t i = 0; i < 4; i++) {
    assert_non_null(strstr(files.items[i].path, taken[i]));
    assert_true(files.items[i].weight == 0.5);
  }
  sources_free(&files);
  const OptionSource empty = {.path = (char *)(uintptr_t)temporary_path(&temporary, "g.jsonl"), .weight = 1};
  const OptionSources list = {.items = (OptionSource *)(uintptr_t)&empty, .count = 1};
  assert_false(sources_resolve(&files, &list, "data.train", "cache", NULL, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "a directory without data files (*.jsonl or *.json"));
  temporary_close(&temporary);
}

/* Writes into a pipe from another process. */
static pid_t feed(const char *pipe, const char *text) {
  const pid_t child = fork();
  if (child == 0) {
    FILE *file = fopen(pipe, "wb");
    fputs(text, file);
    fclose(file);
    _exit(0);
  }
  return child;
}

static void a_pipe_is_kept_under_a_name_of_its_content(void **state) {
  (void)state;
  Temporary temporary;
  OptionSources files, again;
  char cache[512], path[512];
  temporary_open(&temporary);
  snprintf(cache, sizeof cache, "%s", temporary_path(&temporary, "cache"));
  snprintf(path, sizeof path, "%s", temporary_path(&temporary, "pipe"));
  assert_int_equal(mkfifo(path, 0600), 0);
  const pid_t first = feed(path, "{\"n\": 1}\n{\"n\": 2}\n");
  check_resolved((OptionSource){.path = path, .weight = 1}, cache, 1, &files);
  waitpid(first, NULL, 0);
  expect(files.items[0].path, "1@1 2@2");
  const pid_t second = feed(path, "{\"n\": 1}\n{\"n\": 2}\n");
  check_resolved((OptionSource){.path = path, .weight = 1}, cache, 1, &again);
  waitpid(second, NULL, 0);
  assert_string_equal(files.items[0].path, again.items[0].path);
  sources_free(&again);
  check_resolved(files.items[0], cache, 1, &again); /* what was resolved stays what it is */
  assert_string_equal(files.items[0].path, again.items[0].path);
  sources_free(&again);
  sources_free(&files);
  StringList left = {0};
  Error error = {0};
  assert_true(directory_list(cache, &left, &error));
  assert_int_equal(left.count, 1);
  string_list_free(&left);
  temporary_close(&temporary);
}

static void what_never_ends_or_never_came_is_refused(void **state) {
  (void)state;
  Temporary temporary;
  char path[512];
  OptionSources files;
  temporary_open(&temporary);
  snprintf(path, sizeof path, "%s", temporary_path(&temporary, "pipe"));
  assert_int_equal(mkfifo(path, 0600), 0);
  for (int i = 0; i < 2; i++) {
    OptionSource asked = {.path = i ? path : (char[]){"/dev/zero"}, .weight = 1};
    const OptionSources list = {.items = &asked, .count = 1};
    Error error = {0};
    const pid_t child = i ? feed(path, "") : 0;
    assert_false(sources_resolve(&files, &list, "data.train", temporary.directory, NULL, &error));
    if (child) waitpid(child, NULL, 0);
    assert_int_equal(error.code, ERROR_FILE);
    const char *expected = i ? "nothing came; a pipe can be given once" : "/dev/zero: a device";
    if (!strstr(error.message, expected)) fail_msg("%s", error.message);
  }
  temporary_close(&temporary);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(packed_files_read_like_plain_ones),
                                     cmocka_unit_test(large_files_of_each_kind_give_all_records),
                                     cmocka_unit_test(lists_are_read_and_their_faults_named),
                                     cmocka_unit_test(tar_is_named),
                                     cmocka_unit_test(damage_is_told),
                                     cmocka_unit_test(a_directory_is_its_shards),
                                     cmocka_unit_test(a_pipe_is_kept_under_a_name_of_its_content),
                                     cmocka_unit_test(what_never_ends_or_never_came_is_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
