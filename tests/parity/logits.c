/* Logits and scores of the tiny checkpoints against Transformers (tests/fixtures/make_models.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rig.h"

static const double TOLERANCE = 2e-5;

typedef struct Forward {
  float *out; /* logits [T,V] or scores [T] */
} Forward;

static void forward(Rig *rig, void *context) {
  Forward *f = context;
  rig_outputs(rig, f->out);
}

typedef struct Case {
  const char *name;
  bool score;
  DType dtype;
  const char *expected; /* another model's fixture */
} Case;

typedef struct Loaded {
  Fixture fixture;
  Rig rig;
  Forward work;
  const float *want;
  int64_t count;
} Loaded;

static void load(Loaded *l, const Case *c) {
  char path[512], name[128];
  snprintf(name, sizeof name, "models/%s/expected", c->expected ? c->expected : c->name);
  fixture_open(&l->fixture, name);
  l->want = fixture_floats(&l->fixture, c->score ? "scores" : "logits", &l->count);
  l->work = (Forward){.out = calloc((size_t)l->count, sizeof(float))};
  fixture_path(path, sizeof path, "models", c->name);
  rig_open(&l->rig, (RigSpec){.model = path, .score = c->score, .dtype = c->dtype, .batch = &l->fixture},
           forward, &l->work);
}

static void unload(Loaded *l) {
  rig_close(&l->rig);
  fixture_close(&l->fixture);
  free(l->work.out);
}

static void test_logits(void **state) {
  const Case *c = *state;
  Loaded l;
  load(&l, c);
  forward(&l.rig, &l.work);
  print_message("    %s: largest difference %.2g\n", c->name,
                largest_difference(l.work.out, l.want, l.count));
  assert_near(c->name, l.work.out, l.want, l.count, TOLERANCE);
  /* The comparison is one that can fail. */
  l.work.out[l.count / 2] += 1e-4f;
  assert_true(largest_difference(l.work.out, l.want, l.count) > TOLERANCE);
  unload(&l);
}

/* Weights kept in bf16 are those of the file rounded to bf16. Products may round their other side to bf16 too (AMX),
 * which moves logits of size 4 by about 4 * 2^-8. */
static void test_bf16_weights(void **state) {
  (void)state;
  Loaded l;
  load(&l, &(Case){.name = "llama", .dtype = DTYPE_BF16, .expected = "llama_bf16"});
  forward(&l.rig, &l.work);
  print_message("    bf16 weights: relative difference %.2g\n",
                relative_difference(l.work.out, l.want, l.count));
  assert_relative("llama in bf16", l.work.out, l.want, l.count, 0.015);
  unload(&l);
}

/* The second frequency of the rotary embedding. */
static void scale_frequency(Rig *rig, float factor) {
  const Tensor frequency = rig->model.rope_frequency[0];
  float *values = rig_host(rig, frequency);
  values[1] *= factor;
  device_write(&rig->compute, frequency, values);
  free(values);
}

/* Each of these settings, left out, is far outside the tolerance: the fixtures would notice. */
static void test_settings_matter(void **state) {
  (void)state;
  static const char *const names[] = {"mistral", "qwen2_window", "llama3", "gpt_neox", "gpt2_bare", "llama"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Loaded l;
    load(&l, &(Case){.name = names[i]});
    ModelSpec *spec = &l.rig.model.spec;
    switch (i) {
      case 0:
      case 1:
        memset(spec->window, 0, sizeof spec->window);
        break;
      case 2:
        scale_frequency(&l.rig, 1.01f);
        break;
      case 3:
        spec->parallel = false;
        break;
      case 4:
        spec->scale_by_layer = false;
        break;
      default:
        spec->norm.eps = 1e-4f;
    }
    forward(&l.rig, &l.work);
    if (!(largest_difference(l.work.out, l.want, l.count) > 10 * TOLERANCE)) fail_msg("%s", names[i]);
    unload(&l);
  }
}

int main(void) {
  static Case cases[] = {{.name = "llama"},
                         {.name = "llama3"},
                         {.name = "llama_linear"},
                         {.name = "llama_bf16"},
                         {.name = "llama_f16"},
                         {.name = "mistral"},
                         {.name = "qwen2"},
                         {.name = "qwen2_window"},
                         {.name = "qwen3"},
                         {.name = "gpt_neox"},
                         {.name = "gpt_neox_sequential"},
                         {.name = "gpt2"},
                         {.name = "gpt2_bare"},
                         {.name = "llama_score", .score = true},
                         {.name = "gpt2_score", .score = true}};
  enum { COUNT = sizeof cases / sizeof *cases };
  struct CMUnitTest tests[COUNT + 2];
  for (size_t i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){cases[i].name, test_logits, NULL, NULL, &cases[i]};
  tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(test_bf16_weights);
  tests[COUNT + 1] = (struct CMUnitTest)cmocka_unit_test(test_settings_matter);
  return cmocka_run_group_tests_name("parity/logits", tests, NULL, NULL);
}
