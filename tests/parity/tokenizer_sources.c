/* Tokenizers that are no tokenizer.json against AutoTokenizer and sentencepiece (tests/fixtures/tokenizer/sources, made
 * by make_tokenizer_sources.py, which says what is in there). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/json.h"
#include "tests/support/tokens.h"
#include "tokenizer/extend.h"

#include <string.h>

#define SOURCES FIXTURES "/tokenizer/sources/"

static json_t *fixture;
static size_t different; /* texts of a case */
static Buffer strings;   /* of all families: u16 bytes, then the text */

static int open_fixture(void **state) {
  (void)state;
  Error error = {0};
  fixture = json_file_read(SOURCES "cases.json", &error);
  return fixture && file_read(FIXTURES "/tokenizer/strings.bin", &strings, &error) ? 0 : -1;
}

static int close_fixture(void **state) {
  (void)state;
  json_decref(fixture);
  buffer_free(&strings);
  return 0;
}

static void write_text(const char *path, const char *text) {
  Error error = {0};
  if (!file_write_text(path, text, &error)) fail_msg("%s", error.message);
}

/* vocab.json and merges.txt of a family's tokenizer.json. */
static void write_vocabulary(Temporary *t, const char *family) {
  char path[512];
  Error error = {0};
  Buffer lines = {0};
  size_t i;
  json_t *merge;
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s/tokenizer.json", family);
  json_t *root = json_file_read(path, &error), *model = json_object_get(root, "model");
  assert_true(json_file_write(temporary_path(t, "vocab.json"), json_object_get(model, "vocab"), &error));
  assert_true(buffer_text(&lines, "#version: 0.2\n", &error));
  json_array_foreach(json_object_get(model, "merges"), i, merge) {
    const char *whole = json_string_value(merge);
    if (whole)
      assert_true(buffer_format(&lines, &error, "%s\n", whole));
    else
      assert_true(buffer_format(&lines, &error, "%s %s\n", json_string_value(json_array_get(merge, 0)),
                                json_string_value(json_array_get(merge, 1))));
  }
  write_text(temporary_path(t, "merges.txt"), lines.data);
  buffer_free(&lines);
  json_decref(root);
}

static void write_case(Temporary *t, const json_t *item) {
  Error error = {0};
  const char *name, *model = json_string_value(json_object_get(item, "model"));
  if (json_object_get(item, "gguf")) return;
  json_t *value;
  json_object_foreach(json_object_get(item, "files"), name, value) {
    assert_true(json_file_write(temporary_path(t, name), value, &error));
  }
  if (!model) {
    write_vocabulary(t, json_string_value(json_object_get(item, "vocab")));
    return;
  }
  char path[512];
  snprintf(path, sizeof path, SOURCES "%s.model", model);
  assert_true(file_copy(path, temporary_path(t, "tokenizer.model"), &error));
}

static void append_ids(Buffer *out, const IntArray *ids) {
  Error error = {0};
  for (size_t i = 0; i < ids->size; i++)
    assert_true(buffer_format(out, &error, "%s%d", i ? "," : "", ids->data[i]));
  assert_true(buffer_text(out, "|", &error));
}

static void check_text(const Tokenizer *tokenizer, const char *text, size_t bytes, const json_t *expected,
                       const char *name, bool plain) {
  const bool written = !strstr(name, ".gguf"); /* llama.cpp's text of tokens is another matter */
  Error error = {0};
  IntArray bare = {0}, ids = {0};
  Buffer all = {0};
  if (json_is_null(expected)) return;
  assert_true(tokenizer_encode(tokenizer, text, bytes, false, &bare, &error));
  assert_true(tokenizer_encode(tokenizer, text, bytes, !plain, &ids, &error));
  append_ids(&all, &bare);
  append_ids(&all, &ids);
  if (written) assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, true, &all, &error));
  if (fnv_add(FNV_START, all.data, all.size) != json_integer_value(expected))
    if (different++ < 3) print_error("%s: \"%.*s\": %s\n", name, (int)bytes, text, all.data);
  int_array_free(&bare);
  int_array_free(&ids);
  buffer_free(&all);
}

/* Calls check_text for the fixture's choice of strings.bin, in which each string is found by going through it. */
static void check_texts(const Tokenizer *tokenizer, const json_t *item, const char *name, bool plain) {
  const json_t *chosen = json_object_get(fixture, "strings"), *own = json_object_get(fixture, "texts");
  const json_t *results = json_object_get(item, "results");
  size_t used = 0;
  for (size_t at = 0, number = 0; at + 2 <= strings.size && used < json_array_size(chosen); number++) {
    const unsigned char *p = (const unsigned char *)strings.data + at;
    const size_t bytes = p[0] | (size_t)p[1] << 8;
    if (number == (size_t)json_integer_value(json_array_get(chosen, used)))
      check_text(tokenizer, strings.data + at + 2, bytes, json_array_get(results, used++), name, plain);
    at += 2 + bytes;
  }
  assert_int_equal(used, json_array_size(chosen));
  for (size_t i = 0; i < json_array_size(own); i++) {
    const char *text = json_string_value(json_array_get(own, i));
    check_text(tokenizer, text, strlen(text), json_array_get(results, used + i), name, plain);
  }
  assert_int_equal(json_array_size(results), used + json_array_size(own));
}

/* Written as a tokenizer.json with a token more, it is the same tokenizer; but sentencepiece's own reading has no such file. */
static void check_written(const char *from, const json_t *item, const char *name) {
  const NewToken token = {"<|written|>", true};
  Temporary t;
  Error error = {0};
  int first;
  temporary_open(&t);
  if (!tokenizer_extend(from, t.directory, &token, 1, &first, &error))
    fail_msg("%s: %s", name, error.message);
  Tokenizer *tokenizer = tokenizer_open(t.directory, &error);
  if (!tokenizer) fail_msg("%s, written: %s", name, error.message);
  assert_int_equal(tokenizer_id(tokenizer, token.text), first);
  assert_int_equal(tokenizer_vocab_size(tokenizer), first + 1);
  assert_true(file_exists(temporary_path(&t, "tokenizer.json")));
  assert_false(file_exists(temporary_path(&t, "tokenizer.model")));
  check_texts(tokenizer, item, name, false);
  tokenizer_free(tokenizer);
  temporary_close(&t);
}

static void check_id(const char *name, const json_t *item, const char *key, int found) {
  const json_t *value = json_object_get(item, key);
  const int expected = json_is_integer(value) ? (int)json_integer_value(value) : -1;
  if (found != expected) fail_msg("%s: %s is %d, expected %d", name, key, found, expected);
}

static void sources_are_what_others_make_of_them(void **state) {
  (void)state;
  size_t i, all = 0;
  json_t *item;
  json_array_foreach(json_object_get(fixture, "cases"), i, item) {
    const char *name = json_string_value(json_object_get(item, "name"));
    const bool plain = strcmp(json_string_value(json_object_get(item, "kind")), "sentencepiece") == 0;
    Temporary t;
    Error error = {0};
    temporary_open(&t);
    write_case(&t, item);
    const char *gguf = json_string_value(json_object_get(item, "gguf"));
    char path[512];
    snprintf(path, sizeof path, SOURCES "%s.gguf", gguf ? gguf : "");
    const char *from = gguf ? path : t.directory;
    Tokenizer *tokenizer =
        tokenizer_open_kind(from, plain ? TOKENIZER_SENTENCEPIECE : TOKENIZER_AUTO, &error);
    if (!tokenizer) fail_msg("%s: %s", name, error.message);
    different = 0;
    check_texts(tokenizer, item, name, plain);
    if (!plain) check_written(from, item, name);
    if (different > 0) print_error("%s: %zu texts differ\n", name, different);
    all += different;
    if (!plain && !gguf) {
      check_id(name, item, "size", tokenizer_vocab_size(tokenizer));
      check_id(name, item, "bos", tokenizer_bos(tokenizer));
      check_id(name, item, "eos", tokenizer_eos(tokenizer));
      check_id(name, item, "pad", tokenizer_pad(tokenizer));
      check_id(name, item, "unk", tokenizer_unk(tokenizer));
    }
    tokenizer_free(tokenizer);
    temporary_close(&t);
  }
  assert_int_equal(all, 0);
  assert_true(i >= 38);
}

/* A text that is the name of a piece: only user-defined ones stand whole in sentencepiece's own reading (its ids). */
static void pieces_named_in_a_text(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int count, ids[8];
  } cases[] = {{"<0x0A>", 6, {68, 418, 483, 418, 636, 70}}, {"<sep>", 1, {5}}, {"<|im_start|>", 1, {6}}};
  Temporary t;
  Error error = {0};
  temporary_open(&t);
  assert_true(file_copy(SOURCES "defined.model", temporary_path(&t, "tokenizer.model"), &error));
  Tokenizer *tokenizer = tokenizer_open_kind(t.directory, TOKENIZER_SENTENCEPIECE, &error);
  assert_non_null(tokenizer);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    IntArray ids = {0};
    assert_true(tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), false, &ids, &error));
    assert_int_equal(ids.size, cases[i].count);
    assert_memory_equal(ids.data, cases[i].ids, ids.size * sizeof *ids.data);
    int_array_free(&ids);
  }
  tokenizer_free(tokenizer);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sources_are_what_others_make_of_them),
                                     cmocka_unit_test(pieces_named_in_a_text)};
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
