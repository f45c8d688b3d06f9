/* What the user should hear of settings and rollouts from which little can be learnt: warnings, each once. Where the run goes, alarms say
 * (ppo/alarms.h); the metrics show the rest (docs/ppo.md). */
#ifndef PPO_WATCH_H
#define PPO_WATCH_H

#include "ppo/report.h"

typedef struct Watch {
  int64_t updates, without_step;                    /* since this process began */
  bool ending_hurts, flat, refill, left_out, costs; /* said */
} Watch;

/* Before the first update: what the models and the rules are to each other. */
void watch_begin(const PpoConfig *config, const Scoring *scoring, const TextTools *text, Log *log);
/* After update `step`. */
void watch_update(Watch *watch, int64_t step, const PpoConfig *config, const UpdateReport *report, Log *log);
/* At the end. */
void watch_end(const Watch *watch, Log *log);

#endif
