/* What is said of a run that may not go where it is meant to: when, and once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ppo/reward.h"
#include "ppo/watch.h"

#include <math.h>
#include <string.h>

static char said[1024]; /* the warnings since it was emptied */

static void collect(void *context, LogLevel level, const char *text) {
  (void)context;
  assert_int_equal(level, LOG_WARNING);
  snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

/* What is said after an update; NULL: nothing. */
static void expect(Watch *watch, const PpoConfig *config, UpdateReport report, const char *text) {
  Log log = {.stream = stderr, .threshold = LOG_ERROR, .sink = collect};
  said[0] = '\0';
  watch_update(watch, 7, config, &report, &log);
  if (text ? !strstr(said, text) : said[0] != '\0')
    fail_msg("expected '%s', said: %s", text ? text : "", said);
}

static void groups_without_variance(void **state) {
  (void)state;
  Watch watch = {0};
  const PpoConfig config = {.ppo = {.missing_eos = MISSING_EOS_KEEP}};
  UpdateReport report = {.update = {.steps = 1}};
  expect(&watch, &config, report, NULL); /* no groups */
  report.credit = (Credit){.groups = 8, .flat_groups = 7};
  expect(&watch, &config, report, NULL);
  report.credit.flat_groups = 8;
  expect(&watch, &config, report, "update 7: the answers to each prompt were all judged the same");
  expect(&watch, &config, report, NULL);
}

static void ending_is_taught_away(void **state) {
  (void)state;
  static const MissingEos rules[] = {MISSING_EOS_KEEP, MISSING_EOS_SUBTRACT, MISSING_EOS_REPLACE};
  for (size_t i = 0; i < 3; i++) {
    Watch watch = {0};
    const PpoConfig config = {.ppo = {.missing_eos = (int)rules[i], .missing_eos_penalty = 1}};
    UpdateReport report = {.rollout = {.ended_score = -1}, .update = {.steps = 1}};
    expect(&watch, &config, report, NULL);
    report.rollout.ended_score = NAN; /* none ended */
    expect(&watch, &config, report, NULL);
    report.rollout.ended_score = -1.5;
    expect(&watch, &config, report,
           rules[i] == MISSING_EOS_REPLACE
               ? "answers that end have a mean score of -1.5, those that do not get -1"
               : NULL);
    expect(&watch, &config, report, NULL);
  }
}

static void updates_without_a_step(void **state) {
  (void)state;
  Watch watch = {0};
  PpoConfig config = {.ppo = {.missing_eos = MISSING_EOS_KEEP, .target_kl = 0.02}};
  UpdateReport report = {.update = {.steps = 3, .stopped = true}};
  Log log = {.stream = stderr, .threshold = LOG_ERROR, .sink = collect};
  expect(&watch, &config, report, NULL);
  said[0] = '\0';
  watch_end(&watch, &log);
  assert_string_equal(said, "");
  report.update = (UpdateStats){.stopped = true, .first_ratio_error = 0.5};
  expect(&watch, &config, report, "update 7 made no step: its first minibatch is 0.12 nats per token");
  expect(&watch, &config, report, NULL);
  watch_end(&watch, &log);
  assert_non_null(strstr(said, "2 of 3 updates made no step"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(groups_without_variance),
                                     cmocka_unit_test(ending_is_taught_away),
                                     cmocka_unit_test(updates_without_a_step)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
