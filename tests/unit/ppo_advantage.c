/* Rewards, advantages, whitening and explained variance, against values computed by hand. */
#include "ppo/advantage.h"
#include "ppo/reward.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static void missing_eos(void **state) {
  (void)state;
  assert_true(reward_missing_eos(2.5, true, MISSING_EOS_REPLACE, -1) == 2.5);
  assert_true(reward_missing_eos(2.5, true, MISSING_EOS_SUBTRACT, 1) == 2.5);
  assert_true(reward_missing_eos(2.5, false, MISSING_EOS_REPLACE, -1) == -1);
  assert_true(reward_missing_eos(2.5, false, MISSING_EOS_SUBTRACT, 1) == 1.5);
  assert_true(reward_missing_eos(2.5, false, MISSING_EOS_KEEP, 1) == 2.5);
  assert_true(reward_clip(7, 5) == 5 && reward_clip(-7, 5) == -5 && reward_clip(3, 5) == 3);
  assert_true(reward_clip(1e9, 0) == 1e9);
}

static void token_rewards(void **state) {
  (void)state;
  const float kl[6] = {1, -2, 4, 0.5F, 8, 16};
  const float score[3] = {10, -3, 2};
  const int32_t offsets[4] = {0, 3, 4, 6};
  float reward[6];
  reward_tokens(kl, score, offsets, 3, 0.25, reward);
  const float expected[6] = {-0.25F, 0.5F, 9, -3.125F, -2, -2};
  for (int t = 0; t < 6; t++) assert_true(reward[t] == expected[t]);
}

static void gae(void **state) {
  (void)state;
  /* One response of three tokens and one of a single token; gamma 1, lambda 0.5. */
  const float reward[4] = {1, 0, 2, 5}, value[4] = {0.5F, 1, 1.5F, 2};
  const int32_t offsets[3] = {0, 3, 4};
  float advantage[4], returns[4];
  advantage_gae(reward, value, offsets, 2, 1.0, 0.5, advantage, returns);
  /* delta: 1+1-0.5 = 1.5, 0+1.5-1 = 0.5, 2+0-1.5 = 0.5; A_2 = 0.5, A_1 = 0.5+0.25, A_0 = 1.5+0.375 */
  const float expected[4] = {1.875F, 0.75F, 0.5F, 3};
  for (int t = 0; t < 4; t++) {
    assert_true(advantage[t] == expected[t]);
    assert_true(returns[t] == expected[t] + value[t]);
  }
  /* With a discount too: gamma 0.5, lambda 0.5. */
  advantage_gae(reward, value, offsets, 2, 0.5, 0.5, advantage, returns);
  /* delta: 1+0.5-0.5 = 1, 0+0.75-1 = -0.25, 0.5; A_1 = -0.25+0.125, A_0 = 1-0.03125 */
  assert_true(advantage[2] == 0.5F && advantage[1] == -0.125F && advantage[0] == 0.96875F);
}

/* lambda 1, gamma 1: the return is the sum of the rewards to come, whatever the values; lambda 0: one-step
 * TD. */
static void gae_limits(void **state) {
  (void)state;
  float reward[9], value[9], advantage[9], returns[9];
  const int32_t offsets[4] = {0, 4, 4, 9}; /* the second response is empty */
  for (int t = 0; t < 9; t++) {
    reward[t] = sinf((float)t * 1.7F);
    value[t] = cosf((float)t * 0.6F);
  }
  advantage_gae(reward, value, offsets, 3, 1, 1, advantage, returns);
  double to_come = 0;
  for (int t = 8; t >= 0; t--) {
    if (t == 3) to_come = 0;
    to_come += reward[t];
    assert_near(returns[t], to_come, 1e-6);
  }
  advantage_gae(reward, value, offsets, 3, 0.9, 0, advantage, returns);
  for (int t = 0; t < 9; t++) {
    const double next = t == 3 || t == 8 ? 0 : value[t + 1];
    assert_near(advantage[t], reward[t] + 0.9 * next - value[t], 1e-6);
  }
}

static void whitening(void **state) {
  (void)state;
  /* mean 2.5, unbiased variance 5/3 */
  float x[4] = {1, 2, 3, 4}, y[4] = {1, 2, 3, 4};
  advantage_whiten(x, 4, true);
  const double s = 1 / sqrt(5.0 / 3 + 1e-8);
  for (int i = 0; i < 4; i++) assert_near(x[i], (i - 1.5) * s, 1e-7);
  reward_whiten(y, 4); /* scaled about its mean, which stays */
  for (int i = 0; i < 4; i++) assert_near(y[i], (i - 1.5) * s + 2.5, 1e-6);
  /* A large mean must not cost the deviations. */
  float far[3] = {100000, 100001, 100002};
  advantage_whiten(far, 3, true);
  assert_near(far[0], -1, 1e-6);
  assert_near(far[2], 1, 1e-6);
  /* Equal values give 0, not infinity; a single token, too. */
  float same[3] = {7, 7, 7};
  advantage_whiten(same, 3, true);
  assert_true(same[0] == 0 && same[2] == 0);
  float one[1] = {3};
  advantage_whiten(one, 1, true);
  assert_true(one[0] == 0);
  one[0] = 3;
  advantage_whiten(one, 1, false);
  assert_true(one[0] == 3);
  advantage_whiten(one, 0, true);
}

static void deviation(void **state) {
  (void)state;
  const float x[4] = {1, 2, 3, 4}, far[3] = {100000, 100001, 100002};
  assert_near(standard_deviation(x, 4), sqrt(5.0 / 3), 1e-12);
  assert_near(standard_deviation(far, 3), 1, 1e-9);
  assert_true(standard_deviation(x, 1) == 0 && standard_deviation(x, 0) == 0);
}

static void variance_explained(void **state) {
  (void)state;
  const float returns[4] = {1, 2, 3, 4}, exact[4] = {1, 2, 3, 4}, shifted[4] = {0, 1, 2, 3},
              constant[4] = {9, 9, 9, 9}, half[4] = {1, 1.5F, 2, 2.5F}, flat[2] = {1, 1};
  assert_near(explained_variance(exact, returns, 4), 1, 1e-12);
  assert_near(explained_variance(shifted, returns, 4), 1, 1e-12);
  assert_near(explained_variance(constant, returns, 4), 0, 1e-12);
  assert_near(explained_variance(half, returns, 4), 0.75, 1e-12);
  assert_true(isnan(explained_variance(exact, flat, 2)));
}

/* Yu et al. 2025, eq. 13, of 10 tokens at most and a margin of 4. */
static void overlong(void **state) {
  (void)state;
  static const double expected[11] = {0, 0, 0, 0, 0, 0, 0, -0.25, -0.5, -0.75, -1};
  for (int length = 0; length <= 10; length++) {
    assert_near(reward_overlong(length, 10, 4, 1), expected[length], 1e-12);
    assert_near(reward_overlong(length, 10, 4, 0.5), 0.5 * expected[length], 1e-12);
    assert_true(reward_overlong(length, 10, 0, 1) == 0);
  }
  assert_near(reward_overlong(3, 10, 10, 1), -0.3, 1e-12);
}

/* In parts, the moments of the whole; what is not finite is left alone. */
static void against_a_reference(void **state) {
  (void)state;
  /* The logistic function, from tables. */
  assert_near(reward_against(0.5, 0.5), 0.5, 1e-15);
  assert_near(reward_against(2, 1), 0.731058578630005, 1e-14);
  assert_near(reward_against(-1, 1), 0.119202922022118, 1e-14);
  assert_near(reward_against(3, -2) + reward_against(-2, 3), 1, 1e-15);
  assert_true(reward_against(800, -800) == 1 && reward_against(-800, 800) == 0);
  assert_true(isnan(reward_against(NAN, 0)));
}

static void running_scores(void **state) {
  (void)state;
  enum { N = 23 };
  float score[N + 2];
  double mean = 0, squares = 0;
  for (int i = 0; i < N; i++) mean += (score[i] = 100 + 3 * sinf(2.1F * (float)i)) / (double)N;
  for (int i = 0; i < N; i++) squares += (score[i] - mean) * (score[i] - mean);
  score[N] = NAN;
  score[N + 1] = INFINITY;
  const double deviation = sqrt(squares / (N - 1));
  static const int cuts[6] = {0, 1, 2, 9, 9, N + 2};
  RunningScore running = {0};
  for (int i = 0; i < 5; i++) running_score_add(&running, score + cuts[i], cuts[i + 1] - cuts[i]);
  assert_true(running.count == N);
  assert_near(running.mean, mean, 1e-9);
  for (int i = 0; i < N; i++)
    assert_near(running_score_normalize(&running, score[i]), (score[i] - mean) / deviation, 1e-6);
  RunningScore same = {0};
  running_score_add(&same, (const float[]){5, 5}, 2);
  assert_true(running_score_normalize(&same, 5) == 0 && running_score_normalize(&same, 7) == 2);
}

/* Yue et al. 2025, section 4.2: alpha 0.5, so that an answer of 1 or 2 tokens has lambda 0 and one of 4 has 0.5. */
static void lambda_by_length(void **state) {
  (void)state;
  static const int32_t offsets[4] = {0, 1, 3, 7};
  static const double lambda[3] = {0, 0, 0.5};
  float reward[7], value[7], advantage[7], expected[7];
  for (int t = 0; t < 7; t++) {
    reward[t] = cosf(1.1F * (float)t);
    value[t] = sinf(0.7F * (float)t);
  }
  advantage_gae_by_length(reward, value, offsets, 3, 0.9, 0.5, advantage);
  for (int b = 0; b < 3; b++) {
    advantage_gae(reward, value, offsets + b, 1, 0.9, lambda[b], expected, NULL);
    for (int32_t t = offsets[b]; t < offsets[b + 1]; t++) assert_near(advantage[t], expected[t], 1e-7);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(missing_eos),
                                     cmocka_unit_test(token_rewards),
                                     cmocka_unit_test(gae),
                                     cmocka_unit_test(gae_limits),
                                     cmocka_unit_test(whitening),
                                     cmocka_unit_test(deviation),
                                     cmocka_unit_test(variance_explained),
                                     cmocka_unit_test(overlong),
                                     cmocka_unit_test(running_scores),
                                     cmocka_unit_test(against_a_reference),
                                     cmocka_unit_test(lambda_by_length)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
