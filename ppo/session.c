#include "ppo/session.h"

#include "ppo/estimator.h"

#include "train/absent.h"
#include "train/examples.h"
#include "train/ranks.h"

#include "base/memory.h"

#include <string.h>

static int64_t longest_prompt(const PpoSession *s) {
  const int64_t train = (int64_t)s->prompts.longest, eval = s->has_eval ? (int64_t)s->eval.longest : 0;
  return train > eval ? train : eval;
}

/* Of a prompt with its answer. */
static int64_t longest_answered(const PpoSession *s) {
  return longest_prompt(s) + s->config.rollout.max_new_tokens;
}

static PpoWorkers workers_of(PpoSession *session, const PpoConfig *config) {
  return (PpoWorkers){.config = config,
                      .prompts = &session->prompts,
                      .compute = &session->compute,
                      .models = &session->models,
                      .scoring = &session->scoring,
                      .engine = &session->engine,
                      .micro = &session->micro,
                      .policy_pass = &session->policy_pass,
                      .critic_pass = &session->critic_pass,
                      .step = &session->memory.step,
                      .updates = session->updates,
                      .scores = config->ppo.normalize_scores ? &session->scores : NULL,
                      .run = session->run.config ? &session->run : NULL,
                      .progress = &session->run.progress};
}

PpoWorkers session_workers(PpoSession *session) {
  return workers_of(session, &session->config);
}

static bool has_critic(const PpoSession *s) {
  return estimator_has_critic((Estimator)s->config.ppo.advantage);
}

Ptx *session_ptx(PpoSession *session) {
  return session->has_ptx ? &session->ptx : NULL;
}

/* -- data ------------------------------------------------------------------------------------------------- */

static bool open_ptx(PpoSession *s, Error *error) {
  if (s->config.ppo.ptx_coef <= 0) return true;
  const PpoConfig *config = &s->config;
  Dataset data = {0};
  if (!data_open(&data, "data.ptx", &config->data.ptx, DATASET_TEXT, DATASET_ALL, &config->data, &config->run,
                 &s->text, s->log, error)) {
    return false;
  }
  if (!examples_say("data.ptx", &data, &s->text, s->log, error)) {
    dataset_close(&data);
    return false;
  }
  s->has_ptx = ptx_init(&s->ptx, data, config->ppo.ptx_coef, config->ppo.batch_size / config->ppo.minibatches,
                        config->optim.micro_batch_tokens, (uint64_t)config->run.seed, error);
  return s->has_ptx;
}

/* Sizes in the place of data, for a plan. */
static bool assume_data(PpoSession *s, Error *error) {
  const PpoConfig *config = &s->config;
  s->prompts = absent_dataset(&config->data, 1);
  if (config->ppo.ptx_coef <= 0) return true;
  s->has_ptx = ptx_init(&s->ptx, absent_dataset(&config->data, 1), config->ppo.ptx_coef,
                        config->ppo.batch_size / config->ppo.minibatches, config->optim.micro_batch_tokens,
                        (uint64_t)config->run.seed, error);
  return s->has_ptx;
}

/* The critic reads the policy's ids, whatever it begins as. */
static bool critic_reads(const PpoSession *s, Error *error) {
  const ModelPlace *place = &s->critic.place;
  if (!has_critic(s) || place->path == s->config.model.path) return true;
  const ModelConfig model = {.path = place->path, .adapter = place->adapter};
  if (text_tools_meet(&s->text, &model, s->log, error)) return true;
  Error why = *error;
  if (!s->critic.is_reward || why.code != ERROR_MODEL) return false;
  *error = (Error){0};
  return error_set(
      error, why.code,
      "%s. The critic begins as the reward model and reads the policy's ids: give critic.path (a "
      "model with the policy's tokens, %s for instance) or a ppo.advantage without a critic",
      why.message, s->config.model.path);
}

static bool check_heldout(const PpoSession *s, Error *error) {
  return s->config.run.keep_best != BEST_MEASURES + PPO_HELDOUT || scoring_heldout_count(&s->scoring) > 0 ||
         error_set(error, ERROR_USAGE,
                   "run.keep_best heldout: expected a source of weight 0 in reward.sources; found none");
}

static bool open_scoring(PpoSession *s, Error *error) {
  const PpoConfig *config = &s->config;
  const ScoringSetting setting = {.text = &s->text,
                                  .data = &config->data,
                                  .met = has_critic(s) && s->critic.is_reward ? s->critic.place.path : NULL,
                                  .capacity = config->ppo.batch_size,
                                  .comm = &s->comm,
                                  .runlog = &s->run.runlog,
                                  .log = s->log};
  return scoring_open(&s->scoring, &s->rewards, &setting, error) && check_heldout(s, error) &&
         scoring_check_prompts(&s->scoring, "data.prompts", &s->prompts, error) &&
         scoring_check_prompts(&s->scoring, "data.eval", &s->eval, error);
}

static bool open_data(void *session, Error *error) {
  PpoSession *s = session;
  const PpoConfig *config = &s->config;
  if (s->check && absent_data(&config->model, &config->data, "data.prompts", &config->data.prompts, s->log))
    return assume_data(s, error);
  if (!text_tools_open(&s->text, &config->model, &config->data, s->log, error) || !critic_reads(s, error))
    return false;
  s->end_count = text_tools_ends(&s->text, s->ends);
  if (s->end_count == 0) {
    return error_set(error, ERROR_MODEL,
                     "%s: expected an end-of-text token (eos_token), found none: answers could not"
                     " end",
                     config->model.path);
  }
  if (!data_open(&s->prompts, "data.prompts", &config->data.prompts, DATASET_PROMPT, DATASET_ALL,
                 &config->data, &config->run, &s->text, s->log, error)) {
    return false;
  }
  if (!examples_say("data.prompts", &s->prompts, &s->text, s->log, error)) return false;
  s->has_eval = config->data.eval.count > 0;
  if (s->has_eval && !data_open(&s->eval, "data.eval", &config->data.eval, DATASET_PROMPT, DATASET_ALL,
                                &config->data, &config->run, &s->text, s->log, error)) {
    return false;
  }
  s->picks = memory_zeroed((size_t)config->ppo.batch_size, sizeof *s->picks);
  if (!s->picks) return error_out_of_memory(error, "prompt list", (unsigned long long)config->ppo.batch_size);
  return data_order_init(&s->order, &s->prompts, (uint64_t)config->run.seed, config->data.shuffle, error) &&
         open_ptx(s, error);
}

static bool check_sources(const DataConfig *data, const Comm *comm, Error *error) {
  return ranks_check_sources("data.prompts", &data->prompts, comm, error) &&
         ranks_check_sources("data.eval", &data->eval, comm, error) &&
         ranks_check_sources("data.ptx", &data->ptx, comm, error);
}

static bool check_data(const PpoSession *s, Error *error) {
  return ranks_check_data(&s->comm, &s->prompts, error) && ranks_check_data(&s->comm, &s->eval, error) &&
         ranks_check_data(&s->comm, &s->ptx.data, error);
}

/* -- models and memory ------------------------------------------------------------------------------------ */

static EngineConfig engine_config(const PpoSession *s, const PpoConfig *config) {
  EngineConfig engine = engine_config_default(&s->compute, s->models.actor.predictor.model->dtype);
  const int64_t share = (config->ppo.batch_size + s->comm.size - 1) / s->comm.size; /* experience_sample */
  engine.batch = config->rollout.batch < share ? config->rollout.batch : share;
  engine.max_length = longest_answered(s);
  engine.cache_dtype = cache_dtype(config->rollout.cache_dtype, engine.cache_dtype);
  engine.edits = rollout_edits(&config->rollout);
  return engine;
}

/* The heads of training edit logits before a cap, sampling after it. */
static bool check_edits(const PpoSession *s, const PpoConfig *config, Error *error) {
  const Model *policy = s->models.actor.predictor.model;
  if (!rollout_edits(&config->rollout) || !(policy->spec.logit_softcap > 0)) return true;
  return error_set(
      error, ERROR_USAGE,
      "rollout.repetition_penalty, rollout.min_new_tokens: expected 1 and 0, since the logits of %s "
      "are capped, and what is learnt from would be another distribution than the samples'; found "
      "%g and %lld",
      config->model.path, config->rollout.repetition_penalty, (long long)config->rollout.min_new_tokens);
}

static bool open_edits(PpoSession *s, const PpoConfig *config, Error *error) {
  return check_edits(s, config, error) &&
         answer_edits_init(&s->micro.edits, &config->rollout, s->ends, s->end_count,
                           s->models.actor.predictor.model->spec.vocab, longest_answered(s),
                           config->optim.micro_batch_tokens, error);
}

/* What the policy writes all models read, in the same rotations as their frozen copies; data.ptx the policy alone. */
static bool set_lengths(PpoSession *s, Log *log, Error *error) {
  PpoModels *models = &s->models;
  Compute *c = &s->compute;
  Model *policy = models->actor.predictor.model;
  const int64_t answered = longest_answered(s), most = policy->spec.max_positions;
  const int64_t seen = most > 0 && most < answered ? most : answered;
  const int64_t ptx = s->has_ptx ? (int64_t)s->ptx.data.longest_sequence : 0;
  const int64_t longest = seen > ptx ? seen : ptx;
  return base_set_length(policy, longest, c, log, error) &&
         base_set_length(models->reference.model, longest, c, NULL, error) &&
         (!has_critic(s) || models->shared || base_set_length(&models->critic_base, seen, c, log, error)) &&
         scoring_set_length(&s->scoring, seen, has_critic(s) ? NULL : log, error);
}

/* The largest steps there will be, in a dry memory. */
static bool plan_steps(PpoSession *s, const PpoConfig *config, Error *error) {
  const PpoWorkers workers = workers_of(s, config);
  Experience dry;
  if (!experience_init(&dry, 1, 1, has_critic(s), 1, error)) return false;
  experience_plan(&dry, &workers);
  update_plan(&dry, &workers, session_ptx(s));
  experience_free(&dry);
  return true;
}

/* Models and engine as `config` has them: the session's, or one that the plan tries. */
static bool open_models(PpoSession *s, const PpoConfig *config, Error *error) {
  PpoModels *models = &s->models;
  Log *log = s->compute.dry ? NULL : s->log;
  if (!ppo_models_open(models, config, &s->critic, &s->lora, &s->text.identity, &s->compute, &s->memory,
                       error))
    return false;
  const ScoringModels judges = ppo_models_for_scoring(models, config, &s->critic, &s->compute, &s->memory);
  if (!scoring_open_models(&s->scoring, &judges, error) || !set_lengths(s, log, error) ||
      !ema_open(&s->ema, config->ppo.ema, &models->actor, &s->compute, &s->memory, error) ||
      !engine_init(&s->engine, engine_config(s, config), models->actor.predictor.model,
                   predictor_adapter(&models->actor.predictor), &s->compute, &s->memory.cache, error) ||
      !pass_init(&s->policy_pass, models->actor.predictor.model, error) ||
      (has_critic(s) && !pass_init(&s->critic_pass, models->critic.predictor.model, error)) ||
      !training_offload(&s->policy_pass, &config->model, &s->compute, &s->memory, error) ||
      (has_critic(s) && !training_offload(&s->critic_pass, &config->model, &s->compute, &s->memory, error)) ||
      !microbatch_init(&s->micro, config->optim.micro_batch_tokens, config->ppo.batch_size, error) ||
      !open_edits(s, config, error) ||
      !engine_check_lengths(&s->engine, longest_prompt(s), config->rollout.max_new_tokens, log, error)) {
    return false;
  }
  return !s->compute.dry || plan_steps(s, config, error);
}

static void close_models(PpoSession *s) {
  microbatch_free(&s->micro);
  pass_free(&s->policy_pass);
  pass_free(&s->critic_pass);
  engine_free(&s->engine);
  ema_close(&s->ema);
  scoring_close_models(&s->scoring);
  ppo_models_close(&s->models);
}

static bool make_plan(void *context, const PlanSettings *settings, MemoryPlan *plan, Error *error) {
  PpoSession *s = context;
  PpoConfig tried = s->config;
  tried.model = settings->model;
  tried.lora = settings->lora;
  tried.optim = settings->optim;
  tried.rollout.batch = settings->rollout_batch;
  tried.rollout.cache_dtype = settings->cache_dtype;
  plan_begin(&s->memory, &s->compute);
  bool ok = open_models(s, &tried, error);
  close_models(s);
  ok = plan_end(plan, &s->memory, &s->compute, error) && ok;
  const int64_t tokens = tried.ppo.batch_size * tried.rollout.max_new_tokens;
  plan_add(plan, "rollout arrays", (size_t)tokens * experience_token_bytes(has_critic(s)));
  return ok;
}

/* The micro-batch must hold the longest prompt with the longest answer, and the longest example of data.ptx. */
static bool check_lengths(const PpoSession *s, int64_t *longest, Error *error) {
  const char *what = "the longest prompt and rollout.max_new_tokens";
  *longest = longest_answered(s);
  if (s->has_ptx && (int64_t)s->ptx.data.longest > *longest) {
    *longest = (int64_t)s->ptx.data.longest;
    what = "the longest example of data.ptx";
  }
  if (*longest <= s->config.optim.micro_batch_tokens) return true;
  return error_set(error, ERROR_USAGE, "optim.micro_batch_tokens: expected at least %lld (%s), found %lld",
                   (long long)*longest, what, (long long)s->config.optim.micro_batch_tokens);
}

static void set_schedules(PpoSession *s) {
  const PpoConfig *config = &s->config;
  s->total_updates = (config->ppo.total_episodes + config->ppo.batch_size - 1) / config->ppo.batch_size;
  OptimConfig critic = config->optim;
  if (config->ppo.critic_lr > 0) critic.lr = config->ppo.critic_lr;
  s->schedule = schedule_of(&config->optim, s->total_updates);
  s->critic_schedule = schedule_of(&critic, s->total_updates);
  s->schedule.ahead = s->critic_schedule.ahead = 1; /* a rollout is too dear for a rate of 0 */
  s->kl = (KlController){config->ppo.kl_coef, config->ppo.kl_adaptive, config->ppo.kl_target,
                         config->ppo.kl_horizon};
}

bool session_configure(PpoSession *session, Error *error) {
  PpoSession *s = session;
  const PpoConfig *config = &s->config;
  const ModelPlace policy = {config->model.path, config->model.adapter};
  if (!scoring_config_read(&s->rewards, &config->reward.model, config->reward.sources, error) ||
      !ppo_config_check(config, error)) {
    return false;
  }
  s->critic = critic_start(&s->rewards, &config->critic, &policy);
  return true;
}

bool session_prepare(PpoSession *session, Error *error) {
  PpoSession *s = session;
  const PpoConfig *config = &s->config;
  int64_t longest;
  if (!check_sources(&config->data, &s->comm, error) ||
      !device_open_rank(&s->compute, &config->device, &s->comm, s->check, s->log, error) ||
      !lora_spec_of(&s->lora, &config->lora, error) || !ranks_open_data(&s->comm, open_data, s, error) ||
      !check_data(s, error) || !open_scoring(s, error) || !check_lengths(s, &longest, error)) {
    return false;
  }
  set_schedules(s);
  schedule_report(&s->schedule, s->log);
  const PlanSettings settings = {.model = config->model,
                                 .lora = config->lora,
                                 .optim = config->optim,
                                 .rollout_batch = config->rollout.batch,
                                 .cache_dtype = config->rollout.cache_dtype};
  if (!plan_check(make_plan, s, &settings, longest, device_limits(&s->compute), s->log, &s->plan, error))
    return false;
  comm_barrier(&s->comm); /* memory is looked at before a neighbour takes any */
  return true;
}

bool session_allocate(PpoSession *session, Error *error) {
  PpoSession *s = session;
  return train_memory_allocate(&s->memory, &s->compute, s->log, error) && open_models(s, &s->config, error) &&
         experience_init(&s->experience, s->config.ppo.batch_size, s->config.rollout.max_new_tokens,
                         has_critic(s), s->comm.size, error);
}

static const char *number_word(int number, char out[16]) {
  static const char *const words[] = {"no", "one", "two", "three", "four", "five", "six"};
  if (number >= 0 && (size_t)number < sizeof words / sizeof *words) return words[number];
  snprintf(out, 16, "%d", number);
  return out;
}

void session_describe(const PpoSession *session) {
  const PpoSession *s = session;
  const bool critic = has_critic(s), lora = s->config.lora.enabled;
  const ScoringCount judges = scoring_count_models(&s->scoring);
  const int own = lora ? 1 + (critic && !s->models.shared) : 2 + critic;
  char word[16], reward[32] = "reward";
  const char *roles[4] = {"actor", "critic", "reference", reward};
  if (judges.models > 1) snprintf(reward, sizeof reward, "%d reward models", judges.models);
  char text[120] = "";
  const int last = judges.models > 0 ? 3 : 2;
  for (int i = 0; i <= last; i++) {
    const size_t used = strlen(text);
    if (i == 1 && !critic) continue;
    snprintf(text + used, sizeof text - used, "%s%s", i == 0 ? "" : i == last ? " and " : ", ", roles[i]);
  }
  const int weights = own + judges.bases;
  log_info(s->log, "%s %s%s%s%s%s", number_word(weights, word),
           lora ? "frozen base" : "models of their own weights", lora && weights > 1 ? "s" : "",
           lora ? "; adapters for " : ": ", text, critic ? "" : "; no critic");
}

void session_close(PpoSession *session) {
  PpoSession *s = session;
  experience_free(&s->experience);
  close_models(s);
  scoring_close(&s->scoring);
  scoring_config_free(&s->rewards);
  if (s->compute.backend) train_memory_free(&s->memory, &s->compute);
  if (s->has_ptx) ptx_close(&s->ptx);
  data_order_free(&s->order);
  memory_free(s->picks);
  dataset_close(&s->prompts);
  dataset_close(&s->eval);
  text_tools_close(&s->text);
  lora_spec_free(&s->lora);
  if (s->compute.backend) compute_close(&s->compute);
  *s = (PpoSession){0};
}

bool session_state(void *session, Checkpoint *checkpoint, Error *error) {
  PpoSession *s = session;
  return checkpoint_count(checkpoint, "ppo.updates", &s->updates, error) &&
         checkpoint_count(checkpoint, "ppo.episodes", &s->episodes, error) &&
         checkpoint_count(checkpoint, "ppo.draws", &s->update.draws, error) &&
         checkpoint_float(checkpoint, "ppo.kl_coef", &s->kl.coef, error) &&
         (!s->config.ppo.normalize_scores ||
          (checkpoint_float(checkpoint, "ppo.scores.count", &s->scores.count, error) &&
           checkpoint_float(checkpoint, "ppo.scores.mean", &s->scores.mean, error) &&
           checkpoint_float(checkpoint, "ppo.scores.squares", &s->scores.squares, error))) &&
         data_state(checkpoint, "data.prompts", &s->prompts, &s->cursor, error) &&
         (!s->has_ptx || data_state(checkpoint, "data.ptx", &s->ptx.data, &s->ptx.cursor, error)) &&
         trainee_state(&s->models.actor, checkpoint, error) &&
         (!has_critic(s) || trainee_state(&s->models.critic, checkpoint, error)) &&
         ema_state(&s->ema, checkpoint, error);
}
