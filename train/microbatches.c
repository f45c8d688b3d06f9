#include "train/microbatches.h"

#include "base/memory.h"

#include <string.h>

bool microbatches_init(Microbatches *micro, int64_t group, int64_t tokens, Error *error) {
  size_t n = (size_t)group;
  int64_t sequences = group < tokens ? group : tokens;
  *micro = (Microbatches){.refs = memory_zeroed(n, sizeof *micro->refs),
                          .examples = memory_zeroed(n, sizeof *micro->examples),
                          .lengths = memory_zeroed(n, sizeof *micro->lengths),
                          .mask = memory_zeroed((size_t)tokens, 1),
                          .group = group};
  bool ok = (micro->refs && micro->examples && micro->lengths && micro->mask) ||
            error_out_of_memory(error, "examples of an update", n * sizeof *micro->examples);
  ok = ok && packing_plan_init(&micro->packing, (int)group, error) &&
       batch_init(&micro->batch, tokens, sequences, error) && token_loss_init(&micro->loss, tokens, error);
  if (!ok) microbatches_free(micro);
  return ok;
}

void microbatches_free(Microbatches *micro) {
  memory_free(micro->refs);
  memory_free(micro->examples);
  memory_free(micro->lengths);
  memory_free(micro->mask);
  packing_plan_free(&micro->packing);
  batch_free(&micro->batch);
  token_loss_free(&micro->loss);
  *micro = (Microbatches){0};
}

bool microbatches_plan(Microbatches *micro, const Dataset *data, int count, bool packing,
                       int64_t *loss_tokens, Error *error) {
  ASSERT(count <= micro->group);
  *loss_tokens = 0;
  for (int i = 0; i < count; i++) {
    micro->examples[i] = dataset_example(data, micro->refs[i]);
    micro->lengths[i] = micro->examples[i].count;
    *loss_tokens += micro->examples[i].loss_count;
  }
  return packing_plan_make(&micro->packing, micro->lengths, count, (int)micro->batch.token_capacity, packing,
                           error);
}

void microbatches_fill(Microbatches *micro, int index) {
  batch_clear(&micro->batch);
  for (int i = micro->packing.begins[index]; i < micro->packing.begins[index + 1]; i++) {
    const Example *example = &micro->examples[micro->packing.members[i]];
    int64_t first;
    bool fits = batch_add(&micro->batch, example->ids, example->count, &first);
    ASSERT(fits); /* the packing plan saw to it */
    memcpy(micro->mask + first, example->loss, (size_t)example->count);
  }
  token_loss_select(&micro->loss, &micro->batch, micro->mask);
}

void microbatches_fill_dry(Microbatches *micro) {
  batch_plan(&micro->batch);
  token_loss_plan(&micro->loss, micro->batch.tokens);
}
