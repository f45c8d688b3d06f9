/* PPO with a constraint: the reward is to be as large as it can be while the mean cost of an answer is held at a threshold d
 * (PPO-Lagrangian; Dai et al. 2023, "Safe RLHF: safe reinforcement learning from human feedback", arXiv:2310.12773, section 3.3 and
 * appendix B). The multiplier lambda says what a unit of cost is worth in reward, and moves by what the constraint lacks:
 *
 *   log lambda <- min(log lambda + lr * lambda * (J - d), log most)
 *
 * with J the mean cost of the answers of the last `window` rollouts, the present one included, once for each rollout (the authors' code does it
 * for each minibatch, over 128 answers). What the policy learns from is, of rewards, of values and so of advantages alike,
 *
 *   (reward - lambda * cost) / (1 + lambda)
 *
 * whose scale does not grow with lambda. */
#ifndef PPO_COST_H
#define PPO_COST_H

#include <stdbool.h>
#include <stdint.h>

enum { COST_MOST_WINDOW = 256 };

typedef struct CostRule {
  double threshold, lambda, lr, most; /* d; lambda at the beginning, above 0; lr; the most that it becomes */
  int64_t delay;                      /* updates before it first moves */
  int64_t window;                     /* rollouts, up to COST_MOST_WINDOW */
} CostRule;

/* All of it but the rule is part of a checkpoint. */
typedef struct CostController {
  CostRule rule;
  double lambda;
  int64_t rollouts;               /* seen so far */
  double means[COST_MOST_WINDOW]; /* mean cost of rollout n at n % window */
} CostController;

CostController cost_controller(const CostRule *rule);
/* Takes in the costs of a rollout, before it is learnt from, with `updates` updates done. Costs that are not finite are left alone. moves: false
 * while nothing of the policy moves, so that lambda waits too. */
void cost_controller_update(CostController *controller, const float *cost, int64_t answers, int64_t updates,
                            bool moves);

/* out[i] = (reward[i] - lambda * cost[i]) / (1 + lambda); out may be reward. With lambda 0 it is the reward to the bit. */
void cost_combine(const float *reward, const float *cost, int64_t count, double lambda, float *out);

/* Share of the answers whose cost is at most the threshold. */
double cost_safe_share(const float *cost, int64_t answers, double threshold);

#endif
