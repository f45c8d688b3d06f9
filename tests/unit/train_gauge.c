/* Means of windows, how far they are off by chance, and how often chance alone passes for something. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "train/gauge.h"

#include <math.h>

static void windows(void **state) {
  (void)state;
  Gauge g = {0};
  /* 1, 2, ... with one that is not a number between them */
  for (int n = 1; n <= 20; n++) {
    gauge_add(&g, n, n);
    if (n == 10) gauge_add(&g, n, NAN);
    assert_int_equal(gauge_is_ready(&g), n >= 16);
  }
  assert_true(g.first == 4.5 && g.bottom == 4.5 && g.bottom_step == 8);
  assert_true(gauge_mean(&g) == 16.5 && gauge_before(&g) == 8.5);
  assert_true(g.top == 16.5 && g.top_step == 20);
  assert_true(fabs(gauge_error(&g) - sqrt(1.0 / 8)) < 1e-15); /* all differences are 1 */
  assert_true(gauge_is_sure(&g, 6.01 * sqrt(1.0 / 8)) && !gauge_is_sure(&g, 5.99 * sqrt(1.0 / 8)));
  gauge_add(&g, 21, 1e9); /* one update is no course */
  assert_true(gauge_mean(&g) == 17.5);
  for (int n = 22; n <= 28; n++) gauge_add(&g, n, -1);
  assert_true(gauge_mean(&g) == -1 && g.bottom == -1 && g.bottom_step == 28 && g.top < 20);
}

/* The error is that of differences of means; a trend hardly enters it; and a figure that does nothing is rarely said to have fallen from
 * its top, which is the largest of many means. */
static void chance(void **state) {
  (void)state;
  enum { RUNS = 200, UPDATES = 1000 };
  int fallen = 0;
  double error = 0, trending = 0;
  for (uint64_t run = 0; run < RUNS; run++) {
    Gauge still = {0}, rising = {0};
    bool fell = false;
    for (int n = 1; n <= UPDATES; n++) {
      const double value = random_normal(random_key(7, RANDOM_TEST), run, (uint64_t)n);
      gauge_add(&still, n, value);
      gauge_add(&rising, n, value + 0.1 * n);
      fell |= gauge_is_ready(&still) && gauge_is_sure(&still, still.top - gauge_mean(&still));
    }
    fallen += fell;
    error += gauge_error(&still) / RUNS;
    trending += gauge_error(&rising) / RUNS;
  }
  assert_true(fabs(error - 0.5) < 0.005);    /* sqrt(2 / 8) */
  assert_true(fabs(trending - 0.5) < 0.007); /* sqrt((2 + 0.01) / 8) */
  print_message("%d of %d runs of %d updates\n", fallen, RUNS, UPDATES);
  assert_true(fallen <= RUNS / 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(windows), cmocka_unit_test(chance)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
