/* What regular expressions tell beside where they match; the languages themselves: tests/parity/patterns.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/regex.h"

#include <string.h>

/* The first group of the last match in the text; NULL: there is none. */
static void expect_group(RegexScratch *scratch, const char *pattern, const char *text, const char *expected) {
  Error error = {0};
  Regex *regex = regex_compile(pattern, strlen(pattern), REGEX_PCRE2, &error);
  if (!regex) fail_msg("%s", error.message);
  RegexCursor cursor = {0};
  RegexMatch match, group = {0};
  bool found = true, taken = false;
  while (found) {
    assert_true(regex_next(regex, scratch, text, strlen(text), &cursor, &match, &found, &error));
    if (found) taken = regex_group(scratch, &group);
  }
  assert_int_equal(taken, expected != NULL);
  if (expected) {
    assert_int_equal(group.end - group.begin, strlen(expected));
    assert_memory_equal(text + group.begin, expected, strlen(expected));
  }
  regex_free(regex);
}

static void the_first_group_is_told(void **state) {
  (void)state;
  Error error = {0};
  RegexScratch *scratch = regex_scratch_new(&error);
  assert_non_null(scratch);
  expect_group(scratch, "score: ([0-9]+)", "score: 3, no, score: 71.", "71");
  expect_group(scratch, "[0-9]+", "12", NULL); /* and not what the last pattern left */
  expect_group(scratch, "(a)|b", "ab", NULL);  /* it took no part in the last match */
  expect_group(scratch, "(a)|b", "ba", "a");
  expect_group(scratch, "(?:x)(?P<n>y+)(z)(z)", "xyyzz", "yy"); /* more groups than are kept */
  expect_group(scratch, "x(y*)", "x", "");
  expect_group(scratch, "(?s)<a>(.*)</a>", "<a>1\n2</a>", "1\n2");
  regex_scratch_free(scratch);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_group_is_told)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
