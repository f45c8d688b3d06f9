#include "sft/corpus.h"

/* As DATASET_SFT, and long plain texts are cut into pieces: pretraining is this stage too. */
static const DatasetKind kind = DATASET_TEXT;

bool corpus_open(Corpus *corpus, const SftConfig *config, Log *log, Error *error) {
  const DataConfig *data = &config->data;
  const bool split = data->eval_fraction > 0;
  *corpus = (Corpus){.has_eval = data->eval.count > 0 || split};
  bool ok =
      text_tools_open(&corpus->text, config->model.path, data, error) &&
      data_open(&corpus->train, "data.train", &data->train, kind, split ? DATASET_TRAIN_PART : DATASET_ALL,
                data, &config->run, &corpus->text, log, error);
  if (ok && corpus->has_eval) {
    ok = data_open(&corpus->eval, "data.eval", split ? &data->train : &data->eval, kind,
                   split ? DATASET_EVAL_PART : DATASET_ALL, data, &config->run, &corpus->text, log, error);
  }
  ok =
      ok && data_order_init(&corpus->order, &corpus->train, (uint64_t)config->run.seed, data->shuffle, error);
  if (!ok) corpus_close(corpus);
  return ok;
}

void corpus_close(Corpus *corpus) {
  data_order_free(&corpus->order);
  dataset_close(&corpus->train);
  dataset_close(&corpus->eval);
  text_tools_close(&corpus->text);
  *corpus = (Corpus){0};
}

int64_t corpus_longest(const Corpus *corpus) {
  uint64_t train = corpus->train.longest, eval = corpus->has_eval ? corpus->eval.longest : 0;
  return (int64_t)(train > eval ? train : eval);
}

int64_t corpus_updates(const Corpus *corpus, const OptimConfig *config) {
  int64_t updates = (int64_t)data_order_updates(&corpus->order, config->epochs, (int)config->batch_size);
  return config->max_steps > 0 && config->max_steps < updates ? config->max_steps : updates;
}
