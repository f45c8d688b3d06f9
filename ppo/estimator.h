/* Which estimator makes the advantages of a rollout (ppo.advantage), and those that do without a critic. With K answers
 * to each prompt, a group, and R_i the return of an answer, the sum of its rewards:
 *
 *   gae           ppo/advantage.h, with the values of a critic
 *   rloo          A_i = R_i - mean of the other R_j of its group
 *                 (Ahmadian et al. 2024, "Back to basics: revisiting REINFORCE style optimization for learning from human
 *                 feedback in LLMs")
 *   grpo          A_i = (R_i - mean) / (std + 1e-4), both of its group
 *                 (Shao et al. 2024, "DeepSeekMath", section 4.1; unbiased variance and 1e-4 as in TRL)
 *   dr_grpo       A_i = R_i - mean of its group
 *                 (Liu et al. 2025, "Understanding R1-Zero-like training: a critical perspective")
 *   reinforce_pp  A_t = r_t + gamma * A_{t+1}, whitened over all tokens of the rollout
 *                 (Hu 2025, "REINFORCE++: a simple and efficient approach for aligning large language models")
 *   remax         A_i = R_i - b, b what the greedy answer to the same prompt was judged
 *                 (Li et al. 2023, "ReMax: a simple, effective, and efficient reinforcement learning method for aligning
 *                 large language models", algorithm 2)
 *
 * In the three of groups and in remax every token of answer i has A_i, and nothing is whitened after it. Arrays are ragged, see ppo/kl.h. */
#ifndef PPO_ESTIMATOR_H
#define PPO_ESTIMATOR_H

#include "ppo/loss.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum Estimator {
  ESTIMATOR_GAE,
  ESTIMATOR_RLOO,
  ESTIMATOR_GRPO,
  ESTIMATOR_DR_GRPO,
  ESTIMATOR_REINFORCE_PP,
  ESTIMATOR_REMAX
} Estimator;
extern const char
    *const estimator_names[]; /* "gae", "rloo", "grpo", "dr_grpo", "reinforce_pp", "remax", NULL */

/* Values are wanted: there is a critic. */
bool estimator_has_critic(Estimator estimator);
/* Answers are compared with others to the same prompt. */
bool estimator_has_groups(Estimator estimator);
/* All tokens of an answer have one advantage. */
bool estimator_is_by_answer(Estimator estimator);

/* advantage[t] of all tokens from the returns [answers] of the answers. Answers k*size .. (k+1)*size-1 are group k; size is at least
 * 2 and divides answers. */
void estimator_groups(Estimator estimator, const float *returns, const int32_t *offsets, int64_t answers,
                      int64_t size, float *advantage);

/* advantage[t] = returns[i] - baseline[i / size] of the answer i that it is in. */
void estimator_baseline(const float *returns, const float *baseline, const int32_t *offsets, int64_t answers,
                        int64_t size, float *advantage);

/* advantage[t] = the discounted sum of the answer's rewards from token t on. */
void estimator_returns(const float *reward, const int32_t *offsets, int64_t answers, double gamma,
                       float *advantage);

/* What the loss of its paper is a mean of: grpo LOSS_MEAN_ANSWER, its eq. 3; dr_grpo LOSS_MEAN_CONSTANT, a constant that its paper
 * leaves open (TRL has this one); the others LOSS_MEAN_TOKEN. */
LossMean estimator_mean(Estimator estimator);

/* Groups whose answers all have the same score: they teach nothing but the penalty on the KL. */
int64_t estimator_flat_groups(const float *score, int64_t answers, int64_t size);

#endif
