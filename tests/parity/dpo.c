/* The losses of the dpo stage on fixed log-probabilities, their gradients and figures, against TRL
 * (tests/fixtures/make_dpo.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "dpo/loss.h"
#include "dpo/pairs.h"
#include "tests/support/fixture.h"

static const double TOLERANCE = 2e-6; /* values are of size 1 and stored in fp32 */

enum { MOST = 16 };

typedef struct Side {
  const float *tokens, *reference;
  const int32_t *offsets;
} Side;

static DpoAnswer answer_of(const Side *side, int64_t i, int32_t rank) {
  const int64_t tokens = side->offsets[i + 1] - side->offsets[i];
  return (DpoAnswer){.logprob = logprob_sum(side->tokens + side->offsets[i], tokens),
                     .reference = (double)side->reference[i],
                     .tokens = tokens,
                     .rank = rank};
}

static const float *array(Fixture *f, const char *case_name, const char *name) {
  char key[64];
  snprintf(key, sizeof key, "%s.%s", case_name, name);
  return fixture_has(f, key) ? fixture_floats(f, key, NULL) : NULL;
}

/* Those that the fixture has. */
static void check_figures(Fixture *f, const char *name, const DpoSums *sums) {
  const double chosen = sums->chosen, rejected = sums->rejected;
  const struct {
    const char *key;
    double value;
  } figures[] = {{"accuracy", sums->correct / (chosen + rejected)},
                 {"margin", sums->reward_chosen / chosen - sums->reward_rejected / rejected},
                 {"reward_chosen", sums->reward_chosen / chosen},
                 {"reward_rejected", sums->reward_rejected / rejected},
                 {"logprob_chosen", sums->logprob_chosen / chosen},
                 {"logprob_rejected", sums->logprob_rejected / rejected}};
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
    const float *want = array(f, name, figures[i].key);
    if (want) assert_number(figures[i].key, figures[i].value, (double)*want, TOLERANCE);
  }
}

/* With the settings of the fixture that `terms` has not set to 0. */
static void check(const char *name, DpoLossKind loss, bool smoothing, bool sft) {
  Fixture f;
  fixture_open(&f, "rl/dpo");
  int64_t pairs;
  const Side chosen = {fixture_floats(&f, "chosen", NULL), fixture_floats(&f, "ref_chosen", &pairs),
                       fixture_ints(&f, "chosen_offsets", NULL)};
  const Side rejected = {fixture_floats(&f, "rejected", NULL), fixture_floats(&f, "ref_rejected", NULL),
                         fixture_ints(&f, "rejected_offsets", NULL)};
  const DpoTerms terms = {.loss = loss,
                          .beta = (double)fixture_float(&f, "beta"),
                          .label_smoothing = smoothing ? (double)fixture_float(&f, "label_smoothing") : 0,
                          .gamma = (double)fixture_float(&f, "gamma"),
                          .sft_coef = sft ? (double)fixture_float(&f, "sft_coef") : 0};
  DpoSums sums = {0};
  float dchosen[MOST], drejected[MOST];
  assert_in_range((uintmax_t)pairs, 1, MOST);
  for (int64_t i = 0; i < pairs; i++) {
    const DpoAnswer answers[] = {answer_of(&chosen, i, 0), answer_of(&rejected, i, 1)};
    double slopes[2];
    dpo_loss(&terms, answers, 2, (double)pairs, &sums, slopes);
    dchosen[i] = (float)slopes[0];
    drejected[i] = (float)slopes[1];
  }
  assert_number("loss", sums.loss, (double)*array(&f, name, "loss"), TOLERANCE);
  assert_relative("gradient, chosen", dchosen, array(&f, name, "dchosen"), pairs, 1e-6);
  assert_relative("gradient, rejected", drejected, array(&f, name, "drejected"), pairs, 1e-6);
  if (array(&f, name, "accuracy")) check_figures(&f, name, &sums);
  fixture_close(&f);
}

/* All answers of the fixture as single ones. */
static void check_single(const char *name, DpoLossKind loss) {
  Fixture f;
  fixture_open(&f, "rl/dpo");
  int64_t count, half;
  const int32_t *labels = fixture_ints(&f, "label", &count);
  const float *weights = fixture_floats(&f, "weights", NULL);
  const Side sides[] = {{fixture_floats(&f, "chosen", NULL), fixture_floats(&f, "ref_chosen", &half),
                         fixture_ints(&f, "chosen_offsets", NULL)},
                        {fixture_floats(&f, "rejected", NULL), fixture_floats(&f, "ref_rejected", NULL),
                         fixture_ints(&f, "rejected_offsets", NULL)}};
  const DpoTerms terms = {.loss = loss,
                          .beta = (double)fixture_float(&f, "beta"),
                          .desirable_weight = (double)weights[0],
                          .undesirable_weight = (double)weights[1]};
  const double kl = (double)*array(&f, name, "kl");
  DpoSums sums = {0};
  float slopes[MOST];
  assert_in_range((uintmax_t)count, 1, MOST);
  for (int64_t i = 0; i < count; i++) {
    const DpoAnswer answer = answer_of(&sides[i / half], i % half, labels[i] ? 0 : 1);
    double slope;
    dpo_loss_single(&terms, &answer, kl, (double)count, &sums, &slope);
    slopes[i] = (float)slope;
  }
  assert_number("loss", sums.loss, (double)*array(&f, name, "loss"), TOLERANCE);
  assert_relative("gradient", slopes, array(&f, name, "dlogprob"), count, 1e-6);
  assert_non_null(array(&f, name, "margin"));
  check_figures(&f, name, &sums);
  fixture_close(&f);
}

static void test_single(void **state) {
  (void)state;
  check_single("kto", DPO_KTO);
  check_single("apo_zero_unpaired", DPO_APO_ZERO_UNPAIRED);
}

static void test_sigmoid(void **state) {
  (void)state;
  check("sigmoid", DPO_SIGMOID, false, false);
}

static void test_smoothed(void **state) {
  (void)state;
  check("smoothed", DPO_SIGMOID, true, false);
}

static void test_sft(void **state) {
  (void)state;
  check("sft", DPO_SIGMOID, false, true);
}

static void test_ipo(void **state) {
  (void)state;
  check("ipo", DPO_IPO, false, false);
}

static void test_sigmoid_norm(void **state) {
  (void)state;
  check("sigmoid_norm", DPO_SIGMOID_NORM, false, false);
}

static void test_robust(void **state) {
  (void)state;
  check("robust", DPO_ROBUST, true, false);
}

static void test_hinge(void **state) {
  (void)state;
  check("hinge", DPO_HINGE, false, false);
}

static void test_apo(void **state) {
  (void)state;
  check("apo_zero", DPO_APO_ZERO, false, false);
  check("apo_down", DPO_APO_DOWN, false, false);
}

static void test_orpo(void **state) {
  (void)state;
  check("orpo", DPO_ORPO, false, false);
}

static void test_simpo(void **state) {
  (void)state;
  check("simpo", DPO_SIMPO, true, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sigmoid),      cmocka_unit_test(test_smoothed), cmocka_unit_test(test_sft),
      cmocka_unit_test(test_ipo),          cmocka_unit_test(test_orpo),     cmocka_unit_test(test_simpo),
      cmocka_unit_test(test_sigmoid_norm), cmocka_unit_test(test_robust),   cmocka_unit_test(test_hinge),
      cmocka_unit_test(test_apo),          cmocka_unit_test(test_single),
  };
  return cmocka_run_group_tests_name("parity/dpo", tests, NULL, NULL);
}
