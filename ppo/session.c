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
                      .gathered = &session->gathered,
                      .narrowed = &session->narrowed,
                      .micro = &session->micro,
                      .policy_pass = &session->policy_pass,
                      .critic_passes = session->critic_passes,
                      .step = &session->memory.step,
                      .updates = session->updates,
                      .scores = config->ppo.normalize_scores ? &session->scores : NULL,
                      .run = session->run.config ? &session->run : NULL,
                      .progress = &session->run.progress};
}

PpoWorkers session_workers(PpoSession *session) {
  return workers_of(session, &session->config);
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

/* A critic reads the policy's ids, whatever it begins as. */
static bool critic_reads(const PpoSession *s, int k, Error *error) {
  const CriticStart *start = &s->critics.of[k];
  const ModelPlace *place = &start->place;
  if (place->path == s->config.model.path) return true;
  const ModelConfig model = {.path = place->path, .adapter = place->adapter};
  if (text_tools_meet(&s->text, &model, s->log, error)) return true;
  Error why = *error;
  if (!start->is_reward || why.code != ERROR_MODEL) return false;
  *error = (Error){0};
  return error_set(error, why.code,
                   "%s. The critic%s begins as the %s model and reads the policy's ids: give critic.path (a "
                   "model with the policy's tokens, %s for instance) or a ppo.advantage without a critic",
                   why.message, k == CRITIC_OF_COSTS ? " of the costs" : "",
                   k == CRITIC_OF_COSTS ? "cost" : "reward", s->config.model.path);
}

static bool critics_read(const PpoSession *s, Error *error) {
  for (int k = 0; k < s->critics.count; k++)
    if (!critic_reads(s, k, error)) return false;
  return true;
}

static bool check_heldout(const PpoSession *s, Error *error) {
  if (scoring_heldout_count(&s->scoring) > MOST_HELDOUT) {
    return error_set(
        error, ERROR_USAGE,
        "reward.sources: expected at most %d sources of weight 0 to watch by, found %d: give others "
        "\"watch\": false",
        MOST_HELDOUT, scoring_heldout_count(&s->scoring));
  }
  return s->config.run.keep_best != BEST_MEASURES + PPO_HELDOUT || scoring_heldout_count(&s->scoring) > 0 ||
         error_set(error, ERROR_USAGE,
                   "run.keep_best heldout: expected a source of weight 0 in reward.sources; found none");
}

/* Whether every prompt has the reference answer that scores are taken against. */
static bool check_references(const PpoSession *s, Error *error) {
  for (uint64_t n = 0; s->config.ppo.sigmoid_scores && n < s->prompts.count; n++) {
    const Example prompt = dataset_example(&s->prompts, dataset_reference(&s->prompts, n));
    if (prompt.reference_bytes) continue;
    return error_set(error, ERROR_DATA,
                     "data.prompts: %s:%llu: ppo.sigmoid_scores: expected a reference answer in the record "
                     "(key 'reference', or an assistant turn at its end), found none",
                     s->prompts.sources[prompt.source].path, (unsigned long long)prompt.line);
  }
  return true;
}

static bool open_scoring(PpoSession *s, Error *error) {
  const PpoConfig *config = &s->config;
  const ScoringSetting setting = {.text = &s->text,
                                  .data = &config->data,
                                  .met = s->critics.of[0].is_reward ? s->critics.of[0].place.path : NULL,
                                  .capacity = config->ppo.batch_size,
                                  .comm = &s->comm,
                                  .runlog = &s->run.runlog,
                                  .log = s->log};
  return scoring_open(&s->scoring, &s->rewards, &setting, error) && check_heldout(s, error) &&
         check_references(s, error) &&
         scoring_check_prompts(&s->scoring, "data.prompts", &s->prompts, error) &&
         scoring_check_prompts(&s->scoring, "data.eval", &s->eval, error);
}

static bool open_data(void *session, Error *error) {
  PpoSession *s = session;
  const PpoConfig *config = &s->config;
  if (s->check && absent_data(&config->model, &config->data, "data.prompts", &config->data.prompts, s->log))
    return assume_data(s, error);
  if (!text_tools_open(&s->text, &config->model, &config->data, s->log, error) || !critics_read(s, error))
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
  const int64_t share = (config->ppo.batch_size - 1) / s->comm.size + 1; /* experience_sample */
  engine.batch = config->rollout.batch < share ? config->rollout.batch : share;
  engine.max_length = longest_answered(s);
  engine.cache_bytes = config->rollout.cache;
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
  if (!base_set_length(policy, longest, c, log, error) ||
      !base_set_length(models->reference.model, longest, c, NULL, error)) {
    return false;
  }
  for (int k = 0; k < models->critic_count; k++)
    if (models->owns[k] && !base_set_length(&models->critic_bases[k], seen, c, log, error)) return false;
  return scoring_set_length(&s->scoring, seen, models->critic_count > 0 ? NULL : log, error);
}

/* The largest steps there will be, in a dry memory. */
static bool plan_steps(PpoSession *s, const PpoConfig *config, Error *error) {
  const PpoWorkers workers = workers_of(s, config);
  Experience dry;
  if (!experience_init(&dry, 1, 1, s->critics.count, 1, error)) return false;
  experience_plan(&dry, &workers);
  update_plan(&dry, &workers, session_ptx(s));
  experience_free(&dry);
  return true;
}

static bool open_passes(PpoSession *s, const PpoConfig *config, Error *error) {
  PpoModels *models = &s->models;
  bool ok = pass_init(&s->policy_pass, models->actor.predictor.model, error) &&
            training_offload(&s->policy_pass, &config->model, &s->compute, &s->memory, error) &&
            training_graphs(&s->records, config->device.graphs, config->optim.micro_batch_tokens, &s->compute,
                            error);
  pass_record(&s->policy_pass, &s->records);
  for (int k = 0; ok && k < models->critic_count; k++) {
    Pass *pass = &s->critic_passes[k];
    ok = pass_init(pass, models->critics[k].predictor.model, error) &&
         training_offload(pass, &config->model, &s->compute, &s->memory, error);
    pass_record(pass, &s->records);
  }
  return ok;
}

/* The policy as it is sampled from. */
static bool open_engine(PpoSession *s, const PpoConfig *config, Error *error) {
  const Predictor *policy = &s->models.actor.predictor;
  const LoraSet *adapter = predictor_adapter(policy);
  Arena *arena = &s->memory.cache;
  const bool narrow = config->rollout.weights == SAMPLER_WEIGHTS_INT8;
  if (narrow ? !narrowed_open(&s->narrowed, policy->model, adapter, &s->compute, arena, error)
             : !gathered_open(&s->gathered, policy->model, arena, error))
    return narrow && error_context(error, "rollout.weights int8");
  const Model *model = narrow ? &s->narrowed.view : gathered_model(&s->gathered);
  return engine_init(&s->engine, engine_config(s, config), model, adapter, &s->compute, arena, error);
}

/* Models and engine as `config` has them: the session's, or one that the plan tries. */
static bool open_models(PpoSession *s, const PpoConfig *config, Error *error) {
  PpoModels *models = &s->models;
  Log *log = s->compute.dry ? NULL : s->log;
  if (!ppo_models_open(models, config, &s->critics, &s->lora, &s->text.identity, &s->compute, &s->memory,
                       error))
    return false;
  const ScoringModels judges = ppo_models_for_scoring(models, config, &s->critics, &s->compute, &s->memory);
  if (!scoring_open_models(&s->scoring, &judges, error) || !set_lengths(s, log, error) ||
      !moving_reference_open(&s->reference, config->ppo.reference_every, models, error) ||
      !ema_open(&s->ema, config->ppo.ema, &models->actor, &s->compute, &s->memory, error) ||
      !open_engine(s, config, error) || !open_passes(s, config, error) ||
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
  for (int k = 0; k < MOST_CRITICS; k++) pass_free(&s->critic_passes[k]);
  pass_records_free(&s->records);
  engine_free(&s->engine);
  gathered_close(&s->gathered);
  narrowed_close(&s->narrowed);
  ema_close(&s->ema);
  moving_reference_close(&s->reference);
  scoring_close_models(&s->scoring);
  ppo_models_close(&s->models);
}

static bool make_plan(void *context, const PlanSettings *settings, MemoryPlan *plan, Error *error) {
  PpoSession *s = context;
  PpoConfig tried = s->config;
  tried.model = settings->model;
  tried.lora = settings->lora;
  tried.optim = settings->optim;
  tried.device.shard = settings->shard;
  tried.device.graphs = settings->graphs;
  tried.device.shard_frozen = settings->shard_frozen;
  tried.rollout.batch = settings->rollout_batch;
  tried.rollout.cache_dtype = settings->cache_dtype;
  tried.rollout.weights = settings->rollout_weights;
  plan_begin(&s->memory, &s->compute);
  bool ok = open_models(s, &tried, error) &&
            room_measure(&s->writes, &s->models.actor, session_state, s, &s->compute, error);
  s->writes.results += ema_is_on(&s->ema);
  close_models(s);
  ok = plan_end(plan, &s->memory, &s->compute, error) && ok;
  const int64_t tokens = tried.ppo.batch_size * tried.rollout.max_new_tokens;
  plan_add(plan, "graphs of passes, at most", (size_t)settings->graphs);
  plan_add(plan, "rollout arrays", (size_t)tokens * experience_token_bytes(s->critics.count));
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
  return error_set(
      error, ERROR_USAGE,
      "optim.micro_batch_tokens: expected at least %lld (%s), found %lld: raise it, or lower what is so long",
      (long long)*longest, what, (long long)s->config.optim.micro_batch_tokens);
}

static void set_schedules(PpoSession *s) {
  const PpoConfig *config = &s->config;
  s->total_updates = (config->ppo.total_episodes - 1) / config->ppo.batch_size + 1;
  OptimConfig critic = config->optim;
  if (config->ppo.critic_lr > 0) critic.lr = config->ppo.critic_lr;
  s->schedule = schedule_of(&config->optim, s->total_updates);
  s->critic_schedule = schedule_of(&critic, s->total_updates);
  s->schedule.ahead = s->critic_schedule.ahead = 1; /* a rollout is too dear for a rate of 0 */
  s->kl = (KlController){config->ppo.kl_coef, config->ppo.kl_adaptive, config->ppo.kl_target,
                         config->ppo.kl_horizon};
  s->cost = cost_controller(&config->cost.rule);
}

static void set_critics(PpoSession *s) {
  const PpoConfig *config = &s->config;
  const ModelPlace policy = {config->model.path, config->model.adapter};
  const bool costs = s->rewards.count > s->rewards.rewards;
  s->critics.count = estimator_has_critic((Estimator)config->ppo.advantage) ? 1 + costs : 0;
  for (int k = 0; k < s->critics.count; k++)
    s->critics.of[k] = critic_start(&s->rewards, k == CRITIC_OF_COSTS, &config->critic, &policy);
}

bool session_configure(PpoSession *session, Error *error) {
  PpoSession *s = session;
  const PpoConfig *config = &s->config;
  if (!scoring_config_read(&s->rewards, &config->reward, &config->cost.sources, error) ||
      !ppo_config_check(config, error)) {
    return false;
  }
  set_critics(s);
  return true;
}

/* What may be divided over the ranks. */
static void set_shards(const PpoSession *s, PlanSettings *settings) {
  const bool many = s->comm.size > 1;
  const bool copied = s->config.ppo.reference_every > 0 && !s->config.lora.enabled; /* ppo_config_check */
  settings->shard = s->config.device.shard;
  settings->shard_frozen = s->config.device.shard_frozen;
  settings->most_shard = !many ? SHARD_NONE : copied ? SHARD_GRADIENTS : SHARD_WEIGHTS;
  settings->has_frozen = many && !copied;
}

/* What may be given and is hardly meant. */
static void report_schedules(const PpoSession *s) {
  const PpoAlgorithm *ppo = &s->config.ppo;
  schedule_report(&s->schedule, (OptimizerKind)s->config.optim.name, s->log);
  if (estimator_has_critic((Estimator)ppo->advantage) && ppo->critic_warmup >= s->total_updates)
    log_warning(s->log,
                "ppo.critic_warmup %lld: the run has %lld updates, in all of which the critic learns alone: "
                "the policy stays as it is",
                (long long)ppo->critic_warmup, (long long)s->total_updates);
  if (ppo->cliprange == 0)
    log_warning(s->log,
                "ppo.cliprange 0: the narrowest limit, not none: of a rollout's second step on, only "
                "tokens are learnt from whose ratio moves back to 1");
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
  report_schedules(s);
  PlanSettings settings = {.model = config->model,
                           .lora = config->lora,
                           .optim = config->optim,
                           .rollout_batch = config->rollout.batch,
                           .cache_dtype = config->rollout.cache_dtype,
                           .rollout_weights = config->rollout.weights,
                           .graphs = config->device.graphs};
  set_shards(s, &settings);
  if (!plan_check(make_plan, s, &settings, longest, device_limits(&s->compute), s->log, &s->plan, error))
    return false;
  comm_barrier(&s->comm); /* memory is looked at before a neighbour takes any */
  return s->comm.rank > 0 || room_check(&s->writes, &config->run, s->total_updates, s->log, error);
}

bool session_allocate(PpoSession *session, Error *error) {
  PpoSession *s = session;
  return train_memory_allocate(&s->memory, &s->compute, s->log, error) && open_models(s, &s->config, error) &&
         experience_init(&s->experience, s->config.ppo.batch_size, s->config.rollout.max_new_tokens,
                         s->critics.count, s->comm.size, error);
}

static const char *number_word(int number, char out[16]) {
  static const char *const words[] = {"no", "one", "two", "three", "four", "five", "six"};
  if (number >= 0 && (size_t)number < sizeof words / sizeof *words) return words[number];
  snprintf(out, 16, "%d", number);
  return out;
}

/* "actor, critic and reference" */
static void list_roles(const char *const *roles, int count, Buffer *out) {
  Error ignored = {0};
  for (int i = 0; i < count; i++) {
    const char *before = i == 0 ? "" : i + 1 == count ? " and " : ", ";
    if (!buffer_format(out, &ignored, "%s%s", before, roles[i])) return;
  }
}

void session_describe(const PpoSession *session) {
  const PpoSession *s = session;
  const int critics = s->models.critic_count;
  const bool lora = s->config.lora.enabled;
  const ScoringCount rewards = scoring_count_models(&s->scoring, false),
                     costs = scoring_count_models(&s->scoring, true);
  int weights = (lora ? 1 : 2) + rewards.bases + costs.bases, count = 0;
  for (int k = 0; k < critics; k++) weights += s->models.owns[k];
  char word[16], reward[32] = "reward", cost[32] = "cost";
  const char *roles[6];
  if (rewards.models > 1) snprintf(reward, sizeof reward, "%d reward models", rewards.models);
  if (costs.models > 1) snprintf(cost, sizeof cost, "%d cost models", costs.models);
  roles[count++] = "actor";
  if (critics > CRITIC_OF_REWARDS) roles[count++] = "critic";
  if (critics > CRITIC_OF_COSTS) roles[count++] = "critic of the costs";
  roles[count++] = "reference";
  if (rewards.models > 0) roles[count++] = reward;
  if (costs.models > 0) roles[count++] = cost;
  Buffer text = {0};
  list_roles(roles, count, &text);
  log_info(s->log, "%s %s%s%s%s%s", number_word(weights, word),
           lora ? "frozen base" : "models of their own weights", lora && weights > 1 ? "s" : "",
           lora ? "; adapters for " : ": ", text.data ? text.data : "", critics ? "" : "; no critic");
  buffer_free(&text);
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

/* Where lambda stands. */
static bool cost_state(PpoSession *s, Checkpoint *checkpoint, Error *error) {
  CostController *cost = &s->cost;
  return !s->scoring.has_costs ||
         (checkpoint_float(checkpoint, "ppo.cost.lambda", &cost->lambda, error) &&
          checkpoint_count(checkpoint, "ppo.cost.rollouts", &cost->rollouts, error) &&
          checkpoint_array(checkpoint, "ppo.cost.means", DTYPE_F64, cost->means, cost->rule.window, error));
}

static bool critics_state(PpoSession *s, Checkpoint *checkpoint, Error *error) {
  for (int k = 0; k < s->models.critic_count; k++)
    if (!trainee_state(&s->models.critics[k], checkpoint, error)) return false;
  return true;
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
         ppo_alarms_state(&s->alarms, checkpoint, error) &&
         data_state(checkpoint, "data.prompts", &s->prompts, &s->cursor, error) &&
         (!s->has_ptx || data_state(checkpoint, "data.ptx", &s->ptx.data, &s->ptx.cursor, error)) &&
         trainee_state(&s->models.actor, checkpoint, error) && critics_state(s, checkpoint, error) &&
         cost_state(s, checkpoint, error) && ema_state(&s->ema, checkpoint, error) &&
         moving_reference_state(&s->reference, checkpoint, error);
}
