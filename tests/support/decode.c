#include "tests/support/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Blocks are given out from the last to the first, so that neighbours are never next to each other. */
static void fill_table(Rig *rig, DecodeBatch *work) {
  int32_t table[DECODE_SEQUENCES * DECODE_BLOCKS];
  for (int i = 0; i < DECODE_SEQUENCES * DECODE_BLOCKS; i++)
    table[i] = DECODE_SEQUENCES * DECODE_BLOCKS - 1 - i;
  compute_upload(&rig->compute, work->cache.table, table);
}

/* One call with the next up to `chunk` tokens of each sequence; the sequences take turns in who is longest. */
static bool decode_some(Rig *rig, DecodeBatch *work, int64_t chunk) {
  int32_t ids[DECODE_ROWS], sequence[DECODE_ROWS], position[DECODE_ROWS];
  int64_t token[DECODE_ROWS], n = 0;
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

void decode_batch(Rig *rig, void *context) {
  DecodeBatch *work = context;
  Error error = {0};
  rig_check(kv_cache_init(&work->cache, &rig->model.spec, DECODE_SEQUENCES * DECODE_BLOCKS, DECODE_BLOCK,
                          DECODE_SEQUENCES, DECODE_BLOCKS, DTYPE_F32, &rig->memory, &error),
            &error);
  fill_table(rig, work);
  memset(work->done, 0, sizeof work->done);
  for (int64_t chunk = 0; decode_some(rig, work, chunk); chunk++) continue;
  kv_cache_free(&work->cache);
}
