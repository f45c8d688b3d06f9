/* The engine on tiny models: what a sample gives does not depend, to the bit, on anything but itself; its
 * ids, log-probabilities and ends are right; memory is what was planned. Text is in rollout_text.c. */
#include "rollout_lab.h"

#include "base/memory.h"

enum { SAMPLES = 24, NEW_TOKENS = 20, MAX_PROMPT = 18 };

typedef struct Answers {
  RolloutSample samples[SAMPLES];
  int32_t prompts[SAMPLES][MAX_PROMPT];
  int32_t responses[SAMPLES][NEW_TOKENS];
  float logprobs[SAMPLES][NEW_TOKENS];
} Answers;

/* SAMPLES, or briefly some. */
static int many(void) {
  return device_brief() ? 12 : SAMPLES;
}

/* Samples in groups of three with the same prompt. */
static void ask(Answers *a, int64_t vocab) {
  const RandomKey key = random_key(21, RANDOM_TEST);
  memset(a, 0, sizeof *a);
  for (uint64_t i = 0; i < (uint64_t)many(); i++) {
    const uint64_t group = i / 3;
    const int64_t length = 1 + random_below(key, group, 0, MAX_PROMPT);
    for (int64_t t = 0; t < length; t++) {
      a->prompts[group][t] = (int32_t)random_below(key, group, 1 + (uint64_t)t, (uint32_t)vocab);
    }
    a->samples[i] = (RolloutSample){.prompt = a->prompts[group],
                                    .prompt_length = length,
                                    .max_new_tokens = 1 + random_below(key, 1000 + i, 0, NEW_TOKENS),
                                    .number = 5000 + i,
                                    .response = a->responses[i],
                                    .logprobs = a->logprobs[i]};
  }
}

static const int eos_ids[] = {7, 11, 19, 23, 31, 43, 59, 71};

static RolloutSpec spec_default(void) {
  return (RolloutSpec){
      .seed = 77, .temperature = 0.9F, .top_p = 0.95F, .top_k = 40, .eos_ids = eos_ids, .eos_count = 8};
}

static void assert_same(const Answers *a, const Answers *b) {
  for (int i = 0; i < many(); i++) {
    assert_int_equal(a->samples[i].length, b->samples[i].length);
    assert_int_equal(a->samples[i].finished, b->samples[i].finished);
  }
  assert_memory_equal(a->responses, b->responses, sizeof a->responses);
  assert_memory_equal(a->logprobs, b->logprobs, sizeof a->logprobs);
}

static void run_all(Lab *lab, const RolloutSpec *spec, RolloutSample *samples, int64_t count) {
  Error error = {0};
  lab_check(engine_run(&lab->engine, spec, samples, count, &error), &error);
  assert_false(engine_busy(&lab->engine));
  assert_int_equal(lab->engine.scheduler.blocks.free_count, lab->engine.scheduler.blocks.count);
}

/* One at a time, with no company at all. */
static void run_alone(Lab *lab, const RolloutSpec *spec, DType cache, Answers *a) {
  lab_engine(lab, (EngineConfig){.batch = 1,
                                 .max_length = 38,
                                 .block_size = 4,
                                 .prefill_chunk = 64,
                                 .cache_dtype = cache,
                                 .edits = spec->min_new_tokens > 0});
  ask(a, lab->model.spec.vocab);
  for (int i = 0; i < many(); i++) run_all(lab, spec, &a->samples[i], 1);
}

static void check_company(const char *model, DType cache, bool edits) {
  Lab lab;
  lab_open(&lab, model, !strcmp(model, "llama"));
  RolloutSpec spec = spec_default();
  if (edits) {
    spec.repetition_penalty = 1.3F;
    spec.min_new_tokens = 4;
  }
  static Answers alone, together;
  run_alone(&lab, &spec, cache, &alone);
  int64_t eos = 0, preemptions = 0, shared = 0;
  for (int i = 0; i < many(); i++) eos += alone.samples[i].finished == ROLLOUT_EOS;
  assert_true(eos > 0 && eos < many());

  const int64_t block = kv_block_bytes(&lab.model.spec, 4, cache);
  EngineConfig configs[] = {
      {.batch = many(), .max_length = 38, .block_size = 4, .prefill_chunk = 512},
      {.batch = 5, .max_length = 38, .block_size = 4, .prefill_chunk = 7},
      {.batch = 8, .max_length = 38, .block_size = 4, .prefill_chunk = 16, .cache_bytes = 24 * block},
      {.batch = 13, .max_length = 38, .block_size = 4, .prefill_chunk = 1, .cache_bytes = 10 * block},
      {.batch = 2, .max_length = 40, .block_size = 4, .prefill_chunk = 3},
      {.batch = 16, .max_length = 38, .block_size = 4, .prefill_chunk = 33},
  };
  const int last = device_brief() ? 4 : (int)(sizeof configs / sizeof *configs);
  for (int c = 0; c < last; c++) {
    configs[c].cache_dtype = cache;
    configs[c].edits = edits;
    lab_engine(&lab, configs[c]);
    for (int pass = 0; pass < (c == 0 || !device_brief() ? 2 : 1);
         pass++) { /* twice: nothing is left over from a run */
      ask(&together, lab.model.spec.vocab);
      run_all(&lab, &spec, together.samples, many());
      assert_same(&alone, &together);
    }
    preemptions += lab.engine.stats.preemptions;
    shared += lab.engine.stats.shared_tokens;
  }
  assert_true(preemptions > (device_brief() ? 0 : 2) &&
              shared > (device_brief() ? 20 : 300)); /* both happened and changed nothing */

  /* In another order. */
  ask(&together, lab.model.spec.vocab);
  RolloutSample shuffled[SAMPLES];
  for (int i = 0; i < many(); i++) shuffled[i] = together.samples[i * 7 % many()];
  run_all(&lab, &spec, shuffled, many());
  for (int i = 0; i < many(); i++) together.samples[i * 7 % many()] = shuffled[i];
  assert_same(&alone, &together);

  /* With two threads: planned again, since each has a workspace of its own. */
  lab.compute.threads = 2;
  lab_engine(&lab, configs[2]);
  ask(&together, lab.model.spec.vocab);
  run_all(&lab, &spec, together.samples, many());
  assert_same(&alone, &together);

  /* Other seeds and other numbers give other answers. */
  RolloutSpec other = spec;
  other.seed++;
  ask(&together, lab.model.spec.vocab);
  run_all(&lab, &other, together.samples, many());
  assert_memory_not_equal(alone.responses, together.responses, sizeof alone.responses);
  ask(&together, lab.model.spec.vocab);
  for (int i = 0; i < many(); i++) together.samples[i].number += SAMPLES;
  run_all(&lab, &spec, together.samples, many());
  assert_memory_not_equal(alone.responses, together.responses, sizeof alone.responses);
  lab_close(&lab);
}

static void independent_of_company(void **state) {
  check_company(*state, DTYPE_F32, false);
}

static void independent_in_8_bits(void **state) {
  check_company(*state, DTYPE_I8, false);
}

/* What a sequence has said so far is known again after a preemption. */
static void independent_when_edited(void **state) {
  check_company(*state, DTYPE_F32, true);
}

/* The log-probabilities returned are those of the full forward at the temperature, whatever top-k and
 * top-p cut. */
static void logprobs_are_the_models(void **state) {
  Lab lab;
  lab_open(&lab, *state, !strcmp(*state, "gpt2"));
  static Answers a;
  lab_engine(&lab, (EngineConfig){.batch = 7, .max_length = 38, .block_size = 4, .prefill_chunk = 9});
  RolloutSpec spec = spec_default();
  spec.temperature = 0.7F;
  spec.top_k = 5;
  ask(&a, lab.model.spec.vocab);
  run_all(&lab, &spec, a.samples, many());
  double worst = 0;
  for (int i = 0; i < many(); i++) {
    const RolloutSample *sample = &a.samples[i];
    int32_t ids[LAB_TOKENS], rows[NEW_TOKENS];
    float expected[NEW_TOKENS];
    int64_t first;
    memcpy(ids, sample->prompt, (size_t)sample->prompt_length * sizeof *ids);
    memcpy(ids + sample->prompt_length, sample->response, (size_t)sample->length * sizeof *ids);
    batch_clear(&lab.batch);
    assert_true(batch_add(&lab.batch, ids, sample->prompt_length + sample->length, &first));
    for (int t = 0; t < sample->length; t++) rows[t] = (int32_t)sample->prompt_length - 1 + t;
    lab_forward(&lab);
    lm_logprobs(&lab.pass, token_rows(rows, sample->response, sample->length), 0.7F, expected, NULL);
    arena_release(&lab.step, 0);
    for (int t = 0; t < sample->length; t++)
      worst = fmax(worst, fabs(expected[t] - (double)sample->logprobs[t]));
  }
  print_message("    %s: %.2g\n", (const char *)*state, worst);
  assert_true(worst < 5e-5 && worst > 0);
  lab_close(&lab);
}

/* Greedy: each token is the most probable one of the full forward. */
static void greedy_is_argmax(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "qwen2", false);
  static Answers a;
  static float logits[LAB_TOKENS * 512];
  lab_engine(&lab, (EngineConfig){.batch = 6, .max_length = 38, .block_size = 8, .prefill_chunk = 11});
  RolloutSpec spec = {.temperature = 0, .top_p = 1};
  ask(&a, lab.model.spec.vocab);
  run_all(&lab, &spec, a.samples, many());
  const int64_t vocab = lab.model.spec.vocab;
  for (int i = 0; i < many(); i++) {
    const RolloutSample *sample = &a.samples[i];
    assert_int_equal(sample->length, sample->max_new_tokens);
    assert_int_equal(sample->finished, ROLLOUT_LENGTH);
    int32_t ids[LAB_TOKENS], rows[LAB_TOKENS];
    int64_t first;
    memcpy(ids, sample->prompt, (size_t)sample->prompt_length * sizeof *ids);
    memcpy(ids + sample->prompt_length, sample->response, (size_t)sample->length * sizeof *ids);
    batch_clear(&lab.batch);
    assert_true(batch_add(&lab.batch, ids, sample->prompt_length + sample->length, &first));
    for (int t = 0; t < sample->length; t++) rows[t] = (int32_t)sample->prompt_length - 1 + t;
    lab_forward(&lab);
    lm_logits(&lab.pass, token_rows(rows, NULL, sample->length), logits);
    arena_release(&lab.step, 0);
    for (int t = 0; t < sample->length; t++) {
      int64_t best = 0;
      for (int64_t v = 1; v < vocab; v++) {
        if (logits[t * vocab + v] > logits[t * vocab + best]) best = v;
      }
      assert_int_equal(sample->response[t], best);
    }
  }
  lab_close(&lab);
}

/* The response ends with the first EOS, has it, and no other before. */
static void ends(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  static Answers a;
  lab_engine(&lab, (EngineConfig){.batch = 4, .max_length = 22, .block_size = 8, .prefill_chunk = 64});
  const RolloutSpec spec = spec_default();
  ask(&a, lab.model.spec.vocab);
  for (int i = 0; i < many(); i++) a.samples[i].max_new_tokens = NEW_TOKENS;
  run_all(&lab, &spec, a.samples, many());
  int count[4] = {0};
  for (int i = 0; i < many(); i++) {
    const RolloutSample *s = &a.samples[i];
    count[s->finished]++;
    for (int64_t t = 0; t < s->length; t++) {
      bool eos = false;
      for (size_t e = 0; e < spec.eos_count; e++) eos |= s->response[t] == eos_ids[e];
      assert_true(eos == (s->finished == ROLLOUT_EOS && t == s->length - 1));
    }
    if (s->finished == ROLLOUT_LENGTH) {
      assert_true(s->length == NEW_TOKENS || s->prompt_length + s->length == 22);
    }
  }
  assert_true(count[ROLLOUT_EOS] > 0 && count[ROLLOUT_LENGTH] > 0);
  assert_string_equal(rollout_finish_name(ROLLOUT_EOS), "eos");
  assert_string_equal(rollout_finish_name(ROLLOUT_LENGTH), "length");
  assert_string_equal(rollout_finish_name(ROLLOUT_STOP), "stop");
  lab_close(&lab);
}

/* on_token sees every token once and in order, also when a sample is computed again after a preemption. */
typedef struct Seen {
  int64_t tokens[SAMPLES];
  int finished;
} Seen;

static void see(void *context, const RolloutSample *sample, const char *text, size_t bytes) {
  Seen *seen = context;
  assert_int_equal(bytes, 0); /* no tokenizer, no text */
  assert_non_null(text);
  const int64_t i = (int64_t)sample->number - 5000;
  assert_int_equal(++seen->tokens[i], sample->length);
  seen->finished += sample->finished != ROLLOUT_UNFINISHED;
}

static void every_token_once(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  static Answers a;
  const int64_t block = kv_block_bytes(&lab.model.spec, 4, DTYPE_F32);
  lab_engine(
      &lab,
      (EngineConfig){
          .batch = 8, .max_length = 38, .block_size = 4, .prefill_chunk = 16, .cache_bytes = 10 * block});
  Seen seen = {0};
  RolloutSpec spec = spec_default();
  spec.on_token = see;
  spec.context = &seen;
  ask(&a, lab.model.spec.vocab);
  for (int i = 0; i < many(); i++) a.samples[i].max_new_tokens = NEW_TOKENS;
  run_all(&lab, &spec, a.samples, many());
  assert_int_equal(seen.finished, many());
  int64_t tokens = 0;
  for (int i = 0; i < many(); i++) {
    assert_int_equal(seen.tokens[i], a.samples[i].length);
    tokens += a.samples[i].length;
  }
  const EngineStats *stats = &lab.engine.stats;
  assert_int_equal(stats->sampled_tokens, tokens);
  assert_true(stats->preemptions > 0 && stats->decode_tokens <= tokens);
  lab_close(&lab);
}

/* The logits that are handed out are those of the distribution that a token came from: at the temperature its log-probability is the one that
 * comes back. Of every token once; with edits, small cache and groups. */
typedef struct Rows {
  int64_t vocab;
  float *rows; /* [many(), NEW_TOKENS, vocab] */
  int64_t asked;
} Rows;

static float *place(void *context, const RolloutSample *sample) {
  Rows *rows = context;
  rows->asked++;
  if (sample->length % 3 == 2) return NULL; /* not wanted */
  return rows->rows + (((int64_t)sample->number - 5000) * NEW_TOKENS + sample->length) * rows->vocab;
}

static void logits_are_handed_out(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", true);
  static Answers a;
  const int64_t block = kv_block_bytes(&lab.model.spec, 4, DTYPE_F32), vocab = lab.model.spec.vocab;
  lab_engine(&lab, (EngineConfig){.batch = 8,
                                  .max_length = 38,
                                  .block_size = 4,
                                  .prefill_chunk = 16,
                                  .cache_bytes = 10 * block,
                                  .edits = true});
  Rows rows = {.vocab = vocab, .rows = calloc((size_t)(many() * NEW_TOKENS * vocab), sizeof(float))};
  assert_non_null(rows.rows);
  RolloutSpec spec = spec_default();
  spec.repetition_penalty = 1.3F;
  spec.min_new_tokens = 4;
  spec.place_logits = place;
  spec.context = &rows;
  ask(&a, vocab);
  run_all(&lab, &spec, a.samples, many());
  double worst = 0;
  int64_t tokens = 0;
  for (int i = 0; i < many(); i++) {
    const RolloutSample *sample = &a.samples[i];
    tokens += sample->length;
    for (int64_t t = 0; t < sample->length; t++) {
      const float *row = rows.rows + (i * NEW_TOKENS + t) * vocab;
      double sum = 0;
      if (t % 3 == 2) continue;
      for (int64_t v = 0; v < vocab; v++)
        sum += exp(((double)row[v] - (double)row[sample->response[t]]) / (double)spec.temperature);
      worst = fmax(worst, fabs(-log(sum) - (double)sample->logprobs[t]));
    }
  }
  assert_int_equal(rows.asked, tokens);
  assert_true(lab.engine.stats.preemptions > 0);
  print_message("    %.2g\n", worst);
  assert_true(worst < 1e-5 && worst > 0);
  free(rows.rows);
  lab_close(&lab);
}

static void abandoned(void **state) {
  (void)state;
  Error error = {0};
  Lab lab;
  lab_open(&lab, "llama", false);
  static Answers first, second;
  lab_engine(&lab, (EngineConfig){.batch = 4, .max_length = 38, .block_size = 4, .prefill_chunk = 16});
  const RolloutSpec spec = spec_default();
  ask(&first, lab.model.spec.vocab);
  run_all(&lab, &spec, first.samples, many());
  ask(&second, lab.model.spec.vocab);
  lab_check(engine_begin(&lab.engine, &spec, second.samples, many(), &error), &error);
  for (int i = 0; i < 5; i++) lab_check(engine_step(&lab.engine, &error), &error);
  assert_true(engine_busy(&lab.engine));
  engine_abandon(&lab.engine);
  assert_false(engine_busy(&lab.engine));
  ask(&second, lab.model.spec.vocab);
  run_all(&lab, &spec, second.samples, many());
  assert_same(&first, &second);
  run_all(&lab, &spec, second.samples, 0); /* nothing to do is fine */
  lab_close(&lab);
}

static int64_t cache_bytes(const KvCache *cache) {
  size_t bytes = 0;
  for (int64_t i = 0; i < cache->layer_count; i++) {
    const PagedCache *c = &cache->layers[i];
    const Tensor parts[] = {c->keys, c->values, c->key_scales, c->value_scales};
    for (int k = 0; k < 4; k++) bytes += tensor_is_none(parts[k]) ? 0 : tensor_bytes(parts[k]);
  }
  return (int64_t)bytes;
}

/* Narrower keys and values: less memory, nearly the same probabilities. */
static void narrow_cache(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  static Answers wide, narrow;
  const RolloutSpec spec = {.temperature = 0, .top_p = 1};
  EngineConfig config = {.batch = 4, .max_length = 38, .block_size = 8, .prefill_chunk = 16};
  lab_engine(&lab, config);
  size_t bytes = lab.rollout.peak;
  ask(&wide, lab.model.spec.vocab);
  run_all(&lab, &spec, wide.samples, many());
  const DType narrower[] = {DTYPE_BF16, DTYPE_I8};
  for (int k = 0; k < 2; k++) {
    config.cache_dtype = narrower[k];
    lab_engine(&lab, config);
    assert_true(lab.rollout.peak < bytes);
    assert_int_equal(kv_block_bytes(&lab.model.spec, config.block_size, narrower[k]),
                     cache_bytes(&lab.engine.cache) / lab.engine.cache.blocks);
    bytes = lab.rollout.peak;
    ask(&narrow, lab.model.spec.vocab);
    run_all(&lab, &spec, narrow.samples, many());
    double worst = 0;
    for (int i = 0; i < many(); i++)
      worst = fmax(worst, fabs((double)wide.logprobs[i][0] - narrow.logprobs[i][0]));
    print_message("    %s: %.2g nats\n", dtype_name(narrower[k]), worst);
    assert_true(worst > 0 && worst < 0.05);
  }
  lab_close(&lab);
}

/* Keys and values are kept as the training forward has them, unless another dtype is asked for. */
static void default_cache(void **state) {
  (void)state;
  Compute c;
  Error error = {0};
  assert_true(compute_open(&c, DEVICE_CPU, 1, &error));
  assert_int_equal(engine_config_default(&c, DTYPE_F32).cache_dtype, DTYPE_F32);
  assert_int_equal(engine_config_default(&c, DTYPE_BF16).cache_dtype, compute_activation(&c, DTYPE_BF16));
  compute_close(&c);
}

static void expect_error(const Error *error, ErrorCode code, const char *part) {
  if (error->code != code || !strstr(error->message, part)) fail_msg("%d: %s", error->code, error->message);
}

/* Weights with a NaN: an error, and not the token 0 for ever. Greedy and sampled alike. */
static void broken_weights_are_said(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  lab_engine(&lab, (EngineConfig){.batch = 2, .max_length = 10, .block_size = 4, .prefill_chunk = 8});
  const Tensor weight = lab.model.tensors[lab.model.tensor_count - 1].value;
  float *values = device_values(&lab.compute, weight);
  values[0] = NAN;
  device_write(&lab.compute, weight, values);
  free(values);
  const int32_t prompt[3] = {1, 2, 3};
  for (int i = 0; i < 2; i++) {
    int32_t response[4];
    Error error = {0};
    RolloutSpec spec = spec_default();
    if (i) spec.temperature = 0;
    RolloutSample sample = {
        .prompt = prompt, .prompt_length = 3, .max_new_tokens = 4, .response = response, .number = 8};
    assert_false(engine_run(&lab.engine, &spec, &sample, 1, &error));
    expect_error(&error, ERROR_MODEL, "not finite (NaN or infinite) at token 1 of answer 8");
    engine_abandon(&lab.engine);
  }
  lab_close(&lab);
}

static void mistakes(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  lab_engine(&lab, (EngineConfig){.batch = 2, .max_length = 10, .block_size = 4, .prefill_chunk = 8});
  const RolloutSpec spec = spec_default();
  const int32_t prompt[12] = {1, 2, 3, 101, -1};
  int32_t response[4];
  RolloutSample good = {.prompt = prompt, .prompt_length = 3, .max_new_tokens = 4, .response = response};
  const struct {
    RolloutSample sample;
    ErrorCode code;
    const char *part;
  } cases[] = {
      {{.prompt = prompt, .prompt_length = 0, .max_new_tokens = 4}, ERROR_DATA, "prompt 1 is empty"},
      {{.prompt = prompt, .prompt_length = 10, .max_new_tokens = 4}, ERROR_DATA, "prompt 1 has 10 tokens"},
      {{.prompt = prompt, .prompt_length = 4, .max_new_tokens = 4}, ERROR_DATA, "id 101 at 3"},
      {{.prompt = prompt + 4, .prompt_length = 1, .max_new_tokens = 4}, ERROR_DATA, "id -1 at 0"},
      {{.prompt = prompt, .prompt_length = 3, .max_new_tokens = 0}, ERROR_USAGE, "max_new_tokens is 0"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    RolloutSample samples[2] = {good, cases[i].sample};
    samples[1].response = response;
    assert_false(engine_run(&lab.engine, &spec, samples, 2, &error));
    expect_error(&error, cases[i].code, cases[i].part);
    assert_false(engine_busy(&lab.engine));
  }
  Engine engine;
  Error error = {0};
  const int64_t block = kv_block_bytes(&lab.model.spec, 4, DTYPE_F32);
  assert_false(engine_init(
      &engine,
      (EngineConfig){
          .batch = 2, .max_length = 10, .block_size = 4, .prefill_chunk = 8, .cache_bytes = 2 * block},
      &lab.model, NULL, &lab.compute, &lab.rollout, &error));
  expect_error(&error, ERROR_MEMORY, "holds 8 tokens");
  error = (Error){0};
  assert_false(engine_init(&engine,
                           (EngineConfig){.batch = 0, .max_length = 10, .block_size = 4, .prefill_chunk = 8},
                           &lab.model, NULL, &lab.compute, &lab.rollout, &error));
  expect_error(&error, ERROR_USAGE, "batch 0");
  lab_close(&lab);
}

static void too_many_ends_to_ban(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  lab_engine(
      &lab, (EngineConfig){.batch = 2, .max_length = 10, .block_size = 4, .prefill_chunk = 8, .edits = true});
  static const int many_ends[STEP_BANNED + 1];
  const RolloutSpec spec = {.eos_ids = many_ends, .eos_count = STEP_BANNED + 1, .min_new_tokens = 1};
  int32_t prompt = 1, response[4];
  RolloutSample sample = {.prompt = &prompt, .prompt_length = 1, .max_new_tokens = 4, .response = response};
  Error error = {0};
  assert_false(engine_run(&lab.engine, &spec, &sample, 1, &error));
  expect_error(&error, ERROR_USAGE, "at most 64");
  lab_close(&lab);
}

/* Every host allocation of engine_init failing in turn: an error, and nothing leaked (ASan). */
static void out_of_memory(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "llama", false);
  const EngineConfig config = {
      .batch = 2, .max_length = 10, .block_size = 4, .prefill_chunk = 8, .edits = true};
  lab_engine(&lab, config);
  engine_free(&lab.engine);
  long count = 0;
  for (; !lab.engine.texts; count++) {
    Error error = {0};
    arena_release(&lab.rollout, 0);
    memory_fail_after(count);
    const bool ok =
        engine_init(&lab.engine, config, &lab.model, lab_lora(&lab), &lab.compute, &lab.rollout, &error);
    memory_fail_after(-1);
    assert_true(ok == (lab.engine.texts != NULL));
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
  }
  assert_true(count > 10);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      {"independent_of_company llama", independent_of_company, NULL, NULL, "llama"},
      {"independent_of_company mistral", independent_of_company, NULL, NULL, "mistral"},
      {"independent_of_company gpt_neox", independent_of_company, NULL, NULL, "gpt_neox"},
      {"independent_of_company gpt2", independent_of_company, NULL, NULL, "gpt2"},
      {"independent_in_8_bits llama", independent_in_8_bits, NULL, NULL, "llama"},
      {"independent_when_edited llama", independent_when_edited, NULL, NULL, "llama"},
      {"logprobs_are_the_models llama3", logprobs_are_the_models, NULL, NULL, "llama3"},
      {"logprobs_are_the_models gpt2", logprobs_are_the_models, NULL, NULL, "gpt2"},
      cmocka_unit_test(greedy_is_argmax),
      cmocka_unit_test(ends),
      cmocka_unit_test(every_token_once),
      cmocka_unit_test(logits_are_handed_out),
      cmocka_unit_test(abandoned),
      cmocka_unit_test(narrow_cache),
      cmocka_unit_test(default_cache),
      cmocka_unit_test(broken_weights_are_said),
      cmocka_unit_test(mistakes),
      cmocka_unit_test(too_many_ends_to_ban),
      cmocka_unit_test(out_of_memory),
  };
  const struct CMUnitTest brief[] = {
      {"independent_of_company llama", independent_of_company, NULL, NULL, "llama"},
      {"independent_in_8_bits llama", independent_in_8_bits, NULL, NULL, "llama"},
      {"independent_when_edited llama", independent_when_edited, NULL, NULL, "llama"},
      {"logprobs_are_the_models llama3", logprobs_are_the_models, NULL, NULL, "llama3"},
      cmocka_unit_test(greedy_is_argmax),
      cmocka_unit_test(ends),
      cmocka_unit_test(every_token_once),
      cmocka_unit_test(logits_are_handed_out),
      cmocka_unit_test(abandoned),
      cmocka_unit_test(narrow_cache),
      cmocka_unit_test(default_cache),
      cmocka_unit_test(broken_weights_are_said),
  };
  if (device_brief()) return cmocka_run_group_tests(brief, NULL, NULL);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
