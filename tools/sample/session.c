#include "tools/sample/session.h"

#include "base/memory.h"
#include "tools/sample/source.h"
#include "train/absent.h"
#include "train/examples.h"

#include <string.h>

/* A round has so many times the answers that are generated at once: at its end fewer and fewer are. */
enum { ROUND_BATCHES = 4 };
/* Answers to one prompt are scored together as far as they fit in so many tokens. */
enum { SCORED_TOKENS = 4096 };

static int64_t longest_answered(const SampleSession *s) {
  return (int64_t)s->prompts.longest + s->config.rollout.max_new_tokens;
}

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t prompts_of_round(const SampleSession *s, int64_t rollout_batch) {
  const int64_t prompts = ROUND_BATCHES * rollout_batch / s->config.sample.n;
  const int64_t all = (int64_t)s->prompts.count;
  return prompts < 1 ? 1 : all > 0 ? smaller(prompts, all) : prompts;
}

/* -- data ------------------------------------------------------------------------------------------------- */

static bool open_data(SampleSession *s, Error *error) {
  const SampleConfig *config = &s->config;
  if (s->check && absent_data(&config->model, &config->data, "data.prompts", &config->data.prompts, s->log)) {
    s->prompts = absent_dataset(&config->data, 1);
    return true;
  }
  const ModelConfig reward = {.path = config->reward.path, .adapter = config->reward.adapter};
  if (!text_tools_open(&s->text, &config->model, &config->data, s->log, error) ||
      !text_tools_meet(&s->text, &reward, s->log, error)) {
    return false;
  }
  s->end_count = text_tools_ends(&s->text, s->ends);
  if (s->end_count == 0) {
    return error_set(error, ERROR_MODEL,
                     "%s: expected an end-of-text token (eos_token), found none: answers could not end",
                     config->model.path);
  }
  return data_open(&s->prompts, "data.prompts", &config->data.prompts, DATASET_PROMPT, DATASET_ALL,
                   &config->data, &config->run, &s->text, s->log, error) &&
         examples_say("data.prompts", &s->prompts, &s->text, s->log, error) &&
         prompt_source_check(&s->prompts, &config->data, &s->text, error);
}

/* -- models and memory ------------------------------------------------------------------------------------ */

static bool open_bases(SampleSession *s, const ModelConfig *model, Error *error) {
  const char *reward = s->config.reward.path;
  const WeightFormat format = model_config_format(model);
  if (!base_open(&s->policy_base, model->path, NULL, format, &s->compute, &s->memory, error)) return false;
  return path_same(model->path, reward) ||
         base_open(&s->reward_base, reward, NULL, format, &s->compute, &s->memory, error);
}

static Model *reward_model(SampleSession *s) {
  return path_same(s->config.model.path, s->config.reward.path) ? &s->policy_base : &s->reward_base;
}

static bool open_predictors(SampleSession *s, Error *error) {
  const SampleConfig *config = &s->config;
  const PredictorSpec policy = {
      .name = "policy", .adapted = config->model.adapter != NULL, .adapter = config->model.adapter};
  const PredictorSpec reward = {.name = "reward",
                                .adapted = config->reward.adapter != NULL,
                                .adapter = config->reward.adapter,
                                .score_head = true,
                                .head_from = config->reward.path,
                                .head_must_exist = true};
  return predictor_open(&s->policy, &policy, &s->policy_base, PREDICTOR_FROZEN, NULL, &s->compute, &s->memory,
                        error) &&
         predictor_open(&s->reward, &reward, reward_model(s), PREDICTOR_FROZEN, NULL, &s->compute, &s->memory,
                        error);
}

/* The reward model reads the policy's ids. */
static bool vocabularies_fit(const SampleSession *s, Error *error) {
  const int64_t policy = s->policy_base.spec.vocab, reward = s->reward.model->spec.vocab;
  if (policy == reward) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: expected the vocabulary of %s (%lld ids), since the reward model reads the policy's ids; found"
      " %lld",
      s->config.reward.path, s->config.model.path, (long long)policy, (long long)reward);
}

static bool set_lengths(SampleSession *s, Error *error) {
  const int64_t most = s->policy_base.spec.max_positions, answered = longest_answered(s);
  const int64_t seen = most > 0 && most < answered ? most : answered;
  Log *log = s->compute.dry ? NULL : s->log;
  return base_set_length(&s->policy_base, seen, &s->compute, log, error) &&
         (s->reward.model == &s->policy_base ||
          base_set_length(s->reward.model, seen, &s->compute, log, error));
}

static EngineConfig engine_config(const SampleSession *s, const PlanSettings *settings) {
  EngineConfig engine = engine_config_default(&s->compute, s->policy_base.dtype);
  engine.batch =
      smaller(settings->rollout_batch, prompts_of_round(s, settings->rollout_batch) * s->config.sample.n);
  engine.max_length = longest_answered(s);
  engine.edits = rollout_edits(&s->config.rollout);
  engine.cache_dtype = cache_dtype(settings->cache_dtype, engine.cache_dtype);
  return engine;
}

static bool open_packer(SampleSession *s, Error *error) {
  const int64_t n = s->config.sample.n, longest = longest_answered(s);
  const int64_t together = smaller(n * longest, SCORED_TOKENS);
  return packer_init(&s->packer, n, 1, together > longest ? together : longest, error);
}

/* The largest micro-batch, in a dry memory. */
static void plan_scoring(SampleSession *s) {
  const size_t mark = arena_mark(&s->memory.step);
  packer_dry(&s->packer);
  pass_forward(&s->pass, &s->compute, s->reward.model, predictor_adapter(&s->reward), &s->packer.batch,
               PASS_INFERENCE, &s->memory.step);
  score_values(&s->pass, &s->reward.head, packer_last(&s->packer), s->packer.values);
  arena_release(&s->memory.step, mark);
}

static bool open_models(SampleSession *s, const PlanSettings *settings, Error *error) {
  Log *log = s->compute.dry ? NULL : s->log;
  if (!open_bases(s, &settings->model, error) || !open_predictors(s, error) || !vocabularies_fit(s, error) ||
      !set_lengths(s, error) ||
      !engine_init(&s->engine, engine_config(s, settings), &s->policy_base, predictor_adapter(&s->policy),
                   &s->compute, &s->memory.cache, error) ||
      !engine_check_lengths(&s->engine, (int64_t)s->prompts.longest, s->config.rollout.max_new_tokens, log,
                            error) ||
      !pass_init(&s->pass, s->reward.model, error) || !open_packer(s, error)) {
    return false;
  }
  if (s->compute.dry) plan_scoring(s);
  return true;
}

static void close_models(SampleSession *s) {
  packer_free(&s->packer);
  pass_free(&s->pass);
  engine_free(&s->engine);
  predictor_close(&s->policy);
  predictor_close(&s->reward);
  base_close(&s->policy_base);
  base_close(&s->reward_base);
}

/* What training could do for memory is taken to be done already, so that none of it is advice. */
static PlanSettings settings_of(const SampleConfig *config) {
  PlanSettings settings = {.model = config->model,
                           .lora = {.enabled = true},
                           .rollout_batch = config->rollout.batch,
                           .cache_dtype = config->rollout.cache_dtype};
  settings.model.recompute = true;
  settings.model.offload = MODEL_OFFLOAD_ACTIVATIONS;
  return settings;
}

static bool make_plan(void *context, const PlanSettings *settings, MemoryPlan *plan, Error *error) {
  SampleSession *s = context;
  plan_begin(&s->memory, &s->compute);
  bool ok = open_models(s, settings, error);
  close_models(s);
  ok = plan_end(plan, &s->memory, &s->compute, error) && ok;
  const int64_t answers = prompts_of_round(s, settings->rollout_batch) * s->config.sample.n;
  const size_t each = sizeof(RolloutSample) + 8 * (size_t)s->config.rollout.max_new_tokens; /* ids and text */
  plan_add(plan, "answers of a round", (size_t)answers * each);
  return ok;
}

bool sample_prepare(SampleSession *session, Error *error) {
  SampleSession *s = session;
  const DeviceConfig *device = &s->config.device;
  if (!(s->check ? device_open_to_plan : device_open)(&s->compute, device, s->log, error) ||
      !open_data(s, error)) {
    return false;
  }
  const PlanSettings settings = settings_of(&s->config);
  return plan_check(make_plan, s, &settings, 1, device_limits(&s->compute), s->log, &s->plan, error);
}

/* -- what weights they are -------------------------------------------------------------------------------- */

/* Where weights come from. */
typedef struct Origin {
  const char *owner, *what, *path;
} Origin;
enum { ORIGINS = 4 };

static void origins_of(const SampleConfig *config, Origin out[ORIGINS]) {
  out[0] = (Origin){"policy", "base", config->model.path};
  out[1] = (Origin){"policy", "adapter", config->model.adapter};
  out[2] = (Origin){"reward", "base", config->reward.path};
  out[3] = (Origin){"reward", "adapter", config->reward.adapter};
}

static bool take_digests(SampleSession *s, Error *error) {
  Origin origins[ORIGINS];
  origins_of(&s->config, origins);
  for (int i = 0; i < ORIGINS; i++) {
    if (origins[i].path && !weights_digest(&s->digests[i], origins[i].path, error)) return false;
  }
  return true;
}

static bool weights_state(const SampleSession *s, Checkpoint *checkpoint, Error *error) {
  Origin origins[ORIGINS];
  origins_of(&s->config, origins);
  for (int i = 0; i < ORIGINS; i++) {
    const Origin *origin = &origins[i];
    if (!origin_state(checkpoint, origin->owner, origin->what, origin->path, &s->digests[i], error))
      return false;
  }
  return true;
}

/* -- opening ---------------------------------------------------------------------------------------------- */

static bool allocate_round(SampleSession *s, Error *error) {
  s->round_prompts = prompts_of_round(s, s->config.rollout.batch);
  const size_t answers = (size_t)(s->round_prompts * s->config.sample.n);
  const size_t tokens = answers * (size_t)s->config.rollout.max_new_tokens;
  return ((s->samples = memory_zeroed(answers, sizeof *s->samples)) &&
          (s->texts = memory_zeroed(answers, sizeof *s->texts)) &&
          (s->scores = memory_zeroed(answers, sizeof *s->scores)) &&
          (s->responses = memory_zeroed(tokens, sizeof *s->responses))) ||
         error_out_of_memory(error, "answers of a round", tokens * sizeof *s->responses);
}

bool sample_allocate(SampleSession *session, Error *error) {
  SampleSession *s = session;
  const PlanSettings settings = settings_of(&s->config);
  return train_memory_allocate(&s->memory, &s->compute, s->log, error) && open_models(s, &settings, error) &&
         take_digests(s, error) && allocate_round(s, error);
}

void sample_close(SampleSession *session) {
  SampleSession *s = session;
  for (int64_t i = 0; s->texts && i < s->round_prompts * s->config.sample.n; i++) buffer_free(&s->texts[i]);
  memory_free(s->texts);
  memory_free(s->samples);
  memory_free(s->scores);
  memory_free(s->responses);
  journal_close(&s->journal);
  close_models(s);
  if (s->compute.backend) train_memory_free(&s->memory, &s->compute);
  dataset_close(&s->prompts);
  text_tools_close(&s->text);
  if (s->compute.backend) compute_close(&s->compute);
  *s = (SampleSession){0};
}

bool sample_state(void *session, Checkpoint *checkpoint, Error *error) {
  SampleSession *s = session;
  DataCursor cursor = {.index = (uint64_t)s->done};
  const bool ok = data_state(checkpoint, "data.prompts", &s->prompts, &cursor, error) &&
                  checkpoint_count(checkpoint, "sample.bytes", &s->journal.bytes, error) &&
                  weights_state(s, checkpoint, error);
  s->done = (int64_t)cursor.index;
  return ok;
}
