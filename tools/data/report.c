#include "tools/data/report.h"

#include <string.h>

size_t report_lengths(const Statistics *statistics, NamedLengths out[4]) {
  const NamedLengths all[4] = {{"prompt characters", &statistics->prompt_characters},
                               {"answer characters", &statistics->answer_characters},
                               {"words", &statistics->words},
                               {"tokens", &statistics->tokens}};
  size_t count = 0;
  for (size_t i = 0; i < 4; i++) {
    if (all[i].lengths->count) out[count++] = all[i];
  }
  return count;
}

/* Whether `b` goes on where `a` began, a word later. */
static bool continues(const char *a, const char *b) {
  const char *rest = strchr(a, ' ');
  if (!rest) return false;
  rest++;
  return strncmp(rest, b, strlen(rest)) == 0;
}

enum { LOOKED_AT = 2000 };

size_t report_grams(const Frequent *grams, size_t top, size_t *out) {
  size_t count = 0;
  for (size_t i = 0; i < grams->count && i < LOOKED_AT && count < top; i++) {
    bool part = false;
    for (size_t k = 0; k < i && !part; k++) {
      part = continues(grams->items[k].text, grams->items[i].text) ||
             continues(grams->items[i].text, grams->items[k].text);
    }
    if (!part) out[count++] = i;
  }
  return count;
}

OverlapCounts report_overlap(const Overlap *overlap) {
  OverlapCounts counts = {0};
  for (size_t i = 0; i < overlap->record_count; i++) {
    const EvalRecord *record = &overlap->records[i];
    counts.any += record->found > 0;
    counts.half += record->found > 0 && 2 * (uint64_t)record->found >= record->grams;
    counts.all += record->found > 0 && record->found == record->grams;
  }
  return counts;
}

static double share(const EvalRecord *record) {
  return record->grams ? (double)record->found / (double)record->grams : 0;
}

size_t report_overlapping(const Overlap *overlap, size_t top, size_t *out) {
  size_t count = 0;
  for (size_t i = 0; i < overlap->record_count; i++) {
    if (!overlap->records[i].found) continue;
    size_t at = count;
    while (at > 0 && share(&overlap->records[out[at - 1]]) < share(&overlap->records[i])) at--;
    if (at == top) continue;
    if (count < top) count++;
    memmove(out + at + 1, out + at, (count - 1 - at) * sizeof *out);
    out[at] = i;
  }
  return count;
}
