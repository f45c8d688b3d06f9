/* data: looks at data files, leaves out duplicates and what overlaps with an evaluation, splits off an evaluation. */
#include "tools/data/corpus.h"
#include "tools/data/report.h"
#include "tools/data/write.h"
#include "train/program.h"

#include <stdlib.h>
#include <string.h>

static const char *const dedup_names[] = {"none", "exact", "near", NULL};
static const char *const shingle_names[] = {"word", "char", NULL};

/* clang-format off: one option a row */
static const Option options[] = {
    ROW_STRINGS("data", DataConfig, data, NULL, "files to read, in this order"),
    ROW_STRING("out", DataConfig, out, NULL,
               "file for what is kept, one record a line, as it was; without it there is only the report",
               .names = OPTION_NAMES_PATH),
    ROW_STRING("eval-out", DataConfig, eval_out, NULL,
               "file for the part of what is kept that is split off for evaluation",
               .names = OPTION_NAMES_PATH),
    ROW_FLOAT("eval-fraction", DataConfig, eval_fraction, "0.01", 0, 1,
              "share of prompts for eval-out, by a hash of the prompt and the seed", .when = "eval-out"),
    ROW_BOOL("split-near", DataConfig, split_near, "false", "prompts that resemble each other go to one side",
             .when = "eval-out"),
    ROW_STRING("removed", DataConfig, removed, NULL,
               "file for what is left out: reason, place, and of which record it is a duplicate",
               .names = OPTION_NAMES_PATH),
    ROW_STRING("report", DataConfig, report, NULL, "file for the report as JSON", .names = OPTION_NAMES_PATH),
    ROW_CHOICE("format", DataConfig, format, "auto", dataset_format_names,
               "format of the records; auto: what the first record of a file shows"),
    ROW_OBJECT("columns", DataConfig, columns,
               "what the records call the keys of the format, like {\"prompt\": \"question\"}"),
    ROW_BYTES("max-record", DataConfig, max_record, NULL, "largest record; 0 = 64MiB"),
    ROW_CHOICE("text", DataConfig, text, "all", text_choice_names, "which text of a record is compared"),
    ROW_CHOICE("dedup", DataConfig, dedup, "exact", dedup_names,
               "leave out exact duplicates, or near ones too"),
    ROW_CHOICE("normalize", DataConfig, normalize, "full", folding_names,
               "before texts are equal: space = white space is one space; full = also NFC and lower case",
               .when = "dedup != none"),
    ROW_FLOAT("threshold", DataConfig, threshold, "0.8", 0.05, 1,
              "resemblance (Jaccard) from which on records are near duplicates",
              .when = "dedup = near or split-near"),
    ROW_CHOICE("shingle", DataConfig, shingle, "word", shingle_names, "what resemblance counts n-grams of",
               .when = "dedup = near or split-near"),
    ROW_INT("shingle-size", DataConfig, shingle_size, "5", 1, 100, "n of these n-grams",
            .when = "dedup = near or split-near"),
    ROW_INT("permutations", DataConfig, permutations, "128", 1, 4096,
            "of MinHash: more find more, and need more memory", .when = "dedup = near or split-near"),
    ROW_INT("seed", DataConfig, seed, "0", 0, 9007199254740992, "of the split, and of the permutations"),
    ROW_STRINGS("against", DataConfig, against, NULL, "evaluation files to look for in the data"),
    ROW_INT("overlap-ngram", DataConfig, overlap_ngram, "13", 1, 1000,
            "words that an evaluation record and the data have in common", .when = "against"),
    ROW_BOOL("drop-overlap", DataConfig, drop_overlap, "false",
             "leave out records that overlap with an evaluation file", .when = "against"),
    ROW_FLOAT("overlap-share", DataConfig, overlap_share, "0", 0, 1,
              "least share of a record's n-grams for that; 0 = a single one", .when = "drop-overlap"),
    ROW_BOOL("drop-empty", DataConfig, drop_empty, "false", "leave out records with an empty answer"),
    ROW_BOOL("drop-broken", DataConfig, drop_broken, "false",
             "leave out records that cannot be read, instead of stopping"),
    ROW_STRING("model", DataConfig, model, NULL, "directory of a model or tokenizer, to count tokens",
               .names = OPTION_NAMES_MODEL),
    ROW_INT("ngram", DataConfig, ngram, "10", 1, 100, "n of the n-grams of words that the report counts"),
    ROW_INT("top", DataConfig, top, "10", 1, 1000, "how many lines its lists have"),
};
/* clang-format on */

/* What is there already stays. */
static bool refuse_existing(const char *path, const char *option, Error *error) {
  return !path || (!file_exists(path) && !directory_exists(path)) ||
         error_set(error, ERROR_USAGE, "--%s %s: expected a new file, found one that exists", option, path);
}

static bool check_outputs(const DataConfig *config, Error *error) {
  const struct {
    const char *path, *option;
  } outputs[] = {{config->out, "out"},
                 {config->eval_out, "eval-out"},
                 {config->removed, "removed"},
                 {config->report, "report"}};
  const size_t count = sizeof outputs / sizeof *outputs;
  for (size_t i = 0; i < count; i++) {
    if (!refuse_existing(outputs[i].path, outputs[i].option, error)) return false;
    for (size_t k = 0; k < i; k++) {
      if (outputs[i].path && outputs[k].path && strcmp(outputs[i].path, outputs[k].path) == 0)
        return error_set(error, ERROR_USAGE, "--%s and --%s are one file: %s", outputs[k].option,
                         outputs[i].option, outputs[i].path);
    }
  }
  return true;
}

static bool check_options(const DataConfig *config, Error *error) {
  if (config->data.count == 0) return error_set(error, ERROR_USAGE, "--data: no file to read is given");
  if (config->eval_out && !config->out)
    return error_set(error, ERROR_USAGE, "--eval-out: expected --out too, for the rest of the records");
  if (config->drop_overlap && config->against.count == 0)
    return error_set(error, ERROR_USAGE, "--drop-overlap: expected --against, the files to compare with");
  return check_outputs(config, error);
}

/* Whether all that is to be read begins as it should. */
static bool check_files(const OptionSources *files, int format, const DataConfig *config, Error *error) {
  bool ok = true;
  for (size_t i = 0; ok && i < files->count; i++) {
    CorpusReader reader;
    ok = corpus_open(&reader, files->items[i].path, (DatasetFormat)format, config->columns,
                     config->max_record, error);
    const CorpusItem item = ok ? corpus_next(&reader, error) : CORPUS_FAILED;
    if (item == CORPUS_END)
      error_set(error, ERROR_DATA, "%s: no records: the file is empty", files->items[i].path);
    ok = item == CORPUS_RECORD;
    corpus_close(&reader);
  }
  return ok;
}

static bool give_results(const Survey *survey, ProgramResult *result, Error *error) {
  json_t *json = report_json(survey, error);
  char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
  bool ok = text ? buffer_text(&result->json, text, error) : error_out_of_memory(error, "report", 0);
  ok = ok && (!survey->config->report || json_file_write(survey->config->report, json, error)) &&
       report_text(survey, &result->text, error);
  free(text);
  json_decref(json);
  return ok;
}

static bool run_on(const ProgramCall *call, const Inputs *inputs, const Tokenizer *tokenizer,
                   ProgramResult *result, Error *error) {
  const DataConfig *config = call->config;
  if (call->check)
    return check_files(&inputs->data, config->format, config, error) &&
           check_files(&inputs->against, FORMAT_AUTO, config, error);
  Survey survey;
  const bool ok = survey_run(&survey, config, inputs, tokenizer, call->log, error) &&
                  write_records(&survey, error) && give_results(&survey, result, error);
  survey_free(&survey);
  return ok;
}

static bool data_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  const DataConfig *config = call->config;
  options_warn(call->given, config, call->log);
  if (!check_options(config, error)) return false;
  Tokenizer *tokenizer = NULL;
  if (config->model && !(tokenizer = tokenizer_open(config->model, error))) return false;
  Inputs inputs;
  const bool ok =
      inputs_open(&inputs, config, call->log, error) && run_on(call, &inputs, tokenizer, result, error);
  inputs_close(&inputs);
  tokenizer_free(tokenizer);
  return ok;
}

int main(int argc, char **argv) {
  const Program program = {
      .name = "data",
      .summary = "Reports on data files, leaves out duplicates, splits off an evaluation.",
      .example = "drover data --data sft.jsonl --out clean.jsonl --eval-out eval.jsonl \\\n  --dedup near",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(DataConfig),
      .run = data_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
