/* Ids, text and spans against the `tokenizers` library for every component of tokenizer.json (fixtures/make_tokenizer_kinds.py
 * says what is in the file). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tests/support/tokens.h"
#include "tests/temporary.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *kinds_file(void) {
  json_error_t broken;
  json_t *root = json_load_file(FIXTURES "/tokenizer/kinds.json", JSON_ALLOW_NUL, &broken);
  if (!root) fail_msg("kinds.json:%d: %s", broken.line, broken.text);
  return root;
}

static Tokenizer *open_kind(const json_t *kind) {
  Temporary t;
  Error error = {0};
  temporary_open(&t);
  assert_int_equal(
      json_dump_file(json_object_get(kind, "tokenizer"), temporary_path(&t, "tokenizer.json"), 0), 0);
  Tokenizer *tokenizer = tokenizer_open(t.directory, &error);
  if (!tokenizer) fail_msg("%s: %s", json_string_value(json_object_get(kind, "name")), error.message);
  temporary_close(&t);
  return tokenizer;
}

/* One id after the other gives the same text. */
static void check_stream(const Tokenizer *tokenizer, const IntArray *ids, const Buffer *whole) {
  Error error = {0};
  DecodeStream stream;
  Buffer text = {0};
  decode_stream_init(&stream, tokenizer, false);
  for (size_t i = 0; i < ids->size; i++)
    assert_true(decode_stream_push(&stream, ids->data[i], &text, &error));
  assert_true(decode_stream_finish(&stream, &text, &error));
  assert_int_equal(text.size, whole->size);
  if (text.size > 0) assert_memory_equal(text.data, whole->data, text.size);
  decode_stream_free(&stream);
  buffer_free(&text);
}

static uint32_t result_of(const Tokenizer *tokenizer, const char *text, size_t bytes, bool with_spans) {
  Error error = {0};
  IntArray ids = {0}, plain = {0};
  TokenSpans spans = {0};
  Buffer decoded = {0};
  assert_true(tokenizer_encode(tokenizer, text, bytes, true, &ids, &error));
  assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &decoded, &error));
  check_stream(tokenizer, &ids, &decoded);
  assert_true(tokenizer_encode_spans(tokenizer, text, bytes, false, &plain, &spans, &error));
  assert_int_equal(spans.size, plain.size);
  uint32_t digest = fnv_add(FNV_START, ids.data, ids.size * sizeof *ids.data);
  digest = fnv_add(digest, decoded.data, decoded.size);
  for (size_t i = 0; i < spans.size; i++) {
    TokenSpan span = whole_characters(text, bytes, spans.data[i]);
    assert_true(span.begin <= span.end && span.end <= bytes);
    if (with_spans) digest = fnv_add(digest, &span, sizeof span);
  }
  int_array_free(&ids);
  int_array_free(&plain);
  token_spans_free(&spans);
  buffer_free(&decoded);
  return digest;
}

static int wrong_results(const json_t *kind, const json_t *strings) {
  const char *name = json_string_value(json_object_get(kind, "name"));
  const char *results = json_string_value(json_object_get(kind, "results"));
  bool spans = json_is_true(json_object_get(kind, "spans"));
  Tokenizer *tokenizer = open_kind(kind);
  int wrong = 0;
  size_t count = json_array_size(strings);
  assert_int_equal(strlen(results), 8 * count);
  for (size_t i = 0; i < count; i++) {
    const json_t *text = json_array_get(strings, i);
    char spelled[16];
    snprintf(spelled, sizeof spelled, "%08x",
             result_of(tokenizer, json_string_value(text), json_string_length(text), spans));
    if (memcmp(spelled, results + 8 * i, 8) == 0) continue;
    if (wrong++ < 3) print_error("%s: string %zu, \"%s\", differs\n", name, i, json_string_value(text));
  }
  tokenizer_free(tokenizer);
  return wrong;
}

static void test_kinds(void **state) {
  (void)state;
  json_t *root = kinds_file(), *kinds = json_object_get(root, "kinds"), *kind;
  size_t i;
  int wrong = 0;
  assert_true(json_array_size(kinds) >= 60);
  assert_int_equal(json_array_size(json_object_get(root, "strings")), 300);
  json_array_foreach(kinds, i, kind) wrong += wrong_results(kind, json_object_get(root, "strings"));
  assert_int_equal(wrong, 0);
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
