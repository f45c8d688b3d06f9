#include "ppo/alarms.h"

#include "ppo/report.h"

#include <stddef.h>

/* Standard deviations over answers: a fall of a mean by less is of no consequence. */
static const double fall_limit = 0.1;
/* Nats an answer; and what it grows by from one window to the next. */
static const double kl_least = 10, kl_growth = 2;
/* Of the mean over the first window. */
static const double length_growth = 2, length_rest = 0.5, entropy_rest = 0.25, spread_rest = 0.05;
/* A share of all answers. */
static const double ended_fall = 0.1;
/* Of the smallest mean. */
static const double value_growth = 4;
/* Mean nats of a token, of one update. Rounding is below 1e-5 in fp32 and about a hundredth in bf16. */
static const double sampler_limit = 0.1;

/* Where the trouble of a figure began that is compared with the first window is not known. */
static int64_t some_while_ago(int64_t step) {
  return step - 2 * GAUGE_WINDOW;
}

/* -- the score rises, and ... --------------------------------------------------------------------------- */

static void add_opposed(Opposed *opposed, const Gauge *score, int64_t step, double value) {
  gauge_add(&opposed->gauge, step, value);
  if (score->count >= GAUGE_WINDOW && opposed->gauge.top_step == (double)step)
    opposed->score = gauge_mean(score);
}

static void tell_opposed(AlarmKind kind, const char *name, Run *run, int64_t step, const SharpFall *fall) {
  run_alarm(run, step, kind, (int64_t)fall->well,
            "%s falls while the score rises: since update %.0f from %.4g to %.4g, the score from %.4g to "
            "%.4g (means over %d "
            "updates)",
            name, fall->since, fall->then, fall->now, fall->score_then, fall->score, fall->updates);
}

static void watch_opposed(const Opposed *opposed, const Gauge *score, double std, AlarmKind kind,
                          const char *name, Run *run, int64_t step) {
  const Gauge *gauge = &opposed->gauge;
  if (!gauge_is_ready(gauge)) return;
  const double mean = gauge_mean(gauge), fall = gauge->top - mean, rise = gauge_mean(score) - opposed->score;
  if (fall <= fall_limit * std || !gauge_is_sure(gauge, fall) || !gauge_is_sure(score, rise)) return;
  tell_opposed(kind, name, run, step,
               &(SharpFall){GAUGE_WINDOW, gauge->top, mean, opposed->score, gauge_mean(score),
                            gauge->top_step, gauge->top_step});
}

/* -- figures by themselves ------------------------------------------------------------------------------ */

static void watch_kl(const Gauge *kl, Run *run, int64_t step) {
  const double mean = gauge_mean(kl), before = gauge_before(kl);
  if (mean <= kl_least || mean <= kl_growth * before || !gauge_is_sure(kl, mean - before)) return;
  run_alarm(run, step, ALARM_KL, some_while_ago(step),
            "the KL from the reference runs away: %.3g nats an answer on average over %d updates, and %.3g "
            "over the %d before",
            mean, GAUGE_WINDOW, before, GAUGE_WINDOW);
}

static void watch_length(const Gauge *length, Run *run, int64_t step) {
  const double mean = gauge_mean(length), first = length->first;
  const bool longer = mean > length_growth * first && gauge_is_sure(length, mean - first);
  const bool shorter = mean < length_rest * first && gauge_is_sure(length, first - mean);
  if (!longer && !shorter) return;
  run_alarm(run, step, ALARM_LENGTH, some_while_ago(step),
            "answers %s: %.4g tokens on average over %d updates, and %.4g over the first",
            longer ? "become longer and longer" : "shrink", mean, GAUGE_WINDOW, first);
}

static void tell_ended(Run *run, int64_t step, const SharpFall *fall) {
  run_alarm(run, step, ALARM_ENDING, (int64_t)fall->well,
            "answers no longer end by themselves: %.0f%% do on average over %d updates, and %.0f%% did over "
            "the first",
            100 * fall->now, fall->updates, 100 * fall->then);
}

static void watch_ended(const Gauge *ended, Run *run, int64_t step) {
  const double mean = gauge_mean(ended), first = ended->first;
  if (first - mean <= ended_fall || !gauge_is_sure(ended, first - mean)) return;
  tell_ended(run, step,
             &(SharpFall){
                 .updates = GAUGE_WINDOW, .then = first, .now = mean, .well = (double)some_while_ago(step)});
}

static void watch_entropy(const Gauge *entropy, Run *run, int64_t step) {
  const double mean = gauge_mean(entropy), first = entropy->first;
  if (mean >= entropy_rest * first || !gauge_is_sure(entropy, first - mean)) return;
  run_alarm(run, step, ALARM_ENTROPY, some_while_ago(step),
            "the entropy collapses: %.3g nats a token on average over %d updates, and %.3g over the first",
            mean, GAUGE_WINDOW, first);
}

static void watch_spread(const Gauge *spread, Run *run, int64_t step) {
  const double mean = gauge_mean(spread);
  if (mean > spread_rest * spread->first) return;
  run_alarm(run, step, ALARM_FLAT, some_while_ago(step),
            "all answers score the same: a standard deviation of %.3g on average over %d updates, and %.3g "
            "over the first",
            mean, GAUGE_WINDOW, spread->first);
}

static void watch_value(const Gauge *value, const Gauge *fit, Run *run, int64_t step) {
  const double mean = gauge_mean(value);
  if (mean <= value_growth * value->bottom || gauge_mean(fit) >= 0 ||
      !gauge_is_sure(value, mean - value->bottom))
    return;
  run_alarm(run, step, ALARM_VALUE, (int64_t)value->bottom_step,
            "the value loss runs away: %.3g on average over %d updates, %.3g at update %.0f, and values "
            "explain nothing of the "
            "returns",
            mean, GAUGE_WINDOW, value->bottom, value->bottom_step);
}

static void watch_sampler(double difference, Run *run, int64_t step) {
  if (!(difference > sampler_limit)) return;
  run_alarm(
      run, step, ALARM_SAMPLER, some_while_ago(step),
      "log-probabilities of the sampled tokens differ by %.2g nats on average between sampling and training "
      "(ppo/sampler_error)",
      difference);
}

/* -- what goes quickly ---------------------------------------------------------------------------------- */

static void watch_sharp(PpoAlarms *a, Run *run, int64_t step, const PpoConfig *config,
                        const UpdateReport *report) {
  const ExperienceStats *x = &report->rollout;
  const Figure score = {x->score, x->score_std};
  const double prompts = x->answers / (double)config->ppo.samples_per_prompt;
  SharpFall fall;
  for (int i = 0; i < report->heldout_count; i++) {
    const Heldout *judge = &report->heldout[i];
    if (sharp_judge(&a->sharp.heldout[i], step, prompts, (Figure){judge->mean, judge->std}, score, &fall))
      tell_opposed(ALARM_HELDOUT, judge->name, run, step, &fall);
  }
  if (sharp_share(&a->sharp.ended, step, prompts, x->ended, ended_fall, &fall)) tell_ended(run, step, &fall);
}

/* -- an update ------------------------------------------------------------------------------------------ */

static void add(PpoAlarms *a, int64_t step, const PpoConfig *config, const UpdateReport *report) {
  const ExperienceStats *x = &report->rollout;
  const ValueStats *value = &report->update.values[CRITIC_OF_REWARDS];
  gauge_add(&a->score, step, x->score);
  gauge_add(&a->spread, step, x->score_std);
  gauge_add(&a->kl, step, x->kl);
  gauge_add(&a->length, step, x->length);
  gauge_add(&a->ended, step, x->ended);
  gauge_add(&a->entropy, step, x->entropy);
  if (report->credit.critic && value->tokens > 0) {
    gauge_add(&a->value, step, value->loss / value->tokens);
    gauge_add(&a->fit, step, report->credit.explained_variance);
  }
  /* The coefficient of the configuration, whatever it has become: so that updates can be compared. */
  add_opposed(&a->reward, &a->score, step, x->score - config->ppo.kl_coef * x->kl);
  for (int i = 0; i < report->heldout_count; i++)
    add_opposed(&a->heldout[i], &a->score, step, report->heldout[i].mean);
}

void ppo_alarms_update(PpoAlarms *alarms, Run *run, int64_t step, const PpoConfig *config,
                       const UpdateReport *report) {
  PpoAlarms *a = alarms;
  add(a, step, config, report);
  watch_sampler(report->rollout.sampler_error, run, step);
  watch_sharp(a, run, step, config, report);
  if (!gauge_is_ready(&a->score)) return;
  for (int i = 0; i < report->heldout_count; i++) {
    const Heldout *heldout = &report->heldout[i];
    watch_opposed(&a->heldout[i], &a->score, heldout->std, ALARM_HELDOUT, heldout->name, run, step);
  }
  watch_opposed(&a->reward, &a->score, report->rollout.score_std, ALARM_REWARD,
                "the score less the penalty on the KL", run, step);
  watch_kl(&a->kl, run, step);
  watch_length(&a->length, run, step);
  watch_ended(&a->ended, run, step);
  watch_entropy(&a->entropy, run, step);
  watch_spread(&a->spread, run, step);
  if (gauge_is_ready(&a->value) && gauge_is_ready(&a->fit)) watch_value(&a->value, &a->fit, run, step);
}

bool ppo_alarms_state(PpoAlarms *alarms, Checkpoint *checkpoint, Error *error) {
  _Static_assert(sizeof(PpoAlarms) % sizeof(double) == 0, "it is an array of double");
  if (checkpoint->loading && !checkpoint_has_int(checkpoint, "run.alarms.raised")) return true;
  if (!checkpoint_array(checkpoint, "alarms.ppo", DTYPE_F64, alarms,
                        offsetof(PpoAlarms, sharp) / sizeof(double), error))
    return false;
  if (checkpoint->loading && !checkpoint_has_int(checkpoint, "alarms.sharp.judges")) return true;
  int64_t judges = MOST_HELDOUT;
  return checkpoint_count(checkpoint, "alarms.sharp.judges", &judges, error) &&
         checkpoint_array(checkpoint, "alarms.sharp", DTYPE_F64, &alarms->sharp,
                          sizeof alarms->sharp / sizeof(double), error);
}
