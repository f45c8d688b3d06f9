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

/* A minibatch on its way through the models. */
typedef struct Minibatch {
  const Experience *experience;
  const PpoWorkers *workers;
  double tokens; /* of the answers of all ranks */
  double weight; /* of a term of the policy's loss */
  double kl_coef;
  Learnt learnt;
} Minibatch;

/* What one model learns of the micro-batch that is filled in; returns its loss so far. */
typedef double LearnPart(Minibatch *minibatch, int k, bool last);

static double learn_as_actor(Minibatch *m, int k, bool last) {
  (void)k;
  learn_policy(m->experience, m->workers, m->kl_coef, m->weight, last, &m->learnt.policy);
  return m->learnt.policy.loss;
}

static double learn_as_critic(Minibatch *m, int k, bool last) {
  const CriticView critic = experience_critic(m->experience, m->workers, k);
  learn_value(&critic, m->workers, 1 / m->tokens, last, &m->learnt.values[k]);
  return m->learnt.values[k].loss;
}

/* Gradients of one model, all micro-batches. certain: its step follows, and nothing is added before it. */
static void accumulate(Minibatch *m, LearnPart *learn, int k, Trainee *trainee, bool certain) {
  const PpoWorkers *workers = m->workers;
  Microbatch *micro = workers->micro;
  const int own = micro->packer.plan.count, passes = trainee_passes(trainee, workers->compute, own);
  /* The part of a rank that has no tokens left where others have. */
  for (int i = own; i < passes; i++)
    trainee_stand_by(trainee, workers->compute, certain && own == 0 && i + 1 == passes);
  for (int i = 0; i < own; i++) {
    microbatch_fill(micro, i, m->experience->samples, m->experience->offsets);
    const size_t mark = arena_mark(workers->step);
    const double loss = learn(m, k, certain && i + 1 == own);
    arena_release(workers->step, mark);
    if (!*m->learnt.broken && !isfinite(loss)) note_broken(m->experience, workers, m->learnt.broken);
  }
}

/* Divides the answers over ranks and micro-batches, for actor and critics alike. */
static bool minibatch_begin(Minibatch *m, const Experience *experience, const PpoWorkers *workers,
                            const Members *members, UpdateState *state, Error *error) {
  Microbatch *micro = workers->micro;
  *m = (Minibatch){.experience = experience, .workers = workers, .kl_coef = state->kl_coef};
  for (int64_t i = 0; i < members->count; i++)
    m->tokens += (double)experience->samples[members->answers[i]].length;
  m->weight = loss_weight(loss_mean(&workers->config->ppo), (double)members->all, m->tokens,
                          workers->config->rollout.max_new_tokens);
  micro->draw = (uint64_t)state->draws;
  state->draws += members->count;
  return microbatch_plan_share(micro, experience->samples, members->answers, members->count,
                               &workers->compute->comm, error);
}

static bool finite_loss(const char *name, double loss, const char *where, Error *error) {
  if (isfinite(loss)) return true;
  return error_set(error, ERROR_MODEL, "the %s loss is %s%s", name, isnan(loss) ? "NaN" : "infinite", where);
}

/* The rest of a minibatch is left out, with the gradients of who was learning. */
static bool leave_out(const PpoWorkers *workers, Trainee *trainee, const UpdateState *state, const Error *why,
                      Error *error) {
  trainee_zero_gradients(trainee, workers->compute);
  return workers->run ? run_skip(workers->run, state->rollout + 1, why->message, error)
                      : error_set(error, why->code, "%s", why->message);
}

/* What became of a model's part. */
typedef enum Outcome { OUTCOME_STEP, OUTCOME_LEFT_OUT, OUTCOME_STOPPED, OUTCOME_ERROR } Outcome;

static Outcome left_out(const PpoWorkers *workers, Trainee *trainee, const UpdateState *state,
                        const Error *why, Error *error) {
  return leave_out(workers, trainee, state, why, error) ? OUTCOME_LEFT_OUT : OUTCOME_ERROR;
}

/* Passes of the actor and its step. None is taken when the policy has already moved further from the one that sampled than target_kl
 * allows. */
static Outcome actor_part(Minibatch *m, Ptx *ptx, const Members *members, UpdateState *state,
                          UpdateStats *stats, double *ptx_loss, double *ptx_tokens, double *norm,
                          Error *error) {
  const PpoWorkers *workers = m->workers;
  Compute *compute = workers->compute;
  Trainee *actor = &workers->models->actor;
  const double target_kl = workers->config->ppo.target_kl;
  PolicyStats *policy = &m->learnt.policy;
  char *broken = m->learnt.broken;
  Error why = {0};
  accumulate(m, learn_as_actor, 0, actor, target_kl <= 0 && !ptx);
  comm_sum(&compute->comm, policy->sums, POLICY_SUMS);
  if (!isfinite(policy->loss) && !ranks_first_text(&compute->comm, broken, BROKEN_PLACE, error))
    return OUTCOME_ERROR;
  if (!finite_loss("policy", policy->loss, broken, &why)) return left_out(workers, actor, state, &why, error);
  if (stats->steps == 0) stats->first_ratio_error = sqrt(2 * policy->approx_kl / policy->tokens);
  if (target_kl > 0 && policy->approx_kl / policy->tokens > target_kl) {
    trainee_zero_gradients(actor, compute);
    return OUTCOME_STOPPED;
  }
  if (ptx) {
    if (!ptx_accumulate(ptx, members->all, actor, workers->policy_pass,
                        training_mode(&workers->config->model), &state->draws, compute, workers->step,
                        ptx_loss, ptx_tokens, error)) {
      return OUTCOME_ERROR;
    }
    if (ptx->broken) microbatches_place(ptx->broken, &ptx->data, broken, BROKEN_PLACE);
    if (!isfinite(*ptx_loss) && !ranks_first_text(&compute->comm, broken, BROKEN_PLACE, error))
      return OUTCOME_ERROR;
    if (!finite_loss("ptx", *ptx_loss, broken, &why)) return left_out(workers, actor, state, &why, error);
  }
  return trainee_step(actor, compute, state->lr, norm, &why) ? OUTCOME_STEP
                                                             : left_out(workers, actor, state, &why, error);
}

/* Passes of critic k and its step. */
static Outcome critic_part(Minibatch *m, int k, UpdateState *state, double *norm, Error *error) {
  static const char *const losses[MOST_CRITICS] = {
      [CRITIC_OF_REWARDS] = "value", [CRITIC_OF_COSTS] = "costs' value"};
  const PpoWorkers *workers = m->workers;
  Compute *compute = workers->compute;
  Trainee *critic = &workers->models->critics[k];
  ValueStats *values = &m->learnt.values[k];
  Error why = {0};
  accumulate(m, learn_as_critic, k, critic, true);
  comm_sum(&compute->comm, values->sums, VALUE_SUMS);
  if (!isfinite(values->loss) && !ranks_first_text(&compute->comm, m->learnt.broken, BROKEN_PLACE, error))
    return OUTCOME_ERROR;
  if (!finite_loss(losses[k], values->loss, m->learnt.broken, &why))
    return left_out(workers, critic, state, &why, error);
  return trainee_step(critic, compute, state->critic_lr, norm, &why)
             ? OUTCOME_STEP
             : left_out(workers, critic, state, &why, error);
}

/* One optimiser step of actor and critics. */
static Outcome minibatch(Experience *experience, const PpoWorkers *workers, Ptx *ptx, const Members *members,
                         UpdateState *state, UpdateStats *stats, Error *error) {
  const int critics = workers->models->critic_count;
  double ptx_loss = 0, ptx_tokens = 0, norms[1 + MOST_CRITICS] = {0};
  Minibatch m;
  if (!minibatch_begin(&m, experience, workers, members, state, error)) return OUTCOME_ERROR;
  Outcome outcome = OUTCOME_STEP;
  if (actor_learns(workers, state))
    outcome = actor_part(&m, ptx, members, state, stats, &ptx_loss, &ptx_tokens, &norms[0], error);
  for (int k = 0; outcome == OUTCOME_STEP && k < critics; k++)
    outcome = critic_part(&m, k, state, &norms[1 + k], error);
  if (outcome != OUTCOME_STEP) return outcome;
  stats->ptx_loss += ptx_loss;
  stats->ptx_tokens += ptx_tokens;
  stats_add(stats->policy.sums, m.learnt.policy.sums, POLICY_SUMS);
  stats->actor_norm += norms[0];
  for (int k = 0; k < critics; k++) {
    stats_add(stats->values[k].sums, m.learnt.values[k].sums, VALUE_SUMS);
    stats->critic_norms[k] += norms[1 + k];
  }
  stats->steps++;
  return outcome;
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
      progress_phase(workers->progress, "pass %" PRId64 " of %" PRId64 ", minibatch %" PRId64 "/%" PRId64,
                     epoch + 1, ppo->epochs, m + 1, ppo->minibatches);
      const Members members = members_of(experience, experience->order + m * size, size);
      stats->empty += members.count == 0;
      if (members.count == 0) continue;
      const Outcome outcome = minibatch(experience, workers, ptx, &members, state, stats, error);
      stats->stopped = outcome == OUTCOME_STOPPED;
      if (outcome == OUTCOME_ERROR) return false;
      if (stats->stopped) return true;
    }
  }
  return true;
}

/* A step of a dry run, whose gradients are zero. */
static void plan_step(Trainee *trainee, const PpoWorkers *workers) {
  double norm;
  Error none = {0};
  const bool stepped = trainee_step(trainee, workers->compute, 0, &norm, &none);
  ASSERT(stepped);
}

void update_plan(const Experience *dry, const PpoWorkers *workers, Ptx *ptx) {
  Trainee *actor = &workers->models->actor;
  const size_t mark = arena_mark(workers->step);
  microbatch_dry(workers->micro);
  learn_policy(dry, workers, 1, 1, true, NULL);
  arena_release(workers->step, mark);
  if (ptx) {
    ptx_plan(ptx, actor, workers->policy_pass, training_mode(&workers->config->model), workers->compute,
             workers->step);
  }
  plan_step(actor, workers);
  for (int k = 0; k < workers->models->critic_count; k++) {
    const CriticView critic = experience_critic(dry, workers, k);
    learn_value(&critic, workers, 1, true, NULL);
    arena_release(workers->step, mark);
    plan_step(critic.trainee, workers);
  }
}
