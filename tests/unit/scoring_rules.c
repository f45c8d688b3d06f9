/* The rules beside restatements of their definitions, and answers beside reference answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "scoring/exact.h"
#include "scoring/rules.h"

#include <math.h>
#include <string.h>

static void lengths(void **state) {
  (void)state;
  for (int target = 1; target < 40; target++) {
    for (int n = 0; n < 100; n++) {
      const double far = n > target ? n - target : target - n;
      const double expected = far >= target ? -1 : -far / target;
      assert_true(rule_length(n, target) == expected);
    }
  }
}

/* Runs compared one by one. */
static double repetition(const int32_t *ids, int count, int run) {
  int all = 0, again = 0;
  for (int i = 0; i + run <= count; i++) {
    bool before = false;
    for (int j = 0; j < i; j++) {
      bool same = true;
      for (int k = 0; k < run; k++) same = same && ids[i + k] == ids[j + k];
      before = before || same;
    }
    all++;
    again += before;
  }
  return all ? -(double)again / all : 0;
}

static void repetitions(void **state) {
  (void)state;
  enum { MOST = 60 };
  const RandomKey key = random_key(1, RANDOM_SHUFFLE);
  int differing = 0;
  for (uint32_t round = 0; round < 300; round++) {
    int32_t ids[MOST];
    int64_t order[MOST];
    const int count = (int)(round % MOST), run = 1 + (int)(round % 5), kinds = 1 + (int)(round % 7);
    for (int i = 0; i < count; i++) {
      uint32_t words[4];
      philox4x32((uint32_t[]){round, (uint32_t)i, 0, 0}, key, words);
      ids[i] = (int32_t)(words[0] % (uint32_t)kinds) * 70000 - 3;
    }
    const double expected = repetition(ids, count, run), found = rule_repetition(ids, count, run, order);
    assert_true(fabs(found - expected) < 1e-15);
    differing += expected < 0 && expected > -0.9;
  }
  assert_true(differing > 50);
}

static void json(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool any, object, list;
  } cases[] = {{"{\"a\": [1]}", true, true, false}, {" [1, {}]\n", true, false, true},
               {"7", true, false, false},           {"\"a\"", true, false, false},
               {"null", true, false, false},        {"NaN", true, false, false}, /* Python's */
               {"", false, false, false},           {"{\"a\": 1} {}", false, false, false},
               {"{'a': 1}", false, false, false},   {"```json\n{}\n```", false, false, false},
               {"{\"a\": 1", false, false, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const size_t bytes = strlen(cases[i].text);
    assert_true(rule_json(cases[i].text, bytes, RULE_JSON_ANY) == cases[i].any);
    assert_true(rule_json(cases[i].text, bytes, RULE_JSON_OBJECT) == cases[i].object);
    assert_true(rule_json(cases[i].text, bytes, RULE_JSON_LIST) == cases[i].list);
  }
}

static void equal_answers(void **state) {
  (void)state;
  static const struct {
    const char *a, *b;
    bool equal;
  } cases[] = {{"Blue", "Blue", true},
               {" Blue\n", "Blue", true},
               {"blue", "Blue", false},
               {"", " ", true},
               {"72", "72.0", true},
               {"72", "072", true},
               {"72", "+72.", true},
               {"72", "$72", true},
               {"72", "-72", false},
               {"72", "72%", true},
               {"-$5", "-5", true},
               {"\xe2\x82\xac 5", "5", false}, /* a gap within is none that is known */
               {"1,234,567", "1234567", true},
               {"1,234.50", "1234.5", true},
               {"12,34", "1234", false},
               {"1,2345", "12345", false},
               {"1234,567", "1234567", false},
               {"0", "-0.00", true},
               {".5", "0.5", true},
               {"5.", "5", true},
               {".", "", false},
               {"-", "", false},
               {"0.1", "0.10000000000000001", false},
               {"9007199254740993", "9007199254740992", false}, /* equal as doubles */
               {"1e3", "1000", false},                          /* no spelling that is known */
               {"7 apples", "7", false},
               {"0x10", "16", false},
               {"nan", "nan", true},
               {"1/2", "0.5", false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *a = cases[i].a, *b = cases[i].b;
    if (exact_equal(a, strlen(a), b, strlen(b)) != cases[i].equal) fail_msg("'%s' and '%s'", a, b);
    assert_true(exact_equal(b, strlen(b), a, strlen(a)) == cases[i].equal);
  }
}

/* NULL: nothing is taken. */
static void expect_part(const char *pattern, const char *text, const char *expected) {
  Error error = {0};
  Regex *regex = pattern ? regex_compile(pattern, strlen(pattern), REGEX_PCRE2, &error) : NULL;
  RegexScratch *scratch = regex_scratch_new(&error);
  const char *part;
  size_t bytes;
  bool found;
  assert_true(scratch && (regex || !pattern));
  assert_true(exact_extract(regex, scratch, text, strlen(text), &part, &bytes, &found, &error));
  assert_int_equal(found, expected != NULL);
  if (expected && (bytes != strlen(expected) || memcmp(part, expected, bytes) != 0))
    fail_msg("%s: expected '%s', found '%.*s'", text, expected, (int)bytes, part);
  regex_free(regex);
  regex_scratch_free(scratch);
}

static void parts_of_answers(void **state) {
  (void)state;
  expect_part(NULL, " all of it ", " all of it ");
  expect_part("#### *(.+)", "48 / 2 = 24\n#### 24", "24");
  expect_part("-?[0-9.,]+", "first 12, then 13", "13");
  expect_part("answer: (\\w+)", "answer: a, no, answer: b.", "b");
  expect_part("answer: (\\w+)", "there is none", NULL);
  expect_part("x(y)?", "xy x", "x"); /* the group took no part in the last match */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(lengths), cmocka_unit_test(repetitions),
                                     cmocka_unit_test(json), cmocka_unit_test(equal_answers),
                                     cmocka_unit_test(parts_of_answers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
