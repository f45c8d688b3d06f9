/* YAML as values of JSON: what is taken, what is refused by name, and in which lines keys stand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text, KeyLines *lines, json_error_t *problem) {
  return yaml_parse(text, strlen(text), lines, problem);
}

/* Text and the same as JSON, with the numbers as JSON has them. */
static void values(void **state) {
  (void)state;
  static const struct {
    const char *yaml, *json;
  } cases[] = {
      {"", "null"},
      {"# nothing\n---\n", "null"},
      {"a: 1\nb:\n  c: [x, 2.5, true]\n  d: {e: f}\n",
       "{\"a\":1,\"b\":{\"c\":[\"x\",2.5,true],\"d\":{\"e\":\"f\"}}}"},
      {"- 1\n- - 2\n  - 3\n", "[1,[2,3]]"},
      {"%YAML 1.2\n---\na: b\n...\n", "{\"a\":\"b\"}"},
      {"{\"a\": \"b\", \"c\": [1, 2]}", "{\"a\":\"b\",\"c\":[1,2]}"},
      /* words */
      {"[~, null, Null, NULL, '', \"null\"]", "[null,null,null,null,\"\",\"null\"]"},
      {"a:\nb: x", "{\"a\":null,\"b\":\"x\"}"},
      {"[true, True, FALSE, 'true', \"yes\", 'no', y, n, yess]",
       "[true,true,false,\"true\",\"yes\",\"no\",\"y\",\"n\",\"yess\"]"},
      {"{yes: 1, on: 2}", "{\"yes\":1,\"on\":2}"}, /* as keys they are what they are */
      /* numbers */
      {"[0, -7, +7, 9223372036854775807, 9007199254740993]", "[0,-7,7,9223372036854775807,9007199254740993]"},
      {"[1e-5, 2E4, -1.5e+3, .5, 1., 0.30000000000000004]",
       "[1e-05,20000.0,-1500.0,0.5,1.0,0.30000000000000004]"},
      {"['1e-5', \"010\", '1_000']", "[\"1e-5\",\"010\",\"1_000\"]"},
      /* texts that look like less than numbers */
      {"[1.2.3, 2024-07-26, 1e, e5, 0x, 0xzz, 1-2, 8080:80, 1:60, a_b, _1]",
       "[\"1.2.3\",\"2024-07-26\",\"1e\",\"e5\",\"0x\",\"0xzz\",\"1-2\",\"8080:80\",\"1:60\",\"a_b\",\"_"
       "1\"]"},
      {"a: data/x.jsonl # a comment\nb: \"#\"\n", "{\"a\":\"data/x.jsonl\",\"b\":\"#\"}"},
      {"a: |\n  1\n  2\n", "{\"a\":\"1\\n2\\n\"}"},
      {"a: >-\n  b\n  c\n", "{\"a\":\"b c\"}"},
      {"\xef\xbb\xbf"
       "a: \xc3\xa9\r\nb: c\r\n",
       "{\"a\":\"\xc3\xa9\",\"b\":\"c\"}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    json_error_t problem;
    json_t *value = parse(cases[i].yaml, NULL, &problem);
    if (!value) fail_msg("%s: line %d: %s", cases[i].yaml, problem.line, problem.text);
    json_t *expected = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
    assert_non_null(expected);
    if (!json_equal(value, expected)) fail_msg("%s", cases[i].yaml);
    json_decref(expected);
    json_decref(value);
  }
}

#define OTHER                                                                                               \
  "is a number to some versions of YAML and a text to others: write plain decimal digits, or put the text " \
  "in quotes"

static void refusals(void **state) {
  (void)state;
  static const struct {
    const char *yaml;
    int line;
    const char *message;
  } cases[] = {
      {"a: yes", 1,
       "'yes' is true in YAML 1.1 and a text in YAML 1.2: write true, or put the text in quotes"},
      {"a: 1\nb: Off", 2,
       "'Off' is false in YAML 1.1 and a text in YAML 1.2: write false, or put the text in quotes"},
      {"a: 010", 1,
       "'010' is octal in YAML 1.1 and decimal in YAML 1.2: write it without the leading 0, or in quotes if "
       "it is a text"},
      {"a: -09", 1,
       "'-09' is octal in YAML 1.1 and decimal in YAML 1.2: write it without the leading 0, or in quotes if "
       "it is a text"},
      {"a: 0x1F", 1, "'0x1F' " OTHER},
      {"a: 0o17", 1, "'0o17' " OTHER},
      {"a: 0b1_0", 1, "'0b1_0' " OTHER},
      {"a: 1_000", 1, "'1_000' " OTHER},
      {"a: -1_0.5e3", 1, "'-1_0.5e3' " OTHER},
      {"a: 12:30", 1, "'12:30' " OTHER},
      {"a: 190:20:30.15", 1, "'190:20:30.15' " OTHER},
      {"a: 9223372036854775808", 1, "'9223372036854775808' has more than 64 bits"},
      {"a: 1e999", 1, "'1e999' is larger than any number here"},
      {"a: -.inf", 1, "'-.inf' is no number here"},
      {"a: .NaN", 1, "'.NaN' is no number here"},
      {"a: 1\nb: 2\na: 3", 3, "'a' is given twice, first in line 1"},
      {"a:\n  b: 1\n  b: 2", 3, "'b' is given twice, first in line 2"},
      {"a: &x 1", 1, "'&x' is an anchor, which is not read here: write the value at each place"},
      {"a: &x {b: 1}", 1, "'&x' is an anchor, which is not read here: write the value at each place"},
      {"a: 1\nb: *a", 2,
       "'*a' is an alias, which is not read here: write the value itself, or in quotes if it is a text"},
      {"<<: {a: 1}", 1, "'<<' merges, which is not read here: write the keys at each place"},
      {"a: !!str 5", 1, "'tag:yaml.org,2002:str' is a tag, which is not read here: leave it out"},
      {"a: !x [1]", 1, "'!x' is a tag, which is not read here: leave it out"},
      {"[a, b]: 1", 1, "a key that is no text"},
      {"\"\": 1", 1, "an empty key"},
      {"a: 1\n---\nb: 2\n", 2, "a second document: one file is one configuration"},
      {"a: \"x\\0y\"", 1, "a text with the character 0 in it"},
      {"a:\n\tb: 1", 2, "a tab: YAML is indented by spaces"},
      {"a: 1\nb:2\nc: 3", 3, "a key and its value stand as 'key: value'"},
      {"a: *.jsonl", 1, "a text that begins with * or & stands in quotes"},
      {"a: b: c", 1, "broken YAML: mapping values are not allowed in this context"},
      {"a: [1, 2\n", 2, "broken YAML: while parsing a flow sequence"},
      {"a: \xff", 1, "broken YAML: "},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    json_error_t problem;
    KeyLines lines = {0};
    json_t *value = parse(cases[i].yaml, &lines, &problem);
    if (value) fail_msg("taken: %s", cases[i].yaml);
    if (!strstr(problem.text, cases[i].message)) fail_msg("%s: '%s'", cases[i].yaml, problem.text);
    if (problem.line != cases[i].line) fail_msg("%s: line %d", cases[i].yaml, problem.line);
    key_lines_free(&lines);
  }
}

static void lines_of_keys(void **state) {
  (void)state;
  json_error_t problem;
  KeyLines lines = {0};
  json_t *value = parse("# first\na: 1\nb:\n  c: 2\n  d:\n    - e: 3\n    - e: 4\n\n      f: {g: 5}\nh: 6\n",
                        &lines, &problem);
  assert_non_null(value);
  static const struct {
    const char *key;
    int line;
  } expected[] = {{"a", 2},        {"b", 3},        {"b.c", 4},        {"b.d", 5}, {"b.d[0].e", 6},
                  {"b.d[1].e", 7}, {"b.d[1].f", 9}, {"b.d[1].f.g", 9}, {"h", 10},  {"c", 0}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    assert_int_equal(key_lines_find(&lines, expected[i].key), expected[i].line);
  key_lines_free(&lines);
  json_decref(value);
}

/* No more than so many levels and bytes, whatever comes. */
static void limits(void **state) {
  (void)state;
  json_error_t problem;
  static char deep[2000], *large;
  memset(deep, '[', sizeof deep - 1);
  assert_null(parse(deep, NULL, &problem));
  assert_string_equal(problem.text, "more than 64 levels");
  large = malloc(2u << 20);
  assert_non_null(large);
  memset(large, ' ', 2u << 20);
  assert_null(yaml_parse(large, 2u << 20, NULL, &problem));
  assert_non_null(strstr(problem.text, "too large"));
  free(large);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),
      cmocka_unit_test(refusals),
      cmocka_unit_test(lines_of_keys),
      cmocka_unit_test(limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
