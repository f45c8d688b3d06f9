#include "ppo/microbatch.h"

#include "base/memory.h"
#include "train/share.h"

bool microbatch_init(Microbatch *micro, int64_t tokens, int64_t answers, Error *error) {
  const size_t n = (size_t)tokens, all = (size_t)answers;
  *micro = (Microbatch){.members = memory_zeroed(all, sizeof *micro->members),
                        .numbers = memory_zeroed(all, sizeof *micro->numbers),
                        .length = memory_zeroed(n, sizeof *micro->length),
                        .origin = memory_zeroed(n, sizeof *micro->origin),
                        .old = memory_zeroed(n, sizeof *micro->old),
                        .target = memory_zeroed(n, sizeof *micro->target),
                        .reference = memory_zeroed(n, sizeof *micro->reference),
                        .entropy = memory_zeroed(n, sizeof *micro->entropy),
                        .entropy_slope = memory_zeroed(n, sizeof *micro->entropy_slope)};
  bool ok = (micro->members && micro->numbers && micro->length && micro->origin && micro->old &&
             micro->target && micro->reference && micro->entropy && micro->entropy_slope) ||
            error_out_of_memory(error, "micro-batch", 12 * all + 28 * n);
  ok = ok && packer_init(&micro->packer, answers, 1, tokens, error);
  if (!ok) microbatch_free(micro);
  return ok;
}

void microbatch_free(Microbatch *micro) {
  packer_free(&micro->packer);
  memory_free(micro->members);
  memory_free(micro->numbers);
  memory_free(micro->length);
  memory_free(micro->origin);
  memory_free(micro->old);
  memory_free(micro->target);
  memory_free(micro->reference);
  memory_free(micro->entropy);
  memory_free(micro->entropy_slope);
  answer_edits_free(&micro->edits);
  *micro = (Microbatch){0};
}

static int tokens_of(const RolloutSample *sample) {
  return (int)(sample->prompt_length + sample->length);
}

/* Of the answers micro->members[count]. */
static bool plan(Microbatch *micro, const RolloutSample *samples, int64_t count, Error *error) {
  for (int64_t k = 0; k < count; k++) micro->packer.lengths[k] = tokens_of(&samples[micro->members[k]]);
  return packer_plan(&micro->packer, count, true, error);
}

bool microbatch_plan_run(Microbatch *micro, const RolloutSample *samples, int64_t count, const Comm *comm,
                         int64_t *cuts, Error *error) {
  for (int64_t e = 0; e < count; e++) micro->packer.lengths[e] = tokens_of(&samples[e]);
  share_runs(micro->packer.lengths, count, comm->size, cuts);
  const int64_t first = cuts[comm->rank], own = cuts[comm->rank + 1] - first;
  for (int64_t k = 0; k < own; k++) {
    micro->members[k] = (uint32_t)(first + k);
    micro->numbers[k] = first + k;
  }
  return plan(micro, samples, own, error);
}

bool microbatch_plan_share(Microbatch *micro, const RolloutSample *samples, const uint32_t *members,
                           int64_t count, const Comm *comm, Error *error) {
  int64_t own;
  for (int64_t i = 0; i < count; i++) micro->packer.lengths[i] = tokens_of(&samples[members[i]]);
  if (!share_examples(micro->packer.lengths, count, comm->size, comm->rank, micro->numbers, &own, error)) {
    return false;
  }
  for (int64_t k = 0; k < own; k++) micro->members[k] = members[micro->numbers[k]];
  return plan(micro, samples, own, error);
}

uint32_t microbatch_answer(const Microbatch *micro, int64_t k) {
  return micro->members[micro->packer.items[k]];
}

void microbatch_fill(Microbatch *micro, int index, const RolloutSample *samples, const int32_t *offsets) {
  Packer *packer = &micro->packer;
  packer_begin(packer, index);
  answer_edits_begin(&micro->edits);
  for (int64_t k = 0; k < packer->count; k++) {
    const uint32_t e = microbatch_answer(micro, k);
    const RolloutSample *sample = &samples[e];
    answer_edits_add(&micro->edits, sample, packer->row_count);
    packer->draw = micro->draw + (uint64_t)micro->numbers[packer->items[k]];
    const int64_t first = packer_add(packer, sample->prompt, sample->prompt_length);
    packer_extend(packer, sample->response, sample->length);
    for (int64_t t = 0; t < sample->length; t++) {
      micro->length[packer->row_count] = (int32_t)sample->length;
      micro->origin[packer->row_count] = offsets[e] + (int32_t)t;
      packer_want(packer, first + sample->prompt_length - 1 + t, sample->response[t]);
    }
  }
}

TokenRows microbatch_rows(const Microbatch *micro) {
  TokenRows rows = packer_rows(&micro->packer);
  rows.edits = answer_edits_rows(&micro->edits);
  return rows;
}

void microbatch_dry(Microbatch *micro) {
  packer_dry(&micro->packer);
  answer_edits_dry(&micro->edits, micro->packer.row_count);
  for (int64_t n = 0; n < micro->packer.row_count; n++) {
    micro->length[n] = 1;
    micro->origin[n] = 0;
  }
}

void microbatch_gather(const Microbatch *micro, const float *from, float *to) {
  for (int64_t n = 0; n < micro->packer.row_count; n++) to[n] = from[micro->origin[n]];
}

void microbatch_scatter(const Microbatch *micro, const float *from, float *to) {
  for (int64_t n = 0; n < micro->packer.row_count; n++) to[micro->origin[n]] = from[n];
}
