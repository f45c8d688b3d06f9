#include "tools/sample/session.h"

#include "base/memory.h"
#include "tools/sample/source.h"
#include "train/absent.h"
#include "train/examples.h"

#include <string.h>

/* A round has so many times the answers that are generated at once: at its end fewer and fewer are. */
enum { ROUND_BATCHES = 4 };
/* Answers to one prompt are scored together as far as they fit in so many tokens, or in those of the longest one. */
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
  if (!text_tools_open(&s->text, &config->model, &config->data, s->log, error)) return false;
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

/* Room for all answers of the largest round: the plan tries smaller ones alone. */
static bool open_scoring(SampleSession *s, Error *error) {
  const SampleConfig *config = &s->config;
  const ScoringSetting setting = {.text = &s->text,
                                  .data = &config->data,
                                  .capacity = prompts_of_round(s, config->rollout.batch) * config->sample.n,
                                  .group = config->sample.n,
                                  .comm = &s->comm,
                                  .runlog = &s->run.runlog,
                                  .log = s->log};
  return scoring_open(&s->scoring, &s->rewards, &setting, error) &&
         scoring_check_prompts(&s->scoring, "data.prompts", &s->prompts, error);
}

/* -- models and memory ------------------------------------------------------------------------------------ */

static bool open_policy(SampleSession *s, const ModelConfig *model, Error *error) {
  const PredictorSpec policy = {
      .name = "policy", .adapted = model->adapter != NULL, .adapter = model->adapter};
  return base_open(&s->base, model->path, NULL, model_config_format(model), &s->compute, &s->memory, error) &&
         predictor_open(&s->policy, &policy, &s->base, PREDICTOR_FROZEN, NULL, &s->compute, &s->memory,
                        error);
}

static bool open_judges(SampleSession *s, const ModelConfig *model, Error *error) {
  const int64_t longest = longest_answered(s);
  const ScoringModels models = {.bases = {{model->path, &s->base}},
                                .base_count = 1,
                                .format = model_config_format(model),
                                .micro_batch_tokens = longest > SCORED_TOKENS ? longest : SCORED_TOKENS,
                                .compute = &s->compute,
                                .memory = &s->memory};
  return scoring_open_models(&s->scoring, &models, error);
}

static bool set_lengths(SampleSession *s, Error *error) {
  const int64_t most = s->base.spec.max_positions, answered = longest_answered(s);
  const int64_t seen = most > 0 && most < answered ? most : answered;
  Log *log = s->compute.dry ? NULL : s->log;
  return base_set_length(&s->base, seen, &s->compute, log, error) &&
         scoring_set_length(&s->scoring, seen, log, error);
}

static EngineConfig engine_config(const SampleSession *s, const PlanSettings *settings) {
  EngineConfig engine = engine_config_default(&s->compute, s->base.dtype);
  engine.batch =
      smaller(settings->rollout_batch, prompts_of_round(s, settings->rollout_batch) * s->config.sample.n);
  engine.max_length = longest_answered(s);
  engine.cache_bytes = s->config.rollout.cache;
  engine.edits = rollout_edits(&s->config.rollout);
  engine.cache_dtype = cache_dtype(settings->cache_dtype, engine.cache_dtype);
  return engine;
}

static bool open_models(SampleSession *s, const PlanSettings *settings, Error *error) {
  Log *log = s->compute.dry ? NULL : s->log;
  if (!open_policy(s, &settings->model, error) || !open_judges(s, &settings->model, error) ||
      !set_lengths(s, error) ||
      !engine_init(&s->engine, engine_config(s, settings), &s->base, predictor_adapter(&s->policy),
                   &s->compute, &s->memory.cache, error) ||
      !engine_check_lengths(&s->engine, (int64_t)s->prompts.longest, s->config.rollout.max_new_tokens, log,
                            error)) {
    return false;
  }
  if (s->compute.dry) scoring_plan(&s->scoring);
  return true;
}

static void close_models(SampleSession *s) {
  engine_free(&s->engine);
  scoring_close_models(&s->scoring);
  predictor_close(&s->policy);
  base_close(&s->base);
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

bool sample_configure(SampleSession *session, Error *error) {
  return scoring_config_read(&session->rewards, &session->config.reward, NULL, error) &&
         sample_config_check(&session->config, error);
}

bool sample_prepare(SampleSession *session, Error *error) {
  SampleSession *s = session;
  const DeviceConfig *device = &s->config.device;
  if (!(s->check ? device_open_to_plan : device_open)(&s->compute, device, s->log, error) ||
      !open_data(s, error) || !open_scoring(s, error)) {
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
  out[2] = (Origin){"reward", "base", config->reward.model.path};
  out[3] = (Origin){"reward", "adapter", config->reward.model.adapter};
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
  memory_free(s->responses);
  journal_close(&s->journal);
  close_models(s);
  scoring_close(&s->scoring);
  scoring_config_free(&s->rewards);
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
