#include "rollout/engine.h"

#include "base/memory.h"

#include <string.h>

EngineConfig engine_config_default(const Compute *compute, DType weights) {
  return (EngineConfig){.batch = 32,
                        .block_size = 16,
                        .prefill_chunk = 256,
                        .cache_dtype = compute_activation(compute, weights)};
}

/* -- planning and memory ------------------------------------------------------------------------------- */

static bool config_resolve(EngineConfig *config, const ModelSpec *spec, Error *error) {
  const int64_t limit = spec->max_positions;
  if (limit > 0 && (config->max_length == 0 || config->max_length > limit)) config->max_length = limit;
  if (config->max_length == 0) {
    return error_set(error, ERROR_USAGE, "the model has no longest sequence: a maximum length must be given");
  }
  if (config->batch < 1 || config->batch > INT32_MAX || config->block_size < 1 || config->prefill_chunk < 1 ||
      config->prefill_chunk > INT32_MAX || config->max_length < 2 || config->max_length > INT32_MAX) {
    return error_set(error, ERROR_USAGE,
                     "rollout: batch %lld, block size %lld, prefill chunk %lld, longest sequence %lld: "
                     "expected at least 1, 1, 1 and 2",
                     (long long)config->batch, (long long)config->block_size,
                     (long long)config->prefill_chunk, (long long)config->max_length);
  }
  return true;
}

static int64_t blocks_per_sequence(const EngineConfig *config) {
  return (config->max_length + config->block_size - 1) / config->block_size;
}

/* As many blocks as the budget holds, and no more than all sequences could use. 0 with an error: too few. */
static int64_t cache_blocks(const EngineConfig *config, const ModelSpec *spec, Error *error) {
  const int64_t longest = blocks_per_sequence(config), all = config->batch * longest;
  if (config->cache_bytes == 0) return all;
  const int64_t block_bytes = kv_block_bytes(spec, config->block_size, config->cache_dtype);
  const int64_t blocks = config->cache_bytes / block_bytes;
  if (blocks < longest) {
    error_set(error, ERROR_MEMORY,
              "a KV cache of %lld bytes holds %lld tokens, but one prompt with its response may have %lld "
              "(%lld bytes): give it more or lower the lengths",
              (long long)config->cache_bytes, (long long)(blocks * config->block_size),
              (long long)config->max_length, (long long)(longest * block_bytes));
    return 0;
  }
  return blocks < all ? blocks : all;
}

static bool host_init(Engine *engine, int64_t blocks, Error *error) {
  const EngineConfig *config = &engine->config;
  const size_t batch = (size_t)config->batch;
  if (!scheduler_init(&engine->scheduler, config->batch, blocks, config->block_size,
                      blocks_per_sequence(config), config->prefill_chunk, error)) {
    return false;
  }
  if (config->edits &&
      !repeats_init(&engine->repeats, config->batch, config->max_length, engine->model->spec.vocab, error)) {
    return false;
  }
  engine->texts = memory_zeroed(batch, sizeof *engine->texts);
  return engine->texts || error_out_of_memory(error, "rollout engine", batch * sizeof *engine->texts);
}

bool engine_init(Engine *engine, EngineConfig config, const Model *model, const LoraSet *adapter,
                 Compute *compute, Arena *arena, Error *error) {
  *engine = (Engine){.model = model, .adapter = adapter, .compute = compute, .arena = arena};
  if (model->head < 0) {
    return error_set(
        error, ERROR_MODEL,
        "the model has no LM head and cannot generate: a reward model scores (drover inspect score)");
  }
  if (!config_resolve(&config, &model->spec, error)) return false;
  engine->config = config;
  const int64_t blocks = cache_blocks(&config, &model->spec, error);
  if (blocks == 0) return false;
  const int64_t idle = step_idle_blocks(compute);
  if (!host_init(engine, blocks, error) ||
      !kv_cache_init(&engine->cache, &model->spec, blocks + idle, config.block_size, config.batch + idle,
                     blocks_per_sequence(&config), config.cache_dtype, arena, error) ||
      !step_init(&engine->step, compute, model, adapter, &engine->cache, config.batch + config.prefill_chunk,
                 config.batch, config.edits ? config.max_length : 0, arena, error)) {
    engine_free(engine);
    return false;
  }
  return true;
}

bool engine_check_lengths(const Engine *engine, int64_t longest, int64_t max_new_tokens, Log *log,
                          Error *error) {
  const int64_t most = engine->config.max_length;
  if (longest >= most) {
    return error_set(error, ERROR_USAGE,
                     "the longest prompt has %lld tokens, which leaves no room for an answer: the model has "
                     "positions for %lld; lower data.max_length",
                     (long long)longest, (long long)most);
  }
  if (log && most < longest + max_new_tokens) {
    log_warning(log, "answers to the longest prompts end early: the model has positions for %lld tokens",
                (long long)most);
  }
  return true;
}

void engine_tell_preemptions(const Engine *engine, Log *log) {
  if (engine->stats.preemptions == 0) return;
  log_info(log, "%lld times an answer gave up its place in the full cache and was computed again",
           (long long)engine->stats.preemptions);
}

void engine_free(Engine *engine) {
  if (engine->texts) {
    for (int64_t i = 0; i < engine->config.batch; i++) text_stream_free(&engine->texts[i]);
  }
  memory_free(engine->texts);
  repeats_free(&engine->repeats);
  step_free(&engine->step);
  scheduler_free(&engine->scheduler);
  kv_cache_free(&engine->cache);
  *engine = (Engine){0};
}

/* -- a run --------------------------------------------------------------------------------------------- */

static bool sample_check(const Engine *engine, const RolloutSample *sample, int64_t index, Error *error) {
  const int64_t vocab = engine->model->spec.vocab;
  if (sample->prompt_length < 1) {
    return error_set(error, ERROR_DATA, "prompt %lld is empty", (long long)index);
  }
  if (sample->prompt_length >= engine->config.max_length) {
    return error_set(error, ERROR_DATA,
                     "prompt %lld has %lld tokens, which leaves no room for an answer: prompt and answer "
                     "together have at most %lld",
                     (long long)index, (long long)sample->prompt_length,
                     (long long)engine->config.max_length);
  }
  if (sample->max_new_tokens < 1) {
    return error_set(error, ERROR_USAGE, "max_new_tokens is %lld, expected at least 1",
                     (long long)sample->max_new_tokens);
  }
  for (int64_t i = 0; i < sample->prompt_length; i++) {
    if (sample->prompt[i] < 0 || sample->prompt[i] >= vocab) {
      return error_set(error, ERROR_DATA,
                       "prompt %lld: id %d at %lld is outside the model's vocabulary of %lld",
                       (long long)index, (int)sample->prompt[i], (long long)i, (long long)vocab);
    }
  }
  return true;
}

static bool penalised(const RolloutSpec *spec) {
  return spec->repetition_penalty > 0 && spec->repetition_penalty != 1;
}

/* Tells the step of the run's edits, none among them where there are some at other times. */
static bool begin_edits(Engine *engine, const RolloutSpec *spec, Error *error) {
  StepEdits *edits = &engine->step.edits;
  const bool bans = spec->min_new_tokens > 0 && spec->eos_count > 0;
  ASSERT(engine->config.edits || (!penalised(spec) && !bans));
  if (bans && spec->eos_count > STEP_BANNED) {
    return error_set(
        error, ERROR_USAGE,
        "min_new_tokens: the model has %zu ids that end an answer, and at most %d can be kept out",
        spec->eos_count, STEP_BANNED);
  }
  edits->penalty = penalised(spec) ? spec->repetition_penalty : 1;
  for (size_t i = 0; bans && i < STEP_BANNED; i++) edits->banned[i] = spec->eos_ids[i % spec->eos_count];
  return true;
}

bool engine_begin(Engine *engine, const RolloutSpec *spec, RolloutSample *samples, int64_t count,
                  Error *error) {
  ASSERT(!engine_busy(engine) && !engine->compute->dry);
  ASSERT(spec->tokenizer || spec->stop_count == 0);
  ASSERT(model_serves(engine->model, engine->config.max_length));
  if (!begin_edits(engine, spec, error)) return false;
  for (int64_t i = 0; i < count; i++) {
    if (!sample_check(engine, &samples[i], i, error)) return false;
  }
  engine->spec = *spec;
  engine->key = random_key(spec->seed, RANDOM_SAMPLE);
  engine->scheduler.table_changed = true; /* in the arena's memory there may have been something else since */
  step_refresh(&engine->step);
  for (int64_t i = 0; i < count; i++) {
    samples[i].length = 0;
    samples[i].finished = ROLLOUT_UNFINISHED;
    scheduler_enqueue(&engine->scheduler, &samples[i]);
  }
  return true;
}

bool engine_busy(const Engine *engine) {
  return scheduler_busy(&engine->scheduler);
}

void engine_abandon(Engine *engine) {
  scheduler_clear(&engine->scheduler);
}

bool engine_run(Engine *engine, const RolloutSpec *spec, RolloutSample *samples, int64_t count,
                Error *error) {
  if (!engine_begin(engine, spec, samples, count, error)) return false;
  while (engine_busy(engine)) {
    if (!engine_step(engine, error)) return false;
  }
  return true;
}

/* -- a step -------------------------------------------------------------------------------------------- */

static bool text_wanted(const RolloutSpec *spec) {
  return spec->tokenizer && (spec->stop_count > 0 || spec->on_token);
}

/* A new sequence has an empty text. One that comes back after a preemption has said some of it already: its
 * ids go through again, and what they make ready is not handed out a second time. */
static bool begin_text(const RolloutSpec *spec, TextStream *text, const RolloutSample *sample, Error *error) {
  text_stream_begin(text, spec->tokenizer, spec->stops, spec->stop_count);
  for (int64_t t = 0; t < sample->length; t++) {
    bool stopped;
    if (!text_stream_push(text, sample->response[t], &stopped, error)) return false;
    text_stream_taken(text);
  }
  return true;
}

static void begin_repeats(Repeats *repeats, int64_t slot, const RolloutSample *sample) {
  repeats_clear(repeats, slot);
  repeats_add(repeats, slot, sample->prompt, sample->prompt_length);
  repeats_add(repeats, slot, sample->response, sample->length);
}

/* What is kept of the sequences that this step is the first of. */
static bool begin_sequences(Engine *engine, Error *error) {
  const RolloutSpec *spec = &engine->spec;
  for (int64_t i = 0; i < engine->scheduler.running_count; i++) {
    Sequence *sequence = &engine->scheduler.running[i];
    if (sequence->started) continue;
    sequence->started = true;
    if (penalised(spec)) begin_repeats(&engine->repeats, sequence->slot, sequence->sample);
    if (text_wanted(spec) && !begin_text(spec, &engine->texts[sequence->slot], sequence->sample, error)) {
      return false;
    }
  }
  return true;
}

static bool is_eos(const RolloutSpec *spec, int32_t id) {
  for (size_t i = 0; i < spec->eos_count; i++) {
    if (spec->eos_ids[i] == id) return true;
  }
  return false;
}

/* Appends a sampled id to its sample and decides whether it was the last. `text` may be NULL. */
static bool append_token(const Engine *engine, RolloutSample *sample, int32_t id, float logprob,
                         TextStream *text, Error *error) {
  sample->response[sample->length] = id;
  if (sample->logprobs) sample->logprobs[sample->length] = logprob;
  sample->length++;
  bool stopped = false;
  if (is_eos(&engine->spec, id)) { /* gives no text, special token or not */
    sample->finished = ROLLOUT_EOS;
  } else if (text && !text_stream_push(text, id, &stopped, error)) {
    return false;
  } else if (stopped) {
    sample->finished = ROLLOUT_STOP;
    return true;
  } else if (sample->length == sample->max_new_tokens ||
             sample->prompt_length + sample->length == engine->config.max_length) {
    sample->finished = ROLLOUT_LENGTH;
  }
  const bool over = sample->finished != ROLLOUT_UNFINISHED;
  return !(text && over) || text_stream_finish(text, error);
}

/* No token can be chosen: the weights are broken, or too large for their type. */
static bool not_finite(const Engine *engine, const RolloutSample *sample, Error *error) {
  return error_set(error, ERROR_MODEL,
                   "the model's logits are not finite (NaN or infinite) at token %lld of answer %lld: broken "
                   "weights, or numbers too large for %s",
                   (long long)sample->length + 1, (long long)sample->number,
                   dtype_name(engine->model->dtype));
}

/* Of pick i of the step. */
static void hand_out_logits(Engine *engine, const RolloutSample *sample, int64_t i) {
  const RolloutSpec *spec = &engine->spec;
  float *to = spec->place_logits ? spec->place_logits(spec->context, sample) : NULL;
  if (to) compute_download(engine->compute, to, tensor_rows(engine->step.logits, i, 1));
}

static bool take_tokens(Engine *engine, Error *error) {
  const Scheduler *s = &engine->scheduler;
  const RolloutSpec *spec = &engine->spec;
  for (int64_t i = 0; i < s->pick_count; i++) {
    const Sequence *sequence = &s->running[s->picked_running[i]];
    TextStream *text = text_wanted(spec) ? &engine->texts[sequence->slot] : NULL;
    if (engine->step.sampled[i] < 0) return not_finite(engine, sequence->sample, error);
    hand_out_logits(engine, sequence->sample, i);
    if (!append_token(engine, sequence->sample, engine->step.sampled[i], engine->step.logprobs[i], text,
                      error))
      return false;
    if (penalised(spec)) repeats_add(&engine->repeats, sequence->slot, &engine->step.sampled[i], 1);
    const size_t bytes = text ? text->ready : 0;
    if (spec->on_token)
      spec->on_token(spec->context, sequence->sample, bytes ? text->pending.data : "", bytes);
    if (text) text_stream_taken(text);
  }
  return true;
}

static void fill_sample_rows(Engine *engine) {
  const Scheduler *s = &engine->scheduler;
  const RolloutSpec *spec = &engine->spec;
  for (int64_t i = 0; i < s->pick_count; i++) {
    const RolloutSample *sample = s->running[s->picked_running[i]].sample;
    engine->step.samples[i] = (SampleRow){.key = engine->key,
                                          .sample = sample->number,
                                          .position = (uint64_t)sample->length,
                                          .temperature = spec->temperature,
                                          .top_p = spec->top_p,
                                          .top_k = spec->top_k};
  }
}

static void fill_edits(Engine *engine) {
  const Scheduler *s = &engine->scheduler;
  const RolloutSpec *spec = &engine->spec;
  const Repeats *repeats = &engine->repeats;
  StepEdits *edits = &engine->step.edits;
  edits->used = 0;
  for (int64_t i = 0; engine->config.edits && i < s->pick_count; i++) {
    const Sequence *sequence = &s->running[s->picked_running[i]];
    const int64_t count = penalised(spec) ? repeats->count[sequence->slot] : 0;
    memcpy(edits->ids + edits->used, repeats_of(repeats, sequence->slot), (size_t)count * sizeof *edits->ids);
    edits->from[i] = (int32_t)edits->used;
    edits->count[i] = (int32_t)count;
    edits->bans[i] = spec->eos_count > 0 && sequence->sample->length < spec->min_new_tokens;
    edits->used += count;
  }
}

static void upload_table(Engine *engine) {
  Scheduler *s = &engine->scheduler;
  const Tensor table = tensor_rows(engine->cache.table, 0, s->slots);
  if (s->table_changed) compute_upload(engine->compute, table, s->table);
  s->table_changed = false;
}

static void count_step(Engine *engine, double seconds) {
  const Scheduler *s = &engine->scheduler;
  EngineStats *stats = &engine->stats;
  stats->steps++;
  stats->prompt_rows += s->prompt_rows;
  stats->sampled_tokens += s->pick_count;
  stats->shared_tokens = s->shared_tokens;
  stats->preemptions = s->preemptions;
  if (s->prompt_rows > 0) {
    stats->prefill_seconds += seconds;
  } else {
    stats->decode_seconds += seconds;
    stats->decode_tokens += s->pick_count;
  }
}

bool engine_step(Engine *engine, Error *error) {
  Scheduler *s = &engine->scheduler;
  const double started = time_monotonic();
  scheduler_plan(s);
  if (s->row_count == 0) return true;
  if (!begin_sequences(engine, error)) {
    engine_abandon(engine);
    return false;
  }
  upload_table(engine);
  fill_sample_rows(engine);
  fill_edits(engine);
  step_run(&engine->step, engine->adapter,
           &(StepRows){.ids = s->ids,
                       .sequence = s->sequence,
                       .position = s->position,
                       .picked = s->picked,
                       .count = s->row_count,
                       .picks = s->pick_count,
                       .decoding = s->prompt_rows == 0});

  const bool ok = take_tokens(engine, error);
  step_end(&engine->step);
  count_step(engine, time_monotonic() - started);
  scheduler_retire(s);
  if (!ok) engine_abandon(engine);
  return ok;
}
