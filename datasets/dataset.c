#include "datasets/dataset.h"

#include "base/file.h"
#include "base/random.h"
#include "datasets/build.h"
#include "datasets/cache.h"
#include "datasets/sources.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reports --------------------------------------------------------------------------------------- */

static void report_answers(const DatasetSource *source, const DatasetOptions *options) {
  const DatasetCounts *counts = &source->counts;
  const uint64_t all = counts->answers + counts->answers_too_long + counts->answers_no_loss;
  char a[32], b[32];
  if (counts->pairs != counts->examples) {
    log_info(options->log, "%s: %s: %s pairs of %s answers", options->name, source->path,
             grouped_number((int64_t)counts->pairs, a), grouped_number((int64_t)counts->answers, b));
  }
  if (counts->answers_too_long) {
    log_warning(
        options->log,
        "%s: %s: %s of %s answers left out of records that stay: longer than data.max_length %d tokens",
        options->name, source->path, grouped_number((int64_t)counts->answers_too_long, a),
        grouped_number((int64_t)all, b), options->max_length);
  }
  if (counts->answers_no_loss) {
    log_warning(options->log,
                "%s: %s: %s of %s answers left out of records that stay: no token, or equal to another one",
                options->name, source->path, grouped_number((int64_t)counts->answers_no_loss, a),
                grouped_number((int64_t)all, b));
  }
}

static void report_note(const DatasetSource *source, const DatasetOptions *options, DatasetNote note,
                        const char *what) {
  char a[32], b[32];
  if (note.records == 0) return;
  log_warning(options->log, "%s: %s:%llu: %s (%s of %s records)", options->name, source->path,
              (unsigned long long)note.line, what, grouped_number((int64_t)note.records, a),
              grouped_number((int64_t)source->counts.records, b));
}

/* What the chat template makes of the records otherwise than a user may think. */
static void report_template(const DatasetSource *source, const DatasetOptions *options) {
  const DatasetCounts *counts = &source->counts;
  report_note(source, options, counts->left_out,
              "the chat template leaves out the text of a message, or its calls of tools");
  report_note(source, options, counts->changed,
              "the chat template gives what the assistant says otherwise than the record has it");
  report_note(source, options, counts->without_end,
              "the chat template puts no end mark after an answer: nothing there teaches the model to stop");
  if (counts->apart.records) {
    char a[32], b[32];
    log_info(options->log,
             "%s: %s: in %s of %s records the chat template changes earlier turns when others follow: each "
             "turn of "
             "theirs is an example of its own",
             options->name, source->path, grouped_number((int64_t)counts->apart.records, a),
             grouped_number((int64_t)counts->records, b));
  }
}

static void report(const DatasetSource *source, const DatasetOptions *options) {
  Log *log = options->log;
  const DatasetCounts *counts = &source->counts;
  char a[32], b[32];
  if (!log || options->part == DATASET_EVAL_PART) {
    if (log)
      log_info(log, "%s: %s: %s examples held out", options->name, source->path,
               grouped_number((int64_t)source->count, a));
    return;
  }
  log_info(log, "%s: %s: %s examples, %s, %s tokens", options->name, source->path,
           grouped_number((int64_t)source->count, a), dataset_format_names[source->format],
           grouped_number((int64_t)counts->tokens, b));
  if (options->kind == DATASET_PREFERENCE) report_answers(source, options);
  if (counts->too_long) {
    log_warning(log, "%s: %s: %s of %s records dropped: longer than data.max_length %d tokens", options->name,
                source->path, grouped_number((int64_t)counts->too_long, a),
                grouped_number((int64_t)counts->records, b), options->max_length);
  }
  if (counts->truncated) {
    log_warning(log, "%s: %s: %s of %s records cut to data.max_length %d tokens", options->name, source->path,
                grouped_number((int64_t)counts->truncated, a), grouped_number((int64_t)counts->records, b),
                options->max_length);
  }
  if (counts->no_loss) {
    log_warning(log, "%s: %s:%llu: %s of %s records dropped: no token to learn from", options->name,
                source->path, (unsigned long long)counts->no_loss_line,
                grouped_number((int64_t)counts->no_loss, a), grouped_number((int64_t)counts->records, b));
  }
  if (counts->empty) {
    log_warning(log, "%s: %s: %s of %s records have an empty %s", options->name, source->path,
                grouped_number((int64_t)counts->empty, a), grouped_number((int64_t)counts->records, b),
                options->kind == DATASET_PROMPT ? "prompt" : "answer: its end mark is all that is learnt");
  }
  report_template(source, options);
  report_note(source, options, source->counts.unequal,
              "the answers that are compared are to different prompts, so that more than the answer tells "
              "them apart");
  if (*source->passed.text) {
    log_info(log, "%s: %s: keys that %s: %s", options->name, source->path,
             options->kind == DATASET_PROMPT ? "only sources of rewards read" : "are passed over",
             source->passed.text);
  }
}

/* ---- Held-out split -------------------------------------------------------------------------------- */

typedef struct SplitKey {
  uint64_t key;
  uint32_t number;
} SplitKey;

static int split_compare(const void *a, const void *b) {
  const SplitKey *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->number < y->number ? -1 : x->number > y->number;
}

static int number_compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

/* A group's random rank: the groups with the lowest ones are held out. */
static uint64_t group_key(uint64_t group, RandomKey key) {
  uint32_t counter[4] = {(uint32_t)group, (uint32_t)(group >> 32), 0, UINT32_MAX}, words[4];
  philox4x32(counter, key, words);
  return (uint64_t)words[0] << 32 | words[1];
}

static bool split_source(DatasetSource *source, const DatasetOptions *options, Error *error) {
  uint32_t all = source->count;
  RandomKey key = random_key(options->seed, RANDOM_SHUFFLE);
  SplitKey *keys = memory_alloc(all * sizeof *keys);
  source->subset = memory_alloc(all * sizeof *source->subset);
  if (!keys || !source->subset) {
    memory_free(keys);
    return error_out_of_memory(error, "held-out split", all * sizeof *keys);
  }
  for (uint32_t i = 0; i < all; i++) {
    keys[i] = (SplitKey){.key = group_key(cache_example(source, i)->group, key), .number = i};
  }
  qsort(keys, all, sizeof *keys, split_compare);
  uint32_t held = (uint32_t)llround(options->eval_fraction * all);
  if (held == 0) held = 1;
  while (held < all && keys[held].key == keys[held - 1].key) held++;
  bool eval = options->part == DATASET_EVAL_PART;
  uint32_t begin = eval ? 0 : held, end = eval ? held : all;
  for (uint32_t i = begin; i < end; i++) source->subset[i - begin] = keys[i].number;
  memory_free(keys);
  if (held == all) {
    return error_set(error, ERROR_DATA, "%s: too few different prompts for data.eval_fraction %g",
                     source->path, options->eval_fraction);
  }
  source->count = end - begin;
  qsort(source->subset, source->count, sizeof *source->subset, number_compare);
  return true;
}

/* ---- Opening --------------------------------------------------------------------------------------- */

/* Why none of the records is one to learn from, and what to do. */
static bool fail_empty(const DatasetSource *source, const DatasetOptions *options, Error *error) {
  const DatasetCounts *counts = &source->counts;
  const char *cure = counts->too_long > 0 ? "; raise data.max_length, or cut them by data.truncation truncate"
                     : options->kind == DATASET_PREFERENCE
                         ? "; a preference is two answers that differ, of which one is the better"
                         : "; what is learnt are the turns whose role is assistant, or texts";
  return error_set(error, ERROR_DATA,
                   "%s: no usable example: of %llu records, %llu are longer than data.max_length %d tokens "
                   "and %llu have no token to learn from%s",
                   source->path, (unsigned long long)counts->records, (unsigned long long)counts->too_long,
                   options->max_length, (unsigned long long)counts->no_loss, cure);
}

static bool open_source(Dataset *dataset, DatasetSource *source, const OptionSource *from,
                        const DatasetOptions *options, Error *error) {
  bool reused = false;
  source->weight = from->weight;
  source->path = memory_copy_string(from->path);
  if (!source->path) return error_out_of_memory(error, "path", strlen(from->path));
  if (!(from->weight > 0) || !isfinite(from->weight)) {
    return error_set(error, ERROR_USAGE, "%s: %s: weight %g, expected a number above 0", options->name,
                     from->path, from->weight);
  }
  if (!source_open(source, options, &reused, error)) return false;
  if (!reused) dataset->reused = false;
  const DatasetCounts *counts = &source->counts;
  if (counts->examples == 0) return fail_empty(source, options, error);
  source->count = (uint32_t)counts->examples;
  if (options->part != DATASET_ALL && !split_source(source, options, error)) return false;
  dataset->count += source->count;
  if (counts->longest > dataset->longest) dataset->longest = counts->longest;
  if (counts->longest_sequence > dataset->longest_sequence) {
    dataset->longest_sequence = counts->longest_sequence;
  }
  if (counts->most_sequences > dataset->most_sequences) dataset->most_sequences = counts->most_sequences;
  if (counts->largest_id > dataset->largest_id) dataset->largest_id = counts->largest_id;
  report(source, options);
  return true;
}

/* The digest of a data set is that of its sources', one after the other. */
static void add_digest(Dataset *dataset, const DatasetSource *source) {
  char text[64], digest[33];
  const int length =
      snprintf(text, sizeof text, "%016llx%s", (unsigned long long)dataset->digest, source->digest);
  bytes_digest(text, (size_t)length, digest);
  digest[16] = '\0';
  dataset->digest = (int64_t)strtoull(digest, NULL, 16);
}

static bool check_options(const OptionSources *sources, const DatasetOptions *options, Error *error) {
  ASSERT(options->tokenizer && options->cache_dir && options->name);
  if (sources->count == 0) return error_set(error, ERROR_USAGE, "%s: no file given", options->name);
  if (options->max_length < 2) {
    return error_set(error, ERROR_USAGE, "data.max_length is %d, expected at least 2", options->max_length);
  }
  if (options->part != DATASET_ALL && !(options->eval_fraction > 0 && options->eval_fraction < 1)) {
    return error_set(error, ERROR_USAGE, "data.eval_fraction is %g, expected a number between 0 and 1",
                     options->eval_fraction);
  }
  return true;
}

static bool open_sources(Dataset *dataset, const OptionSources *files, const DatasetOptions *options,
                         Error *error) {
  dataset->sources = memory_zeroed(files->count, sizeof *dataset->sources);
  if (!dataset->sources) return error_out_of_memory(error, "data sources", files->count);
  dataset->source_count = files->count;
  for (size_t i = 0; i < files->count; i++) {
    if (!open_source(dataset, &dataset->sources[i], &files->items[i], options, error)) return false;
    add_digest(dataset, &dataset->sources[i]);
  }
  return true;
}

bool dataset_open(Dataset *dataset, const OptionSources *sources, const DatasetOptions *options,
                  Error *error) {
  OptionSources files;
  *dataset = (Dataset){.kind = options->kind, .reused = true};
  if (!check_options(sources, options, error) ||
      !sources_resolve(&files, sources, options->name, options->cache_dir, options->log, error)) {
    return false;
  }
  const bool ok = open_sources(dataset, &files, options, error);
  sources_free(&files);
  if (!ok) dataset_close(dataset);
  return ok;
}

bool dataset_open_file(Dataset *dataset, const char *path, const DatasetOptions *options, Error *error) {
  OptionSource source = {.path = (char *)path, .weight = 1};
  OptionSources sources = {.items = &source, .count = 1};
  return dataset_open(dataset, &sources, options, error);
}

void dataset_close(Dataset *dataset) {
  for (size_t i = 0; i < dataset->source_count; i++) {
    DatasetSource *source = &dataset->sources[i];
    file_map_close(&source->map);
    memory_free(source->subset);
    memory_free(source->path);
  }
  memory_free(dataset->sources);
  *dataset = (Dataset){0};
}

/* ---- Access ---------------------------------------------------------------------------------------- */

Example dataset_example(const Dataset *dataset, ExampleRef reference) {
  ASSERT(reference.source < dataset->source_count);
  const DatasetSource *source = &dataset->sources[reference.source];
  ASSERT(reference.index < source->count);
  uint32_t number = source->subset ? source->subset[reference.index] : reference.index;
  const CacheExample *fixed = cache_example(source, number);
  Example example = {.count = fixed->count,
                     .answer_count = fixed->answer_count,
                     .prompt_count = fixed->prompt_count,
                     .loss_count = fixed->loss_count,
                     .margin = fixed->margin,
                     .labels = fixed->labels,
                     .source = reference.source,
                     .line = fixed->line};
  const ExampleAnswer *answers = (const ExampleAnswer *)(const void *)(fixed + 1);
  if (fixed->answer_count) example.answers = answers;
  example.ids = (const int *)(const void *)(answers + fixed->answer_count);
  const char *at = (const char *)(example.ids + cache_id_count(fixed, answers));
  if (fixed->loss_count) {
    example.loss = (const uint8_t *)at;
    at += fixed->count;
  }
  example.prompt = at;
  example.prompt_bytes = fixed->prompt_bytes;
  example.reference = at + fixed->prompt_bytes + 1;
  example.reference_bytes = fixed->reference_bytes;
  example.record = example.reference + fixed->reference_bytes + 1;
  example.record_bytes = fixed->record_bytes;
  return example;
}

int64_t answers_pairs(const ExampleAnswer *answers, int count) {
  int64_t pairs = 0;
  for (int i = 0; i < count; i++) {
    for (int j = i + 1; j < count; j++) pairs += answers[i].rank != answers[j].rank;
  }
  return pairs;
}

ExampleRef dataset_reference(const Dataset *dataset, uint64_t number) {
  ASSERT(number < dataset->count);
  uint32_t source = 0;
  while (number >= dataset->sources[source].count) number -= dataset->sources[source++].count;
  return (ExampleRef){.source = source, .index = (uint32_t)number};
}
