/* What the template is given of a conversation, as apply_chat_template gives it. */
#include "datasets/chat_parts.h"

#include <string.h>

enum { HEAP_LIMIT = 256 << 20 }; /* bytes of one rendering's values; a record's text has 64 MiB at most */

/* ---- What the template is given --------------------------------------------------------------------- */

/* Alpaca's instruction and input as one text, which stays where it is until the next conversation. */
static bool join_inputs(Reading *r) {
  Buffer *joined = &r->out->joined;
  size_t bytes = 0;
  for (size_t i = 0; i < r->talk->count; i++) {
    const ChatMessage *message = &r->talk->items[i];
    if (message->input_bytes) bytes += message->bytes + 2 + message->input_bytes;
  }
  buffer_clear(joined);
  if (bytes == 0) return true;
  for (size_t i = 0; i < r->talk->count; i++) {
    const ChatMessage *message = &r->talk->items[i];
    if (message->input_bytes == 0) continue;
    if (!buffer_append(joined, message->text, message->bytes, r->error) ||
        !buffer_append(joined, "\n\n", 2, r->error) ||
        !buffer_append(joined, message->input, message->input_bytes, r->error)) {
      return false;
    }
  }
  return true;
}

/* OpenAI's calls carry their arguments as text; templates are made for objects, as servers give them. A new reference to calls
 * with the arguments parsed, where they are the text of an object; NULL when out of memory. */
static json_t *calls_parsed(const json_t *calls) {
  json_t *copy = json_deep_copy(calls), *call;
  size_t i;
  json_array_foreach(copy, i, call) {
    json_t *function = json_object_get(call, "function");
    if (!json_is_object(function)) function = call;
    const json_t *text = json_object_get(function, "arguments");
    if (!json_is_string(text)) continue;
    json_t *parsed = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
    if (json_is_object(parsed)) json_object_set(function, "arguments", parsed);
    json_decref(parsed);
  }
  return copy;
}

/* One entry per message: its calls of tools as the template gets them, or null. */
static bool parse_calls(Reading *r) {
  json_decref(r->out->parsed);
  r->out->parsed = NULL;
  for (size_t i = 0; i < r->talk->count; i++) {
    const json_t *calls = json_object_get(r->talk->items[i].extra, "tool_calls");
    if (!json_is_array(calls)) continue;
    if (!r->out->parsed) r->out->parsed = json_array();
    while (json_array_size(r->out->parsed) < i && json_array_append_new(r->out->parsed, json_null()) == 0) {
    }
    if (json_array_append_new(r->out->parsed, calls_parsed(calls)) != 0) {
      return error_out_of_memory(r->error, "calls of tools", 0);
    }
  }
  return true;
}

const json_t *chat_calls_of(const Reading *r, size_t message) {
  const json_t *calls = json_array_get(r->out->parsed, message);
  return json_is_array(calls) ? calls : NULL;
}

static bool set(Reading *r, Value dict, const char *key, Value value) {
  return value_dict_set(r->out->heap, dict, key, value, r->error);
}

static bool set_text(Reading *r, Value dict, const char *key, const char *text, size_t bytes, bool tracked) {
  Value value;
  return value_text(r->out->heap, text, bytes, tracked, &value, r->error) && set(r, dict, key, value);
}

static bool is_one_of(const char *key, const char *const *names) {
  while (*names && strcmp(key, *names) != 0) names++;
  return *names != NULL;
}

const char *const chat_said_keys[] = {"reasoning_content", "reasoning", "thinking", "tool_calls", NULL};

/* Reasoning has three names in records, and templates read one of two. */
static bool set_reasoning(Reading *r, Value dict, const json_t *extra) {
  static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
  const json_t *given = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !given; i++) {
    const json_t *value = json_object_get(extra, names[i]);
    if (value && !json_is_null(value)) given = value;
  }
  Value value;
  if (!given) return true;
  const json_t *thinking = json_object_get(extra, "thinking");
  return value_json(r->out->heap, given, true, &value, r->error) &&
         set(r, dict, "reasoning_content", value) &&
         ((thinking && !json_is_null(thinking)) || set(r, dict, "thinking", value));
}

/* The record's own keys beside role and content, as Transformers passes them on: without those that are null. */
static bool set_extra(Reading *r, Value dict, size_t message) {
  static const char *const taken[] = {"role", "content", "from", "value", NULL};
  const json_t *calls = chat_calls_of(r, message);
  const char *key;
  json_t *item;
  json_object_foreach((json_t *)r->talk->items[message].extra, key, item) {
    if (json_is_null(item) || is_one_of(key, taken)) continue;
    const json_t *given = calls && strcmp(key, "tool_calls") == 0 ? calls : item;
    Value value;
    if (!value_json(r->out->heap, given, is_one_of(key, chat_said_keys), &value, r->error) ||
        !set(r, dict, key, value)) {
      return false;
    }
  }
  return set_reasoning(r, dict, r->talk->items[message].extra);
}

static bool set_content(Reading *r, Value dict, const ChatMessage *message, size_t *joined_at) {
  if (message->input_bytes) {
    const size_t bytes = message->bytes + 2 + message->input_bytes;
    const char *joined = r->out->joined.data + *joined_at;
    *joined_at += bytes;
    return set_text(r, dict, "content", joined, bytes, true) &&
           set_text(r, dict, "instruction", message->text, message->bytes, true) &&
           set_text(r, dict, "input", message->input, message->input_bytes, true);
  }
  return !message->text || set_text(r, dict, "content", message->text, message->bytes, true);
}

static bool make_messages(Reading *r, size_t count, Value *list) {
  ValueHeap *heap = r->out->heap;
  size_t joined_at = 0;
  if (!value_list(heap, list, r->error)) return false;
  for (size_t i = 0; i < count; i++) {
    const ChatMessage *message = &r->talk->items[i];
    const char *role = chat_role_name(message);
    Value dict;
    if (!value_dict(heap, &dict, r->error) || !set_text(r, dict, "role", role, strlen(role), false) ||
        !set_content(r, dict, message, &joined_at) || !set_extra(r, dict, i) ||
        !value_list_push(heap, *list, dict, r->error)) {
      return false;
    }
  }
  return true;
}

static bool set_token(Reading *r, Value variables, const char *key, int id) {
  const char *text = id >= 0 ? tokenizer_token(r->chat->tokenizer, id) : NULL;
  return !text || set_text(r, variables, key, text, strlen(text), false);
}

static bool set_args(Reading *r, Value variables) {
  const char *key;
  json_t *item;
  Value value;
  json_object_foreach(r->chat->args, key, item) {
    if (!value_json(r->out->heap, item, false, &value, r->error) || !set(r, variables, key, value))
      return false;
  }
  return true;
}

static bool set_tools(Reading *r, Value variables) {
  Value tools = value_none();
  const bool given = json_array_size(r->talk->tools) > 0;
  return (!given || value_json(r->out->heap, r->talk->tools, false, &tools, r->error)) &&
         set(r, variables, "tools", tools) && set(r, variables, "documents", value_none());
}

bool chat_render(Reading *r, size_t count, bool generation_prompt, TemplateText *out, Error *error) {
  Error *kept = r->error;
  r->error = error;
  const Tokenizer *tokenizer = r->chat->tokenizer;
  ValueHeap *heap = r->out->heap;
  Value variables, messages;
  value_heap_clear(heap);
  const bool ok = value_dict(heap, &variables, error) && make_messages(r, count, &messages) &&
                  set(r, variables, "messages", messages) && set_tools(r, variables) &&
                  set(r, variables, "add_generation_prompt", value_bool(generation_prompt)) &&
                  set_token(r, variables, "bos_token", tokenizer_bos(tokenizer)) &&
                  set_token(r, variables, "eos_token", tokenizer_eos(tokenizer)) &&
                  set_token(r, variables, "pad_token", tokenizer_pad(tokenizer)) &&
                  set_token(r, variables, "unk_token", tokenizer_unk(tokenizer)) && set_args(r, variables) &&
                  template_render(r->template, heap, variables, r->chat->now, &template_limits, out, error);
  r->error = kept;
  return ok;
}

bool chat_prepare(Reading *r) {
  if (!r->out->heap) r->out->heap = value_heap_open(HEAP_LIMIT, r->error);
  return r->out->heap && join_inputs(r) && parse_calls(r);
}
