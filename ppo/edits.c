#include "ppo/edits.h"

#include "base/memory.h"

#include <string.h>

bool answer_edits_init(AnswerEdits *edits, const RolloutConfig *config, const int *ends, int end_count,
                       int64_t vocab, int64_t longest, int64_t tokens, Error *error) {
  *edits = (AnswerEdits){0};
  if (!rollout_edits(config)) return true;
  const size_t n = (size_t)tokens;
  edits->min_new_tokens = config->min_new_tokens;
  edits->ids = memory_zeroed(n, sizeof *edits->ids);
  edits->from = memory_zeroed(n, sizeof *edits->from);
  edits->count = memory_zeroed(n, sizeof *edits->count);
  edits->bans = memory_zeroed(n, sizeof *edits->bans);
  bool ok = (edits->ids && edits->from && edits->count && edits->bans) ||
            error_out_of_memory(error, "edits of logits", 16 * n);
  ok = ok && repeats_init(&edits->seen, 1, longest, vocab, error);
  edits->rows = (RowEdits){.penalty = (float)config->repetition_penalty,
                           .ids = edits->ids,
                           .from = edits->from,
                           .count = edits->count,
                           .most = longest,
                           .banned = ends,
                           .banned_count = end_count,
                           .bans = edits->bans};
  if (!ok) answer_edits_free(edits);
  return ok;
}

void answer_edits_free(AnswerEdits *edits) {
  repeats_free(&edits->seen);
  memory_free(edits->ids);
  memory_free(edits->from);
  memory_free(edits->count);
  memory_free(edits->bans);
  *edits = (AnswerEdits){0};
}

const RowEdits *answer_edits_rows(const AnswerEdits *edits) {
  return edits->rows.penalty > 0 ? &edits->rows : NULL;
}

void answer_edits_begin(AnswerEdits *edits) {
  edits->rows.id_count = 0;
}

void answer_edits_add(AnswerEdits *edits, const RolloutSample *sample, int64_t row) {
  RowEdits *rows = &edits->rows;
  Repeats *seen = &edits->seen;
  if (!answer_edits_rows(edits)) return;
  const bool penalised = rows->penalty != 1;
  repeats_clear(seen, 0);
  if (penalised) repeats_add(seen, 0, sample->prompt, sample->prompt_length);
  for (int64_t t = 0; t < sample->length; t++) {
    edits->from[row + t] = (int32_t)rows->id_count;
    edits->count[row + t] = (int32_t)seen->count[0]; /* tokens come in order: a row's are the first so many */
    edits->bans[row + t] = t < edits->min_new_tokens;
    if (penalised) repeats_add(seen, 0, &sample->response[t], 1);
  }
  memcpy(edits->ids + rows->id_count, repeats_of(seen, 0), (size_t)seen->count[0] * sizeof *edits->ids);
  rows->id_count += seen->count[0];
}

void answer_edits_dry(AnswerEdits *edits, int64_t rows) {
  edits->rows.id_count = rows;
}
