/* The losses of the dpo stage: several answers are the mean of their pairs, slopes are those of finite differences, and
 * nothing overflows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "dpo/loss.h"

#include <math.h>

enum { ANSWERS = 5 };

static const DpoAnswer field[ANSWERS] = {
    {-3.5, -4.0, 4, 0}, {-6.0, -5.5, 3, 1}, {-1.25, -2.0, 1, 1}, {-9.0, -6.75, 6, 2}, {-0.5, -0.75, 2, 3}};

static DpoTerms terms_of(int loss) {
  return (DpoTerms){.loss = loss, .beta = 0.4, .label_smoothing = 0.1, .gamma = 0.3, .sft_coef = 0.2};
}

static double loss_of(const DpoTerms *terms, const DpoAnswer *answers, int64_t count, double n) {
  DpoSums sums = {0};
  dpo_loss(terms, answers, count, n, &sums, NULL);
  return sums.loss;
}

static void close_to(double a, double b, double tolerance) {
  if (!(fabs(a - b) <= tolerance)) fail_msg("%.12g, expected %.12g", a, b);
}

static void test_pairs(void **state) {
  (void)state;
  for (int loss = DPO_SIGMOID; loss <= DPO_SIMPO; loss++) {
    const DpoTerms terms = terms_of(loss);
    double sum = 0, pairs = 0;
    for (int i = 0; i < ANSWERS; i++) {
      for (int j = i + 1; j < ANSWERS; j++) {
        if (field[i].rank == field[j].rank) continue;
        sum += loss_of(&terms, (DpoAnswer[]){field[i], field[j]}, 2, 1);
        pairs++;
      }
    }
    DpoSums sums = {0};
    dpo_loss(&terms, field, ANSWERS, 3, &sums, NULL);
    close_to(sums.chosen, 9, 0);
    close_to(sums.rejected, 9, 0);
    close_to(sums.loss, sum / pairs / 3, 1e-12);
  }
}

static void test_slopes(void **state) {
  (void)state;
  const double step = 1e-5;
  for (int loss = DPO_SIGMOID; loss <= DPO_SIMPO; loss++) {
    const DpoTerms terms = terms_of(loss);
    double slopes[ANSWERS];
    DpoSums sums = {0};
    dpo_loss(&terms, field, ANSWERS, 2, &sums, slopes);
    for (int i = 0; i < ANSWERS; i++) {
      DpoAnswer up[ANSWERS], down[ANSWERS];
      for (int k = 0; k < ANSWERS; k++) up[k] = down[k] = field[k];
      up[i].logprob += step;
      down[i].logprob -= step;
      close_to(slopes[i], (loss_of(&terms, up, ANSWERS, 2) - loss_of(&terms, down, ANSWERS, 2)) / (2 * step),
               1e-8);
    }
  }
}

/* Answers that are certain, and ones that are hardly possible. */
static void test_extremes(void **state) {
  (void)state;
  const DpoAnswer far[] = {{-1e5, 0, 10, 0}, {0, -1e5, 10, 1}};
  for (int loss = DPO_SIGMOID; loss <= DPO_SIMPO; loss++) {
    const DpoTerms terms = terms_of(loss);
    double slopes[2];
    DpoSums sums = {0};
    dpo_loss(&terms, far, 2, 1, &sums, slopes);
    assert_true(isfinite(sums.loss) && isfinite(slopes[0]) && isfinite(slopes[1]));
    const bool bounded = loss == DPO_APO_ZERO || loss == DPO_APO_DOWN; /* and so flat far out */
    assert_true(slopes[0] < 0 && (bounded ? slopes[1] == 0 : slopes[1] > 0));
  }
  /* Equal rewards count half. */
  const DpoAnswer equal[] = {{-2, -2, 3, 0}, {-4, -4, 3, 1}};
  const DpoTerms terms = terms_of(DPO_SIGMOID);
  DpoSums sums = {0};
  dpo_loss(&terms, equal, 2, 1, &sums, NULL);
  close_to(sums.correct, 1, 0);
  /* A pair that is far enough apart costs the hinge nothing. */
  const DpoAnswer apart[] = {{-1, -4, 3, 0}, {-4, -4, 3, 1}};
  const DpoTerms hinge = {.loss = DPO_HINGE, .beta = 0.4};
  double slopes[2];
  close_to(loss_of(&hinge, apart, 2, 1), 0, 0);
  dpo_loss(&hinge, apart, 2, 1, &sums, slopes);
  assert_true(slopes[0] == 0 && slopes[1] == 0);
  /* Without a token nothing is divided by 0. */
  const DpoAnswer empty[] = {{0, 0, 0, 0}, {-1, -1, 1, 1}};
  assert_true(isfinite(loss_of(&(DpoTerms){.loss = DPO_IPO, .beta = 0.1}, empty, 2, 1)));
}

static double single_of(const DpoTerms *terms, const DpoAnswer *answer, double kl) {
  DpoSums sums = {0};
  dpo_loss_single(terms, answer, kl, 2, &sums, NULL);
  return sums.loss;
}

/* Good and bad answers on both sides of z0, which has no gradient of its own. */
static void test_single(void **state) {
  (void)state;
  const double step = 1e-5, kl = 0.4;
  for (int loss = DPO_KTO; loss <= DPO_APO_ZERO_UNPAIRED; loss++) {
    DpoTerms terms = terms_of(loss);
    terms.desirable_weight = 1.5;
    terms.undesirable_weight = 0.5;
    DpoSums sums = {0};
    for (int i = 0; i < ANSWERS; i++) {
      DpoAnswer answer = field[i], up = answer, down = answer;
      double slope;
      dpo_loss_single(&terms, &answer, kl, 2, &sums, &slope);
      up.logprob += step;
      down.logprob -= step;
      close_to(slope, (single_of(&terms, &up, kl) - single_of(&terms, &down, kl)) / (2 * step), 1e-8);
      assert_true(answer.rank == 0 ? slope < 0 : slope > 0);
    }
    close_to(sums.chosen, 1, 0);
    close_to(sums.rejected, ANSWERS - 1, 0);
    /* p - q: 0.5 of the good one; -0.5, 0.75, -2.25, 0.25 of the bad ones */
    close_to(sums.correct, loss == DPO_KTO ? 4 : 3, 0);
    const DpoAnswer far[] = {{-1e5, 0, 10, 0}, {0, -1e5, 10, 1}};
    close_to(single_of(&terms, &far[0], kl), 1.5 / 2, 1e-12);
    close_to(single_of(&terms, &far[1], kl), 0.5 / 2, 1e-12);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pairs),
      cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_single),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
