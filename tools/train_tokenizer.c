/* train_tokenizer: a byte-level BPE tokenizer from text files, for models made from nothing (tools/init.c). */
#include "base/file.h"
#include "datasets/lines.h"
#include "tokenizer/train.h"
#include "train/program.h"

#include <string.h>

typedef struct Config {
  OptionStrings text;
  char *out, *key;
  int64_t vocab, max_length;
  bool chatml;
} Config;

/* clang-format off: one option a row */
static const Option options[] = {
    ROW_STRINGS("text", Config, text, NULL,
                "files to learn from: plain text, or JSONL (see key), packed or not"),
    ROW_STRING_REQUIRED("out", Config, out, "directory to write tokenizer.json and tokenizer_config.json to",
                        .names = OPTION_NAMES_PATH),
    ROW_INT("vocab", Config, vocab, "4096", 259, 1 << 20, "tokens, special ones included"),
    ROW_INT("max-length", Config, max_length, "1024", 0, 1 << 24,
            "model_max_length in tokenizer_config.json"),
    ROW_STRING("key", Config, key, "text", "which key of the lines of a .jsonl file holds the text"),
    ROW_BOOL("chatml", Config, chatml, "true", "add the ChatML marks and chat template"),
};
/* clang-format on */

/* By its name, a packed one too: plain text may look like anything. */
static bool is_jsonl(const char *path) {
  static const char *const endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst"};
  const size_t length = strlen(path);
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    const size_t size = strlen(endings[i]);
    if (length > size && strcmp(path + length - size, endings[i]) == 0) return true;
  }
  return false;
}

static bool add_jsonl(TokenizerTrainer *trainer, const char *path, const char *key, Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, path, error)) return false;
  json_t *record = NULL;
  bool ok;
  while ((ok = line_reader_record(&reader, &record, error)) && record) {
    const json_t *value = json_object_get(record, key);
    ok = json_is_string(value)
             ? tokenizer_trainer_add_text(trainer, json_string_value(value), json_string_length(value), error)
             : error_set(error, ERROR_DATA, "%s:%llu: key '%s': expected string, found %s", path,
                         (unsigned long long)reader.number, key, json_kind(value));
    json_decref(record);
    if (!ok) break;
  }
  line_reader_close(&reader);
  return ok;
}

/* A tokenizer that is there already stays: a model may have been trained with it. */
static bool refuse_existing(const char *out, Error *error) {
  char *path = path_join(out, "tokenizer.json");
  if (!path) return error_out_of_memory(error, "path", 0);
  const bool there = file_exists(path);
  memory_free(path);
  return !there ||
         error_set(error, ERROR_USAGE, "--out: expected a new directory, found a tokenizer in %s", out);
}

static bool train(const ProgramCall *call, ProgramResult *result, Error *error) {
  const Config *config = call->config;
  if (config->text.count == 0) return error_set(error, ERROR_USAGE, "--text: no file to learn from is given");
  if (!refuse_existing(config->out, error)) return false;
  const char *const marks[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  const TokenizerTraining training = {.vocab_size = (int)config->vocab,
                                      .min_frequency = 2,
                                      .split = TOKENIZER_SPLIT_GPT2,
                                      .special = marks,
                                      .special_count = config->chatml ? 3 : 1,
                                      .eos = config->chatml ? marks[2] : marks[0],
                                      .pad = marks[0],
                                      .chat_template = config->chatml ? tokenizer_chatml_template : NULL,
                                      .model_max_length = (int)config->max_length};
  TokenizerTrainer *trainer = tokenizer_trainer_open(&training, error);
  bool ok = trainer != NULL;
  for (size_t i = 0; ok && i < config->text.count; i++) {
    const char *path = config->text.items[i];
    ok = is_jsonl(path) ? add_jsonl(trainer, path, config->key, error)
                        : tokenizer_trainer_add_file(trainer, path, error);
  }
  int size = 0;
  if (ok && !call->check) {
    ok = tokenizer_trainer_write(trainer, config->out, &size, error) &&
         buffer_format(&result->text, error, "%s: %d tokens", config->out, size) &&
         buffer_format(&result->json, error, "{\"tokens\": %d}", size);
  }
  tokenizer_trainer_free(trainer);
  return ok;
}

int main(int argc, char **argv) {
  const Program program = {
      .name = "train_tokenizer",
      .summary = "Learns a byte-level BPE tokenizer from text.",
      .example = "drover train_tokenizer --text text.jsonl --vocab 8192 --out my-tokenizer",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(Config),
      .run = train};
  return program_run(&program, argc, argv, stdout, stderr);
}
