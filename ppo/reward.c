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
