#include "train/corpus.h"

#include "datasets/sources.h"

/* Whether every token is in the loss already. */
static bool only_text(const Dataset *data) {
  for (size_t i = 0; i < data->source_count; i++) {
    if (data->sources[i].format != FORMAT_TEXT) return false;
  }
  return true;
}

/* Both parts of data.train, or data.train and data.eval. */
static bool open_parts(Corpus *corpus, DatasetKind kind, const OptionSources *files, const DataConfig *data,
                       const RunConfig *run, Log *log, Error *error) {
  const TextTools *text = &corpus->text;
  const bool split = data->eval_fraction > 0;
  return data_open(&corpus->train, "data.train", files, kind, split ? DATASET_TRAIN_PART : DATASET_ALL, data,
                   run, text, log, error) &&
         (!corpus->has_eval ||
          data_open(&corpus->eval, "data.eval", split ? files : &data->eval, kind,
                    split ? DATASET_EVAL_PART : DATASET_ALL, data, run, text, log, error));
}

static bool open_train(Corpus *corpus, DatasetKind kind, const DataConfig *data, const RunConfig *run,
                       Log *log, Error *error) {
  OptionSources files;
  if (!data_resolve(&files, "data.train", &data->train, data, run, log, error)) return false;
  const bool ok = open_parts(corpus, kind, &files, data, run, log, error);
  sources_free(&files);
  return ok;
}

bool corpus_open(Corpus *corpus, DatasetKind kind, const ModelConfig *model, const DataConfig *data,
                 const RunConfig *run, Log *log, Error *error) {
  const bool split = data->eval_fraction > 0;
  *corpus = (Corpus){.has_eval = data->eval.count > 0 || split, .has_reference = data->reference.count > 0};
  bool ok = text_tools_open(&corpus->text, model, data, log, error) &&
            open_train(corpus, kind, data, run, log, error);
  if (ok && corpus->has_reference) {
    ok = data_open(&corpus->reference, "data.reference", &data->reference, DATASET_SFT, DATASET_ALL, data,
                   run, &corpus->text, log, error);
  }
  if (ok && data->train_on_inputs && only_text(&corpus->train)) {
    log_warning(log, "data.train_on_inputs has no effect: data.train is plain text, without prompts");
  }
  ok = ok && data_order_init(&corpus->order, &corpus->train, (uint64_t)run->seed, data->shuffle, error);
  if (!ok) corpus_close(corpus);
  return ok;
}

void corpus_close(Corpus *corpus) {
  data_order_free(&corpus->order);
  dataset_close(&corpus->train);
  dataset_close(&corpus->eval);
  dataset_close(&corpus->reference);
  text_tools_close(&corpus->text);
  *corpus = (Corpus){0};
}

static int64_t largest(uint64_t a, uint64_t b, uint64_t c) {
  const uint64_t more = a > b ? a : b;
  return (int64_t)(more > c ? more : c);
}

int64_t corpus_longest(const Corpus *corpus) {
  return largest(corpus->train.longest, corpus->eval.longest, corpus->reference.longest);
}

int64_t corpus_longest_sequence(const Corpus *corpus) {
  return largest(corpus->train.longest_sequence, corpus->eval.longest_sequence,
                 corpus->reference.longest_sequence);
}

int64_t corpus_most_sequences(const Corpus *corpus) {
  return largest(corpus->train.most_sequences, corpus->eval.most_sequences, corpus->reference.most_sequences);
}

int64_t corpus_updates(const Corpus *corpus, const OptimConfig *config) {
  if (config->max_steps > 0) return config->max_steps;
  return (int64_t)data_order_batches(&corpus->order, config->epochs, (int)config->batch_size);
}
