#include "train/packer.h"

#include "base/memory.h"

bool packer_init(Packer *packer, int64_t items, int64_t sides, int64_t tokens, Error *error) {
  const int64_t sequences = sides * items < tokens ? sides * items : tokens;
  const size_t n = (size_t)tokens;
  *packer = (Packer){.lengths = memory_zeroed((size_t)items, sizeof *packer->lengths),
                     .last = memory_zeroed((size_t)sequences, sizeof *packer->last),
                     .rows = memory_zeroed(n, sizeof *packer->rows),
                     .targets = memory_zeroed(n, sizeof *packer->targets),
                     .values = memory_zeroed(n, sizeof *packer->values),
                     .slopes = memory_zeroed(n, sizeof *packer->slopes)};
  bool ok = (packer->lengths && packer->last && packer->rows && packer->targets && packer->values &&
             packer->slopes) ||
            error_out_of_memory(error, "rows of a micro-batch", 16 * n);
  ok = ok && packing_plan_init(&packer->plan, (int)items, error) &&
       batch_init(&packer->batch, tokens, sequences, error);
  if (!ok) packer_free(packer);
  return ok;
}

void packer_free(Packer *packer) {
  void *arrays[] = {packer->lengths, packer->last,   packer->rows,
                    packer->targets, packer->values, packer->slopes};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) memory_free(arrays[i]);
  packing_plan_free(&packer->plan);
  batch_free(&packer->batch);
  *packer = (Packer){0};
}

bool packer_plan(Packer *packer, int64_t count, bool packing, Error *error) {
  return packing_plan_make(&packer->plan, packer->lengths, (int)count, (int)packer->batch.token_capacity,
                           packing, error);
}

void packer_begin(Packer *packer, int index) {
  const int *begins = packer->plan.begins;
  ASSERT(index < packer->plan.count);
  packer->items = packer->plan.members + begins[index];
  packer->count = begins[index + 1] - begins[index];
  packer->row_count = 0;
  batch_clear(&packer->batch);
}

int64_t packer_add(Packer *packer, const int32_t *ids, int64_t count) {
  int64_t first;
  const bool fits = batch_add(&packer->batch, ids, count, &first);
  ASSERT(fits); /* the plan saw to it */
  batch_draw(&packer->batch, packer->draw++);
  packer->last[packer->batch.sequences - 1] = (int32_t)(first + count - 1);
  return first;
}

void packer_extend(Packer *packer, const int32_t *ids, int64_t count) {
  const bool fits = batch_extend(&packer->batch, ids, count);
  ASSERT(fits);
  packer->last[packer->batch.sequences - 1] += (int32_t)count;
}

void packer_want(Packer *packer, int64_t row, int32_t target) {
  ASSERT(packer->row_count < packer->batch.token_capacity);
  packer->rows[packer->row_count] = (int32_t)row;
  packer->targets[packer->row_count++] = target;
}

TokenRows packer_rows(const Packer *packer) {
  return token_rows(packer->rows, packer->targets, packer->row_count);
}

TokenRows packer_last(const Packer *packer) {
  return token_rows(packer->last, NULL, packer->batch.sequences);
}

void packer_dry(Packer *packer) {
  batch_plan(&packer->batch);
  packer->row_count = packer->batch.tokens;
}
