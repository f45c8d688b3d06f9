/* The trainer learns the same vocabulary and merges as `tokenizers`' BpeTrainer (fixtures/tokenizer/trained.json). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/train.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const special[] = {"<|endoftext|>", "<|pad|>"};

static json_t *load(const char *directory, const char *name) {
  char path[512];
  json_error_t problem;
  snprintf(path, sizeof path, "%s/%s", directory, name);
  json_t *root = json_load_file(path, 0, &problem);
  if (!root) fail_msg("%s: %s", path, problem.text);
  return root;
}

static void check_merges(const char *directory, const json_t *expected) {
  json_t *file = load(directory, "tokenizer.json");
  json_t *merges = json_object_get(json_object_get(file, "model"), "merges");
  assert_int_equal(json_array_size(merges), json_array_size(expected));
  for (size_t i = 0; i < json_array_size(merges); i++) {
    json_t *pair = json_array_get(merges, i);
    char text[256];
    snprintf(text, sizeof text, "%s %s", json_string_value(json_array_get(pair, 0)),
             json_string_value(json_array_get(pair, 1)));
    assert_string_equal(text, json_string_value(json_array_get(expected, i)));
  }
  json_decref(file);
}

static void check_case(const char *directory, const json_t *item) {
  Error error = {0};
  TokenizerTraining training = {
      .vocab_size = 600,
      .min_frequency = (int)json_integer_value(json_object_get(item, "min_frequency")),
      .split = strcmp(json_string_value(json_object_get(item, "split")), "gpt2") == 0
                   ? TOKENIZER_SPLIT_GPT2
                   : TOKENIZER_SPLIT_LLAMA3,
      .special = special,
      .special_count = 2,
      .eos = special[0],
      .pad = special[1]};
  int size = 0;
  TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
  assert_non_null(trainer);
  assert_true(tokenizer_trainer_add_file(trainer, FIXTURES "/tokenizer/training.txt", &error));
  if (!tokenizer_trainer_write(trainer, directory, &size, &error)) fail_msg("%s", error.message);
  tokenizer_trainer_free(trainer);
  const json_t *tokens = json_object_get(item, "tokens");
  assert_int_equal(size, json_array_size(tokens));
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  assert_int_equal(tokenizer_vocab_size(tokenizer), size);
  for (int id = 0; id < size; id++)
    assert_string_equal(tokenizer_token(tokenizer, id),
                        json_string_value(json_array_get(tokens, (size_t)id)));
  assert_int_equal(tokenizer_eos(tokenizer), 0);
  assert_int_equal(tokenizer_pad(tokenizer), 1);
  check_merges(directory, json_object_get(item, "merges"));
  tokenizer_free(tokenizer);
}

static void test_trainer(void **state) {
  (void)state;
  char directory[] = "/tmp/drover-train-XXXXXX";
  assert_non_null(mkdtemp(directory));
  json_t *root = load(FIXTURES "/tokenizer", "trained.json");
  assert_int_equal(json_array_size(root), 4);
  for (size_t i = 0; i < json_array_size(root); i++) check_case(directory, json_array_get(root, i));
  Error error = {0};
  assert_true(directory_remove_all(directory, &error));
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_trainer)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
