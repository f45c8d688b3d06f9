#include "tools/sample/choose.h"

#include "datasets/dataset.h"

#include <string.h>

const char *const sample_format_names[] = {"sft", "preference", "ranking", "unpaired", "scored", NULL};
const char *const sample_pairs_names[] = {"best_worst", "all", NULL};
const char *const sample_care_names[] = {"drop", "keep", NULL};

bool sample_choice_check(const SampleChoice *choice, Error *error) {
  if (choice->format == SAMPLE_UNPAIRED && choice->threshold <= NO_THRESHOLD) {
    return error_set(error, ERROR_USAGE,
                     "sample.threshold: expected the least score of a good answer, since sample.format is "
                     "unpaired");
  }
  const bool compares = choice->format == SAMPLE_PREFERENCE || choice->format == SAMPLE_RANKING;
  if (compares && choice->n < 2) {
    return error_set(error, ERROR_USAGE,
                     "sample.n: expected at least 2, since sample.format %s compares answers; found %lld",
                     sample_format_names[choice->format], (long long)choice->n);
  }
  if (choice->format == SAMPLE_RANKING && choice->n > MOST_ANSWERS) {
    return error_set(error, ERROR_USAGE,
                     "sample.n: expected at most %d, the most answers of a ranking; found %lld", MOST_ANSWERS,
                     (long long)choice->n);
  }
  return true;
}

/* -- order ---------------------------------------------------------------------------------------------- */

static bool said_before(const SampledAnswer *answers, int64_t count, const SampledAnswer *answer) {
  for (int64_t i = 0; i < count; i++) {
    if (answers[i].bytes == answer->bytes && !memcmp(answers[i].text, answer->text, answer->bytes))
      return true;
  }
  return false;
}

static bool left_out(const SampleChoice *choice, const SampledAnswer *kept, int64_t count,
                     const SampledAnswer *answer, SampleDropped *dropped) {
  if (choice->unfinished == CARE_DROP && !strcmp(answer->finished, "length")) {
    dropped->unfinished++;
    return true;
  }
  if (choice->duplicates == CARE_DROP && said_before(kept, count, answer)) {
    dropped->duplicates++;
    return true;
  }
  return false;
}

int64_t sample_sort(const SampleChoice *choice, SampledAnswer *answers, int64_t count,
                    SampleDropped *dropped) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i++) {
    const SampledAnswer answer = answers[i];
    if (left_out(choice, answers, kept, &answer, dropped)) continue;
    int64_t at = kept++;
    for (; at > 0 && answers[at - 1].score < answer.score; at--) answers[at] = answers[at - 1];
    answers[at] = answer;
  }
  return kept;
}

/* -- what is written ------------------------------------------------------------------------------------ */

int64_t sample_kept(const SampleChoice *choice, const SampledAnswer *sorted, int64_t count) {
  const int64_t most = choice->keep > 0 && choice->keep < count ? choice->keep : count;
  int64_t kept = 0;
  while (kept < most && sorted[kept].score >= choice->threshold) kept++;
  return kept;
}

bool sample_pair(const SampleChoice *choice, const SampledAnswer *sorted, int64_t count, int64_t i,
                 int64_t j) {
  if (choice->pairs == PAIRS_BEST_WORST && (i != 0 || j != count - 1)) return false;
  const double distance = sorted[i].score - sorted[j].score;
  return distance > 0 && distance >= choice->margin;
}
