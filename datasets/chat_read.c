/* Which bytes of a rendering are whose, and what of them the assistant says. */
#include "datasets/chat_parts.h"

#include "tokenizer/text.h"

#include <string.h>

void chat_reading_free(ChatReading *reading) {
  template_text_free(&reading->text);
  template_text_free(&reading->part);
  int_array_free(&reading->ids);
  int_array_free(&reading->loss);
  token_spans_free(&reading->spans);
  int_array_free(&reading->owners);
  value_heap_close(reading->heap);
  buffer_free(&reading->joined);
  json_decref(reading->parsed);
  *reading = (ChatReading){0};
}

/* ---- Whose text a byte is --------------------------------------------------------------------------- */

static bool lies_in(const char *from, const char *text, size_t bytes) {
  return text && from >= text && from < text + bytes;
}

static bool lies_in_json(const char *from, const json_t *value) {
  const char *key;
  json_t *item;
  size_t i;
  if (json_is_string(value)) return lies_in(from, json_string_value(value), json_string_length(value));
  json_array_foreach((json_t *)value, i, item) {
    if (lies_in_json(from, item)) return true;
  }
  json_object_foreach((json_t *)value, key, item) {
    if (lies_in_json(from, item)) return true;
  }
  return false;
}

/* Whether the template got these bytes as a part of the message. */
static bool message_holds(const Reading *r, size_t index, const char *from) {
  const ChatMessage *message = &r->talk->items[index];
  if (lies_in(from, message->text, message->bytes) || lies_in(from, message->input, message->input_bytes) ||
      lies_in_json(from, chat_calls_of(r, index))) {
    return true;
  }
  for (size_t k = 0; message->extra && chat_said_keys[k]; k++) {
    if (lies_in_json(from, json_object_get(message->extra, chat_said_keys[k]))) return true;
  }
  return false;
}

/* The message in the joined texts of instructions and inputs; count when there is none. */
static size_t joined_owner(const Reading *r, size_t count, const char *from) {
  const Buffer *joined = &r->out->joined;
  if (!lies_in(from, joined->data, joined->size)) return count;
  const char *end = joined->data;
  for (size_t i = 0; i < count; i++) {
    const ChatMessage *message = &r->talk->items[i];
    if (message->input_bytes) end += message->bytes + 2 + message->input_bytes;
    if (from < end) return i;
  }
  return count;
}

/* Fills out->owners: the message of each origin. They mostly come in the order of the messages. */
static bool find_owners(Reading *r, size_t count) {
  ChatReading *out = r->out;
  size_t last = 0;
  out->owners.size = 0;
  for (size_t i = 0; i < out->text.origin_count; i++) {
    const char *from = out->text.origins[i].from;
    size_t owner = joined_owner(r, count, from);
    for (size_t k = 0; k < count && owner == count; k++) {
      if (message_holds(r, (last + k) % count, from)) owner = (last + k) % count;
    }
    if (owner < count) last = owner;
    if (!int_array_push(&out->owners, owner < count ? (int)owner : -1, r->error)) return false;
  }
  return true;
}

/* From the first to the last byte that came from the message; false where none did. */
static bool message_stretch(const ChatReading *out, size_t message, TemplateStretch *stretch) {
  bool any = false;
  *stretch = (TemplateStretch){0};
  for (size_t i = 0; i < out->owners.size; i++) {
    if (out->owners.data[i] != (int)message) continue;
    if (!any) stretch->begin = out->text.origins[i].begin;
    stretch->end = out->text.origins[i].end;
    any = true;
  }
  return any;
}

/* ---- What is left out, and what is changed ---------------------------------------------------------- */

/* Past white space as Python's strip() knows it; ill-formed text has none beyond ASCII. */
static const char *skip_space(const char *at, const char *end) {
  while (at < end) {
    size_t next = 0;
    const unsigned char first = (unsigned char)*at;
    const size_t size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > (size_t)(end - at) || (first >= 0x80 && first < 0xc2)) return at;
    const uint32_t c = first < 0x80 ? first : utf8_next(at, &next);
    if (!char_is_space(c) && !(c >= 0x1c && c <= 0x1f)) return at;
    at += size;
  }
  return at;
}

static bool is_blank(const char *text, size_t bytes) {
  return skip_space(text, text + bytes) == text + bytes;
}

static bool calls_rendered(const ChatReading *out, const json_t *calls) {
  for (size_t i = 0; i < out->text.origin_count; i++) {
    if (lies_in_json(out->text.origins[i].from, calls)) return true;
  }
  return json_array_size(calls) == 0;
}

static void find_left_out(const Reading *r, size_t count) {
  ChatReading *out = r->out;
  for (size_t i = 0; i < count && out->found.left_out < 0; i++) {
    const ChatMessage *message = &r->talk->items[i];
    TemplateStretch stretch;
    const bool said = message->text && !is_blank(message->text, message->bytes);
    if ((said && !message_stretch(out, i, &stretch)) || !calls_rendered(out, chat_calls_of(r, i))) {
      out->found.left_out = (int)i;
    }
  }
}

/* Whether `at` goes on with the text, white space in either aside. */
static bool goes_on(const char *text, const char *text_end, const char *at, const char *end) {
  for (;;) {
    text = skip_space(text, text_end);
    if (text == text_end) return true;
    at = skip_space(at, end);
    if (at == end || *at != *text) return false;
    at++;
    text++;
  }
}

/* Whether the bytes stand in the stretch, white space aside. Tried from every place where the first one stands: it mostly is the right
 * one at once. */
static bool stands_in(const char *text, size_t bytes, const char *at, const char *end) {
  const char *text_end = text + bytes;
  text = skip_space(text, text_end);
  if (text == text_end) return true;
  for (; at < end && (at = memchr(at, *text, (size_t)(end - at))); at++) {
    if (goes_on(text, text_end, at, end)) return true;
  }
  return false;
}

static bool is_changed(const Reading *r, size_t turn, size_t begin, size_t end) {
  const ChatMessage *message = &r->talk->items[turn];
  const char *text = r->out->text.text.data;
  if (message->text && !stands_in(message->text, message->bytes, text + begin, text + end)) return true;
  for (size_t k = 0; message->extra && chat_said_keys[k]; k++) {
    const json_t *said = json_object_get(message->extra, chat_said_keys[k]);
    if (json_is_string(said) &&
        !stands_in(json_string_value(said), json_string_length(said), text + begin, text + end)) {
      return true;
    }
  }
  return false;
}

/* ---- What the assistant says ------------------------------------------------------------------------ */

/* *length is that of the rendering of the first `count` messages, if the whole begins with it. A template may refuse them: then it
 * does not. */
static bool begins(Reading *r, size_t count, bool generation_prompt, bool *is, size_t *length) {
  Error why = {0};
  const Buffer *whole = &r->out->text.text, *part = &r->out->part.text;
  *is = false;
  if (!chat_render(r, count, generation_prompt, &r->out->part, &why)) {
    return why.code != ERROR_MEMORY || error_set(r->error, why.code, "%s", why.message);
  }
  *length = part->size;
  *is = part->size <= whole->size && memcmp(part->data, whole->data, part->size) == 0;
  return true;
}

/* Ids before the first that has a span: BOS in front. */
static size_t front(const ChatReading *out) {
  return out->ids.size - out->spans.size;
}

/* Puts the tokens of the bytes [begin, end) into the loss. */
static void mark(ChatReading *out, size_t begin, size_t end) {
  for (size_t i = 0; i < out->spans.size; i++) {
    const TokenSpan *span = &out->spans.data[i];
    if (span->begin >= end) break;
    if (span->end > begin) out->loss.data[front(out) + i] = 1;
  }
}

/* Where the end mark ends: the last special token in [begin, end); with `close`, only one that begins right there. The token that begins at `end`
 * counts where generation stops at it. `begin` when there is none. */
static size_t end_mark(const Reading *r, size_t begin, size_t end, bool close) {
  const ChatReading *out = r->out;
  size_t mark_end = begin;
  for (size_t i = 0; i < out->spans.size && out->spans.data[i].begin <= end; i++) {
    const TokenSpan *span = &out->spans.data[i];
    const int id = out->ids.data[front(out) + i];
    if (span->begin < begin || span->begin == span->end) continue;
    if (span->end <= end && tokenizer_is_special(r->chat->tokenizer, id)) {
      if (!close || span->begin == begin) mark_end = span->end;
    } else if (span->begin == end && mark_end == begin && tokenizer_is_eos(r->chat->tokenizer, id)) {
      mark_end = span->end;
    }
  }
  return mark_end;
}

/* By the template's own blocks. */
static void mark_generations(Reading *r, size_t turn, size_t begin, size_t end) {
  ChatReading *out = r->out;
  size_t stop = 0, start = end;
  for (size_t i = 0; i < out->text.generation_count; i++) {
    const TemplateStretch *block = &out->text.generations[i];
    if (block->end <= begin || block->begin >= end) continue;
    mark(out, block->begin, block->end);
    if (block->begin < start) start = block->begin;
    stop = block->end;
  }
  if (stop == 0) return; /* the encoder counts what has nothing to learn */
  const size_t marked = end_mark(r, stop, end, true);
  mark(out, stop, marked);
  if (marked == stop && end_mark(r, start, stop, false) != stop && out->found.without_end < 0) {
    out->found.without_end = (int)turn;
  }
  if (is_changed(r, turn, start, stop) && out->found.changed < 0) out->found.changed = (int)turn;
}

/* The turn's own rendering ends at `end`. */
static bool mark_turn(Reading *r, size_t turn, size_t end) {
  ChatReading *out = r->out;
  bool follows = false;
  size_t prompt = 0;
  TemplateStretch own = {0};
  if (turn > 0 && !begins(r, turn, true, &follows, &prompt)) return false;
  const bool any = message_stretch(out, turn, &own);
  const ChatMessage *message = &r->talk->items[turn];
  const bool left_out = !any && message->text && !is_blank(message->text, message->bytes);
  if (left_out || (!any && !follows)) return true; /* an end mark alone would teach to say nothing */
  const size_t begin = follows ? prompt : own.begin;
  if (template_has_generation(r->template)) {
    mark_generations(r, turn, begin, end);
    return true;
  }
  const size_t stop = any && own.end > begin ? own.end : begin;
  const size_t marked = end_mark(r, stop, end, false);
  mark(out, begin, marked);
  if (marked == stop && out->found.without_end < 0) out->found.without_end = (int)turn;
  if (is_changed(r, turn, begin, stop) && out->found.changed < 0) out->found.changed = (int)turn;
  return true;
}

/* Whether the turn begins after the id number `limit`. */
static bool is_beyond(const ChatReading *out, size_t turn, size_t limit) {
  TemplateStretch own = {0};
  return limit > 0 && limit < out->ids.size && message_stretch(out, turn, &own) &&
         own.begin >= out->spans.data[limit - front(out)].begin;
}

static bool mark_turns(Reading *r, size_t count, size_t limit) {
  ChatReading *out = r->out;
  for (size_t i = 0; i < count; i++) {
    const ChatMessage *message = &r->talk->items[i];
    if (message->role != CHAT_ASSISTANT || message->unlearnt) continue;
    if (is_beyond(out, i, limit)) {
      out->found.beyond = true;
      break;
    }
    bool whole = i + 1 == count;
    size_t end = out->text.text.size;
    if (!whole && !begins(r, i + 1, false, &whole, &end)) return false;
    if (!whole) {
      out->found = (ChatFindings){out->found.left_out, -1, -1, true, false};
      memset(out->loss.data, 0, out->loss.size * sizeof *out->loss.data);
      return true;
    }
    if (!mark_turn(r, i, end)) return false;
  }
  return true;
}

/* ---- Reading ---------------------------------------------------------------------------------------- */

static bool encode(Reading *r) {
  ChatReading *out = r->out;
  const Buffer *text = &out->text.text;
  out->ids.size = out->loss.size = out->spans.size = 0;
  if (r->chat->bos_in_front && !int_array_push(&out->ids, tokenizer_bos(r->chat->tokenizer), r->error)) {
    return false;
  }
  if (!tokenizer_encode_spans(r->chat->tokenizer, text->data ? text->data : "", text->size, false, &out->ids,
                              &out->spans, r->error)) {
    return false;
  }
  while (out->loss.size < out->ids.size) {
    if (!int_array_push(&out->loss, 0, r->error)) return false;
  }
  return true;
}

static bool begin_reading(Reading *r) {
  ChatReading *out = r->out;
  out->found = CHAT_FOUND_NOTHING;
  if (json_array_size(r->talk->tools) > 0) {
    if (r->chat->with_tools) r->template = r->chat->with_tools;
    if (!template_reads(r->template, "tools")) {
      return error_set(
          r->error, ERROR_DATA,
          "the record has tools, and the chat template (%s) does not show them to the model: choose another "
          "one, or take the key out of the data",
          r->chat->name);
    }
  }
  return chat_prepare(r);
}

bool chat_read(const ChatTemplate *chat, const Conversation *talk, size_t count, ChatUse use, size_t limit,
               ChatReading *reading, Error *error) {
  Reading r = {chat, chat->usual, talk, reading, error};
  if (count == 0) return error_set(error, ERROR_DATA, "a conversation without messages");
  if (!begin_reading(&r) || !chat_render(&r, count, use == CHAT_ASK, &reading->text, error) || !encode(&r) ||
      !find_owners(&r, count)) {
    return false;
  }
  find_left_out(&r, count);
  if (use == CHAT_ASK) return true;
  if (use == CHAT_EVERY_TURN) return mark_turns(&r, count, limit);
  ASSERT(talk->items[count - 1].role == CHAT_ASSISTANT);
  return mark_turn(&r, count - 1, reading->text.text.size);
}
