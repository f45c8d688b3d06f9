#include "tools/generate/prompts.h"

#include "base/json.h"
#include "datasets/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static Prompt *prompt_new(Prompts *p, Error *error) {
  if (p->count == p->capacity) {
    const size_t capacity = p->capacity ? 2 * p->capacity : 16;
    Prompt *grown = memory_resize(p->items, capacity * sizeof *grown);
    if (!grown) {
      error_out_of_memory(error, "prompts", capacity * sizeof *grown);
      return NULL;
    }
    p->items = grown;
    p->capacity = capacity;
  }
  Prompt *prompt = &p->items[p->count++];
  *prompt = (Prompt){0};
  return prompt;
}

/* A text is one user turn; a list is taken as it is, with the record's "tools". */
static bool chat_prompt(Prompts *p, const json_t *value, const json_t *tools, IntArray *ids, Error *error) {
  const char *system = p->asked.system;
  Conversation talk = {.tools = tools};
  ChatReading reading = {0};
  const ChatMessage first = {.role = CHAT_SYSTEM, .text = system, .bytes = system ? strlen(system) : 0};
  const ChatMessage asked = {
      .role = CHAT_USER, .text = json_string_value(value), .bytes = json_string_length(value)};
  bool ok = !system || conversation_push(&talk, first, error);
  ok = ok && (json_is_string(value) ? conversation_push(&talk, asked, error)
                                    : conversation_add_json(&talk, value, error));
  if (ok && talk.count == (system != NULL))
    ok = error_set(error, ERROR_DATA, "expected at least one message");
  if (ok && system && talk.items[1].role == CHAT_SYSTEM) {
    ok = error_set(error, ERROR_DATA, "has a system turn of its own beside --system");
  }
  ok = ok && chat_read(&p->text->chat, &talk, talk.count, CHAT_ASK, 0, &reading, error) &&
       int_array_append(ids, reading.ids.data, reading.ids.size, error);
  if (ok && reading.found.left_out >= 0 && p->log) {
    log_warning(p->log, "the chat template leaves out the text of message %d", reading.found.left_out + 1);
  }
  chat_reading_free(&reading);
  conversation_free(&talk);
  return ok;
}

/* Says where the prompt of an error stands. Always returns false. */
static bool prompt_context(const Prompts *p, const Prompt *prompt, Error *error) {
  if (prompt->line == 0) return false;
  return error_context(error, "%s:%llu", p->asked.file, (unsigned long long)prompt->line);
}

/* record: of --prompts; NULL: the text of --prompt. */
static bool prompt_encode(Prompts *p, const json_t *value, const json_t *record, IntArray *ids,
                          Error *error) {
  if (json_is_array(value) && !p->asked.chat) {
    return error_set(error, ERROR_DATA, "key 'prompt' is a list of messages, which needs --chat");
  }
  if (!json_is_string(value) && !json_is_array(value)) {
    return error_set(error, ERROR_DATA, "key 'prompt': expected string or list of messages, found %s",
                     json_kind(value));
  }
  const bool ok = p->asked.chat ? chat_prompt(p, value, json_object_get(record, "tools"), ids, error)
                                : tokenizer_encode(p->text->tokenizer, json_string_value(value),
                                                   json_string_length(value), true, ids, error);
  if (ok && ids->size == 0) return error_set(error, ERROR_DATA, "the prompt has no tokens");
  return ok && text_tools_check_ids(p->text, "the prompt", ids, error);
}

static bool read_prompt_file(Prompts *p, Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, p->asked.file, error)) return false;
  bool ok = true;
  for (;;) {
    json_t *record;
    ok = line_reader_record(&reader, &record, error);
    if (!ok || !record) break;
    Prompt *prompt = prompt_new(p, error);
    if (!prompt) {
      json_decref(record);
      ok = false;
      break;
    }
    prompt->record = record;
    prompt->line = reader.number;
    ok = prompt_encode(p, json_object_get(record, "prompt"), record, &prompt->ids, error) ||
         prompt_context(p, prompt, error);
    if (!ok) break;
  }
  line_reader_close(&reader);
  if (ok && p->count == 0) {
    return error_set(error, ERROR_DATA, "%s: no prompts", p->asked.file);
  }
  return ok;
}

static bool read_prompt_text(Prompts *p, Error *error) {
  Prompt *prompt = prompt_new(p, error);
  if (!prompt) return false;
  prompt->record = json_pack("{s:s}", "prompt", p->asked.text);
  if (!prompt->record) return error_set(error, ERROR_USAGE, "--prompt: not valid UTF-8");
  return prompt_encode(p, json_object_get(prompt->record, "prompt"), NULL, &prompt->ids, error);
}

static bool read_prompt_ids(Prompts *p, Error *error) {
  Prompt *prompt = prompt_new(p, error);
  if (!prompt) return false;
  prompt->record = json_object();
  json_t *list = json_array();
  bool ok = (prompt->record && list && !json_object_set_new(prompt->record, "prompt_ids", list)) ||
            error_out_of_memory(error, "prompt", 0);
  for (const char *at = p->asked.ids; ok;) {
    char *end;
    errno = 0;
    const long id = strtol(at, &end, 10);
    if (end == at || errno || id < 0 || id > INT32_MAX || (*end && *end != ',')) {
      return error_set(error, ERROR_USAGE, "--ids %s: expected token ids as 1,2,3", p->asked.ids);
    }
    ok = int_array_push(&prompt->ids, (int)id, error) && !json_array_append_new(list, json_integer(id));
    if (!*end) break;
    at = end + 1;
  }
  return ok;
}

bool prompts_read(Prompts *prompts, const PromptsAsked *asked, const TextTools *text, Log *log,
                  Error *error) {
  *prompts = (Prompts){.asked = *asked, .text = text, .log = log};
  return asked->file   ? read_prompt_file(prompts, error)
         : asked->text ? read_prompt_text(prompts, error)
                       : read_prompt_ids(prompts, error);
}

int64_t prompts_longest(const Prompts *p) {
  int64_t longest = 0;
  for (size_t i = 0; i < p->count; i++) {
    if ((int64_t)p->items[i].ids.size > longest) longest = (int64_t)p->items[i].ids.size;
  }
  return longest;
}

bool prompts_fit(const Prompts *p, int64_t limit, Error *error) {
  for (size_t i = 0; i < p->count; i++) {
    const Prompt *prompt = &p->items[i];
    if ((int64_t)prompt->ids.size < limit) continue;
    error_set(error, ERROR_DATA,
              "the prompt has %zu tokens, which leaves no room for an answer: the model takes %lld together",
              prompt->ids.size, (long long)limit);
    return prompt_context(p, prompt, error);
  }
  return true;
}

void prompts_free(Prompts *p) {
  for (size_t i = 0; i < p->count; i++) {
    json_decref(p->items[i].record);
    int_array_free(&p->items[i].ids);
  }
  memory_free(p->items);
  *p = (Prompts){0};
}
