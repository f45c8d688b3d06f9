/* Decoding with the paged cache gives the logits of the full forward, for every architecture of the
 * fixtures, with an adapter and without, in chunks of any size and through scattered blocks. */
#include "rollout_lab.h"
#include "tests/support/decode.h"

static const double TOLERANCE = 2e-5;

enum { SEQUENCES = 2, BLOCKS = 64, BLOCK = 5, MAX_BLOCKS = 8, LENGTH = 37 };

typedef struct Case {
  const char *model;
  bool adapted;
} Case;

/* Runs rows [begin, begin + count) of both sequences at once and puts their logits into
 * out[sequence][position]. */
static void decode_rows(Lab *lab, KvCache *cache, int32_t ids[SEQUENCES][LENGTH], int begin, int count,
                        float *out) {
  int32_t id[SEQUENCES * LENGTH], sequence[SEQUENCES * LENGTH], position[SEQUENCES * LENGTH];
  int n = 0;
  for (int s = 0; s < SEQUENCES; s++) {
    for (int i = 0; i < count; i++, n++) {
      id[n] = ids[s][begin + i];
      sequence[n] = s;
      position[n] = begin + i;
    }
  }
  const size_t mark = arena_mark(&lab->step);
  const DecodeRows rows = decode_rows_upload(&lab->compute, &lab->step, id, sequence, position, n);
  const Tensor logits = model_decode(&lab->compute, &lab->model, lab_lora(lab), cache, rows, &lab->step);
  const int64_t vocab = lab->model.spec.vocab;
  float *values = device_values(&lab->compute, logits);
  for (int i = 0; i < n; i++) {
    memcpy(out + ((int64_t)sequence[i] * LENGTH + position[i]) * vocab, values + i * vocab,
           (size_t)vocab * sizeof *values);
  }
  free(values);
  arena_release(&lab->step, mark);
}

static void decode_all(Lab *lab, KvCache *cache, int32_t ids[SEQUENCES][LENGTH], const int *chunks,
                       float *out) {
  int32_t table[SEQUENCES * MAX_BLOCKS];
  for (int i = 0; i < SEQUENCES * MAX_BLOCKS; i++)
    table[i] = (i * 37 + 11) % BLOCKS; /* 37 and 64 are coprime */
  compute_upload(&lab->compute, cache->table, table);
  for (int begin = 0, c = 0; begin < LENGTH; c++) {
    const int count = chunks[c] < LENGTH - begin ? chunks[c] : LENGTH - begin;
    decode_rows(lab, cache, ids, begin, count, out);
    begin += count;
  }
}

static double largest(const float *a, const float *b, int64_t count) {
  double worst = 0;
  for (int64_t i = 0; i < count; i++) {
    const double d = fabs((double)a[i] - (double)b[i]);
    if (!(d <= worst)) worst = d; /* NaN too */
  }
  return worst;
}

static void full_forward(Lab *lab, int32_t ids[SEQUENCES][LENGTH], float *out) {
  int32_t rows[LENGTH];
  for (int s = 0; s < SEQUENCES; s++) {
    int64_t first;
    batch_clear(&lab->batch);
    assert_true(batch_add(&lab->batch, ids[s], LENGTH, &first));
    for (int i = 0; i < LENGTH; i++) rows[i] = i;
    const size_t mark = arena_mark(&lab->step);
    lab_forward(lab);
    lm_logits(&lab->pass, token_rows(rows, NULL, LENGTH), out + (int64_t)s * LENGTH * lab->model.spec.vocab);
    arena_release(&lab->step, mark);
  }
}

static void decode_equals_forward(void **state) {
  const Case *c = *state;
  Error error = {0};
  Lab lab;
  lab_open(&lab, c->model, c->adapted);
  compute_arena_free(&lab.compute, &lab.step);
  device_arena(&lab.compute, &lab.step, "step", 32 << 20);
  Arena memory;
  device_arena(&lab.compute, &memory, "cache", 32 << 20);
  device_spoil(&lab.compute, &memory);
  KvCache cache;
  compute_dry_begin(&lab.compute); /* scratch for the widest call */
  lab_check(kv_cache_init(&cache, &lab.model.spec, BLOCKS, BLOCK, SEQUENCES, MAX_BLOCKS, DTYPE_F32, &memory,
                          &error),
            &error);
  const int64_t count = SEQUENCES * LENGTH * lab.model.spec.vocab;
  float *full = calloc((size_t)count, sizeof *full), *whole = calloc((size_t)count, sizeof *full),
        *chunked = calloc((size_t)count, sizeof *full);
  int32_t ids[SEQUENCES][LENGTH];
  for (int s = 0; s < SEQUENCES; s++) {
    for (int i = 0; i < LENGTH; i++) {
      ids[s][i] = (int32_t)random_below(random_key(3, RANDOM_TEST), (uint64_t)s, (uint64_t)i,
                                        (uint32_t)lab.model.spec.vocab);
    }
  }
  const int all[1] = {LENGTH}, mixed[] = {3, 1, 7, 12, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  decode_rows(&lab, &cache, ids, 0, LENGTH, whole);
  full_forward(&lab, ids, full);
  lab_check(compute_dry_end(&lab.compute, &error), &error);

  full_forward(&lab, ids, full);
  decode_all(&lab, &cache, ids, all, whole);
  const double difference = largest(full, whole, count);
  print_message("    %s%s: %.2g\n", c->model, c->adapted ? " + adapter" : "", difference);
  assert_true(difference <= TOLERANCE);
  decode_all(&lab, &cache, ids, mixed, chunked);
  assert_memory_equal(whole, chunked, (size_t)count * sizeof *whole); /* to the bit */

  /* A wrong token in the cache is noticed. */
  ids[0][4] = (ids[0][4] + 1) % (int32_t)lab.model.spec.vocab;
  decode_all(&lab, &cache, ids, mixed, chunked);
  assert_true(largest(full, chunked, count) > 10 * TOLERANCE);
  free(full);
  free(whole);
  free(chunked);
  kv_cache_free(&cache);
  compute_arena_free(&lab.compute, &memory);
  lab_close(&lab);
}

int main(void) {
  static Case cases[] = {{"llama", false},
                         {"llama", true},
                         {"llama3", false},
                         {"llama_linear", false},
                         {"mistral", false},
                         {"qwen2", false},
                         {"qwen2_window", false},
                         {"qwen3", false},
                         {"gpt_neox", false},
                         {"gpt_neox", true},
                         {"gpt_neox_sequential", false},
                         {"gpt2", false},
                         {"gpt2", true},
                         {"gpt2_bare", false}};
  enum { COUNT = sizeof cases / sizeof *cases };
  struct CMUnitTest tests[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    tests[i] = (struct CMUnitTest){cases[i].model, decode_equals_forward, NULL, NULL, &cases[i]};
  }
  return cmocka_run_group_tests_name("rollout/decode", tests, NULL, NULL);
}
