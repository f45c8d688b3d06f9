/* The vocabulary of a damaged GGUF file: an error with exit code 4 that names the file, or a tokenizer that works. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/random.h"
#include "tokenizer/tokenizer.h"

static Buffer read_gguf(const char *name) {
  char path[512];
  Error error = {0};
  Buffer bytes = {0};
  snprintf(path, sizeof path, FIXTURES "/tokenizer/sources/%s.gguf", name);
  if (!file_read(path, &bytes, &error)) fail_msg("%s", error.message);
  return bytes;
}

static const char *write_gguf(Temporary *t, const Buffer *bytes) {
  const char *path = temporary_path(t, "model.gguf");
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes->data, 1, bytes->size, file), bytes->size);
  fclose(file);
  return path;
}

/* Replaces the first place of `from` by as many bytes. */
static void replace(Buffer *bytes, const char *from, const char *to) {
  const size_t length = strlen(from);
  for (size_t i = 0; i + length <= bytes->size; i++) {
    if (memcmp(bytes->data + i, from, length) != 0) continue;
    memcpy(bytes->data + i, to, length);
    return;
  }
  fail_msg("no %s in the file", from);
}

static void what_is_not_known_is_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *file, *from, *to, *message;
  } cases[] = {
      {"bytes-smollm", "smollm", "smollX", "tokenizer.ggml.pre: the patterns of 'smollX' are not known"},
      {"bytes-smollm", "gpt2", "gptX", "tokenizer.ggml.model: 'gptX' is not supported"},
      {"bytes-smollm", "ggml.merges", "ggml.mergeX", "tokenizer.ggml.merges: missing"},
      {"llama", "ggml.scores", "ggml.scoreX", "tokenizer.ggml.scores: missing"},
      {"llama", "ggml.tokens", "ggml.tokenX", "tokenizer.ggml.tokens: missing"},
      {"llama", "ggml.model", "ggml.modeX", "tokenizer.ggml.model: missing"},
      {"llama", "</s>", "<unk", ""},
      {"llama", "</s>", "\xff/s>", "token 2 is empty or no UTF-8 text"},
  };
  Temporary t;
  temporary_open(&t);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    Buffer bytes = read_gguf(cases[i].file);
    replace(&bytes, cases[i].from, cases[i].to);
    Tokenizer *tokenizer = tokenizer_open(write_gguf(&t, &bytes), &error);
    if (*cases[i].message) {
      assert_null(tokenizer);
      assert_int_equal(error.code, ERROR_MODEL);
      if (!strstr(error.message, cases[i].message)) fail_msg("%zu: %s", i, error.message);
    } else if (!tokenizer) {
      fail_msg("%zu: %s", i, error.message);
    }
    tokenizer_free(tokenizer);
    buffer_free(&bytes);
  }
  temporary_close(&t);
}

static void flipped_files_are_refused_or_work(void **state) {
  (void)state;
  const RandomKey key = random_key(12, RANDOM_TEST);
  static const char text[] = "Hello  <s> w\xc3\xb6rld\n 123 \xe6\x97\xa9";
  Temporary t;
  temporary_open(&t);
  size_t refused = 0;
  for (uint64_t round = 0; round < 300; round++) {
    Error error = {0};
    IntArray ids = {0};
    Buffer back = {0}, bytes = read_gguf(round % 2 ? "llama" : "bytes-llama-bpe");
    for (uint64_t k = 0; k < 1 + round % 3; k++) {
      const uint32_t at = random_below(key, round, 2 * k, (uint32_t)(round % 3 ? bytes.size : 700));
      bytes.data[at] = (char)random_below(key, round, 2 * k + 1, 256);
    }
    if (round % 5 == 0) bytes.size -= random_below(key, round, 99, (uint32_t)bytes.size);
    Tokenizer *tokenizer = tokenizer_open(write_gguf(&t, &bytes), &error);
    if (tokenizer) {
      if (tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &error))
        assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, false, &back, &error));
      tokenizer_free(tokenizer);
    } else {
      refused++;
      if (error.code != ERROR_MODEL || !strstr(error.message, "model.gguf"))
        fail_msg("code %d: %s", (int)error.code, error.message);
    }
    int_array_free(&ids);
    buffer_free(&back);
    buffer_free(&bytes);
  }
  print_message("%zu of 300 refused\n", refused);
  assert_true(refused > 100 && refused < 300);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_not_known_is_refused_by_name),
                                     cmocka_unit_test(flipped_files_are_refused_or_work)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
