/* A pass that keeps the inputs of its blocks in host memory gives the bits of one that keeps them on the device, and takes
 * the memory that it says. On a card, emulated or not; the processor has no other memory, and refuses. The emulation's two
 * orders of streams (tests/cuda_host/runtime_api.h) find what does not wait for what. */
#include "model/head.h"
#include "model/weights.h"
#include "tests/support/device.h"
#include "train/trainee.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 31, TOKENS = 14, ROOM = 8 << 20, MOST_PARAMETERS = 96 };

typedef struct Fixture {
  Compute compute;
  Arena weights, gradients, step, host;
  Model model;
  ParameterList parameters;
  Batch batch;
  Pass pass;
} Fixture;

static void none(Model *m) {
  (void)m;
}
static void embedding_norm(Model *m) {
  m->spec.embedding_norm = true;
  m->embedding_norm = m->final_norm;
}
static void post_norm(Model *m) {
  m->spec.placement = NORM_POST;
}
static void parallel(Model *m) {
  m->spec.parallel = m->spec.parallel_shared = true;
}
static void no_final_norm(Model *m) {
  m->spec.final_norm = false;
}

static const struct {
  const char *name;
  int layers;
  DType dtype;
  void (*change)(Model *);
} variants[] = {
    {"one block", 1, DTYPE_F32, none},
    {"two blocks", 2, DTYPE_F32, none},
    {"three blocks, bf16", 3, DTYPE_BF16, none},
    {"five blocks", 5, DTYPE_F32, none},
    {"a norm on the embeddings", 4, DTYPE_F32, embedding_norm},
    {"norms after the sums", 3, DTYPE_F32, post_norm},
    {"parallel branches", 4, DTYPE_F32, parallel},
    {"no norm at the end", 3, DTYPE_F32, no_final_norm},
};

static void pass_once(Fixture *f, Pass *pass, Arena *step, float logprob[TOKENS]) {
  static const int32_t rows[] = {0, 3, 5, 8, 12}, targets[] = {3, 30, 0, 7, 9};
  static const float slopes[] = {1, -0.5f, 0.25f, 2, -1};
  const TokenRows picked = token_rows(rows, targets, 5);
  const size_t mark = arena_mark(step);
  pass_forward(pass, &f->compute, &f->model, NULL, &f->batch, PASS_RECOMPUTE, step);
  lm_logprobs_backward(pass, picked, 1, slopes, NULL, logprob);
  pass_backward(pass);
  arena_release(step, mark);
}

/* Peaks of the step arena and of the host's, by a dry run. */
static void peaks(Fixture *f, bool offloaded, size_t *step, size_t *host) {
  Arena dry, aside;
  Pass pass;
  float logprob[TOKENS];
  Error error = {0};
  arena_init_dry(&dry, "dry");
  arena_init_dry(&aside, "aside");
  assert_true(pass_init(&pass, &f->model, &error));
  if (offloaded) pass.offload.host = &aside;
  compute_dry_begin(&f->compute);
  pass_once(f, &pass, &dry, logprob);
  assert_true(compute_dry_end(&f->compute, &error));
  pass_free(&pass);
  *step = dry.peak;
  *host = aside.peak;
}

static void fixture_open(Fixture *f, int layers, DType dtype, void (*change)(Model *)) {
  Error error = {0};
  char config[400];
  *f = (Fixture){0};
  test_device_open(&f->compute, 2);
  device_arena(&f->compute, &f->weights, "weights", ROOM);
  device_arena(&f->compute, &f->gradients, "gradients", ROOM);
  device_arena(&f->compute, &f->step, "step", ROOM);
  snprintf(
      config, sizeof config,
      "{\"model_type\":\"llama\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,"
      "\"num_hidden_layers\":%d,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"
      "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}",
      layers);
  json_t *json = json_loads(config, 0, NULL);
  assert_true(
      model_open_config(&f->model, json, (WeightFormat){.dtype = dtype}, &f->compute, &f->weights, &error));
  json_decref(json);
  change(&f->model);
  assert_true(model_make_trainable(&f->model, &f->compute, &f->gradients, &f->parameters, &error));
  assert_true(f->parameters.count <= MOST_PARAMETERS);
  const RandomKey key = random_key(7, RANDOM_TEST);
  for (size_t i = 0; i < f->parameters.count; i++)
    device_random(&f->compute, f->parameters.items[i].value, key, i,
                  f->parameters.items[i].value.rank == 1 ? 1 : 0, 0.3f);
  assert_true(batch_init(&f->batch, TOKENS, 2, &error));
  for (int b = 0; b < 2; b++) {
    int32_t ids[TOKENS / 2];
    int64_t first;
    for (int i = 0; i < TOKENS / 2; i++) ids[i] = (7 * i + 3 * b) % VOCAB;
    assert_true(batch_add(&f->batch, ids, TOKENS / 2, &first));
  }
  assert_true(pass_init(&f->pass, &f->model, &error));
}

static void fixture_close(Fixture *f) {
  pass_free(&f->pass);
  batch_free(&f->batch);
  parameter_list_free(&f->parameters);
  model_free(&f->model);
  if (f->host.base) compute_host_arena_free(&f->compute, &f->host);
  compute_arena_free(&f->compute, &f->weights);
  compute_arena_free(&f->compute, &f->gradients);
  compute_arena_free(&f->compute, &f->step);
  compute_close(&f->compute);
}

/* The gradients since they were last taken, which are zeroed. */
static void take_gradients(Fixture *f, float *out[MOST_PARAMETERS]) {
  for (size_t p = 0; p < f->parameters.count; p++) {
    out[p] = device_values(&f->compute, f->parameters.items[p].grad);
    op_fill(&f->compute, f->parameters.items[p].grad, 0);
  }
}

static void bits_are_unchanged(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    enum { ROUNDS = 2 }; /* a pass into the memory of the last */
    Fixture f;
    Error error = {0};
    float *kept[ROUNDS][MOST_PARAMETERS], *again[MOST_PARAMETERS], logprob[TOKENS] = {0}, other[TOKENS] = {0};
    size_t step, host;
    fixture_open(&f, variants[v].layers, variants[v].dtype, variants[v].change);
    peaks(&f, true, &step, &host);
    for (int round = 0; round < ROUNDS; round++) {
      device_spoil(&f.compute, &f.step);
      pass_once(&f, &f.pass, &f.step, logprob);
      take_gradients(&f, kept[round]);
    }
    assert_true(compute_host_arena(&f.compute, &f.host, "host", host, &error));
    f.pass.offload.host = &f.host;
    /* a forward that no backward follows leaves nothing behind */
    pass_forward(&f.pass, &f.compute, &f.model, NULL, &f.batch, PASS_RECOMPUTE, &f.step);
    arena_release(&f.step, 0);
    for (int round = 0; round < ROUNDS; round++) {
      device_spoil(&f.compute, &f.step);
      pass_once(&f, &f.pass, &f.step, other);
      take_gradients(&f, again);
      assert_memory_equal(logprob, other, sizeof logprob);
      for (size_t p = 0; p < f.parameters.count; p++) {
        if (memcmp(kept[round][p], again[p], tensor_bytes(f.parameters.items[p].grad)) != 0)
          fail_msg("%s: %s differs", variants[v].name, f.parameters.items[p].name);
        free(kept[round][p]);
        free(again[p]);
      }
    }
    fixture_close(&f);
  }
}

/* Two inputs on the device whatever the number of blocks, the others on the host. */
static void memory_is_as_told(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  for (int layers = 1; layers <= 6; layers++) {
    Fixture f;
    size_t whole, host, step, aside;
    fixture_open(&f, layers, DTYPE_F32, none);
    peaks(&f, false, &whole, &host);
    peaks(&f, true, &step, &aside);
    const size_t input = (size_t)TOKENS * 24 * sizeof(float); /* a multiple of an arena's alignment */
    assert_int_equal(input % 64, 0);
    assert_int_equal(host, 0);
    assert_int_equal(aside, (size_t)(layers - 1) * input);
    assert_int_equal(whole - step, (size_t)(layers - 1) * input);
    fixture_close(&f);
  }
}

/* Copies both ways, and what the host finds when the device has been waited for. */
static void copies_go_both_ways(void **state) {
  (void)state;
  enum { COUNT = 100003 };
  if (!device_offloads()) skip();
  Compute compute;
  Arena device, host;
  Error error = {0};
  test_device_open(&compute, 2);
  device_arena(&compute, &device, "device", 2 * COUNT * sizeof(float) + 64);
  assert_true(compute_host_arena(&compute, &host, "host", COUNT * sizeof(float), &error));
  const Tensor a = tensor_new_1d(&device, DTYPE_F32, COUNT), b = tensor_new_1d(&device, DTYPE_F32, COUNT);
  for (int round = 0; round < 3; round++) {
    op_fill(&compute, a, (float)round + 1);
    compute_offload(&compute, host.base, a);
    op_fill(&compute, b, -1);
    compute_prefetch(&compute, b, host.base);
    compute_offload_wait(&compute);
    op_axpby(&compute, b, b, 1, 1);
    op_fill(&compute, a, 0);
    float *values = device_values(&compute, b);
    for (int i = 0; i < COUNT; i++) assert_true(values[i] == 2 * ((float)round + 1));
    free(values);
  }
  compute_host_arena_free(&compute, &host);
  compute_arena_free(&compute, &device);
  compute_close(&compute);
}

static void the_processor_refuses(void **state) {
  (void)state;
  Compute compute;
  TrainMemory memory = {0};
  Pass pass = {0};
  Error error = {0};
  ModelConfig config = {.offload = MODEL_OFFLOAD_ACTIVATIONS};
  const LoraConfig lora = {0};
  const OptimConfig optim = {0};
  assert_false(training_config_check(&config, &lora, &optim, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "model.offload activations: expected model.recompute true"));
  config.recompute = true;
  error = (Error){0};
  assert_true(training_config_check(&config, &lora, &optim, &error));
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  assert_false(training_offload(&pass, &config, &compute, &memory, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "model.offload activations: expected a GPU, found cpu"));
  compute_close(&compute);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bits_are_unchanged),
      cmocka_unit_test(memory_is_as_told),
      cmocka_unit_test(copies_go_both_ways),
      cmocka_unit_test(the_processor_refuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
