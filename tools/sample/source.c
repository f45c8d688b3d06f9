#include "tools/sample/source.h"

#include "datasets/prompt_record.h"

#include <string.h>

bool prompt_source_open(PromptSource *source, const Dataset *prompts, const DataConfig *config,
                        Error *error) {
  *source = (PromptSource){.prompts = prompts, .config = config};
  return columns_open(&source->columns, config->columns, (DatasetFormat)config->format, "data.prompts",
                      error);
}

void prompt_source_close(PromptSource *source) {
  if (source->open) line_reader_close(&source->reader);
  record_free(&source->record);
  columns_close(&source->columns);
  *source = (PromptSource){0};
}

/* Opens the file that the prompt is in, if it is not open. */
static bool turn_to(PromptSource *source, uint32_t number, Error *error) {
  if (source->open && source->source == number) return true;
  if (source->open) line_reader_close(&source->reader);
  source->open = false;
  source->source = number;
  if (!line_reader_open(&source->reader, source->prompts->sources[number].path, error)) return false;
  source->open = true;
  if (source->config->max_record) line_reader_limit(&source->reader, source->config->max_record);
  return true;
}

static bool gone(const PromptSource *source, const Example *example, Error *error) {
  return error_set(error, ERROR_FILE,
                   "%s: line %llu is not there any more: the file changed while it was used",
                   source->reader.path, (unsigned long long)example->line);
}

bool prompt_source_next(PromptSource *source, json_t **out, Example *example, Error *error) {
  *example = dataset_example(source->prompts, dataset_reference(source->prompts, source->next));
  *out = NULL;
  json_t *root = NULL;
  bool found;
  if (!turn_to(source, example->source, error)) return false;
  LineReader *reader = &source->reader;
  do {
    if (!line_reader_text(reader, &found, error)) return false;
    if (!found || reader->number > example->line) return gone(source, example, error);
  } while (reader->number < example->line);
  const DatasetFormat format = source->prompts->sources[example->source].format;
  const RecordPlace place = {.file = reader->path, .line = reader->number, .columns = &source->columns};
  const bool ok = line_reader_parse(reader, &root, error) &&
                  columns_apply(&source->columns, root, &source->record.passed, error) &&
                  record_parse(&source->record, root, DATASET_PROMPT, format, place, error);
  if (ok) *out = prompt_record(root, &source->record, format, error);
  json_decref(root);
  source->next++;
  return *out != NULL;
}

/* -- the check ------------------------------------------------------------------------------------------ */

/* A text may begin with the BOS that the template puts in front as well: the data set has it once. */
static bool same_ids(const Example *example, const IntArray *ids, int bos) {
  const int *data = ids->data;
  size_t count = ids->size;
  while (bos >= 0 && count > 1 && data[0] == bos && data[1] == bos) data++, count--;
  return count == (size_t)example->count && !memcmp(data, example->ids, count * sizeof *data);
}

/* Reads what was made as any prompt is read. */
static bool read_again(const json_t *made, const RecordPlace *place, const ChatTemplate *chat, Record *record,
                       ChatReading *reading, Error *error) {
  json_t *copy = json_deep_copy(made);
  const bool ok = (copy || error_out_of_memory(error, "record", 0)) &&
                  record_parse(record, copy, DATASET_PROMPT, FORMAT_PROMPTS, *place, error) &&
                  chat_read(chat, &record->talk, record->talk.count, CHAT_ASK, 0, reading, error);
  json_decref(copy);
  return ok;
}

static bool check_all(PromptSource *source, const TextTools *text, Record *record, ChatReading *reading,
                      Error *error) {
  const int bos = tokenizer_bos(text->tokenizer);
  while (source->next < source->prompts->count) {
    json_t *made;
    Example example;
    if (!prompt_source_next(source, &made, &example, error)) return false;
    const RecordPlace place = {.file = source->reader.path, .line = source->reader.number};
    bool ok = read_again(made, &place, &text->chat, record, reading, error);
    json_decref(made);
    if (!ok) return false;
    const bool cut =
        source->config->truncation == TRUNCATION_CUT && example.count == source->config->max_length;
    if (cut || same_ids(&example, &reading->ids, bos)) continue;
    return error_set(
        error, ERROR_DATA,
        "%s:%llu: as a prompt beside an answer the record would have another text than it has as a "
        "%s record: give it as messages, or choose another data.template",
        place.file, (unsigned long long)place.line,
        dataset_format_names[source->prompts->sources[example.source].format]);
  }
  return true;
}

bool prompt_source_check(const Dataset *prompts, const DataConfig *config, const TextTools *text,
                         Error *error) {
  PromptSource source;
  Record record = {0};
  ChatReading reading = {0};
  const bool ok = prompt_source_open(&source, prompts, config, error) &&
                  check_all(&source, text, &record, &reading, error);
  chat_reading_free(&reading);
  record_free(&record);
  prompt_source_close(&source);
  return ok;
}
