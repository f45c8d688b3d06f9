#include "datasets/record.h"

#include "base/json.h"
#include "datasets/fields.h"
#include "datasets/record_formats.h"

#include <stdlib.h>
#include <string.h>

void record_free(Record *record) {
  conversation_free(&record->talk);
  conversation_free(&record->rejected);
  for (size_t i = 0; i < record->answer_capacity; i++) conversation_free(&record->answers[i].talk);
  memory_free(record->answers);
  *record = (Record){0};
}

/* ---- instructions ---- */

static bool push_system(Conversation *talk, const json_t *root, RecordPlace place, Error *error) {
  const char *text;
  size_t bytes;
  if (!get_optional(root, "system", place, &text, &bytes, error)) return false;
  if (!text || bytes == 0) return true;
  return conversation_push(talk, (ChatMessage){.role = CHAT_SYSTEM, .text = text, .bytes = bytes}, error);
}

/* LLaMA-Factory's earlier turns: [[question, answer], ...]. */
static bool push_history(Conversation *talk, const json_t *root, RecordPlace place, Error *error) {
  const json_t *history = json_object_get(root, "history");
  if (!history || json_is_null(history)) return true;
  if (!json_is_array(history)) return fail_type(place, "history", "list of pairs", history, error);
  for (size_t i = 0; i < json_array_size(history); i++) {
    const json_t *pair = json_array_get(history, i);
    char key[64];
    snprintf(key, sizeof key, "history[%zu]", i);
    if (!json_is_array(pair) || json_array_size(pair) != 2) {
      return fail_type(place, key, "a pair [question, answer]", pair, error);
    }
    if (!push_string(talk, CHAT_USER, json_array_get(pair, 0), key, place, error) ||
        !push_string(talk, CHAT_ASSISTANT, json_array_get(pair, 1), key, place, error)) {
      return false;
    }
  }
  return true;
}

/* Alpaca's records and Dolly's, which differ in two names: what the instruction is about, and the answer. */
static bool parse_instruction(Record *record, const json_t *root, const char *about, const char *answer,
                              DatasetKind kind, RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  const json_t *instruction = json_object_get(root, "instruction");
  if (!push_string(talk, CHAT_USER, instruction, "instruction", place, error)) return false;
  ChatMessage *user = &talk->items[talk->count - 1];
  if (!get_optional(root, about, place, &user->input, &user->input_bytes, error)) return false;
  if (user->input_bytes == 0) user->input = NULL;
  const json_t *output = json_object_get(root, answer);
  if (!output && kind == DATASET_PROMPT) return true;
  return push_string(talk, CHAT_ASSISTANT, output, answer, place, error);
}

/* ---- prompts ---- */

static bool parse_completion(Record *record, json_t *root, RecordPlace place, Error *error) {
  return push_prompt(&record->talk, json_object_get(root, "prompt"), "prompt", place, &record->passed,
                     error) &&
         push_any(&record->talk, json_object_get(root, "completion"), "completion", CHAT_ASSISTANT, place,
                  &record->passed, error);
}

/* Beside a prompt, an answer that is labelled false is none to show. */
static bool parse_unpaired(Record *record, json_t *root, DatasetKind kind, RecordPlace place, Error *error) {
  const json_t *label = json_object_get(root, "label");
  if (!json_is_boolean(label)) return fail_type(place, "label", "true or false", label, error);
  record->desirable = json_is_true(label);
  if (record->desirable || kind != DATASET_PROMPT) return parse_completion(record, root, place, error);
  return push_prompt(&record->talk, json_object_get(root, "prompt"), "prompt", place, &record->passed, error);
}

/* ---- all formats ---- */

static bool parse_dialogue(Record *record, json_t *root, DatasetKind kind, DatasetFormat format,
                           RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  KeyNames *passed = &record->passed;
  switch (format) {
    case FORMAT_ALPACA:
      return push_system(talk, root, place, error) && push_history(talk, root, place, error) &&
             parse_instruction(record, root, "input", "output", kind, place, error);
    case FORMAT_DOLLY:
      return parse_instruction(record, root, "context", "response", kind, place, error);
    case FORMAT_MESSAGES:
      return push_list(talk, json_object_get(root, "messages"), "messages", place, passed, error);
    case FORMAT_SHAREGPT:
      return push_system(talk, root, place, error) &&
             push_list(talk, json_object_get(root, "conversations"), "conversations", place, passed, error);
    case FORMAT_OASST:
      return parse_tree(record, root, place, error);
    case FORMAT_PROMPT_COMPLETION:
      return parse_completion(record, root, place, error);
    case FORMAT_PROMPTS:
      return push_prompt(talk, json_object_get(root, "prompt"), "prompt", place, passed, error);
    case FORMAT_PREFERENCE:
      return parse_preference(record, root, place, error);
    case FORMAT_RANKING:
      return parse_ranking(record, root, kind, place, error);
    case FORMAT_SAFE_PAIR:
      return parse_safe_pair(record, root, place, error);
    case FORMAT_UNPAIRED:
      return parse_unpaired(record, root, kind, place, error);
    case FORMAT_AUTO:
    case FORMAT_TEXT:
    case FORMAT_COUNT:
      break;
  }
  ASSERT(!"a dialogue format");
  return false;
}

static bool parse_text(Record *record, const json_t *root, RecordPlace place, Error *error) {
  const json_t *text = json_object_get(root, "text");
  if (!json_is_string(text)) return fail_type(place, "text", "string", text, error);
  record->text = json_string_value(text);
  record->text_bytes = json_string_length(text);
  return true;
}

/* "tools" is a list, or one written as JSON in a string, which is then put in the string's place. */
static bool read_tools(json_t *root, RecordPlace place, const json_t **tools, Error *error) {
  json_t *value = json_object_get(root, "tools");
  *tools = NULL;
  if (!fields_say(value)) return true;
  if (json_is_string(value)) {
    json_error_t where;
    json_t *list = json_parse(json_string_value(value), json_string_length(value), json_limit_record,
                              JSON_DECODE_ANY, &where);
    if (!list) return fail_text(place, "tools", "expected a list, or a string that is one in JSON", error);
    if (json_object_set_new(root, "tools", list) != 0) return error_out_of_memory(error, "tools", 0);
    value = list;
  }
  if (!json_is_array(value)) return fail_type(place, "tools", "list of tools", value, error);
  for (size_t i = 0; i < json_array_size(value); i++) {
    char key[64];
    const json_t *tool = json_array_get(value, i);
    snprintf(key, sizeof key, "tools[%zu]", i);
    if (!json_holds_object(tool)) return fail_type(place, key, "object", tool, error);
  }
  if (json_array_size(value) > 0) *tools = value;
  return true;
}

/* What holds for every conversation of the record. What is compared or asked is not learnt turn by turn. */
static void set_all(Record *record, const json_t *tools, bool learn_all) {
  for (size_t k = 0; k < record->answer_count + 2; k++) {
    Conversation *talk = k == 0 ? &record->talk : k == 1 ? &record->rejected : &record->answers[k - 2].talk;
    talk->tools = tools;
    for (size_t i = 0; learn_all && i < talk->count; i++) talk->items[i].unlearnt = false;
  }
}

/* The key "reference". What is no text and no number is for sources of rewards that know what to make of it. */
static void own_reference(Record *record, const json_t *root) {
  const json_t *value = json_object_get(root, "reference");
  char *text = record->reference_number;
  if (json_is_string(value)) {
    record->reference = json_string_value(value);
    record->reference_bytes = json_string_length(value);
  } else if (json_is_number(value)) {
    const size_t room = sizeof record->reference_number;
    const double number = json_number_value(value);
    snprintf(text, room, "%.15g", number);
    if (strtod(text, NULL) != number) snprintf(text, room, "%.17g", number);
    if (json_is_integer(value)) snprintf(text, room, "%lld", (long long)json_integer_value(value));
    record->reference = text;
    record->reference_bytes = strlen(text);
  }
}

/* Takes the answer off a prompt. */
static bool take_reference(Record *record, const json_t *root, RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  if (talk->count > 0 && talk->items[talk->count - 1].role == CHAT_ASSISTANT) {
    record->reference = talk->items[talk->count - 1].text;
    record->reference_bytes = talk->items[talk->count - 1].bytes;
    talk->count--;
  }
  own_reference(record, root);
  return talk->count > 0 ||
         error_set(error, ERROR_DATA, "%s:%llu: no turn before the assistant's: nothing to answer",
                   place.file, (unsigned long long)place.line);
}

static void record_clear(Record *record) {
  record->talk.count = record->rejected.count = record->answer_count = 0;
  record->text = record->reference = NULL;
  record->text_bytes = record->reference_bytes = 0;
  record->margin = record->chosen_score = record->rejected_score = 0;
  record->ordered = record->scored = record->nothing = false;
  record->labels = (PairLabels){0};
}

bool record_parse(Record *record, json_t *root, DatasetKind kind, DatasetFormat format, RecordPlace place,
                  Error *error) {
  const json_t *tools = NULL;
  record_clear(record);
  if (!fields_check_record(root, kind, format, place, &record->passed, error)) return false;
  if (format == FORMAT_TEXT) return parse_text(record, root, place, error);
  if (!parse_dialogue(record, root, kind, format, place, error) || !read_tools(root, place, &tools, error)) {
    return false;
  }
  set_all(record, tools, kind == DATASET_PREFERENCE || kind == DATASET_UNPAIRED || kind == DATASET_PROMPT);
  return kind != DATASET_PROMPT || record->nothing || take_reference(record, root, place, error);
}
