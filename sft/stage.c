#include "sft/stage.h"

#include "train/token_loss.h"

#include <inttypes.h>
#include <math.h>

typedef struct Sft {
  int64_t tokens;   /* loss tokens learned from */
  double eval_loss; /* of the last evaluation, nats per token */
} Sft;

static double size(const Example *example) {
  return example->loss_count;
}

static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS]) {
  sums[0] += token_loss_backward(&s->micro.packer, &s->pass, 1 / n);
}

static void settle(Supervised *s, double n, const double sums[SUPERVISED_SUMS]) {
  Sft *sft = s->own;
  s->loss = sums[0] / n;
  sft->tokens += (int64_t)n;
}

static void judge(Supervised *s) {
  token_loss_read(&s->micro.packer, &s->pass);
}

typedef struct TokenSum {
  double negative; /* sum of -log p */
  int64_t tokens;
} TokenSum;

static void add_tokens(Supervised *s, void *context) {
  TokenSum *sum = context;
  sum->negative += token_loss_sum(&s->micro.packer);
  sum->tokens += s->micro.packer.row_count;
}

static bool evaluate(Supervised *s, Error *error) {
  Sft *sft = s->own;
  TokenSum sum = {0};
  if (!supervised_judge_all(s, &s->corpus.eval, add_tokens, &sum, error)) return false;
  comm_sum(&s->compute.comm, &sum.negative, 1);
  comm_all_reduce(&s->compute.comm, COMM_SUM, DTYPE_I64, &sum.tokens, 1);
  const double loss = sft->eval_loss = s->judged[0] = sum.negative / (double)sum.tokens;
  if (!run_check_finite(&s->run, "the evaluation loss", loss, s->step, error)) return false;
  runlog_metric(&s->run.runlog, s->step, "eval/loss", loss);
  runlog_metric(&s->run.runlog, s->step, "eval/perplexity", exp(loss));
  log_info(s->log, "step %" PRId64 ": eval loss %.4f, perplexity %.3f", s->step, loss, exp(loss));
  return true;
}

static bool state(Supervised *s, Checkpoint *checkpoint, Error *error) {
  Sft *sft = s->own;
  return checkpoint_count(checkpoint, "tokens", &sft->tokens, error);
}

static void metrics(Supervised *s) {
  const Sft *sft = s->own;
  runlog_metric(&s->run.runlog, s->step, "train/tokens", (double)sft->tokens);
}

static bool result(const Supervised *s, Buffer *json, Error *error) {
  const Sft *sft = s->own;
  return buffer_format(json, error, ", \"tokens\": %" PRId64 ", \"loss\": %.9g", sft->tokens, s->loss) &&
         (!s->corpus.has_eval || buffer_format(json, error, ", \"eval_loss\": %.9g", sft->eval_loss));
}

bool sft_rules(const void *config, Error *error) {
  return supervised_config_check(config, error);
}

bool sft_run(const ProgramCall *call, ProgramResult *out, Error *error) {
  static const SummaryFigure figures[] = {{"train/loss", "loss", 4, 0}, {"eval/loss", "eval loss", 4, -1}};
  static const SupervisedStage stage = {
      .name = "sft",
      .trainee = "policy",
      .unit = "example",
      .kind = DATASET_TEXT, /* as DATASET_SFT, and long plain texts are cut into pieces */
      .pack = token_loss_pack,
      .size = size,
      .learn = learn,
      .judge = judge,
      .settle = settle,
      .evaluate = evaluate,
      .state = state,
      .metrics = metrics,
      .result = result,
      .next = supervised_next_try,
      .figures = figures,
      .figure_count = sizeof figures / sizeof *figures,
      .measures = sft_measures,
  };
  Sft sft = {0};
  return supervised_run(&stage, &sft, call->config, call, out, error);
}
