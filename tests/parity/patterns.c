/* Regular expressions against the engines they are written for (tests/fixtures/patterns.json): Python's re as PEFT calls
 * it, and Oniguruma as `tokenizers` calls it. A pattern is read as there, or refused; only those marked may be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "base/regex.h"
#include "base/json.h"

#include <string.h>

static json_t *fixture;
static RegexScratch *scratch;

static int open_fixture(void **state) {
  (void)state;
  Error error = {0};
  fixture = json_file_read(FIXTURES "/patterns.json", &error);
  scratch = regex_scratch_new(&error);
  return fixture && scratch ? 0 : -1;
}

static int close_fixture(void **state) {
  (void)state;
  json_decref(fixture);
  regex_scratch_free(scratch);
  return 0;
}

/* Compiles, and fails where the other engine does but ours does not, or ours refuses what must be read. */
static Regex *compile(const char *pattern, const json_t *item, RegexSyntax syntax, bool readable) {
  Error error = {0};
  Regex *regex = regex_compile(pattern, strlen(pattern), syntax, &error);
  if (!regex) assert_int_equal(error.code, ERROR_MODEL);
  if (regex && !readable) fail_msg("%s: the other engine refuses it", pattern);
  if (!regex && readable && !json_is_true(json_object_get(item, "refusable")))
    fail_msg("%s: %s", pattern, error.message);
  return regex;
}

static void check_modules(const json_t *item, const char *pattern, const char *expected_key, bool whole) {
  const json_t *expected = json_object_get(item, expected_key),
               *modules = json_object_get(fixture, "modules");
  Regex *regex = compile(pattern, item, REGEX_PYTHON, json_is_array(expected));
  for (size_t i = 0; regex && i < json_array_size(modules); i++) {
    const char *module = json_string_value(json_array_get(modules, i));
    bool matches;
    Error error = {0};
    assert_true(regex_matches(regex, scratch, module, strlen(module), whole, &matches, &error));
    if (matches != json_is_true(json_array_get(expected, i)))
      fail_msg("%s (%s): %s", pattern, expected_key, module);
  }
  regex_free(regex);
}

static void python_patterns_are_those_of_peft(void **state) {
  (void)state;
  size_t i, read = 0;
  json_t *item;
  json_array_foreach(json_object_get(fixture, "python"), i, item) {
    const char *pattern = json_string_value(json_object_get(item, "pattern"));
    char *key = memory_format("(.*\\.)?(%s)$", pattern);
    check_modules(item, key, "keys", false);
    memory_free(key);
    if (*pattern) check_modules(item, pattern, "targets", true);
    read++;
  }
  assert_true(read > 70);
}

/* The text cut at all matches, joined by bars. */
static void cut(const Regex *regex, const char *text, Buffer *out) {
  Error error = {0};
  RegexCursor cursor = {0};
  RegexMatch match;
  size_t done = 0, bytes = strlen(text);
  buffer_clear(out);
  for (bool found = true; found;) {
    assert_true(regex_next(regex, scratch, text, bytes, &cursor, &match, &found, &error));
    if (!found) match = (RegexMatch){bytes, bytes};
    if (match.begin > done)
      assert_true(buffer_format(out, &error, "<%.*s>", (int)(match.begin - done), text + done));
    if (match.end > match.begin)
      assert_true(buffer_format(out, &error, "<%.*s>", (int)(match.end - match.begin), text + match.begin));
    done = match.end;
  }
}

static void tokenizer_patterns_are_those_of_oniguruma(void **state) {
  (void)state;
  const json_t *texts = json_object_get(fixture, "texts");
  size_t i, k, piece, read = 0;
  json_t *item, *value;
  json_array_foreach(json_object_get(fixture, "oniguruma"), i, item) {
    const char *pattern = json_string_value(json_object_get(item, "pattern"));
    const json_t *pieces = json_object_get(item, "pieces");
    Regex *regex = compile(pattern, item, REGEX_ONIGURUMA, json_is_array(pieces));
    for (k = 0; regex && k < json_array_size(texts); k++) {
      Buffer ours = {0}, theirs = {0};
      Error error = {0};
      cut(regex, json_string_value(json_array_get(texts, k)), &ours);
      json_array_foreach(json_array_get(pieces, k), piece, value) {
        assert_true(buffer_format(&theirs, &error, "<%s>", json_string_value(value)));
      }
      if (strcmp(ours.data, theirs.data) != 0) fail_msg("%s\n%s\n%s", pattern, ours.data, theirs.data);
      buffer_free(&ours);
      buffer_free(&theirs);
    }
    read += regex != NULL;
    regex_free(regex);
  }
  assert_true(read > 75);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(python_patterns_are_those_of_peft),
                                     cmocka_unit_test(tokenizer_patterns_are_those_of_oniguruma)};
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
