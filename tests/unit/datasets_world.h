/* What the tests of data sets share: a tokenizer, trained on the spot (bytes and a few merges, with BOS in front and ChatML's
 * marks), templates over it, and a folder for files. Any failure fails the running test. */
#ifndef TESTS_UNIT_DATASETS_WORLD_H
#define TESTS_UNIT_DATASETS_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/dataset.h"
#include "tests/temporary.h"
#include "tokenizer/train.h"

#include <string.h>
#include <unistd.h>

typedef struct World {
  Temporary temporary;
  Tokenizer *tokenizer;
  ChatTemplate chatml, plain, alpaca;
} World;

static inline int open_world(void **state) {
  static World world;
  Error error = {0};
  static const char *const special[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
  TokenizerTraining training = {.vocab_size = 300,
                                .special = special,
                                .special_count = 4,
                                .bos = "<s>",
                                .eos = "</s>",
                                .add_bos = true,
                                .chat_template = tokenizer_chatml_template};
  temporary_open(&world.temporary);
  char *directory = memory_copy_string(temporary_path(&world.temporary, "tokenizer"));
  TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
  const char *text = "Blue is one. Hello! See you. Name a colour. Be short. Hi. Bye. the sea and the ships";
  bool ok = trainer && tokenizer_trainer_add_text(trainer, text, strlen(text), &error) &&
            tokenizer_trainer_write(trainer, directory, NULL, &error) &&
            (world.tokenizer = tokenizer_open(directory, &error)) &&
            chat_template_init(&world.chatml, world.tokenizer, &(ChatOptions){.name = "chatml"}, &error) &&
            chat_template_init(&world.plain, world.tokenizer, &(ChatOptions){.name = "plain"}, &error) &&
            chat_template_init(&world.alpaca, world.tokenizer, &(ChatOptions){.name = "alpaca"}, &error);
  if (!ok) fprintf(stderr, "%s\n", error.message);
  tokenizer_trainer_free(trainer);
  memory_free(directory);
  *state = &world;
  return ok ? 0 : -1;
}

static inline int close_world(void **state) {
  World *world = *state;
  chat_template_free(&world->chatml);
  chat_template_free(&world->plain);
  chat_template_free(&world->alpaca);
  tokenizer_free(world->tokenizer);
  temporary_close(&world->temporary);
  return 0;
}

static inline DatasetOptions options_of(World *world, DatasetKind kind) {
  static char cache[512];
  snprintf(cache, sizeof cache, "%s/cache", world->temporary.directory);
  return (DatasetOptions){.name = "data.train",
                          .kind = kind,
                          .tokenizer = world->tokenizer,
                          .chat = &world->chatml,
                          .max_length = 512,
                          .seed = 1,
                          .cache_dir = cache};
}

static inline void open_fixture(Dataset *dataset, const char *name, const DatasetOptions *options) {
  Error error = {0};
  char path[512];
  snprintf(path, sizeof path, "%s/data/%s", FIXTURES, name);
  bool ok = dataset_open_file(dataset, path, options, &error);
  if (!ok) fprintf(stderr, "%s\n", error.message);
  assert_true(ok);
}

static inline Example example_at(const Dataset *dataset, uint64_t number) {
  return dataset_example(dataset, dataset_reference(dataset, number));
}

static inline void write_text(const char *path, const char *text) {
  Error error = {0};
  assert_true(file_write_text(path, text, &error));
}

/* Text of the ids [begin, end) that pass the mask, special tokens shown. */
static inline void expect_text(const World *world, const int *ids, const uint8_t *mask, int begin, int end,
                               const char *expected) {
  Buffer text = {0};
  Error error = {0};
  int kept[512], count = 0;
  for (int i = begin; i < end; i++) {
    if (!mask || mask[i]) kept[count++] = ids[i];
  }
  assert_true(tokenizer_decode(world->tokenizer, kept, (size_t)count, false, &text, &error));
  assert_string_equal(text.data ? text.data : "", expected);
  buffer_free(&text);
}

/* The ids of an answer of a preference, with those of its prompt before them. */
typedef struct Sequence {
  int ids[512], count;
} Sequence;

static inline Sequence answer_of(const Example *example, int k) {
  const ExampleAnswer *answer = &example->answers[k];
  Sequence all = {.count = example->count + answer->count};
  assert_true(k < example->answer_count && all.count <= 512);
  memcpy(all.ids, example->ids, (size_t)example->count * sizeof(int));
  memcpy(all.ids + example->count, example->ids + answer->begin, (size_t)answer->count * sizeof(int));
  return all;
}

/* Text of an answer, special tokens shown. */
static inline void expect_answer(const World *world, const Example *example, int k, const char *expected) {
  const ExampleAnswer *answer = &example->answers[k];
  expect_text(world, example->ids, NULL, answer->begin, answer->begin + answer->count, expected);
}

static inline void expect_loss(const World *world, const Example *example, const char *expected) {
  int count = 0;
  for (int i = 0; i < example->count; i++) count += example->loss[i];
  assert_int_equal(count, example->loss_count);
  assert_int_equal(example->loss[0], 0);
  assert_int_equal(example->loss[example->prompt_count], 1);
  for (int i = 0; i < example->prompt_count; i++) assert_int_equal(example->loss[i], 0);
  expect_text(world, example->ids, example->loss, 0, example->count, expected);
}

/* A sink for a log: lines, each after 1 (a warning) or 0. */
static inline void keep_line(void *context, LogLevel level, const char *text) {
  char *lines = context;
  size_t used = strlen(lines);
  snprintf(lines + used, 2048 - used, "%d %s\n", level >= LOG_WARNING, text);
}

#endif
