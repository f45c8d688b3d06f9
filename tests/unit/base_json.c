/* JSON of strangers: limits before anything is allocated, numbers that only Python writes, kinds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/json_quick.h"
#include "base/random.h"
#include "base/reader.h"
#include "tests/temporary.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *parse(const char *text) {
  json_error_t problem;
  json_t *value =
      json_parse(text, strlen(text), json_limit_config, JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
  if (!value) fail_msg("%s: %s", text, problem.text);
  return value;
}

static void numbers_of_python_harm_only_where_they_are_read(void **state) {
  (void)state;
  json_t *root = parse(
      "{\"a\": NaN, \"b\": [Infinity, -Infinity, 1e999, 18446744073709551616, -1E+999], \"text\": \"NaN "
      "1e999\","
      " \"r\": 4, \"big\": 9223372036854775807, \"small\": 1e-999}");
  static const char *const spelled[] = {"Infinity", "-Infinity", "1e999", "18446744073709551616", "-1E+999"};
  for (size_t i = 0; i < 5; i++)
    assert_string_equal(json_kind(json_array_get(json_object_get(root, "b"), i)), spelled[i]);
  Reader reader = reader_top("file.json", root), member;
  long long r;
  double number;
  bool flag;
  const char *text;
  size_t bytes;
  Error error = {0};
  assert_true(reader_int(&reader, "r", 1, 8, &r, &error) && r == 4);
  assert_true(reader_text(&reader, "text", true, &text, &bytes, &error));
  assert_string_equal(text, "NaN 1e999");
  assert_true(json_integer_value(json_object_get(root, "big")) == INT64_MAX);
  assert_true(json_real_value(json_object_get(root, "small")) == 0);
  assert_false(reader_number(&reader, "a", -1, 1, 0, &number, &error));
  assert_string_equal(error.message, "file.json: a: expected a number, found NaN");
  error = (Error){0};
  assert_false(reader_bool(&reader, "a", false, &flag, &error));
  error = (Error){0};
  assert_false(reader_text(&reader, "a", false, &text, &bytes, &error));
  error = (Error){0};
  assert_true(reader_member(&reader, "a", &member, &error));
  assert_false(reader_as_object(&member, &error)); /* nor an object, though it is kept as one */
  json_decref(root);
  root = parse("NaN");
  assert_false(json_holds_object(root));
  json_decref(root);
}

static void they_are_written_as_they_were(void **state) {
  (void)state;
  static const char text[] =
      "{\n  \"a\": NaN,\n  \"b\": [\n    1e999,\n    {\n      \"c\": 18446744073709551616,\n"
      "      \"d\": {}\n    }\n  ]\n}\n";
  Temporary t;
  temporary_open(&t);
  Error error = {0};
  json_t *root = parse(text);
  assert_true(json_file_write(temporary_path(&t, "out.json"), root, &error));
  Buffer out = {0};
  assert_true(file_read(temporary_path(&t, "out.json"), &out, &error));
  assert_string_equal(out.data, text);
  buffer_free(&out);
  json_decref(root);
  temporary_close(&t);
}

static void broken_text_is_still_broken(void **state) {
  (void)state;
  static const char *const texts[] = {"{\"a\": nan}",
                                      "{\"a\": Nan}",
                                      "{\"a\": 1e}",
                                      "{\"a\": 01}",
                                      "{\"a\" NaN}",
                                      "{\"a\": \"x}",
                                      "{\"a\": 1,}",
                                      "[NaN",
                                      "",
                                      "{",
                                      "\"\\",
                                      "NaNN"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    json_error_t problem;
    if (json_parse(texts[i], strlen(texts[i]), json_limit_config, JSON_DECODE_ANY, &problem))
      fail_msg("%s: parsed", texts[i]);
    assert_int_equal(strncmp(problem.text, "broken JSON: ", 13), 0);
  }
}

/* What a value takes is never more than what was reckoned for it: the limit holds, whatever the text is made of. */
static void memory_is_reckoned_from_the_text(void **state) {
  (void)state;
  static const char *const parts[] = {"{}",
                                      "[]",
                                      "\"\"",
                                      "0",
                                      "{\"a\":1}",
                                      "[[],{}]",
                                      "\"0123456789abcdef0123456789\"",
                                      "null",
                                      "NaN",
                                      "[\"a\",\"b\"]",
                                      "{\"k1\":\"v\",\"k2\":[1.5,2]}"};
  enum { MANY = 20000 };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    Buffer text = {0};
    Error error = {0};
    json_error_t problem;
    assert_true(buffer_text(&text, "[", &error));
    for (size_t k = 0; k < MANY; k++)
      assert_true(buffer_format(&text, &error, "%s%s", k ? "," : "", parts[i]));
    assert_true(buffer_text(&text, "]", &error));
    struct mallinfo2 before = mallinfo2();
    json_t *value = json_parse(text.data, text.size, json_limit_config, 0, &problem);
    assert_non_null(value);
    struct mallinfo2 after = mallinfo2();
    size_t taken = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    json_decref(value);
    if (taken == 0) { /* the sanitizers' allocator does not say */
      buffer_free(&text);
      continue;
    }
    value = json_parse(text.data, text.size, (JsonLimit){text.size, taken}, 0, &problem);
    if (value) fail_msg("%s: %zu bytes were taken, and are within a limit of as many", parts[i], taken);
    if (!value) assert_non_null(strstr(problem.text, "too large: its values would take more than"));
    json_decref(value);
    value = json_parse(text.data, text.size, (JsonLimit){text.size, 4 * taken + (1 << 20)}, 0, &problem);
    if (!value) fail_msg("%s: reckoned at more than four times the %zu bytes that it takes", parts[i], taken);
    json_decref(value);
    value = json_parse(text.data, text.size, (JsonLimit){text.size - 1, SIZE_MAX}, 0, &problem);
    assert_null(value);
    assert_non_null(strstr(problem.text, "too large: "));
    buffer_free(&text);
  }
}

static void files_are_regular_and_not_too_large(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&t, "config.json"));
  Error error = {0};
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_null(json_file_read(path, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "config.json: expected a regular file"));
  assert_int_equal(unlink(path), 0);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_int_equal(ftruncate(fileno(file), (off_t)json_limit_config.bytes + 1),
                   0); /* a hole: takes no disk */
  fclose(file);
  error = (Error){0};
  assert_null(json_file_read(path, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "config.json: too large: 16777217 bytes, at most 16777216 are read"));
  temporary_close(&t);
}

static const char *const plain_texts[] = {
    "{\"a\": 1, \"b\": [-0, 12.5e-3, 999999999999999999, true, false, null], \"c\": {}, \"d\": []}",
    "{\"messages\": [{\"role\": \"user\", \"content\": \"say \\\"hi\\\"\\n\\ttwo \\\\ three \\/\"}]}",
    "[\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\", \"\\u00e9\\u20ac\\ud83d\\ude00\", \"\", \"\x7f\"]",
    " {\"same\": 1, \"sane\": \"last\", \"k\\u00e9y\": {\"x\": {\"y\": [[[\"z\"]]]}}} \r\n"};

/* The value of the library that the quick reader claims to give, or a failure. */
static bool check_quick(const char *text, size_t bytes) {
  json_t *quick = json_quick(text, bytes, SIZE_MAX);
  if (!quick) return false;
  json_t *value = json_loadb(text, bytes, 0, NULL);
  if (!value || !json_equal(quick, value)) fail_msg("read otherwise by the library: %.*s", (int)bytes, text);
  json_decref(value);
  json_decref(quick);
  return true;
}

static void what_is_read_fast_is_what_the_library_reads(void **state) {
  (void)state;
  static const char pieces[] = "\"\"\\\\{}[]:,,u0d8Dcef19-+.E \t\n\x01\x80\xc3\xa9\xed\xa0\xf4tn";
  const RandomKey key = random_key(7, RANDOM_SHUFFLE);
  size_t read = 0;
  for (size_t t = 0; t < sizeof plain_texts / sizeof *plain_texts; t++) {
    const size_t bytes = strlen(plain_texts[t]);
    if (!check_quick(plain_texts[t], bytes)) fail_msg("given up: %s", plain_texts[t]);
    for (uint32_t round = 0; round < 20000; round++) {
      uint32_t counter[4] = {round, (uint32_t)t, 0, 0}, words[4];
      philox4x32(counter, key, words);
      char *text = malloc(bytes); /* of its own size, so that reading beyond it is noticed */
      memcpy(text, plain_texts[t], bytes);
      text[words[0] % bytes] = pieces[words[1] % (sizeof pieces - 1)];
      if (round % 3 == 0) text[words[2] % bytes] = pieces[words[3] % (sizeof pieces - 1)];
      read += check_quick(text, round % 5 ? bytes : words[3] % bytes);
      free(text);
    }
  }
  if (read < 10000)
    fail_msg("%zu of 80000 changed texts were read", read); /* changes inside texts leave them whole */
}

static void what_is_unusual_is_left_to_the_library(void **state) {
  (void)state;
  static const char *const table[] = {"1",
                                      "{\"a\": NaN}",
                                      "{\"a\": 9223372036854775807}",
                                      "{\"a\": \"\\u0000\"}",
                                      "{\"a\": 01}",
                                      "{\"a\": 1, \"b\": {\"c\": 2, \"c\": 2}}",
                                      "{\"a\": \"\\ud800\"}",
                                      "{\"a\": \"\xc0\x80\"}",
                                      "{\"a\": \"\xed\xa0\x80\"}",
                                      "{\"a\": 1,}",
                                      "{\"a\": 1} 2",
                                      "{\"a\" 1}",
                                      "{a: 1}",
                                      "[1 2]",
                                      "[tru]"};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (json_quick(table[i], strlen(table[i]), SIZE_MAX)) fail_msg("read: %s", table[i]);
  assert_null(json_quick("[[],[],[]]", 10, 3 * LIST_BYTES));
  char deep[1000];
  memset(deep, '[', 500);
  memset(deep + 500, ']', 500);
  assert_null(json_quick(deep, 1000, SIZE_MAX));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_of_python_harm_only_where_they_are_read),
                                     cmocka_unit_test(they_are_written_as_they_were),
                                     cmocka_unit_test(broken_text_is_still_broken),
                                     cmocka_unit_test(memory_is_reckoned_from_the_text),
                                     cmocka_unit_test(files_are_regular_and_not_too_large),
                                     cmocka_unit_test(what_is_read_fast_is_what_the_library_reads),
                                     cmocka_unit_test(what_is_unusual_is_left_to_the_library)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
