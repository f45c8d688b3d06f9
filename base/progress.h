/* Progress of long work, on standard error.
 *
 *   progress_start(&progress, log, "sft", "step", done, total);
 *   while (...) {
 *     progress_phase(&progress, "evaluating");    what the work is at, within a step; as often as one likes
 *     progress_update(&progress, ++done, "loss 1.25");
 *   }
 *   progress_finish(&progress);
 *
 * On a terminal it is one line that is drawn anew, at most ten times a second; elsewhere a plain line: for
 * the first step, then once in ten seconds, and for a phase alone after a minute without one:
 *
 *   sft [######..................] 120/500  ETA 1m58s  evaluating  loss 1.25  3.2 step/s
 *
 * On a narrow terminal the bar shrinks and goes before any number does, then the last items go. ETA is from the time that
 * the steps took so far, with all that came between them. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include "base/log.h"

/* A unit: counts are bytes, and shown as sizes. */
extern const char progress_bytes[];

typedef struct Progress {
  Log *log;
  const char *label;  /* borrowed */
  const char *unit;   /* "step", "token", ..., or progress_bytes; borrowed */
  int64_t total;      /* 0: not known */
  int64_t start_done; /* where a resumed run began: the rate counts from here */
  int64_t done;
  bool brief;
  double started;                /* seconds, monotonic */
  double last_shown, step_shown; /* the last line, and the last that told of a step */
  char phase[64], note[224];
} Progress;

void progress_start(Progress *progress, Log *log, const char *label, const char *unit, int64_t done,
                    int64_t total);
/* For what mostly takes no time to speak of: nothing is shown in the first second on a terminal, ten elsewhere, and at the
 * end the bar is taken away. */
void progress_start_brief(Progress *progress, Log *log, const char *label, const char *unit, int64_t total);

/* Of a zeroed Progress these do nothing. The last step is always shown, but for a brief one. `note` may be NULL: none. */
void progress_update(Progress *progress, int64_t done, const char *note);
void progress_phase(Progress *progress, const char *format, ...) PRINTF_LIKE(2, 3);
void progress_finish(Progress *progress);

/* "7s", "1m58s", "2h03m", "3d04h": two units are enough to plan by. */
const char *duration_text(double seconds, char out[32]);

#endif
