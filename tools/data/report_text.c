#include "tools/data/report.h"

#include "base/terminal.h"

#include <string.h>

#define PUT(...) (ok = ok && buffer_format(out, error, __VA_ARGS__))

static bool put_number(Buffer *out, uint64_t value, int width, Error *error) {
  char number[32];
  return buffer_format(out, error, "%*s", width, grouped_number((int64_t)value, number));
}

/* ---- Files ----------------------------------------------------------------------------------------- */

static const Fate fates[] = {FATE_KEPT, FATE_EXACT, FATE_NEAR, FATE_OVERLAP, FATE_EMPTY, FATE_BROKEN};
enum { FATES = sizeof fates / sizeof *fates };

static bool put_file(const FileNote *file, Buffer *out, Error *error) {
  bool ok = put_number(out, file->end - file->begin, 12, error);
  for (int i = 0; ok && i < FATES; i++) ok = put_number(out, file->fates[fates[i]], 12, error);
  return PUT("  %s", file->name ? file->name : "all") &&
         (!file->name || PUT(" (%s)", dataset_format_names[file->format])) && PUT("\n");
}

static bool put_files(const Survey *survey, Buffer *out, Error *error) {
  bool ok = buffer_format(out, error, "%12s", "records");
  for (int i = 0; i < FATES; i++) PUT("%12s", fate_names[fates[i]]);
  PUT("  file\n");
  for (size_t i = 0; ok && i < survey->file_count; i++) ok = put_file(&survey->files[i], out, error);
  if (survey->file_count > 1) {
    const FileNote total = survey_total(survey);
    ok = ok && put_file(&total, out, error);
  }
  return ok;
}

static bool put_written(const Survey *survey, Buffer *out, Error *error) {
  const DataConfig *config = survey->config;
  const FileNote total = survey_total(survey);
  const struct {
    const char *path;
    uint64_t count;
  } outputs[] = {{config->out, total.fates[FATE_KEPT] - total.eval},
                 {config->eval_out, total.eval},
                 {config->removed, survey->count - total.fates[FATE_KEPT]}};
  bool ok = true;
  char number[32];
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
    if (!outputs[i].path) continue;
    PUT("%s: %s records\n", outputs[i].path, grouped_number((int64_t)outputs[i].count, number));
  }
  return ok;
}

static bool put_near(const Survey *survey, Buffer *out, Error *error) {
  const Near *near = &survey->near;
  const int bands = near->minhash.bands, rows = near->minhash.rows;
  char number[32];
  bool ok = true;
  if (survey->config->dedup != DEDUP_NEAR) return true;
  PUT("\nnear: %d-grams of %s, resemblance %g and more; %d bands of %d rows find a pair of %g with "
      "probability %.4f\n",
      near->n, survey->config->shingle ? "characters" : "words", near->threshold, bands, rows,
      near->threshold, bands_find(near->threshold, bands, rows));
  PUT("%s pairs were compared\n", grouped_number((int64_t)near->compared, number));
  if (near->left_out)
    PUT("%s times a record was not compared with all later ones that it shares a band with (more than %d)\n",
        grouped_number((int64_t)near->left_out, number), MOST_COMPARED);
  return ok;
}

/* ---- Texts ----------------------------------------------------------------------------------------- */

static bool put_lengths(const Statistics *statistics, Buffer *out, Error *error) {
  static const double shares[] = {0, 0.1, 0.5, 0.9, 0.99, 1};
  NamedLengths named[4];
  const size_t count = report_lengths(statistics, named);
  bool ok = buffer_format(out, error, "\n%-18s%10s%10s%10s%10s%10s%10s%10s\n", "per record", "mean", "least",
                          "p10", "median", "p90", "p99", "most");
  for (size_t i = 0; ok && i < count; i++) {
    PUT("%-18s%10.1f", named[i].name, lengths_mean(named[i].lengths));
    for (size_t q = 0; ok && q < sizeof shares / sizeof *shares; q++)
      ok = put_number(out, lengths_quantile(named[i].lengths, shares[q]), 10, error);
    PUT("\n");
  }
  return ok;
}

/* Of the last distribution: tokens, or words. */
static bool put_histogram(const Statistics *statistics, Buffer *out, Error *error) {
  NamedLengths named[4];
  const NamedLengths *shown = &named[report_lengths(statistics, named) - 1];
  uint64_t largest = 1, from = 0;
  for (uint64_t to = 1; from <= shown->lengths->most; from = to, to *= 2) {
    const uint64_t count = lengths_between(shown->lengths, from, to);
    if (count > largest) largest = count;
  }
  bool ok = buffer_format(out, error, "\n%s\n", shown->name);
  from = 0;
  for (uint64_t to = 1; ok && from <= shown->lengths->most; from = to, to *= 2) {
    const uint64_t count = lengths_between(shown->lengths, from, to);
    char first[32], number[32], bar[41] = "";
    if (to <= shown->lengths->least) continue;
    const size_t wide = (size_t)(40 * count / largest);
    memset(bar, '#', wide);
    bar[wide] = '\0';
    PUT("%12s and more %12s  %s\n", grouped_number((int64_t)from, first),
        grouped_number((int64_t)count, number), bar);
  }
  return ok;
}

static bool put_scripts(const Statistics *statistics, Buffer *out, Error *error) {
  uint64_t letters = 0;
  char number[32];
  bool ok = true;
  for (Script script = SCRIPT_NONE + 1; script < SCRIPT_COUNT; script++)
    letters += statistics->scripts.characters[script];
  PUT("\n%-18s%12s%12s\n", "script", "letters", "records");
  for (Script script = SCRIPT_NONE + 1; ok && script < SCRIPT_COUNT; script++) {
    const uint64_t count = statistics->scripts.characters[script];
    if (count)
      PUT("%-18s%10.2f %%%12s\n", script_names[script], 100 * (double)count / (double)letters,
          grouped_number((int64_t)statistics->records_of[script], number));
  }
  if (statistics->records_of[SCRIPT_NONE])
    PUT("%-18s%12s%12s\n", "none", "", grouped_number((int64_t)statistics->records_of[SCRIPT_NONE], number));
  return ok;
}

/* A line of a list: control characters would break it. */
static bool put_text(Buffer *out, const char *text, Error *error) {
  char line[1024];
  const size_t count = terminal_text(text, strlen(text), line, sizeof line);
  for (size_t i = 0; i < count; i++) {
    if (line[i] == '\n' || line[i] == '\t') line[i] = ' ';
  }
  return buffer_append(out, line, count, error) && buffer_text(out, "\n", error);
}

static bool put_item(Buffer *out, const FrequentItem *item, Error *error) {
  return put_number(out, item->count, 12, error) && buffer_text(out, "  ", error) &&
         put_text(out, item->text, error);
}

static bool put_error(const Frequent *frequent, Buffer *out, Error *error) {
  char number[32];
  bool ok = true;
  if (frequent->error) PUT(" (each may be up to %s more)", grouped_number((int64_t)frequent->error, number));
  return PUT("\n");
}

static bool put_grams(const Statistics *statistics, size_t top, Buffer *out, Error *error) {
  const Frequent *grams = &statistics->grams;
  size_t *shown = memory_alloc(top * sizeof *shown);
  if (!shown) return error_out_of_memory(error, "report", top * sizeof *shown);
  const size_t count = report_grams(grams, top, shown);
  bool ok = true;
  if (count) {
    PUT("\nrepeated %d-grams of words", statistics->n);
    ok = ok && put_error(grams, out, error);
  }
  for (size_t i = 0; ok && i < count; i++) ok = put_item(out, &grams->items[shown[i]], error);
  memory_free(shown);
  return ok;
}

static bool put_sentences(const Frequent *frequent, const char *name, size_t top, Buffer *out, Error *error) {
  bool ok = true;
  if (!frequent->count) return true;
  PUT("\nfirst sentences of %s", name);
  ok = ok && put_error(frequent, out, error);
  for (size_t i = 0; ok && i < top && i < frequent->count; i++)
    ok = put_item(out, &frequent->items[i], error);
  return ok;
}

static bool put_statistics(const Survey *survey, Buffer *out, Error *error) {
  const Statistics *statistics = &survey->statistics;
  const size_t top = (size_t)survey->config->top;
  char number[32];
  bool ok = put_lengths(statistics, out, error) && put_histogram(statistics, out, error) &&
            put_scripts(statistics, out, error);
  if (statistics->empty_answers)
    PUT("\nempty answers: %s\n", grouped_number((int64_t)statistics->empty_answers, number));
  return ok && put_grams(statistics, top, out, error) &&
         put_sentences(&statistics->prompts, "prompts", top, out, error) &&
         put_sentences(&statistics->answers, "answers", top, out, error);
}

/* ---- Overlap --------------------------------------------------------------------------------------- */

static bool put_overlap(const Survey *survey, Buffer *out, Error *error) {
  const Overlap *overlap = &survey->overlap;
  const OverlapCounts counts = report_overlap(overlap);
  const size_t top = (size_t)survey->config->top;
  const double all = (double)overlap->record_count;
  char number[32], any[32], half[32], whole[32];
  bool ok = true;
  if (!overlap->record_count) return true;
  size_t *shown = memory_alloc(top * sizeof *shown);
  if (!shown) return error_out_of_memory(error, "report", top * sizeof *shown);
  PUT("\nof %s evaluation records %s (%.2f %%) have a %d-gram of words that occurs in the data, %s (%.2f %%) "
      "half of "
      "theirs or more, %s (%.2f %%) all\n",
      grouped_number((int64_t)overlap->record_count, number), grouped_number((int64_t)counts.any, any),
      100 * (double)counts.any / all, overlap->n, grouped_number((int64_t)counts.half, half),
      100 * (double)counts.half / all, grouped_number((int64_t)counts.all, whole),
      100 * (double)counts.all / all);
  const size_t count = report_overlapping(overlap, top, shown);
  for (size_t i = 0; ok && i < count; i++) {
    const EvalRecord *record = &overlap->records[shown[i]];
    PUT("%12u of %-12u %s:%llu\n", record->found, record->grams, record->file,
        (unsigned long long)record->line);
  }
  memory_free(shown);
  return ok;
}

bool report_text(const Survey *survey, Buffer *out, Error *error) {
  const bool ok = put_files(survey, out, error) && put_written(survey, out, error) &&
                  put_near(survey, out, error) && put_statistics(survey, out, error) &&
                  put_overlap(survey, out, error);
  if (ok) out->data[--out->size] = '\0'; /* the last newline is printed */
  return ok;
}
