/* The scheduler with a model of its own: the "keys and values" of a token are the token itself, and the next
 * token is a hash of all that the row can read through the block table. A wrong table, a block that is
 * overwritten or freed too early, or a row too many or too few changes what is generated. */
#include "rollout/scheduler.h"

#include "base/memory.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_SAMPLES = 64, MAX_TOKENS = 64, VOCAB = 1000, END = 7 };

static uint32_t hash_step(uint32_t hash, int32_t token) {
  return (hash ^ (uint32_t)token) * 16777619u;
}

static int32_t hash_token(uint32_t hash, uint64_t number) {
  hash = hash_step(hash, (int32_t)number);
  hash ^= hash >> 15;
  return (int32_t)(hash % 29 == 0 ? END : hash % VOCAB);
}

/* What a sample must give, without any scheduler. */
static void expected_response(const RolloutSample *sample, int32_t *out, int64_t *length) {
  uint32_t hash = 2166136261u;
  for (int64_t i = 0; i < sample->prompt_length; i++) hash = hash_step(hash, sample->prompt[i]);
  for (*length = 0; *length < sample->max_new_tokens;) {
    const int32_t token = hash_token(hash, sample->number);
    out[(*length)++] = token;
    if (token == END) break;
    hash = hash_step(hash, token);
  }
}

typedef struct Toy {
  Scheduler scheduler;
  int32_t *cache; /* [blocks * block_size] */
  int64_t steps, rows;
  int64_t most_running;
} Toy;

static int32_t *toy_cell(Toy *toy, int32_t slot, int64_t position) {
  const Scheduler *s = &toy->scheduler;
  const int32_t block = s->table[slot * s->max_blocks + position / s->block_size];
  return toy->cache + block * s->block_size + position % s->block_size;
}

static void toy_step(Toy *toy) {
  Scheduler *s = &toy->scheduler;
  scheduler_plan(s);
  assert_true(s->row_count > 0);
  assert_true(s->prompt_rows <= s->prefill_chunk && s->row_count <= s->slots + s->prefill_chunk);
  for (int64_t r = 0; r < s->row_count; r++) {
    /* A block in several hands is only read. */
    const int32_t block = s->table[s->sequence[r] * s->max_blocks + s->position[r] / s->block_size];
    assert_int_equal(s->blocks.users[block], 1);
    *toy_cell(toy, s->sequence[r], s->position[r]) = s->ids[r];
  }
  for (int64_t p = 0; p < s->pick_count; p++) {
    const int32_t row = s->picked[p];
    RolloutSample *sample = s->running[s->picked_running[p]].sample;
    uint32_t hash = 2166136261u;
    for (int32_t i = 0; i <= s->position[row]; i++) {
      hash = hash_step(hash, *toy_cell(toy, s->sequence[row], i));
    }
    const int32_t token = hash_token(hash, sample->number);
    sample->response[sample->length++] = token;
    if (token == END)
      sample->finished = ROLLOUT_EOS;
    else if (sample->length == sample->max_new_tokens)
      sample->finished = ROLLOUT_LENGTH;
  }
  toy->steps++;
  toy->rows += s->row_count;
  if (s->running_count > toy->most_running) toy->most_running = s->running_count;
  scheduler_retire(s);
}

typedef struct Problem {
  int64_t samples, group, slots, blocks, block_size, chunk;
} Problem;

/* Runs `samples` samples in groups with one prompt each and compares every response. */
static void run_problem(Problem p, uint64_t seed, Toy *toy) {
  Error error = {0};
  const RandomKey key = random_key(seed, RANDOM_TEST);
  static int32_t prompts[MAX_SAMPLES][MAX_TOKENS], responses[MAX_SAMPLES][MAX_TOKENS];
  RolloutSample samples[MAX_SAMPLES] = {0};
  const int64_t max_blocks = (2 * MAX_TOKENS + p.block_size - 1) / p.block_size;
  *toy = (Toy){0};
  assert_true(scheduler_init(&toy->scheduler, p.slots, p.blocks, p.block_size, max_blocks, p.chunk, &error));
  toy->cache = memory_zeroed((size_t)(p.blocks * p.block_size), sizeof *toy->cache);
  for (int64_t i = 0; i < p.samples; i++) {
    const int64_t group = i / p.group;
    const int64_t length = 1 + random_below(key, (uint64_t)group, 0, MAX_TOKENS - 1);
    for (int64_t t = 0; t < length; t++) {
      prompts[group][t] = (int32_t)random_below(key, (uint64_t)group, (uint64_t)t + 1, VOCAB);
    }
    samples[i] = (RolloutSample){.prompt = prompts[group],
                                 .prompt_length = length,
                                 .max_new_tokens = 1 + random_below(key, (uint64_t)i, 1000, MAX_TOKENS - 1),
                                 .number = (uint64_t)i,
                                 .response = responses[i]};
    scheduler_enqueue(&toy->scheduler, &samples[i]);
  }
  while (scheduler_busy(&toy->scheduler)) {
    toy_step(toy);
    assert_true(toy->steps < 100000);
  }
  assert_int_equal(toy->scheduler.blocks.free_count, p.blocks);
  for (int64_t i = 0; i < p.samples; i++) {
    int32_t expected[MAX_TOKENS];
    int64_t length;
    expected_response(&samples[i], expected, &length);
    assert_int_equal(samples[i].length, length);
    assert_memory_equal(samples[i].response, expected, (size_t)length * sizeof *expected);
  }
  memory_free(toy->cache);
}

static void finish(Toy *toy) {
  scheduler_free(&toy->scheduler);
}

static void many_shapes(void **state) {
  (void)state;
  const RandomKey key = random_key(3, RANDOM_TEST);
  int64_t preemptions = 0, shared = 0;
  for (uint64_t i = 0; i < 400; i++) {
    const int64_t block_size = 1 + random_below(key, i, 0, 20);
    const int64_t least = (2 * MAX_TOKENS + block_size - 1) / block_size;
    const Problem problem = {.samples = 1 + random_below(key, i, 1, MAX_SAMPLES),
                             .group = 1 + random_below(key, i, 2, 6),
                             .slots = 1 + random_below(key, i, 3, 20),
                             .blocks = least + random_below(key, i, 4, (uint32_t)(4 * least)),
                             .block_size = block_size,
                             .chunk = 1 + random_below(key, i, 5, 100)};
    Toy toy;
    run_problem(problem, i, &toy);
    preemptions += toy.scheduler.preemptions;
    shared += toy.scheduler.shared_tokens;
    finish(&toy);
  }
  assert_true(preemptions > 100 && shared > 10000); /* the shapes exercise both */
}

/* With room for all, nothing is preempted and the batch is full. */
static void no_waste(void **state) {
  (void)state;
  Toy toy;
  const Problem problem = {
      .samples = 40, .group = 1, .slots = 8, .blocks = 8 * 8, .block_size = 16, .chunk = 1000};
  run_problem(problem, 5, &toy);
  assert_int_equal(toy.scheduler.preemptions, 0);
  assert_int_equal(toy.most_running, 8);
  finish(&toy);
}

/* A group of eight runs its prompt's full blocks once. */
static void prompts_are_shared(void **state) {
  (void)state;
  Error error = {0};
  int32_t prompt[50], response[8][4];
  for (int t = 0; t < 50; t++) prompt[t] = t + 10;
  RolloutSample samples[8];
  Toy toy = {0};
  assert_true(scheduler_init(&toy.scheduler, 8, 40, 16, 8, 64, &error));
  toy.cache = memory_zeroed(40 * 16, sizeof *toy.cache);
  for (int i = 0; i < 8; i++) {
    samples[i] = (RolloutSample){.prompt = prompt,
                                 .prompt_length = 50,
                                 .max_new_tokens = 4,
                                 .number = (uint64_t)i,
                                 .response = response[i]};
    scheduler_enqueue(&toy.scheduler, &samples[i]);
  }
  toy_step(&toy);
  assert_int_equal(toy.scheduler.running_count, 1); /* the others wait for the prompt ... */
  assert_int_equal(toy.rows, 50);
  toy_step(&toy);
  assert_int_equal(toy.most_running, 8); /* ... and then run 2 of its 50 tokens each */
  assert_int_equal(toy.rows, 50 + 1 + 7 * 2);
  assert_int_equal(toy.scheduler.shared_tokens, 7 * 48);
  while (scheduler_busy(&toy.scheduler)) toy_step(&toy);
  assert_int_equal(toy.scheduler.blocks.free_count, 40);
  memory_free(toy.cache);
  finish(&toy);
}

/* A finished sequence is replaced in the very next step. */
static void replaced_at_once(void **state) {
  (void)state;
  Error error = {0};
  int32_t prompt[4] = {1, 2, 3, 4}, response[6][16];
  RolloutSample samples[6];
  Scheduler s;
  assert_true(scheduler_init(&s, 2, 16, 8, 4, 64, &error));
  for (int i = 0; i < 6; i++) {
    samples[i] =
        (RolloutSample){.prompt = prompt, .prompt_length = 4, .max_new_tokens = 16, .response = response[i]};
    scheduler_enqueue(&s, &samples[i]);
  }
  scheduler_plan(&s);
  assert_int_equal(s.running_count, 2);
  assert_int_equal(s.row_count, 8);
  for (int i = 0; i < 2; i++) samples[i].response[samples[i].length++] = 9;
  samples[0].finished = ROLLOUT_EOS;
  scheduler_retire(&s);
  assert_int_equal(s.running_count, 1);
  scheduler_plan(&s);
  assert_int_equal(s.running_count, 2);
  assert_ptr_equal(s.running[1].sample, &samples[2]);
  assert_int_equal(s.row_count, 1 + 4); /* one decodes beside the other's prompt */
  assert_int_equal(s.pick_count, 2);
  scheduler_clear(&s);
  assert_false(scheduler_busy(&s));
  assert_int_equal(s.blocks.free_count, 16);
  scheduler_free(&s);
}

/* The oldest sequence is never the one that gives way, and who gave way comes back before all others. */
static void youngest_gives_way(void **state) {
  (void)state;
  Error error = {0};
  int32_t prompt[4] = {1, 2, 3, 4}, other[4] = {5, 6, 7, 8}, response[3][16];
  Scheduler s;
  assert_true(scheduler_init(&s, 2, 5, 4, 5, 64, &error));
  RolloutSample samples[3];
  for (int i = 0; i < 3; i++) {
    samples[i] = (RolloutSample){
        .prompt = i == 1 ? other : prompt, .prompt_length = 4, .max_new_tokens = 16, .response = response[i]};
    scheduler_enqueue(&s, &samples[i]);
  }
  for (int step = 0; s.preemptions == 0; step++) {
    assert_true(step < 20);
    scheduler_plan(&s);
    if (s.preemptions) break;
    for (int64_t i = 0; i < s.running_count; i++) {
      s.running[i].sample->response[s.running[i].sample->length++] = 9;
    }
  }
  assert_int_equal(s.running_count, 1);
  assert_ptr_equal(s.running[0].sample, &samples[0]);
  assert_ptr_equal(s.waiting, &samples[1]);
  assert_ptr_equal(samples[1].next, &samples[2]);
  samples[0].finished = ROLLOUT_LENGTH;
  scheduler_retire(&s);
  scheduler_plan(&s);
  assert_ptr_equal(s.running[0].sample, &samples[1]);
  assert_int_equal(s.running[0].computed, 4 + samples[1].length); /* its own tokens again, in one chunk */
  scheduler_clear(&s);
  scheduler_free(&s);
}

static void out_of_memory(void **state) {
  (void)state;
  long count = 0;
  for (;; count++) {
    Error error = {0};
    Scheduler s;
    memory_fail_after(count);
    const bool ok = scheduler_init(&s, 4, 16, 8, 4, 64, &error);
    memory_fail_after(-1);
    if (ok) {
      scheduler_free(&s);
      break;
    }
    assert_int_equal(error.code, ERROR_MEMORY);
  }
  assert_true(count > 5);
}

/* Every length comes, the ends too, and the same again for the same prompt. */
static void limits_of_prompts(void **state) {
  (void)state;
  int seen[5] = {0}, other = 0;
  for (uint64_t prompt = 0; prompt < 500; prompt++) {
    const int64_t limit = rollout_limit(1, prompt, 3, 7);
    assert_in_range(limit, 3, 7);
    assert_int_equal(rollout_limit(1, prompt, 3, 7), limit);
    other += rollout_limit(2, prompt, 3, 7) != limit;
    seen[limit - 3]++;
  }
  for (int i = 0; i < 5; i++) assert_in_range(seen[i], 60, 140);
  assert_true(other > 300);
  assert_int_equal(rollout_limit(1, 0, 4, 4), 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_shapes),        cmocka_unit_test(no_waste),
      cmocka_unit_test(prompts_are_shared), cmocka_unit_test(replaced_at_once),
      cmocka_unit_test(youngest_gives_way), cmocka_unit_test(limits_of_prompts),
      cmocka_unit_test(out_of_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
