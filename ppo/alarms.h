/* Alarms of a ppo run (train/alarm.h): where it goes, by means of windows of updates (train/gauge.h), and by the spread of answers where that
 * is quicker (ppo/sharp.h). Thresholds and their reasons: docs/watching.md. */
#ifndef PPO_ALARMS_H
#define PPO_ALARMS_H

#include "ppo/config.h"
#include "ppo/sharp.h"
#include "train/gauge.h"
#include "train/run.h"

typedef struct UpdateReport UpdateReport; /* ppo/report.h */

enum { MOST_HELDOUT = 8 };

/* A figure that should not fall while the score rises. */
typedef struct Opposed {
  Gauge gauge;
  double score; /* mean score of the window at whose end this one was at its top */
} Opposed;

/* Part of a checkpoint. Numbers are double, so that all of it is one array. */
typedef struct PpoAlarms {
  Gauge score, spread, kl, length, ended, entropy, value,
      fit;        /* spread: of the scores; fit: explained variance */
  Opposed reward; /* the score less the penalty on the KL */
  Opposed heldout[MOST_HELDOUT];
  struct {
    SharpJudge heldout[MOST_HELDOUT];
    SharpShare ended;
  } sharp; /* likewise */
} PpoAlarms;

/* After update `step`. */
void ppo_alarms_update(PpoAlarms *alarms, Run *run, int64_t step, const PpoConfig *config,
                       const UpdateReport *report);
NODISCARD bool ppo_alarms_state(PpoAlarms *alarms, Checkpoint *checkpoint, Error *error);

#endif
