/* The mathematics of PPO and of the reward model on fixed arrays, against TRL (tests/fixtures/make_rl.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "ppo/advantage.h"
#include "ppo/estimator.h"
#include "ppo/kl.h"
#include "ppo/loss.h"
#include "ppo/reward.h"
#include "reward/loss.h"
#include "tests/support/fixture.h"

static const double TOLERANCE = 2e-6; /* values are of size 1 and stored in fp32 */

enum { MOST = 64 };

static void test_kl(void **state) {
  (void)state;
  static const char *const names[] = {"k1", "k2", "k3"};
  Fixture f;
  fixture_open(&f, "rl/kl");
  int64_t tokens, offsets;
  const float *logprob = fixture_floats(&f, "logprob", &tokens);
  const float *reference = fixture_floats(&f, "reference", NULL);
  const int32_t *offset = fixture_ints(&f, "offsets", &offsets);
  const float *mean = fixture_floats(&f, "mean", NULL);
  for (int k = 0; k < 3; k++) {
    float kl[MOST];
    kl_tokens((KlEstimator)k, logprob, reference, tokens, kl);
    assert_near(names[k], kl, fixture_floats(&f, names[k], NULL), tokens, TOLERANCE);
    assert_number("mean", kl_mean(kl, offset, offsets - 1), mean[k], TOLERANCE);
  }
  fixture_close(&f);
}

static void test_controller(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/controller");
  KlController c = {.coef = 0.15, .adaptive = true, .target = 6, .horizon = 10000};
  assert_number("start", c.coef, fixture_float(&f, "start"), 1e-8);
  int64_t count;
  const float *observed = fixture_floats(&f, "observed", &count);
  const int32_t *episodes = fixture_ints(&f, "episodes", NULL);
  const float *coef = fixture_floats(&f, "coef", NULL);
  for (int64_t i = 0; i < count; i++) {
    kl_controller_update(&c, observed[i], episodes[i]);
    assert_number("coefficient", c.coef, coef[i], 1e-8);
  }
  fixture_close(&f);
}

static void check_gae(Fixture *f, int i, bool whiten_rewards) {
  int64_t tokens, offsets;
  float reward[MOST], advantage[MOST], returns[MOST];
  const float *from = fixture_floats(f, "reward", &tokens);
  memcpy(reward, from, (size_t)tokens * sizeof *reward);
  const float *value = fixture_floats(f, "value", NULL);
  const int32_t *offset = fixture_ints(f, "offsets", &offsets);
  const float *gamma = fixture_floats(f, "gamma", NULL), *lambda = fixture_floats(f, "lam", NULL);
  if (whiten_rewards) reward_whiten(reward, tokens);
  advantage_gae(reward, value, offset, offsets - 1, gamma[i], lambda[i], advantage, returns);
  char key[64];
  const int stem = snprintf(key, sizeof key, "case%d%s.", i, whiten_rewards ? ".whitened_rewards" : "");
  strcpy(key + stem, "advantage");
  assert_near(key, advantage, fixture_floats(f, key, NULL), tokens, TOLERANCE);
  strcpy(key + stem, "returns");
  assert_near(key, returns, fixture_floats(f, key, NULL), tokens, TOLERANCE);
  if (i == 0 && !whiten_rewards)
    assert_number("explained variance", explained_variance(value, returns, tokens),
                  fixture_float(f, "explained_variance"), TOLERANCE);
  advantage_whiten(advantage, tokens, true);
  strcpy(key + stem, "advantage_whitened");
  assert_near(key, advantage, fixture_floats(f, key, NULL), tokens, TOLERANCE);
}

static void test_gae(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/gae");
  for (int i = 0; i < 4; i++) check_gae(&f, i / 2, i % 2 == 1);
  fixture_close(&f);
}

static void test_whiten(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/whiten");
  for (int shift = 0; shift < 2; shift++) {
    int64_t tokens;
    float x[MOST];
    const float *from = fixture_floats(&f, "x", &tokens);
    memcpy(x, from, (size_t)tokens * sizeof *x);
    advantage_whiten(x, tokens, shift);
    const char *name = shift ? "shift" : "no_shift";
    assert_near(name, x, fixture_floats(&f, name, NULL), tokens, TOLERANCE);
  }
  fixture_close(&f);
}

static void test_reward(void **state) {
  (void)state;
  static const MissingEos rules[] = {MISSING_EOS_KEEP, MISSING_EOS_REPLACE, MISSING_EOS_SUBTRACT};
  static const double values[] = {0, -1, 1.5};
  Fixture f;
  fixture_open(&f, "rl/reward");
  int64_t sequences, tokens;
  const float *score = fixture_floats(&f, "score", &sequences), *kl = fixture_floats(&f, "kl", &tokens);
  const int32_t *ended = fixture_ints(&f, "ended", NULL), *offset = fixture_ints(&f, "offsets", NULL);
  for (int r = 0; r < 3; r++) {
    float scores[MOST], reward[MOST];
    char key[64];
    for (int64_t b = 0; b < sequences; b++)
      scores[b] = (float)reward_missing_eos(score[b], ended[b], rules[r], values[r]);
    snprintf(key, sizeof key, "%s.score", missing_eos_names[rules[r]]);
    assert_near(key, scores, fixture_floats(&f, key, NULL), sequences, TOLERANCE);
    reward_tokens(kl, scores, offset, sequences, fixture_float(&f, "beta"), reward);
    snprintf(key, sizeof key, "%s.reward", missing_eos_names[rules[r]]);
    assert_near(key, reward, fixture_floats(&f, key, NULL), tokens, TOLERANCE);
  }
  fixture_close(&f);
}

static void test_policy(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/policy");
  int64_t n;
  float dlogprob[MOST];
  PolicyStats stats = {0};
  const float *logprob = fixture_floats(&f, "logprob", &n);
  const double clip = fixture_float(&f, "clip");
  policy_loss(&(PolicyRule){.clip_low = clip, .clip_high = clip},
              &(PolicyTokens){.count = n,
                              .logprob = logprob,
                              .old = fixture_floats(&f, "old", NULL),
                              .advantage = fixture_floats(&f, "advantage", NULL)},
              1.0 / (double)n, dlogprob, &stats);
  const double tokens = (double)n;
  assert_number("tokens", stats.tokens, tokens, 0);
  assert_number("loss", stats.loss / tokens, fixture_float(&f, "loss"), TOLERANCE);
  assert_number("clip fraction", stats.clipped / tokens, fixture_float(&f, "clipfrac"), 1e-7);
  assert_number("approximate KL", stats.approx_kl / tokens, fixture_float(&f, "approx_kl"), TOLERANCE);
  assert_number("approximate KL, k3", stats.approx_kl3 / tokens, fixture_float(&f, "approx_kl3"), TOLERANCE);
  assert_number("ratio", stats.ratio / tokens, fixture_float(&f, "ratio"), TOLERANCE);
  assert_relative("gradient", dlogprob, fixture_floats(&f, "dlogprob", NULL), n, 1e-6);
  fixture_close(&f);
}

/* Against the lines of TRL's GRPOTrainer (make_policy_losses.py): limits, ratio of the answer, KL in the loss, what it is a mean of,
 * and an answer that is left out but counted. */
static void test_policy_losses(void **state) {
  (void)state;
  static const struct {
    const char *name;
    LossMean mean;
  } cases[] = {{"high", LOSS_MEAN_TOKEN},
               {"dual", LOSS_MEAN_TOKEN},
               {"sequence", LOSS_MEAN_ANSWER},
               {"kl", LOSS_MEAN_ANSWER},
               {"all", LOSS_MEAN_CONSTANT}};
  Fixture f;
  fixture_open(&f, "rl/policy_losses");
  int64_t n, answers, at = 0;
  float advantage[MOST], slope[MOST];
  int32_t length[MOST];
  const float *logprob = fixture_floats(&f, "logprob", &n);
  const float *by_answer = fixture_floats(&f, "advantage", NULL);
  const int32_t *lengths = fixture_ints(&f, "lengths", &answers);
  const double all = fixture_ints(&f, "answers", NULL)[0];
  const int64_t longest = fixture_ints(&f, "longest", NULL)[0];
  for (int64_t i = 0; i < answers; i++) {
    for (int32_t t = 0; t < lengths[i]; t++, at++) {
      advantage[at] = by_answer[i];
      length[at] = lengths[i];
    }
  }
  assert_int_equal(at, n);
  const PolicyTokens tokens = {.count = n,
                               .logprob = logprob,
                               .old = fixture_floats(&f, "old", NULL),
                               .advantage = advantage,
                               .reference = fixture_floats(&f, "reference", NULL),
                               .length = length};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char key[64];
    snprintf(key, sizeof key, "%s.rule", cases[k].name);
    const float *told = fixture_floats(&f, key, NULL);
    const PolicyRule rule = {.clip_low = told[0],
                             .clip_high = told[1],
                             .dual_clip = told[2],
                             .kl_coef = told[3],
                             .ratio = told[4] > 0 ? RATIO_SEQUENCE : RATIO_TOKEN};
    const double weight = loss_weight(cases[k].mean, all, (double)n, longest);
    double loss = 0;
    PolicyStats whole = {0};
    policy_loss(&rule, &tokens, weight, slope, &whole);
    if (cases[k].mean == LOSS_MEAN_ANSWER) slopes_by_answer(slope, length, n);
    snprintf(key, sizeof key, "%s.slope", cases[k].name);
    assert_relative(key, slope, fixture_floats(&f, key, NULL), n, 2e-6);
    for (int64_t i = 0, first = 0; i < answers; first += lengths[i++]) { /* of each answer, for its mean */
      PolicyStats one = {0};
      const PolicyTokens part = {lengths[i],        logprob + first,          tokens.old + first,
                                 advantage + first, tokens.reference + first, length + first};
      float unused[MOST];
      policy_loss(&rule, &part, weight, unused, &one);
      loss +=
          (one.loss + rule.kl_coef * one.kl) * weight / (cases[k].mean == LOSS_MEAN_ANSWER ? lengths[i] : 1);
    }
    snprintf(key, sizeof key, "%s.loss", cases[k].name);
    assert_number(key, loss, fixture_float(&f, key), TOLERANCE);
    assert_true(whole.clipped > 0 || rule.kl_coef > 0);
  }
  fixture_close(&f);
}

static void test_value(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/value");
  int64_t n;
  float dvalue[MOST];
  ValueStats stats = {0};
  const float *value = fixture_floats(&f, "value", &n);
  value_loss(value, fixture_floats(&f, "old", NULL), fixture_floats(&f, "returns", NULL), n,
             fixture_float(&f, "clip"), 1.0 / (double)n, dvalue, &stats);
  assert_number("loss", stats.loss / (double)n, fixture_float(&f, "loss"), TOLERANCE);
  assert_number("clip fraction", stats.clipped / (double)n, fixture_float(&f, "clipfrac"), 1e-7);
  assert_relative("gradient", dvalue, fixture_floats(&f, "dvalue", NULL), n, 1e-6);
  fixture_close(&f);
}

/* Against the lines of TRL's RLOO and GRPO trainers (make_groups.py). */
static void test_groups(void **state) {
  (void)state;
  static const Estimator estimators[] = {ESTIMATOR_RLOO, ESTIMATOR_GRPO, ESTIMATOR_DR_GRPO};
  Fixture f;
  fixture_open(&f, "rl/groups");
  int64_t answers;
  const float *reward = fixture_floats(&f, "reward", &answers);
  const int32_t *offset = fixture_ints(&f, "offsets", NULL), *size = fixture_ints(&f, "group", NULL);
  const int32_t *longest = fixture_ints(&f, "longest", NULL);
  const int32_t tokens = offset[answers];
  int32_t lengths[MOST];
  for (int64_t i = 0; i < answers; i++)
    for (int32_t t = offset[i]; t < offset[i + 1]; t++) lengths[t] = offset[i + 1] - offset[i];
  assert_int_equal(estimator_flat_groups(reward, answers, size[0]), 1);
  for (size_t k = 0; k < sizeof estimators / sizeof *estimators; k++) {
    const Estimator estimator = estimators[k];
    const char *name = estimator_names[estimator];
    float advantage[MOST], first[MOST], weight[MOST];
    char key[64];
    estimator_groups(estimator, reward, offset, answers, size[0], advantage);
    for (int64_t i = 0; i < answers; i++) first[i] = advantage[offset[i]];
    assert_near(name, first, fixture_floats(&f, name, NULL), answers, TOLERANCE);
    if (estimator == ESTIMATOR_RLOO) continue; /* its trainer has whole answers for actions */
    const LossMean mean = estimator_mean(estimator);
    const double each = loss_weight(mean, (double)answers, tokens, longest[0]);
    for (int32_t t = 0; t < tokens; t++) weight[t] = (float)each;
    if (mean == LOSS_MEAN_ANSWER) slopes_by_answer(weight, lengths, tokens);
    snprintf(key, sizeof key, "weight.%s", name);
    assert_relative(key, weight, fixture_floats(&f, key, NULL), tokens, 1e-6);
  }
  fixture_close(&f);
}

static void test_pairwise(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, "rl/pairwise");
  int64_t n;
  float dchosen[MOST], drejected[MOST];
  const float *chosen = fixture_floats(&f, "chosen", &n), *rejected = fixture_floats(&f, "rejected", NULL);
  const float *margin = fixture_floats(&f, "margin", NULL);
  double loss = 0, correct = 0;
  for (int64_t i = 0; i < n; i++) {
    const int32_t ranks[] = {0, 1};
    const float scores[] = {chosen[i], rejected[i]};
    float slopes[2];
    const PreferenceLoss one = preference_loss(scores, ranks, 2, (double)margin[i],
                                               (double)fixture_float(&f, "center"), (double)n, slopes);
    loss += one.loss;
    correct += one.correct;
    dchosen[i] = slopes[0];
    drejected[i] = slopes[1];
  }
  assert_number("loss", loss, fixture_float(&f, "loss"), TOLERANCE);
  assert_number("accuracy", correct / (double)n, fixture_float(&f, "accuracy"), 1e-6);
  assert_relative("gradient", dchosen, fixture_floats(&f, "dchosen", NULL), n, 1e-6);
  assert_relative("gradient", drejected, fixture_floats(&f, "drejected", NULL), n, 1e-6);
  fixture_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_kl),
      cmocka_unit_test(test_controller),
      cmocka_unit_test(test_gae),
      cmocka_unit_test(test_whiten),
      cmocka_unit_test(test_reward),
      cmocka_unit_test(test_policy),
      cmocka_unit_test(test_policy_losses),
      cmocka_unit_test(test_value),
      cmocka_unit_test(test_groups),
      cmocka_unit_test(test_pairwise),
  };
  return cmocka_run_group_tests_name("parity/rl_math", tests, NULL, NULL);
}
