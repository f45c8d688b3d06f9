#include "ppo/experience.h"

#include "base/memory.h"
#include "ppo/advantage.h"
#include "ppo/kl.h"
#include "ppo/reward.h"

bool experience_init(Experience *experience, int64_t capacity, int64_t max_new_tokens, Error *error) {
  *experience = (Experience){.capacity = capacity, .max_new_tokens = max_new_tokens};
  Experience *x = experience;
  const size_t answers = (size_t)capacity, tokens = answers * (size_t)max_new_tokens;
  float **ragged[] = {&x->logprob, &x->reference, &x->entropy,   &x->value,
                      &x->kl,      &x->reward,    &x->advantage, &x->returns};
  bool ok = (x->samples = memory_zeroed(answers, sizeof *x->samples)) &&
            (x->prompt_text = memory_zeroed(answers, sizeof *x->prompt_text)) &&
            (x->responses = memory_zeroed(tokens, sizeof *x->responses)) &&
            (x->offsets = memory_zeroed(answers + 1, sizeof *x->offsets)) &&
            (x->order = memory_zeroed(answers, sizeof *x->order)) &&
            (x->packed = memory_zeroed(answers, sizeof *x->packed)) &&
            (x->score = memory_zeroed(answers, sizeof *x->score)) &&
            (x->judged = memory_zeroed(answers, sizeof *x->judged));
  for (size_t i = 0; ok && i < sizeof ragged / sizeof *ragged; i++) {
    ok = (*ragged[i] = memory_zeroed(tokens, sizeof(float))) != NULL;
  }
  if (ok) return true;
  experience_free(experience);
  return error_out_of_memory(error, "rollout arrays", 36ull * tokens);
}

void experience_free(Experience *experience) {
  Experience *x = experience;
  void *arrays[] = {x->samples, x->prompt_text, x->responses, x->offsets, x->score, x->judged,
                    x->logprob, x->reference,   x->entropy,   x->value,   x->kl,    x->advantage,
                    x->reward,  x->returns,     x->order,     x->packed};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) memory_free(arrays[i]);
  *experience = (Experience){0};
}

void experience_clear(Experience *experience) {
  experience->count = experience->tokens = 0;
}

void experience_add(Experience *experience, const int32_t *prompt, int64_t length, const char *text,
                    uint64_t number) {
  ASSERT(experience->count < experience->capacity);
  const int64_t e = experience->count++;
  experience->prompt_text[e] = text;
  experience->samples[e] =
      (RolloutSample){.prompt = prompt,
                      .prompt_length = length,
                      .max_new_tokens = experience->max_new_tokens,
                      .number = number,
                      .response = experience->responses + e * experience->max_new_tokens};
}

bool experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                       Error *error) {
  if (!engine_run(workers->engine, spec, experience->samples, experience->count, error)) return false;
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
  for (int32_t e = 0; e < experience->count; e++) experience->order[e] = e;
  if (!microbatch_plan(micro, experience->samples, experience->order, experience->count, error)) return false;
  for (int i = 0; i < micro->plan.count; i++) {
    microbatch_fill(micro, i, experience->samples, experience->order, experience->offsets,
                    experience->packed);
    const size_t mark = arena_mark(workers->step);
    visit(experience, workers);
    arena_release(workers->step, mark);
  }
  return true;
}

static void infer(Pass *pass, const PpoWorkers *workers, const Trainee *trainee) {
  pass_forward(pass, workers->compute, trainee->model, trainee_adapter(trainee), &workers->micro->batch,
               PASS_INFERENCE, workers->step);
}

static void score_microbatch(Experience *experience, const PpoWorkers *workers) {
  const Microbatch *micro = workers->micro;
  const Trainee *reward = &workers->models->reward;
  infer(workers->reward_pass, workers, reward);
  score_values(workers->reward_pass, &reward->head, microbatch_last(micro), micro->buffer[0]);
  for (int64_t i = 0; i < micro->batch.sequences; i++)
    experience->score[experience->packed[i]] = micro->buffer[0][i];
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

static void recompute_logprobs(const PpoWorkers *workers, const Trainee *policy, float *logprob,
                               float *entropy) {
  const Microbatch *micro = workers->micro;
  const size_t mark = arena_mark(workers->step);
  infer(workers->policy_pass, workers, policy);
  lm_logprobs(workers->policy_pass, microbatch_tokens(micro), (float)workers->config->rollout.temperature,
              micro->buffer[0], entropy ? micro->buffer[1] : NULL);
  microbatch_scatter(micro, micro->buffer[0], logprob);
  if (entropy) microbatch_scatter(micro, micro->buffer[1], entropy);
  arena_release(workers->step, mark);
}

static void recompute_microbatch(Experience *experience, const PpoWorkers *workers) {
  const Microbatch *micro = workers->micro;
  const Trainee *critic = &workers->models->critic;
  recompute_logprobs(workers, &workers->models->actor, experience->logprob, experience->entropy);
  recompute_logprobs(workers, &workers->models->reference, experience->reference, NULL);
  infer(workers->reward_pass, workers, critic);
  score_values(workers->reward_pass, &critic->head, microbatch_tokens(micro), micro->buffer[0]);
  microbatch_scatter(micro, micro->buffer[0], experience->value);
}

Experience experience_dry(Microbatch *micro) {
  microbatch_dry(micro);
  float *any = micro->buffer[4];
  return (Experience){
      .logprob = any, .reference = any, .entropy = any, .value = any, .advantage = any, .returns = any};
}

void experience_plan(const PpoWorkers *workers) {
  Experience dry = experience_dry(workers->micro);
  const size_t mark = arena_mark(workers->step);
  recompute_microbatch(&dry, workers);
  arena_release(workers->step, mark);
  infer(workers->reward_pass, workers, &workers->models->reward);
  score_values(workers->reward_pass, &workers->models->reward.head, microbatch_last(workers->micro),
               workers->micro->buffer[0]);
  arena_release(workers->step, mark);
}

bool experience_recompute(Experience *experience, const PpoWorkers *workers, Error *error) {
  return each_microbatch(experience, workers, recompute_microbatch, error);
}

void experience_credit(Experience *experience, const PpoAlgorithm *ppo, double kl_coef, const Comm *comm) {
  Experience *x = experience;
  kl_tokens((KlEstimator)ppo->kl_estimator, x->logprob, x->reference, x->tokens, x->kl);
  reward_tokens(x->kl, x->judged, x->offsets, x->count, kl_coef, x->reward);
  if (ppo->whiten_rewards) reward_whiten(x->reward, x->tokens, comm);
  advantage_gae(x->reward, x->value, x->offsets, x->count, ppo->gamma, ppo->lam, x->advantage, x->returns);
  advantage_whiten(x->advantage, x->tokens, true, comm);
}

ExperienceStats experience_stats(const Experience *experience, const Comm *comm) {
  const Experience *x = experience;
  double sum[] = {(double)x->count, (double)x->tokens, 0, 0, 0, 0, 0};
  for (int64_t e = 0; e < x->count; e++) {
    sum[2] += x->score[e];
    sum[3] += x->judged[e];
    sum[4] += x->samples[e].finished == ROLLOUT_EOS;
  }
  for (int64_t t = 0; t < x->tokens; t++) {
    sum[5] += kl_estimate(KL_K1, x->logprob[t], x->reference[t]);
    sum[6] += x->entropy[t];
  }
  comm_sum(comm, sum, 7);
  return (ExperienceStats){.answers = sum[0],
                           .tokens = sum[1],
                           .score = sum[2] / sum[0],
                           .judged = sum[3] / sum[0],
                           .ended = sum[4] / sum[0],
                           .kl = sum[5] / sum[0],
                           .entropy = sum[6] / sum[1],
                           .length = sum[1] / sum[0]};
}
