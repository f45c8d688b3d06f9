#include "dpo/stage.h"

#include "dpo/balance.h"
#include "dpo/mismatched.h"
#include "dpo/pairs.h"
#include "dpo/reference.h"

#include <math.h>

/* Means over what is compared, but for the loss; NaN where it was of one kind alone. */
typedef struct Figures {
  double loss, accuracy, margin, reward_chosen, reward_rejected, logprob_chosen, logprob_rejected;
  double kl; /* of kto: z0 */
} Figures;

typedef struct Dpo {
  const DpoTerms *terms;
  Reference reference;
  Mismatched mismatched;
  double kl;           /* z0 of the examples at hand */
  Figures train, eval; /* of the last update, of the last evaluation */
} Dpo;

static Figures figures_of(const Dpo *dpo, const DpoSums *sums, double loss) {
  const double chosen = sums->chosen, rejected = sums->rejected;
  return (Figures){.loss = loss,
                   .accuracy = sums->correct / (chosen + rejected),
                   .margin = sums->reward_chosen / chosen - sums->reward_rejected / rejected,
                   .reward_chosen = sums->reward_chosen / chosen,
                   .reward_rejected = sums->reward_rejected / rejected,
                   .logprob_chosen = sums->logprob_chosen / chosen,
                   .logprob_rejected = sums->logprob_rejected / rejected,
                   .kl = dpo->terms->loss == DPO_KTO ? dpo->kl : NAN};
}

/* "accuracy 70%  margin 0.12  kl 0.5": those that there are. */
static void tell(const Figures *figures, char *out, size_t room) {
  int at = snprintf(out, room, "accuracy %.0f%%", 100 * figures->accuracy);
  if (!isnan(figures->margin)) at += snprintf(out + at, room - (size_t)at, "  margin %.3g", figures->margin);
  if (!isnan(figures->kl)) snprintf(out + at, room - (size_t)at, "  kl %.3g", figures->kl);
}

/* -- the loss of a micro-batch -------------------------------------------------------------------------- */

/* Of one record, from the values that are read at its rows; slopes, one for each of these, may be NULL. Returns its rows. */
static int64_t lose(const Dpo *dpo, const Example *example, const double *reference, const float *values,
                    double n, DpoSums *sums, float *slopes) {
  DpoAnswer answers[MOST_ANSWERS];
  double slope[MOST_ANSWERS];
  int64_t at = 0;
  for (int a = 0; a < example->answer_count; a++) {
    const int64_t rows = answer_rows(example, &example->answers[a]);
    answers[a] = (DpoAnswer){.logprob = logprob_sum(values + at, rows),
                             .reference = reference ? reference[a] : 0,
                             .tokens = rows,
                             .rank = example->answers[a].rank};
    at += rows;
  }
  if (dpo_is_unpaired(dpo->terms)) {
    dpo_loss_single(dpo->terms, answers, dpo->kl, n, sums, slopes ? slope : NULL);
  } else {
    dpo_loss(dpo->terms, answers, example->answer_count, n, sums, slopes ? slope : NULL);
  }
  for (int a = 0; slopes && a < example->answer_count; a++) {
    for (int64_t i = 0; i < answers[a].tokens; i++) *slopes++ = (float)slope[a];
  }
  return at;
}

/* All records of the micro-batch at hand, after pairs_judge. */
static void lose_all(Supervised *s, const Dataset *data, double n, DpoSums *sums, bool learns) {
  const Dpo *dpo = s->own;
  Packer *packer = &s->micro.packer;
  int64_t at = 0;
  for (int64_t k = 0; k < packer->count; k++) {
    const Example *example = microbatches_example(&s->micro, k);
    const double *reference =
        dpo_has_reference(dpo->terms) ? reference_at(&dpo->reference, s, data, k) : NULL;
    at += lose(dpo, example, reference, packer->values + at, n, sums, learns ? packer->slopes + at : NULL);
  }
}

/* -- one update ----------------------------------------------------------------------------------------- */

static double size(const Example *example) {
  (void)example;
  return 1;
}

static bool survey(Supervised *s, int64_t count, Error *error) {
  Dpo *dpo = s->own;
  return dpo->terms->loss != DPO_KTO || mismatched_update(&dpo->mismatched, s, count, &dpo->kl, error);
}

static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS]) {
  Packer *packer = &s->micro.packer;
  DpoSums of = {0};
  pairs_judge(s);
  lose_all(s, &s->corpus.train, n, &of, true);
  const double values[SUPERVISED_SUMS] = {of.loss,           of.correct,         of.chosen,
                                          of.rejected,       of.reward_chosen,   of.reward_rejected,
                                          of.logprob_chosen, of.logprob_rejected};
  _Static_assert(sizeof of == sizeof values, "all figures have a place");
  for (int i = 0; i < SUPERVISED_SUMS; i++) sums[i] += values[i];
  if (packer->row_count > 0)
    lm_logprobs_backward(&s->pass, packer_rows(packer), 1, packer->slopes, NULL, NULL);
}

static void settle(Supervised *s, double n, const double sums[SUPERVISED_SUMS]) {
  Dpo *dpo = s->own;
  (void)n; /* the loss has it; the rest is of what was compared */
  const DpoSums of = {sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7]};
  s->loss = of.loss;
  dpo->train = figures_of(dpo, &of, of.loss);
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

static void add_judged(Supervised *s, void *context) {
  lose_all(s, &s->corpus.eval, 1, context, false);
}

static void log_figures(Supervised *s, const char *part, const Figures *figures) {
  const struct {
    const char *name;
    double value;
  } rows[] = {{"accuracy", figures->accuracy},
              {"margin", figures->margin},
              {"reward_chosen", figures->reward_chosen},
              {"reward_rejected", figures->reward_rejected},
              {"logprob_chosen", figures->logprob_chosen},
              {"logprob_rejected", figures->logprob_rejected},
              {"kl", figures->kl}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char name[64];
    if (isnan(rows[i].value)) continue;
    snprintf(name, sizeof name, "%s/%s", part, rows[i].name);
    runlog_metric(&s->run.runlog, s->step, name, rows[i].value);
  }
}

static bool evaluate(Supervised *s, Error *error) {
  Dpo *dpo = s->own;
  DpoSums sums = {0};
  if (dpo->terms->loss == DPO_KTO && !mismatched_evaluate(&dpo->mismatched, s, &dpo->kl, error)) return false;
  if (!supervised_judge_all(s, &s->corpus.eval, add_judged, &sums, error)) return false;
  comm_sum(&s->compute.comm, (double *)&sums, sizeof sums / sizeof(double));
  const double loss = sums.loss / (double)s->corpus.eval.count;
  if (!run_check_finite(&s->run, "the evaluation loss", loss, s->step, error)) return false;
  dpo->eval = figures_of(dpo, &sums, loss);
  runlog_metric(&s->run.runlog, s->step, "eval/loss", loss);
  log_figures(s, "eval", &dpo->eval);
  s->judged[0] = loss;
  s->judged[1] = dpo->eval.accuracy;
  s->judged[2] = dpo->eval.margin;
  char figures[64];
  tell(&dpo->eval, figures, sizeof figures);
  log_info(s->log, "step %lld: eval loss %.4f  %s", (long long)s->step, loss, figures);
  return true;
}

/* -- the stage ------------------------------------------------------------------------------------------ */

static bool open(Supervised *s, Error *error) {
  Dpo *dpo = s->own;
  if (dpo_is_unpaired(dpo->terms) && s->corpus.train.count > 0)
    balance_say(dpo->terms, &s->corpus.train, s->log);
  return (dpo->terms->loss != DPO_KTO || mismatched_open(&dpo->mismatched, s, error)) &&
         (!dpo_has_reference(dpo->terms) || reference_open(&dpo->reference, &s->corpus, error));
}

static bool begin(Supervised *s, Error *error) {
  Dpo *dpo = s->own;
  return (!dpo_has_reference(dpo->terms) || reference_read(&dpo->reference, s, error)) &&
         (dpo->terms->loss != DPO_KTO || mismatched_read(&dpo->mismatched, s, error));
}

static bool state(Supervised *s, Checkpoint *checkpoint, Error *error) {
  Dpo *dpo = s->own;
  return checkpoint_float(checkpoint, "accuracy", &dpo->train.accuracy, error) &&
         checkpoint_float(checkpoint, "margin", &dpo->train.margin, error) &&
         (dpo->terms->loss != DPO_KTO || checkpoint_float(checkpoint, "kl", &dpo->train.kl, error));
}

static void metrics(Supervised *s) {
  const Dpo *dpo = s->own;
  log_figures(s, "train", &dpo->train);
}

static void note(const Supervised *s, char *out, size_t room) {
  const Dpo *dpo = s->own;
  tell(&dpo->train, out, room);
}

static bool add_figure(Buffer *json, const char *part, const char *name, double value, Error *error) {
  if (isnan(value)) return buffer_format(json, error, ", \"%s%s\": null", part, name);
  return buffer_format(json, error, ", \"%s%s\": %.9g", part, name, value);
}

/* part: "eval_" or "" */
static bool add_figures(Buffer *json, const char *part, const Figures *figures, double loss, Error *error) {
  return add_figure(json, part, "loss", loss, error) &&
         add_figure(json, part, "accuracy", figures->accuracy, error) &&
         add_figure(json, part, "margin", figures->margin, error) &&
         (isnan(figures->kl) || add_figure(json, part, "kl", figures->kl, error));
}

static bool result(const Supervised *s, Buffer *json, Error *error) {
  const Dpo *dpo = s->own;
  return add_figures(json, "", &dpo->train, s->loss, error) &&
         (!s->corpus.has_eval || add_figures(json, "eval_", &dpo->eval, dpo->eval.loss, error));
}

bool dpo_rules(const void *config, Error *error) {
  const DpoStageConfig *of = config;
  return dpo_config_check(of, error) && supervised_config_check(&of->common, error);
}

bool dpo_run(const ProgramCall *call, ProgramResult *out, Error *error) {
  static const SummaryFigure figures[] = {{"train/loss", "loss", 4, 0},
                                          {"eval/loss", "eval loss", 4, -1},
                                          {"eval/accuracy", "eval accuracy", 3, 1}};
  SupervisedStage stage = {
      .name = "dpo",
      .trainee = "policy",
      .unit = "preference",
      .kind = DATASET_PREFERENCE,
      .open = open,
      .begin = begin,
      .survey = survey,
      .pack = pairs_pack,
      .size = size,
      .learn = learn,
      .judge = pairs_judge,
      .settle = settle,
      .evaluate = evaluate,
      .state = state,
      .metrics = metrics,
      .note = note,
      .result = result,
      .next = supervised_next_try,
      .figures = figures,
      .figure_count = sizeof figures / sizeof *figures,
      .measures = dpo_measures,
  };
  const DpoStageConfig *config = call->config;
  Dpo dpo = {.terms = &config->dpo, .train.kl = NAN};
  if (dpo_is_unpaired(dpo.terms)) {
    stage.kind = DATASET_UNPAIRED;
    stage.unit = "answer";
  }
  const bool ok =
      dpo_config_check(config, error) && supervised_run(&stage, &dpo, &config->common, call, out, error);
  reference_free(&dpo.reference);
  mismatched_free(&dpo.mismatched);
  return ok;
}
