#include "reward/stage.h"

#include "reward/judgement.h"
#include "reward/loss.h"
#include "train/zero_point.h"

#include <inttypes.h>

typedef struct Reward {
  const RewardAlgorithm *rule;
  double accuracy, margin; /* of the last update */
  Judgement eval;          /* of the last evaluation */
} Reward;

/* The zero of a cost is learnt from labels: there have to be some. */
static bool check_labels(Supervised *s, Error *error) {
  const Reward *reward = s->own;
  const Dataset *data = &s->corpus.train;
  bool any = !reward->rule->cost || data->count == 0; /* of a plan alone */
  for (uint64_t i = 0; !any && i < data->count; i++) {
    const PairLabels labels = dataset_example(data, dataset_reference(data, i)).labels;
    any = labels.chosen_safe != 0 || labels.rejected_safe != 0;
  }
  return any || error_set(error, ERROR_DATA,
                          "data.train: expected pairs that say which answers are safe (is_response_0_safe, "
                          "is_response_1_safe), since "
                          "reward.cost learns from them where 0 is; found none");
}

/* -- one update ----------------------------------------------------------------------------------------- */

static double size(const Example *example) {
  (void)example;
  return 1;
}

static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS]) {
  const Reward *reward = s->own;
  Packer *packer = &s->micro.packer;
  int64_t at = 0; /* of the example's first answer among the scores */
  scores_judge(s);
  worth_of_scores(reward->rule, packer->values, packer->batch.sequences);
  for (int64_t k = 0; k < packer->count; k++) {
    const Example *example = microbatches_example(&s->micro, k);
    const PreferenceLoss one =
        example_loss(example, packer->values + at, reward->rule, n, packer->slopes + at);
    at += example->answer_count;
    sums[0] += one.loss;
    sums[1] += one.correct;
    sums[2] += one.margin;
    sums[3] += one.pairs;
  }
  worth_of_scores(reward->rule, packer->slopes, packer->batch.sequences);
  score_values_backward(&s->pass, &s->trainee.predictor.head, packer_last(packer), packer->slopes);
}

static void settle(Supervised *s, double n, const double sums[SUPERVISED_SUMS]) {
  Reward *reward = s->own;
  (void)n; /* the loss has it; accuracy and margin are of pairs */
  s->loss = sums[0];
  reward->accuracy = sums[1] / sums[3];
  reward->margin = sums[2] / sums[3];
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

static bool evaluate(Supervised *s, Error *error) {
  Reward *reward = s->own;
  if (!judgement_make(&reward->eval, s, reward->rule, error) ||
      !run_check_finite(&s->run, "the evaluation loss", reward->eval.loss, s->step, error)) {
    return false;
  }
  judgement_log(&reward->eval, s);
  s->judged[0] = reward->eval.loss;
  s->judged[1] = reward->eval.accuracy;
  return true;
}

/* -- the zero point ------------------------------------------------------------------------------------- */

/* Makes the mean score of the reference answers 0. */
static bool set_zero_point(Supervised *s, Error *error) {
  const Dataset *answers = &s->corpus.reference;
  const Reward *reward = s->own;
  if (!s->corpus.has_reference) {
    s->trainee.predictor.head.zero =
        (ScoreZero){.known = reward->rule->cost}; /* one that training began with is none any more */
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
  snprintf(out, room, "accuracy %.0f%%", 100 * reward->accuracy);
}

static bool result(const Supervised *s, Buffer *json, Error *error) {
  const Reward *reward = s->own;
  if (!buffer_format(json, error, ", \"loss\": %.9g, \"accuracy\": %.9g, \"shift\": %.9g", s->loss,
                     reward->accuracy, (double)s->trainee.predictor.head.zero.shift)) {
    return false;
  }
  if (!s->corpus.has_eval) return true;
  const Judgement *eval = &reward->eval;
  return buffer_format(json, error, ", \"eval_loss\": %.9g, \"eval_accuracy\": %.9g", eval->loss,
                       eval->accuracy) &&
         (!eval->ranked || buffer_format(json, error, ", \"eval_kendall_tau\": %.9g", eval->tau));
}

static bool next(const Supervised *s, const char *output, Buffer *out, Error *error) {
  const ModelConfig *model = &s->config->model;
  const Reward *reward = s->own;
  const bool adapter = s->trainee.predictor.adapted, cost = reward->rule->cost;
  return buffer_text(out, "\nnext: drover ppo", error) &&
         summary_option(out, "--model.path", model->path, error) &&
         (!model->adapter || summary_option(out, "--model.adapter", model->adapter, error)) &&
         (!cost || buffer_text(out, " --reward.path REWARD", error)) &&
         summary_option(out, cost ? "--cost.path" : "--reward.path", adapter ? model->path : output, error) &&
         (!adapter || summary_option(out, cost ? "--cost.adapter" : "--reward.adapter", output, error)) &&
         buffer_text(out, " --data.prompts prompts.jsonl --run.dir runs/ppo", error);
}

bool reward_rules(const void *config, Error *error) {
  const RewardStageConfig *of = config;
  return reward_config_check(of, error) && supervised_config_check(&of->common, error);
}

bool reward_run(const ProgramCall *call, ProgramResult *out, Error *error) {
  static const SummaryFigure figures[] = {{"train/loss", "loss", 4, 0},
                                          {"eval/loss", "eval loss", 4, -1},
                                          {"eval/accuracy", "eval accuracy", 3, 1}};
  static const SupervisedStage stage = {
      .name = "reward",
      .trainee = "reward",
      .unit = "preference",
      .kind = DATASET_PREFERENCE,
      .score_head = true,
      .open = check_labels,
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
      .next = next,
      .figures = figures,
      .figure_count = sizeof figures / sizeof *figures,
      .measures = reward_measures,
  };
  const RewardStageConfig *config = call->config;
  Reward reward = {.rule = &config->reward};
  return reward_config_check(config, error) &&
         supervised_run(&stage, &reward, &config->common, call, out, error);
}
