/* Passes that are recorded (model/pass_records.h) give the bits of the same passes without records, whatever recording comes to, with
 * weights that change and batches of many sizes in between; beside batches that are not padded, those of forward passes. On a
 * card, emulated or not: the processor has nothing to record. */
#include "compute/ops.h"
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

/* Launches so far; there where the test is linked with the emulated card. */
extern uint64_t host_launches(void) __attribute__((weak));

enum { VOCAB = 31, CAPACITY = 150, SEQUENCES = 6, ROOM = 16 << 20, MOST_GRADIENTS = 96, LAYERS = 2 };

typedef struct Variant {
  const char *name;
  const char *type;
  PassMode mode;
  DType dtype;
  bool adapted;
  float dropout;
} Variant;

static const Variant variants[] = {
    {"all weights", "llama", PASS_TRAIN, DTYPE_F32, false, 0},
    {"all weights, recomputing, bf16", "llama", PASS_RECOMPUTE, DTYPE_BF16, false, 0},
    {"LoRA with dropout, recomputing", "qwen3", PASS_RECOMPUTE, DTYPE_BF16, true, 0.3f},
    {"LoRA", "llama", PASS_TRAIN, DTYPE_F32, true, 0},
};

typedef struct Fixture {
  const Variant *variant;
  Compute compute;
  Backend failing;
  Arena weights, gradients, step;
  Model model;
  LoraSet set;
  ParameterList parameters;
  Batch batch;
  Pass pass;
  PassRecords records;
} Fixture;

/* What a round of passes comes to. */
typedef struct Round {
  float logprob[3];
  float *gradients[MOST_GRADIENTS];
} Round;

static void fixture_open(Fixture *f, const Variant *variant) {
  Error error = {0};
  char config[400];
  *f = (Fixture){.variant = variant};
  test_device_open(&f->compute, 2);
  device_arena(&f->compute, &f->weights, "weights", ROOM);
  device_arena(&f->compute, &f->gradients, "gradients", ROOM);
  device_arena(&f->compute, &f->step, "step", ROOM);
  snprintf(config, sizeof config,
           "{\"model_type\":\"%s\",\"vocab_size\":31,\"hidden_size\":32,\"intermediate_size\":24,"
           "\"num_hidden_layers\":%d,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":16,"
           "\"rms_norm_eps\":1e-5,"
           "\"max_position_embeddings\":64,\"tie_word_embeddings\":true,\"attention_bias\":false}",
           variant->type, LAYERS);
  json_t *json = json_loads(config, 0, NULL);
  assert_true(model_open_config(&f->model, json, (WeightFormat){.dtype = variant->dtype}, &f->compute,
                                &f->weights, &error));
  json_decref(json);
  const RandomKey key = random_key(7, RANDOM_TEST);
  for (int i = 0; i < f->model.tensor_count; i++) {
    const Tensor value = f->model.tensors[i].value;
    device_random(&f->compute, value, key, (uint64_t)i, value.rank == 1 ? 1 : 0, 0.2f);
  }
  if (variant->adapted) {
    LoraSpec spec = {.r = 4, .alpha = 8, .dropout = variant->dropout};
    assert_true(lora_spec_target(&spec, "all-linear", &error));
    assert_true(lora_open(&f->set, &spec, f->model.modules, f->model.module_count, variant->dtype, true,
                          &f->compute, &f->gradients, &error));
    lora_spec_free(&spec);
    assert_true(lora_initialize(&f->set, &f->compute, 1, &error));
    assert_true(lora_parameters(&f->set, &f->parameters, &error));
    for (size_t i = 0; i < f->parameters.count; i++)
      device_random(&f->compute, f->parameters.items[i].value, key, 1000 + i, 0, 0.2f);
  } else {
    assert_true(model_make_trainable(&f->model, &f->compute, &f->gradients, &f->parameters, &error));
  }
  assert_true(f->parameters.count <= MOST_GRADIENTS);
  assert_true(batch_init(&f->batch, CAPACITY, SEQUENCES, &error));
  assert_true(pass_init(&f->pass, &f->model, &error));
}

static void fixture_close(Fixture *f) {
  pass_free(&f->pass);
  pass_records_free(&f->records);
  batch_free(&f->batch);
  parameter_list_free(&f->parameters);
  lora_free(&f->set);
  model_free(&f->model);
  compute_arena_free(&f->compute, &f->weights);
  compute_arena_free(&f->compute, &f->gradients);
  compute_arena_free(&f->compute, &f->step);
  compute_close(&f->compute);
}

/* Sequences of 10 tokens and more. */
static void fill_batch(Fixture *f, int sequences, int round) {
  batch_clear(&f->batch);
  for (int b = 0; b < sequences; b++) {
    int32_t ids[CAPACITY];
    int64_t first;
    const int64_t length = 10 + b + round % 2;
    for (int64_t i = 0; i < length; i++) ids[i] = (int32_t)((7 * i + 3 * b + round) % VOCAB);
    assert_true(batch_add(&f->batch, ids, length, &first));
    batch_draw(&f->batch, (uint64_t)(100 * round + b));
  }
}

/* Rounds of few and of many tokens, so that sizes alternate; each changes the weights that the next one finds. */
static int sequences_of(int round) {
  static const int sequences[] = {1, 6, 2, 6, 1, 5, 6, 1};
  return sequences[(size_t)round % (sizeof sequences / sizeof *sequences)];
}

enum { ROUNDS = 8 };

static void train(Fixture *f, Arena *step, float logprob[3]) {
  static const int32_t rows[] = {0, 3, 8}, targets[] = {3, 30, 7};
  static const float slopes[] = {1, -0.5f, 2};
  const LoraSet *adapter = f->variant->adapted ? &f->set : NULL;
  pass_forward(&f->pass, &f->compute, &f->model, adapter, &f->batch, f->variant->mode, step);
  lm_logprobs_backward(&f->pass, token_rows(rows, targets, 3), 1, slopes, NULL, logprob);
  pass_backward(&f->pass);
  arena_release(step, 0);
}

static void evaluate(Fixture *f, Arena *step, float logprob[3]) {
  static const int32_t rows[] = {0, 3, 8}, targets[] = {3, 30, 7};
  const LoraSet *adapter = f->variant->adapted ? &f->set : NULL;
  pass_forward(&f->pass, &f->compute, &f->model, adapter, &f->batch, PASS_INFERENCE, step);
  lm_logprobs(&f->pass, token_rows(rows, targets, 3), 1, logprob, NULL);
  arena_release(step, 0);
}

/* As a stage plans: the workspace is that of the largest batch, padded where batches are. */
static void plan(Fixture *f) {
  Error error = {0};
  Arena dry;
  float logprob[3];
  arena_init_dry(&dry, "dry");
  compute_dry_begin(&f->compute);
  batch_plan(&f->batch);
  train(f, &dry, logprob);
  assert_true(compute_dry_end(&f->compute, &error));
  assert_true(dry.peak <= ROOM);
}

static void pass_once(Fixture *f, int round, float logprob[3]) {
  fill_batch(f, sequences_of(round), round);
  device_spoil(&f->compute, &f->step);
  if (round % 3 == 2) evaluate(f, &f->step, logprob);
  train(f, &f->step, logprob);
}

/* values += 0.125 gradients, by which the next round differs; the gradients are taken. */
static void learn(Fixture *f, Round *out) {
  for (size_t p = 0; p < f->parameters.count; p++) {
    const Parameter *parameter = &f->parameters.items[p];
    out->gradients[p] = device_values(&f->compute, parameter->grad);
    op_axpby(&f->compute, parameter->value, parameter->grad, 0.125f, 1);
    op_fill(&f->compute, parameter->grad, 0);
  }
}

/* As many as there are graphs now. */
static int graphs_of(const PassRecords *records) {
  int count = 0;
  for (int i = 0; i < records->count; i++)
    count += (records->list[i].forward.graph != NULL) + (records->list[i].backward.graph != NULL);
  return count;
}

static const Backend *real;

static ComputeGraph *no_graph(Compute *c) {
  real->graph_free(c, real->record_end(c));
  return NULL;
}

/* Graphs, and what they take of the card's memory. */
typedef struct Made {
  int graphs;
  size_t bytes;
} Made;

typedef enum Way { PLAIN, FAILING, RECORDED } Way;

static void run(const Variant *variant, Way way, size_t bytes, Round out[ROUNDS], Made *made) {
  Fixture f;
  Error error = {0};
  fixture_open(&f, variant);
  real = f.compute.backend;
  if (way != PLAIN) {
    assert_true(pass_records_init(&f.records, &f.compute, CAPACITY, bytes, &error));
    pass_record(&f.pass, &f.records);
  }
  if (way == FAILING) {
    f.failing = *real;
    f.failing.record_end = no_graph;
    f.compute.backend = &f.failing;
  }
  plan(&f);
  for (int round = 0; round < ROUNDS; round++) {
    pass_once(&f, round, out[round].logprob);
    learn(&f, &out[round]);
  }
  *made = (Made){graphs_of(&f.records), f.records.bytes};
  assert_true(way != RECORDED || f.records.bytes <= bytes);
  f.compute.backend = real;
  fixture_close(&f);
}

static void free_rounds(Round rounds[ROUNDS]) {
  for (int r = 0; r < ROUNDS; r++)
    for (int p = 0; p < MOST_GRADIENTS; p++) free(rounds[r].gradients[p]);
}

static size_t gradient_count(const Variant *variant, size_t count[MOST_GRADIENTS]) {
  Fixture f;
  fixture_open(&f, variant);
  for (size_t p = 0; p < f.parameters.count; p++) count[p] = (size_t)tensor_count(f.parameters.items[p].grad);
  const size_t parameters = f.parameters.count;
  fixture_close(&f);
  return parameters;
}

static bool same_rounds(const Variant *variant, const Round a[ROUNDS], const Round b[ROUNDS]) {
  size_t count[MOST_GRADIENTS];
  const size_t parameters = gradient_count(variant, count);
  for (int r = 0; r < ROUNDS; r++) {
    if (memcmp(a[r].logprob, b[r].logprob, sizeof a[r].logprob) != 0) return false;
    for (size_t p = 0; p < parameters; p++)
      if (memcmp(a[r].gradients[p], b[r].gradients[p], count[p] * sizeof(float)) != 0) return false;
  }
  return true;
}

static void bits_are_unchanged(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    Round plain[ROUNDS] = {0}, failing[ROUNDS] = {0}, recorded[ROUNDS] = {0}, few[ROUNDS] = {0};
    Made made[4];
    run(&variants[v], PLAIN, 0, plain, &made[0]);
    run(&variants[v], FAILING, ROOM, failing, &made[1]);
    run(&variants[v], RECORDED, ROOM, recorded, &made[2]);
    run(&variants[v], RECORDED, made[2].bytes / 2, few, &made[3]);
    print_message("    %s: %d graphs of %zu KiB, %d in half the memory\n", variants[v].name, made[2].graphs,
                  made[2].bytes >> 10, made[3].graphs);
    assert_int_equal(made[0].graphs + made[1].graphs, 0);
    assert_in_range(made[2].graphs, 4, 100); /* two sizes, forward and backward */
    if (host_launches) assert_in_range(made[3].graphs, 1, made[2].graphs - 1);
    assert_true(same_rounds(&variants[v], failing, recorded));
    assert_true(same_rounds(&variants[v], failing, few));
    assert_memory_equal(plain[0].logprob, recorded[0].logprob, sizeof plain[0].logprob);
    print_message("    beside batches without padding: %s bits\n",
                  same_rounds(&variants[v], plain, recorded) ? "the same" : "other");
    free_rounds(plain);
    free_rounds(failing);
    free_rounds(recorded);
    free_rounds(few);
  }
}

/* From the third pass of a size on, the heads alone are launched. */
static void a_replay_launches_nothing_itself(void **state) {
  (void)state;
  if (!host_launches) skip();
  uint64_t launches[2][3];
  for (int recorded = 0; recorded < 2; recorded++) {
    Fixture f;
    Error error = {0};
    float logprob[3];
    fixture_open(&f, &variants[2]);
    assert_true(pass_records_init(&f.records, &f.compute, CAPACITY, ROOM, &error));
    if (recorded) pass_record(&f.pass, &f.records);
    plan(&f);
    for (int round = 0; round < 3; round++) {
      const uint64_t before = host_launches();
      pass_once(&f, 3 * (round + 1), logprob); /* of no evaluation */
      launches[recorded][round] = host_launches() - before;
    }
    fixture_close(&f);
  }
  print_message("    %d launches, recorded %d\n", (int)launches[0][2], (int)launches[1][2]);
  assert_true(launches[0][2] > 100);
  assert_in_range(launches[1][2], 1, 8);
}

/* The plan of a product is made by asking the library, which is not done while recording. */
static void what_is_not_known_is_not_recorded(void **state) {
  (void)state;
  if (!device_offloads()) skip();
  Compute c;
  Arena arena;
  test_device_open(&c, 2);
  Error error = {0};
  device_arena(&c, &arena, "arena", 1 << 20);
  compute_dry_begin(&c);
  assert_true(compute_dry_end(&c, &error));
  const Tensor x = tensor_new_2d(&arena, DTYPE_F32, 24, 40), w = tensor_new_2d(&arena, DTYPE_F32, 56, 40);
  const Tensor out = tensor_new_2d(&arena, DTYPE_F32, 24, 56),
               expected = tensor_new_2d(&arena, DTYPE_F32, 24, 56);
  device_random(&c, x, random_key(1, RANDOM_TEST), 0, 0, 1);
  device_random(&c, w, random_key(1, RANDOM_TEST), 1, 0, 1);
  for (int turn = 0; turn < 2; turn++) {
    compute_record_begin(&c);
    op_linear(&c, out, x, (Weight){.data = w}, (Tensor){0}, 1, 0);
    ComputeGraph *graph = compute_record_end(&c);
    assert_true((graph != NULL) == (turn == 1));
    if (graph) compute_replay(&c, graph);
    op_linear(&c, expected, x, (Weight){.data = w}, (Tensor){0}, 1, 0);
    compute_graph_free(&c, graph);
  }
  float *a = device_values(&c, out), *b = device_values(&c, expected);
  assert_memory_equal(a, b, 24 * 56 * sizeof *a);
  free(a);
  free(b);
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

/* Eighths of the capacity, 64 tokens at least; what pads is the first token again, in a sequence of its own. */
static void batches_are_padded(void **state) {
  (void)state;
  Error error = {0};
  PassRecords records;
  Batch batch;
  Compute compute = {0};
  int32_t ids[1000];
  int64_t first, sizes[PASS_SIZES + 1] = {0};
  int count = 0;
  for (int i = 0; i < 1000; i++) ids[i] = 5 + i;
  assert_true(batch_init(&batch, 1000, 3, &error));
  assert_true(pass_records_init(&records, &compute, 1000, 1, &error));
  for (int64_t tokens = 1; tokens <= 1000; tokens++) {
    batch_clear(&batch);
    assert_true(batch_add(&batch, ids, tokens, &first));
    const Batch *padded = pass_records_pad(&records, &batch);
    assert_true(padded->tokens >= tokens && padded->tokens < tokens + 128);
    assert_int_equal(padded->sequences, 4);
    const int32_t end = (int32_t)padded->tokens, offsets[] = {0, (int32_t)tokens, end, end, end};
    assert_memory_equal(padded->offsets, offsets, sizeof offsets);
    assert_memory_equal(padded->ids, ids, (size_t)tokens * sizeof *ids);
    for (int64_t t = tokens; t < padded->tokens; t++)
      assert_true(padded->ids[t] == ids[0] && padded->positions[t] == 0);
    if (count == 0 || padded->tokens != sizes[count - 1]) sizes[count++] = padded->tokens;
    assert_true(count <= PASS_SIZES);
  }
  assert_int_equal(sizes[count - 1], 1000);
  pass_records_free(&records);
  batch_free(&batch);
}

static void the_processor_refuses(void **state) {
  (void)state;
  Compute compute;
  PassRecords records;
  Error error = {0};
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  assert_true(training_graphs(&records, 0, 64, &compute, &error));
  assert_null(records.compute);
  assert_false(training_graphs(&records, 1 << 20, 64, &compute, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "device.graphs: expected a GPU, found cpu"));
  compute_close(&compute);
}

int main(void) {
  setenv("DROVER_CUDA_HOST_DEVICE", "node=1K", 0); /* of the emulated card */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bits_are_unchanged),
      cmocka_unit_test(a_replay_launches_nothing_itself),
      cmocka_unit_test(what_is_not_known_is_not_recorded),
      cmocka_unit_test(batches_are_padded),
      cmocka_unit_test(the_processor_refuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
