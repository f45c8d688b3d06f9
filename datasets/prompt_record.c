#include "datasets/prompt_record.h"

#include "datasets/fields.h"
#include "datasets/formats.h"
#include "datasets/turns.h"

#include <string.h>

/* ---- the prompt ---- */

static json_t *message_of(const ChatMessage *message) {
  json_t *out = chat_message_json(message);
  if (message->role != CHAT_ASSISTANT || !out || !json_object_set_new(out, "train", json_false())) return out;
  json_decref(out);
  return NULL;
}

static bool is_list(const json_t *root, const char *key) {
  const json_t *value = json_object_get(root, key);
  return json_is_array(value) || json_is_object(value);
}

/* Whether the record has its turns as messages. */
static bool has_messages(const json_t *root, DatasetFormat format) {
  switch (format) {
    case FORMAT_MESSAGES:
    case FORMAT_SHAREGPT:
      return true;
    case FORMAT_OASST:
      return false;
    default:
      return is_list(root, "prompt") || is_list(root, "context") || is_list(root, "chosen");
  }
}

/* A string, where that is read as one question again; else a list. */
static json_t *prompt_of(const Conversation *talk, bool messages) {
  const ChatMessage *first = &talk->items[0];
  const bool plain = !messages && talk->count == 1 && first->role == CHAT_USER && first->text;
  json_t *only = plain ? chat_message_json(first) : NULL;
  json_t *said = json_incref(json_object_get(only, "content"));
  json_decref(only);
  if (said && !is_transcript(said)) return said;
  json_decref(said);
  json_t *out = plain && !said ? NULL : json_array();
  bool ok = out != NULL;
  for (size_t i = 0; ok && i < talk->count; i++) {
    ok = json_array_append_new(out, message_of(&talk->items[i])) == 0;
  }
  if (ok) return out;
  json_decref(out);
  return NULL;
}

/* ---- the record ---- */

json_t *prompt_record(const json_t *root, const Record *record, DatasetFormat format, Error *error) {
  json_t *out = json_object();
  bool ok = out &&
            !json_object_set_new(out, "prompt", prompt_of(&record->talk, has_messages(root, format))) &&
            (!record->talk.tools || !json_object_set(out, "tools", (json_t *)record->talk.tools));
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)root, key, value) {
    if (!format_has_key(FORMAT_AUTO, key) && !fields_weigh(key)) ok = ok && !json_object_set(out, key, value);
  }
  if (ok) return out;
  json_decref(out);
  error_out_of_memory(error, "record", 0);
  return NULL;
}

json_t *prompt_record_answer(const json_t *made, const char *text, size_t bytes) {
  json_t *said = json_stringn(text, bytes);
  if (!said || json_is_string(json_object_get(made, "prompt"))) return said;
  return json_pack("[{s:s, s:o}]", "role", "assistant", "content", said);
}
