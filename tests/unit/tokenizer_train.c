/* Training a tokenizer: its own checks, and that the result opens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[] = "/tmp/drover-trainer-XXXXXX";

static int set_up(void **state) {
  (void)state;
  return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  Error error = {0};
  return directory_remove_all(directory, &error) ? 0 : -1;
}

static void expect_training(TokenizerTraining training, const char *says) {
  Error error = {0};
  assert_null(tokenizer_trainer_open(&training, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  if (!strstr(error.message, says)) fail_msg("\"%s\" does not say \"%s\"", error.message, says);
}

static void test_training(void **state) {
  (void)state;
  static const char *const special[] = {"<|im_start|>", "<|im_end|>"}, *const twice[] = {"a", "a"},
                           *const bad[] = {"\xff"};
  TokenizerTraining good = {.vocab_size = 300,
                            .special = special,
                            .special_count = 2,
                            .bos = special[0],
                            .eos = special[1],
                            .add_bos = true,
                            .chat_template = tokenizer_chatml_template,
                            .model_max_length = 64};
  TokenizerTraining wrong = good;
  wrong.vocab_size = 257;
  expect_training(wrong, "need 258");
  wrong = good;
  wrong.eos = "</s>";
  expect_training(wrong, "</s> is not among");
  wrong = good;
  wrong.bos = NULL;
  expect_training(wrong, "needs a BOS");
  expect_training((TokenizerTraining){.vocab_size = 300, .special = twice, .special_count = 2},
                  "given twice");
  expect_training((TokenizerTraining){.vocab_size = 300, .special = bad, .special_count = 1}, "not UTF-8");

  Error error = {0};
  int size = 0;
  TokenizerTrainer *trainer = tokenizer_trainer_open(&good, &error);
  assert_non_null(trainer);
  assert_true(tokenizer_trainer_add_text(trainer, "abab<|im_end|>abab", 18, &error));
  assert_true(tokenizer_trainer_write(trainer, directory, &size, &error));
  assert_int_equal(size,
                   260); /* ab, abab: no pair is left, and the special token's letters were not counted */
  tokenizer_trainer_free(trainer);
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  assert_true(tokenizer_adds_bos(tokenizer));
  assert_string_equal(tokenizer_chat_template(tokenizer, "default"), tokenizer_chatml_template);
  tokenizer_free(tokenizer);
}

static void test_training_out_of_memory(void **state) {
  (void)state;
  TokenizerTraining training = {.vocab_size = 300};
  long failures = 0;
  for (long allowed = 0;; allowed += 1 + allowed / 16) {
    Error error = {0};
    memory_fail_after(allowed);
    TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
    bool done = trainer && tokenizer_trainer_add_text(trainer, "the cat and the hat", 19, &error) &&
                tokenizer_trainer_write(trainer, directory, NULL, &error);
    memory_fail_after(-1);
    tokenizer_trainer_free(trainer);
    if (done) break;
    assert_int_equal(error.code, ERROR_MEMORY);
    failures++;
  }
  assert_true(failures > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_training_out_of_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
