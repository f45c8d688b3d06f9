/* Gradients, masters and moments in host memory: the gradients' sums are those that the card would have kept, and an update
 * gives the bits of the CPU backend's optimiser for them, whatever the optimiser, the type of the weights and of the moments. On a
 * card, emulated or not: its orders of streams (tests/cuda_host/runtime_api.h) find what does not wait for what. */
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

enum { VOCAB = 67, HIDDEN = 64, TOKENS = 12, MICRO_BATCHES = 2, ROOM = 16 << 20 };

static const struct {
  const char *name;
  int layers;
  DType dtype;
  PassMode mode;
  bool aside; /* with activations offloaded */
  OptimizerSpec spec;
} variants[] = {
#define ADAMW .kind = OPTIMIZER_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f
    {"adamw", 3, DTYPE_F32, PASS_TRAIN, false, {ADAMW, .weight_decay = 0.1f, .clip = 0.5f}},
    {"adamw, bf16, recomputed", 4, DTYPE_BF16, PASS_RECOMPUTE, false, {ADAMW, .clip = 1}},
    {"adamw, bf16, 8 bits, activations too", 3, DTYPE_BF16, PASS_RECOMPUTE, true, {ADAMW, .eight_bit = true}},
    {"lion, one block",
     1,
     DTYPE_BF16,
     PASS_TRAIN,
     false,
     {OPTIMIZER_LION, .beta1 = 0.9f, .beta2 = 0.99f, .clip = 1}},
    {"sgd, two blocks", 2, DTYPE_F32, PASS_RECOMPUTE, true, {OPTIMIZER_SGD, .momentum = 0.9f, .clip = 2}},
};

/* One model on the card, whose weights are functions of nothing. */
typedef struct Rig {
  Compute *compute;
  Arena weights, gradients, step;
  Model model;
  ScoreHead head;
  ParameterList parameters;
  Pass pass;
} Rig;

static void rig_open(Rig *r, Compute *compute, int layers, DType dtype) {
  Error error = {0};
  char config[400];
  *r = (Rig){.compute = compute};
  device_arena(compute, &r->weights, "weights", ROOM);
  device_arena(compute, &r->gradients, "gradients", ROOM);
  device_arena(compute, &r->step, "step", ROOM);
  snprintf(
      config, sizeof config,
      "{\"model_type\":\"llama\",\"vocab_size\":%d,\"hidden_size\":%d,\"intermediate_size\":80,"
      "\"num_hidden_layers\":%d,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"
      "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}",
      VOCAB, HIDDEN, layers);
  json_t *json = json_loads(config, 0, NULL);
  assert_true(
      model_open_config(&r->model, json, (WeightFormat){.dtype = dtype}, compute, &r->weights, &error));
  json_decref(json);
  r->head.weight = tensor_new_2d(&r->weights, DTYPE_F32, 1, HIDDEN);
  assert_true(pass_init(&r->pass, &r->model, &error));
}

/* When the parameters are listed. */
static void rig_fill(Rig *r) {
  const RandomKey key = random_key(5, RANDOM_TEST);
  for (size_t i = 0; i < r->parameters.count; i++) {
    const Tensor x = r->parameters.items[i].value;
    device_random(r->compute, x, key, i, x.rank == 1 ? 1 : 0, 0.2f);
  }
}

static void rig_close(Rig *r) {
  pass_free(&r->pass);
  parameter_list_free(&r->parameters);
  model_free(&r->model);
  compute_arena_free(r->compute, &r->weights);
  compute_arena_free(r->compute, &r->gradients);
  compute_arena_free(r->compute, &r->step);
}

/* Forward and backward of micro-batch `number`. */
static void learn(Rig *r, int number, PassMode mode, Arena *step) {
  static const int32_t rows[] = {0, 3, 4, 7, 10}, targets[] = {3, 30, 0, 7, 9};
  static const float slopes[] = {1, -0.5f, 0.25f, 2, -1};
  const TokenRows picked = token_rows(rows, targets, 5);
  Error error = {0};
  Batch batch;
  int32_t ids[TOKENS];
  int64_t first;
  float logprob[5];
  assert_true(batch_init(&batch, TOKENS, 1, &error));
  for (int i = 0; i < TOKENS; i++) ids[i] = (7 * i + 11 * number) % VOCAB;
  assert_true(batch_add(&batch, ids, TOKENS, &first));
  const size_t mark = arena_mark(step);
  pass_forward(&r->pass, r->compute, &r->model, NULL, &batch, mode, step);
  lm_logprobs_backward(&r->pass, picked, 1, slopes, NULL, logprob);
  score_values_backward(&r->pass, &r->head, picked, slopes);
  pass_backward(&r->pass);
  arena_release(step, mark);
  batch_free(&batch);
}

/* The same parameters in ordinary memory, for the CPU backend. */
static void list_copies(const ParameterList *from, Arena *arena, ParameterList *to) {
  Error error = {0};
  for (size_t i = 0; i < from->count; i++) {
    Parameter p = from->items[i];
    p.value = tensor_new_like(arena, p.value, p.value.dtype);
    p.grad = tensor_new_like(arena, p.value, DTYPE_F32);
    p.sum = (Tensor){0};
    assert_true(parameter_list_push(to, p, &error));
  }
}

static void assert_same(const char *variant, const char *what, const char *name, const void *a, const void *b,
                        size_t bytes) {
  if (memcmp(a, b, bytes) != 0) fail_msg("%s: %s of %s differs", variant, what, name);
}

static void compare(const char *variant, Rig *offloaded, const Optimizer *there, const Optimizer *here) {
  for (size_t i = 0; i < offloaded->parameters.count; i++) {
    const Parameter *p = &offloaded->parameters.items[i];
    const OptimTensor *a = &there->tensors[i], *b = &here->tensors[i];
    const size_t bytes = tensor_bytes(p->value);
    char *value = malloc(bytes);
    assert_non_null(value);
    compute_download(offloaded->compute, value, p->value);
    assert_same(variant, "the value", p->name, value, here->parameters->items[i].value.data, bytes);
    free(value);
    const struct {
      const char *what;
      Tensor a, b;
    } parts[] = {{"the master", a->p, b->p},
                 {"m", a->m.data, b->m.data},
                 {"the factors of m", a->m.absmax, b->m.absmax},
                 {"v", a->v.data, b->v.data},
                 {"the factors of v", a->v.absmax, b->v.absmax},
                 {"the gradient, zero again,", a->grad, b->grad}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
      assert_true(tensor_is_none(parts[k].a) == tensor_is_none(parts[k].b));
      if (!tensor_is_none(parts[k].a))
        assert_same(variant, parts[k].what, p->name, parts[k].a.data, parts[k].b.data,
                    tensor_bytes(parts[k].a));
    }
  }
}

/* Host memory and the scratch of operations, as a stage plans them: by a dry run of the same. */
static void plan(Compute *compute, int v, size_t *pinned, size_t *state, size_t *aside) {
  Error error = {0};
  Rig r;
  Arena dry, sums, host, inputs;
  Optimizer optimizer;
  double norm;
  compute_dry_begin(compute);
  assert_true(compute_open_host(compute, &error));
  rig_open(&r, compute, variants[v].layers, variants[v].dtype);
  arena_init_dry(&dry, "step");
  arena_init_dry(&sums, "sums");
  arena_init_dry(&host, "state");
  arena_init_dry(&inputs, "inputs");
  assert_true(model_make_trainable_offloaded(&r.model, compute, &r.gradients, &sums, &r.parameters, &error));
  assert_true(score_head_make_trainable(&r.head, compute, &r.gradients, &r.parameters, &error));
  assert_true(
      optimizer_open_offloaded(&optimizer, &variants[v].spec, &r.parameters, compute, &host, &sums, &error));
  if (variants[v].aside) r.pass.offload.host = &inputs;
  learn(&r, 0, variants[v].mode, &dry);
  assert_true(optimizer_step(&optimizer, compute, 0, &norm, &error));
  optimizer_close(&optimizer);
  rig_close(&r);
  assert_true(compute_dry_end(compute, &error));
  *pinned = sums.peak;
  *state = host.peak;
  *aside = inputs.peak;
}

static void check(int v) {
  const char *name = variants[v].name;
  const OptimizerSpec *spec = &variants[v].spec;
  const PassMode mode = variants[v].mode;
  Error error = {0};
  Compute card, cpu;
  Rig whole, apart;
  Arena sums, state, inputs = {0}, ordinary;
  size_t pinned, bytes, aside;
  test_device_open(&card, 2);
  assert_true(compute_open(&cpu, DEVICE_CPU, 2, &error));
  plan(&card, v, &pinned, &bytes, &aside);
  assert_true(compute_host_arena(&card, &sums, "sums", pinned, &error));
  assert_true(arena_init(&state, "state", bytes, &error));
  assert_true(arena_init(&ordinary, "ordinary", ROOM, &error));

  rig_open(&whole, &card, variants[v].layers, variants[v].dtype);
  assert_true(model_make_trainable(&whole.model, &card, &whole.gradients, &whole.parameters, &error));
  assert_true(score_head_make_trainable(&whole.head, &card, &whole.gradients, &whole.parameters, &error));
  rig_fill(&whole);
  ParameterList copies = {0};
  Optimizer here, there;
  list_copies(&whole.parameters, &ordinary, &copies);
  compute_dry_begin(&cpu);
  double norm, other;
  assert_true(optimizer_open(&here, spec, &copies, &cpu, &ordinary, &error));
  assert_true(optimizer_step(&here, &cpu, 0, &norm, &error));
  optimizer_close(&here);
  assert_true(compute_dry_end(&cpu, &error));
  assert_true(optimizer_open(&here, spec, &copies, &cpu, &ordinary, &error));
  for (size_t i = 0; i < copies.count; i++)
    compute_download(&card, copies.items[i].value.data, whole.parameters.items[i].value);
  optimizer_adopt(&here, &cpu);

  rig_open(&apart, &card, variants[v].layers, variants[v].dtype);
  assert_true(model_make_trainable_offloaded(&apart.model, &card, &apart.gradients, &sums, &apart.parameters,
                                             &error));
  assert_true(score_head_make_trainable(&apart.head, &card, &apart.gradients, &apart.parameters, &error));
  rig_fill(&apart);
  assert_true(optimizer_open_offloaded(&there, spec, &apart.parameters, &card, &state, &sums, &error));
  optimizer_adopt(&there, &card);
  if (aside) {
    assert_true(compute_host_arena(&card, &inputs, "inputs", aside, &error));
    apart.pass.offload.host = &inputs;
  }

  /* gradients that are thrown away leave nothing behind */
  learn(&apart, 99, mode, &apart.step);
  optimizer_zero_gradients(&there, &card);
  const int updates = device_brief() ? 2 : 3;
  for (int u = 0; u < updates; u++) {
    for (int m = 0; m < MICRO_BATCHES; m++) {
      learn(&whole, u * MICRO_BATCHES + m, mode, &whole.step);
      learn(&apart, u * MICRO_BATCHES + m, mode, &apart.step);
    }
    for (size_t i = 0; i < copies.count; i++) {
      compute_download(&card, copies.items[i].grad.data, whole.parameters.items[i].grad);
      op_fill(&card, whole.parameters.items[i].grad, 0);
    }
    assert_true(optimizer_step(&here, &cpu, 0.01, &norm, &error));
    assert_true(optimizer_step(&there, &card, 0.01, &other, &error));
    assert_true(norm == other && norm > 0);
    for (size_t i = 0; i < copies.count; i++)
      compute_upload(&card, whole.parameters.items[i].value, copies.items[i].value.data);
    compare(name, &apart, &there, &here);
  }
  optimizer_close(&here);
  optimizer_close(&there);
  rig_close(&whole);
  rig_close(&apart);
  parameter_list_free(&copies);
  compute_host_arena_free(&card, &sums);
  if (inputs.base) compute_host_arena_free(&card, &inputs);
  arena_free(&state);
  arena_free(&ordinary);
  compute_close(&cpu);
  compute_close(&card);
}

static void updates_are_those_of_the_processor(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  for (int v = 0; v < (int)(sizeof variants / sizeof *variants); v++) check(v);
}

/* Two blocks' gradients on the device, whatever the number of blocks. */
static void memory_is_as_told(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  size_t device[3] = {0}, host[3] = {0};
  for (int layers = 2; layers <= 4; layers++) {
    Error error = {0};
    Compute card;
    Rig r;
    Arena dry, sums;
    test_device_open(&card, 2);
    compute_dry_begin(&card);
    rig_open(&r, &card, layers, DTYPE_F32);
    arena_init_dry(&dry, "gradients");
    arena_init_dry(&sums, "sums");
    assert_true(model_make_trainable_offloaded(&r.model, &card, &dry, &sums, &r.parameters, &error));
    device[layers - 2] = dry.peak;
    host[layers - 2] = sums.peak;
    rig_close(&r);
    assert_true(compute_dry_end(&card, &error));
    compute_close(&card);
  }
  assert_int_equal(device[1], device[0]);
  assert_int_equal(device[2], device[0]);
  assert_int_equal(host[2] - host[1], host[1] - host[0]);
  assert_int_equal(host[0], 2 * (host[1] - host[0]));
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  Error error = {0};
  Compute compute;
  const ModelConfig model = {0};
  const LoraConfig lora = {.enabled = true};
  const OptimConfig optim = {.offload = OPTIM_OFFLOAD_STATE};
  assert_false(training_config_check(&model, &lora, &optim, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "optim.offload state: expected lora.enabled false"));
  error = (Error){0};
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  TrainMemory memory;
  Trainee trainee;
  Model none = {0};
  const TraineeSpec spec = {.predictor.name = "policy", .offload = true};
  train_memory_dry(&memory);
  assert_false(trainee_open(&trainee, &spec, &none, &compute, &memory, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "optim.offload state: expected a GPU, found cpu"));
  compute_close(&compute);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(updates_are_those_of_the_processor),
      cmocka_unit_test(memory_is_as_told),
      cmocka_unit_test(what_cannot_be_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
