#include "train/supervised.h"

#include "train/absent.h"
#include "train/examples.h"
#include "train/ranks.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

bool supervised_config_check(const SupervisedConfig *config, Error *error) {
  const bool has_eval = config->data.eval.count > 0 || config->data.eval_fraction > 0;
  return training_config_check(&config->model, &config->lora, &config->optim, error) &&
         run_config_check(&config->run, has_eval, error);
}

/* -- one update ----------------------------------------------------------------------------------------- */

/* Forward, loss and backward of the micro-batch that is filled in. */
static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS], bool last) {
  const size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->trainee.predictor.model, predictor_adapter(&s->trainee.predictor),
               &s->micro.packer.batch, s->mode, &s->memory.step);
  s->stage->learn(s, n, sums);
  trainee_backward(&s->trainee, &s->pass, last);
  arena_release(&s->memory.step, mark);
}

void supervised_judge(Supervised *s) {
  const size_t mark = arena_mark(&s->memory.step);
  pass_forward(&s->pass, &s->compute, s->trainee.predictor.model, predictor_adapter(&s->trainee.predictor),
               &s->micro.packer.batch, PASS_INFERENCE, &s->memory.step);
  s->stage->judge(s);
  arena_release(&s->memory.step, mark);
}

typedef struct Update {
  double lr, grad_norm, seconds;
  int64_t tokens;   /* all that were learnt from */
  bool made;        /* not left out */
  char broken[320]; /* the first example with a number that is not finite, or "" */
} Update;

/* Names the first example of the micro-batch for which the model says something that is not finite. */
static void note_broken(const Supervised *s, Update *out) {
  const Packer *packer = &s->micro.packer;
  const TokenRows read = packer->row_count > 0 ? packer_rows(packer) : packer_last(packer);
  microbatches_place(microbatches_broken(&s->micro, read), &s->corpus.train, out->broken, sizeof out->broken);
}

bool supervised_plan(Supervised *s, int64_t count, int64_t *own, Error *error) {
  return microbatches_share(&s->micro, count, &s->compute.comm, own, error) &&
         microbatches_plan(&s->micro, *own, s->config->data.packing, error);
}

/* Gradients of the examples whose refs are filled in. */
static bool accumulate(Supervised *s, int64_t all, Update *out, Error *error) {
  int64_t count;
  double n = 0, sums[SUPERVISED_SUMS] = {0};
  microbatches_take(&s->micro, &s->corpus.train, all);
  if (!supervised_plan(s, all, &count, error)) return false;
  s->micro.draw = (uint64_t)s->step * (uint64_t)s->config->optim.batch_size;
  s->micro.draws = (int64_t)s->corpus.train.most_sequences;
  for (int64_t i = 0; i < count; i++) n += s->stage->size(&s->micro.examples[i]);
  comm_sum(&s->compute.comm, &n, 1);
  const int own = s->micro.packer.plan.count, passes = trainee_passes(&s->trainee, &s->compute, own);
  for (int i = own; i < passes; i++) trainee_stand_by(&s->trainee, &s->compute, own == 0 && i + 1 == passes);
  for (int i = 0; i < own; i++) {
    microbatches_fill(&s->micro, i);
    learn(s, n, sums, i + 1 == own);
    if (!*out->broken && !isfinite(sums[0])) note_broken(s, out);
    out->tokens += s->micro.packer.batch.tokens;
  }
  comm_sum(&s->compute.comm, sums, SUPERVISED_SUMS);
  comm_all_reduce(&s->compute.comm, COMM_SUM, DTYPE_I64, &out->tokens, 1);
  s->stage->settle(s, n, sums);
  if (!isfinite(s->loss)) return ranks_first_text(&s->compute.comm, out->broken, sizeof out->broken, error);
  return true;
}

/* Whether the step was made: when the loss or the gradient is not finite it is not, and *why says which and where. */
static bool make_step(Supervised *s, Update *out, Error *why) {
  if (isfinite(s->loss)) return trainee_step(&s->trainee, &s->compute, out->lr, &out->grad_norm, why);
  trainee_zero_gradients(&s->trainee, &s->compute);
  return error_set(why, ERROR_MODEL, "the loss is %s%s", isnan(s->loss) ? "NaN" : "infinite", out->broken);
}

static bool update(Supervised *s, Update *out, Error *error) {
  const double started = time_monotonic();
  *out = (Update){.lr = schedule_rate(&s->schedule, s->step) / run_caution(&s->run)};
  const int count =
      data_order_take_batch(&s->corpus.order, &s->cursor, (int)s->config->optim.batch_size, s->micro.refs);
  const double former = s->loss;
  Error why = {0};
  if (s->stage->survey && !s->stage->survey(s, count, error)) return false;
  if (!accumulate(s, count, out, error)) return false;
  out->made = make_step(s, out, &why);
  s->step++;
  if (!out->made) {
    s->loss = former;
    if (!run_skip(&s->run, s->step, why.message, error)) return false;
  }
  out->seconds = time_monotonic() - started;
  return true;
}

/* -- evaluation ----------------------------------------------------------------------------------------- */

void supervised_judge_plan(Supervised *s, JudgedVisit *visit, void *context) {
  const int own = s->micro.packer.plan.count;
  const int passes = predictor_passes(&s->trainee.predictor, &s->compute, own);
  for (int i = own; i < passes; i++) pass_forward_idle(&s->base, &s->compute);
  for (int i = 0; i < own; i++) {
    microbatches_fill(&s->micro, i);
    supervised_judge(s);
    visit(s, context);
  }
}

typedef struct Judging {
  JudgedVisit *visit;
  void *context;
  int64_t done;
  uint64_t total; /* examples; both of this rank */
} Judging;

static void visit_and_tell(Supervised *s, void *context) {
  Judging *judging = context;
  judging->visit(s, judging->context);
  judging->done += s->micro.packer.count;
  progress_phase(&s->run.progress, "evaluating %" PRId64 "/%" PRIu64, judging->done, judging->total);
}

bool supervised_judge_all(Supervised *s, const Dataset *data, JudgedVisit *visit, void *context,
                          Error *error) {
  Judging judging = {
      .visit = visit, .context = context, .total = data->count / (uint64_t)s->compute.comm.size};
  for (uint64_t first = 0; first < data->count; first += (uint64_t)s->micro.group) {
    const uint64_t left = data->count - first;
    const int64_t all = left < (uint64_t)s->micro.group ? (int64_t)left : s->micro.group;
    int64_t count;
    for (int64_t i = 0; i < all; i++) s->micro.refs[i] = dataset_reference(data, first + (uint64_t)i);
    microbatches_take(&s->micro, data, all);
    if (!supervised_plan(s, all, &count, error)) return false;
    supervised_judge_plan(s, visit_and_tell, &judging);
  }
  return true;
}

static bool evaluate(Supervised *s, Error *error) {
  if (!s->corpus.has_eval || s->evaluated == s->step) return true;
  if (!s->stage->evaluate(s, error)) return false;
  s->evaluated = s->step;
  learning_judged(&s->learning, &s->run, s->step, s->judged[0]);
  return run_judged(&s->run, s->step, s->judged, error);
}

/* -- checkpoints ---------------------------------------------------------------------------------------- */

/* To a checkpoint and from one; see train/checkpoint.h. */
static bool state(void *context, Checkpoint *checkpoint, Error *error) {
  Supervised *s = context;
  return checkpoint_count(checkpoint, "step", &s->step, error) &&
         data_state(checkpoint, "data.train", &s->corpus.train, &s->cursor, error) &&
         checkpoint_float(checkpoint, "loss", &s->loss, error) && s->stage->state(s, checkpoint, error) &&
         learning_state(&s->learning, checkpoint, error) && trainee_state(&s->trainee, checkpoint, error);
}

/* -- memory --------------------------------------------------------------------------------------------- */

static bool open_pass(Supervised *s, const PlanSettings *settings, Error *error) {
  if (!pass_init(&s->pass, &s->base, error) ||
      !training_offload(&s->pass, &settings->model, &s->compute, &s->memory, error) ||
      !training_graphs(&s->records, settings->graphs, settings->optim.micro_batch_tokens, &s->compute,
                       error)) {
    return false;
  }
  pass_record(&s->pass, &s->records);
  return true;
}

/* What depends on the settings of a plan: the model, and the arrays of a micro-batch. */
static bool open_model(Supervised *s, const PlanSettings *settings, Error *error) {
  const SupervisedConfig *config = s->config;
  const ModelConfig *model = &settings->model;
  TraineeSpec spec = trainee_spec_of(s->stage->trainee, model, &settings->lora, &s->lora, &settings->optim,
                                     (uint64_t)config->run.seed);
  spec.predictor.score_head = s->stage->score_head;
  spec.predictor.head_from = s->stage->score_head ? model->path : NULL;
  spec.text = &s->corpus.text.identity;
  spec.shard = (ShardLevel)settings->shard;
  WeightFormat format = model_config_format(model);
  format.sliced = spec.shard == SHARD_WEIGHTS && s->compute.comm.size > 1;
  s->mode = training_mode(model);
  return microbatches_init(&s->micro, config->optim.batch_size, corpus_most_sequences(&s->corpus),
                           settings->optim.micro_batch_tokens, s->stage->pack, error) &&
         base_open(&s->base, model->path, trainee_merge_of(model, &settings->lora), format, &s->compute,
                   &s->memory, error) &&
         trainee_open(&s->trainee, &spec, &s->base, &s->compute, &s->memory, error) &&
         open_pass(s, settings, error) &&
         base_set_length(&s->base, corpus_longest_sequence(&s->corpus), &s->compute,
                         s->compute.dry ? NULL : s->log, error);
}

static void close_model(Supervised *s) {
  pass_free(&s->pass);
  pass_records_free(&s->records);
  trainee_close(&s->trainee);
  base_close(&s->base);
  microbatches_free(&s->micro);
}

static PlanSettings settings_of(const Supervised *s) {
  const SupervisedConfig *config = s->config;
  return (PlanSettings){.model = config->model,
                        .lora = config->lora,
                        .optim = config->optim,
                        .graphs = config->device.graphs,
                        .shard = config->device.shard,
                        .most_shard = s->comm->size > 1 ? SHARD_WEIGHTS : SHARD_NONE};
}

/* A PlanMaker: the largest update there can be, in dry arenas. */
static bool plan(void *context, const PlanSettings *settings, MemoryPlan *out, Error *error) {
  Supervised *s = context;
  plan_begin(&s->memory, &s->compute);
  bool ok = open_model(s, settings, error);
  if (ok) {
    double norm, sums[SUPERVISED_SUMS] = {0};
    packer_dry(&s->micro.packer);
    learn(s, 1, sums, true);
    supervised_judge(s);
    ok = trainee_step(&s->trainee, &s->compute, 0, &norm, error) &&
         room_measure(&s->writes, &s->trainee, state, s, &s->compute, error);
  }
  close_model(s);
  ok = plan_end(out, &s->memory, &s->compute, error) && ok;
  plan_add(out, "graphs of passes, at most", (size_t)settings->graphs);
  return ok;
}

static bool check_plan(Supervised *s, Error *error) {
  const PlanSettings settings = settings_of(s);
  const int64_t longest = corpus_longest(&s->corpus), room = settings.optim.micro_batch_tokens;
  if (longest > room) {
    return error_set(error, ERROR_USAGE,
                     "the longest %s has %" PRId64 " tokens, optim.micro_batch_tokens is %" PRId64
                     ": raise it to that, or lower data.max_length",
                     s->stage->unit, longest, room);
  }
  return plan_check(plan, s, &settings, longest, device_limits(&s->compute), s->log, &s->plan, error);
}

/* -- the stage ------------------------------------------------------------------------------------------ */

static void log_update(Supervised *s, const Update *update) {
  if (!update->made) {
    progress_update(&s->run.progress, s->step, "left out");
    return;
  }
  const double rate = (double)update->tokens / update->seconds;
  if (run_log_due(&s->run, s->step)) {
    RunLog *log = &s->run.runlog;
    runlog_metric(log, s->step, "train/loss", s->loss);
    runlog_metric(log, s->step, "train/grad_norm", update->grad_norm);
    runlog_metric(log, s->step, "train/lr", update->lr);
    runlog_metric(log, s->step, "train/tokens_per_second", rate);
    s->stage->metrics(s);
  }
  char figures[64] = "", line[200];
  if (s->stage->note) s->stage->note(s, figures, sizeof figures);
  snprintf(line, sizeof line, "loss %.4f (%.4f)%s%s  grad %.3g  lr %.3g  %.0f tokens/s", s->loss,
           trend_add(&s->trend, s->loss), *figures ? "  " : "", figures, update->grad_norm, update->lr, rate);
  progress_update(&s->run.progress, s->step, line);
}

/* A RunKeep. What the stage makes of its result at the end it makes of this one too: a zero point, which learning goes on without. */
static bool keep(void *context, const char *place, const char *about, Error *error) {
  Supervised *s = context;
  ScoreHead *head = &s->trainee.predictor.head;
  const ScoreZero zero = head->zero;
  const bool ok =
      (!s->stage->finish || s->stage->finish(s, error)) &&
      trainee_save_as(&s->trainee, s->config->model.path, &s->corpus.text, place, about, &s->compute, error);
  head->zero = zero;
  return ok;
}

static bool heed(Supervised *s, Error *error) {
  const int64_t before = s->step;
  if (!run_heed_alarms(&s->run, s->step, state, s, &s->compute, error)) return false;
  if (s->step < before) s->evaluated = -1; /* the run has gone back */
  return true;
}

static bool train(Supervised *s, Error *error) {
  Progress *progress = &s->run.progress;
  progress_start(progress, s->log, s->stage->name, "step", s->step, s->schedule.total);
  if (!run_keep_best(&s->run, keep, s, error) || !heed(s, error)) return false;
  while (s->step < s->schedule.total && !run_has_waited(&s->run)) {
    Update done;
    if (!update(s, &done, error)) return false;
    s->run.runlog.step = s->step;
    log_update(s, &done);
    if (done.made) learning_updated(&s->learning, &s->run, s->step, s->loss, done.grad_norm);
    const bool last = s->step == s->schedule.total;
    if (!last && run_eval_due(&s->run, s->step) && !evaluate(s, error)) return false;
    if (!run_updated(&s->run, s->step, last || run_has_waited(&s->run), state, s, &s->compute, error) ||
        !run_keep_best(&s->run, keep, s, error) || !heed(s, error)) {
      return false;
    }
  }
  progress_finish(progress);
  run_say_waited(&s->run);
  return run_check_learned(&s->run, s->step, error);
}

bool supervised_next_try(const Supervised *s, const char *output, Buffer *out, Error *error) {
  return summary_try(s->config->model.path, output, s->trainee.predictor.adapted, s->corpus.text.has_chat,
                     out, error);
}

static bool write_result(const Supervised *s, const char *output, ProgramResult *result, Error *error) {
  const SupervisedStage *stage = s->stage;
  Buffer *json = &result->json;
  return buffer_format(json, error, "{\"steps\": %" PRId64, s->step) && stage->result(s, json, error) &&
         buffer_text(json, ", \"output\": ", error) && result_string(json, output, error) &&
         run_best_result(&s->run, json, error) && buffer_text(json, "}", error) &&
         summary_write(&s->run, s->step, stage->figures, stage->figure_count, &result->text, error) &&
         buffer_format(&result->text, error, ": %s", output) &&
         run_best_words(&s->run, &result->text, error) && stage->next(s, output, &result->text, error);
}

/* Files and result of what was learned, which one rank writes and others help with. */
static bool save(Supervised *s, ProgramResult *result, Error *error) {
  const SupervisedConfig *config = s->config;
  char *output = NULL;
  bool ok = trainee_save(&s->trainee, config->model.path, &s->corpus.text, config->run.dir, &s->compute,
                         &output, error) &&
            (s->comm->rank > 0 || write_result(s, output, result, error));
  plan_report_graphs(&s->records, s->log);
  plan_report_peaks(&s->plan, &s->compute, s->log);
  runlog_flush(&s->run.runlog);
  ok = ok && (s->comm->rank > 0 || run_finish(&s->run, result->json.data, error));
  memory_free(output);
  return ok;
}

static bool finish(Supervised *s, ProgramResult *result, Error *error) {
  return evaluate(s, error) && run_keep_best(&s->run, keep, s, error) &&
         (!s->stage->finish || s->stage->finish(s, error)) && save(s, result, error);
}

static const char *what_is_trained(const Supervised *s) {
  if (!s->trainee.predictor.adapted) return "full";
  return s->stage->score_head ? "LoRA and head" : "LoRA";
}

static void report(const Supervised *s) {
  base_say(&s->base, s->log);
  const int64_t batch = s->config->optim.batch_size, epoch = (int64_t)s->corpus.order.epoch_size;
  char last[64] = "";
  if (epoch % batch) snprintf(last, sizeof last, ", the last of each epoch of %" PRId64, epoch % batch);
  log_info(s->log,
           "training %" PRId64 " of %" PRId64 " parameters (%s), %" PRId64 " updates of %" PRId64 " %ss%s",
           trainee_parameter_count(&s->trainee), model_parameter_count(&s->base), what_is_trained(s),
           s->schedule.total, batch, s->stage->unit, last);
}

static bool open_corpus(void *context, Error *error) {
  Supervised *s = context;
  const SupervisedConfig *config = s->config;
  const DataConfig *data = &config->data;
  if (s->check && absent_data(&config->model, data, "data.train", &data->train, s->log)) {
    s->corpus.train = absent_dataset(data, s->stage->kind == DATASET_PREFERENCE ? 2 : 1);
    return true;
  }
  return corpus_open(&s->corpus, s->stage->kind, &config->model, data, &config->run, s->log, error) &&
         examples_say("data.train", &s->corpus.train, &s->corpus.text, s->log, error);
}

static bool check_sources(const DataConfig *data, const Comm *comm, Error *error) {
  return ranks_check_sources("data.train", &data->train, comm, error) &&
         ranks_check_sources("data.eval", &data->eval, comm, error) &&
         ranks_check_sources("data.reference", &data->reference, comm, error);
}

static bool check_data(const Corpus *corpus, const Comm *comm, Error *error) {
  return ranks_check_data(comm, &corpus->train, error) && ranks_check_data(comm, &corpus->eval, error) &&
         ranks_check_data(comm, &corpus->reference, error);
}

/* Data, device and plan: what --check looks at. */
static bool prepare(void *context, Error *error) {
  Supervised *s = context;
  const SupervisedConfig *config = s->config;
  if (!check_sources(&config->data, s->comm, error) || !ranks_open_data(s->comm, open_corpus, s, error) ||
      !check_data(&s->corpus, s->comm, error) || (s->stage->open && !s->stage->open(s, error)) ||
      !device_open_rank(&s->compute, &config->device, s->comm, s->check, s->log, error) ||
      !lora_spec_of(&s->lora, &config->lora, error) || !check_plan(s, error)) {
    return false;
  }
  comm_barrier(s->comm);           /* memory is looked at before a neighbour takes any */
  if (s->corpus.train.count > 0) { /* else absent: nothing tells how many updates there will be */
    s->schedule = schedule_of(&config->optim, corpus_updates(&s->corpus, &config->optim));
    schedule_report(&s->schedule, (OptimizerKind)config->optim.name, s->log);
  }
  return s->comm->rank > 0 || room_check(&s->writes, &config->run, s->schedule.total, s->log, error);
}

static bool carry_out(void *context, ProgramResult *result, Error *error) {
  Supervised *s = context;
  const PlanSettings settings = settings_of(s);
  if (!train_memory_allocate(&s->memory, &s->compute, s->log, error) || !open_model(s, &settings, error)) {
    return false;
  }
  report(s);
  const Corpus *corpus = &s->corpus;
  if (!examples_keep("data.train", &corpus->train, &corpus->text, &s->run.runlog, error) ||
      (corpus->has_eval &&
       !examples_keep("data.eval", &corpus->eval, &corpus->text, &s->run.runlog, error))) {
    return false;
  }
  run_best_begin(&s->run, s->stage->measures, BEST_MEASURES);
  return (!s->stage->begin || s->stage->begin(s, error)) &&
         run_load(&s->run, s->schedule.total, state, s, &s->compute, error) && train(s, error) &&
         finish(s, result, error);
}

static void supervised_close(Supervised *s) {
  close_model(s);
  train_memory_free(&s->memory, &s->compute);
  lora_spec_free(&s->lora);
  if (s->compute.backend) compute_close(&s->compute);
  corpus_close(&s->corpus);
}

bool supervised_run(const SupervisedStage *stage, void *own, const SupervisedConfig *config,
                    const ProgramCall *call, ProgramResult *result, Error *error) {
  const Course course = {stage->name, prepare, carry_out};
  Comm comm = call->comm ? *call->comm : comm_single();
  Supervised s = {.stage = stage,
                  .own = own,
                  .config = config,
                  .check = call->check,
                  .comm = &comm,
                  .log = call->log,
                  .evaluated = -1};
  const bool ok = supervised_config_check(config, error) &&
                  course_run(&course, &s, &s.run, &config->run, call, result, error);
  supervised_close(&s);
  return ok;
}
