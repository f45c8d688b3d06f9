/* What hostile texts and files may cost, and that the quick ways give the same as the plain ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "base/reader.h"
#include "tests/temporary.h"
#include "tokenizer/normalize.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

/* Seconds of this process; the limits below are tens of times what is needed, and a fraction of what a quadratic way takes. */
static double seconds(void) {
  return (double)clock() / CLOCKS_PER_SEC;
}

static void normalize(const char *form, const char *text, Text *out) {
  Error error = {0};
  Text spare = {0};
  Normalizer normalizer;
  json_t *json = json_pack("{s:s}", "type", form);
  Reader reader = reader_top("test", json);
  RegexScratch *scratch = regex_scratch_new(&error);
  out->size = 0;
  assert_true(normalizer_init(&normalizer, &reader, &error));
  assert_true(text_append(out, text, strlen(text), (TokenSpan){0, 0}, &error));
  assert_true(normalizer_apply(&normalizer, out, &spare, scratch, &error));
  normalizer_free(&normalizer);
  regex_scratch_free(scratch);
  text_free(&spare);
  json_decref(json);
}

/* Marks of many classes, letters that compose, Hangul: in any order as utf8proc has them, whose own ordering is simple. */
static void normal_forms_are_exact(void **state) {
  (void)state;
  static const uint32_t pool[] = {'a',    'e',     'q',    0x301,  0x323,  0x302,  0x327,  0x345,  0x334,
                                  0x5b0,  0x93c,   0x1100, 0x1161, 0x11a8, 0xac00, 0xe9,   0x1ea1, 0x390,
                                  0xfb2c, 0x1d15e, 0x2126, 0xfb01, 0x3a9,  0x30a,  0x200d, 0x20d0, 0x1d165};
  static const struct {
    const char *name;
    utf8proc_option_t options;
  } forms[] = {{"NFC", UTF8PROC_COMPOSE},
               {"NFD", UTF8PROC_DECOMPOSE},
               {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
               {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  RandomKey key = random_key(5, RANDOM_TEST);
  Text out = {0};
  for (uint64_t round = 0; round < 4000; round++) {
    char text[256];
    size_t bytes = 0;
    uint32_t length = random_below(key, round, 0, 40);
    for (uint32_t i = 0; i < length; i++)
      bytes += utf8_put(pool[random_below(key, round, i + 1, sizeof pool / sizeof *pool)], text + bytes);
    text[bytes] = '\0';
    utf8proc_uint8_t *expected;
    utf8proc_option_t options = forms[round % 4].options | UTF8PROC_STABLE | UTF8PROC_NULLTERM;
    assert_true(utf8proc_map((const utf8proc_uint8_t *)text, 0, &expected, options) >= 0);
    normalize(forms[round % 4].name, text, &out);
    assert_int_equal(out.size, strlen((const char *)expected));
    if (out.size) assert_memory_equal(out.data, expected, out.size);
    free(expected);
  }
  text_free(&out);
}

static void marks_in_turn_take_no_time(void **state) {
  (void)state;
  enum { PAIRS = 150000 }; /* 600 KB: minutes when they are sorted by exchanging neighbours */
  char *text = malloc(4 * PAIRS + 2);
  strcpy(text, "q");
  for (size_t i = 0; i < PAIRS; i++) memcpy(text + 1 + 4 * i, "\xcc\x81\xcc\xa3", 5); /* U+0301 U+0323 */
  Text out = {0};
  double begin = seconds();
  normalize("NFC", text, &out);
  assert_true(seconds() - begin < 10);
  assert_int_equal(out.size, 4 * PAIRS + 1);
  for (size_t i = 0; i < PAIRS; i++) { /* the lower class first */
    assert_memory_equal(out.data + 1 + 2 * i, "\xcc\xa3", 2);
    assert_memory_equal(out.data + 1 + 2 * (PAIRS + i), "\xcc\x81", 2);
  }
  text_free(&out);
  free(text);
}

/* A tokenizer.json of one letter and `count` added tokens. */
static void write_added(const char *path, int count) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[", file);
  for (int i = 1; i <= count; i++)
    fprintf(file, "%s{\"id\":%d,\"content\":\"<%d>\",\"special\":true}", i > 1 ? "," : "", i, i);
  fputs("]}", file);
  assert_int_equal(fclose(file), 0);
}

static void many_added_tokens_take_no_time(void **state) {
  (void)state;
  enum { COUNT = 80000 }; /* 20 seconds when each is compared with all before */
  Temporary t;
  temporary_open(&t);
  write_added(temporary_path(&t, "tokenizer.json"), COUNT);
  Error error = {0};
  double begin = seconds();
  Tokenizer *tokenizer = tokenizer_open(t.directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  assert_true(seconds() - begin < 8);
  assert_int_equal(tokenizer_vocab_size(tokenizer), COUNT + 1);
  assert_int_equal(tokenizer_id(tokenizer, "<80000>"), COUNT);
  tokenizer_free(tokenizer);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(normal_forms_are_exact),
                                     cmocka_unit_test(marks_in_turn_take_no_time),
                                     cmocka_unit_test(many_added_tokens_take_no_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
