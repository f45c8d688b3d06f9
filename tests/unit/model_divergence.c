/* Log-probabilities of logits and the KL of two distributions, against values computed by hand. */
#include "model/divergence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static void normalized(void **state) {
  (void)state;
  /* At temperature 2 they are 1, 2, 3 and nothing: e^x / (e + e^2 + e^3). */
  float logits[] = {2, 4, -INFINITY, 6};
  logits_normalize(logits, 4, 2);
  assert_near(logits[0], -2.4076059644443806, 1e-6);
  assert_near(logits[1], -1.4076059644443806, 1e-6);
  assert_near(logits[3], -0.4076059644443806, 1e-6);
  assert_true(logits[2] == -INFINITY);
  /* What would overflow without the largest taken off. */
  float large[] = {3e4F, 3e4F};
  logits_normalize(large, 2, 0.5F);
  assert_near(large[0], -log(2), 1e-6);
}

static void diverging(void **state) {
  (void)state;
  const float p[] = {logf(0.5F), logf(0.25F), logf(0.25F)}, q[] = {logf(0.25F), logf(0.25F), logf(0.5F)};
  assert_near(divergence(p, q, 3), 0.25 * log(2), 1e-7);
  const float r[] = {logf(0.125F), logf(0.375F), logf(0.5F)};
  assert_near(divergence(p, r, 3), 0.5 * log(4) + 0.25 * log(2.0 / 3) + 0.25 * log(0.5), 1e-7);
  assert_near(divergence(r, p, 3), 0.125 * log(0.25) + 0.375 * log(1.5) + 0.5 * log(2), 1e-7);
  assert_true(divergence(p, p, 3) == 0);
  /* Two that are nearly the same: x^2 / 2 of each, which must not drown in rounding. */
  const float near[] = {p[0] + 0x1p-20F, p[1] - 0x1p-20F, p[2] - 0x1p-20F};
  assert_near(divergence(p, near, 3) / 0x1p-41, 1, 1e-5);
}

/* A token that cannot come is no difference where it cannot come in either; where only one rules it out, it is. */
static void impossible(void **state) {
  (void)state;
  const float half = logf(0.5F), p[] = {half, half, -INFINITY}, q[] = {logf(0.25F), logf(0.25F), half};
  assert_true(divergence(p, p, 3) == 0);
  assert_near(divergence(p, q, 3), log(2), 1e-6);
  assert_true(divergence(q, p, 3) == INFINITY);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(normalized), cmocka_unit_test(diverging),
                                     cmocka_unit_test(impossible)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
