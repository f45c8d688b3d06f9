/* When alarms of a ppo run are raised, and when not: courses of figures that are made up here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "ppo/report.h"

#include <math.h>
#include <string.h>

enum { UPDATES = 60, CHANGE = 30 /* the update from which something is wrong */ };

static char said[2048]; /* the warnings since it was emptied */

static void collect(void *context, LogLevel level, const char *text) {
  (void)context;
  assert_int_equal(level, LOG_WARNING);
  snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

/* A run that is well. */
static UpdateReport well(int n) {
  const double noise = random_normal(random_key(3, RANDOM_TEST), 0, (uint64_t)n);
  return (UpdateReport){
      .rollout = {.score = 0.02 * n + 0.05 * noise,
                  .score_std = 0.5,
                  .kl = 0.05 * n + 0.02 * noise,
                  .length = 30 + noise,
                  .ended = 0.95 + 0.01 * noise,
                  .entropy = 1 - 0.005 * n + 0.01 * noise,
                  .sampler_error = 1e-6},
      .heldout = {{"gold", 0.5 + 0.01 * n + 0.02 * noise, 0.3}},
      .heldout_count = 1,
      .credit = {.critic = true, .explained_variance = 0.5},
      .update = {.values[CRITIC_OF_REWARDS] = {.loss = 20 * (0.1 + 0.005 * noise), .tokens = 20}, .steps = 1},
  };
}

typedef void Trouble(UpdateReport *report, int n);

/* A run whose updates from CHANGE on are changed by `trouble`. Returns the update of the first alarm, 0 for none. */
static int course(Trouble *trouble, RunConfig config, Run *run) {
  static const PpoConfig ppo = {.ppo = {.kl_coef = 0.05}};
  static Log log;
  static RunConfig kept;
  PpoAlarms alarms = {0};
  int first = 0;
  kept = config;
  log = (Log){.stream = stderr, .threshold = LOG_ERROR, .sink = collect};
  *run = (Run){.log = &log, .config = &kept, .watched = -1};
  said[0] = '\0';
  for (int n = 1; n <= UPDATES; n++) {
    UpdateReport report = well(n);
    if (trouble && n > CHANGE) trouble(&report, n - CHANGE);
    ppo_alarms_update(&alarms, run, n, &ppo, &report);
    if (!first && said[0]) first = n;
  }
  return first;
}

static void expect(Trouble *trouble, AlarmKind kind, int soonest, int latest) {
  Run run;
  char text[64];
  const int at = course(trouble, (RunConfig){0}, &run);
  snprintf(text, sizeof text, "alarm %s: ", alarm_name(kind));
  if (!strstr(said, text) || run.alarms.raised != (int64_t)1 << kind)
    fail_msg("expected '%s', said: %s", text, said);
  if (at < CHANGE + soonest || at > CHANGE + latest) fail_msg("%s at update %d", text, at);
  assert_ptr_equal(strchr(said, '\n') + 1, said + strlen(said)); /* once */
  assert_non_null(strstr(said, alarm_remedy(kind)));
}

static void heldout_falls(UpdateReport *r, int n) {
  r->heldout[0].mean -= 0.02 * n;
}
static void heldout_falls_little(UpdateReport *r, int n) {
  (void)n;
  r->heldout[0].mean =
      0.78 + 0.001 * (r->heldout[0].mean - 0.8); /* less than a tenth of its deviation below the top */
}
static void both_fall(UpdateReport *r, int n) {
  heldout_falls(r, n);
  r->rollout.score -= 0.05 * n;
}
static void kl_eats_the_score(UpdateReport *r, int n) {
  r->rollout.kl += 0.5 * n;
}
static void kl_runs_away(UpdateReport *r, int n) {
  r->rollout.kl += 0.4 * pow(1.3, n);
  r->rollout.score += 0.2 * pow(1.3, n); /* it is worth it */
}
static void kl_of_one_update(UpdateReport *r, int n) {
  if (n == 3) r->rollout.kl = 60;
}
static void grows(UpdateReport *r, int n) {
  r->rollout.length += 3 * n;
}
static void shrinks(UpdateReport *r, int n) {
  r->rollout.length = 30.0 / (n + 1);
}
static void one_is_long(UpdateReport *r, int n) {
  if (n == 5) r->rollout.length = 200;
}
static void ends_no_more(UpdateReport *r, int n) {
  r->rollout.ended -= 0.03 * n;
}
static void collapses(UpdateReport *r, int n) {
  r->rollout.entropy *= pow(0.8, n);
}
static void scores_alike(UpdateReport *r, int n) {
  (void)n;
  r->rollout.score_std = 0.01;
}
static void value_runs_away(UpdateReport *r, int n) {
  r->update.values[CRITIC_OF_REWARDS].loss *= n;
  r->credit.explained_variance = -n;
}
static void returns_are_larger(UpdateReport *r, int n) { /* and values follow */
  r->update.values[CRITIC_OF_REWARDS].loss *= n;
}
static void sampler_is_off(UpdateReport *r, int n) {
  r->rollout.sampler_error = n == 4 ? 0.25 : 0.1;
}
static void is_broken(UpdateReport *r, int n) {
  if (n == 2)
    r->rollout = (ExperienceStats){.score = NAN, .kl = NAN, .length = NAN, .ended = NAN, .entropy = NAN};
}

static void when_raised(void **state) {
  (void)state;
  expect(heldout_falls, ALARM_HELDOUT, 8, 20);
  expect(kl_eats_the_score, ALARM_REWARD, 4, 28);
  expect(kl_runs_away, ALARM_KL, 4, 16);
  expect(grows, ALARM_LENGTH, 8, 20);
  expect(shrinks, ALARM_LENGTH, 4, 10);
  expect(ends_no_more, ALARM_ENDING, 6, 16);
  expect(collapses, ALARM_ENTROPY, 6, 16);
  expect(scores_alike, ALARM_FLAT, 7, 7);
  expect(value_runs_away, ALARM_VALUE, 3, 10);
  expect(sampler_is_off, ALARM_SAMPLER, 4, 4);
}

static void when_not(void **state) {
  (void)state;
  static Trouble *const fine[] = {NULL,        heldout_falls_little, both_fall, kl_of_one_update,
                                  one_is_long, returns_are_larger,   is_broken};
  for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
    Run run;
    if (course(fine[i], (RunConfig){0}, &run)) fail_msg("case %zu: %s", i, said);
    assert_int_equal(run.alarms.raised, 0);
  }
}

/* What is left to be done, and since when it was wrong; of those that are wanted. */
static void what_is_pending(void **state) {
  (void)state;
  Run run;
  course(heldout_falls, (RunConfig){.on_alarm = ON_ALARM_WARN}, &run);
  assert_int_equal(run.alarms.pending, 0);
  course(heldout_falls, (RunConfig){.on_alarm = ON_ALARM_STOP}, &run);
  assert_int_equal(run.alarms.pending, 1 << ALARM_HELDOUT);
  assert_true(run.alarms.since > CHANGE && run.alarms.since < CHANGE + 8); /* its mean was at its top */
  course(shrinks, (RunConfig){.on_alarm = ON_ALARM_ROLLBACK}, &run);
  assert_true(run.alarms.since < CHANGE);
}

static void names(void **state) {
  (void)state;
  Error error = {0};
  int64_t set;
  char *none[] = {"none"};
  assert_true(alarm_set(&(OptionStrings){none, 1}, &set, &error));
  assert_int_equal(set, 0);
  char *both[] = {"heldout", "eval"}, *all[] = {"all"}, *wrong[] = {"kl", "held_out"};
  assert_true(alarm_set(&(OptionStrings){both, 2}, &set, &error));
  assert_int_equal(set, (1 << ALARM_HELDOUT) | (1 << ALARM_EVAL));
  assert_true(alarm_set(&(OptionStrings){all, 1}, &set, &error));
  assert_int_equal(set, (1 << ALARM_KINDS) - 1);
  assert_false(alarm_set(&(OptionStrings){wrong, 2}, &set, &error));
  assert_string_equal(
      error.message,
      "run.alarms: there is no alarm 'held_out'; there are: all, none, heldout, reward, kl, length, ending, "
      "entropy, flat, value, sampler, loss, gradient, eval");
  Run run = {.watched = 1 << ALARM_KL};
  run_alarm(&run, 1, ALARM_LENGTH, 0, "left out");
  assert_int_equal(run.alarms.raised, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(when_raised), cmocka_unit_test(when_not),
                                     cmocka_unit_test(what_is_pending), cmocka_unit_test(names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
