#include "ppo/report.h"

#include "base/memory.h"

#include <math.h>

void report_metrics(RunLog *log, int64_t step, const UpdateReport *report) {
  const ExperienceStats *x = &report->rollout;
  const Credit *c = &report->credit;
  const UpdateStats *u = &report->update;
  const CostReport *cost = &report->cost;
  const ValueStats *v = &u->values[CRITIC_OF_REWARDS], *of_costs = &u->values[CRITIC_OF_COSTS];
  const double policy = u->policy.tokens, value = v->tokens;
  const struct {
    const char *name;
    double value;
    bool known;
  } metrics[] = {
      {"ppo/reward", c->reward, true},
      {"ppo/score", x->score, true},
      {"ppo/score_std", x->score_std, true},
      {"ppo/score_ended", x->ended_score, x->ended > 0},
      {"ppo/score_judged", x->judged, true},
      {"ppo/reference_score", report->reference_score, report->against},
      {"ppo/cost", x->cost, cost->any},
      {"ppo/cost_lambda", cost->lambda, cost->any},
      {"ppo/safe_rate", cost->safe, cost->any},
      {"ppo/kl", x->kl, true},
      {"ppo/kl_coef", report->kl_coef, true},
      {"ppo/entropy", x->entropy, true},
      {"ppo/length", x->length, true},
      {"ppo/eos_rate", x->ended, true},
      {"ppo/empty_rate", x->empty, true},
      {"ppo/other_end_rate", report->other_ends, isfinite(report->other_ends)},
      {"ppo/sampler_error", x->sampler_error, true},
      {"ppo/sampler_error_max", x->sampler_error_max, true},
      {"ppo/sampler_kl", x->sampler_kl, true},
      {"ppo/advantage_std", c->advantage_std, true},
      {"ppo/return_std", c->return_std, c->critic},
      {"ppo/explained_variance", c->explained_variance, c->critic},
      {"ppo/cost_return_std", c->cost_return_std, c->cost_critic},
      {"ppo/cost_explained_variance", c->cost_explained_variance, c->cost_critic},
      {"ppo/greedy_score", c->baseline, c->remax},
      {"ppo/flat_group_rate", (c->flat_groups + report->refilled) / (c->groups + report->refilled),
       c->groups > 0},
      {"ppo/refilled", report->refilled, report->refills},
      {"ppo/left_out_rate", c->left_out / x->answers, c->leaves_out},
      {"ppo/policy_loss", u->policy.loss / policy, policy > 0},
      {"ppo/kl_loss", u->policy.kl / policy, u->kl_in_loss && policy > 0},
      {"ppo/clip_fraction", u->policy.clipped / policy, policy > 0},
      {"ppo/approx_kl", u->policy.approx_kl / policy, policy > 0},
      {"ppo/ratio", u->policy.ratio / policy, policy > 0},
      {"ppo/ratio_bounded", u->policy.bounded + c->bounded, true},
      {"ppo/first_ratio_error", u->first_ratio_error, !u->critic_alone},
      {"ppo/value_loss", v->loss / value, value > 0},
      {"ppo/value_clip_fraction", v->clipped / value, value > 0},
      {"ppo/cost_value_loss", of_costs->loss / value, c->cost_critic && value > 0},
      {"ppo/cost_value_clip_fraction", of_costs->clipped / value, c->cost_critic && value > 0},
      {"ppo/ptx_loss", u->ptx_loss / u->ptx_tokens, u->ptx_tokens > 0},
      {"ppo/steps", u->steps, true},
      {"train/grad_norm", u->actor_norm / u->steps, u->steps > 0 && !u->critic_alone},
      {"train/critic_grad_norm", u->critic_norms[CRITIC_OF_REWARDS] / u->steps, c->critic && u->steps > 0},
      {"train/cost_critic_grad_norm", u->critic_norms[CRITIC_OF_COSTS] / u->steps,
       c->cost_critic && u->steps > 0},
      {"train/lr", report->lr, true},
      {"train/critic_lr", report->critic_lr, c->critic},
      {"train/tokens_per_second", report->tokens_per_second, true},
      {"ppo/updates_per_second", 1 / report->seconds, true},
  };
  for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
    if (metrics[i].known) runlog_metric(log, step, metrics[i].name, metrics[i].value);
  }
}

void report_against(UpdateReport *report, const Experience *experience) {
  const int64_t prompts = experience->count / experience->against_each;
  report->against = true;
  for (int64_t p = 0; p < prompts; p++) report->reference_score += experience->against[p] / (double)prompts;
}

void report_heldout(UpdateReport *report, const Scoring *scoring, int64_t count) {
  report->heldout_count = scoring_heldout_count(scoring);
  for (int i = 0; i < report->heldout_count; i++) {
    double sum = 0, squares = 0;
    for (int64_t e = 0; e < count; e++) sum += scoring_heldout_score(scoring, i, e);
    const double mean = sum / (double)count;
    for (int64_t e = 0; e < count; e++) {
      const double off = scoring_heldout_score(scoring, i, e) - mean;
      squares += off * off;
    }
    report->heldout[i] = (Heldout){scoring_heldout_name(scoring, i), mean, sqrt(squares / (double)count)};
  }
}

typedef struct RewardLog {
  RunLog *log;
  int64_t step;
} RewardLog;

static void log_mean(void *context, const char *name, bool cost, double sum, double answers) {
  const RewardLog *to = context;
  char metric[200];
  snprintf(metric, sizeof metric, "ppo/%s/%s", cost ? "cost" : "reward", name);
  if (answers > 0) runlog_metric(to->log, to->step, metric, sum / answers);
}

void report_rewards(RunLog *log, int64_t step, const Scoring *scoring, int64_t count) {
  RewardLog to = {log, step};
  scoring_means(scoring, count, log_mean, &to);
}

bool report_samples(RunLog *log, int64_t step, const Experience *experience, const Scoring *scoring,
                    const Tokenizer *tokenizer, int64_t count, Error *error) {
  Buffer text = {0}, parts = {0};
  bool ok = true;
  for (int64_t e = 0; ok && e < count && e < experience->count; e++) {
    const RolloutSample *sample = &experience->samples[e];
    double kl = 0;
    for (int32_t t = experience->offsets[e]; t < experience->offsets[e + 1]; t++) {
      kl += (double)experience->logprob[t] - experience->reference[t];
    }
    buffer_clear(&text);
    buffer_clear(&parts);
    ok = tokenizer_decode(tokenizer, sample->response, (size_t)sample->length, true, &text, error) &&
         scoring_detail(scoring, e, &parts, error);
    if (!ok) break;
    runlog_sample(log, step,
                  &(RunLogSample){.prompt = experience->prompts[e].prompt,
                                  .prompt_bytes = experience->prompts[e].prompt_bytes,
                                  .response = text.data ? text.data : "",
                                  .response_bytes = text.size,
                                  .prompt_ids = sample->prompt,
                                  .response_ids = sample->response,
                                  .prompt_length = sample->prompt_length,
                                  .reward = experience->total[e],
                                  .parts = parts.data,
                                  .kl = kl,
                                  .length = sample->length,
                                  .finished = rollout_ended(sample)});
  }
  buffer_free(&text);
  buffer_free(&parts);
  return ok;
}
