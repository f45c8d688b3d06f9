/* The multiplier of costs, against its formula restated here, and what is made of rewards and costs. */
#include "ppo/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static const CostRule rule = {
    .threshold = 0.5, .lambda = 0.5, .lr = 0.2, .most = 0.75, .delay = 1, .window = 2};

/* Dai et al. 2023, appendix B: ln lambda' = ln lambda + alpha lambda J, J the mean cost less the threshold. */
static void moves_by_what_is_lacking(void **state) {
  (void)state;
  CostController c = cost_controller(&rule);
  const float dear[] = {2, 1, 3, 2}, cheap[] = {0, 0.25F, -0.25F, 0};
  assert_near(c.lambda, 0.5, 1e-15);
  cost_controller_update(&c, dear, 4, 0, true);
  assert_near(c.lambda, 0.5, 1e-15); /* it waits for one update, and looks on meanwhile */
  double expected = log(0.5) + 0.2 * 0.5 * ((2 + 0) / 2.0 - 0.5);
  cost_controller_update(&c, cheap, 4, 1, true);
  assert_near(log(c.lambda), expected, 1e-14);
  cost_controller_update(&c, cheap, 4, 2, true); /* the first rollout has left the window */
  expected += 0.2 * exp(expected) * (0 - 0.5);
  assert_near(log(c.lambda), expected, 1e-14);
  cost_controller_update(&c, cheap, 4, 3, false);
  assert_near(log(c.lambda), expected, 1e-14);
  for (int u = 4; u < 40; u++) cost_controller_update(&c, dear, 4, u, true);
  assert_true(c.lambda == 0.75);
  for (int u = 40; u < 400; u++) cost_controller_update(&c, cheap, 4, u, true);
  assert_true(c.lambda > 0 && c.lambda < 0.05); /* never at 0 */
}

/* A cost that is not finite ends nothing but its own update. */
static void broken_costs(void **state) {
  (void)state;
  CostController c = cost_controller(&rule), same;
  const float some[] = {NAN, 1, INFINITY, 3}, none[] = {NAN, NAN};
  cost_controller_update(&c, some, 4, 1, true);
  assert_near(log(c.lambda), log(0.5) + 0.2 * 0.5 * (2 - 0.5), 1e-14);
  same = c;
  cost_controller_update(&c, none, 2, 2, true);
  assert_true(c.lambda == same.lambda && c.rollouts == same.rollouts);
}

static void combined(void **state) {
  (void)state;
  const float reward[] = {1, -2, 0.1F}, cost[] = {3, 0.5F, -7};
  float out[3];
  cost_combine(reward, cost, 3, 1.5, out);
  for (int i = 0; i < 3; i++) assert_near(out[i], (reward[i] - 1.5 * cost[i]) / 2.5, 1e-6);
  cost_combine(reward, (const float[]){0, 0, 0}, 3, 0, out); /* without costs: the reward to the bit */
  for (int i = 0; i < 3; i++) assert_true(out[i] == reward[i]);
  assert_near(cost_safe_share(cost, 3, 0.5), 2 / 3.0, 1e-15); /* at the threshold is safe */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(moves_by_what_is_lacking),
                                     cmocka_unit_test(broken_costs), cmocka_unit_test(combined)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
