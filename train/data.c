#include "train/data.h"

#include "base/file.h"

#include <string.h>

bool text_tools_open(TextTools *text, const char *model_directory, const DataConfig *config, Error *error) {
  *text = (TextTools){.tokenizer = tokenizer_open(model_directory, error)};
  if (!text->tokenizer) return false;
  text->has_chat = chat_template_init(&text->chat, text->tokenizer, config->template, &text->chat_error);
  if (text->has_chat || strcmp(config->template, "auto") == 0) return true;
  const Error why = text->chat_error;
  text_tools_close(text);
  return error_set(error, why.code, "data.template: %s", why.message);
}

void text_tools_close(TextTools *text) {
  if (text->has_chat) chat_template_free(&text->chat);
  tokenizer_free(text->tokenizer);
  *text = (TextTools){0};
}

int text_tools_ends(const TextTools *text, int out[TEXT_MAX_ENDS]) {
  size_t count;
  const int *ids = tokenizer_eos_ids(text->tokenizer, &count);
  int n = 0;
  for (size_t i = 0; i < count && n < TEXT_MAX_ENDS - 1; i++) out[n++] = ids[i];
  const int mark = text->has_chat ? text->chat.end_id : -1;
  for (int i = 0; i < n; i++) {
    if (out[i] == mark) return n;
  }
  if (mark >= 0) out[n++] = mark;
  return n;
}

bool data_open(Dataset *dataset, const char *name, const OptionSources *sources, DatasetKind kind,
               DatasetPart part, const DataConfig *config, const RunConfig *run, const TextTools *text,
               Log *log, Error *error) {
  char *cache = config->cache ? memory_copy_string(config->cache) : path_join(run->dir, "cache");
  if (!cache) return error_out_of_memory(error, "path", strlen(run->dir));
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
                                  .train_on_inputs = config->train_on_inputs,
                                  .cache_dir = cache,
                                  .log = log};
  Error why = {0};
  const bool open = dataset_open(dataset, sources, &options, &why);
  memory_free(cache);
  if (open) return true;
  /* A missing template is best explained by what was wrong with the model's own. */
  const Error *reason = !text->has_chat && why.code == ERROR_USAGE ? &text->chat_error : &why;
  return error_set(error, reason->code, "%s", reason->message);
}

static bool value_state(Checkpoint *checkpoint, const char *name, const char *value, int64_t *at,
                        Error *error) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s", name, value);
  return checkpoint_int(checkpoint, full, at, error);
}

bool data_state(Checkpoint *checkpoint, const char *name, const Dataset *dataset, DataCursor *cursor,
                Error *error) {
  int64_t digest = dataset->digest, epoch = (int64_t)cursor->epoch, index = (int64_t)cursor->index;
  if (!value_state(checkpoint, name, "digest", &digest, error) ||
      !value_state(checkpoint, name, "epoch", &epoch, error) ||
      !value_state(checkpoint, name, "index", &index, error)) {
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
