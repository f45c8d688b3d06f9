#include "tools/sample/write.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "datasets/prompt_record.h"
#include "tools/sample/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Writing {
  SampleSession *session;
  PromptSource source;
  LineReader journal;
  FileWriter out;
  SampledAnswer *answers; /* [n], to the prompt at hand */
  SampleFigures figures;
  int64_t learnt; /* answers that record_score is of */
} Writing;

/* -- one line ------------------------------------------------------------------------------------------- */

/* Writes the prompt's record with the members of `beside`, which is taken over; NULL: it could not be made. */
static bool write_record(Writing *w, const json_t *made, json_t *beside, Error *error) {
  json_t *record = json_copy((json_t *)made);
  const bool ok = record && beside && json_object_update(record, beside) == 0;
  /* Scores are fp32; numbers of the user's own keys come out as they were written. */
  char *text = ok ? json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
  json_decref(record);
  json_decref(beside);
  if (!text) return error_out_of_memory(error, "record", 0);
  w->figures.records++;
  const bool written =
      file_writer_write(&w->out, text, strlen(text), error) && file_writer_write(&w->out, "\n", 1, error);
  free(text);
  return written;
}

static json_t *said(const json_t *made, const SampledAnswer *answer) {
  return prompt_record_answer(made, answer->text, answer->bytes);
}

/* A score as JSON has it: the shortest decimal that is this fp32 number. */
static json_t *score_of(const SampledAnswer *answer) {
  char text[32];
  snprintf(text, sizeof text, "%.9g", answer->score);
  return json_real(strtod(text, NULL));
}

static void count_learnt(Writing *w, const SampledAnswer *answer) {
  w->learnt++;
  w->figures.record_score += answer->score;
}

static bool write_answers(Writing *w, const json_t *made, int64_t count, Error *error) {
  const SampleChoice *choice = &w->session->config.sample;
  for (int64_t i = 0; i < count; i++) {
    const SampledAnswer *answer = &w->answers[i];
    json_t *beside = json_pack("{s:o, s:o}", "completion", said(made, answer), "score", score_of(answer));
    bool ok = true;
    if (choice->format == SAMPLE_UNPAIRED) {
      ok = !json_object_set_new(beside, "label", json_boolean(answer->score >= choice->threshold));
    } else if (choice->format == SAMPLE_SCORED) {
      ok = !json_object_set_new(beside, "finished", json_string(answer->finished)) &&
           !json_object_set_new(beside, "tokens", json_integer(answer->tokens)) &&
           !json_object_set_new(beside, "sample", json_integer(answer->number));
    }
    if (!ok) {
      json_decref(beside);
      return error_out_of_memory(error, "record", 0);
    }
    count_learnt(w, answer);
    if (!write_record(w, made, beside, error)) return false;
  }
  return true;
}

static bool write_pairs(Writing *w, const json_t *made, int64_t count, Error *error) {
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = i + 1; j < count; j++) {
      if (!sample_pair(&w->session->config.sample, w->answers, count, i, j)) continue;
      const SampledAnswer *better = &w->answers[i], *worse = &w->answers[j];
      count_learnt(w, better);
      if (!write_record(
              w, made,
              json_pack("{s:o, s:o, s:o, s:o}", "chosen", said(made, better), "rejected", said(made, worse),
                        "score_chosen", score_of(better), "score_rejected", score_of(worse)),
              error)) {
        return false;
      }
    }
  }
  return true;
}

static bool write_ranking(Writing *w, const json_t *made, int64_t count, Error *error) {
  if (count < 2 || !(w->answers[0].score > w->answers[count - 1].score)) return true; /* nothing to compare */
  json_t *responses = json_array(), *scores = json_array();
  bool ok = responses && scores;
  for (int64_t i = 0; ok && i < count; i++) {
    ok = !json_array_append_new(responses, said(made, &w->answers[i])) &&
         !json_array_append_new(scores, score_of(&w->answers[i]));
    count_learnt(w, &w->answers[i]);
  }
  json_t *beside = json_pack("{s:o, s:o}", "responses", responses, "scores", scores);
  if (ok) return write_record(w, made, beside, error);
  json_decref(beside);
  return error_out_of_memory(error, "record", 0);
}

/* -- one prompt ----------------------------------------------------------------------------------------- */

/* Before anything is sorted or left out. */
static void count_answers(Writing *w, const SampledAnswer *answers, int64_t n) {
  SampleFigures *f = &w->figures;
  double best = -INFINITY;
  int64_t next = 0;
  f->prompts++;
  f->answers += n;
  for (int64_t k = 0; k < n; k++) {
    f->score += answers[k].score;
    f->tokens += (double)answers[k].tokens;
    f->finished += strcmp(answers[k].finished, "length") != 0;
    best = fmax(best, answers[k].score);
    if (k + 1 == f->best_n[next]) f->best[next++] += best;
  }
}

static bool write_prompt(Writing *w, const json_t *made, Error *error) {
  const SampleChoice *choice = &w->session->config.sample;
  const int64_t before = w->figures.records;
  json_t *line;
  if (!journal_next(&w->journal, w->answers, choice->n, &line, error)) return false;
  count_answers(w, w->answers, choice->n);
  const int64_t count = sample_sort(choice, w->answers, choice->n, &w->figures.dropped);
  bool ok = false;
  switch ((SampleFormat)choice->format) {
    case SAMPLE_SFT:
      ok = write_answers(w, made, sample_kept(choice, w->answers, count), error);
      break;
    case SAMPLE_PREFERENCE:
      ok = write_pairs(w, made, count, error);
      break;
    case SAMPLE_RANKING:
      ok = write_ranking(w, made, count, error);
      break;
    case SAMPLE_UNPAIRED:
    case SAMPLE_SCORED:
      ok = write_answers(w, made, count, error);
      break;
  }
  json_decref(line);
  w->figures.without += w->figures.records == before;
  return ok;
}

/* -- all of them ---------------------------------------------------------------------------------------- */

static void name_bests(SampleFigures *figures, int64_t n) {
  for (int64_t k = 1; k < n; k *= 2) figures->best_n[figures->bests++] = k;
  figures->best_n[figures->bests++] = n;
}

static void make_means(Writing *w) {
  SampleFigures *f = &w->figures;
  f->score /= (double)f->answers;
  f->tokens /= (double)f->answers;
  f->finished /= (double)f->answers;
  for (int64_t i = 0; i < f->bests; i++) f->best[i] /= (double)f->prompts;
  f->record_score /= (double)(w->learnt > 0 ? w->learnt : 1);
}

static bool check_any(const SampleFigures *f, Error *error) {
  if (f->records > 0) return true;
  return error_set(
      error, ERROR_DATA,
      "nothing is to be written: of %lld answers %lld did not end, %lld say what another one says, "
      "and no other ones are what sample.format, sample.threshold and sample.margin ask for. All "
      "are kept: the same command with other values of sample chooses again",
      (long long)f->answers, (long long)f->dropped.unfinished, (long long)f->dropped.duplicates);
}

static bool write_all(Writing *w, Error *error) {
  const SampleSession *s = w->session;
  Progress progress;
  progress_start(&progress, s->log, "writing", "prompt", 0, (int64_t)s->prompts.count);
  while (w->source.next < s->prompts.count) {
    json_t *made;
    Example example;
    bool ok = prompt_source_next(&w->source, &made, &example, error) && write_prompt(w, made, error);
    json_decref(made);
    if (!ok) return false;
    progress_update(&progress, (int64_t)w->source.next, NULL);
  }
  progress_finish(&progress);
  return check_any(&w->figures, error) && file_writer_commit(&w->out, error);
}

static bool open_files(Writing *w, Error *error) {
  SampleSession *s = w->session;
  const size_t n = (size_t)s->config.sample.n;
  char *path = run_path(&s->run, DATA_FILE);
  w->answers = memory_zeroed(n, sizeof *w->answers);
  const bool ok = ((path && w->answers) || error_out_of_memory(error, "answers", n * sizeof *w->answers)) &&
                  prompt_source_open(&w->source, &s->prompts, &s->config.data, error) &&
                  line_reader_open(&w->journal, s->journal.path, error) &&
                  file_writer_open(&w->out, path, error);
  memory_free(path);
  return ok;
}

bool sample_write(SampleSession *session, SampleFigures *figures, Error *error) {
  Writing w = {.session = session};
  name_bests(&w.figures, session->config.sample.n);
  const bool ok = open_files(&w, error) && write_all(&w, error);
  file_writer_close(&w.out);
  line_reader_close(&w.journal);
  prompt_source_close(&w.source);
  memory_free(w.answers);
  make_means(&w);
  *figures = w.figures;
  return ok;
}
