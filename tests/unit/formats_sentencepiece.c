/* Damaged tokenizer.model files: cut, flipped, lying about lengths. Each is an error with exit code 4, or a model that
 * works; under the sanitizers nothing is read that is not there. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/random.h"
#include "formats/sentencepiece.h"
#include "tokenizer/tokenizer.h"

static const char *const models[] = {"llama", "open_llama", "defined", "unigram"};

static Buffer read_model(const char *name) {
  char path[512];
  Error error = {0};
  Buffer bytes = {0};
  snprintf(path, sizeof path, FIXTURES "/tokenizer/sources/%s.model", name);
  if (!file_read(path, &bytes, &error)) fail_msg("%s", error.message);
  return bytes;
}

static void write_bytes(const char *path, const char *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  fclose(file);
}

/* Whether a directory with these bytes as tokenizer.model opens; if so, it is used. */
static bool opens(Temporary *t, const char *bytes, size_t count, TokenizerKind kind) {
  static const char text[] = "Hello  <s> w\xc3\xb6rld\n 123 <sep>\t \xe6\x97\xa9";
  Error error = {0};
  IntArray ids = {0};
  Buffer back = {0};
  write_bytes(temporary_path(t, "tokenizer.model"), bytes, count);
  Tokenizer *tokenizer = tokenizer_open_kind(t->directory, kind, &error);
  if (!tokenizer) {
    if (error.code != ERROR_MODEL || !strstr(error.message, "tokenizer.model"))
      fail_msg("code %d: %s", (int)error.code, error.message);
    return false;
  }
  if (tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &error))
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &back, &error));
  int_array_free(&ids);
  buffer_free(&back);
  tokenizer_free(tokenizer);
  return true;
}

static void cut_files_are_refused(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Buffer bytes = read_model("llama");
  size_t opened = 0, tried = 0;
  for (size_t count = 0; count < bytes.size; count += count < 64 ? 1 : 97, tried++)
    opened += opens(&t, bytes.data, count, TOKENIZER_AUTO);
  /* a file that ends between two fields is one without the rest: of Unigram kind, as the kind stands behind the pieces */
  assert_true(tried > 100 && opened < tried / 10);
  buffer_free(&bytes);
  temporary_close(&t);
}

static void flipped_files_are_refused_or_work(void **state) {
  (void)state;
  const RandomKey key = random_key(11, RANDOM_TEST);
  Temporary t;
  temporary_open(&t);
  size_t refused = 0;
  for (uint64_t round = 0; round < 400; round++) {
    Buffer bytes = read_model(models[round % 4]);
    for (uint64_t k = 0; k < 1 + round % 5; k++) {
      const uint32_t below = (uint32_t)(round % 3 ? bytes.size : 900);
      const uint32_t at = random_below(key, round, 2 * k, below);
      const char value = (char)random_below(key, round, 2 * k + 1, 256);
      /* the last fields, with the kind and the settings, too */
      bytes.data[round % 7 == 0 ? bytes.size - 1 - at % 400 : at] = value;
    }
    refused += !opens(&t, bytes.data, bytes.size, round % 2 ? TOKENIZER_SENTENCEPIECE : TOKENIZER_AUTO);
    buffer_free(&bytes);
  }
  print_message("%zu of 400 refused\n", refused);
  assert_true(refused > 100 && refused < 400);
  temporary_close(&t);
}

static void lies_are_named(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t count;
    const char *message;
  } cases[] = {
      {"\x0a\xff\xff\xff\xff\x0f", 6, "byte 0: a field is longer than what it stands in"},
      {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "longer than what it stands in"},
      {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "more than ten bytes"},
      {"\x0a\x05\x0a\x7f"
       "abc",
       7, "byte 2: a field is longer than what it stands in"},
      {"\x0a\x03\x15\x00\x00", 5, "the file ends inside a number"},
      {"\x0a\x00", 2, "a piece without text"},
      {"\x0a\x05\x0a\x03"
       "a\0b",
       7, "a piece with a NUL in it"},
      {"\x0a\x03\x0a\x01\xff\x0a\x03\x0a\x01\xfe", 10, "piece 0 is not UTF-8"},
      {"\x0a\x03\x0a\x01"
       "a\x0a\x03\x0a\x01"
       "a",
       10, "pieces 0 and 1 have the same text"},
      {"\x0a\x05\x0a\x01"
       "a\x18\x09",
       7, "a piece of unknown type"},
      {"\x0a\x08\x0a\x01"
       "a\x15\x00\x00\x80\x7f",
       10, "a score that is not finite"},
      {"\x0a\x03\x0a\x01"
       "a\x12\x02\x18\x03",
       9, "model_type WORD and CHAR are not supported"},
      {"\x0a\x03\x0a\x01"
       "a\x12\x02\x18\x09",
       9, "unknown model_type"},
      {"\x0a\x03\x0a\x01"
       "a\x12\x03\xc0\x01\x01",
       10, "treat_whitespace_as_suffix is not supported"},
      {"\x0b", 1, "unknown wire type"},
      {"\x02\x00", 2, "no field has that number"},
      {"", 0, "no pieces"},
      {"IQ== 0\nIg== 1\n", 14, "no pieces: no SentencePiece model"},
  };
  Temporary t;
  temporary_open(&t);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    write_bytes(temporary_path(&t, "tokenizer.model"), cases[i].bytes, cases[i].count);
    assert_null(tokenizer_open(t.directory, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].message)) fail_msg("%zu: %s", i, error.message);
  }
  temporary_close(&t);
}

static void what_no_file_has_is_refused_by_name(void **state) {
  (void)state;
  Temporary t;
  Error error = {0};
  temporary_open(&t);
  write_bytes(temporary_path(&t, "qwen.tiktoken"), "IQ== 0\n", 7);
  assert_null(tokenizer_open(t.directory, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "qwen.tiktoken: tiktoken vocabularies are not read"));
  error = (Error){0};
  assert_null(tokenizer_open_kind(t.directory, TOKENIZER_SENTENCEPIECE, &error));
  assert_non_null(strstr(error.message, "has no tokenizer.model"));
  Buffer bytes = read_model("unigram");
  write_bytes(temporary_path(&t, "tokenizer.model"), bytes.data, bytes.size);
  static const char *const classes[][2] = {{"LlamaTokenizer", "a Unigram model"},
                                           {"T5Tokenizer", "the class T5Tokenizer is not supported"},
                                           {"GPT2Tokenizer", "has no SentencePiece model"}};
  for (size_t i = 0; i < 3; i++) {
    char config[128];
    snprintf(config, sizeof config, "{\"tokenizer_class\": \"%s\"}", classes[i][0]);
    error = (Error){0};
    assert_true(file_write_text(temporary_path(&t, "tokenizer_config.json"), config, &error));
    assert_null(tokenizer_open(t.directory, &error));
    if (!strstr(error.message, classes[i][1])) fail_msg("%s", error.message);
  }
  buffer_free(&bytes);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cut_files_are_refused), cmocka_unit_test(flipped_files_are_refused_or_work),
      cmocka_unit_test(lies_are_named), cmocka_unit_test(what_no_file_has_is_refused_by_name)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
