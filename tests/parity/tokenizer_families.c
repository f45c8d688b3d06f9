/* Ids and text against the `tokenizers` library on ten thousand mixed strings per family (fixtures/make_tokenizer.py
 * says what is in the files). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM_SEQUENCES = 1000 };

static const char *const families[] = {"gpt2",    "neox",          "llama3",           "smollm2",
                                       "qwen2",   "llama2_legacy", "llama2_metaspace", "metaspace_split",
                                       "odd_one", "odd_two"};

static uint32_t fnv(const void *bytes, size_t count) {
  return fnv_add(FNV_START, bytes, count);
}

static uint32_t read_u32(const char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static uint16_t read_u16(const char *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static Buffer read_fixture(const char *folder, const char *name) {
  char path[512];
  Error error = {0};
  Buffer text = {0};
  snprintf(path, sizeof path, "%s/tokenizer/%s/%s", FIXTURES, folder, name);
  if (!file_read(path, &text, &error)) fail_msg("%s", error.message);
  return text;
}

static Tokenizer *open_family(const char *family) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, "%s/tokenizer/%s", FIXTURES, family);
  Tokenizer *tokenizer = tokenizer_open(path, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  return tokenizer;
}

/* Decoding one id at a time must give the same text as decoding all. */
static bool stream_agrees(const Tokenizer *tokenizer, const int *ids, size_t count, bool skip,
                          const Buffer *whole) {
  Error error = {0};
  DecodeStream stream;
  Buffer text = {0};
  decode_stream_init(&stream, tokenizer, skip);
  for (size_t i = 0; i < count; i++) assert_true(decode_stream_push(&stream, ids[i], &text, &error));
  assert_true(decode_stream_finish(&stream, &text, &error));
  bool same = text.size == whole->size && (text.size == 0 || memcmp(text.data, whole->data, text.size) == 0);
  decode_stream_free(&stream);
  buffer_free(&text);
  return same;
}

/* Spans lie inside the text, in order, and asking for them does not change the ids. */
static bool spans_agree(const Tokenizer *tokenizer, const char *text, size_t bytes, const IntArray *ids) {
  Error error = {0};
  IntArray again = {0};
  TokenSpans spans = {0};
  assert_true(tokenizer_encode_spans(tokenizer, text, bytes, true, &again, &spans, &error));
  bool good = again.size == ids->size && spans.size == ids->size &&
              (ids->size == 0 || memcmp(again.data, ids->data, ids->size * sizeof *ids->data) == 0);
  for (size_t i = 0; good && i < spans.size; i++) {
    TokenSpan span = spans.data[i];
    good = span.begin <= span.end && span.end <= bytes;
    if (i > 0 && i + 1 < spans.size) good = good && span.begin >= spans.data[i - 1].begin;
  }
  int_array_free(&again);
  token_spans_free(&spans);
  return good;
}

static int check_strings(const Tokenizer *tokenizer, const char *family, const Buffer *strings,
                         const Buffer *expected, size_t *count) {
  Error error = {0};
  int wrong = 0;
  *count = 0;
  for (size_t at = 0; at < strings->size; (*count)++) {
    size_t bytes = read_u16(strings->data + at);
    const char *text = strings->data + at + 2;
    at += 2 + bytes;
    IntArray ids = {0};
    Buffer decoded = {0};
    assert_true(tokenizer_encode(tokenizer, text, bytes, true, &ids, &error));
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &decoded, &error));
    assert_true((*count + 1) * 6 <= expected->size);
    const char *want = expected->data + *count * 6;
    const char *problem = NULL;
    if (fnv(ids.data, ids.size * sizeof *ids.data) != read_u32(want))
      problem = "ids";
    else if ((fnv(decoded.data, decoded.size) & 0xffffu) != read_u16(want + 4))
      problem = "decoded text";
    else if (!stream_agrees(tokenizer, ids.data, ids.size, false, &decoded))
      problem = "streamed text";
    else if (*count % 7 == 0 && !spans_agree(tokenizer, text, bytes, &ids))
      problem = "spans";
    if (problem && wrong++ < 5) print_error("%s: string %zu: %s differ\n", family, *count, problem);
    int_array_free(&ids);
    buffer_free(&decoded);
  }
  return wrong;
}

static int check_random_ids(const Tokenizer *tokenizer, const char *family, const char *expected) {
  Error error = {0};
  int wrong = 0;
  for (uint64_t sequence = 0; sequence < RANDOM_SEQUENCES; sequence++) {
    int ids[24];
    uint64_t state = sequence;
    size_t count = 1 + sequence % 24;
    for (size_t i = 0; i < count; i++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      ids[i] = (int)((state >> 33) % (uint64_t)tokenizer_vocab_size(tokenizer));
    }
    Buffer text = {0};
    bool skip = sequence % 2 == 1;
    assert_true(tokenizer_decode(tokenizer, ids, count, skip, &text, &error));
    bool good = fnv(text.data, text.size) == read_u32(expected + sequence * 4);
    bool streamed = stream_agrees(tokenizer, ids, count, skip, &text);
    if (!(good && streamed) && wrong++ < 5)
      print_error("%s: random ids %d: %s\n", family, (int)sequence, good ? "streamed text" : "text");
    buffer_free(&text);
  }
  return wrong;
}

static void test_families(void **state) {
  (void)state;
  Buffer strings = read_fixture(".", "strings.bin");
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
    Tokenizer *tokenizer = open_family(families[i]);
    Buffer expected = read_fixture(families[i], "expected.bin");
    size_t count;
    int wrong = check_strings(tokenizer, families[i], &strings, &expected, &count);
    assert_int_equal(count, 10000);
    assert_int_equal(expected.size, count * 6 + RANDOM_SEQUENCES * 4);
    wrong += check_random_ids(tokenizer, families[i], expected.data + count * 6);
    assert_int_equal(wrong, 0);
    buffer_free(&expected);
    tokenizer_free(tokenizer);
  }
  buffer_free(&strings);
}

/* The first strings in full, where a difference can be read; and the comparison itself notices a changed id. */
static void test_first_strings(void **state) {
  (void)state;
  Buffer strings = read_fixture(".", "strings.bin");
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
    Tokenizer *tokenizer = open_family(families[i]);
    Buffer lines = read_fixture(families[i], "first.txt");
    Error error = {0};
    size_t at = 0, number = 0;
    for (char *line = lines.data; *line; number++) {
      char *end = strchr(line, '\n');
      size_t bytes = read_u16(strings.data + at);
      IntArray ids = {0};
      Buffer spelled = {0};
      assert_true(tokenizer_encode(tokenizer, strings.data + at + 2, bytes, true, &ids, &error));
      for (size_t k = 0; k < ids.size; k++)
        assert_true(buffer_format(&spelled, &error, k ? " %d" : "%d", ids.data[k]));
      *end = 0;
      assert_string_equal(spelled.data ? spelled.data : "", line);
      if (ids.size > 0) {
        uint32_t right = fnv(ids.data, ids.size * sizeof *ids.data);
        ids.data[ids.size / 2] ^= 1;
        assert_int_not_equal(fnv(ids.data, ids.size * sizeof *ids.data), right);
      }
      at += 2 + bytes;
      line = end + 1;
      int_array_free(&ids);
      buffer_free(&spelled);
    }
    assert_int_equal(number, 120);
    buffer_free(&lines);
    tokenizer_free(tokenizer);
  }
  buffer_free(&strings);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_strings), cmocka_unit_test(test_families)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
