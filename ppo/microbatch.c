#include "ppo/microbatch.h"

#include "base/memory.h"

bool microbatch_init(Microbatch *micro, int64_t tokens, int64_t answers, Error *error) {
  *micro = (Microbatch){.capacity = tokens};
  const int64_t sequences = answers < tokens ? answers : tokens;
  bool ok = batch_init(&micro->batch, tokens, sequences, error) &&
            packing_plan_init(&micro->plan, (int)answers, error);
  int32_t **arrays[] = {&micro->rows, &micro->targets, &micro->origin};
  for (int i = 0; ok && i < 3; i++)
    ok = (*arrays[i] = memory_zeroed((size_t)tokens, sizeof(int32_t))) != NULL;
  for (int i = 0; ok && i < 5; i++)
    ok = (micro->buffer[i] = memory_zeroed((size_t)tokens, sizeof(float))) != NULL;
  ok = ok && (micro->last = memory_zeroed((size_t)sequences, sizeof *micro->last)) != NULL &&
       (micro->lengths = memory_zeroed((size_t)answers, sizeof *micro->lengths)) != NULL;
  if (ok) return true;
  microbatch_free(micro);
  return error_out_of_memory(error, "micro-batch", 32ull * (unsigned long long)tokens);
}

void microbatch_free(Microbatch *micro) {
  batch_free(&micro->batch);
  packing_plan_free(&micro->plan);
  memory_free(micro->rows);
  memory_free(micro->targets);
  memory_free(micro->origin);
  memory_free(micro->last);
  memory_free(micro->lengths);
  for (int i = 0; i < 5; i++) memory_free(micro->buffer[i]);
  *micro = (Microbatch){0};
}

bool microbatch_plan(Microbatch *micro, const RolloutSample *samples, const int32_t *members, int64_t count,
                     Error *error) {
  for (int64_t i = 0; i < count; i++) {
    const RolloutSample *sample = &samples[members[i]];
    micro->lengths[i] = (int)(sample->prompt_length + sample->length);
  }
  return packing_plan_make(&micro->plan, micro->lengths, (int)count, (int)micro->capacity, true, error);
}

/* Appends one answer after its prompt; both fit by the plan. */
static void append(Microbatch *micro, const RolloutSample *sample, int32_t offset) {
  Batch *batch = &micro->batch;
  const int64_t first = batch->tokens;
  const int64_t length = sample->prompt_length + sample->length;
  int64_t begin;
  bool fits = batch_add(batch, sample->prompt, sample->prompt_length, &begin);
  ASSERT(fits && begin == first && batch->tokens + sample->length <= micro->capacity);
  for (int64_t t = 0; t < sample->length; t++) {
    const int64_t n = micro->row_count++, row = first + sample->prompt_length + t;
    batch->ids[row] = sample->response[t];
    batch->positions[row] = (int32_t)(sample->prompt_length + t);
    micro->rows[n] = (int32_t)row - 1;
    micro->targets[n] = sample->response[t];
    micro->origin[n] = offset + (int32_t)t;
  }
  batch->tokens = first + length;
  batch->offsets[batch->sequences] = (int32_t)batch->tokens;
  micro->last[batch->sequences - 1] = (int32_t)batch->tokens - 1;
}

void microbatch_fill(Microbatch *micro, int index, const RolloutSample *samples, const int32_t *members,
                     const int32_t *offsets, int32_t *members_out) {
  batch_clear(&micro->batch);
  micro->row_count = 0;
  const int begin = micro->plan.begins[index], end = micro->plan.begins[index + 1];
  for (int i = begin; i < end; i++) {
    const int32_t e = members[micro->plan.members[i]];
    members_out[i - begin] = e;
    append(micro, &samples[e], offsets[e]);
    batch_draw(&micro->batch, micro->draw + (uint64_t)micro->plan.members[i]);
  }
}

void microbatch_dry(Microbatch *micro) {
  batch_plan(&micro->batch);
  micro->row_count = micro->capacity;
}

TokenRows microbatch_tokens(const Microbatch *micro) {
  return (TokenRows){micro->rows, micro->targets, micro->row_count};
}

TokenRows microbatch_last(const Microbatch *micro) {
  return (TokenRows){micro->last, NULL, micro->batch.sequences};
}

void microbatch_gather(const Microbatch *micro, const float *from, float *to) {
  for (int64_t n = 0; n < micro->row_count; n++) to[n] = from[micro->origin[n]];
}

void microbatch_scatter(const Microbatch *micro, const float *from, float *to) {
  for (int64_t n = 0; n < micro->row_count; n++) to[micro->origin[n]] = from[n];
}
