#include "ppo/experience.h"

#include "base/memory.h"
#include "ppo/advantage.h"
#include "ppo/estimator.h"
#include "ppo/kl.h"
#include "ppo/reward.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The arrays of the first critic, and of that of the costs. */
enum { VALUE_ARRAYS = 2, COST_ARRAYS = 4 };

static size_t left_out_arrays(int critics) {
  return (critics < 1 ? VALUE_ARRAYS : 0) + (critics < 2 ? COST_ARRAYS : 0);
}

/* responses, and the arrays of experience_init. */
size_t experience_token_bytes(int critics) {
  return (8 + VALUE_ARRAYS + COST_ARRAYS - left_out_arrays(critics)) * 4;
}

bool experience_init(Experience *experience, int64_t capacity, int64_t max_new_tokens, int critics, int ranks,
                     Error *error) {
  ASSERT(capacity * max_new_tokens <= INT32_MAX); /* ppo_config_check; offsets count them */
  *experience = (Experience){.capacity = capacity, .max_new_tokens = max_new_tokens};
  Experience *x = experience;
  const size_t answers = (size_t)capacity, tokens = answers * (size_t)max_new_tokens;
  float **by_answer[] = {&x->score,         &x->judged, &x->cost,   &x->baseline,
                         &x->baseline_cost, &x->total,  &x->against};
  float **by_token[] = {&x->sampled,      &x->logprob,     &x->reference,     &x->entropy, &x->kl,
                        &x->reward,       &x->advantage,   &x->value,         &x->returns, &x->cost_value,
                        &x->cost_returns, &x->cost_reward, &x->cost_advantage};
  const size_t arrays = sizeof by_token / sizeof *by_token - left_out_arrays(critics);
  bool ok = (x->samples = memory_zeroed(answers, sizeof *x->samples)) &&
            (x->prompts = memory_zeroed(answers, sizeof *x->prompts)) &&
            (x->responses = memory_zeroed(tokens, sizeof *x->responses)) &&
            (x->offsets = memory_zeroed(answers + 1, sizeof *x->offsets)) &&
            (x->left_out = memory_zeroed(answers, sizeof *x->left_out)) &&
            (x->order = memory_zeroed(answers, sizeof *x->order)) &&
            (x->endings = memory_zeroed(answers, sizeof *x->endings)) &&
            (x->places = memory_zeroed(answers, sizeof *x->places)) &&
            (x->cuts = memory_zeroed((size_t)ranks + 1, sizeof *x->cuts)) &&
            (x->token_cuts = memory_zeroed((size_t)ranks + 1, sizeof *x->token_cuts));
  for (size_t i = 0; ok && i < sizeof by_answer / sizeof *by_answer; i++) {
    ok = (*by_answer[i] = memory_zeroed(answers, sizeof(float))) != NULL;
  }
  for (size_t i = 0; ok && i < arrays; i++) {
    ok = (*by_token[i] = memory_zeroed(tokens, sizeof(float))) != NULL;
  }
  if (ok) return true;
  experience_free(experience);
  return error_out_of_memory(error, "rollout arrays", experience_token_bytes(critics) * tokens);
}

void experience_free(Experience *experience) {
  Experience *x = experience;
  void *arrays[] = {
      x->samples,    x->prompts,      x->responses,   x->sampled,        x->offsets,   x->order,
      x->score,      x->judged,       x->total,       x->logprob,        x->reference, x->entropy,
      x->value,      x->kl,           x->reward,      x->advantage,      x->returns,   x->endings,
      x->cuts,       x->token_cuts,   x->left_out,    x->baseline,       x->cost,      x->baseline_cost,
      x->cost_value, x->cost_returns, x->cost_reward, x->cost_advantage, x->places,    x->against};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) memory_free(arrays[i]);
  *experience = (Experience){0};
}

void experience_begin(Experience *experience, const PpoWorkers *workers) {
  const PpoConfig *config = workers->config;
  experience->count = experience->kept = experience->tokens = experience->against_each = 0;
  experience->limits = (AnswerLimits){.seed = (uint64_t)config->run.seed,
                                      .answers = (uint64_t)config->ppo.samples_per_prompt,
                                      .least = config->rollout.limit_from};
  scoring_begin(workers->scoring, workers->run, workers->updates);
}

/* Evaluations have answers of the full length: they are compared with each other. */
static int64_t limit_of(const Experience *x, uint64_t number) {
  const AnswerLimits *limits = &x->limits;
  if (limits->least == 0 || number >= experience_evaluation) return x->max_new_tokens;
  const uint64_t episode = number % experience_greedy;
  return rollout_limit(limits->seed, episode / limits->answers, limits->least, x->max_new_tokens);
}

void experience_add(Experience *experience, const Example *prompt, uint64_t number) {
  ASSERT(experience->count < experience->capacity);
  const int64_t e = experience->count++;
  experience->prompts[e] = *prompt;
  experience->samples[e] = (RolloutSample){.prompt = prompt->ids,
                                           .prompt_length = prompt->count,
                                           .max_new_tokens = limit_of(experience, number),
                                           .number = number,
                                           .response = experience->responses + e * experience->max_new_tokens,
                                           .logprobs = experience->sampled + e * experience->max_new_tokens};
}

/* -- ranks ------------------------------------------------------------------------------------------------ */

/* What each rank has of an array over answers, or over their tokens, is put together. */
static void gather(const Experience *x, const Comm *comm, void *array, size_t bytes) {
  comm_wait(comm, comm_start_all_gather(comm, (char *)array + (size_t)x->cuts[comm->rank] * bytes, array,
                                        bytes, x->cuts));
}

static void gather_tokens(const Experience *x, const Comm *comm, float *array) {
  comm_wait(comm, comm_start_all_gather(comm, array + x->token_cuts[comm->rank], array, sizeof *array,
                                        x->token_cuts));
}

/* A signal to this rank: it does not go on with the step. */
static bool is_stopped(const PpoWorkers *workers) {
  return workers->run && run_stop_signal() != 0;
}

/* At the end of a step. */
static bool all_go_on(const PpoWorkers *workers, Error *error) {
  return !workers->run || run_goes_on(workers->run, error);
}

/* -- steps ------------------------------------------------------------------------------------------------ */

/* For judges outside: the episode from 1 on; of an evaluation, the prompt from -1 on. */
static int64_t id_of(uint64_t number) {
  return number < experience_evaluation ? (int64_t)number + 1
                                        : -(int64_t)(number - experience_evaluation) - 1;
}

/* Gives the answers that are there, and have not been given yet, to whoever judges them. */
static bool submit(const Experience *x, const PpoWorkers *workers, Error *error) {
  for (int64_t e = 0; e < x->count; e++) {
    const RolloutSample *sample = &x->samples[e];
    if (sample->finished == ROLLOUT_UNFINISHED || scoring_is_submitted(workers->scoring, e)) continue;
    const Answer answer = {.prompt = x->prompts[e],
                           .ids = sample->response,
                           .count = sample->length,
                           .ended = sample->finished == ROLLOUT_EOS,
                           .finished = rollout_ended(sample),
                           .id = id_of(sample->number)};
    if (!scoring_submit(workers->scoring, e, &answer, error)) return false;
  }
  return scoring_attend(workers->scoring, error);
}

static int64_t finished(const Experience *x, int64_t first, int64_t end) {
  int64_t count = 0;
  for (int64_t e = first; e < end; e++) count += x->samples[e].finished != ROLLOUT_UNFINISHED;
  return count;
}

/* The answers of this rank. */
static bool generate(Experience *x, const PpoWorkers *workers, const RolloutSpec *spec, Error *error) {
  Engine *engine = workers->engine;
  const int64_t first = x->cuts[workers->compute->comm.rank], end = x->cuts[workers->compute->comm.rank + 1];
  gathered_fetch(workers->gathered, workers->compute);
  bool ok = narrowed_renew(workers->narrowed, workers->compute, error) &&
            engine_begin(engine, spec, x->samples + first, end - first, error);
  while (ok && engine_busy(engine) && !is_stopped(workers)) {
    ok = engine_step(engine, error) && submit(x, workers, error);
    progress_phase(workers->progress, "sampling %" PRId64 "/%" PRId64, finished(x, first, end), end - first);
  }
  ok = ok && all_go_on(workers, error);
  if (!ok) engine_abandon(engine);
  return ok;
}

static void gather_answers(Experience *x, const Comm *comm) {
  for (int64_t e = x->cuts[comm->rank]; e < x->cuts[comm->rank + 1]; e++)
    x->endings[e] = (Ending){(int32_t)x->samples[e].length, (int32_t)x->samples[e].finished};
  gather(x, comm, x->endings, sizeof *x->endings);
  gather(x, comm, x->responses, (size_t)x->max_new_tokens * sizeof *x->responses);
  gather(x, comm, x->sampled, (size_t)x->max_new_tokens * sizeof *x->sampled);
  for (int64_t e = x->kept; e < x->count; e++) {
    x->samples[e].length = x->endings[e].length;
    x->samples[e].finished = (RolloutFinish)x->endings[e].finished;
  }
}

bool experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                       Error *error) {
  Experience *x = experience;
  const Comm *comm = &workers->compute->comm;
  for (int r = 0; r <= comm->size; r++) x->cuts[r] = x->kept + (x->count - x->kept) * r / comm->size;
  if (!generate(x, workers, spec, error)) return false;
  gather_answers(x, comm);
  for (int64_t e = 0; e < x->count; e++) {
    x->offsets[e + 1] = x->offsets[e] + (int32_t)x->samples[e].length;
  }
  x->tokens = x->offsets[x->count];
  return true;
}

bool experience_recite(Experience *experience, const Tokenizer *tokenizer, int end, Error *error) {
  IntArray ids = {0};
  bool ok = true;
  for (int64_t e = 0; ok && e < experience->count; e++) {
    RolloutSample *sample = &experience->samples[e];
    const Example *prompt = &experience->prompts[e];
    ids.size = 0;
    ok = tokenizer_encode(tokenizer, prompt->reference, prompt->reference_bytes, false, &ids, error) &&
         int_array_push(&ids, end, error);
    if (!ok) break;
    const bool cut = (int64_t)ids.size > experience->max_new_tokens;
    sample->length = cut ? experience->max_new_tokens : (int64_t)ids.size;
    sample->finished = cut ? ROLLOUT_LENGTH : ROLLOUT_EOS;
    memcpy(sample->response, ids.data, (size_t)sample->length * sizeof *sample->response);
  }
  int_array_free(&ids);
  return ok;
}

/* What is computed of every micro-batch: `visit` makes a forward pass of each predictor, in this order. */
typedef void MicrobatchVisit(Experience *experience, const PpoWorkers *workers);

enum { MOST_PREDICTORS = 2 };

typedef struct Inference {
  const char *what;
  MicrobatchVisit *visit;
  const Predictor *predictors[MOST_PREDICTORS]; /* the second may be NULL */
} Inference;
_Static_assert((int)MOST_CRITICS <= (int)MOST_PREDICTORS, "all critics have room");

/* Passes on this rank, which has `own` micro-batches. */
static int passes_of(const Inference *inference, const PpoWorkers *workers, int own) {
  int passes = own;
  for (int k = 0; k < MOST_PREDICTORS && inference->predictors[k]; k++)
    passes = predictor_passes(inference->predictors[k], workers->compute, passes);
  return passes;
}

static void stand_by(const Inference *inference, const PpoWorkers *workers) {
  for (int k = 0; k < MOST_PREDICTORS && inference->predictors[k]; k++)
    pass_forward_idle(inference->predictors[k]->model, workers->compute);
}

/* Of this rank's answers, packed. */
static bool each_microbatch(Experience *x, const PpoWorkers *workers, const Inference *inference,
                            Error *error) {
  Microbatch *micro = workers->micro;
  const Comm *comm = &workers->compute->comm;
  if (!microbatch_plan_run(micro, x->samples, x->count, comm, x->cuts, error)) return false;
  for (int r = 0; r <= comm->size; r++) x->token_cuts[r] = x->offsets[x->cuts[r]];
  const int own = micro->packer.plan.count, passes = passes_of(inference, workers, own);
  for (int i = 0; i < passes; i++) {
    if (i >= own || is_stopped(workers)) {
      stand_by(inference, workers);
      continue;
    }
    microbatch_fill(micro, i, x->samples, x->offsets);
    const size_t mark = arena_mark(workers->step);
    inference->visit(x, workers);
    arena_release(workers->step, mark);
    if (!scoring_attend(workers->scoring, error)) return false;
    progress_phase(workers->progress, "%s %d/%d", inference->what, i + 1, own);
  }
  return all_go_on(workers, error);
}

static void infer(Pass *pass, const PpoWorkers *workers, const Predictor *predictor) {
  pass_forward(pass, workers->compute, predictor->model, predictor_adapter(predictor),
               &workers->micro->packer.batch, PASS_INFERENCE, workers->step);
}

bool experience_score(Experience *experience, const PpoWorkers *workers, Error *error) {
  progress_phase(workers->progress, "scoring");
  if (!submit(experience, workers, error) || !scoring_collect(workers->scoring, experience->count, error)) {
    return false;
  }
  const PpoAlgorithm *ppo = &workers->config->ppo;
  /* "replace" is told the score itself, "subtract" the amount. */
  const double penalty =
      ppo->missing_eos == MISSING_EOS_REPLACE ? -ppo->missing_eos_penalty : ppo->missing_eos_penalty;
  for (int64_t e = 0; e < experience->count; e++) {
    experience->score[e] = workers->scoring->score[e];
    experience->cost[e] = workers->scoring->cost[e];
  }
  if (workers->scores) {
    experience->scores = *workers->scores;
    running_score_add(&experience->scores, experience->score, experience->count);
  }
  for (int64_t e = 0; e < experience->count; e++) {
    const RolloutSample *sample = &experience->samples[e];
    double score = experience->score[e];
    if (experience->against_each > 0)
      score = reward_against(score, experience->against[e / experience->against_each]);
    if (workers->scores) score = running_score_normalize(&experience->scores, score);
    score = reward_clip(score, ppo->reward_clip);
    score = reward_missing_eos(score, rollout_ended(sample), (MissingEos)ppo->missing_eos, penalty);
    score += reward_overlong(sample->length, experience->max_new_tokens, ppo->overlong_tokens,
                             ppo->overlong_penalty);
    experience->judged[e] = (float)score;
  }
  return true;
}

/* In the order of use: log-probabilities as they are while sampling, at the sampling temperature. */
static void recompute_logprobs(const PpoWorkers *workers, const Predictor *policy, float *logprob,
                               float *entropy) {
  const Microbatch *micro = workers->micro;
  const size_t mark = arena_mark(workers->step);
  infer(workers->policy_pass, workers, policy);
  lm_logprobs(workers->policy_pass, microbatch_rows(micro), (float)workers->config->rollout.temperature,
              micro->packer.values, entropy ? micro->entropy : NULL);
  microbatch_scatter(micro, micro->packer.values, logprob);
  if (entropy) microbatch_scatter(micro, micro->entropy, entropy);
  arena_release(workers->step, mark);
}

static void logprobs_microbatch(Experience *experience, const PpoWorkers *workers) {
  recompute_logprobs(workers, &workers->models->actor.predictor, experience->logprob, experience->entropy);
  recompute_logprobs(workers, &workers->models->reference, experience->reference, NULL);
}

CriticView experience_critic(const Experience *experience, const PpoWorkers *workers, int k) {
  const Experience *x = experience;
  const bool cost = k == CRITIC_OF_COSTS;
  return (CriticView){.trainee = &workers->models->critics[k],
                      .pass = &workers->critic_passes[k],
                      .value = cost ? x->cost_value : x->value,
                      .returns = cost ? x->cost_returns : x->returns};
}

static void values_microbatch(Experience *experience, const PpoWorkers *workers) {
  const Microbatch *micro = workers->micro;
  for (int k = 0; k < workers->models->critic_count; k++) {
    const CriticView critic = experience_critic(experience, workers, k);
    const Predictor *predictor = &critic.trainee->predictor;
    const size_t mark = arena_mark(workers->step);
    infer(critic.pass, workers, predictor);
    score_values(critic.pass, &predictor->head, packer_rows(&micro->packer), micro->packer.values);
    microbatch_scatter(micro, micro->packer.values, critic.value);
    arena_release(workers->step, mark);
  }
}

bool experience_logprobs(Experience *experience, const PpoWorkers *workers, Error *error) {
  float *made[] = {experience->logprob, experience->reference, experience->entropy};
  const Inference inference = {"log-probabilities",
                               logprobs_microbatch,
                               {&workers->models->actor.predictor, &workers->models->reference}};
  if (!each_microbatch(experience, workers, &inference, error)) return false;
  for (int i = 0; i < 3; i++) gather_tokens(experience, &workers->compute->comm, made[i]);
  return true;
}

bool experience_values(Experience *experience, const PpoWorkers *workers, Error *error) {
  const int critics = workers->models->critic_count;
  Inference inference = {"values", values_microbatch, {0}};
  if (critics == 0) return true;
  for (int k = 0; k < critics; k++) inference.predictors[k] = &workers->models->critics[k].predictor;
  if (!each_microbatch(experience, workers, &inference, error)) return false;
  for (int k = 0; k < critics; k++)
    gather_tokens(experience, &workers->compute->comm, experience_critic(experience, workers, k).value);
  return true;
}

bool experience_is_flat(const Experience *experience, int64_t first, int64_t size) {
  return estimator_flat_groups(experience->judged + first, size, size) > 0 &&
         estimator_flat_groups(experience->cost + first, size, size) > 0;
}

/* All that is known of an answer when it is scored. */
static void move_answer(Experience *x, int64_t from, int64_t to) {
  const RolloutSample *sample = &x->samples[from];
  int32_t *response = x->responses + to * x->max_new_tokens;
  float *sampled = x->sampled + to * x->max_new_tokens;
  memcpy(response, sample->response, (size_t)sample->length * sizeof *response);
  memcpy(sampled, sample->logprobs, (size_t)sample->length * sizeof *sampled);
  x->samples[to] = *sample;
  x->samples[to].response = response;
  x->samples[to].logprobs = sampled;
  x->prompts[to] = x->prompts[from];
  x->score[to] = x->score[from];
  x->judged[to] = x->judged[from];
  x->cost[to] = x->cost[from];
}

int64_t experience_drop_flat(Experience *experience, const PpoWorkers *workers, int64_t size) {
  Experience *x = experience;
  const int64_t all = x->count;
  int64_t *from = x->places;
  x->kept = 0;
  for (int64_t first = 0; first < all; first += size) {
    if (experience_is_flat(x, first, size)) continue;
    for (int64_t e = first; e < first + size; e++) {
      if (e > x->kept) move_answer(x, e, x->kept);
      from[x->kept++] = e;
    }
  }
  x->count = x->kept;
  scoring_keep(workers->scoring, from, x->kept);
  return (all - x->kept) / size;
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
  } by_token[] = {{"log-probability", x->logprob},
                  {"reference", x->reference},
                  {"value", x->value},
                  {"value of the costs", x->cost_value}};
  *what = "score";
  int64_t answer = first_broken(x->score, x->count);
  if (answer >= 0) return answer;
  *what = "cost";
  answer = first_broken(x->cost, x->count);
  if (answer >= 0) return answer;
  for (size_t i = 0; i < sizeof by_token / sizeof *by_token; i++) {
    const int64_t token = by_token[i].values ? first_broken(by_token[i].values, x->tokens) : -1;
    *what = by_token[i].name;
    if (token >= 0) return experience_answer(x, token);
  }
  return -1;
}

void experience_plan(Experience *dry, const PpoWorkers *workers) {
  MicrobatchVisit *const visits[] = {logprobs_microbatch, values_microbatch};
  microbatch_dry(workers->micro);
  for (size_t i = 0; i < sizeof visits / sizeof *visits; i++) {
    const size_t mark = arena_mark(workers->step);
    visits[i](dry, workers);
    arena_release(workers->step, mark);
  }
  scoring_plan(workers->scoring);
}

ExperienceStats experience_stats(const Experience *experience) {
  const Experience *x = experience;
  enum {
    ANSWERS,
    TOKENS,
    SCORE,
    JUDGED,
    COST,
    ENDED,
    ENDED_SCORE,
    EMPTY,
    KL,
    ENTROPY,
    DIFFERENCE,
    SAMPLER,
    SUMS
  };
  double sum[SUMS] = {[ANSWERS] = (double)x->count, [TOKENS] = (double)x->tokens};
  double largest = 0;
  for (int64_t e = 0; e < x->count; e++) {
    const RolloutSample *sample = &x->samples[e];
    const bool ended = rollout_ended(sample);
    sum[SCORE] += x->score[e];
    sum[JUDGED] += x->judged[e];
    sum[COST] += x->cost[e];
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
                           .cost = sum[COST] / sum[ANSWERS],
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
