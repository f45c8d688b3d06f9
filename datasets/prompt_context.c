#include "datasets/prompt_context.h"

#include "base/json.h"
#include "datasets/formats.h"

static json_t *messages_of(const Conversation *talk) {
  json_t *out = json_array();
  bool ok = out != NULL;
  for (size_t i = 0; ok && i < talk->count; i++) {
    ok = json_array_append_new(out, chat_message_json(&talk->items[i])) == 0;
  }
  if (ok) return out;
  json_decref(out);
  return NULL;
}

static json_t *others_of(const json_t *root, DatasetFormat format) {
  json_t *out = json_object(), *value;
  const char *key;
  json_object_foreach((json_t *)root, key, value) {
    if (!format_has_key(format, key)) json_object_set(out, key, value);
  }
  return out;
}

bool prompt_context_write(const Record *record, const json_t *root, DatasetFormat format, Buffer *out,
                          Error *error) {
  json_t *whole = json_pack("{s:o, s:O*, s:o}", "messages", messages_of(&record->talk), "tools",
                            record->talk.tools, "record", others_of(root, format));
  buffer_clear(out);
  const bool ok = whole ? json_append_text(out, whole, error) : error_out_of_memory(error, "record", 0);
  json_decref(whole);
  return ok;
}
