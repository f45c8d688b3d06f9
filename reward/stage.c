#include "reward/stage.h"

#include "datasets/order.h"
#include "reward/loss.h"
#include "reward/pairs.h"
#include "train/data.h"
#include "train/course.h"
#include "train/plan.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_SOURCES = 64 };

/* How well pairs are told apart. */
typedef struct Judgement {
  double loss, accuracy, margin;
  double of_source[MAX_SOURCES]; /* accuracy; negative where a source has no pairs */
} Judgement;

/* Everything the stage holds. */
typedef struct RewardStage {
  const RewardStageConfig *config;
  Log *log;
  Compute compute;
  TrainMemory memory;
  MemoryPlan plan;
  LoraSpec lora;
  Model base;
  Trainee scorer;
  Pass pass;
  TextTools text;
  Dataset train, eval, reference;
  bool has_eval;
  DataOrder order;
  Pairs pairs;
  Run run;
  Schedule schedule;
  /* What the next update depends on, beside the weights and the optimiser: kept in checkpoints. */
  int64_t step; /* updates done */
  DataCursor cursor;
  double loss, accuracy; /* of the last update */
} RewardStage;

static PassMode training_mode(const ModelConfig *model) {
  return model->recompute ? PASS_RECOMPUTE : PASS_TRAIN;
}

/* -- one update ----------------------------------------------------------------------------------------- */

/* Forward, loss and backward of the micro-batch that is filled in; n pairs are in the whole update. */
static PairLoss learn(RewardStage *s, PassMode mode, uint64_t site, double n) {
  Pairs *p = &s->pairs;
  const size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->scorer.model, trainee_adapter(&s->scorer), &p->batch, mode, site,
               &s->memory.step);
  pairs_score(p, &s->pass, &s->scorer.head);
  const PairLoss loss = pair_loss(p->chosen, p->rejected, p->margin, p->count, s->config->reward.centring, n,
                                  p->dchosen, p->drejected);
  pairs_score_backward(p, &s->pass, &s->scorer.head);
  pass_backward(&s->pass);
  arena_release(&s->memory.step, mark);
  return loss;
}

static void score(RewardStage *s) {
  const size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->scorer.model, trainee_adapter(&s->scorer), &s->pairs.batch,
               PASS_INFERENCE, 0, &s->memory.step);
  pairs_score(&s->pairs, &s->pass, &s->scorer.head);
  arena_release(&s->memory.step, mark);
}

typedef struct Update {
  double lr, grad_norm, margin, seconds;
  int64_t tokens;
} Update;

static bool update(RewardStage *s, Update *out, Error *error) {
  const RewardStageConfig *config = s->config;
  const int count = (int)config->optim.batch_size;
  const double started = time_monotonic();
  data_order_take(&s->order, &s->cursor, count, s->pairs.refs);
  if (!pairs_plan(&s->pairs, &s->train, count, config->data.packing, error)) return false;
  *out = (Update){.lr = schedule_rate(&s->schedule, s->step)};
  double sums[4] = {0, 0, 0, count}; /* loss, correct, margin, pairs: of all ranks */
  comm_sum(&s->compute.comm, &sums[3], 1);
  for (int i = 0; i < s->pairs.packing.count; i++) {
    const uint64_t site = (uint64_t)s->step * (uint64_t)count + (uint64_t)i;
    pairs_fill(&s->pairs, i);
    const PairLoss part = learn(s, training_mode(&config->model), site, sums[3]);
    sums[0] += part.loss;
    sums[1] += part.correct;
    sums[2] += part.margin;
    out->tokens += s->pairs.batch.tokens;
  }
  comm_sum(&s->compute.comm, sums, 3);
  s->loss = sums[0];
  s->accuracy = sums[1] / sums[3];
  out->margin = sums[2] / sums[3];
  if (!run_check_finite(&s->run, "the loss", s->loss, s->step + 1, error)) return false;
  if (!trainee_step(&s->scorer, &s->compute, out->lr, &out->grad_norm, error)) {
    return error_context(error, "step %" PRId64 " (last good checkpoint: %s)", s->step + 1,
                         s->run.last_checkpoint ? s->run.last_checkpoint : "none");
  }
  s->step++;
  out->seconds = time_monotonic() - started;
  return true;
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

/* Calls `visit` with every micro-batch of the data, scored. */
typedef void ScoredVisit(RewardStage *s, void *context);

static bool score_all(RewardStage *s, const Dataset *data, ScoredVisit *visit, void *context, Error *error) {
  for (uint64_t first = 0; first < data->count; first += (uint64_t)s->pairs.group) {
    const uint64_t left = data->count - first;
    const int count = left < (uint64_t)s->pairs.group ? (int)left : (int)s->pairs.group;
    for (int i = 0; i < count; i++) s->pairs.refs[i] = dataset_reference(data, first + (uint64_t)i);
    if (!pairs_plan(&s->pairs, data, count, s->config->data.packing, error)) return false;
    for (int i = 0; i < s->pairs.packing.count; i++) {
      pairs_fill(&s->pairs, i);
      score(s);
      visit(s, context);
    }
  }
  return true;
}

typedef struct Tally {
  PairLoss sum;
  double pairs;
  double correct_of[MAX_SOURCES], pairs_of[MAX_SOURCES];
} Tally;

static void tally_pairs(RewardStage *s, void *context) {
  Tally *tally = context;
  const Pairs *p = &s->pairs;
  for (int64_t i = 0; i < p->count; i++) {
    const PairLoss one = pair_loss(&p->chosen[i], &p->rejected[i], &p->margin[i], 1,
                                   s->config->reward.centring, 1, NULL, NULL);
    const uint32_t source = p->examples[p->members[i]].source;
    tally->sum.loss += one.loss;
    tally->sum.correct += one.correct;
    tally->sum.margin += one.margin;
    tally->pairs++;
    if (source < MAX_SOURCES) {
      tally->correct_of[source] += one.correct;
      tally->pairs_of[source]++;
    }
  }
}

static bool evaluate(RewardStage *s, Judgement *out, Error *error) {
  Tally tally = {0};
  if (!score_all(s, &s->eval, tally_pairs, &tally, error)) return false;
  *out = (Judgement){.loss = tally.sum.loss / tally.pairs,
                     .accuracy = tally.sum.correct / tally.pairs,
                     .margin = tally.sum.margin / tally.pairs};
  for (int i = 0; i < MAX_SOURCES; i++) {
    out->of_source[i] = tally.pairs_of[i] > 0 ? tally.correct_of[i] / tally.pairs_of[i] : -1;
  }
  return run_check_finite(&s->run, "the evaluation loss", out->loss, s->step, error);
}

static bool evaluate_and_log(RewardStage *s, Judgement *out, Error *error) {
  if (!s->has_eval) return true;
  if (!evaluate(s, out, error)) return false;
  RunLog *log = &s->run.runlog;
  runlog_metric(log, s->step, "eval/loss", out->loss);
  runlog_metric(log, s->step, "eval/accuracy", out->accuracy);
  runlog_metric(log, s->step, "eval/margin", out->margin);
  log_info(s->log, "step %" PRId64 ": eval loss %.4f, accuracy %.2f%%, margin %.3f", s->step, out->loss,
           100 * out->accuracy, out->margin);
  for (size_t i = 0; s->eval.source_count > 1 && i < s->eval.source_count && i < MAX_SOURCES; i++) {
    char name[600];
    if (out->of_source[i] < 0) continue;
    snprintf(name, sizeof name, "eval/accuracy/%s", s->eval.sources[i].path);
    runlog_metric(log, s->step, name, out->of_source[i]);
    log_info(s->log, "  %s: accuracy %.2f%%", s->eval.sources[i].path, 100 * out->of_source[i]);
  }
  return true;
}

/* -- the zero point ------------------------------------------------------------------------------------- */

static void add_scores(RewardStage *s, void *context) {
  double *sum = context;
  for (int64_t i = 0; i < s->pairs.sequences; i++) *sum += s->pairs.scores[i];
}

/* Makes the mean score of the reference answers 0. */
static bool set_zero_point(RewardStage *s, Error *error) {
  if (s->reference.count == 0) return true;
  double sum = 0;
  s->scorer.head.shift = 0;
  if (!score_all(s, &s->reference, add_scores, &sum, error)) return false;
  const double mean = sum / (double)s->reference.count;
  if (!run_check_finite(&s->run, "the mean score of data.reference", mean, s->step, error)) return false;
  s->scorer.head.shift = (float)mean;
  runlog_metric(&s->run.runlog, s->step, "reward/shift", mean);
  log_info(s->log, "scores are shifted by %.4f: the mean over %" PRIu64 " reference answers is 0", -mean,
           s->reference.count);
  return true;
}

/* -- data and memory ------------------------------------------------------------------------------------ */

static bool open_part(RewardStage *s, Dataset *out, const char *name, const OptionSources *sources,
                      DatasetKind kind, DatasetPart part, Error *error) {
  return data_open(out, name, sources, kind, part, &s->config->data, &s->config->run, &s->text, s->log,
                   error);
}

static bool open_data(RewardStage *s, Error *error) {
  const DataConfig *data = &s->config->data;
  const bool split = data->eval_fraction > 0;
  s->has_eval = data->eval.count > 0 || split;
  if (!text_tools_open(&s->text, s->config->model.path, data, error) ||
      !open_part(s, &s->train, "data.train", &data->train, DATASET_PREFERENCE,
                 split ? DATASET_TRAIN_PART : DATASET_ALL, error)) {
    return false;
  }
  if (s->has_eval && !open_part(s, &s->eval, "data.eval", split ? &data->train : &data->eval,
                                DATASET_PREFERENCE, split ? DATASET_EVAL_PART : DATASET_ALL, error)) {
    return false;
  }
  if (s->config->reference.count > 0 && !open_part(s, &s->reference, "data.reference", &s->config->reference,
                                                   DATASET_SFT, DATASET_ALL, error)) {
    return false;
  }
  return data_order_init(&s->order, &s->train, (uint64_t)s->config->run.seed, data->shuffle, error);
}

static bool open_model(RewardStage *s, const ModelConfig *model, const LoraConfig *lora,
                       const OptimConfig *optim, Error *error) {
  TraineeSpec spec = trainee_spec_of("reward", model, lora, &s->lora, optim, (uint64_t)s->config->run.seed);
  spec.score_head = true;
  spec.head_from = model->path;
  return base_open(&s->base, model->path, trainee_merge_of(model, lora), model_config_dtype(model),
                   &s->compute, &s->memory, error) &&
         trainee_open(&s->scorer, &spec, &s->base, &s->compute, &s->memory, error) &&
         pass_init(&s->pass, &s->base, error);
}

static void close_model(RewardStage *s) {
  pass_free(&s->pass);
  trainee_close(&s->scorer);
  base_close(&s->base);
}

/* Tokens of the longest sequence: one side of a pair, or a reference answer. */
static int64_t longest_sequence(const RewardStage *s) {
  uint64_t longest = s->train.longest_sequence;
  if (s->eval.longest_sequence > longest) longest = s->eval.longest_sequence;
  if (s->reference.longest_sequence > longest) longest = s->reference.longest_sequence;
  return (int64_t)longest;
}

/* A PlanMaker: the largest update there can be, in dry arenas. */
static bool plan(void *context, const PlanSettings *settings, MemoryPlan *out, Error *error) {
  RewardStage *s = context;
  ModelConfig model = s->config->model;
  LoraConfig lora = s->config->lora;
  OptimConfig optim = s->config->optim;
  model.recompute = settings->recompute;
  model.dtype = settings->dtype == DTYPE_BF16;
  lora.enabled = settings->lora;
  optim.state = settings->eight_bit_state;
  plan_begin(&s->memory, &s->compute);
  bool ok = pairs_init(&s->pairs, s->config->optim.batch_size, settings->micro_batch_tokens, error) &&
            open_model(s, &model, &lora, &optim, error) &&
            base_check_length(&s->base, longest_sequence(s), NULL, error);
  if (ok) {
    double norm;
    pairs_fill_dry(&s->pairs);
    (void)learn(s, training_mode(&model), 0, 1);
    score(s);
    ok = trainee_step(&s->scorer, &s->compute, 0, &norm, error);
  }
  close_model(s);
  pairs_free(&s->pairs);
  return plan_end(out, &s->memory, &s->compute, error) && ok;
}

static bool check_plan(RewardStage *s, Error *error) {
  const RewardStageConfig *config = s->config;
  uint64_t longest = s->train.longest;
  if (s->eval.longest > longest) longest = s->eval.longest;
  if (s->reference.longest > longest) longest = s->reference.longest;
  if ((int64_t)longest > config->optim.micro_batch_tokens) {
    return error_set(error, ERROR_USAGE,
                     "the longest pair has %" PRIu64 " tokens, optim.micro_batch_tokens is %" PRId64
                     ": raise it to that, or lower data.max_length",
                     longest, config->optim.micro_batch_tokens);
  }
  const PlanSettings settings = {.micro_batch_tokens = config->optim.micro_batch_tokens,
                                 .recompute = config->model.recompute,
                                 .lora = config->lora.enabled,
                                 .dtype = model_config_dtype(&config->model),
                                 .eight_bit_state = optimizer_spec_of(&config->optim).eight_bit};
  return plan_check(plan, s, &settings, (int64_t)longest, device_limit(&s->compute), s->log, &s->plan, error);
}

/* -- checkpoints ---------------------------------------------------------------------------------------- */

/* To a checkpoint and from one; see train/checkpoint.h. */
static bool state(void *stage, Checkpoint *checkpoint, Error *error) {
  RewardStage *s = stage;
  return checkpoint_int(checkpoint, "step", &s->step, error) &&
         data_state(checkpoint, "data.train", &s->train, &s->cursor, error) &&
         checkpoint_float(checkpoint, "loss", &s->loss, error) &&
         checkpoint_float(checkpoint, "accuracy", &s->accuracy, error) &&
         trainee_state(&s->scorer, checkpoint, error);
}

/* -- the stage ------------------------------------------------------------------------------------------ */

static void log_update(RewardStage *s, const Update *update, Progress *progress) {
  const double rate = (double)update->tokens / update->seconds;
  if (run_log_due(&s->run, s->step)) {
    RunLog *log = &s->run.runlog;
    runlog_metric(log, s->step, "train/loss", s->loss);
    runlog_metric(log, s->step, "train/accuracy", s->accuracy);
    runlog_metric(log, s->step, "train/margin", update->margin);
    runlog_metric(log, s->step, "train/grad_norm", update->grad_norm);
    runlog_metric(log, s->step, "train/lr", update->lr);
    runlog_metric(log, s->step, "train/tokens_per_second", rate);
  }
  char note[96];
  snprintf(note, sizeof note, "loss %.4f  accuracy %.0f%%  grad %.3g  %.0f tokens/s", s->loss,
           100 * s->accuracy, update->grad_norm, rate);
  progress_update(progress, s->step, note);
}

static bool train(RewardStage *s, Error *error) {
  Progress progress;
  progress_start(&progress, s->log, "reward", "step", s->step, s->schedule.total);
  while (s->step < s->schedule.total) {
    Update done;
    Judgement judgement;
    if (!update(s, &done, error)) return false;
    s->run.runlog.step = s->step;
    log_update(s, &done, &progress);
    const bool last = s->step == s->schedule.total;
    if (!last && run_eval_due(&s->run, s->step) && !evaluate_and_log(s, &judgement, error)) return false;
    runlog_flush(&s->run.runlog);
    const int signal = run_stop_signal();
    if ((signal || run_checkpoint_due(&s->run, s->step)) &&
        !run_save(&s->run, s->step, state, s, &s->compute, error))
      return false;
    if (signal) return run_interrupted_error(signal, error);
  }
  progress_finish(&progress);
  return true;
}

static bool write_result(const RewardStage *s, const Judgement *judgement, const char *output,
                         ProgramResult *result, Error *error) {
  Buffer *json = &result->json;
  bool ok = buffer_format(json, error,
                          "{\"steps\": %" PRId64 ", \"loss\": %.9g, \"accuracy\": %.9g, \"shift\": %.9g",
                          s->step, s->loss, s->accuracy, (double)s->scorer.head.shift);
  if (ok && s->has_eval) {
    ok = buffer_format(json, error, ", \"eval_loss\": %.9g, \"eval_accuracy\": %.9g", judgement->loss,
                       judgement->accuracy);
  }
  return ok && buffer_text(json, ", \"output\": ", error) && result_string(json, output, error) &&
         buffer_text(json, "}", error);
}

static bool finish(RewardStage *s, ProgramResult *result, Error *error) {
  Judgement judgement = {0};
  char *output = NULL;
  bool ok =
      evaluate_and_log(s, &judgement, error) && set_zero_point(s, error) &&
      trainee_save(&s->scorer, s->config->model.path, s->config->run.dir, &s->compute, &output, error) &&
      write_result(s, &judgement, output, result, error);
  plan_report_peak(&s->plan, &s->compute, s->log);
  runlog_flush(&s->run.runlog);
  ok = ok && run_finish(&s->run, result->json.data, error);
  if (ok && s->has_eval) {
    ok = buffer_format(&result->text, error, "%" PRId64 " updates, eval accuracy %.2f%%: %s", s->step,
                       100 * judgement.accuracy, output);
  } else if (ok) {
    ok = buffer_format(&result->text, error, "%" PRId64 " updates, loss %.4f: %s", s->step, s->loss, output);
  }
  memory_free(output);
  return ok;
}

/* Data, device and plan: all that --check looks at. */
static bool prepare(void *stage, Error *error) {
  RewardStage *s = stage;
  const RewardStageConfig *config = s->config;
  if (!open_data(s, error) || !device_open(&s->compute, &config->device, s->log, error) ||
      !lora_spec_of(&s->lora, &config->lora, error) || !check_plan(s, error)) {
    return false;
  }
  int64_t updates =
      (int64_t)data_order_updates(&s->order, (double)config->optim.epochs, (int)config->optim.batch_size);
  if (config->optim.max_steps > 0 && config->optim.max_steps < updates) updates = config->optim.max_steps;
  s->schedule = schedule_of(&config->optim, updates);
  return true;
}

static bool carry_out(void *stage, ProgramResult *result, Error *error) {
  RewardStage *s = stage;
  const RewardStageConfig *config = s->config;
  if (!train_memory_allocate(&s->memory, &s->compute, error) ||
      !pairs_init(&s->pairs, config->optim.batch_size, config->optim.micro_batch_tokens, error) ||
      !open_model(s, &config->model, &config->lora, &config->optim, error) ||
      !base_check_length(&s->base, longest_sequence(s), s->log, error)) {
    return false;
  }
  log_info(s->log, "training %" PRId64 " parameters (%s), %" PRId64 " updates of %" PRId64 " pairs",
           trainee_parameter_count(&s->scorer), s->scorer.kind == TRAINEE_ADAPTER ? "LoRA and head" : "full",
           s->schedule.total, config->optim.batch_size);
  return run_load(&s->run, state, s, &s->compute, error) && train(s, error) && finish(s, result, error);
}

static void stage_close(RewardStage *s) {
  close_model(s);
  pairs_free(&s->pairs);
  train_memory_free(&s->memory, &s->compute);
  lora_spec_free(&s->lora);
  if (s->compute.backend) compute_close(&s->compute);
  data_order_free(&s->order);
  dataset_close(&s->train);
  dataset_close(&s->eval);
  dataset_close(&s->reference);
  text_tools_close(&s->text);
}

bool reward_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  static const Course course = {"reward", prepare, carry_out};
  RewardStage s = {.config = call->config, .log = call->log};
  const bool ok = reward_config_check(s.config, error) &&
                  course_run(&course, &s, &s.run, &s.config->run, call, result, error);
  stage_close(&s);
  return ok;
}
