/* From the answers in the journal to RUN/data.jsonl, which the stages read (docs/data.md). A record is that of its prompt (datasets/prompt_record.h) with
 *
 *   sft         "completion", "score"
 *   preference  "chosen", "rejected", "score_chosen", "score_rejected"
 *   ranking     "responses", "scores"
 *   unpaired    "completion", "label", "score"
 *   scored      "completion", "score", "finished", "tokens", "sample"
 *
 * which take the place of keys of these names. */
#ifndef TOOLS_SAMPLE_WRITE_H
#define TOOLS_SAMPLE_WRITE_H

#include "tools/sample/session.h"

#define DATA_FILE "data.jsonl"

/* Means but for the counts. Score and best are of all answers, whatever is left out afterwards. */
enum { MOST_BESTS = 18 }; /* n = 1, 2, 4 ... 65536, and n itself */
typedef struct SampleFigures {
  int64_t prompts, answers;
  double score, tokens, finished; /* over the answers */
  int64_t bests;
  int64_t best_n[MOST_BESTS]; /* so many of the answers to a prompt, the first ones */
  double best[MOST_BESTS];    /* the best score of them, over the prompts */
  SampleDropped dropped;
  int64_t records, without; /* written; prompts of which nothing is */
  double
      record_score; /* of the answers written as such to be learnt: those of sft records, the chosen ones; else of all */
} SampleFigures;

/* Writes the file, complete or not at all. ERROR_DATA when nothing is to be written. */
NODISCARD bool sample_write(SampleSession *session, SampleFigures *figures, Error *error);

#endif
