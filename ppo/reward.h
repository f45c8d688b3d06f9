/* From the score of an answer to the reward of each of its tokens.
 *
 *   r_t = -beta * KL_t,  and + score at the last token
 *   (Ziegler et al. 2019, eq. 2; Ouyang et al. 2022, eq. 2 without the pretraining term)
 *
 * Arrays are ragged, see ppo/kl.h. */
#ifndef PPO_REWARD_H
#define PPO_REWARD_H

#include <stdbool.h>
#include <stdint.h>

/* What happens to the score of an answer that does not end with EOS. */
typedef enum MissingEos {
  MISSING_EOS_KEEP,
  MISSING_EOS_REPLACE, /* score := value (SFD, "The N+ implementation details of RLHF with PPO": -1) */
  MISSING_EOS_SUBTRACT /* score -= value (TRL's missing_eos_penalty) */
} MissingEos;
extern const char *const missing_eos_names[]; /* "keep", "replace", "subtract", NULL */

double reward_missing_eos(double score, bool ended, MissingEos rule, double value);

/* What is added to the score of an answer that is longer than most - margin tokens (Yu et al. 2025, "DAPO", eq. 13, times `penalty`): from 0
 * there in a straight line to -penalty at `most`, the longest that is sampled. margin 0 = nothing. */
double reward_overlong(int64_t length, int64_t most, int64_t margin, double penalty);

/* Mean and deviation of all scores of the run, as they come (Chan et al. 1983, "Algorithms for computing the sample variance", eq. 2.1);
 * part of a checkpoint. */
typedef struct RunningScore {
  double count, mean, squares; /* squares: sum of squared deviations */
} RunningScore;

/* Scores that are not finite are left alone. */
void running_score_add(RunningScore *running, const float *score, int64_t count);
/* (score - mean) / (deviation + 1e-8), with the unbiased variance; less the mean alone while all scores are one. */
double running_score_normalize(const RunningScore *running, double score);

/* sigma(score - reference), reference what the reference answer to the same prompt is scored: the probability, by Bradley and Terry, that the
 * answer is preferred to it (Fu et al. 2025, "Reward shaping to mitigate reward hacking in RLHF": preference as reward). */
double reward_against(double score, double reference);

/* score limited to [-limit, limit]; limit 0 = unlimited. What is not finite stays so: a reward model that says NaN is broken,
 * and the step is left out. */
double reward_clip(double score, double limit);

/* reward[t] for all tokens. An empty sequence gets nothing: its score is lost, so callers have none. */
void reward_tokens(const float *kl, const float *score, const int32_t *offsets, int64_t sequences,
                   double beta, float *reward);

/* Divides the rewards by their standard deviation and leaves their mean where it was (see advantage_whiten).
 */
void reward_whiten(float *reward, int64_t tokens);

#endif
