#include "datasets/turns.h"

#include "base/json.h"
#include "datasets/columns.h"
#include "datasets/fields.h"

#include <math.h>
#include <string.h>

/* ---- values ---- */

bool fail_type(RecordPlace place, const char *key, const char *expected, const json_t *found, Error *error) {
  char name[256];
  const unsigned long long line = place.line;
  const char *shown = columns_shown(place.columns, key, name, sizeof name);
  if (!found) {
    return error_set(error, ERROR_DATA, "%s:%llu: key '%s' is missing, expected %s", place.file, line, shown,
                     expected);
  }
  return error_set(error, ERROR_DATA, "%s:%llu: key '%s': expected %s, found %s", place.file, line, shown,
                   expected, json_kind(found));
}

bool fail_text(RecordPlace place, const char *key, const char *message, Error *error) {
  char name[256];
  return error_set(error, ERROR_DATA, "%s:%llu: key '%s': %s", place.file, (unsigned long long)place.line,
                   columns_shown(place.columns, key, name, sizeof name), message);
}

bool get_optional(const json_t *root, const char *key, RecordPlace place, const char **text, size_t *bytes,
                  Error *error) {
  const json_t *value = json_object_get(root, key);
  *text = NULL;
  *bytes = 0;
  if (!value || json_is_null(value)) return true;
  if (!json_is_string(value)) return fail_type(place, key, "string", value, error);
  *text = json_string_value(value);
  *bytes = json_string_length(value);
  return true;
}

bool get_number(const json_t *value, const char *key, RecordPlace place, bool *there, double *number,
                Error *error) {
  *there = value && !json_is_null(value);
  if (!*there) return true;
  if (!json_is_number(value)) return fail_type(place, key, "number", value, error);
  *number = json_number_value(value);
  return isfinite((float)*number) /* float is what the loss computes with */
         || fail_text(place, key, "expected a number below 3.4e38", error);
}

bool push_string(Conversation *talk, ChatRole role, const json_t *value, const char *key, RecordPlace place,
                 Error *error) {
  if (!json_is_string(value)) return fail_type(place, key, "string", value, error);
  ChatMessage message = {.role = role, .text = json_string_value(value), .bytes = json_string_length(value)};
  return conversation_push(talk, message, error);
}

/* ---- messages ---- */

/* A message with the names of its two keys. */
typedef struct Message {
  json_t *value;
  const char *role, *content;
  const char *path; /* "messages[2]" */
} Message;

static bool find_keys(Message *message, RecordPlace place, Error *error) {
  const json_t *value = message->value;
  const bool role = json_object_get(value, "role"), from = json_object_get(value, "from");
  const bool content = json_object_get(value, "content"), text = json_object_get(value, "value");
  if (role && from) return fail_text(place, message->path, "has both 'role' and 'from'", error);
  if (content && text) return fail_text(place, message->path, "has both 'content' and 'value'", error);
  const bool sharegpt =
      from || (!role && text) || (!role && !content && strncmp(message->path, "conv", 4) == 0);
  message->role = sharegpt ? "from" : "role";
  message->content = sharegpt && !content ? "value" : "content";
  return true;
}

static ChatRole role_of(const char *name, bool sharegpt) {
  static const struct {
    const char *name;
    ChatRole role;
    bool sharegpt;
  } roles[] = {{"system", CHAT_SYSTEM, false},       {"user", CHAT_USER, false},
               {"assistant", CHAT_ASSISTANT, false}, {"tool", CHAT_TOOL, false},
               {"human", CHAT_USER, true},           {"gpt", CHAT_ASSISTANT, true},
               {"observation", CHAT_TOOL, true}};
  for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
    if (strcmp(name, roles[i].name) == 0 && (sharegpt || !roles[i].sharegpt)) return roles[i].role;
  }
  return CHAT_OTHER;
}

static bool join_part(const json_t *part, const char *key, RecordPlace place, Buffer *text, Error *error) {
  const json_t *type = json_object_get(part, "type"), *said = json_object_get(part, "text");
  if (json_is_string(part)) {
    return buffer_append(text, json_string_value(part), json_string_length(part), error);
  }
  if (!json_is_object(part)) return fail_type(place, key, "a part of a message", part, error);
  if (type && (!json_is_string(type) || strcmp(json_string_value(type), "text") != 0)) {
    char message[160];
    snprintf(
        message, sizeof message,
        "expected a part of type \"text\", found \"%.40s\": images, sound and other parts are not supported",
        json_is_string(type) ? json_string_value(type) : json_kind(type));
    return fail_text(place, key, message, error);
  }
  if (!json_is_string(said)) return fail_type(place, key, "a part with a string 'text'", part, error);
  return buffer_append(text, json_string_value(said), json_string_length(said), error);
}

/* Puts the texts of a list of parts in the place of the list. */
static bool join_parts(const Message *message, const json_t *parts, const char *key, RecordPlace place,
                       Error *error) {
  Buffer text = {0};
  bool ok = buffer_text(&text, "", error);
  for (size_t i = 0; ok && i < json_array_size(parts); i++) {
    char part[192];
    snprintf(part, sizeof part, "%s[%zu]", key, i);
    ok = join_part(json_array_get(parts, i), part, place, &text, error);
  }
  ok =
      ok && (json_object_set_new(message->value, message->content, json_stringn(text.data, text.size)) == 0 ||
             error_out_of_memory(error, "message", text.size));
  buffer_free(&text);
  return ok;
}

/* A message may have no content when something else is said in it. */
static bool read_content(const Message *message, ChatMessage *out, RecordPlace place, Error *error) {
  char key[160];
  snprintf(key, sizeof key, "%s.%s", message->path, message->content);
  const json_t *value = json_object_get(message->value, message->content);
  if (json_is_array(value) && json_array_size(value) > 0) {
    if (!join_parts(message, value, key, place, error)) return false;
    value = json_object_get(message->value, message->content);
  }
  if (json_is_string(value)) {
    out->text = json_string_value(value);
    out->bytes = json_string_length(value);
    return true;
  }
  const bool calls = fields_say(json_object_get(message->value, "tool_calls")) ||
                     fields_say(json_object_get(message->value, "function_call"));
  if (out->role == CHAT_ASSISTANT && calls && (!value || json_is_null(value))) return true;
  return fail_type(place, key, "string", value, error);
}

static bool push_message(Conversation *talk, json_t *value, const char *path, RecordPlace place,
                         KeyNames *passed, Error *error) {
  char key[160];
  bool learnt, carried;
  Message message = {.value = value, .path = path};
  if (!json_is_object(value)) return fail_type(place, path, "object", value, error);
  if (!find_keys(&message, place, error)) return false;
  const json_t *role = json_object_get(value, message.role);
  snprintf(key, sizeof key, "%s.%s", path, message.role);
  if (!json_is_string(role)) return fail_type(place, key, "string", role, error);
  const char *name = json_string_value(role);
  ChatMessage out = {.role = role_of(name, strcmp(message.role, "from") == 0)};
  if (!*name) return fail_text(place, key, "expected a role, found an empty string", error);
  if (out.role == CHAT_OTHER) out.role_name = name;
  if (!fields_check_message(value, message.role, message.content, path, place, passed, &learnt, &carried,
                            error) ||
      !read_content(&message, &out, place, error)) {
    return false;
  }
  out.unlearnt = !learnt;
  if (carried) out.extra = value;
  return conversation_push(talk, out, error);
}

bool push_list(Conversation *talk, json_t *list, const char *key, RecordPlace place, KeyNames *passed,
               Error *error) {
  if (!json_is_array(list)) return fail_type(place, key, "list of messages", list, error);
  const size_t count = json_array_size(list);
  if (count == 0) return fail_text(place, key, "expected at least one message, found an empty list", error);
  for (size_t i = 0; i < count; i++) {
    char path[96];
    snprintf(path, sizeof path, "%s[%zu]", key, i);
    if (!push_message(talk, json_array_get(list, i), path, place, passed, error)) return false;
  }
  return true;
}

bool push_any(Conversation *talk, json_t *value, const char *key, ChatRole role, RecordPlace place,
              KeyNames *passed, Error *error) {
  if (json_is_array(value)) return push_list(talk, value, key, place, passed, error);
  if (json_holds_object(value)) return push_message(talk, value, key, place, passed, error);
  if (json_is_string(value)) return push_string(talk, role, value, key, place, error);
  return fail_type(place, key, "string or list of messages", value, error);
}

/* ---- transcripts ---- */

static const char human_mark[] = "\n\nHuman:";
static const char assistant_mark[] = "\n\nAssistant:";

static bool begins_with(const char *at, const char *end, const char *mark, size_t *length) {
  *length = strlen(mark);
  return (size_t)(end - at) >= *length && memcmp(at, mark, *length) == 0;
}

/* The next turn mark at or after `from`, or `end`. */
static const char *find_mark(const char *from, const char *end, ChatRole *role, size_t *length) {
  for (const char *at = from; at < end; at++) {
    at = memchr(at, '\n', (size_t)(end - at));
    if (!at) break;
    *role = CHAT_USER;
    if (begins_with(at, end, human_mark, length)) return at;
    *role = CHAT_ASSISTANT;
    if (begins_with(at, end, assistant_mark, length)) return at;
  }
  return end;
}

bool is_transcript(const json_t *value) {
  size_t length;
  const char *text = json_string_value(value);
  if (!text) return false;
  const char *end = text + json_string_length(value);
  return begins_with(text, end, human_mark, &length) || begins_with(text, end, assistant_mark, &length);
}

bool push_transcript(Conversation *talk, const json_t *value, Error *error) {
  const char *at = json_string_value(value), *end = at + json_string_length(value);
  ChatRole role, next_role = CHAT_USER;
  size_t length, next_length = 0;
  at = find_mark(at, end, &role, &length);
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

bool push_prompt(Conversation *talk, json_t *value, const char *key, RecordPlace place, KeyNames *passed,
                 Error *error) {
  if (!is_transcript(value)) return push_any(talk, value, key, CHAT_USER, place, passed, error);
  if (!push_transcript(talk, value, error)) return false;
  const ChatMessage *last = &talk->items[talk->count - 1]; /* the mark after which the answer is to come */
  if (last->role == CHAT_ASSISTANT && last->bytes == 0) talk->count--;
  return talk->count > 0 || fail_text(place, key, "expected a question before \"Assistant:\"", error);
}
