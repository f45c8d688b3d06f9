/* KL estimators, their mean, and the adaptive coefficient, against values computed by hand. */
#include "ppo/kl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static void estimators(void **state) {
  (void)state;
  /* l = log reference - log policy = -0.5 */
  assert_near(kl_estimate(KL_K1, -1.0, -1.5), 0.5, 1e-15);
  assert_near(kl_estimate(KL_K2, -1.0, -1.5), 0.125, 1e-15);
  assert_near(kl_estimate(KL_K3, -1.0, -1.5), 0.10653065971263342, 1e-15); /* e^-0.5 - 0.5 */
  /* l = 0.5: k1 is negative, k3 never is */
  assert_near(kl_estimate(KL_K1, -1.5, -1.0), -0.5, 1e-15);
  assert_near(kl_estimate(KL_K3, -1.5, -1.0), 0.14872127070012815, 1e-15); /* e^0.5 - 1.5 */
  for (int k = KL_K1; k <= KL_K3; k++) assert_true(kl_estimate((KlEstimator)k, -2.25, -2.25) == 0);
  /* Near equality k3 is l^2/2 to first order, and must not drown in rounding. */
  assert_near(kl_estimate(KL_K3, -1.0, -1.0 - 1e-6) / 0.5e-12, 1.0, 1e-5);
}

/* The estimators agree with KL(p || q) = sum p log(p/q) in expectation: k1 and k3 exactly. */
static void expectations(void **state) {
  (void)state;
  const double p[4] = {0.5, 0.25, 0.15, 0.10}, q[4] = {0.4, 0.3, 0.1, 0.2};
  double exact = 0, k1 = 0, k3 = 0;
  for (int i = 0; i < 4; i++) {
    exact += p[i] * log(p[i] / q[i]);
    k1 += p[i] * kl_estimate(KL_K1, log(p[i]), log(q[i]));
    k3 += p[i] * kl_estimate(KL_K3, log(p[i]), log(q[i]));
  }
  assert_near(k1, exact, 1e-14);
  assert_near(k3, exact, 1e-14);
}

/* k3 of a token that the reference finds e^90 times likelier: a number, and counted. */
static void bounded(void **state) {
  (void)state;
  const float logprob[3] = {-100, -1, -1}, reference[3] = {-10, -100, -1.5F};
  float kl[3];
  assert_true(kl_tokens(KL_K3, logprob, reference, 3, kl) == 2);
  assert_near(kl[0], expm1(20) - 90, 100); /* a float of 5e8 */
  assert_near(kl[1], -1 + 99, 1e-5);
  assert_near(kl[2], 0.10653066, 1e-7);
  assert_true(kl_tokens(KL_K1, logprob, reference, 3, kl) == 0 && kl[0] == -90);
  assert_true(isnan(kl_estimate(KL_K3, NAN, -1)) && isnan(kl_log_ratio_held(NAN)));
}

static void mean_of_sums(void **state) {
  (void)state;
  const float logprob[5] = {-1.0F, -2.0F, -0.5F, -0.25F, -4.0F};
  const float reference[5] = {-1.5F, -1.0F, -0.5F, -0.75F, -4.25F};
  const int32_t offsets[3] = {0, 2, 5};
  float kl[5];
  kl_tokens(KL_K1, logprob, reference, 5, kl);
  const float expected[5] = {0.5F, -1.0F, 0.0F, 0.5F, 0.25F};
  for (int t = 0; t < 5; t++) assert_true(kl[t] == expected[t]);
  assert_near(kl_mean(kl, offsets, 2), 0.125, 1e-15); /* (-0.5 + 0.75) / 2 */
  assert_true(kl_mean(kl, offsets, 0) == 0);
  kl_tokens(KL_K2, logprob, reference, 5, kl);
  assert_true(kl[1] == 0.5F && kl[4] == 0.03125F);
}

static void controller(void **state) {
  (void)state;
  KlController control = {.coef = 0.2, .adaptive = true, .target = 6, .horizon = 10000};
  kl_controller_update(&control, 12, 512); /* error 1, limited to 0.2 */
  assert_near(control.coef, 0.2 * (1 + 0.2 * 0.0512), 1e-15);
  control.coef = 0.2;
  kl_controller_update(&control, 6.6, 512); /* error 0.1 */
  assert_near(control.coef, 0.2 * (1 + 0.1 * 0.0512), 1e-15);
  control.coef = 0.2;
  kl_controller_update(&control, -3, 512); /* error -1.5, limited to -0.2 */
  assert_near(control.coef, 0.2 * (1 - 0.2 * 0.0512), 1e-15);
  control.coef = 0.2;
  kl_controller_update(&control, NAN, 512); /* of a rollout that is left out */
  kl_controller_update(&control, INFINITY, 512);
  assert_true(control.coef == 0.2);
  control.adaptive = false;
  control.coef = 0.05;
  kl_controller_update(&control, 100, 512);
  assert_true(control.coef == 0.05);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(estimators), cmocka_unit_test(expectations),
                                     cmocka_unit_test(bounded), cmocka_unit_test(mean_of_sums),
                                     cmocka_unit_test(controller)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
