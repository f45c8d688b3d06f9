/* The last words of a run: how many updates in what time, what was learnt (first and last values, and the best
 * evaluation, from the run log, so of all processes that carried it), and where the result is. */
#ifndef TRAIN_SUMMARY_H
#define TRAIN_SUMMARY_H

#include "train/run.h"

typedef struct SummaryFigure {
  const char *metric; /* "eval/loss" */
  const char *name;   /* "eval loss" */
  int digits;         /* after the point */
  int best;           /* its best value is told too: 1 the largest, -1 the smallest, 0 none */
} SummaryFigure;

/* "20 updates in 1m26s: loss 5.548 -> 5.412, eval loss 5.501 -> 5.440 (best 5.420 at update 15)". Figures that the log does
 * not have are left out. */
NODISCARD bool summary_write(const Run *run, int64_t updates, const SummaryFigure *figures, size_t count,
                             Buffer *out, Error *error);

/* " --option value" with the value as one word of a shell. */
NODISCARD bool summary_option(Buffer *out, const char *option, const char *value, Error *error);
/* A line "next: drover generate ..." for a policy: all of its weights in `output`, or an adapter over `model`. chat: it has
 * a chat template. */
NODISCARD bool summary_try(const char *model, const char *output, bool adapter, bool chat, Buffer *out,
                           Error *error);

#endif
