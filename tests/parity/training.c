/* Ten updates of tiny models, with two micro-batches each, against PyTorch; and the optimisers alone
 * (tests/fixtures/make_training.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rig.h"
#include "train/optimizer.h"

static const double LOSS_TOLERANCE = 1e-4;
static const double NORM_TOLERANCE = 1e-4;   /* relative */
static const double WEIGHT_TOLERANCE = 1e-4; /* relative, per tensor, after all updates */

enum { SEQUENCES = 8, MAX_ROWS = 128 };

typedef struct Run {
  Fixture *fixture;
  const int32_t *ids, *offsets, *prompts;
  Optimizer optimizer;
  OptimizerSpec spec;
} Run;

/* Puts the sequence into the batch and its completion tokens into the rows. */
static int64_t add_sequence(Rig *rig, const Run *run, int sequence, int32_t *rows, int32_t *targets,
                            int64_t n) {
  const int32_t *ids = run->ids + run->offsets[sequence];
  const int64_t length = run->offsets[sequence + 1] - run->offsets[sequence];
  int64_t first;
  assert_true(batch_add(&rig->batch, ids, length, &first));
  for (int64_t t = run->prompts[sequence] - 1; t + 1 < length; t++, n++) {
    rows[n] = (int32_t)(first + t);
    targets[n] = ids[t + 1];
  }
  return n;
}

/* Backward of two sequences; their part of the loss of an update with `total` loss tokens. */
static double micro_batch(Rig *rig, const Run *run, int first, int64_t total) {
  int32_t rows[MAX_ROWS], targets[MAX_ROWS];
  float dlogprob[MAX_ROWS], logprob[MAX_ROWS] = {0};
  batch_clear(&rig->batch);
  int64_t count = 0;
  for (int i = 0; i < 2; i++) count = add_sequence(rig, run, first + i, rows, targets, count);
  for (int64_t n = 0; n < count; n++) dlogprob[n] = -1.0f / (float)total;
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, PASS_TRAIN);
  lm_logprobs_backward(&rig->pass, token_rows(rows, targets, count), 1, dlogprob, NULL, logprob);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
  double loss = 0;
  for (int64_t n = 0; n < count; n++) loss -= logprob[n] / (double)total;
  return loss;
}

static double update_loss(Rig *rig, const Run *run, int step) {
  const int first = 4 * step % SEQUENCES;
  int64_t total = 0;
  for (int s = first; s < first + 4; s++) total += run->offsets[s + 1] - run->offsets[s] - run->prompts[s];
  return micro_batch(rig, run, first, total) + micro_batch(rig, run, first + 2, total);
}

/* The dry run: both halves of the data, and the optimiser's memory. */
static void plan(Rig *rig, void *context) {
  Run *run = context;
  Error error = {0};
  rig_check(
      optimizer_open(&run->optimizer, &run->spec, &rig->parameters, &rig->compute, &rig->memory, &error),
      &error);
  for (int step = 0; step < 2; step++) update_loss(rig, run, step);
  double norm;
  rig_check(optimizer_step(&run->optimizer, &rig->compute, 0, &norm, &error), &error);
  optimizer_close(&run->optimizer);
}

static void load_run(Run *run, Fixture *fixture) {
  *run = (Run){.fixture = fixture,
               .ids = fixture_ints(fixture, "ids", NULL),
               .offsets = fixture_ints(fixture, "offsets", NULL),
               .prompts = fixture_ints(fixture, "prompts", NULL),
               .spec = {.kind = OPTIMIZER_ADAMW,
                        .beta1 = fixture_float(fixture, "beta1"),
                        .beta2 = fixture_float(fixture, "beta2"),
                        .eps = fixture_float(fixture, "eps"),
                        .weight_decay = fixture_float(fixture, "weight_decay"),
                        .clip = fixture_float(fixture, "clip")}};
}

static void compare_updates(Rig *rig, Run *run) {
  Error error = {0};
  int64_t steps;
  const float *lr = fixture_floats(run->fixture, "lr", &steps);
  const float *loss = fixture_floats(run->fixture, "loss", NULL);
  const float *norm = fixture_floats(run->fixture, "grad_norm", NULL);
  double worst = 0;
  for (int step = 0; step < (int)steps; step++) {
    char what[64];
    double got_norm;
    const double got = update_loss(rig, run, step);
    rig_check(optimizer_step(&run->optimizer, &rig->compute, lr[step], &got_norm, &error), &error);
    snprintf(what, sizeof what, "loss of update %d", step);
    assert_number(what, got, loss[step], LOSS_TOLERANCE);
    snprintf(what, sizeof what, "gradient norm of update %d", step);
    assert_number(what, got_norm, norm[step], NORM_TOLERANCE * norm[step]);
    worst = fmax(worst, fabs(got - loss[step]));
  }
  print_message("    worst of %d losses: %.2g\n", (int)steps, worst);
}

/* Every final.TENSOR of the fixture. */
static void compare_weights(Rig *rig, Fixture *fixture) {
  int compared = 0;
  double worst = 0;
  for (size_t i = 0; i < rig->parameters.count; i++) {
    const Parameter *p = &rig->parameters.items[i];
    char name[256];
    int64_t count;
    snprintf(name, sizeof name, "final.%s", p->name);
    if (!fixture_has(fixture, name)) continue;
    const float *want = fixture_floats(fixture, name, &count);
    assert_int_equal(count, tensor_count(p->value));
    float *got = rig_host(rig, p->value);
    assert_relative(name, got, want, count, WEIGHT_TOLERANCE);
    worst = fmax(worst, relative_difference(got, want, count));
    free(got);
    compared++;
  }
  print_message("    worst of %d tensors after training: %.2g\n", compared, worst);
  assert_true(compared >= 4);
}

static void check_training(const char *fixture_name, const char *model, const char *adapter) {
  char model_path[512], adapter_path[512];
  Fixture fixture;
  fixture_open(&fixture, fixture_name);
  Run run;
  load_run(&run, &fixture);
  RigSpec spec = {.model = fixture_path(model_path, sizeof model_path, "models", model), .train = true};
  if (adapter) spec.adapter = fixture_path(adapter_path, sizeof adapter_path, "peft", adapter);
  Rig rig;
  rig_open(&rig, spec, plan, &run);
  Error error = {0};
  rig_check(optimizer_open(&run.optimizer, &run.spec, &rig.parameters, &rig.compute, &rig.memory, &error),
            &error);
  optimizer_adopt(&run.optimizer, &rig.compute);
  compare_updates(&rig, &run);
  compare_weights(&rig, &fixture);
  optimizer_close(&run.optimizer);
  rig_close(&rig);
  fixture_close(&fixture);
}

static void test_llama(void **state) {
  (void)state;
  check_training("train/llama_steps", "llama", NULL);
}

static void test_gpt2(void **state) {
  (void)state;
  check_training("train/gpt2_steps", "gpt2", NULL);
}

static void test_llama_lora(void **state) {
  (void)state;
  check_training("train/llama_lora_steps", "llama", "llama_qv");
}

/* -- the operations alone ------------------------------------------------------------------------------------ */

typedef struct Buffers {
  Tensor p, m, v, grad;
} Buffers;

static float setting(Fixture *f, const char *name, const char *key) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s", name, key);
  return fixture_float(f, full);
}

static void operation_step(Compute *c, Fixture *f, const char *name, const Buffers *b, float lr, int step) {
  const OptimTensor t = {.p = b->p, .m.data = b->m, .v.data = b->v, .grad = b->grad, .decay = true};
  const float decay = setting(f, name, "weight_decay"), scale = setting(f, name, "grad_scale");
  if (strcmp(name, "adamw") == 0) {
    AdamStep s = {.lr = lr,
                  .beta1 = setting(f, name, "beta1"),
                  .beta2 = setting(f, name, "beta2"),
                  .eps = setting(f, name, "eps"),
                  .weight_decay = decay,
                  .grad_scale = scale};
    s.correction1 = (float)(1 - pow(s.beta1, step + 1));
    s.correction2 = (float)(1 - pow(s.beta2, step + 1));
    op_adamw(c, &t, 1, s);
  } else if (strcmp(name, "lion") == 0) {
    op_lion(c, &t, 1,
            (LionStep){.lr = lr,
                       .beta1 = setting(f, name, "beta1"),
                       .beta2 = setting(f, name, "beta2"),
                       .weight_decay = decay,
                       .grad_scale = scale});
  } else {
    op_sgd(
        c, &t, 1,
        (SgdStep){
            .lr = lr, .momentum = setting(f, name, "momentum"), .weight_decay = decay, .grad_scale = scale});
  }
}

/* All steps of one optimiser from the fixture's start; a dry run knows no results. */
static void operation_steps(Compute *c, Arena *arena, Fixture *f, const char *name) {
  char key[64];
  int64_t n, steps;
  const float *lr = fixture_floats(f, "lr", &steps);
  snprintf(key, sizeof key, "%s.p", name);
  const float *start = fixture_floats(f, key, &n);
  snprintf(key, sizeof key, "%s.grad", name);
  const float *grads = fixture_floats(f, key, NULL);
  snprintf(key, sizeof key, "%s.result", name);
  const float *results = fixture_floats(f, key, NULL);
  const size_t mark = arena_mark(arena);
  const Buffers b = {tensor_new_1d(arena, DTYPE_F32, n), tensor_new_1d(arena, DTYPE_F32, n),
                     tensor_new_1d(arena, DTYPE_F32, n), tensor_new_1d(arena, DTYPE_F32, n)};
  compute_upload(c, b.p, start);
  op_fill(c, b.m, 0);
  op_fill(c, b.v, 0);
  for (int step = 0; step < (int)steps; step++) {
    compute_upload(c, b.grad, grads + step * n);
    operation_step(c, f, name, &b, lr[step], step);
    float *p = device_values(c, b.p);
    if (!c->dry) assert_near(name, p, results + step * n, n, 1e-6);
    free(p);
  }
  arena_release(arena, mark);
}

static void test_operations(void **state) {
  (void)state;
  static const char *const names[] = {"adamw", "lion", "sgd"};
  Error error = {0};
  Compute compute;
  Arena arena;
  Fixture f;
  fixture_open(&f, "train/optimizers");
  test_device_open(&compute, 0);
  compute_dry_begin(&compute);
  arena_init_dry(&arena, "plan");
  for (size_t k = 0; k < 3; k++) operation_steps(&compute, &arena, &f, names[k]);
  rig_check(compute_dry_end(&compute, &error), &error);
  device_arena(&compute, &arena, "test", arena.peak);
  for (size_t k = 0; k < 3; k++) operation_steps(&compute, &arena, &f, names[k]);
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
  fixture_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_llama),
      cmocka_unit_test(test_gpt2),
      cmocka_unit_test(test_llama_lora),
      cmocka_unit_test(test_operations),
  };
  return cmocka_run_group_tests_name("parity/training", tests, NULL, NULL);
}
