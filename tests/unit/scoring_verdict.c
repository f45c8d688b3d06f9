/* What judges outside answer: what is taken, what is refused and how that is told, and bytes that no judge would think of. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "scoring/verdict.h"

#include <string.h>

static void taken(void **state) {
  (void)state;
  static const struct {
    const char *text;
    double score;
    int64_t id; /* 0: none */
    int parts;
  } cases[] = {
      {"0.5", 0.5, 0, 0},
      {" -3\t", -3, 0, 0},
      {"1e2", 100, 0, 0},
      {"{\"score\": 2}", 2, 0, 0},
      {"{\"score\": 2, \"id\": 17}", 2, 17, 0},
      {"{\"id\": -4, \"score\": 0, \"parts\": {\"a\": 1, \"b.c-d_\": -0.5}, \"why\": \"so\"}", 0, -4, 2},
      {"{\"score\": 1, \"parts\": {}, \"id\": null}", 1, 0, 0},
      {"{\"score\": 1, \"parts\": null}", 1, 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Verdict verdict;
    Error error = {0};
    if (!verdict_read(&verdict, cases[i].text, strlen(cases[i].text), &error)) fail_msg("%s", error.message);
    assert_true(verdict.score == cases[i].score && verdict.part_count == cases[i].parts);
    assert_true(verdict.has_id == (cases[i].id != 0) && (!cases[i].id || verdict.id == cases[i].id));
  }
}

static void refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } cases[] = {{"", "found nothing"},
               {"hello", "expected a number or {\"score\": ..., \"parts\": {...}}, found 'hello'"},
               {"\"0.5\"", "found '\"0.5\"'"},
               {"[1]", "found '[1]'"},
               {"true", "found 'true'"},
               {"1 2", "found '1 2'"},
               {"NaN", "found 'NaN'"},
               {"-Infinity", "found '-Infinity'"},
               {"1e999", "found '1e999'"},
               {"1e39", "found '1e39'"}, /* more than a float */
               {"{\"score\": NaN}", "its score is no finite number"},
               {"{\"score\": \"1\"}", "its score is no finite number"},
               {"{\"reward\": 1}", "its score is no finite number"},
               {"{\"score\": 1", "found '{\"score\": 1'"},
               {"{\"score\": 1, \"id\": \"17\"}", "its id is no integer"},
               {"{\"score\": 1, \"id\": 1.5}", "its id is no integer"},
               {"{\"score\": 1, \"score\": 2}", "a key is given twice"},
               {"{\"score\": 1, \"parts\": [1]}", "its parts are no object"},
               {"{\"score\": 1, \"parts\": {\"a\": \"b\"}}", "a part is no finite number"},
               {"{\"score\": 1, \"parts\": {\"a/b\": 1}}", "a part has no name of"},
               {"a\tb\x01\n", "found 'a\\tb\\x01\\n'"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Verdict verdict;
    Error error = {0};
    assert_false(verdict_read(&verdict, cases[i].text, strlen(cases[i].text), &error));
    assert_int_equal(error.code, ERROR_DATA);
    if (!strstr(error.message, cases[i].message))
      fail_msg("'%s' is not in: %s", cases[i].message, error.message);
  }
}

static void too_much(void **state) {
  (void)state;
  Verdict verdict;
  Error error = {0};
  Buffer text = {0};
  assert_true(buffer_text(&text, "{\"score\": 1, \"parts\": {\"p0\": 0", &error));
  for (int i = 1; i <= SCORING_MOST_PARTS; i++) assert_true(buffer_format(&text, &error, ", \"p%d\": 0", i));
  assert_true(buffer_text(&text, "}}", &error));
  assert_false(verdict_read(&verdict, text.data, text.size, &error));
  assert_non_null(strstr(error.message, "more parts than are kept"));
  assert_non_null(strstr(error.message, "bytes)")); /* not the whole of it */
  assert_true(strlen(error.message) < 400);
  buffer_clear(&text);
  error = (Error){0};
  while (text.size < (2 << 20)) assert_true(buffer_text(&text, "[[[[[[[[[[[[[[[[", &error));
  assert_false(verdict_read(&verdict, text.data, text.size, &error));
  buffer_free(&text);
}

/* Whatever is taken is a number that can be learnt from; and nothing breaks. */
static void anything(void **state) {
  (void)state;
  static const char *const seeds[] = {
      "{\"id\": 12, \"score\": 0.25, \"parts\": {\"tone\": 1, \"b\": -2.5e3}}", "-12.75e-3",
      "{\"score\": 1, \"x\": [{\"y\": \"\\u00e9\\ud83d\\ude00\"}]}"};
  const RandomKey key = random_key(3, RANDOM_SHUFFLE);
  int read = 0;
  for (uint32_t round = 0; round < 20000; round++) {
    char text[128];
    const char *seed = seeds[round % 3];
    size_t bytes = strlen(seed);
    memcpy(text, seed, bytes);
    for (uint32_t change = 0; change < 1 + round % 4; change++) {
      uint32_t words[4];
      philox4x32((uint32_t[]){round, change, 0, 0}, key, words);
      const size_t at = words[0] % bytes;
      if (words[1] % 3 == 0) text[at] = (char)words[2];
      if (words[1] % 3 == 1) text[at] = "0123456789{}[]\",:.eE+-\\ntu"[words[2] % 27];
      if (words[1] % 3 == 2 && bytes > 1) bytes = 1 + words[2] % bytes;
    }
    Verdict verdict;
    Error error = {0};
    if (verdict_read(&verdict, text, bytes, &error)) {
      read++;
      assert_true(isfinite((float)verdict.score));
      for (int p = 0; p < verdict.part_count; p++) {
        assert_true(isfinite((float)verdict.parts[p].value) && source_is_name(verdict.parts[p].name));
      }
    } else {
      assert_int_equal(error.code, ERROR_DATA);
    }
  }
  assert_true(read > 500 && read < 15000);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(taken), cmocka_unit_test(refused),
                                     cmocka_unit_test(too_much), cmocka_unit_test(anything)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
