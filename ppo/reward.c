#include "ppo/reward.h"

#include "ppo/advantage.h"

#include <math.h>
#include <stddef.h>

const char *const missing_eos_names[] = {"keep", "replace", "subtract", NULL};

double reward_missing_eos(double score, bool ended, MissingEos rule, double value) {
  if (ended || rule == MISSING_EOS_KEEP) return score;
  return rule == MISSING_EOS_REPLACE ? value : score - value;
}

double reward_clip(double score, double limit) {
  if (limit <= 0 || !isfinite(score)) return score;
  return fmin(fmax(score, -limit), limit);
}

double reward_against(double score, double reference) {
  return 1 / (1 + exp(reference - score));
}

double reward_overlong(int64_t length, int64_t most, int64_t margin, double penalty) {
  const int64_t over = length - (most - margin);
  return margin > 0 && over > 0 ? -penalty * (double)over / (double)margin : 0;
}

void running_score_add(RunningScore *running, const float *score, int64_t count) {
  double n = 0, mean = 0, squares = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!isfinite(score[i])) continue;
    n++;
    mean += score[i];
  }
  if (n == 0) return;
  mean /= n;
  for (int64_t i = 0; i < count; i++)
    if (isfinite(score[i])) squares += (score[i] - mean) * (score[i] - mean);
  const double all = running->count + n, apart = mean - running->mean;
  running->squares += squares + apart * apart * running->count * n / all;
  running->mean += apart * n / all;
  running->count = all;
}

double running_score_normalize(const RunningScore *running, double score) {
  const double away = score - running->mean;
  if (!(running->squares > 0)) return away;
  return away / (sqrt(running->squares / (running->count - 1)) + 1e-8);
}

/* r_t = -beta * KL_t + [t is the last token] * score */
void reward_tokens(const float *kl, const float *score, const int32_t *offsets, int64_t sequences,
                   double beta, float *reward) {
  for (int64_t b = 0; b < sequences; b++) {
    const int64_t begin = offsets[b], end = offsets[b + 1];
    for (int64_t t = begin; t < end; t++) {
      reward[t] = (float)(-beta * kl[t] + (t == end - 1 ? score[b] : 0.0F));
    }
  }
}

void reward_whiten(float *reward, int64_t tokens) {
  advantage_whiten(reward, tokens, false);
}
