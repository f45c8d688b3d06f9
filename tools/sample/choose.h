/* Which of the sampled answers to a prompt are written, and as what.
 *
 * Best of n: "rejection sampling" of Touvron et al. 2023 (Llama 2), section 3.2.3; RAFT: Dong et al. 2023. Everything here is a function of
 * texts and scores alone: answers of equal score stay in the order in which they were sampled. */
#ifndef TOOLS_SAMPLE_CHOOSE_H
#define TOOLS_SAMPLE_CHOOSE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum SampleFormat {
  SAMPLE_SFT,        /* the best answers, one a record */
  SAMPLE_PREFERENCE, /* pairs */
  SAMPLE_RANKING,    /* all answers to a prompt with their scores */
  SAMPLE_UNPAIRED,   /* every answer, labelled by the threshold */
  SAMPLE_SCORED      /* every answer with its score */
} SampleFormat;
extern const char *const sample_format_names[]; /* in that order, NULL at the end, as are the following */
typedef enum SamplePairs { PAIRS_BEST_WORST, PAIRS_ALL } SamplePairs;
extern const char *const sample_pairs_names[];
typedef enum SampleCare { CARE_DROP, CARE_KEEP } SampleCare;
extern const char *const sample_care_names[];

/* sample.threshold without a value. */
#define NO_THRESHOLD -1e30

typedef struct SampleChoice {
  int64_t n;    /* answers to a prompt */
  int format;   /* SampleFormat */
  int64_t keep; /* sft: answers to a prompt, at most; 0 = all */
  double threshold;
  int pairs;                  /* SamplePairs */
  double margin;              /* preference: least distance of the scores of a pair */
  int unfinished, duplicates; /* SampleCare */
} SampleChoice;

/* ERROR_USAGE for rules between options that the table cannot say. */
NODISCARD bool sample_choice_check(const SampleChoice *choice, Error *error);

typedef struct SampledAnswer {
  const char *text;
  size_t bytes;
  const char *finished; /* rollout_finish_name */
  int64_t tokens;
  double score;
  int64_t number; /* 0 .. n-1: as sampled */
} SampledAnswer;

/* Why answers are left out. */
typedef struct SampleDropped {
  int64_t unfinished, duplicates;
} SampleDropped;

/* Takes out answers that did not end and those that say what an earlier one says, where the choice drops them; sorts the rest, the best first.
 * Returns how many there are; adds to *dropped. */
int64_t sample_sort(const SampleChoice *choice, SampledAnswer *answers, int64_t count,
                    SampleDropped *dropped);

/* How many of the sorted answers an sft record is made of. */
int64_t sample_kept(const SampleChoice *choice, const SampledAnswer *sorted, int64_t count);
/* Whether the sorted answers i < j are a pair. */
bool sample_pair(const SampleChoice *choice, const SampledAnswer *sorted, int64_t count, int64_t i,
                 int64_t j);

#endif
