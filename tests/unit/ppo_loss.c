/* The clipped losses: values by hand, gradients by finite differences, and sums that do not depend on the cut
 * into micro-batches. */
#include "ppo/loss.h"

#include "base/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

/* PPO as Schulman has it. */
static void plain_loss(const float *logprob, const float *old, const float *advantage, int64_t tokens,
                       double clip, double weight, float *dlogprob, PolicyStats *stats) {
  policy_loss(&(PolicyRule){.clip_low = clip, .clip_high = clip},
              &(PolicyTokens){.count = tokens, .logprob = logprob, .old = old, .advantage = advantage},
              weight, dlogprob, stats);
}

static void policy_by_hand(void **state) {
  (void)state;
  const float l = logf(1.5F), h = logf(0.5F);
  /*                      up, A>0   up, A<0   down, A>0  down, A<0   inside */
  const float logprob[5] = {-1 + l, -1 + l, -1 + h, -1 + h, -1};
  const float old[5] = {-1, -1, -1, -1, -1};
  const float advantage[5] = {2, -2, 2, -2, 3};
  const double loss[5] = {-2.4, 3, -1, 1.6, -3}; /* 1.5 is held at 1.2, 0.5 at 0.8, where that is worse */
  const double gradient[5] = {0, 3, -1, 0, -3};
  double total = 0;
  float d[5];
  for (int t = 0; t < 5; t++) {
    PolicyStats stats = {0};
    plain_loss(logprob + t, old + t, advantage + t, 1, 0.2, 0.5, d + t, &stats);
    assert_near(stats.loss, loss[t], 1e-6);
    assert_near(d[t], 0.5 * gradient[t], 1e-6);
    assert_true(stats.clipped == (gradient[t] == 0));
    total += loss[t];
  }
  PolicyStats stats = {0};
  plain_loss(logprob, old, advantage, 5, 0.2, 0.5, d, &stats);
  assert_near(stats.loss, total, 1e-5);
  assert_true(stats.tokens == 5 && stats.clipped == 2);
  assert_near(stats.ratio, 1.5 + 1.5 + 0.5 + 0.5 + 1, 1e-6);
  assert_near(stats.ratio_squared, 2 * 2.25 + 2 * 0.25 + 1, 1e-6);
  assert_near(stats.approx_kl, (double)l * l + (double)h * h, 1e-6);
  assert_near(stats.approx_kl3, 2 * (0.5 - log(1.5)) + 2 * (-0.5 - log(0.5)), 1e-6);
}

/* The first update: every ratio is 1, nothing is clipped, and the gradient is -A exactly. */
static void policy_first_update(void **state) {
  (void)state;
  const float logprob[3] = {-0.3F, -7.25F, -1e-6F}, advantage[3] = {1.5F, -0.25F, 0};
  float d[3];
  PolicyStats stats = {0};
  plain_loss(logprob, logprob, advantage, 3, 0.2, 1, d, &stats);
  assert_true(stats.ratio == 3 && stats.clipped == 0 && stats.approx_kl == 0 && stats.approx_kl3 == 0);
  for (int t = 0; t < 3; t++) assert_true(d[t] == -advantage[t]);
}

/* Beyond e^20 the ratio stays where it is, has no gradient and is counted; NaN stays NaN. */
static void bounded_ratio(void **state) {
  (void)state;
  const float logprob[5] = {-1, -1, -100, -1, NAN}, old[5] = {-22, -100, -1, -20, -1};
  const float advantage[5] = {-2, -2, 3, -2, 1};
  float d[5];
  PolicyStats stats = {0};
  plain_loss(logprob, old, advantage, 4, 0.2, 0.5, d, &stats);
  assert_near(stats.loss, 2 * exp(20) + 2 * exp(20) - 3 * exp(-20) + 2 * exp(19), 1e-3);
  assert_true(stats.bounded == 3 && stats.clipped == 0);
  for (int t = 0; t < 3; t++) assert_true(d[t] == 0);
  assert_near(d[3], exp(19), 20); /* within the bound nothing is held: a float of 2e8 */
  assert_near(stats.approx_kl, 0.5 * (21 * 21 + 99 * 99 + 99 * 99 + 19 * 19), 1e-6);
  assert_true(isfinite(stats.approx_kl3) && isfinite(stats.ratio_squared));
  plain_loss(logprob + 4, old + 4, advantage + 4, 1, 0.2, 0.5, d, &stats);
  assert_true(isnan(stats.loss));
}

/* Each of the limits, by hand: 1.5 and 0.5 of A = 2 and -2. */
static void limits_by_hand(void **state) {
  (void)state;
  const float l = logf(1.5F), h = logf(0.5F);
  const float logprob[4] = {-1 + l, -1 + l, -1 + h, -1 + h}, old[4] = {-1, -1, -1, -1};
  const float advantage[4] = {2, -2, 2, -2};
  static const struct {
    PolicyRule rule;
    double loss[4], slope[4];
  } table[] = {
      {{.clip_low = 0.2, .clip_high = 0.4}, {-2.8, 3, -1, 1.6}, {0, 3, -1, 0}},
      {{.clip_low = 0.7, .clip_high = 0.4}, {-2.8, 3, -1, 1}, {0, 3, -1, 1}},
      {{.clip_low = 0.2, .clip_high = 0.2, .dual_clip = 1.3}, {-2.4, 2.6, -1, 1.6}, {0, 0, -1, 0}},
      {{.clip_low = 0.2, .clip_high = 0.2, .dual_clip = 3}, {-2.4, 3, -1, 1.6}, {0, 3, -1, 0}},
  };
  for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
    for (int t = 0; t < 4; t++) {
      float d;
      PolicyStats stats = {0};
      policy_loss(&table[k].rule, &(PolicyTokens){1, logprob + t, old + t, advantage + t, NULL, NULL}, 0.5,
                  &d, &stats);
      assert_near(stats.loss, table[k].loss[t], 1e-6);
      assert_near(d, 0.5 * table[k].slope[t], 1e-6);
      assert_true(stats.clipped == (table[k].slope[t] == 0));
    }
  }
}

/* The sum of the losses of two answers of 3 and 2 tokens, with one ratio each, and k3. */
static double answers_value(const double logprob[5], const float old[5], const float advantage[5],
                            const float reference[5], double beta) {
  static const int first[3] = {0, 3, 5};
  double sum = 0;
  for (int i = 0; i < 2; i++) {
    const int n = first[i + 1] - first[i];
    double product = 1;
    for (int t = first[i]; t < first[i + 1]; t++) product *= exp(logprob[t] - old[t]);
    const double ratio = pow(product, 1.0 / n), held = fmin(fmax(ratio, 0.9), 1.3);
    for (int t = first[i]; t < first[i + 1]; t++) {
      const double m = reference[t] - logprob[t];
      sum += fmax(-advantage[t] * ratio, -advantage[t] * held) + beta * (exp(m) - 1 - m);
    }
  }
  return sum;
}

/* Gradients by differences, in place, and what the statistics are of. */
static void ratio_of_answers(void **state) {
  (void)state;
  const PolicyRule rule = {.clip_low = 0.1, .clip_high = 0.3, .kl_coef = 0.4, .ratio = RATIO_SEQUENCE};
  const int32_t length[5] = {3, 3, 3, 2, 2};
  const RandomKey key = random_key(3, RANDOM_TEST);
  const double step = 1e-5, weight = 0.25;
  int clipped = 0;
  for (uint64_t i = 0; i < 200; i++) {
    float logprob[5], old[5], reference[5], d[5];
    double x[5], apart = 0;
    float advantage[5];
    for (uint64_t t = 0; t < 5; t++) {
      x[t] = logprob[t] = random_normal(key, i, 4 * t);
      old[t] = logprob[t] + 0.3F * random_normal(key, i, 4 * t + 1);
      reference[t] = logprob[t] + 0.3F * random_normal(key, i, 4 * t + 2);
      advantage[t] = random_normal(key, i, t < 3 ? 3 : 19);
      apart += 0.5 * pow((double)logprob[t] - old[t], 2);
    }
    PolicyStats stats = {0};
    memcpy(d, logprob, sizeof d);
    policy_loss(&rule, &(PolicyTokens){5, d, old, advantage, reference, length}, weight, d, &stats);
    assert_near(stats.loss + rule.kl_coef * stats.kl,
                answers_value(x, old, advantage, reference, rule.kl_coef), 1e-9);
    assert_near(stats.approx_kl, apart, 1e-9); /* of the tokens, whatever the ratio is of */
    for (int t = 0; t < 5; t++) {
      double up[5], down[5];
      memcpy(up, x, sizeof x);
      memcpy(down, x, sizeof x);
      up[t] += step;
      down[t] -= step;
      const double expected = weight *
                              (answers_value(up, old, advantage, reference, rule.kl_coef) -
                               answers_value(down, old, advantage, reference, rule.kl_coef)) /
                              (2 * step);
      assert_near(d[t], expected, 1e-6 + 1e-5 * fabs(expected));
    }
    clipped += stats.clipped > 0;
  }
  assert_true(clipped > 20 && clipped < 180);
}

/* Beyond the bound k3 is a straight line. */
static void bounded_reference(void **state) {
  (void)state;
  const float logprob[2] = {-30, -1}, old[2] = {-30, -1}, reference[2] = {-1, -40}, advantage[2] = {0, 0};
  float d[2];
  PolicyStats stats = {0};
  policy_loss(&(PolicyRule){.clip_low = 0.2, .clip_high = 0.2, .kl_coef = 0.5},
              &(PolicyTokens){2, logprob, old, advantage, reference, NULL}, 1, d, &stats);
  assert_near(stats.kl, exp(20) - 1 - 29 + exp(-20) - 1 + 39, 1e-3);
  assert_true(d[0] == 0.5F && d[1] == 0.5F);
}

static double policy_value(double logprob, float old, float advantage, double clip) {
  const double ratio = exp(logprob - old), held = fmin(fmax(ratio, 1 - clip), 1 + clip);
  return fmax(-advantage * ratio, -advantage * held);
}

static double value_value(double value, float old, float returns, double clip) {
  const double held = fmin(fmax(value, old - clip), old + clip);
  return 0.5 * fmax((value - returns) * (value - returns), (held - returns) * (held - returns));
}

static void finite_differences(void **state) {
  (void)state;
  const RandomKey key = random_key(7, RANDOM_TEST);
  const double step = 1e-5, weight = 0.125;
  int policy_clipped = 0, value_clipped = 0, checked = 0;
  for (uint64_t i = 0; i < 2000; i++) {
    const float x = random_normal(key, i, 0), old = x + 0.3F * random_normal(key, i, 1),
                target = random_normal(key, i, 2);
    /* Kinks are excluded: a central difference across one means nothing. */
    const double ratio = exp((double)x - old), moved = fabs((double)x - old);
    if (fabs(ratio - 0.8) > 1e-3 && fabs(ratio - 1.2) > 1e-3) {
      float d;
      PolicyStats stats = {0};
      plain_loss(&x, &old, &target, 1, 0.2, weight, &d, &stats);
      const double expected =
          weight * (policy_value(x + step, old, target, 0.2) - policy_value(x - step, old, target, 0.2)) /
          (2 * step);
      assert_near(stats.loss, policy_value(x, old, target, 0.2), 1e-9);
      assert_near(d, expected, 1e-6 + 1e-5 * fabs(expected));
      policy_clipped += stats.clipped > 0;
      checked++;
    }
    const double held = fmin(fmax(x, (double)old - 0.2), (double)old + 0.2);
    if (fabs(moved - 0.2) > 1e-3 && (held == x || fabs(fabs(x - target) - fabs(held - target)) > 1e-3)) {
      float d;
      ValueStats stats = {0};
      value_loss(&x, &old, &target, 1, 0.2, weight, &d, &stats);
      const double expected =
          weight * (value_value(x + step, old, target, 0.2) - value_value(x - step, old, target, 0.2)) /
          (2 * step);
      assert_near(stats.loss, value_value(x, old, target, 0.2), 1e-9);
      assert_near(d, expected, 1e-6 + 1e-5 * fabs(expected));
      value_clipped += stats.clipped > 0;
      checked++;
    }
  }
  /* The table has both sides of every branch. */
  assert_true(checked > 3500 && policy_clipped > 200 && value_clipped > 200);
}

static void value_by_hand(void **state) {
  (void)state;
  /*                     inside, far above and away from R, far above but nearer to R than the clipped one */
  const float value[3] = {1.1F, 2, 2}, old[3] = {1, 1, 1}, returns[3] = {0, 0, 3};
  const double loss[3] = {0.605, 2, 1.62}, gradient[3] = {1.1, 2, 0};
  for (int t = 0; t < 3; t++) {
    float d;
    ValueStats stats = {0};
    value_loss(value + t, old + t, returns + t, 1, 0.2, 2, &d, &stats);
    assert_near(stats.loss, loss[t], 1e-6);
    assert_near(d, 2 * gradient[t], 1e-6);
    assert_true(stats.clipped == (t == 2) && stats.value == (double)value[t]);
  }
  float d;
  ValueStats stats = {0};
  value_loss(value + 2, old + 2, returns + 2, 1, 0, 1, &d, &stats); /* clip 0: the plain square */
  assert_true(stats.loss == 0.5 && d == -1 && stats.clipped == 0);
}

/* A minibatch in any number of micro-batches: the same gradients to the bit, the same sums. */
static void micro_batches(void **state) {
  (void)state;
  enum { N = 37 };
  const RandomKey key = random_key(11, RANDOM_TEST);
  float logprob[N], old[N], advantage[N], whole[N], parts[N];
  for (uint64_t t = 0; t < N; t++) {
    logprob[t] = random_normal(key, t, 0);
    old[t] = logprob[t] + 0.2F * random_normal(key, t, 1);
    advantage[t] = random_normal(key, t, 2);
  }
  PolicyStats one = {0}, many = {0};
  plain_loss(logprob, old, advantage, N, 0.2, 1.0 / N, whole, &one);
  const int cuts[5] = {0, 1, 9, 30, N};
  for (int i = 0; i < 4; i++) {
    const int at = cuts[i];
    plain_loss(logprob + at, old + at, advantage + at, cuts[i + 1] - at, 0.2, 1.0 / N, parts + at, &many);
  }
  for (int t = 0; t < N; t++) assert_true(whole[t] == parts[t]);
  assert_near(one.loss, many.loss, 1e-12);
  assert_true(one.tokens == many.tokens && one.clipped == many.clipped);
  /* In place. */
  plain_loss(logprob, old, advantage, N, 0.2, 1.0 / N, logprob, NULL);
  for (int t = 0; t < N; t++) assert_true(whole[t] == logprob[t]);
}

static void entropy(void **state) {
  (void)state;
  float d[2];
  entropy_bonus(2, 0.01, 0.5, d);
  assert_near(d[0], -0.005, 1e-9);
  assert_true(d[0] == d[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(policy_by_hand),   cmocka_unit_test(policy_first_update),
      cmocka_unit_test(value_by_hand),    cmocka_unit_test(finite_differences),
      cmocka_unit_test(micro_batches),    cmocka_unit_test(bounded_ratio),
      cmocka_unit_test(entropy),          cmocka_unit_test(limits_by_hand),
      cmocka_unit_test(ratio_of_answers), cmocka_unit_test(bounded_reference)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
