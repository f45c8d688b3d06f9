/* How many operations a step of training and of decoding asks for, what a block keeps in between, and on the emulated card how many launches they are: of a
 * Llama block, and of what is around the blocks. Small models wait for launches more than for arithmetic, so that the
 * counts are held to numbers here; docs/cuda.md has them too. */
#include "model/decode.h"
#include "model/head.h"
#include "model/weights.h"
#include "tests/support/decode.h"
#include "tests/support/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* Launches so far; there where the test is linked with the emulated card. */
extern uint64_t host_launches(void) __attribute__((weak));
/* Products of the library so far whose rows are no whole pieces of 16 bytes. */
extern uint64_t host_ragged(void) __attribute__((weak));

/* ---- operations, counted on their way to the backend ---- */

static const Backend *real;
static int operations;

#define OP(name, parameters, arguments)   \
  static void counted_##name parameters { \
    if (!c->dry) operations++;            \
    real->name arguments;                 \
  }
#include "compute/ops.def"
#undef OP

static Backend counting_backend(const Backend *backend) {
  Backend out = *backend;
  real = backend;
#define OP(name, parameters, arguments) out.name = counted_##name;
#include "compute/ops.def"
#undef OP
  return out;
}

/* ---- the work ---- */

enum { TOKENS = 32, BLOCK = 16, BLOCKS = 4, RANK = 8 };

typedef struct Work {
  const char *name;
  bool decode, adapted;
  PassMode mode;
  float dropout;
  bool biased;     /* q, k, v and o */
  bool head_norms; /* of q and k: a Qwen3 */
  int vocab;       /* 0: 64 */
} Work;

/* Of a block, and of the rest of the step. */
typedef struct Count {
  int block, rest;
} Count;

typedef struct Lab {
  Compute compute;
  Backend counting;
  Arena memory, step;
  Model model;
  LoraSet set;
  KvCache cache;
  Batch batch;
  Pass pass;
} Lab;

static const char *const config =
    "{\"model_type\":\"%s\",\"vocab_size\":%d,\"hidden_size\":64,\"intermediate_size\":128,"
    "\"num_hidden_layers\":%d,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"rms_norm_"
    "eps\":1e-5,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":false,"
    "\"attention_bias\":%s}";

static void open_parts(Lab *lab, const Work *work, int layers, Arena *memory) {
  Error error = {0};
  char text[512];
  snprintf(text, sizeof text, config, work->head_norms ? "qwen3" : "llama", work->vocab ? work->vocab : 64,
           layers, work->biased ? "true" : "false");
  json_t *json = json_loads(text, 0, NULL);
  assert_true(model_open_config(&lab->model, json, (WeightFormat){.dtype = DTYPE_BF16}, &lab->compute, memory,
                                &error));
  json_decref(json);
  LoraSpec spec = {.r = RANK, .alpha = 16, .dropout = work->dropout};
  assert_true(lora_spec_target(&spec, "all-linear", &error));
  assert_true(lora_open(&lab->set, &spec, lab->model.modules, lab->model.module_count, DTYPE_BF16,
                        !work->decode, &lab->compute, memory, &error));
  lora_spec_free(&spec);
  assert_true(
      kv_cache_init(&lab->cache, &lab->model.spec, BLOCKS, BLOCK, 1, BLOCKS, DTYPE_BF16, memory, &error));
  assert_true(pass_init(&lab->pass, &lab->model, &error));
}

static void close_parts(Lab *lab) {
  pass_free(&lab->pass);
  kv_cache_free(&lab->cache);
  lora_free(&lab->set);
  model_free(&lab->model);
}

static void train(Lab *lab, const Work *work, Arena *step) {
  static const int32_t rows[2] = {3, 9}, targets[2] = {1, 2};
  static const float dlogprob[2] = {1, -1};
  float logprob[2];
  pass_forward(&lab->pass, &lab->compute, &lab->model, &lab->set, &lab->batch, work->mode, step);
  lm_logprobs_backward(&lab->pass, token_rows(rows, targets, 2), 1, dlogprob, NULL, logprob);
  pass_backward(&lab->pass);
}

/* One row at position 0. */
static void decode(Lab *lab, const Work *work, Arena *step) {
  static const int32_t zeros[BLOCKS] = {0}, id = 5;
  compute_upload(&lab->compute, lab->cache.table, zeros);
  const DecodeRows rows = decode_rows_upload(&lab->compute, step, &id, zeros, zeros, 1);
  (void)model_decode(&lab->compute, &lab->model, work->adapted ? &lab->set : NULL, &lab->cache, rows, step);
}

static void run(Lab *lab, const Work *work, Arena *step) {
  (work->decode ? decode : train)(lab, work, step);
}

static void fill(Lab *lab) {
  const RandomKey key = random_key(9, RANDOM_TEST);
  Error error = {0};
  for (int i = 0; i < lab->model.tensor_count; i++)
    device_random(&lab->compute, lab->model.tensors[i].value, key, (uint64_t)i, 0, 0.1f);
  assert_true(lora_initialize(&lab->set, &lab->compute, 1, &error));
}

static void fill_batch(Batch *batch) {
  Error error = {0};
  int32_t ids[TOKENS] = {0};
  int64_t first;
  assert_true(batch_init(batch, TOKENS, 1, &error));
  assert_true(batch_add(batch, ids, TOKENS, &first));
  batch_draw(batch, 17);
}

/* Sizes of the memory that the work takes; the compute is open. */
static void plan(Lab *lab, const Work *work, int layers, Arena *memory, Arena *step) {
  Error error = {0};
  arena_init_dry(memory, "memory");
  arena_init_dry(step, "step");
  compute_dry_begin(&lab->compute);
  open_parts(lab, work, layers, memory);
  run(lab, work, step);
  close_parts(lab);
  assert_true(compute_dry_end(&lab->compute, &error));
}

/* Operations and launches of the work in a model of so many layers. */
static void count(const Work *work, int layers, int *operation, int *launch) {
  Lab lab = {0};
  Arena memory, step;
  test_device_open(&lab.compute, 2);
  fill_batch(&lab.batch);
  plan(&lab, work, layers, &memory, &step);
  device_arena(&lab.compute, &lab.memory, "memory", memory.peak);
  device_arena(&lab.compute, &lab.step, "step", step.peak);
  open_parts(&lab, work, layers, &lab.memory);
  fill(&lab);
  lab.counting = counting_backend(lab.compute.backend);
  lab.compute.backend = &lab.counting;
  operations = 0;
  const uint64_t before = host_launches ? host_launches() : 0;
  run(&lab, work, &lab.step);
  *operation = operations;
  *launch = host_launches ? (int)(host_launches() - before) : 0;
  lab.compute.backend = real;
  close_parts(&lab);
  batch_free(&lab.batch);
  compute_arena_free(&lab.compute, &lab.memory);
  compute_arena_free(&lab.compute, &lab.step);
  compute_close(&lab.compute);
}

/* Whether the counts are those. */
static bool counts_are(const Work *work, Count operation, Count launch) {
  /* The processor makes two norms and what is activated again rather than keep them. */
  if (!host_launches && work->mode == PASS_TRAIN && !work->decode) operation.block += 3;
  int operations_of[2], launches_of[2];
  for (int i = 0; i < 2; i++) count(work, 1 + i, &operations_of[i], &launches_of[i]);
  const Count found = {operations_of[1] - operations_of[0], 2 * operations_of[0] - operations_of[1]},
              launched = {launches_of[1] - launches_of[0], 2 * launches_of[0] - launches_of[1]};
  print_message("    %s: %d operations a block and %d around; %d and %d launches\n", work->name, found.block,
                found.rest, launched.block, launched.rest);
  return found.block == operation.block && found.rest == operation.rest &&
         (!host_launches || (launched.block == launch.block && launched.rest == launch.rest));
}

static void steps_take_as_many_operations_as_they_should(void **state) {
  (void)state;
  static const struct {
    Work work;
    Count operation, launch;
  } cases[] = {
      {{"training with LoRA, recomputing", false, true, PASS_RECOMPUTE, 0, false, false, 0},
       {59, 7},
       {71, 9}},
      {{"with dropout too", false, true, PASS_RECOMPUTE, 0.05f, false, false, 0}, {109, 7}, {111, 9}},
      {{"training with LoRA, nothing run again", false, true, PASS_TRAIN, 0, false, false, 0},
       {46, 7},
       {53, 9}},
      {{"decoding", true, false, PASS_INFERENCE, 0, false, false, 0}, {9, 3}, {9, 3}},
      {{"decoding with biases", true, false, PASS_INFERENCE, 0, true, false, 0}, {9, 3}, {9, 3}},
      {{"decoding with norms of heads", true, false, PASS_INFERENCE, 0, false, true, 0}, {9, 3}, {9, 3}},
      {{"decoding with an adapter", true, true, PASS_INFERENCE, 0, false, false, 0}, {13, 3}, {13, 3}},
  };
  bool right = true;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    right = counts_are(&cases[i].work, cases[i].operation, cases[i].launch) && right;
  assert_true(right);
}

/* What nothing runs again for keeps, of a token and a block: the two residual streams, q, k and v, what they attend to, gate and up; statistics of
 * attention and norms; and what adapters make of their inputs. */
static void a_block_keeps_no_more_than_it_has_to(void **state) {
  (void)state;
  if (host_launches) skip();
  const Work work = {.name = "training", .adapted = true, .mode = PASS_TRAIN};
  const size_t floats = 2 * 64 + (4 + 2 * 2) * 16 + 4 * 16 + 2 * 128 + 4 + 2 + 7 * RANK;
  size_t bytes[2];
  for (int i = 0; i < 2; i++) {
    Lab lab = {0};
    Arena memory, step;
    test_device_open(&lab.compute, 2);
    fill_batch(&lab.batch);
    plan(&lab, &work, 1 + i, &memory, &step);
    bytes[i] = step.peak;
    batch_free(&lab.batch);
    compute_close(&lab.compute);
  }
  assert_int_equal(bytes[1] - bytes[0], floats * TOKENS * sizeof(float));
}

/* Training of adapters with a number of tokens that no tensor core likes. */
static void no_product_is_ragged(void **state) {
  (void)state;
  if (!host_ragged) skip();
  int operation, launch;
  const uint64_t before = host_ragged();
  const Work work = {.name = "61 tokens", .adapted = true, .mode = PASS_TRAIN, .vocab = 61};
  count(&work, 1, &operation, &launch);
  assert_int_equal(host_ragged() - before, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(steps_take_as_many_operations_as_they_should),
                                     cmocka_unit_test(a_block_keeps_no_more_than_it_has_to),
                                     cmocka_unit_test(no_product_is_ragged)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
