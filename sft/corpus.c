#include "sft/corpus.h"

#include <string.h>

/* An unknown name is an error at once. That the model shows no template matters only when a conversation has to
 * be rendered: then *reason is reported. */
static bool open_chat(Corpus *corpus, const char *name, Error *reason, Error *error) {
  corpus->has_chat = chat_template_init(&corpus->chat, corpus->tokenizer, name, reason);
  bool automatic = !name || !*name || !strcmp(name, "auto");
  return corpus->has_chat || (automatic && reason->code == ERROR_MODEL) ||
         error_set(error, reason->code, "data.template: %s", reason->message);
}

static DatasetOptions options_of(const Corpus *corpus, const SftConfig *config, const char *cache, Log *log) {
  const DataConfig *data = &config->data;
  return (DatasetOptions){.name = "data.train",
                          .kind = DATASET_TEXT, /* as DATASET_SFT, and long plain texts are cut into pieces */
                          .format = (DatasetFormat)data->format,
                          .truncation = (DatasetTruncation)data->truncation,
                          .part = data->eval_fraction > 0 ? DATASET_TRAIN_PART : DATASET_ALL,
                          .eval_fraction = data->eval_fraction,
                          .seed = (uint64_t)config->run.seed,
                          .tokenizer = corpus->tokenizer,
                          .chat = corpus->has_chat ? &corpus->chat : NULL,
                          .max_length = (int)data->max_length,
                          .train_on_inputs = data->train_on_inputs,
                          .cache_dir = cache,
                          .log = log};
}

static bool open_datasets(Corpus *corpus, const SftConfig *config, const char *cache, Log *log,
                          Error *error) {
  DatasetOptions options = options_of(corpus, config, cache, log);
  if (!dataset_open(&corpus->train, &config->data.train, &options, error)) return false;
  const OptionSources *eval = &config->data.eval;
  corpus->has_eval = eval->count > 0 || config->data.eval_fraction > 0;
  if (!corpus->has_eval) return true;
  options.name = "data.eval";
  options.part = eval->count ? DATASET_ALL : DATASET_EVAL_PART;
  return dataset_open(&corpus->eval, eval->count ? eval : &config->data.train, &options, error);
}

bool corpus_open(Corpus *corpus, const SftConfig *config, Log *log, Error *error) {
  *corpus = (Corpus){0};
  Error reason = {0}, opening = {0};
  const char *given = config->data.cache;
  char *cache = given && *given ? memory_copy_string(given) : path_join(config->run.dir, "cache");
  bool ok = cache || error_out_of_memory(error, "path", 0);
  ok = ok && (corpus->tokenizer = tokenizer_open(config->model.path, error));
  ok = ok && open_chat(corpus, config->data.template, &reason, error);
  if (ok && !open_datasets(corpus, config, cache, log, &opening)) {
    const Error *why = opening.code == ERROR_USAGE && reason.code ? &reason : &opening;
    ok = error_set(error, why->code, "%s", why->message);
  }
  ok = ok && data_order_init(&corpus->order, &corpus->train, (uint64_t)config->run.seed, config->data.shuffle,
                             error);
  memory_free(cache);
  if (!ok) corpus_close(corpus);
  return ok;
}

void corpus_close(Corpus *corpus) {
  data_order_free(&corpus->order);
  dataset_close(&corpus->train);
  dataset_close(&corpus->eval);
  if (corpus->has_chat) chat_template_free(&corpus->chat);
  tokenizer_free(corpus->tokenizer);
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
