/* The loss of some answers to a prompt against hand-computed values and finite differences, and what an evaluation says of
 * their order. */
#include "reward/agreement.h"
#include "reward/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const int32_t pair[] = {0, 1};

static void values(void **state) {
  (void)state;
  const float scores[3][2] = {{1, 0}, {0, 0}, {2, 5}};
  const double margin[3] = {0.5, 0, 0};
  const double want[3] = {log(1 + exp(-0.5)) + 0.01, log(2.0), log(1 + exp(3.0)) + 0.01 * 49};
  const double correct[3] = {1, 0.5, 0};
  for (int i = 0; i < 3; i++) {
    const PreferenceLoss got = preference_loss(scores[i], pair, 2, margin[i], 0.01, 3, NULL);
    assert_true(fabs(got.loss - want[i] / 3) < 1e-12);
    assert_true(got.pairs == 1);
    assert_true(got.correct == correct[i]);
    assert_true(got.margin == scores[i][0] - scores[i][1]);
  }
}

/* Every pair of different rank counts, once, and the prompt as much as one with two answers. */
static void rankings(void **state) {
  (void)state;
  const float scores[] = {2, 1, 1, -1};
  const int32_t ranks[] = {0, 1, 1, 2};
  const double want = 2 * log(1 + exp(-1.0)) + log(1 + exp(-3.0)) + 2 * log(1 + exp(-2.0));
  const double centre = 0.1 * (9 + 9 + 1 + 0 + 0);
  const PreferenceLoss got = preference_loss(scores, ranks, 4, 0, 0.1, 7, NULL);
  assert_true(fabs(got.loss - (want + centre) / (5 * 7)) < 1e-12);
  assert_true(got.pairs == 5 && got.correct == 5);
  assert_true(got.margin == 1 + 1 + 3 + 2 + 2);
  const float equal[] = {0.5f, 0.5f, 0.5f, 0.5f};
  const PreferenceLoss none = preference_loss(equal, ranks, 4, 0, 0, 1, NULL);
  assert_true(fabs(none.loss - log(2.0)) < 1e-12);
  assert_true(none.correct == 2.5);
}

/* Labels say on which side of 0 an answer belongs; what has none is left alone. */
static void safety(void **state) {
  (void)state;
  float scores[] = {0.5f, -2, 3}, slopes[] = {1, 1, 1};
  const int8_t safe[] = {1, 1, -1}, none[] = {0, 0, 0};
  const double want = log(1 + exp(-0.5)) + log(1 + exp(2.0)) + log(1 + exp(3.0));
  assert_true(fabs(safety_loss(scores, safe, 3, 4, slopes) - want / 4) < 1e-12);
  for (int i = 0; i < 3; i++) {
    const float h = 1.0f / 1024, kept = scores[i];
    scores[i] = kept + h;
    const double up = safety_loss(scores, safe, 3, 4, NULL);
    scores[i] = kept - h;
    const double down = safety_loss(scores, safe, 3, 4, NULL);
    scores[i] = kept;
    assert_true(fabs(slopes[i] - 1 - (up - down) / (2 * h)) < 1e-6);
  }
  assert_true(slopes[0] < 1 && slopes[2] > 1);
  assert_true(safety_loss(scores, none, 3, 4, NULL) == 0);
}

static void check_slopes(float *scores, const int32_t *ranks, int count, double margin) {
  float slopes[8];
  const float h = 1.0f / 1024;
  (void)preference_loss(scores, ranks, count, margin, 0.1, 5, slopes);
  for (int i = 0; i < count; i++) {
    const float kept = scores[i];
    scores[i] = kept + h;
    const double up = preference_loss(scores, ranks, count, margin, 0.1, 5, NULL).loss;
    scores[i] = kept - h;
    const double down = preference_loss(scores, ranks, count, margin, 0.1, 5, NULL).loss;
    scores[i] = kept;
    assert_true(fabs(slopes[i] - (up - down) / (2 * h)) < 1e-6);
  }
}

static void gradients(void **state) {
  (void)state;
  float two[] = {0.7f, 0.2f}, others[] = {-1.5f, 0.5f}, many[] = {0.7f, 1.2f, -0.5f, 0.1f, 0.3f};
  const int32_t ranks[] = {0, 1, 1, 2, 3};
  check_slopes(two, pair, 2, 0.25);
  check_slopes(others, pair, 2, 0);
  check_slopes(many, ranks, 5, 0);
}

/* Far from zero the loss neither overflows nor loses its gradient. */
static void extremes(void **state) {
  (void)state;
  const float wrong[2] = {-1000, 1000}, right[2] = {1000, -1000};
  float slopes[2];
  assert_true(preference_loss(wrong, pair, 2, 0, 0, 1, slopes).loss == 2000);
  assert_true(slopes[0] == -1 && slopes[1] == 1);
  assert_true(preference_loss(right, pair, 2, 0, 0, 1, slopes).loss == 0);
  assert_true(slopes[0] == 0 && slopes[1] == 0);
}

/* -- what an evaluation says ------------------------------------------------------------------------------ */

/* Values of scipy.stats.kendalltau (tau-b), and the case that it calls NaN. */
static void taus(void **state) {
  (void)state;
  static const struct {
    float scores[7];
    int32_t ranks[7];
    int count;
    double tau;
  } cases[] = {
      {{2, 1}, {0, 1}, 2, 1},
      {{1, 2}, {0, 1}, 2, -1},
      {{1, 1}, {0, 1}, 2, 0}, /* scipy: nan */
      {{4, 3, 2, 1}, {0, 1, 2, 3}, 4, 1},
      {{4, 2, 3, 1}, {0, 1, 2, 3}, 4, 0.6666666666666667},
      {{4, 3, 3, 1}, {0, 1, 2, 3}, 4, 0.9128709291752769},
      {{0.5f, 2, -1, 0.5f, 3, -2, 0}, {0, 0, 1, 2, 2, 3, 4}, 7, 0.30779350562554625},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_true(fabs(kendall_tau(cases[i].scores, cases[i].ranks, cases[i].count) - cases[i].tau) < 1e-12);
  }
}

static void quarters(void **state) {
  (void)state;
  Quarter out[QUARTERS];
  JudgedPair apart[] = {{8, 1}, {1, 0}, {2, 0}, {7, 1}, {3, 1}, {4, 0.5f}, {6, 1}, {5, 0}};
  assert_true(accuracy_by_quarter(apart, 8, out));
  const double accuracy[] = {0, 0.75, 0.5, 1};
  for (int q = 0; q < QUARTERS; q++) {
    assert_int_equal(out[q].pairs, 2);
    assert_true(out[q].accuracy == accuracy[q]);
    assert_true(out[q].least == (float)(2 * q + 1) && out[q].most == (float)(2 * q + 2));
  }
  JudgedPair ties[] = {
      {1, 1}, {2, 1}, {1, 0}, {1, 1}, {2, 1}}; /* the middles are at 0.3 and 0.8 of the way */
  assert_true(accuracy_by_quarter(ties, 5, out));
  assert_int_equal(out[0].pairs, 0);
  assert_int_equal(out[1].pairs, 3);
  assert_true(fabs(out[1].accuracy - 2.0 / 3) < 1e-12);
  assert_int_equal(out[2].pairs, 0);
  assert_int_equal(out[3].pairs, 2);
  JudgedPair same[] = {{1, 1}, {1, 0}};
  assert_false(accuracy_by_quarter(same, 2, out));
  assert_false(accuracy_by_quarter(same, 0, out));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),    cmocka_unit_test(safety),   cmocka_unit_test(rankings),
      cmocka_unit_test(gradients), cmocka_unit_test(extremes), cmocka_unit_test(taus),
      cmocka_unit_test(quarters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
