#include "train/microbatches.h"

#include "base/memory.h"
#include "train/share.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

bool microbatches_init(Microbatches *micro, int64_t group, int64_t sequences, int64_t tokens,
                       PackExample *pack, Error *error) {
  const size_t n = (size_t)group;
  *micro = (Microbatches){.refs = memory_zeroed(n, sizeof *micro->refs),
                          .examples = memory_zeroed(n, sizeof *micro->examples),
                          .numbers = memory_zeroed(n, sizeof *micro->numbers),
                          .group = group,
                          .draws = sequences,
                          .pack = pack};
  bool ok = (micro->refs && micro->examples && micro->numbers) ||
            error_out_of_memory(error, "examples of an update", n * sizeof *micro->examples);
  for (int64_t i = 0; ok && i < group; i++) micro->numbers[i] = i;
  ok = ok && packer_init(&micro->packer, group, sequences, tokens, error);
  if (!ok) microbatches_free(micro);
  return ok;
}

void microbatches_free(Microbatches *micro) {
  memory_free(micro->refs);
  memory_free(micro->examples);
  memory_free(micro->numbers);
  packer_free(&micro->packer);
  *micro = (Microbatches){0};
}

void microbatches_take(Microbatches *micro, const Dataset *data, int64_t count) {
  ASSERT(count <= micro->group);
  for (int64_t i = 0; i < count; i++) micro->examples[i] = dataset_example(data, micro->refs[i]);
}

static void measure(Microbatches *micro, int64_t count) {
  ASSERT(count <= micro->group);
  for (int64_t i = 0; i < count; i++) micro->packer.lengths[i] = example_tokens(&micro->examples[i]);
}

bool microbatches_share(Microbatches *micro, int64_t count, const Comm *comm, int64_t *own, Error *error) {
  *own = count;
  if (comm->size == 1) return true;
  measure(micro, count);
  if (!share_examples(micro->packer.lengths, count, comm->size, comm->rank, micro->numbers, own, error)) {
    return false;
  }
  for (int64_t k = 0; k < *own; k++) micro->examples[k] = micro->examples[micro->numbers[k]];
  return true;
}

bool microbatches_plan(Microbatches *micro, int64_t count, bool packing, Error *error) {
  measure(micro, count);
  return packer_plan(&micro->packer, count, packing, error);
}

void microbatches_fill(Microbatches *micro, int index) {
  packer_begin(&micro->packer, index);
  for (int64_t k = 0; k < micro->packer.count; k++) {
    micro->packer.draw = (micro->draw + (uint64_t)microbatches_number(micro, k)) * (uint64_t)micro->draws;
    micro->pack(&micro->packer, microbatches_example(micro, k));
  }
}

const Example *microbatches_example(const Microbatches *micro, int64_t k) {
  ASSERT(k < micro->packer.count);
  return &micro->examples[micro->packer.items[k]];
}

int64_t microbatches_number(const Microbatches *micro, int64_t k) {
  ASSERT(k < micro->packer.count);
  return micro->numbers[micro->packer.items[k]];
}

/* The example that a row of the micro-batch at hand belongs to. */
static const Example *example_at(const Microbatches *micro, int32_t row) {
  const Batch *batch = &micro->packer.batch;
  int64_t sequence = 0;
  while (sequence + 1 < batch->sequences && batch->offsets[sequence + 1] <= row) sequence++;
  int64_t k = 0;
  for (; k + 1 < micro->packer.count; k++) {
    const int sequences = example_sequences(microbatches_example(micro, k));
    if (sequence < sequences) break;
    sequence -= sequences;
  }
  return microbatches_example(micro, k);
}

const Example *microbatches_broken(const Microbatches *micro, TokenRows read) {
  for (int64_t i = 0; i < read.count; i++)
    if (!isfinite(micro->packer.values[i])) return example_at(micro, read.rows[i]);
  return microbatches_example(micro, 0);
}

void microbatches_place(const Example *example, const Dataset *data, char *out, size_t size) {
  snprintf(out, size, ", first at %.280s:%" PRIu64, data->sources[example->source].path, example->line);
}
