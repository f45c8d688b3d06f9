/* PPO where the optimum is known: a tiny random model, and the reward is the share of one chosen token in the answer.
 * The best policy writes nothing else. Each of five seeds must come above 0.9 within UPDATES updates, and so must every estimator that has no critic; and with a large
 * kl_coef the policy must stay at its reference. The reward model is left out: its scores are replaced by the share. */
#include "tests/support/ppo_lab.h"

#include <math.h>

enum { UPDATES = 40, CHOSEN = 17, SECOND = 23 };

static double share_of(const RolloutSample *sample, int32_t token) {
  int hits = 0;
  for (int64_t t = 0; t < sample->length; t++) hits += sample->response[t] == token;
  return (double)hits / (double)sample->length;
}

/* The stand-in for the reward model. Returns the mean share. */
static double score_by_share(Experience *x) {
  double sum = 0;
  for (int64_t e = 0; e < x->count; e++) {
    x->score[e] = x->judged[e] = (float)share_of(&x->samples[e], CHOSEN);
    sum += x->judged[e];
  }
  return sum / (double)x->count;
}

typedef struct Outcome {
  double share, kl, first_ratio_error;
} Outcome;

static Outcome learn(Lab *lab, int updates) {
  PpoSession *s = &lab->s;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = {.seed = (uint64_t)s->config.run.seed, .temperature = 1, .top_p = 1};
  Outcome outcome = {0};
  for (int u = 0; u < updates; u++) {
    Experience *x = &s->experience;
    lab_sample(lab, &spec);
    outcome.share = score_by_share(x);
    assert_true(experience_logprobs(x, &workers, &error) && experience_values(x, &workers, &error));
    experience_credit(x, &s->config.ppo, s->config.ppo.kl_coef, 0);
    outcome.kl = experience_stats(x).kl / LAB_LENGTH;
    UpdateStats stats;
    s->update.rollout = u;
    s->update.lr = s->update.critic_lr = 3e-3;
    if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
    if (stats.first_ratio_error > outcome.first_ratio_error)
      outcome.first_ratio_error = stats.first_ratio_error;
  }
  return outcome;
}

static void reaches_the_optimum(void **state) {
  (void)state;
  const char *const seeds[] = {"--run.seed=1", "--run.seed=2", "--run.seed=3", "--run.seed=4",
                               "--run.seed=5"};
  for (int i = 0; i < 5; i++) {
    Lab lab;
    lab_open(&lab, true, (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=0", seeds[i], NULL});
    const Outcome outcome = learn(&lab, UPDATES);
    printf("%s: share %.3f after %d updates, first ratio error %.2g\n", seeds[i], outcome.share, UPDATES,
           outcome.first_ratio_error);
    assert_true(outcome.share > 0.9);
    assert_true(outcome.first_ratio_error < 1e-4); /* the first ratio of every update is 1 */
    lab_close(&lab);
  }
}

static void without_a_critic(void **state) {
  (void)state;
  const char *const estimators[] = {"--ppo.advantage=rloo", "--ppo.advantage=grpo", "--ppo.advantage=dr_grpo",
                                    "--ppo.advantage=reinforce_pp"};
  for (int i = 0; i < 4; i++) {
    Lab lab;
    lab_open(&lab, true,
             (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=0", "--ppo.samples_per_prompt=16",
                              estimators[i], NULL});
    const Outcome outcome = learn(&lab, UPDATES);
    printf("%s: share %.3f after %d updates\n", estimators[i], outcome.share, UPDATES);
    assert_true(outcome.share > 0.9);
    lab_close(&lab);
  }
}

/* What is rewarded most costs as much as its share. Under a cost of at most 0.3 the best policy writes it so often and else what is worth
 * half of it: a reward of 0.3 + 0.7 / 2, less what the penalty on the KL takes. A multiplier of 1/2 makes the two equal, so that nothing but
 * the constraint says how often. */
enum { COST_UPDATES = 200, COST_LAST = 80 };

typedef struct Bought {
  double first, reward, cost, lambda; /* reward of the first rollout; means over the last ones */
} Bought;

static void judge_with_cost(Experience *x, double *reward, double *cost) {
  *reward = *cost = 0;
  for (int64_t e = 0; e < x->count; e++) {
    x->cost[e] = (float)share_of(&x->samples[e], CHOSEN);
    x->score[e] = x->judged[e] = x->cost[e] + 0.5F * (float)share_of(&x->samples[e], SECOND);
    *reward += x->judged[e] / (double)x->count;
    *cost += x->cost[e] / (double)x->count;
  }
}

static Bought learn_with_cost(Lab *lab) {
  PpoSession *s = &lab->s;
  Experience *x = &s->experience;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = {.seed = (uint64_t)s->config.run.seed, .temperature = 1, .top_p = 1};
  CostController multiplier = cost_controller(&s->config.cost.rule);
  Bought out = {0};
  for (int u = 0; u < COST_UPDATES; u++) {
    double reward, cost;
    UpdateStats stats;
    lab_sample(lab, &spec);
    judge_with_cost(x, &reward, &cost);
    cost_controller_update(&multiplier, x->cost, x->count, u, true);
    assert_true(experience_logprobs(x, &workers, &error) && experience_values(x, &workers, &error));
    experience_credit(x, &s->config.ppo, s->config.ppo.kl_coef, multiplier.lambda);
    s->update.rollout = u;
    s->update.lr = s->update.critic_lr = 3e-3 * (1 - (double)u / COST_UPDATES);
    if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
    if (u == 0) out.first = reward;
    if (u < COST_UPDATES - COST_LAST) continue;
    out.reward += reward / COST_LAST;
    out.cost += cost / COST_LAST;
    out.lambda += multiplier.lambda / COST_LAST;
  }
  return out;
}

static void under_a_constraint(void **state) {
  (void)state;
  const char *const estimators[] = {"--ppo.advantage=gae", "--ppo.advantage=rloo"};
  for (int i = 0; i < 2; i++) {
    Lab lab;
    lab_open(&lab, true,
             (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=0.006", "--ppo.samples_per_prompt=16",
                              "--ppo.whiten_advantages=false", "--ppo.epochs=1",
                              "--cost.path=" FIXTURES "/models/llama_score", "--cost.threshold=0.3",
                              "--cost.lambda_lr=0.2", "--cost.lambda=0.5", estimators[i], NULL});
    const Bought got = learn_with_cost(&lab);
    printf("%s: cost %.3f, reward %.3f (at first %.3f), lambda %.2f\n", estimators[i], got.cost, got.reward,
           got.first, got.lambda);
    assert_true(fabs(got.cost - 0.3) < 0.05 * 0.3);
    assert_true(got.reward > 0.57 && got.first < 0.05);
    lab_close(&lab);
  }
}

static void stays_at_the_reference(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, true, (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=100", NULL});
  const Outcome outcome = learn(&lab, UPDATES);
  printf("kl_coef 100: share %.3f, KL %.4f nats per token\n", outcome.share, outcome.kl);
  assert_true(outcome.share < 0.1);
  assert_true(outcome.kl < 0.05 && outcome.kl > -0.05);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reaches_the_optimum),
      cmocka_unit_test(without_a_critic),
      cmocka_unit_test(under_a_constraint),
      cmocka_unit_test(stays_at_the_reference),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
