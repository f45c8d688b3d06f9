#include "tools/data/report.h"

/* Everything returns a new reference; jansson passes NULL on, so that one check at the end is enough. */

static json_t *number(uint64_t value) {
  return json_integer((json_int_t)value);
}

static json_t *fates_json(const FileNote *file) {
  json_t *left_out = json_object();
  for (int fate = FATE_KEPT + 1; fate < FATE_COUNT; fate++)
    json_object_set_new(left_out, fate_names[fate], number(file->fates[fate]));
  return left_out;
}

static json_t *file_json(const FileNote *file) {
  json_t *value = json_object();
  if (file->name) {
    json_object_set_new(value, "path", json_string(file->name));
    json_object_set_new(value, "format", json_string(dataset_format_names[file->format]));
    json_object_set_new(value, "bytes", number(file->bytes));
    json_object_set_new(value, "keys_passed_over", json_string(file->passed.text));
  }
  json_object_set_new(value, "records", number(file->end - file->begin));
  json_object_set_new(value, "kept", number(file->fates[FATE_KEPT]));
  json_object_set_new(value, "eval", number(file->eval));
  json_object_set_new(value, "left_out", fates_json(file));
  return value;
}

static json_t *near_json(const Near *near) {
  const int bands = near->minhash.bands, rows = near->minhash.rows;
  return json_pack("{s:f,s:i,s:i,s:i,s:f,s:I,s:I}", "threshold", near->threshold, "shingle_size", near->n,
                   "bands", bands, "rows", rows, "found_at_threshold",
                   bands_find(near->threshold, bands, rows), "compared", (json_int_t)near->compared,
                   "not_compared_with_all", (json_int_t)near->left_out);
}

static json_t *lengths_json(const Lengths *lengths) {
  static const struct {
    const char *name;
    double share;
  } quantiles[] = {{"least", 0},  {"p1", 0.01}, {"p10", 0.1},  {"p25", 0.25}, {"median", 0.5},
                   {"p75", 0.75}, {"p90", 0.9}, {"p99", 0.99}, {"most", 1}};
  json_t *value = json_object(), *histogram = json_array();
  json_object_set_new(value, "count", number(lengths->count));
  json_object_set_new(value, "sum", number(lengths->sum));
  json_object_set_new(value, "mean", json_real(lengths_mean(lengths)));
  for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
    json_object_set_new(value, quantiles[i].name, number(lengths_quantile(lengths, quantiles[i].share)));
  for (uint64_t from = 0, to = 1; from <= lengths->most; from = to, to *= 2) {
    json_array_append_new(histogram, json_pack("{s:I,s:I}", "from", (json_int_t)from, "count",
                                               (json_int_t)lengths_between(lengths, from, to)));
  }
  json_object_set_new(value, "histogram", histogram);
  return value;
}

static json_t *scripts_json(const Statistics *statistics) {
  json_t *value = json_object();
  for (Script script = 0; script < SCRIPT_COUNT; script++) {
    const uint64_t characters = statistics->scripts.characters[script],
                   records = statistics->records_of[script];
    if (characters || records)
      json_object_set_new(
          value, script_names[script],
          json_pack("{s:I,s:I}", "characters", (json_int_t)characters, "records", (json_int_t)records));
  }
  return value;
}

static json_t *item_json(const FrequentItem *item) {
  return json_pack("{s:I,s:s}", "count", (json_int_t)item->count, "text", item->text);
}

static json_t *sentences_json(const Frequent *frequent, size_t top) {
  json_t *items = json_array();
  for (size_t i = 0; i < top && i < frequent->count; i++)
    json_array_append_new(items, item_json(&frequent->items[i]));
  return json_pack("{s:I,s:o}", "count_error", (json_int_t)frequent->error, "items", items);
}

static json_t *grams_json(const Statistics *statistics, const size_t *shown, size_t count) {
  json_t *items = json_array();
  for (size_t i = 0; i < count; i++)
    json_array_append_new(items, item_json(&statistics->grams.items[shown[i]]));
  return json_pack("{s:i,s:I,s:I,s:o}", "n", statistics->n, "all", (json_int_t)statistics->grams.all,
                   "count_error", (json_int_t)statistics->grams.error, "items", items);
}

static json_t *overlap_json(const Overlap *overlap, const size_t *shown, size_t count) {
  const OverlapCounts counts = report_overlap(overlap);
  json_t *records = json_array();
  for (size_t i = 0; i < count; i++) {
    const EvalRecord *record = &overlap->records[shown[i]];
    json_array_append_new(
        records, json_pack("{s:s,s:I,s:I,s:I}", "file", record->file, "line", (json_int_t)record->line,
                           "ngrams", (json_int_t)record->grams, "found", (json_int_t)record->found));
  }
  return json_pack("{s:i,s:I,s:I,s:I,s:I,s:o}", "n", overlap->n, "records", (json_int_t)overlap->record_count,
                   "with_any", (json_int_t)counts.any, "with_half", (json_int_t)counts.half, "with_all",
                   (json_int_t)counts.all, "most", records);
}

static json_t *texts_json(const Survey *survey, size_t *shown) {
  const Statistics *statistics = &survey->statistics;
  const size_t top = (size_t)survey->config->top;
  json_t *value = json_object(), *lengths = json_object();
  NamedLengths named[4];
  const size_t count = report_lengths(statistics, named);
  for (size_t i = 0; i < count; i++)
    json_object_set_new(lengths, named[i].name, lengths_json(named[i].lengths));
  json_object_set_new(value, "lengths", lengths);
  json_object_set_new(value, "empty_answers", number(statistics->empty_answers));
  json_object_set_new(value, "without_answer", number(statistics->without_answer));
  json_object_set_new(value, "without_prompt", number(statistics->empty_prompts));
  json_object_set_new(value, "scripts", scripts_json(statistics));
  json_object_set_new(value, "ngrams",
                      grams_json(statistics, shown, report_grams(&statistics->grams, top, shown)));
  json_object_set_new(value, "first_sentences_of_prompts", sentences_json(&statistics->prompts, top));
  json_object_set_new(value, "first_sentences_of_answers", sentences_json(&statistics->answers, top));
  return value;
}

json_t *report_json(const Survey *survey, Error *error) {
  const DataConfig *config = survey->config;
  const size_t top = (size_t)config->top;
  const FileNote total = survey_total(survey);
  size_t *shown = memory_alloc(top * sizeof *shown);
  json_t *value = json_object(), *files = json_array();
  if (!shown || !value || !files) error_out_of_memory(error, "report", 0);
  bool ok = shown && value && files;
  for (size_t i = 0; ok && i < survey->file_count; i++)
    json_array_append_new(files, file_json(&survey->files[i]));
  if (ok) {
    json_object_set_new(value, "files", json_incref(files));
    json_object_set_new(value, "all", file_json(&total));
    if (config->dedup == DEDUP_NEAR) json_object_set_new(value, "near", near_json(&survey->near));
    json_object_set_new(value, "texts", texts_json(survey, shown));
    if (config->against.count) {
      const size_t count = report_overlapping(&survey->overlap, top, shown);
      json_object_set_new(value, "overlap", overlap_json(&survey->overlap, shown, count));
    }
  }
  memory_free(shown);
  json_decref(files);
  if (ok) return value;
  json_decref(value);
  return NULL;
}
