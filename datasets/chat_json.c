/* Conversations that are filled from JSON, and messages as JSON. */
#include "datasets/chat.h"

#include "base/json.h"

#include <string.h>

void conversation_free(Conversation *talk) {
  memory_free(talk->items);
  *talk = (Conversation){0};
}

bool conversation_push(Conversation *talk, ChatMessage message, Error *error) {
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

static ChatRole role_of(const char *name) {
  static const char *const names[] = {"system", "user", "assistant", "tool"}; /* in the order of ChatRole */
  for (int i = 0; i < 4; i++) {
    if (strcmp(name, names[i]) == 0) return (ChatRole)i;
  }
  return CHAT_OTHER;
}

bool conversation_add_json(Conversation *talk, const json_t *messages, Error *error) {
  for (size_t i = 0; i < json_array_size(messages); i++) {
    const json_t *item = json_array_get(messages, i);
    const json_t *role = json_object_get(item, "role"), *content = json_object_get(item, "content");
    if (!json_is_string(role)) {
      return error_set(error, ERROR_DATA, "message %zu: key 'role': expected a string, found %s", i + 1,
                       json_kind(role));
    }
    const bool calls = json_array_size(json_object_get(item, "tool_calls")) > 0;
    const bool none = !content || json_is_null(content);
    if (!json_is_string(content) && !(none && calls)) {
      return error_set(error, ERROR_DATA, "message %zu: key 'content': expected a string, found %s", i + 1,
                       json_kind(content));
    }
    const ChatMessage message = {.role = role_of(json_string_value(role)),
                                 .role_name = json_string_value(role),
                                 .text = json_string_value(content),
                                 .bytes = json_string_length(content),
                                 .extra = item};
    if (!conversation_push(talk, message, error)) return false;
  }
  return true;
}

static json_t *content_of(const ChatMessage *message) {
  if (!message->text) return json_null();
  if (!message->input) return json_stringn(message->text, message->bytes);
  Buffer text = {0};
  Error ignored = {0};
  json_t *out = NULL;
  if (buffer_append(&text, message->text, message->bytes, &ignored) && buffer_text(&text, "\n\n", &ignored) &&
      buffer_append(&text, message->input, message->input_bytes, &ignored)) {
    out = json_stringn(text.data, text.size);
  }
  buffer_free(&text);
  return out;
}

/* Whether a key of a message is said in another way, or has nothing to say where nothing is learnt. */
static bool is_basic(const char *key) {
  static const char *const basic[] = {"role", "from", "content", "value", "train", "weight"};
  for (size_t i = 0; i < sizeof basic / sizeof *basic; i++) {
    if (!strcmp(key, basic[i])) return true;
  }
  return false;
}

json_t *chat_message_json(const ChatMessage *message) {
  json_t *out = json_object();
  bool ok = out && !json_object_set_new(out, "role", json_string(chat_role_name(message))) &&
            !json_object_set_new(out, "content", content_of(message));
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)message->extra, key, value) {
    if (!is_basic(key)) ok = ok && !json_object_set(out, key, value);
  }
  if (ok) return out;
  json_decref(out);
  return NULL;
}
