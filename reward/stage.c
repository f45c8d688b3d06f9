#include "reward/stage.h"

#include "reward/loss.h"
#include "train/zero_point.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_SOURCES = 64 };

/* How well pairs are told apart. */
typedef struct Judgement {
  double loss, accuracy, margin;
  double of_source[MAX_SOURCES]; /* accuracy; negative where a source has no pairs */
} Judgement;

typedef struct Reward {
  double centring;         /* reward.centring */
  double accuracy, margin; /* of the last update */
  Judgement eval;          /* of the last evaluation */
} Reward;

/* -- one update ----------------------------------------------------------------------------------------- */

static double size(const Example *example) {
  (void)example;
  return 1;
}

/* The loss of pair `k` of the micro-batch. slopes: where its gradient goes, laid out as the scores are; or NULL. */
static PairLoss loss_of(const Supervised *s, int64_t k, double n, float *slopes) {
  const Reward *reward = s->own;
  const float *scores = s->micro.packer.values + 2 * k, margin = microbatches_example(&s->micro, k)->margin;
  return pair_loss(&scores[0], &scores[1], &margin, 1, reward->centring, n, slopes ? &slopes[2 * k] : NULL,
                   slopes ? &slopes[2 * k + 1] : NULL);
}

static void add(PairLoss *sum, PairLoss one) {
  sum->loss += one.loss;
  sum->correct += one.correct;
  sum->margin += one.margin;
}

static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS]) {
  Packer *packer = &s->micro.packer;
  PairLoss sum = {0};
  scores_judge(s);
  for (int64_t k = 0; k < packer->count; k++) add(&sum, loss_of(s, k, n, packer->slopes));
  score_values_backward(&s->pass, &s->trainee.predictor.head, packer_last(packer), packer->slopes);
  sums[0] += sum.loss;
  sums[1] += sum.correct;
  sums[2] += sum.margin;
}

static void settle(Supervised *s, double n, const double sums[SUPERVISED_SUMS]) {
  Reward *reward = s->own;
  s->loss = sums[0];
  reward->accuracy = sums[1] / n;
  reward->margin = sums[2] / n;
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

typedef struct Tally {
  PairLoss sum;
  double pairs;
  double correct_of[MAX_SOURCES], pairs_of[MAX_SOURCES];
} Tally;

static void tally_pairs(Supervised *s, void *context) {
  Tally *tally = context;
  for (int64_t k = 0; k < s->micro.packer.count; k++) {
    const PairLoss one = loss_of(s, k, 1, NULL);
    const uint32_t source = microbatches_example(&s->micro, k)->source;
    add(&tally->sum, one);
    tally->pairs++;
    if (source < MAX_SOURCES) {
      tally->correct_of[source] += one.correct;
      tally->pairs_of[source]++;
    }
  }
}

static void log_sources(Supervised *s, const Judgement *eval) {
  const Dataset *data = &s->corpus.eval;
  for (size_t i = 0; data->source_count > 1 && i < data->source_count && i < MAX_SOURCES; i++) {
    char name[600];
    if (eval->of_source[i] < 0) continue;
    snprintf(name, sizeof name, "eval/accuracy/%s", data->sources[i].path);
    runlog_metric(&s->run.runlog, s->step, name, eval->of_source[i]);
    log_info(s->log, "  %s: accuracy %.2f%%", data->sources[i].path, 100 * eval->of_source[i]);
  }
}

static bool evaluate(Supervised *s, Error *error) {
  Reward *reward = s->own;
  Judgement *eval = &reward->eval;
  Tally tally = {0};
  if (!supervised_judge_all(s, &s->corpus.eval, tally_pairs, &tally, error)) return false;
  *eval = (Judgement){.loss = tally.sum.loss / tally.pairs,
                      .accuracy = tally.sum.correct / tally.pairs,
                      .margin = tally.sum.margin / tally.pairs};
  for (int i = 0; i < MAX_SOURCES; i++) {
    eval->of_source[i] = tally.pairs_of[i] > 0 ? tally.correct_of[i] / tally.pairs_of[i] : -1;
  }
  if (!run_check_finite(&s->run, "the evaluation loss", eval->loss, s->step, error)) return false;
  RunLog *log = &s->run.runlog;
  runlog_metric(log, s->step, "eval/loss", eval->loss);
  runlog_metric(log, s->step, "eval/accuracy", eval->accuracy);
  runlog_metric(log, s->step, "eval/margin", eval->margin);
  log_info(s->log, "step %" PRId64 ": eval loss %.4f, accuracy %.2f%%, margin %.3f", s->step, eval->loss,
           100 * eval->accuracy, eval->margin);
  log_sources(s, eval);
  return true;
}

/* -- the zero point ------------------------------------------------------------------------------------- */

/* Makes the mean score of the reference answers 0. */
static bool set_zero_point(Supervised *s, Error *error) {
  const Dataset *answers = &s->corpus.reference;
  if (!s->corpus.has_reference) {
    s->trainee.predictor.head.zero = (ScoreZero){0}; /* one that training began with is none any more */
    return true;
  }
  double mean;
  if (!zero_point(s, &mean, error)) return false;
  if (!run_check_finite(&s->run, "the mean score of data.reference", mean, s->step, error)) return false;
  s->trainee.predictor.head.zero = (ScoreZero){.shift = (float)mean, .known = true};
  runlog_metric(&s->run.runlog, s->step, "reward/shift", mean);
  log_info(s->log, "scores are shifted by %.4f: the mean over %" PRIu64 " reference answers is 0", -mean,
           answers->count);
  return true;
}

/* -- figures -------------------------------------------------------------------------------------------- */

static bool state(Supervised *s, Checkpoint *checkpoint, Error *error) {
  Reward *reward = s->own;
  return checkpoint_float(checkpoint, "accuracy", &reward->accuracy, error);
}

static void metrics(Supervised *s) {
  const Reward *reward = s->own;
  runlog_metric(&s->run.runlog, s->step, "train/accuracy", reward->accuracy);
  runlog_metric(&s->run.runlog, s->step, "train/margin", reward->margin);
}

static void note(const Supervised *s, char *out, size_t room) {
  const Reward *reward = s->own;
  snprintf(out, room, "loss %.4f  accuracy %.0f%%", s->loss, 100 * reward->accuracy);
}

static bool result(const Supervised *s, Buffer *json, Buffer *phrase, Error *error) {
  const Reward *reward = s->own;
  if (!buffer_format(json, error, ", \"loss\": %.9g, \"accuracy\": %.9g, \"shift\": %.9g", s->loss,
                     reward->accuracy, (double)s->trainee.predictor.head.zero.shift)) {
    return false;
  }
  if (!s->corpus.has_eval) return buffer_format(phrase, error, "loss %.4f", s->loss);
  return buffer_format(json, error, ", \"eval_loss\": %.9g, \"eval_accuracy\": %.9g", reward->eval.loss,
                       reward->eval.accuracy) &&
         buffer_format(phrase, error, "eval accuracy %.2f%%", 100 * reward->eval.accuracy);
}

bool reward_run(const ProgramCall *call, ProgramResult *out, Error *error) {
  static const SupervisedStage stage = {
      .name = "reward",
      .trainee = "reward",
      .unit = "pair",
      .kind = DATASET_PREFERENCE,
      .sides = 2,
      .score_head = true,
      .pack = scores_pack,
      .size = size,
      .learn = learn,
      .judge = scores_judge,
      .settle = settle,
      .evaluate = evaluate,
      .finish = set_zero_point,
      .state = state,
      .metrics = metrics,
      .note = note,
      .result = result,
  };
  const RewardStageConfig *config = call->config;
  Reward reward = {.centring = config->reward.centring};
  return supervised_run(&stage, &reward, &config->common, call, out, error);
}
