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

/* Judge and score as normal numbers over answers, from `begin` on with so much more for each update. Returns the update at which the judge is said
 * to have fallen. */
typedef struct Sharpness {
  double prompts, judge, score; /* the slopes in standard deviations */
  int begin, updates;
} Sharpness;

static int sharp_course(Sharpness c, uint64_t run, SharpFall *fall) {
  SharpJudge sharp = {0};
  const RandomKey key = random_key(11, RANDOM_TEST);
  for (int n = 1; n <= c.updates; n++) {
    const double by = n > c.begin ? n - c.begin : 0, chance = 1 / sqrt(c.prompts);
    const Figure judge = {5 + by * c.judge + chance * random_normal(key, 2 * run, (uint64_t)n), 1};
    const Figure score = {by * c.score + chance * random_normal(key, 2 * run + 1, (uint64_t)n), 1};
    if (sharp_judge(&sharp, n, c.prompts, judge, score, fall)) return n;
  }
  return 0;
}

/* What goes quickly is seen before a gauge is ready, and what goes on as it did, or by chance, is not. */
static void sharp(void **state) {
  (void)state;
  SharpFall fall;
  for (uint64_t run = 0; run < 50; run++) {
    const int at = sharp_course((Sharpness){256, -0.15, 0.3, 4, 20}, run, &fall);
    if (at < 6 || at > 10) fail_msg("run %d: at update %d", (int)run, at);
    assert_true(fall.since >= 4 && fall.since < 8 && fall.now < fall.then && fall.score > fall.score_then);
    assert_true(fall.updates == 2 || fall.updates == 4);
    assert_int_equal(sharp_course((Sharpness){256, -0.15, 0, 4, 20}, run, &fall), 0); /* without any gain */
    assert_int_equal(sharp_course((Sharpness){256, -0.15, -0.3, 4, 20}, run, &fall), 0); /* both fall */
    assert_int_equal(sharp_course((Sharpness){256, 0.15, 0.3, 4, 20}, run, &fall), 0);
    assert_int_equal(sharp_course((Sharpness){15, -2, 2, 4, 20}, run, &fall),
                     0); /* of few answers nothing is known */
    assert_int_equal(sharp_course((Sharpness){1e6, -0.005, 0.3, 4, 40}, run, &fall),
                     0); /* surely, and hardly at all */
    assert_int_equal(sharp_course((Sharpness){256, 0, 0.02, 0, 1000}, run, &fall),
                     0); /* chance, while the score rises */
  }
}

/* Answers that end no more; each a coin. */
static int ends_at(double prompts, double share, double by, uint64_t run, SharpFall *fall) {
  SharpShare sharp = {0};
  for (int n = 1; n <= 200; n++) {
    const double p = fmax(0, share - (n > 8 ? by * (n - 8) : 0)), chance = sqrt(p * (1 - p) / prompts);
    const double seen = p + chance * random_normal(random_key(13, RANDOM_TEST), run, (uint64_t)n);
    if (sharp_share(&sharp, n, prompts, fmin(1, fmax(0, seen)), 0.1, fall)) return n;
  }
  return 0;
}

static void ends_sharply(void **state) {
  (void)state;
  SharpFall fall;
  for (uint64_t run = 0; run < 50; run++) {
    const int at = ends_at(256, 0.95, 0.06, run, &fall);
    if (at < 10 || at > 12) fail_msg("run %d: at update %d", (int)run, at);
    assert_true(fall.since >= 8 && fall.since < at && fall.well == fall.since - 2 &&
                fall.then - fall.now > 0.1 && fall.updates == 2);
    assert_int_equal(ends_at(256, 0.6, 0, run, &fall), 0); /* as it was */
    assert_int_equal(ends_at(64, 0.9, 0, run, &fall), 0);
    assert_int_equal(ends_at(20, 1, 0.06, run, &fall), 0); /* too few to know */
  }
}

static void not_a_number(void **state) {
  (void)state;
  SharpJudge s = {0};
  SharpFall fall;
  for (int n = 1; n <= 9; n++) {
    const bool odd = n == 3, fallen = n > 5;
    const bool said_so = sharp_judge(&s, n, 256,
                                     (Figure){odd      ? NAN
                                              : fallen ? 4
                                                       : 5,
                                              1},
                                     (Figure){fallen ? 1 : 0, 1}, &fall);
    assert_int_equal(said_so, n >= 6); /* half of the window is enough of it */
    if (n == 7)
      assert_true(fall.since == 5 && fall.then == 5 && fall.now == 4 && fall.score == 1 && fall.updates == 2);
  }
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
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(when_raised), cmocka_unit_test(when_not),     cmocka_unit_test(what_is_pending),
      cmocka_unit_test(sharp),       cmocka_unit_test(ends_sharply), cmocka_unit_test(not_a_number),
      cmocka_unit_test(names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
