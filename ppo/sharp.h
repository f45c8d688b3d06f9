/* What goes too quickly for a gauge (train/gauge.h), which waits for two windows of eight updates since it knows of chance only what
 * neighbouring updates tell. The mean over the answers to n prompts is off by at most their standard deviation / sqrt(n), which a single
 * rollout knows: means over the last two and the last four rollouts are compared with that over four from before. */
#ifndef PPO_SHARP_H
#define PPO_SHARP_H

#include <stdbool.h>
#include <stdint.h>

enum { SHARP_SHORT = 2, SHARP_LONG = 4 };

/* Over the answers of a rollout. */
typedef struct Figure {
  double mean, std;
} Figure;

/* A mean, and its variance. Numbers are double here, so that all of it is one array of a checkpoint. */
typedef struct Estimate {
  double mean, variance;
} Estimate;

typedef struct Recent {
  double count;              /* of rollouts */
  Estimate last[SHARP_LONG]; /* rollout number n at n % SHARP_LONG */
} Recent;

/* A judge beside the score. */
typedef struct SharpJudge {
  Recent judge, score;
  Estimate top, score_then; /* the window with the largest mean of the judge, */
  double step;              /* and the update at whose end it was */
} SharpJudge;

/* A share of the answers. */
typedef struct SharpShare {
  Recent share;
  Estimate first; /* window */
  double step;    /* of the last window that had not fallen by half of what is too much */
} SharpShare;

typedef struct SharpFall {
  int updates; /* of the window */
  double then, now, score_then, score;
  double since; /* the update of what it was then */
  double well;  /* one whose weights were well */
} SharpFall;

/* After a rollout of answers to so many prompts; figures that are not finite are passed over. Each: more than six standard errors.
 * Whether the judge has surely fallen from its top, by a quarter of its deviation at least, and the score has surely risen since. */
bool sharp_judge(SharpJudge *sharp, int64_t step, double prompts, Figure judge, Figure score,
                 SharpFall *fall);
/* Whether the share is surely less than in the first window, by more than `limit`. */
bool sharp_share(SharpShare *sharp, int64_t step, double prompts, double share, double limit,
                 SharpFall *fall);

#endif
