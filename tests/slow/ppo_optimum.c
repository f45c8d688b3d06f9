/* PPO where the optimum is known: a tiny random model, and the reward is the share of one chosen token in the answer.
 * The best policy writes nothing else. With every estimator each of five seeds must come above 0.9 within UPDATES updates; and with a large
 * kl_coef the policy must stay at its reference. The reward model is left out: its scores are replaced by the share.
 * And where answers can be wrong in two ways, a short and a long one, grpo comes to prefer the long one, and dr_grpo does not. */
#include "tests/support/ppo_lab.h"

#include <math.h>
#include <string.h>

enum { UPDATES = 40, REMAX_UPDATES = 100, CHOSEN = 17, SECOND = 23 };

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

/* What greedy answers to the prompts are worth, for remax. */
static void score_greedy(Lab *lab, const PpoWorkers *workers, RolloutSpec spec) {
  Experience *x = &lab->s.experience;
  Error error = {0};
  spec.temperature = 0;
  experience_begin(x, workers);
  for (int p = 0; p < LAB_PROMPTS; p++) {
    const Example prompt = {.ids = lab->prompts[p], .count = LAB_PROMPT, .prompt = ""};
    experience_add(x, &prompt, experience_greedy + (uint64_t)p);
  }
  if (!experience_sample(x, workers, &spec, &error)) fail_msg("%s", error.message);
  score_by_share(x);
  memcpy(x->baseline, x->judged, LAB_PROMPTS * sizeof *x->baseline);
}

typedef struct Outcome {
  double share, kl, first_ratio_error;
  int updates; /* done before the share was enough */
} Outcome;

/* Until the share is more than `enough`, or for so many updates. */
static Outcome learn(Lab *lab, int updates, double enough) {
  PpoSession *s = &lab->s;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = {.seed = (uint64_t)s->config.run.seed, .temperature = 1, .top_p = 1};
  Outcome outcome = {0};
  for (int u = 0; u < updates; u++) {
    Experience *x = &s->experience;
    if (s->config.ppo.advantage == ESTIMATOR_REMAX) score_greedy(lab, &workers, spec);
    lab_sample(lab, &spec);
    outcome.share = score_by_share(x);
    outcome.updates = u;
    if (outcome.share > enough) return outcome;
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

static const char *const seeds[] = {"--run.seed=1", "--run.seed=2", "--run.seed=3", "--run.seed=4",
                                    "--run.seed=5"};
enum { SEEDS = sizeof seeds / sizeof *seeds };

static void reaches_the_optimum(void **state) {
  (void)state;
  static const struct {
    const char *option;
    int updates;
  } estimators[] = {{"--ppo.advantage=gae", UPDATES},         {"--ppo.advantage=rloo", UPDATES},
                    {"--ppo.advantage=grpo", UPDATES},        {"--ppo.advantage=dr_grpo", UPDATES},
                    {"--ppo.advantage=remax", REMAX_UPDATES}, {"--ppo.advantage=reinforce_pp", UPDATES}};
  for (size_t k = 0; k < sizeof estimators / sizeof *estimators; k++) {
    printf("%s: above 0.9 after", estimators[k].option);
    for (int i = 0; i < SEEDS; i++) {
      Lab lab;
      lab_open(&lab, true,
               (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=0", "--ppo.samples_per_prompt=16",
                                estimators[k].option, seeds[i], NULL});
      const Outcome outcome = learn(&lab, estimators[k].updates, 0.9);
      printf("%s %d", i ? "," : "", outcome.updates);
      assert_true(outcome.share > 0.9);
      assert_true(outcome.first_ratio_error < 1e-4); /* the first ratio of every update is 1 */
      lab_close(&lab);
    }
    printf(" updates\n");
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
  const Outcome outcome = learn(&lab, UPDATES, 1);
  printf("kl_coef 100: share %.3f, KL %.4f nats per token\n", outcome.share, outcome.kl);
  assert_true(outcome.share < 0.1);
  assert_true(outcome.kl < 0.05 && outcome.kl > -0.05);
  lab_close(&lab);
}

/* Two ways of being wrong (Liu et al. 2025, "Understanding R1-Zero-like training", section 3.1). The first token of an answer says everything: of
 * each five tokens one is right, two are wrong and end the answer, and two are wrong and go on to its full length, as what is right does.
 * Right is worth 1 and wrong 0, however long. With one pass and one minibatch, p(a) the probability of arm a, A(a) its advantage and w(a) what
 * one of its tokens weighs in the loss, the gradient of the policy's objective by the logit of a is
 *
 *   p(a) (w(a) A(a) - sum over arms b of p(b) w(b) A(b))
 *
 * A is below 0 for both wrong ones, and the same. w is 1 / length in grpo, so that the long one is held back less and becomes what most wrong answers
 * are; in dr_grpo it is one constant, and they stay as they were. In which proportion, at a given share of right answers, does not depend on the
 * rate, nor on what A is divided by. The formula is of three free logits and gradient descent without moments, so that is the optimiser here (Adam would
 * make the two alike token by token); where the logits are a model's, which share its weights, grpo comes about two thirds of the way. */
enum { ARM_RIGHT, ARM_SHORT, ARM_LONG, ARMS, ARM_UPDATES = 60, ARM_LAST = 15 };
static const int64_t arm_length[ARMS] = {LAB_LENGTH, 1, LAB_LENGTH};

static int arm_of(int32_t token) {
  return token % 5 == 0 ? ARM_RIGHT : token % 5 < 3 ? ARM_SHORT : ARM_LONG;
}

/* The share of long answers among the wrong ones once `right` of all answers are right, by the formula. */
static double long_share_at(double right, bool by_answer) {
  double logit[ARMS] = {0, log(2), log(2)}, p[ARMS];
  for (;;) {
    double sum = 0, mean = 0;
    for (int a = 0; a < ARMS; a++) sum += exp(logit[a]);
    for (int a = 0; a < ARMS; a++) p[a] = exp(logit[a]) / sum;
    if (p[ARM_RIGHT] >= right) return p[ARM_LONG] / (p[ARM_SHORT] + p[ARM_LONG]);
    double pull[ARMS];
    for (int a = 0; a < ARMS; a++) {
      pull[a] = ((a == ARM_RIGHT) - p[ARM_RIGHT]) / (by_answer ? (double)arm_length[a] : 1);
      mean += p[a] * pull[a];
    }
    for (int a = 0; a < ARMS; a++) logit[a] += 0.01 * p[a] * (pull[a] - mean);
  }
}

/* Ends the answers where their first token says, and judges them. */
static void judge_arms(Experience *x, double count[ARMS]) {
  for (int64_t e = 0; e < x->count; e++) {
    RolloutSample *sample = &x->samples[e];
    const int arm = arm_of(sample->response[0]);
    sample->length = arm_length[arm];
    x->offsets[e + 1] = x->offsets[e] + (int32_t)sample->length;
    x->score[e] = x->judged[e] = arm == ARM_RIGHT;
    count[arm]++;
  }
  x->tokens = x->offsets[x->count];
}

/* Counts the arms over the last updates. */
static void learn_arms(Lab *lab, double lr, double count[ARMS]) {
  PpoSession *s = &lab->s;
  Experience *x = &s->experience;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = {.seed = (uint64_t)s->config.run.seed, .temperature = 1, .top_p = 1};
  for (int u = 0; u < ARM_UPDATES; u++) {
    UpdateStats stats;
    double now[ARMS] = {0};
    lab_sample(lab, &spec);
    judge_arms(x, now);
    assert_true(experience_logprobs(x, &workers, &error));
    experience_credit(x, &s->config.ppo, 0, 0);
    s->update.rollout = u;
    s->update.lr = lr;
    if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
    for (int a = 0; u >= ARM_UPDATES - ARM_LAST && a < ARMS; a++) count[a] += now[a];
  }
}

/* The share of long answers among the wrong ones after learning, of one seed. */
static double long_share(const char *estimator, const char *seed, double lr, bool by_answer) {
  Lab lab;
  double count[ARMS] = {0};
  lab_open(
      &lab, true,
      (const char *[]){"--rollout.temperature=1", "--ppo.kl_coef=0", "--ppo.samples_per_prompt=16",
                       "--ppo.minibatches=1", "--ppo.epochs=1", "--optim.name=sgd", estimator, seed, NULL});
  learn_arms(&lab, lr, count);
  lab_close(&lab);
  const double wrong = count[ARM_SHORT] + count[ARM_LONG], right = 1 - wrong / (LAB_BATCH * ARM_LAST);
  const double share = count[ARM_LONG] / wrong, formula = long_share_at(right, by_answer);
  printf("%s %s: %.2f are right; of %.0f wrong ones %.2f long, by the formula %.2f\n", seed, estimator, right,
         wrong, share, formula);
  assert_true(right > 0.35 && wrong > 100);
  assert_true(by_answer ? share < formula + 0.05 : fabs(share - formula) < 0.1);
  return share;
}

static void wrong_answers_of_two_lengths(void **state) {
  (void)state;
  double apart = 0;
  for (int i = 0; i < SEEDS; i++) { /* at rates at which both learn about as much */
    const double grpo = long_share("--ppo.advantage=grpo", seeds[i], 0.12, true);
    const double dr_grpo = long_share("--ppo.advantage=dr_grpo", seeds[i], 0.6, false);
    assert_true(grpo > dr_grpo + 0.05);
    apart += (grpo - dr_grpo) / SEEDS;
  }
  assert_true(apart > 0.12);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reaches_the_optimum),
      cmocka_unit_test(under_a_constraint),
      cmocka_unit_test(stays_at_the_reference),
      cmocka_unit_test(wrong_answers_of_two_lengths),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
