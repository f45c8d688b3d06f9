/* What the rollout tests share: a tiny model, perhaps with an adapter, and an engine on it, planned and
 * opened as a program does it. Any failure fails the running test. */
#ifndef TESTS_UNIT_ROLLOUT_LAB_H
#define TESTS_UNIT_ROLLOUT_LAB_H

#include "model/head.h"
#include "model/weights.h"
#include "rollout/engine.h"
#include "tests/support/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAB_TOKENS = 64 };

static inline void lab_check(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

typedef struct Lab {
  Compute compute;
  Arena weights, step, rollout;
  Model model;
  LoraSet adapter;
  bool adapted;
  Batch batch;
  Pass pass;
  Engine engine;
  bool engine_open;
} Lab;

static inline void lab_fill(Lab *lab, Tensor x, uint64_t sample, float scale) {
  device_random(&lab->compute, x, random_key(1, RANDOM_TEST), sample, 0, scale);
}

static inline void lab_adapter(Lab *lab) {
  Error error = {0};
  char *targets[] = {(char *)"all-linear"};
  const LoraSpec spec = {.r = 4, .alpha = 8, .targets = targets, .target_count = 1};
  lab_check(lora_open(&lab->adapter, &spec, lab->model.modules, lab->model.module_count, lab->model.dtype,
                      false, &lab->compute, &lab->weights, &error),
            &error);
  for (int i = 0; !lab->weights.dry && i < lab->adapter.count; i++) {
    if (tensor_is_none(lab->adapter.pairs[i].a.value)) continue;
    lab_fill(lab, lab->adapter.pairs[i].a.value, (uint64_t)(2 * i), 0.2F);
    lab_fill(lab, lab->adapter.pairs[i].b.value, (uint64_t)(2 * i + 1), 0.2F);
  }
}

static inline const LoraSet *lab_lora(const Lab *lab) {
  return lab->adapted ? &lab->adapter : NULL;
}

static inline void lab_forward(Lab *lab) {
  pass_forward(&lab->pass, &lab->compute, &lab->model, lab_lora(lab), &lab->batch, PASS_INFERENCE,
               &lab->step);
}

static void lab_step_plan(Lab *lab) {
  static int32_t ids[LAB_TOKENS], rows[LAB_TOKENS];
  static float out[LAB_TOKENS * 512];
  int64_t first;
  for (int32_t i = 0; i < LAB_TOKENS; i++) rows[i] = i;
  batch_clear(&lab->batch);
  assert_true(batch_add(&lab->batch, ids, LAB_TOKENS, &first));
  lab_forward(lab);
  lm_logits(&lab->pass, token_rows(rows, rows, LAB_TOKENS), out);
  lm_logprobs(&lab->pass, token_rows(rows, rows, LAB_TOKENS), 1, out, NULL);
}

/* Twice: once dry for the sizes, once for real. `name`: a folder of tests/fixtures/models. */
static inline void lab_open_as(Lab *lab, const char *name, bool adapted, DType dtype) {
  char path[512];
  snprintf(path, sizeof path, "%s/models/%s", FIXTURES, name);
  Error error = {0};
  *lab = (Lab){.adapted = adapted};
  test_device_open(&lab->compute, 1);
  lab_check(batch_init(&lab->batch, LAB_TOKENS, 8, &error), &error);
  for (int real = 0; real < 2; real++) {
    if (real) {
      const size_t weights = lab->weights.peak, step = lab->step.peak;
      pass_free(&lab->pass);
      lora_free(&lab->adapter);
      model_free(&lab->model);
      lab_check(compute_dry_end(&lab->compute, &error), &error);
      device_arena(&lab->compute, &lab->weights, "weights", weights);
      device_arena(&lab->compute, &lab->step, "step", step);
    } else {
      compute_dry_begin(&lab->compute);
      arena_init_dry(&lab->weights, "weights");
      arena_init_dry(&lab->step, "step");
    }
    lab_check(
        model_open(&lab->model, path, (WeightFormat){.dtype = dtype}, &lab->compute, &lab->weights, &error),
        &error);
    if (real) lab_check(model_read(&lab->model, path, &lab->compute, NULL, &error), &error);
    if (adapted) lab_adapter(lab);
    lab_check(pass_init(&lab->pass, &lab->model, &error), &error);
    if (!real) lab_step_plan(lab);
  }
}

static inline void lab_open(Lab *lab, const char *name, bool adapted) {
  lab_open_as(lab, name, adapted, DTYPE_F32);
}

static inline void lab_engine_close(Lab *lab) {
  if (lab->engine_open) engine_free(&lab->engine);
  compute_arena_free(&lab->compute, &lab->rollout);
  lab->engine_open = false;
}

/* A new engine in place of the former one, in an arena of exactly the planned size. */
static inline void lab_engine(Lab *lab, EngineConfig config) {
  Error error = {0};
  lab_engine_close(lab);
  compute_dry_begin(&lab->compute);
  arena_init_dry(&lab->rollout, "rollout");
  lab_check(
      engine_init(&lab->engine, config, &lab->model, lab_lora(lab), &lab->compute, &lab->rollout, &error),
      &error);
  const size_t peak = lab->rollout.peak;
  engine_free(&lab->engine);
  lab_check(compute_dry_end(&lab->compute, &error), &error);
  device_arena(&lab->compute, &lab->rollout, "rollout", peak);
  device_spoil(&lab->compute, &lab->rollout);
  lab_check(
      engine_init(&lab->engine, config, &lab->model, lab_lora(lab), &lab->compute, &lab->rollout, &error),
      &error);
  lab->engine_open = true;
}

static inline void lab_close(Lab *lab) {
  lab_engine_close(lab);
  pass_free(&lab->pass);
  lora_free(&lab->adapter);
  model_free(&lab->model);
  batch_free(&lab->batch);
  compute_arena_free(&lab->compute, &lab->weights);
  compute_arena_free(&lab->compute, &lab->step);
  compute_close(&lab->compute);
}

#endif
