/* inspect data: what a data set becomes. */
#include "tools/inspect/inspect.h"

#include "datasets/show.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const char *const kind_names[] = {"auto", "sft", "preference", "prompt", "text", "unpaired", NULL};

/* The cache is nobody else's: the files can go as soon as they are mapped. */
bool inspect_data_open(const InspectConfig *config, const TextTools *text, DatasetKind kind, int max_length,
                       Log *log, Dataset *dataset, Error *error) {
  char *cache = directory_temporary("inspect", error);
  *dataset = (Dataset){0};
  if (!cache) return false;
  const DatasetOptions options = {.name = "data",
                                  .kind = kind,
                                  .format = (DatasetFormat)config->format,
                                  .truncation = (DatasetTruncation)config->truncation,
                                  .tokenizer = text->tokenizer,
                                  .chat = text->has_chat ? &text->chat : NULL,
                                  .max_length = config->max_length ? (int)config->max_length : max_length,
                                  .train_on_inputs = config->train_on_inputs,
                                  .by_safety = config->pair_label == 1,
                                  .columns = config->columns,
                                  .cache_dir = cache,
                                  .log = log};
  Error open_error = {0}, ignored = {0};
  bool ok = dataset_open_file(dataset, config->data, &options, &open_error);
  if (!directory_remove_all(cache, &ignored)) log_warning(log, "%s", ignored.message);
  memory_free(cache);
  if (ok && text_tools_check_id(text, config->data, dataset->largest_id, error)) return true;
  if (ok) {
    dataset_close(dataset);
    return false;
  }
  bool no_chat = !text->has_chat && open_error.code == ERROR_USAGE;
  return error_set(error, open_error.code, "%s%s%s", open_error.message, no_chat ? ": " : "",
                   no_chat ? text->chat_error.message : "");
}

/* -- examples ------------------------------------------------------------------------------------------- */

static bool show_sequence(const Tokenizer *tokenizer, const char *name, const Example *example, int k,
                          ProgramResult *result, Error *error) {
  Buffer text = {0}, *json = &result->json;
  IntArray ids = {0};
  char number[32];
  bool ok = example_show(example, k, tokenizer, &ids, &text, error) &&
            buffer_format(&result->text, error, "\n%s, %zu tokens\n%s\n",
                          example_sequence_name(example, k, number), ids.size, text.data) &&
            buffer_format(json, error, ",\"%s\":{\"text\":", name) && result_string(json, text.data, error) &&
            buffer_text(json, ",\"ids\":", error) && json_ids(json, ids.data, ids.size, error);
  if (ok && example->loss) {
    ok = buffer_text(json, ",\"loss\":[", error);
    for (int i = 0; ok && i < example->count; i++) {
      ok = buffer_format(json, error, "%s%d", i ? "," : "", example->loss[i]);
    }
    ok = ok && buffer_text(json, "]", error);
  }
  buffer_free(&text);
  int_array_free(&ids);
  return ok && buffer_text(json, "}", error);
}

/* The verdicts of a safe-rlhf pair: 1 for the chosen side, and for safe; -1 for the other; 0 unsaid. */
static bool show_labels(const PairLabels *labels, ProgramResult *result, Error *error) {
  if (!labels->better && !labels->safer && !labels->chosen_safe && !labels->rejected_safe) return true;
  return buffer_format(&result->text, error, "better %+d, safer %+d; safe: chosen %+d, rejected %+d\n",
                       labels->better, labels->safer, labels->chosen_safe, labels->rejected_safe) &&
         buffer_format(&result->json, error,
                       ",\"labels\":{\"better\":%d,\"safer\":%d,\"chosen_safe\":%d,\"rejected_safe\":%d}",
                       labels->better, labels->safer, labels->chosen_safe, labels->rejected_safe);
}

/* A pair is chosen and rejected, with its margin. Of more answers, the best first, rank and score are said. */
static bool show_answers(const Tokenizer *tokenizer, const Example *example, ProgramResult *result,
                         Error *error) {
  if (example->answer_count == 2) {
    return show_sequence(tokenizer, "chosen", example, 0, result, error) &&
           show_sequence(tokenizer, "rejected", example, 1, result, error) &&
           buffer_format(&result->json, error, ",\"margin\":%g", (double)example->margin) &&
           show_labels(&example->labels, result, error);
  }
  Buffer ranks = {0}, scores = {0};
  bool ok = true;
  for (int k = 0; ok && k < example->answer_count; k++) {
    const ExampleAnswer *answer = &example->answers[k];
    char name[32];
    snprintf(name, sizeof name, "answer_%d", k + 1);
    ok =
        show_sequence(tokenizer, name, example, k, result, error) &&
        buffer_format(&result->text, error, "rank %d, score %g\n", answer->rank + 1, (double)answer->score) &&
        buffer_format(&ranks, error, "%s%d", k ? "," : "", answer->rank + 1) &&
        buffer_format(&scores, error, "%s%g", k ? "," : "", (double)answer->score);
  }
  ok = ok && buffer_format(&result->json, error, ",\"ranks\":[%s],\"scores\":[%s]", ranks.data, scores.data);
  buffer_free(&ranks);
  buffer_free(&scores);
  return ok;
}

static bool show_example(const Tokenizer *tokenizer, const Example *example, ProgramResult *result,
                         Error *error) {
  const char *name = example->loss ? "example" : "prompt";
  bool ok = buffer_format(&result->text, error, "\nline %llu", (unsigned long long)example->line) &&
            buffer_format(&result->json, error, "{\"line\":%llu,\"prompt_tokens\":%d",
                          (unsigned long long)example->line, example->prompt_count) &&
            (example->answers ? show_answers(tokenizer, example, result, error)
                              : show_sequence(tokenizer, name, example, 0, result, error));
  if (ok && !example->loss && *example->reference) {
    ok = buffer_format(&result->text, error, "reference: %s\n", example->reference) &&
         buffer_text(&result->json, ",\"reference\":", error) &&
         result_string(&result->json, example->reference, error);
  }
  return ok && buffer_text(&result->json, "}", error);
}

/* -- the command ---------------------------------------------------------------------------------------- */

static bool show_counts(const InspectConfig *config, const Dataset *dataset, ProgramResult *result,
                        Error *error) {
  const DatasetSource *source = &dataset->sources[0];
  const DatasetCounts *counts = &source->counts;
  const struct {
    const char *name;
    uint64_t value;
  } rows[] = {{"records", counts->records},
              {"examples", counts->examples},
              {"too_long", counts->too_long},
              {"truncated", counts->truncated},
              {"no_loss", counts->no_loss},
              {"empty", counts->empty},
              {"tokens", counts->tokens},
              {"loss_tokens", counts->loss_tokens},
              {"answers", counts->answers}, /* from here on of preferences */
              {"pairs", counts->pairs},
              {"answers_too_long", counts->answers_too_long},
              {"answers_no_loss", counts->answers_no_loss}};
  const size_t row_count = COUNT(rows) - (dataset->kind == DATASET_PREFERENCE ? 0 : 4);
  char number[32];
  const char *kind = kind_names[1 + dataset->kind], *format = dataset_format_names[source->format];
  char needs[128];
  const bool given = config->format != FORMAT_AUTO;
  dataset_format_needs(source->format, needs);
  bool ok =
      buffer_format(&result->text, error, "%s: %s records (%s%s), as %s data\n", source->path, format,
                    given ? "as --format says; their keys: " : "by the keys of the first: ", needs, kind) &&
      buffer_text(&result->json, "{\"path\":", error) && result_string(&result->json, source->path, error) &&
      buffer_format(&result->json, error, ",\"format\":\"%s\",\"kind\":\"%s\"", format, kind);
  for (size_t i = 0; ok && i < row_count; i++) {
    ok = buffer_format(&result->text, error, "%-16s %12s\n", rows[i].name,
                       grouped_number((int64_t)rows[i].value, number)) &&
         buffer_format(&result->json, error, ",\"%s\":%llu", rows[i].name, (unsigned long long)rows[i].value);
  }
  return ok;
}

static bool show_note(const DatasetNote *note, const char *name, const char *what, ProgramResult *result,
                      Error *error) {
  char number[32];
  return (note->records == 0 || buffer_format(&result->text, error, "%-16s %12s  %s (first: line %llu)\n",
                                              name, grouped_number((int64_t)note->records, number), what,
                                              (unsigned long long)note->line)) &&
         buffer_format(&result->json, error, ",\"%s\":%llu", name, (unsigned long long)note->records);
}

/* What the template does to records, where it does. */
static bool show_notes(const DatasetCounts *counts, ProgramResult *result, Error *error) {
  return show_note(&counts->left_out, "left_out", "the template leaves out a message's text", result,
                   error) &&
         show_note(&counts->changed, "changed", "the template changes what the assistant says", result,
                   error) &&
         show_note(&counts->without_end, "without_end", "no end mark after an answer", result, error) &&
         show_note(&counts->apart, "apart", "each turn is an example of its own", result, error) &&
         show_note(&counts->unequal, "unequal", "answers to different prompts", result, error);
}

static bool show_data(const InspectConfig *config, const TextTools *text, const Dataset *dataset,
                      ProgramResult *result, Error *error) {
  const bool packs = dataset->kind != DATASET_PROMPT; /* rollouts fill batches as answers end */
  const char *marked = dataset_marked(dataset->kind);
  result->marked = true;
  bool ok = show_counts(config, dataset, result, error) &&
            show_notes(&dataset->sources[0].counts, result, error) &&
            inspect_show_lengths(dataset, result, error) &&
            (!packs || inspect_show_packing(dataset, (int)config->batch_size, (int)config->micro_batch_tokens,
                                            result, error)) &&
            buffer_text(&result->json, ",\"shown\":[", error);
  if (ok && config->examples > 0 && marked) {
    ok = buffer_format(&result->text, error, "\nBetween " SHOW_BEGIN " and " SHOW_END ": %s\n", marked);
  }
  for (uint64_t i = 0; ok && i < dataset->count && i < (uint64_t)config->examples; i++) {
    Example example = dataset_example(dataset, dataset_reference(dataset, i));
    ok = (i == 0 || buffer_text(&result->json, ",", error)) &&
         show_example(text->tokenizer, &example, result, error);
  }
  if (ok && result->text.size)
    result->text.data[--result->text.size] = '\0'; /* the last newline is printed */
  return ok && buffer_text(&result->json, "]}", error);
}

static bool run_data(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  TextTools text;
  Dataset dataset = {0};
  DatasetFormat format = (DatasetFormat)config->format;
  DatasetKind kind = (DatasetKind)(config->kind - 1);
  if (config->kind == 0 && !dataset_detect(config->data, config->columns, &format, &kind, error))
    return false;
  if (!inspect_text_open(config, &text, call->log, error)) return false;
  bool ok = inspect_data_open(config, &text, kind, 1 << 24, call->log, &dataset, error) &&
            show_data(config, &text, &dataset, result, error);
  dataset_close(&dataset);
  text_tools_close(&text);
  return ok;
}

static const Option data_options[] = {
    ROW_MODEL,
    ROW_ADAPTER,
    ROW_TOKENIZER,
    ROW_STRING_REQUIRED("data", InspectConfig, data, "JSONL file"),
    ROW_CHOICE("kind", InspectConfig, kind, "auto", kind_names,
               "what for; auto: what its format is made for"),
    ROWS_DATA,
    ROWS_CHAT,
    ROW_BOOL("train-on-inputs", InspectConfig, train_on_inputs, "false", "loss on prompt tokens too"),
    ROW_INT("batch-size", InspectConfig, batch_size, "16", 1, 1 << 24,
            "sequences per update (optim.batch_size): for the packing"),
    ROW_INT("micro-batch-tokens", InspectConfig, micro_batch_tokens, "2048", 1, 1 << 28,
            "tokens computed at once (optim.micro_batch_tokens): for the packing"),
    ROW_INT("examples", InspectConfig, examples, "3", 0, 1 << 20, "examples to show, from the beginning")};

const Program inspect_data = {
    "inspect data",        "format, counts and lengths of a data set, examples with masks",
    data_options,          COUNT(data_options),
    sizeof(InspectConfig), .run = run_data};
