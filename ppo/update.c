#include "ppo/update.h"

#include "ppo/estimator.h"
#include "train/ranks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static bool has_critic(const PpoWorkers *workers) {
  return workers->models->critic_count > 0;
}

/* The first updates may be the critic's alone. */
static bool actor_learns(const PpoWorkers *workers, const UpdateState *state) {
  return !has_critic(workers) || state->rollout >= workers->config->ppo.critic_warmup;
}

static LossMean loss_mean(const PpoAlgorithm *ppo) {
  return ppo->loss_mean == LOSS_MEAN_ESTIMATOR ? estimator_mean((Estimator)ppo->advantage)
                                               : (LossMean)ppo->loss_mean;
}

static PolicyRule policy_rule(const PpoAlgorithm *ppo, double kl_coef) {
  return (PolicyRule){.clip_low = ppo->cliprange,
                      .clip_high = ppo->cliprange_high > 0 ? ppo->cliprange_high : ppo->cliprange,
                      .dual_clip = ppo->dual_clip,
                      .kl_coef = ppo->kl_in == KL_IN_LOSS ? kl_coef : 0,
                      .ratio = (PolicyRatio)ppo->ratio};
}

/* The actor's half of a micro-batch: gradient of the clipped surrogate, of a KL in the loss, and of the entropy bonus. */
static void learn_policy(const Experience *experience, const PpoWorkers *workers, double kl_coef,
                         double weight, bool last, PolicyStats *stats) {
  const PpoAlgorithm *ppo = &workers->config->ppo;
  const float temperature = (float)workers->config->rollout.temperature;
  Trainee *actor = &workers->models->actor;
  Microbatch *micro = workers->micro;
  Pass *pass = workers->policy_pass;
  const TokenRows tokens = microbatch_rows(micro);

  pass_forward(pass, workers->compute, actor->predictor.model, predictor_adapter(&actor->predictor),
               &micro->packer.batch, training_mode(&workers->config->model), workers->step);
  lm_logprobs(pass, tokens, temperature, micro->packer.values, NULL);
  microbatch_gather(micro, experience->logprob, micro->old);
  microbatch_gather(micro, experience->advantage, micro->target);
  const PolicyRule rule = policy_rule(ppo, kl_coef);
  if (rule.kl_coef > 0) microbatch_gather(micro, experience->reference, micro->reference);
  policy_loss(&rule,
              &(PolicyTokens){.count = tokens.count,
                              .logprob = micro->packer.values,
                              .old = micro->old,
                              .advantage = micro->target,
                              .reference = micro->reference,
                              .length = micro->length},
              weight, micro->packer.slopes, stats);
  const bool bonus = ppo->entropy_coef > 0;
  if (bonus) entropy_bonus(tokens.count, ppo->entropy_coef, weight, micro->entropy_slope);
  if (loss_mean(ppo) == LOSS_MEAN_ANSWER) {
    slopes_by_answer(micro->packer.slopes, micro->length, tokens.count);
    if (bonus) slopes_by_answer(micro->entropy_slope, micro->length, tokens.count);
  }
  lm_logprobs_backward(pass, tokens, temperature, micro->packer.slopes, bonus ? micro->entropy_slope : NULL,
                       NULL);
  trainee_backward(actor, pass, last);
}

/* A critic's half: gradient of the clipped square. */
static void learn_value(const CriticView *critic, const PpoWorkers *workers, double weight, bool last,
                        ValueStats *stats) {
  const Predictor *predictor = &critic->trainee->predictor;
  Microbatch *micro = workers->micro;
  Pass *pass = critic->pass;
  const TokenRows tokens = packer_rows(&micro->packer);

  pass_forward(pass, workers->compute, predictor->model, predictor_adapter(predictor), &micro->packer.batch,
               training_mode(&workers->config->model), workers->step);
  score_values(pass, &predictor->head, tokens, micro->packer.values);
  microbatch_gather(micro, critic->value, micro->old);
  microbatch_gather(micro, critic->returns, micro->target);
  value_loss(micro->packer.values, micro->old, micro->target, tokens.count,
             workers->config->ppo.cliprange_value, weight, micro->packer.slopes, stats);
  score_values_backward(pass, &predictor->head, tokens, micro->packer.slopes);
  trainee_backward(critic->trainee, pass, last);
}

/* Text that says where a loss stopped being finite. */
enum { BROKEN_PLACE = 400 };

/* A number of the rollout that is not finite is the cause, and has spread by now if advantages are whitened; else it is what
 * the model says of the micro-batch at hand. */
static void note_broken(const Experience *experience, const PpoWorkers *workers, char out[BROKEN_PLACE]) {
  const Microbatch *micro = workers->micro;
  const char *what, *now = "";
  int64_t e = experience_broken(experience, &what);
  for (int64_t n = 0; e < 0 && n < micro->packer.row_count; n++) {
    if (isfinite(micro->packer.values[n])) continue;
    e = experience_answer(experience, micro->origin[n]);
    what = "answer";
    now = " as the weights are now";
  }
  if (e < 0) return;
  const Example *prompt = &experience->prompts[e];
  const int used = snprintf(out, BROKEN_PLACE, ", first at the %s of episode %" PRIu64 "%s", what,
                            experience->samples[e].number + 1, now);
  if (prompt->source < workers->prompts->source_count) {
    snprintf(out + used, (size_t)(BROKEN_PLACE - used), " (its prompt: %.280s:%" PRIu64 ")",
             workers->prompts->sources[prompt->source].path, prompt->line);
  }
}

/* Answers of a minibatch that are learnt from, and how many they are chosen of. */
typedef struct Members {
  const uint32_t *answers;
  int64_t count, all;
} Members;

/* Those that are not left out, moved to the front of `answers`. */
static Members members_of(const Experience *experience, uint32_t *answers, int64_t all) {
  Members members = {.answers = answers, .all = all};
  for (int64_t i = 0; i < all; i++)
    if (!experience->left_out[answers[i]]) answers[members.count++] = answers[i];
  return members;
}

/* What the passes of a minibatch come to. */
typedef struct Learnt {
  PolicyStats policy;
  ValueStats values[MOST_CRITICS];
  char broken[BROKEN_PLACE];
} Learnt;

/* The part of a rank that has no tokens left where others have. */
static void stand_by(const PpoWorkers *workers, const UpdateState *state, bool last) {
  if (actor_learns(workers, state)) trainee_stand_by(&workers->models->actor, workers->compute, last);
  for (int k = 0; k < workers->models->critic_count; k++)
    trainee_stand_by(&workers->models->critics[k], workers->compute, last);
}

/* Gradients of one minibatch, all micro-batches. certain: a step of all follows, and nothing is added before it. */
static bool accumulate(Experience *experience, const PpoWorkers *workers, const Members *members,
                       UpdateState *state, bool certain, Learnt *out, Error *error) {
  Microbatch *micro = workers->micro;
  const int critics = workers->models->critic_count;
  const Comm *comm = &workers->compute->comm;
  double tokens = 0; /* of all ranks */
  for (int64_t i = 0; i < members->count; i++)
    tokens += (double)experience->samples[members->answers[i]].length;
  const double weight = loss_weight(loss_mean(&workers->config->ppo), (double)members->all, tokens,
                                    workers->config->rollout.max_new_tokens);
  if (!microbatch_plan_share(micro, experience->samples, members->answers, members->count, comm, error))
    return false;
  micro->draw = (uint64_t)state->draws;
  state->draws += members->count;
  /* Actor and critics are divided alike. */
  const int own = micro->packer.plan.count,
            passes = trainee_passes(&workers->models->actor, workers->compute, own);
  for (int i = own; i < passes; i++) stand_by(workers, state, certain && own == 0 && i + 1 == passes);
  for (int i = 0; i < own; i++) {
    const bool last = certain && i + 1 == own;
    microbatch_fill(micro, i, experience->samples, experience->offsets);
    const size_t mark = arena_mark(workers->step);
    if (actor_learns(workers, state))
      learn_policy(experience, workers, state->kl_coef, weight, last, &out->policy);
    arena_release(workers->step, mark);
    if (!*out->broken && !isfinite(out->policy.loss)) note_broken(experience, workers, out->broken);
    for (int k = 0; k < critics; k++) {
      const CriticView critic = experience_critic(experience, workers, k);
      learn_value(&critic, workers, 1 / tokens, last, &out->values[k]);
      arena_release(workers->step, mark);
      if (!*out->broken && !isfinite(out->values[k].loss)) note_broken(experience, workers, out->broken);
    }
  }
  comm_sum(comm, out->policy.sums, POLICY_SUMS);
  bool finite = isfinite(out->policy.loss);
  for (int k = 0; k < critics; k++) {
    comm_sum(comm, out->values[k].sums, VALUE_SUMS);
    finite = finite && isfinite(out->values[k].loss);
  }
  return finite || ranks_first_text(comm, out->broken, BROKEN_PLACE, error);
}

static bool finite_loss(const char *name, double loss, const char *where, Error *error) {
  if (isfinite(loss)) return true;
  return error_set(error, ERROR_MODEL, "the %s loss is %s%s", name, isnan(loss) ? "NaN" : "infinite", where);
}

static void drop_gradients(const PpoWorkers *workers) {
  trainee_zero_gradients(&workers->models->actor, workers->compute);
  for (int k = 0; k < workers->models->critic_count; k++)
    trainee_zero_gradients(&workers->models->critics[k], workers->compute);
}

/* A minibatch that is left out. */
static bool leave_out(const PpoWorkers *workers, const UpdateState *state, const Error *why, Error *error) {
  drop_gradients(workers);
  return workers->run ? run_skip(workers->run, state->rollout + 1, why->message, error)
                      : error_set(error, why->code, "%s", why->message);
}

/* norms: of the actor's gradient, and of the critics'. */
static bool step_all(const PpoWorkers *workers, const UpdateState *state, bool actor_too,
                     double norms[1 + MOST_CRITICS], Error *why) {
  PpoModels *models = workers->models;
  bool ok = !actor_too || trainee_step(&models->actor, workers->compute, state->lr, &norms[0], why);
  for (int k = 0; ok && k < models->critic_count; k++)
    ok = trainee_step(&models->critics[k], workers->compute, state->critic_lr, &norms[1 + k], why);
  return ok;
}

/* One optimiser step of actor and critics. *stop is set, and no step taken, when the policy has already moved further
 * from the one that sampled than target_kl allows. */
static bool minibatch(Experience *experience, const PpoWorkers *workers, Ptx *ptx, const Members *members,
                      UpdateState *state, UpdateStats *stats, bool *stop, Error *error) {
  Trainee *actor = &workers->models->actor;
  const int critics = workers->models->critic_count;
  const double target_kl = workers->config->ppo.target_kl;
  Learnt learnt = {0};
  const PolicyStats *policy = &learnt.policy;
  Error why = {0};
  *stop = false;
  if (!accumulate(experience, workers, members, state, target_kl <= 0 && !ptx, &learnt, error)) return false;
  if (!finite_loss("policy", policy->loss, learnt.broken, &why) ||
      !finite_loss("value", learnt.values[CRITIC_OF_REWARDS].loss, learnt.broken, &why) ||
      !finite_loss("costs' value", learnt.values[CRITIC_OF_COSTS].loss, learnt.broken, &why)) {
    return leave_out(workers, state, &why, error);
  }
  const bool actor_too = actor_learns(workers, state);
  if (actor_too && stats->steps == 0) stats->first_ratio_error = sqrt(2 * policy->approx_kl / policy->tokens);
  *stop = target_kl > 0 && policy->approx_kl / policy->tokens > target_kl;
  if (*stop) {
    drop_gradients(workers);
    stats->stopped = true;
    return true;
  }
  double ptx_loss = 0, ptx_tokens = 0;
  if (ptx && actor_too) {
    if (!ptx_accumulate(ptx, members->all, actor, workers->policy_pass,
                        training_mode(&workers->config->model), &state->draws, workers->compute,
                        workers->step, &ptx_loss, &ptx_tokens, error)) {
      return false;
    }
    char *broken = learnt.broken;
    if (ptx->broken) microbatches_place(ptx->broken, &ptx->data, broken, BROKEN_PLACE);
    if (!isfinite(ptx_loss) && !ranks_first_text(&workers->compute->comm, broken, BROKEN_PLACE, error))
      return false;
    if (!finite_loss("ptx", ptx_loss, broken, &why)) return leave_out(workers, state, &why, error);
  }
  double norms[1 + MOST_CRITICS] = {0};
  if (!step_all(workers, state, actor_too, norms, &why)) return leave_out(workers, state, &why, error);
  stats->ptx_loss += ptx_loss;
  stats->ptx_tokens += ptx_tokens;
  stats_add(stats->policy.sums, policy->sums, POLICY_SUMS);
  stats->actor_norm += norms[0];
  for (int k = 0; k < critics; k++) {
    stats_add(stats->values[k].sums, learnt.values[k].sums, VALUE_SUMS);
    stats->critic_norms[k] += norms[1 + k];
  }
  stats->steps++;
  return true;
}

bool update_from(Experience *experience, const PpoWorkers *workers, Ptx *ptx, UpdateState *state,
                 UpdateStats *stats, Error *error) {
  const PpoAlgorithm *ppo = &workers->config->ppo;
  const RandomKey key = random_key((uint64_t)workers->config->run.seed, RANDOM_MINIBATCH);
  const int64_t size = experience->count / ppo->minibatches;
  *stats = (UpdateStats){.kl_in_loss = ppo->kl_in == KL_IN_LOSS && state->kl_coef > 0,
                         .critic_alone = !actor_learns(workers, state)};
  for (int64_t epoch = 0; epoch < ppo->epochs; epoch++) {
    random_permutation(key, (uint64_t)(state->rollout * ppo->epochs + epoch), experience->order,
                       (uint32_t)experience->count);
    for (int64_t m = 0; m < ppo->minibatches; m++) {
      bool stop;
      progress_phase(workers->progress, "pass %" PRId64 " of %" PRId64 ", minibatch %" PRId64 "/%" PRId64,
                     epoch + 1, ppo->epochs, m + 1, ppo->minibatches);
      const Members members = members_of(experience, experience->order + m * size, size);
      stats->empty += members.count == 0;
      if (members.count == 0) continue;
      if (!minibatch(experience, workers, ptx, &members, state, stats, &stop, error)) return false;
      if (stop) return true;
    }
  }
  return true;
}

void update_plan(const Experience *dry, const PpoWorkers *workers, Ptx *ptx) {
  const size_t mark = arena_mark(workers->step);
  microbatch_dry(workers->micro);
  learn_policy(dry, workers, 1, 1, true, NULL);
  arena_release(workers->step, mark);
  for (int k = 0; k < workers->models->critic_count; k++) {
    const CriticView critic = experience_critic(dry, workers, k);
    learn_value(&critic, workers, 1, true, NULL);
    arena_release(workers->step, mark);
  }
  if (ptx) {
    ptx_plan(ptx, &workers->models->actor, workers->policy_pass, training_mode(&workers->config->model),
             workers->compute, workers->step);
  }
  double norms[1 + MOST_CRITICS];
  Error none = {0};
  const bool stepped = step_all(workers, &(UpdateState){0}, true, norms, &none);
  ASSERT(stepped); /* the gradients of a dry run are zero */
}
