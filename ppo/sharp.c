#include "ppo/sharp.h"

#include <math.h>

/* Standard errors, as many as of gauges. */
static const double sure = 6;
/* Deviations over answers: a large batch sees the least movement, and some come and go from one update to the next. */
static const double fall_limit = 0.25;
/* Prompts of a window: of a few answers the deviation is not known either. */
static const double prompts_least = 64;
static const int widths[] = {SHARP_SHORT, SHARP_LONG};

static void recent_add(Recent *recent, Figure figure, double prompts) {
  recent->last[(int64_t)recent->count % SHARP_LONG] =
      (Estimate){figure.mean, figure.std * figure.std / prompts};
  recent->count++;
}

/* Of the last `width` rollouts. */
static Estimate recent_mean(const Recent *recent, int width) {
  Estimate sum = {0};
  for (int i = 1; i <= width; i++) {
    const Estimate *one = &recent->last[((int64_t)recent->count - i) % SHARP_LONG];
    sum.mean += one->mean / width;
    sum.variance += one->variance / width / width;
  }
  return sum;
}

static bool is_above(Estimate high, Estimate low) {
  return high.mean - low.mean > sure * sqrt(high.variance + low.variance);
}

/* Answers are by the weights of the update before, and the last of a good window may have been its worst. */
static double before(double step) {
  return step - SHARP_SHORT;
}

bool sharp_judge(SharpJudge *sharp, int64_t step, double prompts, Figure judge, Figure score,
                 SharpFall *fall) {
  if (!isfinite(judge.mean + judge.std + score.mean + score.std)) return false;
  recent_add(&sharp->judge, judge, prompts);
  recent_add(&sharp->score, score, prompts);
  if (sharp->judge.count < SHARP_LONG) return false;
  const Estimate latest = recent_mean(&sharp->judge, SHARP_LONG);
  if (sharp->judge.count == SHARP_LONG || latest.mean > sharp->top.mean) {
    sharp->top = latest;
    sharp->score_then = recent_mean(&sharp->score, SHARP_LONG);
    sharp->step = (double)step;
  }
  for (int w = 0; w < 2; w++) {
    const Estimate now = recent_mean(&sharp->judge, widths[w]), risen = recent_mean(&sharp->score, widths[w]);
    if (prompts * widths[w] < prompts_least || sharp->top.mean - now.mean <= fall_limit * judge.std ||
        !is_above(sharp->top, now) || !is_above(risen, sharp->score_then))
      continue;
    *fall = (SharpFall){widths[w],  sharp->top.mean, now.mean,           sharp->score_then.mean,
                        risen.mean, sharp->step,     before(sharp->step)};
    return true;
  }
  return false;
}

bool sharp_share(SharpShare *sharp, int64_t step, double prompts, double share, double limit,
                 SharpFall *fall) {
  if (!isfinite(share)) return false;
  recent_add(&sharp->share, (Figure){share, sqrt(share * (1 - share))}, prompts);
  if (sharp->share.count < SHARP_LONG) return false;
  if (sharp->share.count == SHARP_LONG) sharp->first = recent_mean(&sharp->share, SHARP_LONG);
  const Estimate now = recent_mean(&sharp->share, SHARP_SHORT);
  const double fallen = sharp->first.mean - now.mean;
  if (fallen < limit / 2) sharp->step = (double)step;
  if (prompts * SHARP_SHORT < prompts_least || fallen <= limit || !is_above(sharp->first, now)) return false;
  *fall = (SharpFall){.updates = SHARP_SHORT,
                      .then = sharp->first.mean,
                      .now = now.mean,
                      .since = sharp->step,
                      .well = before(sharp->step)};
  return true;
}
