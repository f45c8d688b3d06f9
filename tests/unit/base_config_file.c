/* Configuration files: which are JSON and which YAML, comments, and the lines of keys. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/config_file.h"
#include "tests/folder.h"

static const char *write(const char *name, const char *text) {
  Error error = {0};
  const char *path = temporary_path(&folder, name);
  assert_true(file_write_text(path, text, &error));
  return path;
}

/* What stands in the file, as JSON. */
static void expect(const char *name, const char *text, const char *json, bool yaml) {
  ConfigFile file;
  Error error = {0};
  Buffer found = {0};
  if (!config_file_open(&file, write(name, text), &error)) fail_msg("%s", error.message);
  assert_true(json_append_text(&found, file.root, &error));
  assert_string_equal(found.data, json);
  assert_int_equal(file.yaml, yaml);
  buffer_free(&found);
  config_file_close(&file);
}

static void refuse(const char *name, const char *text, const char *message) {
  ConfigFile file;
  Error error = {0};
  const char *path = write(name, text);
  assert_false(config_file_open(&file, path, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_int_equal(strncmp(error.message, path, strlen(path)), 0);
  assert_string_equal(error.message + strlen(path), message);
  config_file_close(&file);
}

static void forms(void **state) {
  (void)state;
  expect("a.json", "{\"a\": 1}", "{\"a\":1}", false);
  expect("a.yaml", "a: 1", "{\"a\":1}", true);
  expect("a.yml", "{a: 1}", "{\"a\":1}", true);
  expect("a", "a: 1", "{\"a\":1}", true);
  expect("b", " \n{\"a\": 1}", "{\"a\":1}", false);
  expect("c", "// {\n/* { */ {\"a\": 1}", "{\"a\":1}", false);
  expect("d", "# {\na: 1", "{\"a\":1}", true);
  refuse("b.json", "a: 1", ":1:1: broken JSON: '[' or '{' expected near 'a'");
  refuse("e.json", "[1]", ": expected an object of keys and values, found a list");
  refuse("e.yaml", "# nothing yet\n", ": expected an object of keys and values, found null");
  refuse("f.yaml", "a: 1\n b: 2\n", ":2:3: broken YAML: mapping values are not allowed in this context");
}

static void comments_in_json(void **state) {
  (void)state;
  expect("a.json",
         "// first\n{\"a\": 1, // one\n /* two\n lines */ \"b\": \"// no /* comment */\", \"c\\\"//\": 2}",
         "{\"a\":1,\"b\":\"// no /* comment */\",\"c\\\"//\":2}", false);
  expect("a.json", "{\"a\": /**/ 1}", "{\"a\":1}", false);
  refuse("a.json", "{\"a\": 1,\n /* \"b\": 2}\n", ":2: a comment that does not end");
  refuse("a.json", "// one\n/* two */ {\"a\" 1}\n", ":2:16: broken JSON: ':' expected near '1'");
  refuse("a.json", "{\"a\": [1,\n]}",
         ":2:1: broken JSON: unexpected token near ']' (no comma stands before a closing } or ])");
}

static void numbers_are_kept(void **state) {
  (void)state;
  const char *json =
      "{\"a\":0.1,\"b\":1e-05,\"c\":1.0,\"d\":9007199254740993,\"e\":2e+22,\"f\":0.30000000000000004}";
  expect("a.json", json, json, false);
  expect("a.yaml", "{a: 0.1, b: 1e-5, c: 1.0, d: 9007199254740993, e: 2e22, f: 0.30000000000000004}", json,
         true);
}

static void lines(void **state) {
  (void)state;
  static const struct {
    const char *key;
    int line;
  } expected[] = {{"a", 1},      {"b", 2},        {"b.c", 3}, {"b.d", 5}, {"b.d[0].e", 5},
                  {"b.d[1]", 0}, {"b.d[2].f", 7}, {"g", 8},   {"h", 9}};
  ConfigFile file;
  Error error = {0};
  const char *path =
      write("a.json",
            "{\"a\": \"}\\\"\",\n\"b\": {\n\"c\": [1, 2, []], /*\n*/\n\"d\": [{\"e\":null}, -1.5,\n"
            "\n{\"f\": true}]},\n\"g\": {},\n\"h\": 1}\n");
  assert_true(config_file_open(&file, path, &error));
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    assert_int_equal(key_lines_find(&file.lines, expected[i].key), expected[i].line);
  config_file_close(&file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forms),
      cmocka_unit_test(comments_in_json),
      cmocka_unit_test(numbers_are_kept),
      cmocka_unit_test(lines),
  };
  return cmocka_run_group_tests(tests, open_folder, close_folder);
}
