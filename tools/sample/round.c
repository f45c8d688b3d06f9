#include "tools/sample/session.h"

#include <math.h>
#include <string.h>

/* -- sampling ------------------------------------------------------------------------------------------- */

/* The engine's calls cannot fail: what does is kept for afterwards. */
static void take_text(void *context, const RolloutSample *sample, const char *text, size_t bytes) {
  SampleSession *s = context;
  s->text_lost |= !buffer_append(sample->user, text, bytes, &s->text_error);
}

static RolloutSpec rollout_spec(SampleSession *s) {
  const RolloutConfig *rollout = &s->config.rollout;
  return (RolloutSpec){.seed = (uint64_t)s->config.run.seed,
                       .temperature = (float)rollout->temperature,
                       .top_p = (float)rollout->top_p,
                       .top_k = (int)rollout->top_k,
                       .repetition_penalty = (float)rollout->repetition_penalty,
                       .min_new_tokens = rollout->min_new_tokens,
                       .stops = (const char *const *)rollout->stop.items,
                       .stop_count = rollout->stop.count,
                       .eos_ids = s->ends,
                       .eos_count = (size_t)s->end_count,
                       .tokenizer = s->text.tokenizer,
                       .on_token = take_text,
                       .context = s};
}

/* False when a signal came. */
static bool goes_on(const SampleSession *s, Error *error) {
  const int number = run_stop_signal();
  return number == 0 || run_interrupted_error(&s->run, number, error);
}

static int64_t limit_of(const SampleSession *s, uint64_t prompt) {
  const RolloutConfig *rollout = &s->config.rollout;
  if (rollout->limit_from == 0) return rollout->max_new_tokens;
  return rollout_limit((uint64_t)s->config.run.seed, prompt, rollout->limit_from, rollout->max_new_tokens);
}

/* Fills in the round's samples; returns its prompts. */
static int64_t ask(SampleSession *s) {
  const int64_t n = s->config.sample.n, left = (int64_t)s->prompts.count - s->done;
  const int64_t prompts = left < s->round_prompts ? left : s->round_prompts;
  const int64_t most = s->config.rollout.max_new_tokens;
  for (int64_t i = 0; i < prompts * n; i++) {
    const uint64_t prompt = (uint64_t)(s->done + i / n);
    const Example example = dataset_example(&s->prompts, dataset_reference(&s->prompts, prompt));
    buffer_clear(&s->texts[i]);
    s->samples[i] = (RolloutSample){.prompt = example.ids,
                                    .prompt_length = example.count,
                                    .max_new_tokens = limit_of(s, prompt),
                                    .number = (uint64_t)(s->done * n + i),
                                    .user = &s->texts[i],
                                    .response = s->responses + i * most};
  }
  return prompts;
}

/* Gives the answers that are there, and have not been given yet, to whoever judges them. */
static bool submit(SampleSession *s, int64_t count, Error *error) {
  for (int64_t i = 0; i < count; i++) {
    const RolloutSample *sample = &s->samples[i];
    if (sample->finished == ROLLOUT_UNFINISHED || scoring_is_submitted(&s->scoring, i)) continue;
    const uint64_t prompt = sample->number / (uint64_t)s->config.sample.n;
    const Answer answer = {.prompt = dataset_example(&s->prompts, dataset_reference(&s->prompts, prompt)),
                           .ids = sample->response,
                           .count = sample->length,
                           .ended = sample->finished == ROLLOUT_EOS,
                           .finished = rollout_ended(sample),
                           .id = (int64_t)sample->number + 1};
    if (!scoring_submit(&s->scoring, i, &answer, error)) return false;
  }
  return scoring_attend(&s->scoring, error);
}

static bool answer(SampleSession *s, int64_t count, Error *error) {
  Engine *engine = &s->engine;
  const RolloutSpec spec = rollout_spec(s);
  s->text_error = (Error){0};
  s->text_lost = false;
  scoring_begin(&s->scoring, &s->run, s->done);
  bool ok = engine_begin(engine, &spec, s->samples, count, error);
  while (ok && engine_busy(engine)) {
    ok = goes_on(s, error) && engine_step(engine, error) && submit(s, count, error);
  }
  if (!ok) engine_abandon(engine);
  return ok && (!s->text_lost || error_set(error, s->text_error.code, "%s", s->text_error.message));
}

/* -- scores --------------------------------------------------------------------------------------------- */

static bool check_score(const SampleSession *s, int64_t i, Error *error) {
  const float score = s->scoring.score[i];
  if (isfinite(score)) return true;
  const uint64_t prompt = s->samples[i].number / (uint64_t)s->config.sample.n;
  const Example example = dataset_example(&s->prompts, dataset_reference(&s->prompts, prompt));
  return error_set(error, ERROR_MODEL,
                   "%s:%llu: the score of an answer is %s: broken weights, or numbers too large",
                   s->prompts.sources[example.source].path, (unsigned long long)example.line,
                   isnan(score) ? "NaN" : "infinite");
}

/* -- the round ------------------------------------------------------------------------------------------ */

static bool keep(SampleSession *s, int64_t first, RoundFigures *figures, Error *error) {
  const int64_t n = s->config.sample.n;
  SampledAnswer *answers = memory_alloc((size_t)n * sizeof *answers);
  if (!answers) return error_out_of_memory(error, "answers", (size_t)n * sizeof *answers);
  double best = -INFINITY;
  for (int64_t k = 0; k < n; k++) {
    const RolloutSample *sample = &s->samples[first + k];
    const Buffer *text = &s->texts[first + k];
    const double score = s->scoring.score[first + k];
    answers[k] = (SampledAnswer){.text = text->size ? text->data : "",
                                 .bytes = text->size,
                                 .finished = rollout_finish_name(sample->finished),
                                 .tokens = sample->length,
                                 .score = score};
    figures->score += score;
    figures->tokens += sample->length;
    figures->finished += sample->finished != ROLLOUT_LENGTH;
    best = fmax(best, score);
  }
  figures->best += best;
  const bool ok = journal_add(&s->journal, answers, n, error);
  memory_free(answers);
  return ok;
}

bool sample_round(SampleSession *session, RoundFigures *figures, Error *error) {
  SampleSession *s = session;
  const double started = time_monotonic();
  const int64_t n = s->config.sample.n, prompts = ask(s);
  *figures = (RoundFigures){.prompts = prompts, .answers = prompts * n};
  if (!answer(s, prompts * n, error) || !scoring_collect(&s->scoring, prompts * n, error)) return false;
  for (int64_t i = 0; i < prompts * n; i++) {
    if (!check_score(s, i, error)) return false;
  }
  for (int64_t i = 0; i < prompts; i++) {
    if (!keep(s, i * n, figures, error)) return false;
  }
  if (!journal_sync(&s->journal, error)) return false;
  s->done += prompts;
  figures->seconds = time_monotonic() - started;
  return true;
}
