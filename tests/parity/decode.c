/* The cached forward of the rollout engine against Transformers' full forward: the same logits, whether a token came in
 * a chunk of its prompt or alone (tests/fixtures/make_models.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/decode.h"
#include "tests/support/rig.h"

static const double TOLERANCE = 2e-5;

enum { BLOCK_SIZE = 4, MAX_BLOCKS = 12, SEQUENCES = 8, MAX_ROWS = 64 };

typedef struct Work {
  KvCache cache;
  int64_t done[SEQUENCES]; /* tokens of each sequence that are in the cache */
  float *out;              /* logits [T,V] in the order of the batch */
} Work;

/* Blocks are given out from the last to the first, so that neighbours are never next to each other. */
static void fill_table(Rig *rig, Work *work) {
  int32_t table[SEQUENCES * MAX_BLOCKS];
  for (int i = 0; i < SEQUENCES * MAX_BLOCKS; i++) table[i] = SEQUENCES * MAX_BLOCKS - 1 - i;
  compute_upload(&rig->compute, work->cache.table, table);
}

/* One call with the next up to `chunk` tokens of each sequence; the sequences take turns in who is longest. */
static bool decode_some(Rig *rig, Work *work, int64_t chunk) {
  int32_t ids[MAX_ROWS], sequence[MAX_ROWS], position[MAX_ROWS];
  int64_t token[MAX_ROWS], n = 0;
  for (int32_t b = 0; b < rig->batch.sequences; b++) {
    const int64_t first = rig->batch.offsets[b], length = rig->batch.offsets[b + 1] - first;
    for (int64_t k = 0; k < 1 + (chunk + b) % 5 && work->done[b] < length; k++, n++) {
      position[n] = (int32_t)work->done[b]++;
      token[n] = first + position[n];
      ids[n] = rig->batch.ids[token[n]];
      sequence[n] = b;
    }
  }
  if (n == 0) return false;
  const size_t mark = arena_mark(&rig->step);
  const DecodeRows rows = decode_rows_upload(&rig->compute, &rig->step, ids, sequence, position, n);
  const Tensor logits = model_decode(&rig->compute, &rig->model, NULL, &work->cache, rows, &rig->step);
  const int64_t vocab = rig->model.spec.vocab;
  float *host = malloc(tensor_bytes(logits));
  assert_non_null(host);
  compute_download(&rig->compute, host, logits);
  if (!rig->compute.dry)
    for (int64_t i = 0; i < n; i++)
      memcpy(work->out + token[i] * vocab, host + i * vocab, (size_t)vocab * sizeof *host);
  free(host);
  arena_release(&rig->step, mark);
  return true;
}

static void decode_all(Rig *rig, void *context) {
  Work *work = context;
  Error error = {0};
  rig_check(kv_cache_init(&work->cache, &rig->model.spec, SEQUENCES * MAX_BLOCKS, BLOCK_SIZE, SEQUENCES,
                          MAX_BLOCKS, DTYPE_F32, &rig->memory, &error),
            &error);
  fill_table(rig, work);
  memset(work->done, 0, sizeof work->done);
  for (int64_t chunk = 0; decode_some(rig, work, chunk); chunk++) continue;
  kv_cache_free(&work->cache);
}

static void test_decode(void **state) {
  const char *model = *state;
  char path[512], name[128];
  snprintf(name, sizeof name, "models/%s/expected", model);
  Fixture fixture;
  fixture_open(&fixture, name);
  int64_t count;
  const float *want = fixture_floats(&fixture, "logits", &count);
  Work work = {.out = calloc((size_t)count, sizeof(float))};
  Rig rig;
  rig_open(&rig, (RigSpec){.model = fixture_path(path, sizeof path, "models", model), .batch = &fixture},
           decode_all, &work);
  decode_all(&rig, &work);
  print_message("    %s: largest difference %.2g\n", model, largest_difference(work.out, want, count));
  assert_near(model, work.out, want, count, TOLERANCE);
  rig_close(&rig);
  fixture_close(&fixture);
  free(work.out);
}

int main(void) {
  static char *const models[] = {
      "llama", "llama3",   "llama_linear",        "mistral", "qwen2",    "qwen2_window",
      "qwen3", "gpt_neox", "gpt_neox_sequential", "gpt2",    "gpt2_bare"};
  enum { COUNT = sizeof models / sizeof *models };
  struct CMUnitTest tests[COUNT];
  for (size_t i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){models[i], test_decode, NULL, NULL, models[i]};
  return cmocka_run_group_tests_name("parity/decode", tests, NULL, NULL);
}
