/* The clipped losses: values by hand, gradients by finite differences, and sums that do not depend on the cut
 * into micro-batches. */
#include "ppo/loss.h"

#include "base/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

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
    policy_loss(logprob + t, old + t, advantage + t, 1, 0.2, 0.5, d + t, &stats);
    assert_near(stats.loss, loss[t], 1e-6);
    assert_near(d[t], 0.5 * gradient[t], 1e-6);
    assert_true(stats.clipped == (gradient[t] == 0));
    total += loss[t];
  }
  PolicyStats stats = {0};
  policy_loss(logprob, old, advantage, 5, 0.2, 0.5, d, &stats);
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
  policy_loss(logprob, logprob, advantage, 3, 0.2, 1, d, &stats);
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
  policy_loss(logprob, old, advantage, 4, 0.2, 0.5, d, &stats);
  assert_near(stats.loss, 2 * exp(20) + 2 * exp(20) - 3 * exp(-20) + 2 * exp(19), 1e-3);
  assert_true(stats.bounded == 3 && stats.clipped == 0);
  for (int t = 0; t < 3; t++) assert_true(d[t] == 0);
  assert_near(d[3], exp(19), 20); /* within the bound nothing is held: a float of 2e8 */
  assert_near(stats.approx_kl, 0.5 * (21 * 21 + 99 * 99 + 99 * 99 + 19 * 19), 1e-6);
  assert_true(isfinite(stats.approx_kl3) && isfinite(stats.ratio_squared));
  policy_loss(logprob + 4, old + 4, advantage + 4, 1, 0.2, 0.5, d, &stats);
  assert_true(isnan(stats.loss));
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
      policy_loss(&x, &old, &target, 1, 0.2, weight, &d, &stats);
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
  policy_loss(logprob, old, advantage, N, 0.2, 1.0 / N, whole, &one);
  const int cuts[5] = {0, 1, 9, 30, N};
  for (int i = 0; i < 4; i++) {
    const int at = cuts[i];
    policy_loss(logprob + at, old + at, advantage + at, cuts[i + 1] - at, 0.2, 1.0 / N, parts + at, &many);
  }
  for (int t = 0; t < N; t++) assert_true(whole[t] == parts[t]);
  assert_near(one.loss, many.loss, 1e-12);
  assert_true(one.tokens == many.tokens && one.clipped == many.clipped);
  /* In place. */
  policy_loss(logprob, old, advantage, N, 0.2, 1.0 / N, logprob, NULL);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(policy_by_hand), cmocka_unit_test(policy_first_update),
                                     cmocka_unit_test(value_by_hand),  cmocka_unit_test(finite_differences),
                                     cmocka_unit_test(micro_batches),  cmocka_unit_test(bounded_ratio),
                                     cmocka_unit_test(entropy)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
