/* The pairwise loss against hand-computed values and finite differences. */
#include "reward/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void values(void **state) {
  (void)state;
  const float chosen[3] = {1, 0, 2}, rejected[3] = {0, 0, 5}, margin[3] = {0.5f, 0, 0};
  const PairLoss got = pair_loss(chosen, rejected, margin, 3, 0.01, 3, NULL, NULL);
  const double want = (log(1 + exp(-0.5)) + 0.01 + log(2.0) + log(1 + exp(3.0)) + 0.01 * 49) / 3;
  assert_true(fabs(got.loss - want) < 1e-12);
  assert_true(got.correct == 1.5);
  assert_true(got.margin == -2);
}

static void gradients(void **state) {
  (void)state;
  const float margin[2] = {0.25f, 0};
  float chosen[2] = {0.7f, -1.5f}, rejected[2] = {0.2f, 0.5f}, dc[2], dr[2];
  (void)pair_loss(chosen, rejected, margin, 2, 0.1, 5, dc, dr);
  for (int i = 0; i < 4; i++) {
    float *x = i < 2 ? &chosen[i] : &rejected[i - 2];
    const float kept = *x, h = 1.0f / 1024;
    *x = kept + h;
    const double up = pair_loss(chosen, rejected, margin, 2, 0.1, 5, NULL, NULL).loss;
    *x = kept - h;
    const double down = pair_loss(chosen, rejected, margin, 2, 0.1, 5, NULL, NULL).loss;
    *x = kept;
    const double want = (up - down) / (2 * h), got = i < 2 ? dc[i] : dr[i - 2];
    assert_true(fabs(got - want) < 1e-6);
  }
}

/* Far from zero the loss neither overflows nor loses its gradient. */
static void extremes(void **state) {
  (void)state;
  const float chosen[2] = {-1000, 1000}, rejected[2] = {1000, -1000};
  float dc[2], dr[2];
  const PairLoss got = pair_loss(chosen, rejected, NULL, 2, 0, 1, dc, dr);
  assert_true(got.loss == 2000);
  assert_true(dc[0] == -1 && dr[0] == 1 && dc[1] == 0 && dr[1] == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),
      cmocka_unit_test(gradients),
      cmocka_unit_test(extremes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
