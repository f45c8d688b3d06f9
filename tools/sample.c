/* sample: several answers to each prompt, scored, and the best of them as data for the stages (rejection sampling; docs/sample.md).
 *
 * It has a run directory as the stages have, with answers.jsonl, all answers and their scores, and data.jsonl, what was chosen of them. A run that was
 * stopped, however, goes on when the same command is given again; one that is finished and is given other values of sample.format and the like
 * chooses again without sampling. */
#include "base/process.h"
#include "base/progress.h"
#include "tools/sample/session.h"
#include "tools/sample/write.h"
#include "train/course.h"
#include "train/examples.h"

/* -- figures -------------------------------------------------------------------------------------------- */

/* A ScoringMean: what a source said in a round. */
static void log_mean(void *context, const char *name, bool cost, double sum, double answers) {
  (void)cost; /* sample has none */
  RunLog *log = context;
  char metric[200];
  snprintf(metric, sizeof metric, "sample/reward/%s", name);
  if (answers > 0) runlog_metric(log, log->step, metric, sum / answers);
}

static void log_round(SampleSession *s, const RoundFigures *f, Progress *progress) {
  const double answers = (double)f->answers, rate = (double)f->tokens / f->seconds;
  RunLog *log = &s->run.runlog;
  log->step = s->done;
  runlog_metric(log, s->done, "sample/score", f->score / answers);
  runlog_metric(log, s->done, "sample/best", f->best / (double)f->prompts);
  runlog_metric(log, s->done, "sample/eos_rate", f->finished / answers);
  runlog_metric(log, s->done, "sample/length", (double)f->tokens / answers);
  runlog_metric(log, s->done, "sample/tokens_per_second", rate);
  scoring_means(&s->scoring, f->answers, log_mean, log);
  char note[160];
  snprintf(note, sizeof note, "score %.3f  best of %lld %.3f  ended %.0f%%  %.0f tok/s", f->score / answers,
           (long long)s->config.sample.n, f->best / (double)f->prompts, 100 * f->finished / answers, rate);
  progress_update(progress, s->done, note);
}

static void say_figures(const SampleSession *s, const SampleFigures *f) {
  log_info(s->log, "%lld answers to %lld prompts: mean score %.4f, %.1f tokens, %.1f%% ended by themselves",
           (long long)f->answers, (long long)f->prompts, f->score, f->tokens, 100 * f->finished);
  for (int64_t i = 1; i < f->bests; i++) {
    log_info(s->log, "  best of %lld: mean score %.4f", (long long)f->best_n[i], f->best[i]);
  }
  if (f->dropped.unfinished + f->dropped.duplicates > 0) {
    log_info(s->log, "left out: %lld that did not end, %lld that say what another one says",
             (long long)f->dropped.unfinished, (long long)f->dropped.duplicates);
  }
  if (f->without > 0) log_info(s->log, "%lld prompts gave no record", (long long)f->without);
}

static bool put_result(const SampleSession *s, const SampleFigures *f, ProgramResult *result, Error *error) {
  Buffer *json = &result->json;
  char *path = run_path(&s->run, DATA_FILE);
  bool ok = (path || error_out_of_memory(error, "path", 0)) &&
            buffer_format(json, error,
                          "{\"prompts\": %lld, \"answers\": %lld, \"score\": %.9g, \"length\": %.9g, "
                          "\"eos_rate\": %.9g, \"best_of\": [",
                          (long long)f->prompts, (long long)f->answers, f->score, f->tokens, f->finished);
  for (int64_t i = 0; ok && i < f->bests; i++) {
    ok = buffer_format(json, error, "%s{\"n\": %lld, \"score\": %.9g}", i ? ", " : "",
                       (long long)f->best_n[i], f->best[i]);
  }
  ok = ok &&
       buffer_format(json, error,
                     "], \"unfinished\": %lld, \"duplicates\": %lld, \"records\": %lld, \"record_score\": "
                     "%.9g, \"prompts_without\": %lld, \"output\": ",
                     (long long)f->dropped.unfinished, (long long)f->dropped.duplicates,
                     (long long)f->records, f->record_score, (long long)f->without) &&
       result_string(json, path, error) && buffer_text(json, "}", error) &&
       buffer_format(&result->text, error, "%lld records, mean score %.4f: %s", (long long)f->records,
                     f->record_score, path);
  memory_free(path);
  return ok;
}

/* -- the run -------------------------------------------------------------------------------------------- */

static bool answer_all(SampleSession *s, Error *error) {
  const int64_t total = (int64_t)s->prompts.count;
  Progress progress;
  progress_start(&progress, s->log, "sample", "prompt", s->done, total);
  while (s->done < total) {
    RoundFigures figures;
    run_signals_wait_for("the step at hand, and this round will be made again");
    if (!sample_round(s, &figures, error)) return false;
    log_round(s, &figures, &progress);
    if (!run_updated(&s->run, s->done, s->done == total, sample_state, s, &s->compute, error)) return false;
  }
  progress_finish(&progress);
  return true;
}

static bool prepare(void *session, Error *error) {
  return sample_prepare(session, error);
}

static bool carry_out(void *session, ProgramResult *result, Error *error) {
  SampleSession *s = session;
  SampleFigures figures;
  if (!sample_allocate(s, error) ||
      !examples_keep("data.prompts", &s->prompts, &s->text, &s->run.runlog, error) ||
      !run_load(&s->run, (int64_t)s->prompts.count, sample_state, s, &s->compute, error) ||
      !journal_open_take(&s->journal, run_path(&s->run, JOURNAL_FILE), s->journal.bytes, error) ||
      !answer_all(s, error) || !sample_write(s, &figures, error)) {
    return false;
  }
  say_figures(s, &figures);
  engine_tell_preemptions(&s->engine, s->log);
  plan_report_peak(&s->plan, &s->compute, s->log);
  return put_result(s, &figures, result, error) && run_finish(&s->run, result->json.data, error);
}

static bool sample_rules(const void *config, Error *error) {
  SampleSession session = {.config = *(const SampleConfig *)config, .comm = comm_single()};
  const bool ok = sample_configure(&session, error);
  sample_close(&session);
  return ok;
}

static bool sample_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  static const Course course = {"sample", prepare, carry_out};
  SampleSession session = {
      .config = *(const SampleConfig *)call->config, .check = call->check, .log = call->log};
  /* A checkpoint is two numbers: there is one after each round. */
  session.config.run.save_every = 1;
  session.config.run.keep = 2;
  session.comm = comm_single();
  const bool ok = sample_configure(&session, error) &&
                  course_run(&course, &session, &session.run, &session.config.run, call, result, error);
  sample_close(&session);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "sample",
                           .summary = "Several answers to each prompt, scored, and the best of them as data.",
                           .example =
                               "drover sample --model.path my-model --model.adapter runs/sft/adapter \\\n"
                               "  --reward.path my-model --reward.adapter runs/reward/adapter \\\n"
                               "  --data.prompts prompts.jsonl --run.dir runs/sample",
                           .options = sample_options,
                           .option_count = sample_option_count,
                           .config_size = sizeof(SampleConfig),
                           .rules = sample_rules,
                           .run = sample_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
