/* The tokenizer's parts that have their own rules: ill-formed input, spans, patterns, streams, threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/regex.h"
#include "tokenizer/text.h"
#include "tokenizer/tokenizer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Tokenizer *open_family(const char *family) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s", family);
  Tokenizer *tokenizer = tokenizer_open(path, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  return tokenizer;
}

/* ---- ill-formed input ---- */

static void test_ill_formed(void **state) {
  (void)state;
  static const struct {
    const char *input, *read_as;
  } cases[] = {{"plain", "plain"},
               {"\xff", "\xef\xbf\xbd"},
               {"a\x80z", "a\xef\xbf\xbdz"},
               {"\xe4\xb8", "\xef\xbf\xbd"}, /* one maximal part */
               {"\xe4\xb8z", "\xef\xbf\xbdz"},
               {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
               {"\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
               {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
               {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
               {"\xf0\x9f\x98!", "\xef\xbf\xbd!"},
               {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};
  Tokenizer *tokenizer = open_family("gpt2");
  Error error = {0};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    Text text = {.tracked = true};
    IntArray ids = {0};
    Buffer back = {0};
    size_t bytes = strlen(cases[i].input);
    assert_true(text_append_input(&text, cases[i].input, bytes, &error));
    assert_int_equal(text.size, strlen(cases[i].read_as));
    assert_memory_equal(text.data, cases[i].read_as, text.size);
    assert_int_equal(text.spans[text.size - 1].end, bytes);
    assert_true(tokenizer_encode(tokenizer, cases[i].input, bytes, false, &ids, &error));
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &back, &error));
    assert_string_equal(back.data, cases[i].read_as);
    text_free(&text);
    int_array_free(&ids);
    buffer_free(&back);
  }
  tokenizer_free(tokenizer);
}

static void test_zero_bytes(void **state) {
  (void)state;
  static const char input[] = "a\0b\0";
  static const char *const families[] = {"gpt2", "llama2_legacy", "llama3"};
  Error error = {0};
  for (size_t i = 0; i < 3; i++) {
    Tokenizer *tokenizer = open_family(families[i]);
    IntArray ids = {0};
    Buffer back = {0};
    assert_true(tokenizer_encode(tokenizer, input, 4, false, &ids, &error));
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &back, &error));
    assert_int_equal(back.size, 4);
    assert_memory_equal(back.data, input, 4);
    int_array_free(&ids);
    buffer_free(&back);
    tokenizer_free(tokenizer);
  }
}

/* ---- spans ---- */

/* "[begin,end)[begin,end)..." of the tokens of a text. */
static void check_spans(const char *family, const char *text, bool add_special, const char *expected) {
  Tokenizer *tokenizer = open_family(family);
  Error error = {0};
  IntArray ids = {0};
  TokenSpans spans = {0};
  Buffer spelled = {0};
  assert_true(tokenizer_encode_spans(tokenizer, text, strlen(text), add_special, &ids, &spans, &error));
  assert_int_equal(ids.size, spans.size);
  for (size_t i = 0; i < spans.size; i++)
    assert_true(buffer_format(&spelled, &error, "[%u,%u)", spans.data[i].begin, spans.data[i].end));
  assert_string_equal(spelled.data, expected);
  int_array_free(&ids);
  token_spans_free(&spans);
  buffer_free(&spelled);
  tokenizer_free(tokenizer);
}

static void test_spans(void **state) {
  (void)state;
  check_spans("smollm2", "<|im_start|>7 8", false, "[0,12)[12,13)[13,14)[14,15)");
  check_spans("smollm2", "\xe1\x9a\xa0", false, "[0,1)[1,2)[2,3)"); /* a rune is three */
  check_spans("llama3", "12345", true, "[0,0)[0,2)[2,3)[3,4)[4,5)");
  check_spans("qwen2", "e\xcc\x81", false, "[0,3)[0,3)"); /* two characters composed to one, of two bytes */
  check_spans("llama2_legacy", "the", false, "[0,3)");    /* the space put in front stands for nothing */
  check_spans("llama2_legacy", "\xe1\x9a\xa0", false, "[0,0)[0,1)[1,2)[2,3)");
  check_spans("odd_one", "a  [LEFT]b", false, "[0,1)[1,9)[9,10)"); /* lstrip takes the spaces */
}

/* ---- patterns ---- */

static void check_matches(const char *pattern, const char *text, const char *expected) {
  Error error = {0};
  Buffer spelled = {0};
  Regex *regex = regex_compile(pattern, strlen(pattern), REGEX_ONIGURUMA, &error);
  if (!regex) fail_msg("%s: %s", pattern, error.message);
  RegexScratch *scratch = regex_scratch_new(&error);
  RegexCursor cursor = {0};
  RegexMatch match;
  for (bool found = true;;) {
    assert_true(regex_next(regex, scratch, text, strlen(text), &cursor, &match, &found, &error));
    if (!found) break;
    assert_true(
        buffer_format(&spelled, &error, "<%.*s>", (int)(match.end - match.begin), text + match.begin));
  }
  assert_string_equal(spelled.data ? spelled.data : "", expected);
  regex_free(regex);
  regex_scratch_free(scratch);
  buffer_free(&spelled);
}

static void test_patterns(void **state) {
  (void)state;
  check_matches("\\s+(?!\\S)|\\S", "a   b", "<a><  ><b>");
  check_matches("\\s", "\xe1\xa0\x8e", ""); /* U+180E is no space */
  check_matches("[^\\s]", "\xe1\xa0\x8e", "<\xe1\xa0\x8e>");
  check_matches("\\w+", "e\xcc\x81_1!", "<e\xcc\x81_1>"); /* marks are word characters */
  check_matches("\\W", "e\xcc\x81!", "<!>");
  check_matches("b*", "abb", "<><bb>");    /* empty, not after a match */
  check_matches("x*", "\xc3\xa9", "<><>"); /* by characters, not bytes */
  check_matches("^b$", "a\nb\nc", "<b>");  /* lines */
  check_matches("[]x]", "]x[", "<]><x>");
  check_matches("(?i:'s)", "'S'\xc5\xbf", "<'S><'\xc5\xbf>"); /* long s */
  check_matches("[a[b-d]]", "[acx]", "<a><c>");               /* a class inside a class adds its members */
  static const char *const refused[] = {"[a[^b]]", "[a[b[c]]]", "[a&&b]", "\\bx",
                                        "\\hx",    "[\\W]",     "(",      "[[:alpha:]]"};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    Error error = {0};
    assert_null(regex_compile(refused[i], strlen(refused[i]), REGEX_ONIGURUMA, &error));
    assert_int_equal(error.code, ERROR_MODEL);
  }
}

/* A pattern that would need more than the compiled matcher's stack still matches. */
static void test_long_pieces(void **state) {
  (void)state;
  enum { SIZE = 1 << 18 };
  static const char *const families[] = {"gpt2", "llama3", "llama2_legacy", "odd_one"};
  char *text = malloc(SIZE);
  for (size_t fill = 0; fill < 3; fill++) {
    memset(text, "a !"[fill], SIZE);
    for (size_t i = 0; i < 4; i++) {
      Tokenizer *tokenizer = open_family(families[i]);
      Error error = {0};
      IntArray ids = {0};
      if (!tokenizer_encode(tokenizer, text, SIZE, false, &ids, &error)) fail_msg("%s", error.message);
      int_array_free(&ids);
      tokenizer_free(tokenizer);
    }
  }
  free(text);
}

/* ---- streams ---- */

/* Each push gives whole characters, as soon as they are whole. */
static void test_stream(void **state) {
  (void)state;
  Tokenizer *tokenizer = open_family("gpt2");
  Error error = {0};
  IntArray ids = {0};
  static const char text[] = "Hi \xe1\x9a\xa0!";
  assert_true(tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids, &error));
  DecodeStream stream;
  Buffer out = {0};
  decode_stream_init(&stream, tokenizer, true);
  for (size_t i = 0; i < ids.size; i++) {
    size_t skip, valid;
    assert_true(decode_stream_push(&stream, ids.data[i], &out, &error));
    valid = out.size ? utf8_valid_prefix(out.data, out.size, &skip) : 0;
    assert_int_equal(valid, out.size);
  }
  assert_string_equal(out.data, text); /* all of it before finish */
  assert_true(
      decode_stream_push(&stream, ids.data[ids.size - 2], &out, &error)); /* a character's last byte */
  assert_string_equal(out.data, text);
  assert_true(decode_stream_finish(&stream, &out, &error));
  assert_memory_equal(out.data + sizeof text - 1, "\xef\xbf\xbd", 4);
  buffer_free(&out);
  assert_true(decode_stream_push(&stream, ids.data[0], &out, &error)); /* ready for another text */
  assert_int_equal(out.data[0], 'H');
  buffer_free(&out);
  decode_stream_free(&stream);
  int_array_free(&ids);
  tokenizer_free(tokenizer);
}

/* A run of byte tokens is read as a whole: a valid beginning is no character if the run goes wrong after it. */
static void test_stream_of_bytes(void **state) {
  (void)state;
  Tokenizer *tokenizer = open_family("llama2_legacy");
  Error error = {0};
  const int bytes[] = {3 + 0xe4, 3 + 0xb8, 3 + 0xad, 3 + 0xff};
  DecodeStream stream;
  Buffer streamed = {0}, whole = {0};
  decode_stream_init(&stream, tokenizer, false);
  for (size_t i = 0; i < 4; i++) assert_true(decode_stream_push(&stream, bytes[i], &streamed, &error));
  assert_true(decode_stream_finish(&stream, &streamed, &error));
  assert_true(tokenizer_decode(tokenizer, bytes, 4, false, &whole, &error));
  assert_int_equal(whole.size, 12); /* one U+FFFD per byte */
  assert_string_equal(streamed.data, whole.data);
  buffer_free(&streamed);
  buffer_free(&whole);
  decode_stream_free(&stream);
  tokenizer_free(tokenizer);
}

static void test_ids_outside(void **state) {
  (void)state;
  Tokenizer *tokenizer = open_family("gpt2");
  Error error = {0};
  Buffer out = {0};
  const int ids[] = {-1, tokenizer_id(tokenizer, "H"), 1 << 30, tokenizer_vocab_size(tokenizer)};
  assert_true(tokenizer_decode(tokenizer, ids, 4, false, &out, &error));
  assert_string_equal(out.data, "H");
  assert_true(tokenizer_decode(tokenizer, NULL, 0, false, &out, &error));
  assert_int_equal(out.size, 1);
  buffer_free(&out);
  tokenizer_free(tokenizer);
}

/* ---- threads ---- */

typedef struct Job {
  const Tokenizer *tokenizer;
  uint64_t sum;
} Job;

static void *encode_many(void *argument) {
  Job *job = argument;
  for (int round = 0; round < 3000; round++) {
    char text[64];
    Error error = {0};
    IntArray ids = {0};
    int bytes = snprintf(text, sizeof text, "word%d the printer %d-%d", round % 97, round % 13, round % 7);
    if (!tokenizer_encode(job->tokenizer, text, (size_t)bytes, false, &ids, &error)) return NULL;
    for (size_t i = 0; i < ids.size; i++) job->sum = job->sum * 31 + (uint64_t)ids.data[i];
    int_array_free(&ids);
  }
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  Tokenizer *tokenizer = open_family("gpt2");
  Job jobs[4], alone = {tokenizer, 0};
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++) {
    jobs[i] = (Job){tokenizer, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, encode_many, &jobs[i]), 0);
  }
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  encode_many(&alone);
  for (size_t i = 0; i < 4; i++) assert_true(jobs[i].sum == alone.sum);
  tokenizer_free(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ill_formed),      cmocka_unit_test(test_zero_bytes),
      cmocka_unit_test(test_spans),           cmocka_unit_test(test_patterns),
      cmocka_unit_test(test_long_pieces),     cmocka_unit_test(test_stream),
      cmocka_unit_test(test_stream_of_bytes), cmocka_unit_test(test_ids_outside),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
