/* Recorded decoding steps (backends that can record alone): the same answers as without, to the bit, with idle
 * rows beside the others; and recordings are dropped when what they hold is no longer right. And on every backend: attention
 * is asked about no more of the cache than its longest sequence needs, and about so much of it with the same bits. */
#include "rollout_lab.h"

#include "compute/ops.h"

enum { SAMPLES = 7, NEW_TOKENS = 9, MAX_PROMPT = 6, BATCH = 6 };

typedef struct Case {
  const char *model;
  bool adapted;
  DType dtype;
} Case;

typedef struct Answers {
  RolloutSample samples[SAMPLES];
  int32_t prompts[SAMPLES][MAX_PROMPT];
  int32_t responses[SAMPLES][NEW_TOKENS];
  float logprobs[SAMPLES][NEW_TOKENS];
} Answers;

/* Of different lengths, so that the number of rows changes; at the end one is alone. */
static void run_with(Lab *lab, float penalty, Answers *a) {
  const RandomKey key = random_key(31, RANDOM_TEST);
  const uint32_t vocab = (uint32_t)lab->model.spec.vocab;
  Error error = {0};
  memset(a, 0, sizeof *a);
  for (uint64_t i = 0; i < SAMPLES; i++) {
    for (uint64_t t = 0; t < MAX_PROMPT; t++) a->prompts[i][t] = (int32_t)random_below(key, i, t, vocab);
    a->samples[i] = (RolloutSample){.prompt = a->prompts[i],
                                    .prompt_length = 1 + (int64_t)i % MAX_PROMPT,
                                    .max_new_tokens = 3 + (int64_t)i,
                                    .number = i,
                                    .response = a->responses[i],
                                    .logprobs = a->logprobs[i]};
  }
  const RolloutSpec spec = {
      .seed = 5, .temperature = 0.8F, .top_p = 0.9F, .top_k = 30, .repetition_penalty = penalty};
  lab_check(engine_run(&lab->engine, &spec, a->samples, SAMPLES, &error), &error);
}

static void run(Lab *lab, Answers *a) {
  run_with(lab, 1.2F, a);
}

static void assert_same(const Answers *a, const Answers *b) {
  assert_memory_equal(a->responses, b->responses, sizeof a->responses);
  assert_memory_equal(a->logprobs, b->logprobs, sizeof a->logprobs);
}

static void open_engine(Lab *lab) {
  lab_engine(lab, (EngineConfig){.batch = BATCH,
                                 .max_length = MAX_PROMPT + NEW_TOKENS,
                                 .block_size = 4,
                                 .prefill_chunk = 5,
                                 .edits = true,
                                 .cache_dtype = compute_activation(&lab->compute, lab->model.dtype)});
}

/* As a card whose memory is full. */
static ComputeGraph *no_memory(Compute *compute) {
  backend_cuda->graph_free(compute, backend_cuda->record_end(compute));
  return NULL;
}

static void recorded_equals_unrecorded(void **state) {
  const Case *c = *state;
  static Answers plain, bare, recorded;
  Lab lab;
  lab_open_as(&lab, c->model, c->adapted, c->dtype);
  if (!compute_can_record(&lab.compute)) {
    lab_close(&lab);
    skip();
  }
  const Backend *backend = lab.compute.backend;
  Backend unable = *backend;
  unable.record_begin = NULL;
  lab.compute.backend = &unable;
  open_engine(&lab);
  run(&lab, &plain);
  assert_int_equal(lab.engine.step.recorded, 0);
  lab.engine.adapter = NULL;
  if (c->adapted) run(&lab, &bare);
  lab_engine_close(&lab);

  Backend full = *backend;
  full.record_end = no_memory;
  lab.compute.backend = &full;
  open_engine(&lab);
  run(&lab, &recorded);
  assert_same(&plain, &recorded);
  assert_int_equal(lab.engine.step.recorded, 0);
  lab_engine_close(&lab);

  lab.compute.backend = backend;
  open_engine(&lab);
  for (int pass = 0; pass < 3; pass++) { /* the first records, the others find recordings */
    run(&lab, &recorded);
    assert_same(&plain, &recorded);
    assert_true(lab.engine.step.recorded > 0);
  }
  assert_in_range(lab.engine.step.recorded, 3, 4); /* of 1, 2, 4 and BATCH rows */
  run_with(&lab, 3, &recorded);                    /* a recording holds its penalty */
  assert_memory_not_equal(plain.logprobs, recorded.logprobs, sizeof plain.logprobs);
  run(&lab, &recorded);
  assert_same(&plain, &recorded);
  if (c->adapted) {
    assert_memory_not_equal(plain.logprobs, bare.logprobs, sizeof plain.logprobs);
    lab.engine.adapter = NULL;
    run(&lab, &recorded);
    assert_same(&bare, &recorded);
    lab.engine.adapter = &lab.adapter;
    run(&lab, &recorded);
    assert_same(&plain, &recorded);
  }

  /* A plan made in between gives the scratch arena another place. */
  Error error = {0};
  Arena between;
  device_arena(&lab.compute, &between, "between", 1 << 20);
  compute_dry_begin(&lab.compute);
  lab_check(compute_dry_end(&lab.compute, &error), &error);
  device_spoil(&lab.compute, &lab.compute.scratch);
  run(&lab, &recorded);
  assert_same(&plain, &recorded);
  compute_arena_free(&lab.compute, &between);
  lab_close(&lab);
}

/* -- how much of the cache a step asks about -- */

enum { LONG_PROMPT = 250, LONG_NEW = 12, LONG_LIMIT = 1000, LONG_BLOCK = 16 };

static const Backend *beneath;
static int64_t least_columns, most_columns;
static bool whole_table; /* the operation gets it, whatever it was asked about */

static void seen_attention_paged(Compute *c, Tensor out, Tensor q, PagedCache cache, Tensor sequence,
                                 Tensor position, AttentionSpec spec) {
  const int64_t columns = cache.table.dim[1];
  if (!c->dry && columns < least_columns) least_columns = columns;
  if (!c->dry && columns > most_columns) most_columns = columns;
  if (whole_table) cache.table.dim[1] = cache.table.stride[0];
  beneath->attention_paged(c, out, q, cache, sequence, position, spec);
}

/* A prompt of nearly STEP_REACH tokens alone, whose answer goes on beyond them. */
static void run_long(Lab *lab, int32_t *response, float *logprobs) {
  const RandomKey key = random_key(32, RANDOM_TEST);
  int32_t prompt[LONG_PROMPT];
  Error error = {0};
  for (uint64_t t = 0; t < LONG_PROMPT; t++)
    prompt[t] = (int32_t)random_below(key, 0, t, (uint32_t)lab->model.spec.vocab);
  RolloutSample sample = {.prompt = prompt,
                          .prompt_length = LONG_PROMPT,
                          .max_new_tokens = LONG_NEW,
                          .response = response,
                          .logprobs = logprobs};
  const RolloutSpec spec = {.seed = 6, .temperature = 1, .top_p = 1};
  least_columns = INT64_MAX;
  most_columns = 0;
  lab_engine(lab, (EngineConfig){.batch = 2,
                                 .max_length = LONG_LIMIT,
                                 .block_size = LONG_BLOCK,
                                 .prefill_chunk = 64,
                                 .cache_dtype = compute_activation(&lab->compute, lab->model.dtype)});
  lab_check(engine_run(&lab->engine, &spec, &sample, 1, &error), &error);
}

static void reach_is_that_of_the_longest(void **state) {
  (void)state;
  int32_t response[LONG_NEW], whole_response[LONG_NEW];
  float logprobs[LONG_NEW], whole_logprobs[LONG_NEW];
  Lab lab;
  lab_open_as(&lab, "llama_bf16", false, DTYPE_BF16);
  lab.model.spec.max_positions = LONG_LIMIT;
  beneath = lab.compute.backend;
  Backend seen = *beneath;
  seen.attention_paged = seen_attention_paged;
  lab.compute.backend = &seen;
  run_long(&lab, response, logprobs);
  assert_int_equal(least_columns, STEP_REACH / LONG_BLOCK);
  assert_int_equal(most_columns, 2 * STEP_REACH / LONG_BLOCK);
  whole_table = true;
  run_long(&lab, whole_response, whole_logprobs);
  assert_memory_equal(response, whole_response, sizeof response);
  assert_memory_equal(logprobs, whole_logprobs, sizeof logprobs);
  lab.compute.backend = beneath;
  lab_close(&lab);
}

int main(void) {
  static Case cases[] = {
      {"llama", true, DTYPE_F32}, {"llama_bf16", true, DTYPE_BF16}, {"gpt2", false, DTYPE_F32}};
  const struct CMUnitTest tests[] = {
      {"llama + adapter, f32", recorded_equals_unrecorded, NULL, NULL, &cases[0]},
      {"llama + adapter, bf16", recorded_equals_unrecorded, NULL, NULL, &cases[1]},
      {"gpt2, f32", recorded_equals_unrecorded, NULL, NULL, &cases[2]},
      cmocka_unit_test(reach_is_that_of_the_longest),
  };
  return cmocka_run_group_tests_name("rollout/step", tests, NULL, NULL);
}
