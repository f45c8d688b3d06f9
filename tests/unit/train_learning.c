/* When alarms of learning from a data set are raised, and when not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "train/learning.h"

#include <math.h>
#include <string.h>

enum { UPDATES = 80, CHANGE = 40 };

static char said[2048];

static void collect(void *context, LogLevel level, const char *text) {
  (void)context;
  assert_int_equal(level, LOG_WARNING);
  snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

typedef struct Figures {
  double loss, gradient, eval; /* eval: every tenth update */
} Figures;
typedef void Trouble(Figures *figures, int n);

static void expect(Trouble *trouble, int kind, int at, int64_t since) { /* kind -1: none */
  static const RunConfig config = {.on_alarm = ON_ALARM_STOP};
  Log log = {.stream = stderr, .threshold = LOG_ERROR, .sink = collect};
  Run run = {.log = &log, .config = &config, .watched = -1};
  Learning learning = {0};
  int first = 0;
  said[0] = '\0';
  for (int n = 1; n <= UPDATES; n++) {
    const double noise = random_normal(random_key(5, RANDOM_TEST), 0, (uint64_t)n);
    Figures f = {2 + exp(-n / 10.0) + 0.1 * noise, 1 + 0.2 * fabs(noise), 2.1 + exp(-n / 10.0)};
    if (trouble && n > CHANGE) trouble(&f, n - CHANGE);
    learning_updated(&learning, &run, n, f.loss, f.gradient);
    if (n % 10 == 0) learning_judged(&learning, &run, n, f.eval);
    if (!first && said[0]) first = n;
  }
  if (run.alarms.raised != (kind < 0 ? 0 : (int64_t)1 << kind) || (kind >= 0 && abs(first - at) > 1))
    fail_msg("expected %s at %d, said at %d: %s", kind < 0 ? "nothing" : alarm_name((AlarmKind)kind), at,
             first, said);
  if (kind >= 0 && since >= 0) assert_int_equal(run.alarms.since, since);
}

static void diverges(Figures *f, int n) {
  f->loss += 0.2 * n;
}
static void is_hard_once(Figures *f, int n) {
  if (n == 4) f->loss = 8;
}
static void climbs(Figures *f, int n) {
  f->gradient *= 1 + n;
}
static void overfits(Figures *f, int n) {
  f->loss -= 0.02 * n;
  f->eval += 0.01 * n;
}
static void is_all_worse(Figures *f, int n) {
  f->loss += 0.01 * n;
  f->eval += 0.01 * n;
}
static void is_worse_once(Figures *f, int n) {
  f->loss -= 0.02 * n;
  if (n == 10) f->eval += 0.1;
}

static void when_raised(void **state) {
  (void)state;
  expect(diverges, ALARM_LOSS, CHANGE + 8, -1);
  expect(climbs, ALARM_GRADIENT, CHANGE + 13, -1);
  expect(overfits, ALARM_EVAL, CHANGE + 20, CHANGE);
}

static void when_not(void **state) {
  (void)state;
  static Trouble *const fine[] = {NULL, is_hard_once, is_all_worse, is_worse_once};
  for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) expect(fine[i], -1, 0, -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(when_raised), cmocka_unit_test(when_not)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
