#include "train/data.h"

#include "base/file.h"
#include "compute/compute.h"
#include "datasets/sources.h"
#include "model/card.h"
#include "model/source.h"

#include <limits.h>
#include <string.h>
#include <time.h>

/* -- tokenizer and template ----------------------------------------------------------------------------- */

static bool read_rows(TextTools *text, const char *directory, Error *error) {
  if (!model_config_exists(directory)) return true;
  ModelCard card;
  const bool ok = model_card_read(&card, directory, error);
  text->rows = ok ? card.spec.vocab : 0;
  model_card_free(&card);
  return ok;
}

static void warn_of_special(const TextTools *text, const char *name, int id, Log *log) {
  if (id < text->rows) return;
  log_warning(log, "%s: its %s token has the id %d, and its embedding table has %lld rows",
              tokenizer_directory(text->tokenizer), name, id, (long long)text->rows);
}

static void warn_of_tokenizer(const TextTools *text, Log *log) {
  if (!log || text->rows == 0) return;
  const Tokenizer *tokenizer = text->tokenizer;
  const char *directory = tokenizer_directory(tokenizer);
  const int size = tokenizer_vocab_size(tokenizer);
  const char *first = size > text->rows ? tokenizer_token(tokenizer, (int)text->rows) : NULL;
  if (size > text->rows) {
    log_warning(log,
                "%s: the tokenizer has %d tokens, and the embedding table %lld rows: data with the token "
                "\"%.60s\" (id %lld) or a later one will be refused",
                directory, size, (long long)text->rows, first ? first : "", (long long)text->rows);
  }
  warn_of_special(text, "BOS", tokenizer_bos(tokenizer), log);
  warn_of_special(text, "padding", tokenizer_pad(tokenizer), log);
  size_t count;
  const int *ends = tokenizer_eos_ids(tokenizer, &count);
  for (size_t i = 0; i < count; i++) warn_of_special(text, "EOS", ends[i], log);
}

static const char *template_name(const TextIdentity *identity) {
  if (!*identity->template) return "none";
  return strcmp(identity->template, "auto") == 0 ? "auto (the model's own)" : identity->template;
}

static bool other_template(const TextIdentity *used, const TextIdentity *record) {
  return *record->rendering && *used->rendering && strcmp(record->rendering, used->rendering) != 0;
}

static void tell_template(const TextIdentity *used, const TextIdentity *record, const char *from, Log *log) {
  if (!log || !other_template(used, record)) return;
  if (strcmp(record->template, used->template) == 0) {
    log_warning(log, "%s was trained with the chat template %s, which gives other text now", from,
                template_name(record));
  } else {
    log_warning(log, "%s was trained with the chat template %s, and %s, which is used, gives other text",
                from, template_name(record), template_name(used));
  }
}

static void tell_vocabulary(const TextIdentity *used, const TextIdentity *record, const char *from,
                            Log *log) {
  if (!log || !*record->vocabulary || strcmp(record->vocabulary, used->vocabulary) == 0) return;
  log_warning(log, "%s was trained with another tokenizer than the one that is used: tokens or merges differ",
              from);
}

static bool open_named(TextTools *text, const char *asked, const json_t *args, int64_t now,
                       const TextIdentity *record, const char *from, Error *error) {
  TextIdentity *identity = &text->identity;
  const bool recorded = strcmp(asked, "auto") == 0 && *record->template;
  const bool file = recorded && strcmp(record->template, IDENTITY_OWN_TEMPLATE) == 0;
  char *path = file ? path_join(from, TEMPLATE_FILE) : NULL;
  if (file && !path) return error_out_of_memory(error, "path", strlen(from));
  const char *name = file ? path : recorded ? record->template : asked;
  const ChatOptions options = {.name = name, .args = args, .now = now};
  text->has_chat = chat_template_init(&text->chat, text->tokenizer, &options, &text->chat_error);
  const bool needed = strcmp(name, "auto") != 0;
  const char *kept = !text->chat.source ? "auto" : text->chat.built_in ? name : IDENTITY_OWN_TEMPLATE;
  if (text->has_chat) snprintf(identity->template, sizeof identity->template, "%s", kept);
  memory_free(path);
  if (text->has_chat) return rendering_digest(&text->chat, identity->rendering, error);
  return !needed || error_set(error, text->chat_error.code, "%s%s: %s", recorded ? from : "data.template",
                              recorded ? "/" IDENTITY_FILE : "", text->chat_error.message);
}

/* The first second of the day, UTC. */
static bool read_date(const char *date, int64_t *now, Error *error) {
  struct tm day = {0};
  if (strcmp(date, "today") == 0) {
    *now = (int64_t)time(NULL) / 86400 * 86400;
    return true;
  }
  const char *end = strptime(date, "%Y-%m-%d", &day);
  *now = (int64_t)timegm(&day);
  return (end && !*end) || error_set(error, ERROR_USAGE,
                                     "data.template_date: expected YYYY-MM-DD or today, found '%.60s'", date);
}

static bool open_template(TextTools *text, const ChatConfig *config, const TextIdentity *record,
                          const char *from, Error *error) {
  int64_t now = 0;
  if (config->date && !read_date(config->date, &now, error)) return false;
  json_t *args = config->args ? json_loads(config->args, 0, NULL) : NULL; /* an object: the option is one */
  const bool ok = open_named(text, config->name ? config->name : "auto", args, now, record, from, error);
  json_decref(args);
  return ok;
}

static bool open_text(TextTools *text, const ModelConfig *model, const DataConfig *config, Log *log,
                      Error *error) {
  TextIdentity record;
  const char *from;
  text->tokenizer = tokenizer_open_kind(model->path, (TokenizerKind)model->tokenizer, error);
  if (!text->tokenizer || !read_rows(text, model->path, error) ||
      !identity_read_text(model->path, model->adapter, &record, &from, error) ||
      !tokenizer_vocabulary_digest(text->tokenizer, text->identity.vocabulary, error) ||
      !open_template(text, &config->chat, &record, from, error) ||
      (model->adapter && !identity_check_adapter(model->adapter, model->path, log, error))) {
    return false;
  }
  const char *note = tokenizer_note(text->tokenizer);
  if (note && log) log_warning(log, "%s", note);
  warn_of_tokenizer(text, log);
  if (model->adapter && log) identity_tell_own(model->adapter, text->tokenizer, log);
  tell_template(&text->identity, &record, from, log);
  tell_vocabulary(&text->identity, &record, from, log);
  return true;
}

bool text_tools_open(TextTools *text, const ModelConfig *model, const DataConfig *config, Log *log,
                     Error *error) {
  *text = (TextTools){0};
  if (open_text(text, model, config, log, error)) return true;
  text_tools_close(text);
  return false;
}

/* Tables of other sizes: a token of the larger one has no row in the other. */
static bool same_rows(const TextTools *text, const char *path, bool *same, Error *difference, Error *error) {
  TextTools other = {0};
  if (!read_rows(&other, path, error)) return false;
  *same = text->rows == 0 || other.rows == 0 || text->rows == other.rows;
  if (!*same) {
    error_set(difference, ERROR_MODEL, "%s: expected the vocabulary of %s (%lld ids), found %lld", path,
              tokenizer_directory(text->tokenizer), (long long)text->rows, (long long)other.rows);
  }
  return true;
}

bool text_tools_compare(const TextTools *text, const char *path, const char *adapter, Log *log,
                        TextLikeness *likeness, Error *difference, Error *error) {
  TextIdentity record;
  const char *from;
  bool same = true;
  *likeness = TEXT_OTHER_TOKENS;
  if (!identity_read_text(path, adapter, &record, &from, error) ||
      (adapter && !identity_check_adapter(adapter, path, log, error)) ||
      !same_rows(text, path, &same, difference, error) ||
      (same && !identity_compare_tokens(text->tokenizer, path, text->rows, log, &same, difference, error))) {
    return false;
  }
  if (!same) return true;
  *likeness = other_template(&text->identity, &record) ? TEXT_OTHER_TEMPLATE : TEXT_SAME;
  tell_vocabulary(&text->identity, &record, from, log);
  return true;
}

bool text_tools_meet(const TextTools *text, const ModelConfig *other, Log *log, Error *error) {
  TextIdentity record;
  const char *from;
  TextLikeness likeness;
  Error difference = {0};
  if (!identity_read_text(other->path, other->adapter, &record, &from, error) ||
      !text_tools_compare(text, other->path, other->adapter, log, &likeness, &difference, error)) {
    return false;
  }
  if (likeness == TEXT_OTHER_TOKENS) return error_set(error, difference.code, "%s", difference.message);
  tell_template(&text->identity, &record, from, log);
  return true;
}

void text_tools_close(TextTools *text) {
  if (text->has_chat) chat_template_free(&text->chat);
  tokenizer_free(text->tokenizer);
  *text = (TextTools){0};
}

bool text_tools_check_id(const TextTools *text, const char *what, uint64_t id, Error *error) {
  if (text->rows == 0 || id < (uint64_t)text->rows) return true;
  const Tokenizer *tokenizer = text->tokenizer;
  const char *token = id <= INT_MAX ? tokenizer_token(tokenizer, (int)id) : NULL;
  return error_set(
      error, ERROR_MODEL,
      "%s: %s%.60s%s the id %llu, and the embedding table of %s has %lld rows (its tokenizer has %d "
      "tokens): give the tokenizer that the model was made with, or a model that was resized to this one",
      what, token ? "token \"" : "", token ? token : "no token has", token ? "\" has" : "",
      (unsigned long long)id, tokenizer_directory(tokenizer), (long long)text->rows,
      tokenizer_vocab_size(tokenizer));
}

bool text_tools_check_ids(const TextTools *text, const char *what, const IntArray *ids, Error *error) {
  int largest = 0;
  for (size_t i = 0; i < ids->size; i++) {
    if (ids->data[i] > largest) largest = ids->data[i];
  }
  return text_tools_check_id(text, what, (uint64_t)largest, error);
}

static int push_end(const TextTools *text, int id, int out[TEXT_MAX_ENDS], int n) {
  bool taken = id < 0 || n == TEXT_MAX_ENDS || (text->rows > 0 && id >= text->rows);
  for (int i = 0; i < n; i++) taken |= out[i] == id;
  if (!taken) out[n++] = id;
  return n;
}

int text_tools_mark(const TextTools *text) {
  return text->has_chat ? text->chat.end_id : -1;
}

int text_tools_ends(const TextTools *text, int out[TEXT_MAX_ENDS]) {
  size_t count;
  const int *ids = tokenizer_eos_ids(text->tokenizer, &count);
  int n = push_end(text, text_tools_mark(text), out, 0);
  for (size_t i = 0; i < count; i++) n = push_end(text, ids[i], out, n);
  return n;
}

/* -- data sets ------------------------------------------------------------------------------------------ */

static char *cache_directory(const DataConfig *config, const RunConfig *run, Error *error) {
  if (!config->cache && !run->dir) { /* with --check, which needs it for this alone */
    error_set(error, ERROR_USAGE,
              "'run.dir' is required to keep the tokenised data in: give --run.dir or --data.cache");
    return NULL;
  }
  char *path = config->cache ? memory_copy_string(config->cache) : path_join(run->dir, "cache");
  if (!path) error_out_of_memory(error, "path", strlen(run->dir));
  return path;
}

bool data_resolve(OptionSources *files, const char *name, const OptionSources *sources,
                  const DataConfig *config, const RunConfig *run, Log *log, Error *error) {
  char *cache = cache_directory(config, run, error);
  const bool ok = cache && sources_resolve(files, sources, name, cache, log, error);
  memory_free(cache);
  return ok;
}

bool data_open(Dataset *dataset, const char *name, const OptionSources *sources, DatasetKind kind,
               DatasetPart part, const DataConfig *config, const RunConfig *run, const TextTools *text,
               Log *log, Error *error) {
  char *cache = cache_directory(config, run, error);
  if (!cache) return false;
  const DatasetOptions options = {.name = name,
                                  .kind = kind,
                                  .format = (DatasetFormat)config->format,
                                  .truncation = (DatasetTruncation)config->truncation,
                                  .part = part,
                                  .eval_fraction = config->eval_fraction,
                                  .seed = (uint64_t)run->seed,
                                  .tokenizer = text->tokenizer,
                                  .chat = text->has_chat ? &text->chat : NULL,
                                  .max_length = (int)config->max_length,
                                  .max_record = config->max_record,
                                  .train_on_inputs = config->train_on_inputs,
                                  .by_safety = config->pair_label == 1,
                                  .columns = config->columns,
                                  .cache_dir = cache,
                                  .threads = compute_all_threads(),
                                  .log = log};
  Error why = {0};
  const bool open = dataset_open(dataset, sources, &options, &why);
  memory_free(cache);
  if (open && text_tools_check_id(text, name, dataset->largest_id, error)) return true;
  if (open) {
    dataset_close(dataset);
    return false;
  }
  /* A missing template is best explained by what was wrong with the model's own. */
  const Error *reason = !text->has_chat && why.code == ERROR_USAGE ? &text->chat_error : &why;
  return error_set(error, reason->code, "%s", reason->message);
}

typedef bool CheckpointValue(Checkpoint *checkpoint, const char *name, int64_t *value, Error *error);

static bool value_state(CheckpointValue *exchange, Checkpoint *checkpoint, const char *name,
                        const char *value, int64_t *at, Error *error) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s", name, value);
  return exchange(checkpoint, full, at, error);
}

bool data_state(Checkpoint *checkpoint, const char *name, const Dataset *dataset, DataCursor *cursor,
                Error *error) {
  int64_t digest = dataset->digest, epoch = (int64_t)cursor->epoch, index = (int64_t)cursor->index;
  if (!value_state(checkpoint_int, checkpoint, name, "digest", &digest, error) ||
      !value_state(checkpoint_count, checkpoint, name, "epoch", &epoch, error) ||
      !value_state(checkpoint_count, checkpoint, name, "index", &index, error)) {
    return false;
  }
  if (digest != dataset->digest) {
    return error_set(
        error, ERROR_USAGE,
        "%s: the files, the tokenizer or the template have changed since the run began. Give the "
        "former ones, another run.dir, or run.resume false to start over",
        name);
  }
  *cursor = (DataCursor){.epoch = (uint64_t)epoch, .index = (uint64_t)index};
  return true;
}
