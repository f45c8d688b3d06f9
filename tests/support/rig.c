#include "tests/support/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RIG_TOKENS = 320, RIG_SEQUENCES = 32 };

void rig_check(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

/* The score head: from the adapter's directory if it has one, else from the model's. */
static void open_head(Rig *rig) {
  Error error = {0};
  const char *from = rig->spec.adapter ? rig->spec.adapter : rig->spec.model;
  rig_check(score_head_open(&rig->head, &rig->model, from, true, 0, &rig->compute, &rig->memory, &error),
            &error);
  if (!rig->spec.train) return;
  rig->head.weight_grad = tensor_new_like(&rig->memory, rig->head.weight, DTYPE_F32);
  op_fill(&rig->compute, rig->head.weight_grad, 0);
  const Parameter p = {
      .name = "score.weight", .value = rig->head.weight, .grad = rig->head.weight_grad, .decay = true};
  rig_check(parameter_list_push(&rig->parameters, p, &error), &error);
}

/* Everything in rig->memory, which is dry in the planning run. */
static void open_parts(Rig *rig) {
  Error error = {0};
  const RigSpec *spec = &rig->spec;
  Compute *c = &rig->compute;
  rig_check(
      model_open(&rig->model, spec->model, (WeightFormat){.dtype = spec->dtype}, c, &rig->memory, &error),
      &error);
  if (!c->dry) rig_check(model_read(&rig->model, spec->model, c, NULL, &error), &error);
  model_set_context(&rig->model, c, rig->longest);
  if (spec->adapter) {
    LoraSpec lora = {0};
    rig_check(lora_spec_read(&lora, spec->adapter, &error), &error);
    rig_check(lora_open(&rig->adapter, &lora, rig->model.modules, rig->model.module_count, rig->model.dtype,
                        spec->train, c, &rig->memory, &error),
              &error);
    lora_spec_free(&lora);
    rig->adapter.spec.dropout = 0; /* the oracle had none */
    if (!c->dry) rig_check(lora_read(&rig->adapter, spec->adapter, c, &error), &error);
    if (spec->train) rig_check(lora_parameters(&rig->adapter, &rig->parameters, &error), &error);
  } else if (spec->train) {
    rig_check(model_make_trainable(&rig->model, c, &rig->memory, &rig->parameters, &error), &error);
  }
  if (spec->score) open_head(rig);
  rig_check(pass_init(&rig->pass, &rig->model, &error), &error);
}

static void close_parts(Rig *rig) {
  pass_free(&rig->pass);
  parameter_list_free(&rig->parameters);
  if (rig->spec.adapter) lora_free(&rig->adapter);
  rig->head = (ScoreHead){0};
  model_free(&rig->model);
}

static void fill_batch(Rig *rig) {
  Error error = {0};
  rig_check(batch_init(&rig->batch, RIG_TOKENS, RIG_SEQUENCES, &error), &error);
  if (!rig->spec.batch) return;
  int64_t offsets;
  const int32_t *ids = fixture_ints(rig->spec.batch, "ids", NULL);
  const int32_t *offset = fixture_ints(rig->spec.batch, "offsets", &offsets);
  for (int64_t b = 0; b + 1 < offsets; b++) {
    int64_t first;
    assert_true(batch_add(&rig->batch, ids + offset[b], offset[b + 1] - offset[b], &first));
    assert_int_equal(first, offset[b]);
    if (offset[b + 1] - offset[b] > rig->longest) rig->longest = offset[b + 1] - offset[b];
  }
}

void rig_open(Rig *rig, RigSpec spec, RigWork *work, void *context) {
  Error error = {0};
  *rig = (Rig){.spec = spec};
  test_device_open(&rig->compute, 0);
  fill_batch(rig);
  arena_init_dry(&rig->memory, "memory");
  arena_init_dry(&rig->step, "step");
  compute_dry_begin(&rig->compute);
  open_parts(rig);
  work(rig, context);
  close_parts(rig);
  rig_check(compute_dry_end(&rig->compute, &error), &error);
  const size_t memory = rig->memory.peak, step = rig->step.peak;
  rig_check(compute_arena(&rig->compute, &rig->memory, "memory", memory, &error), &error);
  rig_check(compute_arena(&rig->compute, &rig->step, "step", step, &error), &error);
  open_parts(rig);
}

void rig_close(Rig *rig) {
  close_parts(rig);
  batch_free(&rig->batch);
  compute_arena_free(&rig->compute, &rig->step);
  compute_arena_free(&rig->compute, &rig->memory);
  compute_close(&rig->compute);
}

void rig_forward(Rig *rig, PassMode mode) {
  pass_forward(&rig->pass, &rig->compute, &rig->model, rig->spec.adapter ? &rig->adapter : NULL, &rig->batch,
               mode, &rig->step);
}

void rig_outputs(Rig *rig, float *out) {
  int32_t all[RIG_TOKENS];
  for (int32_t t = 0; t < RIG_TOKENS; t++) all[t] = t;
  const TokenRows rows = {.rows = all, .count = rig->batch.tokens};
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, PASS_INFERENCE);
  if (rig->spec.score) {
    score_values(&rig->pass, &rig->head, rows, out);
  } else {
    lm_logits(&rig->pass, rows, out);
  }
  arena_release(&rig->step, mark);
}

double rig_sft_backward(Rig *rig, Fixture *fixture, float *logprob) {
  float dlogprob[RIG_ROWS];
  TokenRows rows = {0};
  rows.rows = fixture_ints(fixture, "rows", &rows.count);
  rows.targets = fixture_ints(fixture, "targets", NULL);
  assert_in_range((uintmax_t)rows.count, 1, RIG_ROWS);
  for (int64_t n = 0; n < rows.count; n++) dlogprob[n] = -1.0f / (float)rows.count;
  lm_logprobs_backward(&rig->pass, rows, 1, dlogprob, NULL, logprob);
  double loss = 0;
  for (int64_t n = 0; n < rows.count; n++) loss -= logprob[n] / (double)rows.count;
  return loss;
}

float *rig_host(Rig *rig, Tensor tensor) {
  return device_values(&rig->compute, tensor);
}

void rig_gradient_name(const Rig *rig, const Fixture *fixture, const Parameter *p, char *out, size_t size) {
  snprintf(out, size, "grad.%s", p->name);
  if (!fixture_has(fixture, out) && rig->spec.adapter)
    snprintf(out, size, "grad.base_model.model.%s", p->name);
}

static double norm_of(const float *values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
  return sqrt(sum);
}

/* relative_difference; where `want` is all zeros, 0 or infinity. */
static double gradient_difference(const float *got, const float *want, int64_t count, double whole) {
  if (norm_of(want, count) > 0) return relative_difference(got, want, count);
  return norm_of(got, count) <= 1e-6 * whole ? 0 : INFINITY;
}

/* The norm of all gradients of the fixture together. */
static double whole_gradient(Fixture *fixture) {
  double whole = 0;
  for (size_t i = 0; i < fixture->file.count; i++) {
    if (strncmp(fixture->file.entries[i].name, "grad.", 5) != 0) continue;
    int64_t count;
    const float *values = fixture_floats(fixture, fixture->file.entries[i].name, &count);
    whole = hypot(whole, norm_of(values, count));
  }
  return whole;
}

void rig_assert_gradients(Rig *rig, Fixture *fixture, double tolerance) {
  const double whole = whole_gradient(fixture);
  size_t expected = 0;
  for (size_t i = 0; i < fixture->file.count; i++)
    expected += strncmp(fixture->file.entries[i].name, "grad.", 5) == 0;
  assert_int_equal(rig->parameters.count, expected);
  double worst = 0;
  char name[256], worst_name[256] = "";
  for (size_t i = 0; i < rig->parameters.count; i++) {
    const Parameter *p = &rig->parameters.items[i];
    rig_gradient_name(rig, fixture, p, name, sizeof name);
    int64_t count;
    const float *want = fixture_floats(fixture, name, &count);
    assert_int_equal(count, tensor_count(p->grad));
    float *got = rig_host(rig, p->grad);
    const double difference = gradient_difference(got, want, count, whole);
    free(got);
    if (!(difference <= worst)) {
      worst = difference;
      memcpy(worst_name, name, sizeof name);
    }
  }
  print_message("    worst of %zu gradients: %.2g (%s)\n", expected, worst, worst_name);
  if (!(worst <= tolerance))
    fail_msg("%s: relative difference %.3g, tolerance %.3g", worst_name, worst, tolerance);
}
