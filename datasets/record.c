#include "datasets/record.h"

#include "datasets/fields.h"
#include "datasets/lines.h"

#include <math.h>
#include <string.h>

const char *const dataset_format_names[] = {
    "auto",    "alpaca",    "messages", "sharegpt", "prompt_completion", "text", "preference",
    "ranking", "safe_pair", "prompts",  NULL};
const char *const dataset_truncation_names[] = {"drop", "error", "truncate", NULL};

const char *dataset_kind_name(DatasetKind kind) {
  switch (kind) {
    case DATASET_SFT:
      return "supervised";
    case DATASET_PREFERENCE:
      return "preference";
    case DATASET_PROMPT:
      return "prompt";
    case DATASET_TEXT:
      return "text";
  }
  return "unknown";
}

bool dataset_kind_takes(DatasetKind kind, DatasetFormat format) {
  switch (kind) {
    case DATASET_SFT:
    case DATASET_TEXT:
      return format >= FORMAT_ALPACA && format <= FORMAT_TEXT;
    case DATASET_PREFERENCE:
      return format == FORMAT_PREFERENCE || format == FORMAT_RANKING || format == FORMAT_SAFE_PAIR;
    case DATASET_PROMPT:
      return format != FORMAT_AUTO && format != FORMAT_TEXT;
  }
  return false;
}

DatasetKind record_kind(DatasetFormat format) {
  switch (format) {
    case FORMAT_PREFERENCE:
    case FORMAT_RANKING:
    case FORMAT_SAFE_PAIR:
      return DATASET_PREFERENCE;
    case FORMAT_PROMPTS:
      return DATASET_PROMPT;
    case FORMAT_TEXT:
      return DATASET_TEXT;
    default:
      return DATASET_SFT;
  }
}

void record_free(Record *record) {
  memory_free(record->talk.items);
  memory_free(record->rejected.items);
  for (size_t i = 0; i < record->answer_capacity; i++) memory_free(record->answers[i].talk.items);
  memory_free(record->answers);
  *record = (Record){0};
}

/* ---- Detection ------------------------------------------------------------------------------------- */

DatasetFormat record_format(const json_t *root, DatasetKind kind) {
#define HAS(key) (json_object_get(root, key) != NULL)
  if (HAS("chosen") && HAS("rejected")) return FORMAT_PREFERENCE;
  if (HAS("prompt") && HAS("responses")) return FORMAT_RANKING;
  if (HAS("messages")) return FORMAT_MESSAGES;
  if (HAS("conversations")) return FORMAT_SHAREGPT;
  if (HAS("instruction") && (HAS("output") || kind == DATASET_PROMPT)) return FORMAT_ALPACA;
  if (HAS("prompt") && HAS("completion")) return FORMAT_PROMPT_COMPLETION;
  if (HAS("text")) return FORMAT_TEXT;
  if (HAS("prompt")) return FORMAT_PROMPTS;
#undef HAS
  return FORMAT_AUTO;
}

bool record_detect(const json_t *root, DatasetKind kind, RecordPlace place, DatasetFormat *format,
                   Error *error) {
  *format = record_format(root, kind);
  if (dataset_kind_takes(kind, *format)) return true;
  unsigned long long line = place.line;
  if (*format != FORMAT_AUTO) {
    return error_set(error, ERROR_DATA, "%s:%llu: the keys are those of %s records, which are no %s data",
                     place.file, line, dataset_format_names[*format], dataset_kind_name(kind));
  }
  char keys[256] = "";
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)root, key, value) {
    size_t used = strlen(keys);
    if (used + strlen(key) + 8 > sizeof keys) {
      memcpy(keys + used, " ...", 5);
      break;
    }
    snprintf(keys + used, sizeof keys - used, "%s%s", used ? ", " : "", key);
  }
  return error_set(error, ERROR_DATA,
                   "%s:%llu: no known format has these keys: %s; expected instruction + output, messages, "
                   "conversations, prompt + completion, text, chosen + rejected, or prompt",
                   place.file, line, keys[0] ? keys : "(none)");
}

/* ---- Values ---------------------------------------------------------------------------------------- */

static bool fail_type(RecordPlace place, const char *key, const char *expected, const json_t *found,
                      Error *error) {
  unsigned long long line = place.line;
  if (!found) {
    return error_set(error, ERROR_DATA, "%s:%llu: key '%s' is missing, expected %s", place.file, line, key,
                     expected);
  }
  return error_set(error, ERROR_DATA, "%s:%llu: key '%s': expected %s, found %s", place.file, line, key,
                   expected, json_kind(found));
}

static bool fail_text(RecordPlace place, const char *key, const char *message, Error *error) {
  return error_set(error, ERROR_DATA, "%s:%llu: key '%s': %s", place.file, (unsigned long long)place.line,
                   key, message);
}

/* An optional string: NULL when missing or null. */
static bool get_optional(const json_t *root, const char *key, RecordPlace place, const char **text,
                         size_t *bytes, Error *error) {
  const json_t *value = json_object_get(root, key);
  *text = NULL;
  *bytes = 0;
  if (!value || json_is_null(value)) return true;
  if (!json_is_string(value)) return fail_type(place, key, "string", value, error);
  *text = json_string_value(value);
  *bytes = json_string_length(value);
  return true;
}

static bool conversation_push(Conversation *talk, ChatMessage message, Error *error) {
  if (talk->count == talk->capacity) {
    size_t capacity = talk->capacity ? 2 * talk->capacity : 8;
    ChatMessage *items = memory_resize(talk->items, capacity * sizeof *items);
    if (!items) return error_out_of_memory(error, "messages", capacity * sizeof *items);
    talk->items = items;
    talk->capacity = capacity;
  }
  talk->items[talk->count++] = message;
  return true;
}

static bool push_string(Conversation *talk, ChatRole role, const json_t *value, const char *key,
                        RecordPlace place, Error *error) {
  if (!json_is_string(value)) return fail_type(place, key, "string", value, error);
  ChatMessage message = {.role = role, .text = json_string_value(value), .bytes = json_string_length(value)};
  return conversation_push(talk, message, error);
}

static bool push_system(Conversation *talk, const json_t *root, RecordPlace place, Error *error) {
  const char *text;
  size_t bytes;
  if (!get_optional(root, "system", place, &text, &bytes, error)) return false;
  if (!text || bytes == 0) return true;
  return conversation_push(talk, (ChatMessage){.role = CHAT_SYSTEM, .text = text, .bytes = bytes}, error);
}

/* ---- Lists of messages ----------------------------------------------------------------------------- */

/* The two ways of writing a message. */
typedef struct MessageStyle {
  const char *role, *content, *expected;
} MessageStyle;

static const MessageStyle openai_style = {"role", "content", "system, user or assistant"};
static const MessageStyle sharegpt_style = {"from", "value", "system, human, user, gpt or assistant"};

static bool role_parse(const MessageStyle *style, const char *name, ChatRole *role) {
  bool sharegpt = style == &sharegpt_style;
  if (strcmp(name, "system") == 0) {
    *role = CHAT_SYSTEM;
  } else if (strcmp(name, "user") == 0 || (sharegpt && strcmp(name, "human") == 0)) {
    *role = CHAT_USER;
  } else if (strcmp(name, "assistant") == 0 || (sharegpt && strcmp(name, "gpt") == 0)) {
    *role = CHAT_ASSISTANT;
  } else {
    return false;
  }
  return true;
}

static bool push_message(Conversation *talk, const json_t *value, const MessageStyle *style, const char *path,
                         RecordPlace place, KeyNames *passed, Error *error) {
  char key[128];
  bool learnt;
  if (!json_is_object(value)) return fail_type(place, path, "object", value, error);
  const json_t *role_value = json_object_get(value, style->role);
  snprintf(key, sizeof key, "%s.%s", path, style->role);
  if (!json_is_string(role_value)) return fail_type(place, key, "string", role_value, error);
  ChatRole role;
  if (!role_parse(style, json_string_value(role_value), &role)) {
    char message[192];
    snprintf(message, sizeof message, "expected %s, found \"%.64s\"", style->expected,
             json_string_value(role_value));
    return fail_text(place, key, message, error);
  }
  if (!fields_check_message(value, style->role, style->content, path, place, passed, &learnt, error)) {
    return false;
  }
  snprintf(key, sizeof key, "%s.%s", path, style->content);
  if (!push_string(talk, role, json_object_get(value, style->content), key, place, error)) return false;
  talk->items[talk->count - 1].unlearnt = !learnt;
  return true;
}

static bool push_list(Conversation *talk, const json_t *list, const MessageStyle *style, const char *key,
                      RecordPlace place, KeyNames *passed, Error *error) {
  if (!json_is_array(list)) return fail_type(place, key, "list of messages", list, error);
  size_t count = json_array_size(list);
  if (count == 0) return fail_text(place, key, "expected at least one message, found an empty list", error);
  for (size_t i = 0; i < count; i++) {
    char path[96];
    snprintf(path, sizeof path, "%s[%zu]", key, i);
    if (!push_message(talk, json_array_get(list, i), style, path, place, passed, error)) return false;
  }
  return true;
}

/* A string (a turn of `role`), one message, or a list of messages. */
static bool push_any(Conversation *talk, const json_t *root, const char *key, ChatRole role,
                     RecordPlace place, KeyNames *passed, Error *error) {
  const json_t *value = json_object_get(root, key);
  if (json_is_array(value)) return push_list(talk, value, &openai_style, key, place, passed, error);
  if (json_is_object(value)) return push_message(talk, value, &openai_style, key, place, passed, error);
  if (json_is_string(value)) return push_string(talk, role, value, key, place, error);
  return fail_type(place, key, "string or list of messages", value, error);
}

static void learn_all(Conversation *talk) {
  for (size_t i = 0; i < talk->count; i++) talk->items[i].unlearnt = false;
}

/* ---- Preferences ----------------------------------------------------------------------------------- */

static const char human_mark[] = "\n\nHuman:";
static const char assistant_mark[] = "\n\nAssistant:";

/* The next turn mark at or after `from`, or `end`. */
static const char *find_mark(const char *from, const char *end, ChatRole *role, size_t *length) {
  for (const char *at = from; at < end; at++) {
    at = memchr(at, '\n', (size_t)(end - at));
    if (!at) break;
    size_t left = (size_t)(end - at);
    if (left >= sizeof human_mark - 1 && memcmp(at, human_mark, sizeof human_mark - 1) == 0) {
      *role = CHAT_USER;
      *length = sizeof human_mark - 1;
      return at;
    }
    if (left >= sizeof assistant_mark - 1 && memcmp(at, assistant_mark, sizeof assistant_mark - 1) == 0) {
      *role = CHAT_ASSISTANT;
      *length = sizeof assistant_mark - 1;
      return at;
    }
  }
  return end;
}

/* "\n\nHuman: ...\n\nAssistant: ..." of the Anthropic HH files; each text loses its first space. */
static bool push_hh(Conversation *talk, const json_t *value, const char *key, RecordPlace place,
                    Error *error) {
  const char *at = json_string_value(value), *end = at + json_string_length(value);
  ChatRole role, next_role = CHAT_USER;
  size_t length, next_length = 0;
  if (find_mark(at, end, &role, &length) != at || at == end) {
    return fail_text(place, key,
                     "a string without a 'prompt' beside it; expected \"\\n\\nHuman: ...\" in it, a list of "
                     "messages, or the key 'prompt'",
                     error);
  }
  while (at < end) {
    const char *text = at + length;
    const char *next = find_mark(text, end, &next_role, &next_length);
    if (text < next && *text == ' ') text++;
    ChatMessage message = {.role = role, .text = text, .bytes = (size_t)(next - text)};
    if (!conversation_push(talk, message, error)) return false;
    at = next;
    role = next_role;
    length = next_length;
  }
  return true;
}

/* One side: a whole conversation, or the prompt and what continues it (see dataset.h). */
static bool parse_side(Conversation *talk, const json_t *root, const char *key, RecordPlace place,
                       KeyNames *passed, Error *error) {
  const json_t *prompt = json_object_get(root, "prompt");
  const json_t *side = json_object_get(root, key);
  bool has_prompt = prompt && !json_is_null(prompt);
  if (json_is_string(side) && !has_prompt) {
    if (!push_hh(talk, side, key, place, error)) return false;
  } else {
    if (!push_any(talk, root, key, CHAT_ASSISTANT, place, passed, error)) return false;
    bool whole = talk->items[0].role != CHAT_ASSISTANT;
    if (!whole && !has_prompt) return fail_type(place, "prompt", "string or list of messages", NULL, error);
    if (!whole) {
      talk->count = 0;
      if (!push_any(talk, root, "prompt", CHAT_USER, place, passed, error)) return false;
      if (!push_any(talk, root, key, CHAT_ASSISTANT, place, passed, error)) return false;
    }
  }
  if (talk->items[talk->count - 1].role != CHAT_ASSISTANT) {
    return fail_text(place, key, "expected to end with an assistant turn", error);
  }
  return true;
}

static bool parse_preference(Record *record, const json_t *root, RecordPlace place, Error *error) {
  const json_t *margin = json_object_get(root, "margin");
  if (margin && !json_is_null(margin)) {
    if (!json_is_number(margin)) return fail_type(place, "margin", "number", margin, error);
    record->margin = json_number_value(margin);
    if (!isfinite((float)record->margin)) { /* float is what the loss computes with */
      return fail_text(place, "margin", "expected a number below 3.4e38", error);
    }
  }
  return parse_side(&record->talk, root, "chosen", place, &record->passed, error) &&
         parse_side(&record->rejected, root, "rejected", place, &record->passed, error);
}

static RankedAnswer *push_answer(Record *record, Error *error) {
  if (record->answer_count == record->answer_capacity) {
    const size_t capacity = record->answer_capacity ? 2 * record->answer_capacity : 8;
    RankedAnswer *answers = memory_resize(record->answers, capacity * sizeof *answers);
    if (!answers) {
      error_out_of_memory(error, "answers", capacity * sizeof *answers);
      return NULL;
    }
    memset(answers + record->answer_capacity, 0, (capacity - record->answer_capacity) * sizeof *answers);
    record->answers = answers;
    record->answer_capacity = capacity;
  }
  RankedAnswer *answer = &record->answers[record->answer_count++];
  answer->talk.count = 0;
  return answer;
}

/* The list under `key`, which has as many items as `count` says, if that is not 0. */
static bool get_list(const json_t *root, const char *key, size_t count, RecordPlace place,
                     const json_t **list, Error *error) {
  *list = json_object_get(root, key);
  if (!json_is_array(*list)) return fail_type(place, key, "list", *list, error);
  if (count == 0 || json_array_size(*list) == count) return true;
  return error_set(error, ERROR_DATA, "%s:%llu: key '%s': expected %zu items, one for each answer, found %zu",
                   place.file, (unsigned long long)place.line, key, count, json_array_size(*list));
}

static bool get_score(const json_t *scores, size_t k, RecordPlace place, double *score, Error *error) {
  const json_t *value = json_array_get(scores, k);
  char key[64];
  snprintf(key, sizeof key, "scores[%zu]", k);
  if (!json_is_number(value)) return fail_type(place, key, "number", value, error);
  *score = json_number_value(value);
  return isfinite((float)*score) || fail_text(place, key, "expected a number below 3.4e38", error);
}

/* What was asked, and the answer. */
static bool parse_answer(Conversation *talk, const json_t *root, const json_t *responses, size_t k,
                         RecordPlace place, KeyNames *passed, Error *error) {
  char key[64];
  snprintf(key, sizeof key, "responses[%zu]", k);
  return push_any(talk, root, "prompt", CHAT_USER, place, passed, error) &&
         push_string(talk, CHAT_ASSISTANT, json_array_get(responses, k), key, place, error);
}

static bool parse_ranking(Record *record, const json_t *root, DatasetKind kind, RecordPlace place,
                          Error *error) {
  const json_t *responses, *scores;
  size_t best = 0;
  record->answer_count = 0;
  if (!get_list(root, "responses", 0, place, &responses, error)) return false;
  const size_t count = json_array_size(responses);
  if (count < 2) return fail_text(place, "responses", "expected at least two answers", error);
  if (!get_list(root, "scores", count, place, &scores, error)) return false;
  for (size_t k = 0; k < count; k++) {
    RankedAnswer *answer = push_answer(record, error);
    if (!answer || !get_score(scores, k, place, &answer->score, error) ||
        !parse_answer(&answer->talk, root, responses, k, place, &record->passed, error)) {
      return false;
    }
    learn_all(&answer->talk);
    if (answer->score > record->answers[best].score) best = k;
  }
  if (kind != DATASET_PROMPT) return true;
  return parse_answer(&record->talk, root, responses, best, place, &record->passed, error);
}

/* ---- The other formats ----------------------------------------------------------------------------- */

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

static bool parse_alpaca(Record *record, const json_t *root, DatasetKind kind, RecordPlace place,
                         Error *error) {
  Conversation *talk = &record->talk;
  if (!push_system(talk, root, place, error) || !push_history(talk, root, place, error)) return false;
  const json_t *instruction = json_object_get(root, "instruction");
  if (!push_string(talk, CHAT_USER, instruction, "instruction", place, error)) return false;
  ChatMessage *user = &talk->items[talk->count - 1];
  if (!get_optional(root, "input", place, &user->input, &user->input_bytes, error)) return false;
  if (user->input_bytes == 0) user->input = NULL;
  const json_t *output = json_object_get(root, "output");
  if (!output && kind == DATASET_PROMPT) return true;
  return push_string(talk, CHAT_ASSISTANT, output, "output", place, error);
}

static bool parse_dialogue(Record *record, const json_t *root, DatasetKind kind, DatasetFormat format,
                           RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  KeyNames *passed = &record->passed;
  switch (format) {
    case FORMAT_ALPACA:
      return parse_alpaca(record, root, kind, place, error);
    case FORMAT_MESSAGES:
      return push_list(talk, json_object_get(root, "messages"), &openai_style, "messages", place, passed,
                       error);
    case FORMAT_SHAREGPT:
      return push_system(talk, root, place, error) &&
             push_list(talk, json_object_get(root, "conversations"), &sharegpt_style, "conversations", place,
                       passed, error);
    case FORMAT_PROMPT_COMPLETION:
      return push_any(talk, root, "prompt", CHAT_USER, place, passed, error) &&
             push_any(talk, root, "completion", CHAT_ASSISTANT, place, passed, error);
    case FORMAT_PROMPTS:
      return push_any(talk, root, "prompt", CHAT_USER, place, passed, error);
    case FORMAT_PREFERENCE:
      return parse_preference(record, root, place, error);
    case FORMAT_RANKING:
      return parse_ranking(record, root, kind, place, error);
    case FORMAT_SAFE_PAIR:
      return error_set(error, ERROR_DATA, "%s:%llu: %s records are not read yet", place.file,
                       (unsigned long long)place.line, dataset_format_names[format]);
    case FORMAT_AUTO:
    case FORMAT_TEXT:
    case FORMAT_COUNT:
      break;
  }
  ASSERT(!"a dialogue format");
  return false;
}

bool record_parse(Record *record, const json_t *root, DatasetKind kind, DatasetFormat format,
                  RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  talk->count = record->rejected.count = 0;
  record->text = record->reference = NULL;
  record->text_bytes = record->reference_bytes = 0;
  record->margin = 0;
  if (!fields_check_record(root, kind, format, place, &record->passed, error)) return false;
  if (format == FORMAT_TEXT) {
    const json_t *text = json_object_get(root, "text");
    if (!json_is_string(text)) return fail_type(place, "text", "string", text, error);
    record->text = json_string_value(text);
    record->text_bytes = json_string_length(text);
    return true;
  }
  if (!parse_dialogue(record, root, kind, format, place, error)) return false;
  if (kind == DATASET_SFT || kind == DATASET_TEXT) return true;
  learn_all(&record->talk); /* what is compared or asked is not learnt turn by turn */
  learn_all(&record->rejected);
  if (kind != DATASET_PROMPT) return true;
  if (talk->items[talk->count - 1].role == CHAT_ASSISTANT) {
    record->reference = talk->items[talk->count - 1].text;
    record->reference_bytes = talk->items[talk->count - 1].bytes;
    talk->count--;
  }
  if (talk->count == 0) {
    return error_set(error, ERROR_DATA, "%s:%llu: no turn before the assistant's: nothing to answer",
                     place.file, (unsigned long long)place.line);
  }
  return true;
}
