#include "ppo/stage.h"

#include "train/examples.h"

#include "base/memory.h"
#include "ppo/estimator.h"
#include "ppo/report.h"
#include "ppo/session.h"
#include "ppo/watch.h"
#include "train/summary.h"
#include "train/trend.h"

#include <string.h>

static RolloutSpec rollout_spec(const PpoSession *s) {
  const RolloutConfig *rollout = &s->config.rollout;
  return (RolloutSpec){.seed = (uint64_t)s->config.run.seed,
                       .temperature = (float)rollout->temperature,
                       .top_p = (float)rollout->top_p,
                       .top_k = (int)rollout->top_k,
                       .repetition_penalty = (float)rollout->repetition_penalty,
                       .min_new_tokens = rollout->min_new_tokens,
                       .eos_ids = s->ends,
                       .eos_count = (size_t)s->end_count,
                       .tokenizer = s->text.tokenizer,
                       .stops = (const char *const *)rollout->stop.items,
                       .stop_count = rollout->stop.count};
}

/* -- one update: the algorithm ---------------------------------------------------------------------------- */

static int64_t prompts_of_rollout(const PpoSession *s) {
  return s->config.ppo.batch_size / s->config.ppo.samples_per_prompt;
}

/* How many answers to a prompt are scored against its reference answer: 0 where none are. */
static int64_t against_each(const PpoSession *s, int64_t each) {
  return s->config.ppo.sigmoid_scores ? each : 0;
}

/* What the reference answer to each prompt of the rollout to come is scored. */
static bool score_references(PpoSession *s, const PpoWorkers *workers, Error *error) {
  Experience *x = &s->experience;
  if (!s->config.ppo.sigmoid_scores) return true;
  const int mark = text_tools_mark(&s->text);
  experience_begin(x, workers);
  for (int64_t i = 0; i < prompts_of_rollout(s); i++) {
    const Example prompt = dataset_example(&s->prompts, s->picks[i]);
    experience_add(x, &prompt,
                   experience_reference + (uint64_t)(s->episodes + i * s->config.ppo.samples_per_prompt));
  }
  if (!experience_recite(x, s->text.tokenizer, mark >= 0 ? mark : s->ends[0], error) ||
      !experience_score(x, workers, error))
    return false;
  memcpy(x->against, x->score, (size_t)x->count * sizeof *x->against);
  return true;
}

/* One greedy answer to each prompt of the rollout to come, and what it is judged. It draws no random numbers. */
static bool sample_baseline(PpoSession *s, const PpoWorkers *workers, RolloutSpec spec, Error *error) {
  Experience *x = &s->experience;
  if (s->config.ppo.advantage != ESTIMATOR_REMAX) return true;
  spec.temperature = 0;
  experience_begin(x, workers);
  x->against_each = against_each(s, 1);
  for (int64_t i = 0; i < prompts_of_rollout(s); i++) {
    const Example prompt = dataset_example(&s->prompts, s->picks[i]);
    experience_add(x, &prompt,
                   experience_greedy + (uint64_t)(s->episodes + i * s->config.ppo.samples_per_prompt));
  }
  if (!experience_sample(x, workers, &spec, error) || !experience_score(x, workers, error)) return false;
  memcpy(x->baseline, x->judged, (size_t)x->count * sizeof *x->baseline);
  memcpy(x->baseline_cost, x->cost, (size_t)x->count * sizeof *x->baseline_cost);
  return true;
}

/* The next `count` of them, which are in s->picks, each as often as it is answered. */
static void add_prompts(PpoSession *s, int64_t count) {
  const int64_t each = s->config.ppo.samples_per_prompt;
  for (int64_t i = 0; i < count; i++) {
    const Example prompt = dataset_example(&s->prompts, s->picks[i]);
    for (int64_t k = 0; k < each; k++) experience_add(&s->experience, &prompt, (uint64_t)s->episodes++);
  }
}

/* A signal, or a judge that fails, loses nothing that was learned. Always false. */
static bool save_and_end(PpoSession *s, Error *error) {
  Error failure = {0};
  const bool stopped = error_is_signal(error);
  if (!stopped && error->code != ERROR_DATA) return false;
  const bool saved = run_save(&s->run, s->updates, session_state, s, &s->compute, &failure);
  if (stopped && saved) run_interrupted_saved(&s->run, error);
  if (stopped && !saved) *error = failure;
  return false;
}

/* A rollout that nothing is learned from yet is given up, and will be made again: the run stands where it stood before it. */
static bool give_up(PpoSession *s, DataCursor cursor, int64_t episodes, Error *error) {
  s->cursor = cursor;
  s->episodes = episodes;
  return save_and_end(s, error);
}

/* Whether the policy learns from the next rollout: the critic may be alone at first. */
static bool policy_learns(const PpoSession *s) {
  return s->models.critic_count == 0 || s->updates >= s->config.ppo.critic_warmup;
}

/* Moves lambda by what the answers cost, before they are learnt from. */
static CostReport weigh_costs(PpoSession *s) {
  const Experience *x = &s->experience;
  if (!s->scoring.has_costs) return (CostReport){0};
  cost_controller_update(&s->cost, x->cost, x->count, s->updates, policy_learns(s));
  return (CostReport){.any = true,
                      .safe = cost_safe_share(x->cost, x->count, s->cost.rule.threshold),
                      .lambda = s->cost.lambda};
}

static bool refills(const PpoAlgorithm *ppo) {
  return ppo->refill_rounds > 0 && ppo->drop_flat_groups && estimator_has_groups((Estimator)ppo->advantage);
}

/* Further prompts in the place of those whose answers teach nothing, as long as there are such and rounds are left (Yu et al. 2025, "DAPO", eq.
 * 11). *refilled: how many. */
static bool refill(PpoSession *s, const PpoWorkers *workers, const RolloutSpec *spec, double *refilled,
                   Error *error) {
  Experience *x = &s->experience;
  for (int64_t round = 0; round < s->config.ppo.refill_rounds; round++) {
    const int64_t dropped = experience_drop_flat(x, workers, s->config.ppo.samples_per_prompt);
    if (dropped == 0) return true;
    *refilled += (double)dropped;
    data_order_take(&s->order, &s->cursor, (int)dropped, s->picks);
    add_prompts(s, dropped);
    if (!experience_sample(x, workers, spec, error) || !experience_score(x, workers, error)) return false;
  }
  return true;
}

/* All that is known of the rollout before anything is learnt from it. */
static bool roll_out(PpoSession *s, const PpoWorkers *workers, const RolloutSpec *spec, double *refilled,
                     Error *error) {
  Experience *x = &s->experience;
  const bool early = refills(&s->config.ppo);
  data_order_take(&s->order, &s->cursor, (int)prompts_of_rollout(s), s->picks);
  if (!score_references(s, workers, error) || !sample_baseline(s, workers, *spec, error)) return false;
  experience_begin(x, workers);
  x->against_each = against_each(s, s->config.ppo.samples_per_prompt);
  add_prompts(s, prompts_of_rollout(s));
  if (!experience_sample(x, workers, spec, error)) return false;
  if (early && (!experience_score(x, workers, error) || !refill(s, workers, spec, refilled, error)))
    return false;
  /* Else scores last: whoever judges beside us does so meanwhile. */
  return experience_logprobs(x, workers, error) && experience_values(x, workers, error) &&
         (early || experience_score(x, workers, error));
}

static bool ppo_update(PpoSession *s, UpdateReport *report, Error *error) {
  const DataCursor cursor = s->cursor;
  const int64_t episodes = s->episodes;
  const double caution = run_caution(&s->run), kl_coef = s->kl.coef * caution;
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = rollout_spec(s);
  Experience *x = &s->experience;
  const double started = time_monotonic();

  run_signals_wait_for("the pass at hand, and this rollout will be made again");
  double refilled = 0;
  if (!roll_out(s, &workers, &spec, &refilled, error)) return give_up(s, cursor, episodes, error);
  run_signals_wait_for("the minibatches of this rollout");
  if (s->config.ppo.normalize_scores) s->scores = x->scores;
  const CostReport cost = weigh_costs(s);
  *report = (UpdateReport){
      .cost = cost,
      .refills = refills(&s->config.ppo),
      .refilled = refilled,
      .rollout = experience_stats(x),
      .other_ends = experience_other_ends(x, s->end_count > 1 ? text_tools_mark(&s->text) : -1),
      .credit = experience_credit(x, &s->config.ppo, kl_coef, cost.lambda),
      .kl_coef = kl_coef,
      .lr = schedule_rate(&s->schedule, s->updates) / caution,
      .critic_lr = schedule_rate(&s->critic_schedule, s->updates) / caution};
  report_heldout(report, &s->scoring, x->count);
  if (x->against_each > 0) report_against(report, x);
  s->update.rollout = s->updates;
  s->update.lr = report->lr;
  s->update.critic_lr = report->critic_lr;
  s->update.kl_coef = report->kl_coef;
  memory_give_back(); /* of the rollout: these passes need the most */
  if (!update_from(x, &workers, session_ptx(s), &s->update, &report->update, error)) return false;
  ema_update(&s->ema, &s->compute);
  if (policy_learns(s)) kl_controller_update(&s->kl, report->rollout.kl, (int64_t)report->rollout.answers);
  s->updates++;
  moving_reference_follow(&s->reference, s->updates, &s->compute);

  report->seconds = time_monotonic() - started;
  report->tokens_per_second = report->rollout.tokens / report->seconds;
  return true;
}

/* -- evaluation ------------------------------------------------------------------------------------------- */

/* The temperature that evaluations sample at. */
static double evaluation_temperature(const RolloutConfig *rollout) {
  return rollout->eval_temperature < 0 ? rollout->temperature : rollout->eval_temperature;
}

/* Sums over the answers of a batch, of which the first is number `first`. *best: of the prompt at hand so far. */
static void add_answers(Evaluation *out, const Experience *x, const PpoSession *s, uint64_t first,
                        uint64_t each, double *best) {
  const Scoring *scoring = &s->scoring;
  const bool judged = scoring_heldout_count(scoring) > 0;
  const ExperienceStats stats = experience_stats(x);
  out->score += stats.answers * stats.score;
  out->kl += stats.answers * stats.kl;
  out->cost += stats.answers * stats.cost;
  out->safe += stats.answers * cost_safe_share(x->cost, x->count, s->cost.rule.threshold);
  out->length += stats.answers * stats.length;
  out->ended += stats.answers * stats.ended;
  for (int64_t e = 0; e < x->count; e++) {
    const uint64_t answer = first + (uint64_t)e;
    if (judged) out->heldout += scoring_heldout_score(scoring, 0, e);
    *best = answer % each == 0 ? x->score[e] : fmax(*best, x->score[e]);
    if (answer % each == each - 1) out->best += *best;
  }
}

/* Answers every prompt of data.eval rollout.eval_samples times, in batches; nothing is learnt. */
static bool evaluate(PpoSession *s, Evaluation *out, Error *error) {
  PpoWorkers workers = session_workers(s);
  PpoConfig config = s->config;
  RolloutSpec spec = rollout_spec(s);
  const double temperature = evaluation_temperature(&config.rollout);
  spec.temperature = (float)temperature;
  config.rollout.temperature =
      temperature > 0 ? temperature : 1; /* of log-probabilities, those of greedy answers too */
  workers.config = &config;
  workers.run = NULL; /* it is carried to its end: a resumed run would not make it again */
  run_signals_wait_for("the evaluation at hand");
  Experience *x = &s->experience;
  const uint64_t each = (uint64_t)config.rollout.eval_samples, all = s->eval.count * each;
  double best = 0;
  *out = (Evaluation){0};
  for (uint64_t begin = 0; begin < all; begin += (uint64_t)x->capacity) {
    experience_begin(x, &workers);
    for (uint64_t i = begin; i < all && x->count < x->capacity; i++) {
      const Example prompt = dataset_example(&s->eval, dataset_reference(&s->eval, i / each));
      experience_add(x, &prompt, experience_evaluation + i);
    }
    if (!experience_sample(x, &workers, &spec, error) || !experience_logprobs(x, &workers, error) ||
        !experience_score(x, &workers, error)) {
      return false;
    }
    add_answers(out, x, s, begin, each, &best);
  }
  out->score /= (double)all;
  out->cost /= (double)all;
  out->safe /= (double)all;
  out->kl /= (double)all;
  out->length /= (double)all;
  out->ended /= (double)all;
  out->heldout /= (double)all;
  out->best /= (double)s->eval.count;
  return true;
}

/* What run.keep_best may go by. The coefficients are those of the configuration, so that evaluations can be compared: of the KL, and of what the
 * cost is above its threshold the most that lambda becomes. */
static bool measure(PpoSession *s, const Evaluation *found, Error *error) {
  const CostRule *rule = &s->cost.rule;
  const double excess = s->scoring.has_costs ? rule->most * fmax(0, found->cost - rule->threshold) : 0;
  const double measures[PPO_MEASURES] = {
      [PPO_REWARD] = found->score - s->config.ppo.kl_coef * found->kl - excess,
      [PPO_SCORE] = found->score,
      [PPO_HELDOUT] = found->heldout,
  };
  runlog_metric(&s->run.runlog, s->updates, "eval/reward", measures[PPO_REWARD]);
  if (scoring_heldout_count(&s->scoring) > 0)
    runlog_metric(&s->run.runlog, s->updates, "eval/heldout", found->heldout);
  return run_judged(&s->run, s->updates, measures, error);
}

/* Of the present policy, into s->evaluation. */
static bool evaluate_and_log(PpoSession *s, Error *error) {
  Evaluation *out = &s->evaluation;
  if (!s->has_eval || s->evaluated == s->updates) return true;
  if (!evaluate(s, out, error)) return false;
  s->evaluated = s->updates;
  runlog_metric(&s->run.runlog, s->updates, "eval/score", out->score);
  if (s->config.rollout.eval_samples > 1)
    runlog_metric(&s->run.runlog, s->updates, "eval/score_best", out->best);
  if (s->scoring.has_costs) {
    runlog_metric(&s->run.runlog, s->updates, "eval/cost", out->cost);
    runlog_metric(&s->run.runlog, s->updates, "eval/safe_rate", out->safe);
  }
  runlog_metric(&s->run.runlog, s->updates, "eval/kl", out->kl);
  runlog_metric(&s->run.runlog, s->updates, "eval/length", out->length);
  runlog_metric(&s->run.runlog, s->updates, "eval/eos_rate", out->ended);
  char cost[40] = "";
  if (s->scoring.has_costs) snprintf(cost, sizeof cost, "  cost %.4f", out->cost);
  log_info(s->log, "eval at update %lld: score %.4f%s  kl %.3f  length %.1f  ended %.0f%%",
           (long long)s->updates, out->score, cost, out->kl, out->length, 100 * out->ended);
  return measure(s, out, error);
}

/* A RunKeep: of the actor as it is evaluated. */
static bool keep(void *session, const char *place, const char *about, Error *error) {
  PpoSession *s = session;
  return trainee_save_as(&s->models.actor, s->config.model.path, &s->text, place, about, &s->compute, error);
}

/* -- the run ---------------------------------------------------------------------------------------------- */

static bool heed(PpoSession *s, Error *error) {
  const int64_t before = s->updates;
  if (!run_heed_alarms(&s->run, s->updates, session_state, s, &s->compute, error)) return false;
  if (s->updates < before) s->evaluated = -1; /* the run has gone back */
  return true;
}

static bool after_update(PpoSession *s, Watch *watch, const UpdateReport *report, Error *error) {
  s->run.runlog.step = s->updates;
  watch_update(watch, s->updates, &s->config, report, s->log);
  ppo_alarms_update(&s->alarms, &s->run, s->updates, &s->config, report);
  if (run_log_due(&s->run, s->updates)) {
    report_metrics(&s->run.runlog, s->updates, report);
    report_rewards(&s->run.runlog, s->updates, &s->scoring, s->experience.count);
    if (!report_samples(&s->run.runlog, s->updates, &s->experience, &s->scoring, s->text.tokenizer,
                        s->config.ppo.samples_logged, error)) {
      return false;
    }
  }
  const bool last = s->updates == s->total_updates;
  if (run_eval_due(&s->run, s->updates) && !last && !evaluate_and_log(s, error))
    return save_and_end(s, error);
  return run_updated(&s->run, s->updates, last || run_has_waited(&s->run), session_state, s, &s->compute,
                     error) &&
         run_keep_best(&s->run, keep, s, error) && heed(s, error);
}

static bool train(PpoSession *s, Error *error) {
  Progress *progress = &s->run.progress;
  Trend score = {0};
  Watch watch = {0};
  progress_start(progress, s->log, "ppo", "update", s->updates, s->total_updates);
  bool learned = true; /* from the last rollout */
  while (s->updates < s->total_updates && !run_has_waited(&s->run)) {
    UpdateReport report;
    if (!ppo_update(s, &report, error)) {
      if (error_is_signal(error)) return false;
      return error_context(error, "update %lld (last good checkpoint: %s)", (long long)s->updates + 1,
                           s->run.last_checkpoint ? s->run.last_checkpoint : "none");
    }
    learned = report.update.steps > 0;
    char note[280], sampler[40] = "", fit[40] = "", cost[48] = "", more[32] = "";
    if (s->config.rollout.cache_dtype == CACHE_DTYPE_INT8 ||
        s->config.rollout.weights == SAMPLER_WEIGHTS_INT8)
      snprintf(sampler, sizeof sampler, "  sampler kl %.2g", report.rollout.sampler_kl);
    if (report.credit.critic) snprintf(fit, sizeof fit, "  ev %.2f", report.credit.explained_variance);
    if (report.cost.any)
      snprintf(cost, sizeof cost, "  cost %.3f x %.2f", report.rollout.cost, report.cost.lambda);
    if (report.refills) snprintf(more, sizeof more, "  refilled %.0f", report.refilled);
    snprintf(note, sizeof note,
             "score %.3f (%.3f)%s%s  kl %.3f%s  length %.1f  ended %.0f%%  clip %.0f%%%s  %.0f tokens/s",
             report.rollout.score, trend_add(&score, report.rollout.score), cost, more, report.rollout.kl,
             sampler, report.rollout.length, 100 * report.rollout.ended,
             100 * report.update.policy.clipped / fmax(1, report.update.policy.tokens), fit,
             report.tokens_per_second);
    progress_update(progress, s->updates, note);
    if (!after_update(s, &watch, &report, error)) return false;
  }
  progress_finish(progress);
  run_say_waited(&s->run);
  watch_end(&watch, s->log);
  return learned || run_check_learned(&s->run, s->updates, error);
}

/* The trained actor, and beside it the running mean of its weights. */
static bool save_result(PpoSession *s, char **path, Error *error) {
  const PpoConfig *config = &s->config;
  if (!trainee_save(&s->models.actor, config->model.path, &s->text, config->run.dir, &s->compute, path,
                    error))
    return false;
  if (!ema_is_on(&s->ema)) return true;
  char *directory = path_join(config->run.dir, "ema");
  if (!directory) return error_out_of_memory(error, "path", 0);
  ema_apply(&s->ema, &s->compute);
  const bool ok =
      (s->comm.rank > 0 || directory_create(directory, error)) &&
      trainee_save(&s->models.actor, config->model.path, &s->text, directory, &s->compute, NULL, error);
  memory_free(directory);
  return ok;
}

static bool write_json(const PpoSession *s, const char *path, ProgramResult *result, Error *error) {
  const Evaluation *last = &s->evaluation;
  bool ok = buffer_format(&result->json, error,
                          "{\"updates\": %lld, \"episodes\": %lld, \"output\": ", (long long)s->updates,
                          (long long)s->episodes) &&
            result_string(&result->json, path, error);
  if (ok && s->has_eval) {
    ok = buffer_format(
        &result->json, error,
        ", \"eval_score\": %.9g, \"eval_kl\": %.9g, \"eval_length\": %.9g, \"eval_eos_rate\": %.9g",
        last->score, last->kl, last->length, last->ended);
  }
  if (ok && s->has_eval && s->scoring.has_costs)
    ok = buffer_format(&result->json, error, ", \"eval_cost\": %.9g, \"eval_safe_rate\": %.9g", last->cost,
                       last->safe);
  return ok && run_best_result(&s->run, &result->json, error) && buffer_text(&result->json, "}", error);
}

static bool write_text(const PpoSession *s, const char *path, ProgramResult *result, Error *error) {
  static const SummaryFigure figures[] = {
      {"ppo/score", "score", 3, 0}, {"ppo/kl", "kl", 3, 0}, {"eval/score", "eval score", 3, 1}};
  return summary_write(&s->run, s->updates, figures, sizeof figures / sizeof *figures, &result->text,
                       error) &&
         buffer_format(&result->text, error, ": %s", path) && run_best_words(&s->run, &result->text, error) &&
         summary_try(s->config.model.path, path, s->models.actor.predictor.adapted, s->text.has_chat,
                     &result->text, error);
}

/* Files and result of what was learned, which one rank writes and others help with. */
static bool save(PpoSession *s, ProgramResult *result, Error *error) {
  char *path = NULL;
  bool ok = save_result(s, &path, error);
  engine_tell_preemptions(&s->engine, s->log);
  plan_report_graphs(&s->records, s->log);
  plan_report_peaks(&s->plan, &s->compute, s->log);
  if (s->comm.rank == 0) {
    ok = ok && write_json(s, path, result, error) && run_finish(&s->run, result->json.data, error) &&
         write_text(s, path, result, error);
  }
  memory_free(path);
  return ok;
}

static bool run_session(PpoSession *s, ProgramResult *result, Error *error) {
  const bool begins = s->updates == 0 && s->run.alarms.rollbacks == 0;
  if (begins && !evaluate_and_log(s, error)) return false;
  return run_keep_best(&s->run, keep, s, error) && heed(s, error) && train(s, error) &&
         evaluate_and_log(s, error) && run_keep_best(&s->run, keep, s, error) && save(s, result, error);
}

static bool prepare(void *session, Error *error) {
  return session_prepare(session, error);
}

static bool carry_out(void *session, ProgramResult *result, Error *error) {
  PpoSession *s = session;
  if (!session_allocate(s, error)) return false;
  base_say(&s->models.policy_base, s->log);
  session_describe(s);
  watch_begin(&s->config, &s->scoring, &s->text, s->log);
  if (!examples_keep("data.prompts", &s->prompts, &s->text, &s->run.runlog, error)) return false;
  run_best_begin(&s->run, ppo_measures,
                 BEST_MEASURES + (int)(scoring_heldout_count(&s->scoring) > 0 ? PPO_HELDOUT : PPO_REWARD));
  return run_load(&s->run, s->total_updates, session_state, s, &s->compute, error) &&
         run_session(s, result, error);
}

bool ppo_rules(const void *config, Error *error) {
  PpoSession session = {.config = *(const PpoConfig *)config, .comm = comm_single()};
  const bool ok = session_configure(&session, error);
  session_close(&session);
  return ok;
}

bool ppo_stage_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  static const Course course = {"ppo", prepare, carry_out};
  PpoSession session = {.config = *(const PpoConfig *)call->config,
                        .check = call->check,
                        .comm = call->comm ? *call->comm : comm_single(),
                        .log = call->log,
                        .evaluated = -1};
  const bool ok = session_configure(&session, error) &&
                  course_run(&course, &session, &session.run, &session.config.run, call, result, error);
  session_close(&session);
  return ok;
}
