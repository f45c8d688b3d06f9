#include "ppo/watch.h"

#include "ppo/reward.h"

static bool replaces_scores(const PpoConfig *config) {
  return config->ppo.missing_eos == MISSING_EOS_REPLACE;
}

/* `generate` stops at all of them too, so an answer that ends with any has ended. */
static void tell_ends(const TextTools *text, Log *log) {
  int ends[TEXT_MAX_ENDS];
  const int count = text_tools_ends(text, ends), mark = text_tools_mark(text);
  for (int i = 0; mark >= 0 && i < count; i++) {
    if (ends[i] == mark) continue;
    log_info(log, "answers may end with %s too; the reward model learnt from answers that end with %s",
             tokenizer_token(text->tokenizer, ends[i]), tokenizer_token(text->tokenizer, mark));
  }
}

void watch_begin(const PpoConfig *config, const Scoring *scoring, const TextTools *text, Log *log) {
  tell_ends(text, log);
  if (replaces_scores(config) && !scoring_zero_known(scoring, false)) {
    log_warning(log,
                "the reward model has no zero point: its scores may lie anywhere, and %g for an answer that "
                "does not end (ppo.missing_eos replace) may be the best of them. Train it with "
                "data.reference, or give ppo.missing_eos subtract",
                -config->ppo.missing_eos_penalty);
  }
  if (scoring->has_costs && !scoring_zero_known(scoring, true)) {
    log_warning(log,
                "the cost model has no zero point: its scores may lie anywhere, and cost.threshold %g may be "
                "what no answer "
                "or every answer costs. Train it with data.reference",
                config->cost.rule.threshold);
  }
}

static void watch_ending(Watch *watch, int64_t step, const PpoConfig *config, const ExperienceStats *x,
                         Log *log) {
  const double instead = -config->ppo.missing_eos_penalty;
  if (watch->ending_hurts || !replaces_scores(config) || !(x->ended_score < instead)) return;
  watch->ending_hurts = true;
  log_warning(log,
              "update %lld: answers that end have a mean score of %.3g, those that do not get %g "
              "(ppo.missing_eos replace): the policy is taught not to end. Train the reward model with "
              "data.reference, or give ppo.missing_eos subtract",
              (long long)step, x->ended_score, instead);
}

static void watch_groups(Watch *watch, int64_t step, const Credit *credit, Log *log) {
  if (watch->flat || !(credit->groups > 0) || credit->flat_groups < credit->groups) return;
  watch->flat = true;
  log_warning(log,
              "update %lld: the answers to each prompt were all judged the same, for every prompt "
              "(ppo/flat_group_rate): there is nothing to learn of them but to stay near the reference",
              (long long)step);
}

static void watch_refill(Watch *watch, int64_t step, const PpoConfig *config, const UpdateReport *report,
                         Log *log) {
  const Credit *credit = &report->credit;
  if (watch->refill || !report->refills || !(credit->flat_groups > 0)) return;
  watch->refill = true;
  log_warning(log,
              "update %lld: after %lld rounds of further prompts (ppo.refill_rounds) the answers to %.0f of "
              "%.0f prompts are still "
              "judged the same, and their places stay empty (ppo/flat_group_rate)",
              (long long)step, (long long)config->ppo.refill_rounds, credit->flat_groups, credit->groups);
}

static void watch_left_out(Watch *watch, int64_t step, const ExperienceStats *x, const Credit *credit,
                           Log *log) {
  if (watch->left_out || !(credit->left_out > 0) || credit->left_out < x->answers) return;
  watch->left_out = true;
  log_warning(log,
              "update %lld made no step: every answer is left out (ppo.mask_cut, ppo.drop_flat_groups; "
              "ppo/left_out_rate)",
              (long long)step);
}

static void watch_steps(Watch *watch, int64_t step, const PpoConfig *config, const UpdateStats *u, Log *log) {
  watch->updates++;
  if (!u->stopped || u->steps > 0 || watch->without_step++ > 0) return;
  log_warning(log,
              "update %lld made no step: its first minibatch is %.2g nats per token from the policy that "
              "sampled, before anything was learnt, and ppo.target_kl is %g%s",
              (long long)step, 0.5 * u->first_ratio_error * u->first_ratio_error, config->ppo.target_kl,
              config->lora.enabled && config->lora.dropout > 0 ? " (lora.dropout does that)" : "");
}

/* As large as it may be, and not large enough. */
static void watch_costs(Watch *watch, int64_t step, const PpoConfig *config, const UpdateReport *report,
                        Log *log) {
  const CostRule *rule = &config->cost.rule;
  const CostReport *cost = &report->cost;
  if (watch->costs || !cost->any || cost->lambda < rule->most || !(report->rollout.cost > rule->threshold))
    return;
  watch->costs = true;
  log_warning(log,
              "update %lld: answers cost %.3g on average, above cost.threshold %g, and the multiplier is at "
              "cost.lambda_max %g: the constraint does not hold",
              (long long)step, report->rollout.cost, rule->threshold, rule->most);
}

void watch_update(Watch *watch, int64_t step, const PpoConfig *config, const UpdateReport *report, Log *log) {
  watch_ending(watch, step, config, &report->rollout, log);
  watch_groups(watch, step, &report->credit, log);
  watch_refill(watch, step, config, report, log);
  watch_left_out(watch, step, &report->rollout, &report->credit, log);
  watch_steps(watch, step, config, &report->update, log);
  watch_costs(watch, step, config, report, log);
}

void watch_end(const Watch *watch, Log *log) {
  if (watch->without_step == 0) return;
  log_warning(log, "%lld of %lld updates made no step: ppo.target_kl stopped each at its first minibatch",
              (long long)watch->without_step, (long long)watch->updates);
}
