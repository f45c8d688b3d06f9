/* Losses of SFT, PPO and the reward model on the tiny checkpoints, and the gradient of every tensor, against
 * PyTorch and TRL (tests/fixtures/make_gradients.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ppo/loss.h"
#include "reward/loss.h"
#include "tests/support/rig.h"

static const double TOLERANCE = 1e-4; /* relative, per tensor */
static const double OUTPUT_TOLERANCE = 2e-5;

/* A loss on an opened rig: fills the result from the fixture's inputs and runs the backward. */
typedef struct Run {
  Fixture *fixture;
  PassMode mode;
  RigWork *work;
  double loss;
  float output[RIG_ROWS], entropy[RIG_ROWS]; /* log-probabilities or scores */
  float doutput[RIG_ROWS], dentropy[RIG_ROWS];
  double clipped;
} Run;

static TokenRows fixture_rows(Fixture *fixture) {
  TokenRows rows = {0};
  rows.rows = fixture_ints(fixture, "rows", &rows.count);
  if (fixture_has(fixture, "targets")) rows.targets = fixture_ints(fixture, "targets", NULL);
  assert_in_range((uintmax_t)rows.count, 1, RIG_ROWS);
  return rows;
}

static void sft(Rig *rig, void *context) {
  Run *run = context;
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, run->mode);
  run->loss = rig_sft_backward(rig, run->fixture, run->output);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
}

static void ppo(Rig *rig, void *context) {
  Run *run = context;
  Fixture *f = run->fixture;
  const TokenRows rows = fixture_rows(f);
  const double weight = 1.0 / (double)rows.count;
  const float temperature = fixture_float(f, "temperature"), coef = fixture_float(f, "entropy_coef");
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, run->mode);
  lm_logprobs(&rig->pass, rows, temperature, run->output, run->entropy);
  PolicyStats stats = {0};
  const double clip = fixture_float(f, "cliprange");
  policy_loss(&(PolicyRule){.clip_low = clip, .clip_high = clip},
              &(PolicyTokens){.count = rows.count,
                              .logprob = run->output,
                              .old = fixture_floats(f, "old_logprob", NULL),
                              .advantage = fixture_floats(f, "advantage", NULL)},
              weight, run->doutput, &stats);
  entropy_bonus(rows.count, coef, weight, run->dentropy);
  lm_logprobs_backward(&rig->pass, rows, temperature, run->doutput, run->dentropy, NULL);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
  double entropy = 0;
  for (int64_t n = 0; n < rows.count; n++) entropy += run->entropy[n];
  run->loss = (stats.loss - coef * entropy) * weight;
  run->clipped = stats.clipped * weight;
}

static void reward(Rig *rig, void *context) {
  Run *run = context;
  Fixture *f = run->fixture;
  const TokenRows rows = fixture_rows(f);
  const int64_t pairs = rows.count / 2;
  const float *margin = fixture_floats(f, "margin", NULL), centring = fixture_float(f, "center");
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, run->mode);
  score_values(&rig->pass, &rig->head, rows, run->output);
  run->loss = 0;
  for (int64_t n = 0; n < pairs; n++) {
    const int32_t ranks[] = {0, 1};
    run->loss += preference_loss(run->output + 2 * n, ranks, 2, (double)margin[n], (double)centring,
                                 (double)pairs, run->doutput + 2 * n)
                     .loss;
  }
  score_values_backward(&rig->pass, &rig->head, rows, run->doutput);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
}

static void value(Rig *rig, void *context) {
  Run *run = context;
  Fixture *f = run->fixture;
  const TokenRows rows = fixture_rows(f);
  const double weight = 1.0 / (double)rows.count;
  ValueStats stats = {0};
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, run->mode);
  score_values(&rig->pass, &rig->head, rows, run->output);
  value_loss(run->output, fixture_floats(f, "old_value", NULL), fixture_floats(f, "return", NULL), rows.count,
             fixture_float(f, "cliprange_value"), weight, run->doutput, &stats);
  score_values_backward(&rig->pass, &rig->head, rows, run->doutput);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
  run->loss = stats.loss * weight;
  run->clipped = stats.clipped * weight;
}

/* Names of the arrays in the fixture, for each loss. */
typedef struct Kind {
  const char *name;
  RigWork *work;
  bool score;
  const char *output, *doutput, *dentropy, *clipped;
} Kind;

static const Kind kinds[] = {
    {"sft", sft, false, "logprob", NULL, NULL, NULL},
    {"ppo", ppo, false, "logprob", "dlogprob", "dentropy", "clipfrac"},
    {"reward", reward, true, "scores", "dscores", NULL, NULL},
    {"value", value, true, "value", "dvalue", NULL, "clipfrac"},
};

typedef struct Case {
  const char *name, *model;
  int kind;
  PassMode mode;
} Case;

static void assert_outputs(const Kind *kind, Fixture *f, Run *run) {
  int64_t count;
  const float *want = fixture_floats(f, kind->output, &count);
  assert_near(kind->output, run->output, want, count, OUTPUT_TOLERANCE);
  assert_number("loss", run->loss, fixture_float(f, "loss"), OUTPUT_TOLERANCE);
  if (kind->doutput)
    assert_relative(kind->doutput, run->doutput, fixture_floats(f, kind->doutput, NULL), count, TOLERANCE);
  if (kind->dentropy)
    assert_relative(kind->dentropy, run->dentropy, fixture_floats(f, kind->dentropy, NULL), count, TOLERANCE);
  if (kind->clipped) assert_number("clip fraction", run->clipped, fixture_float(f, kind->clipped), 1e-6);
}

static void test_gradients(void **state) {
  const Case *c = *state;
  const Kind *kind = &kinds[c->kind];
  char path[512], name[128];
  snprintf(name, sizeof name, "train/%s_%s", c->model, kind->name);
  fixture_path(path, sizeof path, "models", c->model);
  Fixture fixture;
  fixture_open(&fixture, name);
  Run run = {.fixture = &fixture, .mode = c->mode};
  Rig rig;
  rig_open(&rig, (RigSpec){.model = path, .train = true, .score = kind->score, .batch = &fixture}, kind->work,
           &run);
  kind->work(&rig, &run);
  assert_outputs(kind, &fixture, &run);
  rig_assert_gradients(&rig, &fixture, TOLERANCE);
  rig_close(&rig);
  fixture_close(&fixture);
}

/* Backward passes add: twice the same batch gives twice the gradient. */
static void test_accumulates(void **state) {
  (void)state;
  char path[512];
  Fixture fixture;
  fixture_open(&fixture, "train/gpt2_sft");
  Run run = {.fixture = &fixture, .mode = PASS_TRAIN};
  Rig rig;
  rig_open(
      &rig,
      (RigSpec){.model = fixture_path(path, sizeof path, "models", "gpt2"), .train = true, .batch = &fixture},
      sft, &run);
  sft(&rig, &run);
  sft(&rig, &run);
  for (size_t i = 0; i < rig.parameters.count; i++)
    op_axpby(&rig.compute, rig.parameters.items[i].grad, rig.parameters.items[i].grad, 0.5f, 0);
  rig_assert_gradients(&rig, &fixture, TOLERANCE);
  rig_close(&rig);
  fixture_close(&fixture);
}

int main(void) {
  enum { SFT, PPO, REWARD, VALUE };
  static Case cases[] = {
      {"llama sft", "llama", SFT, PASS_TRAIN},
      {"llama sft, recomputed", "llama", SFT, PASS_RECOMPUTE},
      {"mistral sft", "mistral", SFT, PASS_TRAIN},
      {"qwen2 sft", "qwen2", SFT, PASS_TRAIN},
      {"qwen3 sft", "qwen3", SFT, PASS_TRAIN},
      {"gpt_neox sft", "gpt_neox", SFT, PASS_TRAIN},
      {"gpt_neox sft, recomputed", "gpt_neox", SFT, PASS_RECOMPUTE},
      {"gpt_neox_sequential sft", "gpt_neox_sequential", SFT, PASS_TRAIN},
      {"gpt2 sft", "gpt2", SFT, PASS_TRAIN},
      {"gpt2 sft, recomputed", "gpt2", SFT, PASS_RECOMPUTE},
      {"llama ppo", "llama", PPO, PASS_TRAIN},
      {"qwen2 ppo", "qwen2", PPO, PASS_TRAIN},
      {"gpt_neox ppo", "gpt_neox", PPO, PASS_TRAIN},
      {"gpt2 ppo", "gpt2", PPO, PASS_TRAIN},
      {"llama reward", "llama_score", REWARD, PASS_TRAIN},
      {"gpt2 reward", "gpt2_score", REWARD, PASS_TRAIN},
      {"llama value", "llama_score", VALUE, PASS_TRAIN},
  };
  enum { COUNT = sizeof cases / sizeof *cases };
  struct CMUnitTest tests[COUNT + 1];
  for (size_t i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){cases[i].name, test_gradients, NULL, NULL, &cases[i]};
  tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(test_accumulates);
  return cmocka_run_group_tests_name("parity/gradients", tests, NULL, NULL);
}
