/* What is written as YAML is read back as the same values. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/yaml.h"
#include "base/yaml_write.h"

#include <string.h>

static json_t *json(const char *text) {
  json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
  assert_non_null(value);
  return value;
}

static void values_come_back(void **state) {
  (void)state;
  static const char *const values[] = {"\"plain/text_1.jsonl\"",
                                       "\"Qwen/Qwen2.5-0.5B@main\"",
                                       "\"yes\"",
                                       "\"No\"",
                                       "\"n\"",
                                       "\"null\"",
                                       "\"~\"",
                                       "\"\"",
                                       "\"010\"",
                                       "\"1e5\"",
                                       "\"1_0\"",
                                       "\"1:30\"",
                                       "\"0x1f\"",
                                       "\".inf\"",
                                       "\"-\"",
                                       "\"- a\"",
                                       "\"a: b\"",
                                       "\"a #b\"",
                                       "\"#b\"",
                                       "\"[a\"",
                                       "\"{a\"",
                                       "\"a, b\"",
                                       "\"*a\"",
                                       "\"&a\"",
                                       "\"!a\"",
                                       "\"%a\"",
                                       "\"@a\"",
                                       "\"`a\"",
                                       "\" a\"",
                                       "\"a\\nb\"",
                                       "\"a\\tb\"",
                                       "\"\\u00e9\"",
                                       "\"\\ud83d\\ude00\"",
                                       "\"a\\\"b\\\\c\"",
                                       "\"\\u0001\"",
                                       "\"2024-07-26\"",
                                       "\".\"",
                                       "\"..\"",
                                       "\"<the data>\"",
                                       "\"true\"",
                                       "\"./x\"",
                                       "0",
                                       "-7",
                                       "9223372036854775807",
                                       "0.1",
                                       "1e-05",
                                       "2e-05",
                                       "1.0",
                                       "1e+300",
                                       "0.30000000000000004",
                                       "true",
                                       "false",
                                       "null",
                                       "[]",
                                       "[1,\"a\",[\"no\"]]",
                                       "{}",
                                       "{\"enable\":false,\"a b\":{\"yes\":1}}"};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    Buffer text = {0};
    Error error = {0};
    json_error_t problem;
    json_t *value = json(values[i]);
    assert_true(buffer_text(&text, "k: ", &error) && yaml_append_value(&text, value, &error));
    json_t *back = yaml_parse(text.data, text.size, NULL, &problem);
    if (!back) fail_msg("%s: %s", text.data, problem.text);
    if (!json_equal(json_object_get(back, "k"), value)) fail_msg("%s is %s", values[i], text.data);
    json_decref(back);
    json_decref(value);
    buffer_free(&text);
  }
}

static void lines_have_sections_and_notes(void **state) {
  (void)state;
  json_t *one = json("1"), *path = json("\"a/b\""), *list = json("[\"x\",\"y z\"]");
  const YamlLine lines[] = {{"model.path", path, "where", false},
                            {"model.adapter", path, "as it was", true},
                            {"data.train", list, "", false},
                            {"data.a_key_that_is_longer_than_the_column", one, "far", false},
                            {"about", path, NULL, false}};
  Buffer text = {0};
  Error error = {0};
  assert_true(yaml_write(&text, lines, 5, 2, &error));
  assert_string_equal(text.data,
                      "  model:\n"
                      "    path: a/b                           # where\n"
                      "    # adapter: a/b                      # as it was\n"
                      "  data:\n"
                      "    train: [x, \"y z\"]\n"
                      "    a_key_that_is_longer_than_the_column: 1  # far\n"
                      "  about: a/b\n");
  buffer_free(&text);
  json_decref(one);
  json_decref(path);
  json_decref(list);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(values_come_back),
                                     cmocka_unit_test(lines_have_sections_and_notes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
