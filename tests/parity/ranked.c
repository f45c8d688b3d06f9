/* The reward loss of prompts with two to seven answers, some of equal rank, from the records to the gradient of every trained
 * tensor, as the stage goes, against PyTorch in fp64 (tests/fixtures/make_runs.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "reward/judgement.h"
#include "tests/support/rig.h"
#include "tests/temporary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 1e-6;

enum { MOST_SEQUENCES = 32 };

typedef struct Lab {
  Dataset data;
  double centring, loss;
  int32_t last[MOST_SEQUENCES];
  float scores[MOST_SEQUENCES], slopes[MOST_SEQUENCES];
} Lab;

static void open_data(Lab *lab, const char *tokenizer_directory, const char *cache) {
  Error error = {0};
  Tokenizer *tokenizer = tokenizer_open(tokenizer_directory, &error);
  rig_check(tokenizer != NULL, &error);
  ChatTemplate plain;
  rig_check(chat_template_init(&plain, tokenizer, &(ChatOptions){.name = "plain"}, &error), &error);
  const DatasetOptions options = {.name = "data",
                                  .kind = DATASET_PREFERENCE,
                                  .tokenizer = tokenizer,
                                  .chat = &plain,
                                  .max_length = 64,
                                  .cache_dir = cache};
  rig_check(dataset_open_file(&lab->data, FIXTURES "/runs/ranked.jsonl", &options, &error), &error);
  chat_template_free(&plain);
  tokenizer_free(tokenizer);
}

static void fill_batch(Rig *rig, Lab *lab) {
  batch_clear(&rig->batch);
  for (uint64_t i = 0; i < lab->data.count; i++) {
    const Example example = dataset_example(&lab->data, dataset_reference(&lab->data, i));
    for (int k = 0; k < example.answer_count; k++) {
      const ExampleAnswer *answer = &example.answers[k];
      int64_t first;
      assert_true(batch_add(&rig->batch, example.ids, example.count, &first));
      assert_true(batch_extend(&rig->batch, example.ids + answer->begin, answer->count));
      lab->last[rig->batch.sequences - 1] = (int32_t)(rig->batch.tokens - 1);
    }
  }
}

static void lose(Lab *lab) {
  lab->loss = 0;
  for (uint64_t i = 0, at = 0; i < lab->data.count; i++) {
    const Example example = dataset_example(&lab->data, dataset_reference(&lab->data, i));
    lab->loss += example_loss(&example, lab->scores + at, &(RewardAlgorithm){.centring = lab->centring},
                              (double)lab->data.count, lab->slopes + at)
                     .loss;
    at += (uint64_t)example.answer_count;
  }
}

/* One update of all prompts. */
static void learn(Rig *rig, void *context) {
  Lab *lab = context;
  fill_batch(rig, lab);
  const TokenRows last = token_rows(lab->last, NULL, rig->batch.sequences);
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, PASS_TRAIN);
  score_values(&rig->pass, &rig->head, last, lab->scores);
  lab->loss = 0;
  for (uint64_t i = 0, at = 0; i < lab->data.count; i++) {
    const Example example = dataset_example(&lab->data, dataset_reference(&lab->data, i));
    lab->loss += example_loss(&example, lab->scores + at, &(RewardAlgorithm){.centring = lab->centring},
                              (double)lab->data.count, lab->slopes + at)
                     .loss;
    at += (uint64_t)example.answer_count;
  }
  score_values_backward(&rig->pass, &rig->head, last, lab->slopes);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
}

/* The loss alone, of the oracle's scores. */
static void compare_loss(Lab *lab, Fixture *fixture) {
  int64_t count;
  const float *scores = fixture_floats(fixture, "scores", &count);
  assert_in_range((uintmax_t)count, 1, MOST_SEQUENCES);
  memcpy(lab->scores, scores, (size_t)count * sizeof *scores);
  lose(lab);
  assert_number("loss of given scores", lab->loss, (double)fixture_float(fixture, "loss"), TOLERANCE);
  assert_relative("gradient by given scores", lab->slopes, fixture_floats(fixture, "dscores", NULL), count,
                  TOLERANCE);
}

/* No element of the gradient of all tensors together is off by more than 1e-6 of its length. */
static void compare_gradient(Rig *rig, Fixture *fixture) {
  double square = 0, worst = 0;
  for (size_t i = 0; i < rig->parameters.count; i++) {
    const Parameter *p = &rig->parameters.items[i];
    char name[256];
    int64_t count;
    rig_gradient_name(rig, fixture, p, name, sizeof name);
    const float *want = fixture_floats(fixture, name, &count);
    float *got = rig_host(rig, p->grad);
    for (int64_t k = 0; k < count; k++) square += (double)want[k] * (double)want[k];
    worst = fmax(worst, largest_difference(got, want, count));
    free(got);
  }
  print_message("    gradient: within %.2g of its length\n", worst / sqrt(square));
  assert_true(worst <= TOLERANCE * sqrt(square));
}

static void compare(const char *model, const char *adapter, const char *name) {
  Temporary folder;
  Fixture fixture;
  Rig rig;
  Lab lab = {0};
  temporary_open(&folder);
  fixture_open(&fixture, name);
  lab.centring = (double)fixture_float(&fixture, "center");
  open_data(&lab, model, folder.directory);
  compare_loss(&lab, &fixture);
  rig_open(&rig, (RigSpec){.model = model, .adapter = adapter, .train = true, .score = true}, learn, &lab);
  learn(&rig, &lab);
  assert_number("loss", lab.loss, (double)fixture_float(&fixture, "loss"), TOLERANCE);
  compare_gradient(&rig, &fixture);
  /* Single tensors to twice what PyTorch's own fp32 is away from its fp64. */
  rig_assert_gradients(&rig, &fixture, 2 * (double)fixture_float(&fixture, "rounding"));
  rig_close(&rig);
  dataset_close(&lab.data);
  fixture_close(&fixture);
  temporary_close(&folder);
}

static void all_weights(void **state) {
  (void)state;
  compare("fixtures/runs/reward", NULL, "train/ranked");
}

static void an_adapter(void **state) {
  (void)state;
  compare("fixtures/runs/policy", "fixtures/runs/reward_adapter", "train/ranked_lora");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_weights),
      cmocka_unit_test(an_adapter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
