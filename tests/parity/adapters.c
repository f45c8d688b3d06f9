/* Adapters saved by PEFT: outputs, gradients, saving again, and merging (tests/fixtures/make_adapters.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rig.h"
#include "tests/support/saved.h"
#include "tests/temporary.h"

static const double TOLERANCE = 1e-5;
static const double GRADIENT_TOLERANCE = 1e-4;

typedef struct Case {
  const char *name, *model;
  bool score;
} Case;

typedef struct Work {
  Fixture *fixture;
  float *out; /* of all tokens */
  double loss;
} Work;

/* The output of every token. */
static void forward(Rig *rig, void *context) {
  Work *work = context;
  rig_outputs(rig, work->out);
}

/* loss = mean square of the scores of the last tokens */
static void backward_score(Rig *rig, Work *work) {
  int32_t last[16];
  float score[16], dscore[16];
  const int64_t count = rig->batch.sequences;
  for (int64_t b = 0; b < count; b++) last[b] = rig->batch.offsets[b + 1] - 1;
  const TokenRows rows = {.rows = last, .count = count};
  score_values(&rig->pass, &rig->head, rows, score);
  work->loss = 0;
  for (int64_t b = 0; b < count; b++) {
    dscore[b] = 2 * score[b] / (float)count;
    work->loss += score[b] * score[b] / (double)count;
  }
  score_values_backward(&rig->pass, &rig->head, rows, dscore);
}

/* The output of every token, then the loss and the gradients of the adapter. */
static void forward_backward(Rig *rig, void *context) {
  Work *work = context;
  forward(rig, work);
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, PASS_TRAIN);
  if (rig->spec.score) {
    backward_score(rig, work);
  } else {
    float logprob[RIG_ROWS];
    work->loss = rig_sft_backward(rig, work->fixture, logprob);
  }
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
}

typedef struct Loaded {
  Fixture fixture;
  Work work;
  Rig rig;
  const float *want;
  int64_t count;
  char model[512], adapter[512];
} Loaded;

static void prepare(Loaded *l, const Case *c) {
  char name[128];
  snprintf(name, sizeof name, "peft/%s/expected", c->name);
  fixture_open(&l->fixture, name);
  l->want = fixture_floats(&l->fixture, c->score ? "scores" : "logits", &l->count);
  l->work = (Work){.fixture = &l->fixture};
  l->work.out = calloc((size_t)l->count, sizeof(float));
  fixture_path(l->model, sizeof l->model, "models", c->model);
  fixture_path(l->adapter, sizeof l->adapter, "peft", c->name);
}

static void release(Loaded *l) {
  fixture_close(&l->fixture);
  free(l->work.out);
}

static void test_adapter(void **state) {
  const Case *c = *state;
  Loaded l;
  prepare(&l, c);
  const RigSpec spec = {
      .model = l.model, .adapter = l.adapter, .train = true, .score = c->score, .batch = &l.fixture};
  rig_open(&l.rig, spec, forward_backward, &l.work);
  forward_backward(&l.rig, &l.work);
  print_message("    %s: largest difference %.2g\n", c->name,
                largest_difference(l.work.out, l.want, l.count));
  assert_near(c->name, l.work.out, l.want, l.count, TOLERANCE);
  assert_number("loss", l.work.loss, fixture_float(&l.fixture, "loss"), TOLERANCE);
  rig_assert_gradients(&l.rig, &l.fixture, GRADIENT_TOLERANCE);
  rig_close(&l.rig);
  release(&l);
}

/* -- saving: the same names, shapes and values as PEFT's file, and the same outputs when loaded ------------- */

static void save_adapter(Rig *rig, const char *directory) {
  Error error = {0};
  float *score = rig->spec.score ? rig_host(rig, rig->head.weight) : NULL;
  rig_check(lora_save(&rig->adapter, score, rig->model.spec.hidden, (ScoreZero){0},
                      (LoraBase){"models/base", NULL}, directory, &rig->compute, &error),
            &error);
  free(score);
}

static void test_save(void **state) {
  const Case *c = *state;
  Loaded l;
  Temporary folder;
  temporary_open(&folder);
  char saved[512];
  snprintf(saved, sizeof saved, "%s", temporary_path(&folder, "adapter"));
  prepare(&l, c);
  RigSpec spec = {.model = l.model, .adapter = l.adapter, .score = c->score, .batch = &l.fixture};
  rig_open(&l.rig, spec, forward, &l.work);
  save_adapter(&l.rig, saved);
  rig_close(&l.rig);
  assert_same_tensors(saved, l.adapter, "adapter_model");
  spec.adapter = saved;
  rig_open(&l.rig, spec, forward, &l.work);
  forward(&l.rig, &l.work);
  assert_near(c->name, l.work.out, l.want, l.count, TOLERANCE);
  rig_close(&l.rig);
  release(&l);
  temporary_close(&folder);
}

/* -- merging: a directory without adapter that gives the same outputs --------------------------------------- */

static void test_merge(void **state) {
  const Case *c = *state;
  Error error = {0};
  Loaded l;
  Temporary folder;
  temporary_open(&folder);
  char merged[512];
  snprintf(merged, sizeof merged, "%s", temporary_path(&folder, "merged"));
  prepare(&l, c);
  RigSpec spec = {.model = l.model, .adapter = l.adapter, .score = c->score, .batch = &l.fixture};
  rig_open(&l.rig, spec, forward, &l.work);
  rig_check(model_save(&l.rig.model, c->score ? &l.rig.head : NULL, &l.rig.adapter, NULL, l.model, merged,
                       DTYPE_F32, &l.rig.compute, &error),
            &error);
  rig_close(&l.rig);
  spec.model = merged;
  spec.adapter = NULL;
  rig_open(&l.rig, spec, forward, &l.work);
  forward(&l.rig, &l.work);
  print_message("    %s merged: largest difference %.2g\n", c->name,
                largest_difference(l.work.out, l.want, l.count));
  assert_near(c->name, l.work.out, l.want, l.count, TOLERANCE);
  rig_close(&l.rig);
  release(&l);
  temporary_close(&folder);
}

/* The right scale matters: alpha / sqrt(r) is not alpha / r, and one module's own rank and alpha count. */
static void test_scale_matters(void **state) {
  (void)state;
  static const Case cases[] = {{"gpt_neox_rslora", "gpt_neox", false}, {"llama_pattern", "llama", false}};
  for (size_t i = 0; i < 2; i++) {
    Loaded l;
    prepare(&l, &cases[i]);
    rig_open(&l.rig, (RigSpec){.model = l.model, .adapter = l.adapter, .batch = &l.fixture}, forward,
             &l.work);
    for (int id = 0; id < l.rig.adapter.count; id++)
      l.rig.adapter.pairs[id].scale = (float)(l.rig.adapter.spec.alpha / l.rig.adapter.spec.r);
    forward(&l.rig, &l.work);
    assert_true(largest_difference(l.work.out, l.want, l.count) > 100 * TOLERANCE);
    rig_close(&l.rig);
    release(&l);
  }
}

int main(void) {
  static Case cases[] = {
      {"llama_qv", "llama", false},         {"llama_all", "llama", false},
      {"llama_pattern", "llama", false},    {"gpt2_c_attn", "gpt2", false},
      {"gpt2_all", "gpt2", false},          {"gpt_neox_rslora", "gpt_neox", false},
      {"cls_llama", "llama", true},         {"llama_tables", "llama", false},
      {"llama_carried", "llama", false},    {"llama_saved", "llama", false},
      {"qwen2_embed", "qwen2", false},      {"qwen2_head", "qwen2", false},
      {"qwen2_tied", "qwen2", false},       {"qwen2_saved", "qwen2", false},
      {"qwen2_saved_tied", "qwen2", false}, {"gpt2_tables", "gpt2", false},
      {"gpt2_saved", "gpt2", false},        {"cls_llama_saved", "llama", true},
  };
  enum { COUNT = sizeof cases / sizeof *cases };
  static char names[3 * COUNT][64];
  struct CMUnitTest tests[3 * COUNT + 1];
  static const struct {
    const char *name;
    CMUnitTestFunction run;
  } kinds[] = {{"load", test_adapter}, {"save", test_save}, {"merge", test_merge}};
  for (size_t i = 0; i < COUNT; i++)
    for (size_t k = 0; k < 3; k++) {
      char *name = names[3 * i + k];
      snprintf(name, sizeof names[0], "%s %s", kinds[k].name, cases[i].name);
      tests[3 * i + k] = (struct CMUnitTest){name, kinds[k].run, NULL, NULL, &cases[i]};
    }
  tests[3 * COUNT] = (struct CMUnitTest)cmocka_unit_test(test_scale_matters);
  return cmocka_run_group_tests_name("parity/adapters", tests, NULL, NULL);
}
