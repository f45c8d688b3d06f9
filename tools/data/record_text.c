#include "tools/data/record_text.h"

#include <stdlib.h>
#include <string.h>

void record_text_free(RecordText *text) {
  buffer_free(&text->system);
  buffer_free(&text->prompt);
  buffer_free(&text->answer);
}

static bool put(Buffer *out, const char *bytes, size_t count, Error *error) {
  if (count == 0) return true;
  return (out->size == 0 || buffer_text(out, "\n", error)) && buffer_append(out, bytes, count, error);
}

static bool put_json(Buffer *out, const json_t *value, Error *error) {
  if (!value || json_is_null(value)) return true;
  if (json_is_string(value)) return put(out, json_string_value(value), json_string_length(value), error);
  char *dump = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
  const bool ok =
      dump ? put(out, dump, strlen(dump), error) : error_out_of_memory(error, "text of a turn", 0);
  free(dump);
  return ok;
}

/* What a message says besides its text. */
static const char *const said[] = {"reasoning_content", "reasoning", "thinking", "tool_calls",
                                   "function_call"};

static bool put_message(RecordText *text, Buffer *out, const ChatMessage *message, Error *error) {
  if (message->role == CHAT_SYSTEM) out = &text->system;
  bool ok = true;
  for (size_t i = 0; ok && message->extra && i < sizeof said / sizeof *said; i++) {
    ok = put_json(out, json_object_get(message->extra, said[i]), error);
  }
  return ok && put(out, message->text, message->text ? message->bytes : 0, error) &&
         put(out, message->input, message->input ? message->input_bytes : 0, error);
}

static bool put_messages(RecordText *text, Buffer *out, const Conversation *talk, size_t from, size_t to,
                         Error *error) {
  bool ok = true;
  for (size_t i = from; ok && i < to; i++) ok = put_message(text, out, &talk->items[i], error);
  return ok;
}

/* What follows the first `from` messages, as an answer. */
static bool put_answer(RecordText *text, const Conversation *talk, size_t from, Error *error) {
  const size_t before = text->answer.size;
  if (!put_messages(text, &text->answer, talk, from, talk->count, error)) return false;
  text->answered = true;
  text->empty_answer |= text->answer.size == before;
  return true;
}

static bool same_message(const ChatMessage *a, const ChatMessage *b) {
  return a->role == b->role && a->bytes == b->bytes && (!a->text) == (!b->text) &&
         (!a->text || memcmp(a->text, b->text, a->bytes) == 0);
}

/* How many messages both begin with; an answer remains to each. */
static size_t common(const Conversation *a, const Conversation *b, size_t most) {
  size_t count = 0;
  while (count < most && count + 1 < a->count && count + 1 < b->count &&
         same_message(&a->items[count], &b->items[count]))
    count++;
  return count;
}

static bool put_sides(RecordText *text, const Conversation *first, const Conversation *const *sides,
                      size_t count, Error *error) {
  size_t shared = first->count - 1;
  for (size_t i = 0; i < count; i++) shared = common(first, sides[i], shared);
  bool ok = put_messages(text, &text->prompt, first, 0, shared, error);
  for (size_t i = 0; ok && i < count; i++) ok = put_answer(text, sides[i], shared, error);
  return ok;
}

static bool put_ranking(RecordText *text, const Record *record, Error *error) {
  const size_t count = record->answer_count;
  const Conversation **sides = memory_alloc(count * sizeof *sides);
  if (!sides) return error_out_of_memory(error, "answers", count * sizeof *sides);
  for (size_t i = 0; i < count; i++) sides[i] = &record->answers[i].talk;
  const bool ok = put_sides(text, &record->answers[0].talk, sides, count, error);
  memory_free(sides);
  return ok;
}

static bool put_talk(RecordText *text, const Conversation *talk, Error *error) {
  const size_t count = talk->count;
  if (count == 0) return true;
  if (talk->items[count - 1].role != CHAT_ASSISTANT)
    return put_messages(text, &text->prompt, talk, 0, count, error);
  return put_messages(text, &text->prompt, talk, 0, count - 1, error) &&
         put_answer(text, talk, count - 1, error);
}

bool record_text(RecordText *text, const Record *record, DatasetFormat format, Error *error) {
  buffer_clear(&text->system);
  buffer_clear(&text->prompt);
  buffer_clear(&text->answer);
  text->answered = text->empty_answer = false;
  text->nothing = record->nothing;
  if (format == FORMAT_TEXT) {
    text->answered = true;
    text->empty_answer = record->text_bytes == 0;
    return put(&text->answer, record->text, record->text_bytes, error);
  }
  if (!put_json(&text->system, record->talk.tools, error)) return false;
  if (format == FORMAT_RANKING) return put_ranking(text, record, error);
  if (format == FORMAT_PREFERENCE || format == FORMAT_SAFE_PAIR) {
    const Conversation *sides[] = {&record->talk, &record->rejected};
    return put_sides(text, sides[0], sides, 2, error);
  }
  if (!record->reference) return put_talk(text, &record->talk, error);
  text->answered = true; /* it was taken off */
  text->empty_answer = record->reference_bytes == 0;
  return put_talk(text, &record->talk, error) &&
         put(&text->answer, record->reference, record->reference_bytes, error);
}
