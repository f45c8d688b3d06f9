#include "ppo/experience.h"

#include "base/memory.h"
#include "ppo/advantage.h"
#include "ppo/estimator.h"
#include "ppo/kl.h"
#include "ppo/reward.h"

#include <math.h>

/* responses, and the arrays of experience_init. */
size_t experience_token_bytes(bool critic) {
  return (critic ? 10 : 8) * 4;
}

bool experience_init(Experience *experience, int64_t capacity, int64_t max_new_tokens, bool critic,
                     Error *error) {
  ASSERT(capacity * max_new_tokens <= INT32_MAX); /* ppo_config_check; offsets count them */
  *experience = (Experience){.capacity = capacity, .max_new_tokens = max_new_tokens};
  Experience *x = experience;
  const size_t answers = (size_t)capacity, tokens = answers * (size_t)max_new_tokens;
  float **by_answer[] = {&x->score, &x->judged, &x->total};
  float **by_token[] = {&x->sampled, &x->logprob,   &x->reference, &x->entropy, &x->kl,
                        &x->reward,  &x->advantage, &x->value,     &x->returns};
  const size_t arrays = sizeof by_token / sizeof *by_token - (critic ? 0 : 2);
  bool ok = (x->samples = memory_zeroed(answers, sizeof *x->samples)) &&
            (x->prompts = memory_zeroed(answers, sizeof *x->prompts)) &&
            (x->responses = memory_zeroed(tokens, sizeof *x->responses)) &&
            (x->offsets = memory_zeroed(answers + 1, sizeof *x->offsets)) &&
            (x->order = memory_zeroed(answers, sizeof *x->order));
  for (size_t i = 0; ok && i < sizeof by_answer / sizeof *by_answer; i++) {
    ok = (*by_answer[i] = memory_zeroed(answers, sizeof(float))) != NULL;
  }
  for (size_t i = 0; ok && i < arrays; i++) {
    ok = (*by_token[i] = memory_zeroed(tokens, sizeof(float))) != NULL;
  }
  if (ok) return true;
  experience_free(experience);
  return error_out_of_memory(error, "rollout arrays", experience_token_bytes(critic) * tokens);
}

void experience_free(Experience *experience) {
  Experience *x = experience;
  void *arrays[] = {x->samples, x->prompts, x->responses, x->sampled,   x->offsets,   x->order,
                    x->score,   x->judged,  x->total,     x->logprob,   x->reference, x->entropy,
                    x->value,   x->kl,      x->reward,    x->advantage, x->returns};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) memory_free(arrays[i]);
  *experience = (Experience){0};
}

void experience_clear(Experience *experience) {
  experience->count = experience->tokens = 0;
}

void experience_add(Experience *experience, const Example *prompt, uint64_t number) {
  ASSERT(experience->count < experience->capacity);
  const int64_t e = experience->count++;
  experience->prompts[e] = *prompt;
  experience->samples[e] = (RolloutSample){.prompt = prompt->ids,
                                           .prompt_length = prompt->count,
                                           .max_new_tokens = experience->max_new_tokens,
                                           .number = number,
                                           .response = experience->responses + e * experience->max_new_tokens,
                                           .logprobs = experience->sampled + e * experience->max_new_tokens};
}

/* False when a signal came. */
static bool goes_on(const PpoWorkers *workers, Error *error) {
  const int number = workers->run ? run_stop_signal() : 0;
  return number == 0 || run_interrupted_error(workers->run, number, error);
}

static bool generate(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                     Error *error) {
  Engine *engine = workers->engine;
  bool ok = engine_begin(engine, spec, experience->samples, experience->count, error);
  while (ok && engine_busy(engine)) ok = goes_on(workers, error) && engine_step(engine, error);
  if (!ok) engine_abandon(engine);
  return ok;
}

bool experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                       Error *error) {
  if (!generate(experience, workers, spec, error)) return false;
  for (int64_t e = 0; e < experience->count; e++) {
    experience->offsets[e + 1] = experience->offsets[e] + (int32_t)experience->samples[e].length;
  }
  experience->tokens = experience->offsets[experience->count];
  return true;
}

/* Calls `visit` for every micro-batch of the answers, packed. */
typedef void MicrobatchVisit(Experience *experience, const PpoWorkers *workers);

static bool each_microbatch(Experience *experience, const PpoWorkers *workers, MicrobatchVisit *visit,
                            Error *error) {
  Microbatch *micro = workers->micro;
  for (uint32_t e = 0; e < experience->count; e++) experience->order[e] = e;
  if (!microbatch_plan(micro, experience->samples, experience->order, experience->count, error)) return false;
  for (int i = 0; i < micro->packer.plan.count; i++) {
    if (!goes_on(workers, error)) return false;
    microbatch_fill(micro, i, experience->samples, experience->order, experience->offsets);
    const size_t mark = arena_mark(workers->step);
    visit(experience, workers);
    arena_release(workers->step, mark);
  }
  return true;
}

static void infer(Pass *pass, const PpoWorkers *workers, const Predictor *predictor) {
  pass_forward(pass, workers->compute, predictor->model, predictor_adapter(predictor),
               &workers->micro->packer.batch, PASS_INFERENCE, workers->step);
}

static void score_microbatch(Experience *experience, const PpoWorkers *workers) {
  const Packer *packer = &workers->micro->packer;
  const Predictor *reward = &workers->models->reward;
  infer(workers->reward_pass, workers, reward);
  score_values(workers->reward_pass, &reward->head, packer_last(packer), packer->values);
  /* The answers are worked through in their own order: an item is an answer. */
  for (int64_t k = 0; k < packer->count; k++) experience->score[packer->items[k]] = packer->values[k];
}

bool experience_score(Experience *experience, const PpoWorkers *workers, Error *error) {
  if (!each_microbatch(experience, workers, score_microbatch, error)) return false;
  const PpoAlgorithm *ppo = &workers->config->ppo;
  /* "replace" is told the score itself, "subtract" the amount. */
  const double penalty =
      ppo->missing_eos == MISSING_EOS_REPLACE ? -ppo->missing_eos_penalty : ppo->missing_eos_penalty;
  for (int64_t e = 0; e < experience->count; e++) {
    const bool ended = experience->samples[e].finished == ROLLOUT_EOS;
    const double clipped = reward_clip(experience->score[e], ppo->reward_clip);
    experience->judged[e] = (float)reward_missing_eos(clipped, ended, (MissingEos)ppo->missing_eos, penalty);
  }
  return true;
}

/* In the order of use: log-probabilities as they are while sampling, at the sampling temperature. */
static void recompute_logprobs(const PpoWorkers *workers, const Predictor *policy, float *logprob,
                               float *entropy) {
  const Microbatch *micro = workers->micro;
  const size_t mark = arena_mark(workers->step);
  infer(workers->policy_pass, workers, policy);
  lm_logprobs(workers->policy_pass, packer_rows(&micro->packer), (float)workers->config->rollout.temperature,
              micro->packer.values, entropy ? micro->entropy : NULL);
  microbatch_scatter(micro, micro->packer.values, logprob);
  if (entropy) microbatch_scatter(micro, micro->entropy, entropy);
  arena_release(workers->step, mark);
}

static void logprobs_microbatch(Experience *experience, const PpoWorkers *workers) {
  recompute_logprobs(workers, &workers->models->actor.predictor, experience->logprob, experience->entropy);
  recompute_logprobs(workers, &workers->models->reference, experience->reference, NULL);
}

static bool has_critic(const PpoAlgorithm *ppo) {
  return estimator_has_critic((Estimator)ppo->advantage);
}

static void values_microbatch(Experience *experience, const PpoWorkers *workers) {
  const Microbatch *micro = workers->micro;
  const Predictor *critic = &workers->models->critic.predictor;
  infer(workers->reward_pass, workers, critic);
  score_values(workers->reward_pass, &critic->head, packer_rows(&micro->packer), micro->packer.values);
  microbatch_scatter(micro, micro->packer.values, experience->value);
}

bool experience_logprobs(Experience *experience, const PpoWorkers *workers, Error *error) {
  return each_microbatch(experience, workers, logprobs_microbatch, error);
}

bool experience_values(Experience *experience, const PpoWorkers *workers, Error *error) {
  return !has_critic(&workers->config->ppo) || each_microbatch(experience, workers, values_microbatch, error);
}

int64_t experience_answer(const Experience *experience, int64_t token) {
  int64_t e = 0;
  while (e + 1 < experience->count && experience->offsets[e + 1] <= token) e++;
  return e;
}

static int64_t first_broken(const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(values[i])) return i;
  return -1;
}

int64_t experience_broken(const Experience *experience, const char **what) {
  const Experience *x = experience;
  const struct {
    const char *name;
    const float *values;
  } by_token[] = {{"log-probability", x->logprob}, {"reference", x->reference}, {"value", x->value}};
  *what = "score";
  const int64_t answer = first_broken(x->score, x->count);
  if (answer >= 0) return answer;
  for (size_t i = 0; i < sizeof by_token / sizeof *by_token; i++) {
    const int64_t token = by_token[i].values ? first_broken(by_token[i].values, x->tokens) : -1;
    *what = by_token[i].name;
    if (token >= 0) return experience_answer(x, token);
  }
  return -1;
}

void experience_plan(Experience *dry, const PpoWorkers *workers) {
  MicrobatchVisit *const visits[] = {score_microbatch, logprobs_microbatch, values_microbatch};
  microbatch_dry(workers->micro);
  const size_t count = sizeof visits / sizeof *visits - (has_critic(&workers->config->ppo) ? 0 : 1);
  for (size_t i = 0; i < count; i++) {
    const size_t mark = arena_mark(workers->step);
    visits[i](dry, workers);
    arena_release(workers->step, mark);
  }
}

/* With a critic: its values' part of the credit as well. */
static void credit_values(Experience *x, const PpoAlgorithm *ppo, Credit *credit) {
  if (ppo->whiten_rewards) reward_whiten(x->reward, x->tokens);
  advantage_gae(x->reward, x->value, x->offsets, x->count, ppo->gamma, ppo->lam, x->advantage, x->returns);
  credit->critic = true;
  credit->return_std = standard_deviation(x->returns, x->tokens);
  credit->explained_variance = explained_variance(x->value, x->returns, x->tokens);
}

static void credit_groups(Experience *x, const PpoAlgorithm *ppo, Credit *credit) {
  const int64_t size = ppo->samples_per_prompt;
  estimator_groups((Estimator)ppo->advantage, x->total, x->offsets, x->count, size, x->advantage);
  credit->groups = (double)(x->count / size);
  credit->flat_groups = (double)estimator_flat_groups(x->judged, x->count, size);
}

Credit experience_credit(Experience *experience, const PpoAlgorithm *ppo, double kl_coef) {
  Experience *x = experience;
  const int64_t bounded =
      kl_tokens((KlEstimator)ppo->kl_estimator, x->logprob, x->reference, x->tokens, x->kl);
  reward_tokens(x->kl, x->judged, x->offsets, x->count, kl_coef, x->reward);
  double sum = 0;
  for (int64_t e = 0; e < x->count; e++) {
    double total = 0;
    for (int32_t t = x->offsets[e]; t < x->offsets[e + 1]; t++) total += x->reward[t];
    x->total[e] = (float)total;
    sum += total;
  }
  Credit credit = {.reward = sum / (double)x->count, .bounded = (double)bounded};
  const bool groups = estimator_has_groups((Estimator)ppo->advantage);
  if (has_critic(ppo))
    credit_values(x, ppo, &credit);
  else if (groups)
    credit_groups(x, ppo, &credit);
  else
    estimator_returns(x->reward, x->offsets, x->count, ppo->gamma, x->advantage);
  credit.advantage_std = standard_deviation(x->advantage, x->tokens);
  if (!groups) advantage_whiten(x->advantage, x->tokens, true);
  return credit;
}

ExperienceStats experience_stats(const Experience *experience) {
  const Experience *x = experience;
  enum { ANSWERS, TOKENS, SCORE, JUDGED, ENDED, ENDED_SCORE, EMPTY, KL, ENTROPY, DIFFERENCE, SAMPLER, SUMS };
  double sum[SUMS] = {[ANSWERS] = (double)x->count, [TOKENS] = (double)x->tokens};
  double largest = 0;
  for (int64_t e = 0; e < x->count; e++) {
    const RolloutSample *sample = &x->samples[e];
    const bool ended = sample->finished == ROLLOUT_EOS;
    sum[SCORE] += x->score[e];
    sum[JUDGED] += x->judged[e];
    sum[ENDED] += ended;
    sum[ENDED_SCORE] += ended ? x->score[e] : 0;
    sum[EMPTY] += ended && sample->length == 1;
    for (int64_t t = 0; t < sample->length; t++) {
      const int64_t at = x->offsets[e] + t;
      const double difference = fabs((double)sample->logprobs[t] - x->logprob[at]);
      sum[KL] += kl_estimate(KL_K1, x->logprob[at], x->reference[at]);
      sum[ENTROPY] += x->entropy[at];
      sum[DIFFERENCE] += difference;
      sum[SAMPLER] += kl_estimate(KL_K3, (double)sample->logprobs[t], x->logprob[at]);
      largest = difference > largest ? difference : largest;
    }
  }
  return (ExperienceStats){.answers = sum[ANSWERS],
                           .tokens = sum[TOKENS],
                           .score = sum[SCORE] / sum[ANSWERS],
                           .score_std = standard_deviation(x->score, x->count),
                           .judged = sum[JUDGED] / sum[ANSWERS],
                           .ended_score = sum[ENDED_SCORE] / sum[ENDED],
                           .kl = sum[KL] / sum[ANSWERS],
                           .entropy = sum[ENTROPY] / sum[TOKENS],
                           .ended = sum[ENDED] / sum[ANSWERS],
                           .empty = sum[EMPTY] / sum[ANSWERS],
                           .length = sum[TOKENS] / sum[ANSWERS],
                           .sampler_error = sum[DIFFERENCE] / sum[TOKENS],
                           .sampler_error_max = largest,
                           .sampler_kl = sum[SAMPLER] / sum[TOKENS]};
}

double experience_other_ends(const Experience *experience, int mark) {
  double sum[2] = {0, 0}; /* that ended, and with another id */
  for (int64_t e = 0; e < experience->count; e++) {
    const RolloutSample *sample = &experience->samples[e];
    if (sample->finished != ROLLOUT_EOS) continue;
    sum[0]++;
    sum[1] += sample->response[sample->length - 1] != mark;
  }
  return mark >= 0 ? sum[1] / sum[0] : NAN;
}
