#include "sft/stage.h"

#include "sft/corpus.h"
#include "train/microbatches.h"
#include "train/course.h"
#include "train/plan.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Everything the stage holds. */
typedef struct Sft {
  const SftConfig *config;
  Log *log;
  Compute compute;
  TrainMemory memory;
  LoraSpec lora;
  Model base;
  Trainee policy;
  Pass pass;
  Corpus corpus;
  Microbatches micro;
  MemoryPlan plan;
  Run run;
  Schedule schedule;
  /* What the next update depends on, beside the weights and the optimiser: kept in checkpoints. */
  int64_t step; /* updates done */
  DataCursor cursor;
  int64_t tokens; /* loss tokens learned from */
  double loss;    /* of the last update, nats per token */
} Sft;

static PassMode training_mode(const ModelConfig *model) {
  return model->recompute ? PASS_RECOMPUTE : PASS_TRAIN;
}

/* -- one update ----------------------------------------------------------------------------------------- */

/* Forward, loss and backward of the micro-batch that is filled in. Returns the sum of -log p over its loss tokens;
 * adds scale times the gradient of that sum. */
static double learn(Sft *s, PassMode mode, uint64_t site, double scale) {
  size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->policy.model, trainee_adapter(&s->policy), &s->micro.batch, mode,
               site, &s->memory.step);
  double sum = token_loss_backward(&s->micro.loss, &s->pass, scale);
  pass_backward(&s->pass);
  arena_release(&s->memory.step, mark);
  return sum;
}

static double judge(Sft *s) {
  size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->policy.model, trainee_adapter(&s->policy), &s->micro.batch,
               PASS_INFERENCE, 0, &s->memory.step);
  double sum = token_loss_evaluate(&s->micro.loss, &s->pass);
  arena_release(&s->memory.step, mark);
  return sum;
}

typedef struct Update {
  double lr, grad_norm, seconds;
  int64_t tokens; /* all tokens computed */
} Update;

static bool update(Sft *s, Update *out, Error *error) {
  const SftConfig *config = s->config;
  int count = (int)config->optim.batch_size;
  int64_t loss_tokens;
  double started = time_monotonic();
  data_order_take(&s->corpus.order, &s->cursor, count, s->micro.refs);
  if (!microbatches_plan(&s->micro, &s->corpus.train, count, config->data.packing, &loss_tokens, error)) {
    return false;
  }
  double sums[2] = {0, (double)loss_tokens}; /* -log p, tokens in the loss: of all ranks */
  comm_sum(&s->compute.comm, &sums[1], 1);
  *out = (Update){.lr = schedule_rate(&s->schedule, s->step)};
  for (int i = 0; i < s->micro.packing.count; i++) {
    /* An update has at most as many micro-batches as examples, so no two passes of the run share a site. */
    uint64_t site = (uint64_t)s->step * (uint64_t)count + (uint64_t)i;
    microbatches_fill(&s->micro, i);
    sums[0] += learn(s, training_mode(&config->model), site, 1 / sums[1]);
    out->tokens += s->micro.batch.tokens;
  }
  comm_sum(&s->compute.comm, &sums[0], 1);
  s->loss = sums[0] / sums[1];
  if (!run_check_finite(&s->run, "the loss", s->loss, s->step + 1, error)) return false;
  if (!trainee_step(&s->policy, &s->compute, out->lr, &out->grad_norm, error)) {
    return error_context(error, "step %" PRId64 " (last good checkpoint: %s)", s->step + 1,
                         s->run.last_checkpoint ? s->run.last_checkpoint : "none");
  }
  s->step++;
  s->tokens += (int64_t)sums[1];
  out->seconds = time_monotonic() - started;
  return true;
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

/* Mean -log p per loss token over the evaluation data. */
static bool evaluate(Sft *s, double *loss, Error *error) {
  const Dataset *data = &s->corpus.eval;
  double sum = 0;
  int64_t tokens = 0;
  for (uint64_t first = 0; first < data->count; first += (uint64_t)s->micro.group) {
    uint64_t left = data->count - first;
    int count = left < (uint64_t)s->micro.group ? (int)left : (int)s->micro.group;
    int64_t loss_tokens;
    for (int i = 0; i < count; i++) s->micro.refs[i] = dataset_reference(data, first + (uint64_t)i);
    if (!microbatches_plan(&s->micro, data, count, s->config->data.packing, &loss_tokens, error))
      return false;
    for (int i = 0; i < s->micro.packing.count; i++) {
      microbatches_fill(&s->micro, i);
      sum += judge(s);
    }
    tokens += loss_tokens;
  }
  *loss = sum / (double)tokens;
  return run_check_finite(&s->run, "the evaluation loss", *loss, s->step, error);
}

static bool evaluate_and_log(Sft *s, double *loss, Error *error) {
  if (!s->corpus.has_eval) return true;
  if (!evaluate(s, loss, error)) return false;
  runlog_metric(&s->run.runlog, s->step, "eval/loss", *loss);
  runlog_metric(&s->run.runlog, s->step, "eval/perplexity", exp(*loss));
  log_info(s->log, "step %" PRId64 ": eval loss %.4f, perplexity %.3f", s->step, *loss, exp(*loss));
  return true;
}

/* -- memory --------------------------------------------------------------------------------------------- */

static bool open_model(Sft *s, const ModelConfig *model, const LoraConfig *lora, const OptimConfig *optim,
                       Error *error) {
  TraineeSpec spec = trainee_spec_of("policy", model, lora, &s->lora, optim, (uint64_t)s->config->run.seed);
  return base_open(&s->base, model->path, trainee_merge_of(model, lora), model_config_dtype(model),
                   &s->compute, &s->memory, error) &&
         trainee_open(&s->policy, &spec, &s->base, &s->compute, &s->memory, error) &&
         pass_init(&s->pass, &s->base, error);
}

static void close_model(Sft *s) {
  pass_free(&s->pass);
  trainee_close(&s->policy);
  base_close(&s->base);
}

/* A PlanMaker: the largest update there can be, in dry arenas. */
static bool plan(void *context, const PlanSettings *settings, MemoryPlan *out, Error *error) {
  Sft *s = context;
  ModelConfig model = s->config->model;
  LoraConfig lora = s->config->lora;
  OptimConfig optim = s->config->optim;
  model.recompute = settings->recompute;
  model.dtype = settings->dtype == DTYPE_BF16;
  lora.enabled = settings->lora;
  optim.state = settings->eight_bit_state;
  plan_begin(&s->memory, &s->compute);
  bool ok = microbatches_init(&s->micro, s->config->optim.batch_size, settings->micro_batch_tokens, error) &&
            open_model(s, &model, &lora, &optim, error) &&
            base_check_length(&s->base, corpus_longest(&s->corpus), NULL, error);
  if (ok) {
    double norm;
    microbatches_fill_dry(&s->micro);
    learn(s, training_mode(&model), 0, 1);
    judge(s);
    ok = trainee_step(&s->policy, &s->compute, 0, &norm, error);
  }
  close_model(s);
  microbatches_free(&s->micro);
  return plan_end(out, &s->memory, &s->compute, error) && ok;
}

static bool check_plan(Sft *s, Error *error) {
  const SftConfig *config = s->config;
  int64_t longest = corpus_longest(&s->corpus);
  if (longest > config->optim.micro_batch_tokens) {
    return error_set(error, ERROR_USAGE,
                     "the longest example has %" PRId64 " tokens, optim.micro_batch_tokens is %" PRId64
                     ": raise it to that, or lower data.max_length",
                     longest, config->optim.micro_batch_tokens);
  }
  PlanSettings settings = {.micro_batch_tokens = config->optim.micro_batch_tokens,
                           .recompute = config->model.recompute,
                           .lora = config->lora.enabled,
                           .dtype = model_config_dtype(&config->model),
                           .eight_bit_state = optimizer_spec_of(&config->optim).eight_bit};
  return plan_check(plan, s, &settings, longest, device_limit(&s->compute), s->log, &s->plan, error);
}

/* -- checkpoints ---------------------------------------------------------------------------------------- */

/* To a checkpoint and from one; see train/checkpoint.h. */
static bool state(void *stage, Checkpoint *checkpoint, Error *error) {
  Sft *s = stage;
  return checkpoint_int(checkpoint, "step", &s->step, error) &&
         data_state(checkpoint, "data.train", &s->corpus.train, &s->cursor, error) &&
         checkpoint_int(checkpoint, "tokens", &s->tokens, error) &&
         checkpoint_float(checkpoint, "loss", &s->loss, error) &&
         trainee_state(&s->policy, checkpoint, error);
}

/* -- the stage ------------------------------------------------------------------------------------------ */

static void log_update(Sft *s, const Update *update, Progress *progress) {
  double rate = (double)update->tokens / update->seconds;
  if (run_log_due(&s->run, s->step)) {
    RunLog *log = &s->run.runlog;
    runlog_metric(log, s->step, "train/loss", s->loss);
    runlog_metric(log, s->step, "train/grad_norm", update->grad_norm);
    runlog_metric(log, s->step, "train/lr", update->lr);
    runlog_metric(log, s->step, "train/tokens", (double)s->tokens);
    runlog_metric(log, s->step, "train/tokens_per_second", rate);
  }
  char note[96];
  snprintf(note, sizeof note, "loss %.4f  grad %.3g  lr %.3g  %.0f tokens/s", s->loss, update->grad_norm,
           update->lr, rate);
  progress_update(progress, s->step, note);
}

static bool train(Sft *s, Error *error) {
  Progress progress;
  progress_start(&progress, s->log, "sft", "step", s->step, s->schedule.total);
  while (s->step < s->schedule.total) {
    Update done;
    double eval_loss;
    if (!update(s, &done, error)) return false;
    s->run.runlog.step = s->step;
    log_update(s, &done, &progress);
    bool last = s->step == s->schedule.total;
    if (!last && run_eval_due(&s->run, s->step) && !evaluate_and_log(s, &eval_loss, error)) return false;
    runlog_flush(&s->run.runlog);
    int signal = run_stop_signal();
    if ((signal || run_checkpoint_due(&s->run, s->step)) &&
        !run_save(&s->run, s->step, state, s, &s->compute, error))
      return false;
    if (signal) return run_interrupted_error(signal, error);
  }
  progress_finish(&progress);
  return true;
}

static bool write_result(const Sft *s, double eval_loss, const char *output, ProgramResult *result,
                         Error *error) {
  Buffer *json = &result->json;
  bool ok = buffer_format(json, error, "{\"steps\": %" PRId64 ", \"tokens\": %" PRId64 ", \"loss\": %.9g",
                          s->step, s->tokens, s->loss);
  if (ok && s->corpus.has_eval) ok = buffer_format(json, error, ", \"eval_loss\": %.9g", eval_loss);
  return ok && buffer_text(json, ", \"output\": ", error) && result_string(json, output, error) &&
         buffer_text(json, "}", error);
}

static bool finish(Sft *s, ProgramResult *result, Error *error) {
  double eval_loss = 0;
  char *output = NULL;
  bool ok =
      evaluate_and_log(s, &eval_loss, error) &&
      trainee_save(&s->policy, s->config->model.path, s->config->run.dir, &s->compute, &output, error) &&
      write_result(s, eval_loss, output, result, error);
  plan_report_peak(&s->plan, &s->compute, s->log);
  runlog_flush(&s->run.runlog);
  ok = ok && run_finish(&s->run, result->json.data, error) &&
       buffer_format(&result->text, error, "%" PRId64 " updates, loss %.4f: %s", s->step, s->loss, output);
  memory_free(output);
  return ok;
}

static void report(const Sft *s) {
  log_info(s->log,
           "training %" PRId64 " of %" PRId64 " parameters (%s), %" PRId64 " updates of %" PRId64 " examples",
           trainee_parameter_count(&s->policy), model_parameter_count(&s->base),
           s->policy.kind == TRAINEE_ADAPTER ? "LoRA" : "full", s->schedule.total,
           s->config->optim.batch_size);
}

/* Data, device and plan: all that --check looks at. */
static bool prepare(void *stage, Error *error) {
  Sft *s = stage;
  const SftConfig *config = s->config;
  if (!corpus_open(&s->corpus, config, s->log, error) ||
      !device_open(&s->compute, &config->device, s->log, error) ||
      !lora_spec_of(&s->lora, &config->lora, error) || !check_plan(s, error)) {
    return false;
  }
  s->schedule = schedule_of(&config->optim, corpus_updates(&s->corpus, &config->optim));
  return true;
}

static bool carry_out(void *stage, ProgramResult *result, Error *error) {
  Sft *s = stage;
  const SftConfig *config = s->config;
  if (!train_memory_allocate(&s->memory, &s->compute, error) ||
      !microbatches_init(&s->micro, config->optim.batch_size, config->optim.micro_batch_tokens, error) ||
      !open_model(s, &config->model, &config->lora, &config->optim, error) ||
      !base_check_length(&s->base, corpus_longest(&s->corpus), s->log, error)) {
    return false;
  }
  report(s);
  return run_load(&s->run, state, s, &s->compute, error) && train(s, error) && finish(s, result, error);
}

static void sft_close(Sft *s) {
  close_model(s);
  microbatches_free(&s->micro);
  train_memory_free(&s->memory, &s->compute);
  lora_spec_free(&s->lora);
  if (s->compute.backend) compute_close(&s->compute);
  corpus_close(&s->corpus);
}

bool sft_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  static const Course course = {"sft", prepare, carry_out};
  Sft s = {.config = call->config, .log = call->log};
  const bool ok = sft_config_check(s.config, error) &&
                  course_run(&course, &s, &s.run, &s.config->run, call, result, error);
  sft_close(&s);
  return ok;
}
