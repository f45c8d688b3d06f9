#include "reward/pairs.h"

#include "base/memory.h"

bool pairs_init(Pairs *pairs, int64_t group, int64_t tokens, Error *error) {
  const size_t n = (size_t)group;
  *pairs = (Pairs){.group = group};
  float **arrays[] = {&pairs->chosen, &pairs->rejected, &pairs->margin, &pairs->dchosen, &pairs->drejected};
  bool ok = (pairs->refs = memory_zeroed(n, sizeof *pairs->refs)) &&
            (pairs->examples = memory_zeroed(n, sizeof *pairs->examples)) &&
            (pairs->lengths = memory_zeroed(n, sizeof *pairs->lengths)) &&
            (pairs->last = memory_zeroed(2 * n, sizeof *pairs->last)) &&
            (pairs->members = memory_zeroed(n, sizeof *pairs->members)) &&
            (pairs->scores = memory_zeroed(2 * n, sizeof *pairs->scores)) &&
            (pairs->slopes = memory_zeroed(2 * n, sizeof *pairs->slopes));
  for (int i = 0; ok && i < 5; i++) ok = (*arrays[i] = memory_zeroed(n, sizeof(float))) != NULL;
  ok = ok || error_out_of_memory(error, "pairs of an update", n * sizeof *pairs->examples);
  const int64_t sequences = 2 * group < tokens ? 2 * group : tokens;
  ok = ok && packing_plan_init(&pairs->packing, (int)group, error) &&
       batch_init(&pairs->batch, tokens, sequences, error);
  if (!ok) pairs_free(pairs);
  return ok;
}

void pairs_free(Pairs *pairs) {
  void *arrays[] = {pairs->refs,    pairs->examples, pairs->lengths, pairs->last,
                    pairs->members, pairs->scores,   pairs->slopes,  pairs->chosen,
                    pairs->margin,  pairs->rejected, pairs->dchosen, pairs->drejected};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) memory_free(arrays[i]);
  packing_plan_free(&pairs->packing);
  batch_free(&pairs->batch);
  *pairs = (Pairs){0};
}

bool pairs_plan(Pairs *pairs, const Dataset *data, int count, bool packing, Error *error) {
  ASSERT(count <= pairs->group);
  for (int i = 0; i < count; i++) {
    pairs->examples[i] = dataset_example(data, pairs->refs[i]);
    pairs->lengths[i] = example_tokens(&pairs->examples[i]);
  }
  return packing_plan_make(&pairs->packing, pairs->lengths, count, (int)pairs->batch.token_capacity, packing,
                           error);
}

static void add(Pairs *pairs, const int *ids, int count) {
  int64_t first;
  const bool fits = batch_add(&pairs->batch, ids, count, &first);
  ASSERT(fits); /* the packing plan saw to it */
  pairs->last[pairs->sequences++] = (int32_t)(first + count - 1);
}

void pairs_fill(Pairs *pairs, int index) {
  batch_clear(&pairs->batch);
  pairs->count = pairs->sequences = 0;
  for (int i = pairs->packing.begins[index]; i < pairs->packing.begins[index + 1]; i++) {
    const int member = pairs->packing.members[i];
    const Example *example = &pairs->examples[member];
    pairs->members[pairs->count] = member;
    pairs->margin[pairs->count++] = example->margin;
    add(pairs, example->ids, example->count);
    if (example->rejected) add(pairs, example->rejected, example->rejected_count);
  }
}

void pairs_fill_dry(Pairs *pairs) {
  batch_plan(&pairs->batch);
  pairs->sequences = pairs->batch.sequences;
  pairs->count = pairs->group;
}

static TokenRows last_rows(const Pairs *pairs) {
  return (TokenRows){pairs->last, NULL, pairs->sequences};
}

void pairs_score(Pairs *pairs, Pass *pass, const ScoreHead *head) {
  score_values(pass, head, last_rows(pairs), pairs->scores);
  if (pairs->sequences != 2 * pairs->count) return;
  for (int64_t i = 0; i < pairs->count; i++) {
    pairs->chosen[i] = pairs->scores[2 * i];
    pairs->rejected[i] = pairs->scores[2 * i + 1];
  }
}

void pairs_score_backward(Pairs *pairs, Pass *pass, const ScoreHead *head) {
  for (int64_t i = 0; i < pairs->count; i++) {
    pairs->slopes[2 * i] = pairs->dchosen[i];
    pairs->slopes[2 * i + 1] = pairs->drejected[i];
  }
  score_values_backward(pass, head, last_rows(pairs), pairs->slopes);
}
