/* experience_credit: from what is known of a rollout to the advantages that the policy learns by. */
#include "ppo/advantage.h"
#include "ppo/cost.h"
#include "ppo/estimator.h"
#include "ppo/experience.h"
#include "ppo/kl.h"
#include "ppo/reward.h"

/* The advantages of rewards, or of costs, and the returns that their critic learns. */
static void estimate(const Experience *x, const PpoAlgorithm *ppo, const float *reward, const float *value,
                     float *advantage, float *returns) {
  advantage_gae(reward, value, x->offsets, x->count, ppo->gamma,
                ppo->lam_critic > 0 ? ppo->lam_critic : ppo->lam, advantage, returns);
  /* The actor's, where its lambda is another: the critic's stay in the returns. */
  if (ppo->lam_alpha > 0)
    advantage_gae_by_length(reward, value, x->offsets, x->count, ppo->gamma, ppo->lam_alpha, advantage);
  else if (ppo->lam_critic > 0)
    advantage_gae(reward, value, x->offsets, x->count, ppo->gamma, ppo->lam, advantage, NULL);
}

/* The critic of the costs, and the advantages of both. The penalty on the KL is in the costs as it is in the rewards, so that what is made of
 * both has it once, whatever lambda is. */
static void credit_costs(Experience *x, const PpoAlgorithm *ppo, double beta, double lambda, Credit *credit) {
  reward_tokens(x->kl, x->cost, x->offsets, x->count, -beta, x->cost_reward);
  estimate(x, ppo, x->cost_reward, x->cost_value, x->cost_advantage, x->cost_returns);
  cost_combine(x->advantage, x->cost_advantage, x->tokens, lambda, x->advantage);
  credit->cost_critic = true;
  credit->cost_return_std = standard_deviation(x->cost_returns, x->tokens);
  credit->cost_explained_variance = explained_variance(x->cost_value, x->cost_returns, x->tokens);
}

/* With a critic: its values' part of the credit as well. */
static void credit_values(Experience *x, const PpoAlgorithm *ppo, double beta, double lambda,
                          Credit *credit) {
  const bool costs = x->cost_value != NULL;
  if (costs) reward_tokens(x->kl, x->judged, x->offsets, x->count, beta, x->reward); /* by themselves */
  if (ppo->whiten_rewards) reward_whiten(x->reward, x->tokens);
  estimate(x, ppo, x->reward, x->value, x->advantage, x->returns);
  credit->critic = true;
  credit->return_std = standard_deviation(x->returns, x->tokens);
  credit->explained_variance = explained_variance(x->value, x->returns, x->tokens);
  if (costs) credit_costs(x, ppo, beta, lambda, credit);
}

static void credit_groups(Experience *x, const PpoAlgorithm *ppo, Credit *credit) {
  const int64_t size = ppo->samples_per_prompt;
  estimator_groups((Estimator)ppo->advantage, x->total, x->offsets, x->count, size, x->advantage);
  credit->groups = (double)(x->count / size);
  for (int64_t e = 0; e < x->count; e += size) credit->flat_groups += experience_is_flat(x, e, size);
}

static void credit_baseline(Experience *x, const PpoAlgorithm *ppo, double lambda, Credit *credit) {
  const int64_t prompts = x->count / ppo->samples_per_prompt;
  cost_combine(x->baseline, x->baseline_cost, prompts, lambda, x->baseline);
  estimator_baseline(x->total, x->baseline, x->offsets, x->count, ppo->samples_per_prompt, x->advantage);
  credit->remax = true;
  for (int64_t p = 0; p < prompts; p++) credit->baseline += x->baseline[p] / (double)prompts;
}

static bool may_leave_out(const PpoAlgorithm *ppo) {
  return ppo->mask_cut || (ppo->drop_flat_groups && estimator_has_groups((Estimator)ppo->advantage));
}

/* Which answers are in no loss. Their rewards are in the means over groups and rollout all the same. */
static double leave_out(Experience *x, const PpoAlgorithm *ppo) {
  const bool groups = ppo->drop_flat_groups && estimator_has_groups((Estimator)ppo->advantage);
  const int64_t size = ppo->samples_per_prompt;
  double count = 0;
  for (int64_t e = 0; e < x->count; e++) {
    x->left_out[e] = (ppo->mask_cut && !rollout_ended(&x->samples[e])) ||
                     (groups && experience_is_flat(x, e / size * size, size));
    count += x->left_out[e];
  }
  return count;
}

/* Rewards of tokens, and their sums. Returns the mean of the sums. */
static double sum_rewards(Experience *x, double beta, double lambda) {
  double sum = 0;
  cost_combine(x->judged, x->cost, x->count, lambda, x->total);
  reward_tokens(x->kl, x->total, x->offsets, x->count, beta, x->reward);
  for (int64_t e = 0; e < x->count; e++) {
    double total = 0;
    for (int32_t t = x->offsets[e]; t < x->offsets[e + 1]; t++) total += x->reward[t];
    x->total[e] = (float)total;
    sum += total;
  }
  return sum / (double)x->count;
}

Credit experience_credit(Experience *experience, const PpoAlgorithm *ppo, double kl_coef, double lambda) {
  Experience *x = experience;
  const int64_t bounded =
      kl_tokens((KlEstimator)ppo->kl_estimator, x->logprob, x->reference, x->tokens, x->kl);
  const double beta =
      ppo->kl_in == KL_IN_REWARD ? kl_coef : 0; /* 0 times what is not finite is NaN, and is seen */
  Credit credit = {.bounded = (double)bounded, .reward = sum_rewards(x, beta, lambda)};
  if (estimator_has_critic((Estimator)ppo->advantage))
    credit_values(x, ppo, beta, lambda, &credit);
  else if (estimator_has_groups((Estimator)ppo->advantage))
    credit_groups(x, ppo, &credit);
  else if (ppo->advantage == ESTIMATOR_REMAX)
    credit_baseline(x, ppo, lambda, &credit);
  else
    estimator_returns(x->reward, x->offsets, x->count, ppo->gamma, x->advantage);
  credit.leaves_out = may_leave_out(ppo);
  credit.left_out = leave_out(x, ppo);
  credit.advantage_std = standard_deviation(x->advantage, x->tokens);
  if (!estimator_is_by_answer((Estimator)ppo->advantage) && ppo->whiten_advantages)
    advantage_whiten(x->advantage, x->tokens, true);
  return credit;
}
