#include "datasets/chat.h"

#include "tokenizer/text.h"

#include <string.h>

const char *const chat_family_names[] = {"plain",  "chatml", "alpaca", "vicuna",
                                         "zephyr", "llama2", "llama3", NULL};

bool chat_family_parse(const char *name, ChatFamily *family) {
  for (int i = 0; i < CHAT_FAMILY_COUNT; i++)
    if (strcmp(name, chat_family_names[i]) == 0) {
      *family = (ChatFamily)i;
      return true;
    }
  return false;
}

void chat_text_free(ChatText *text) {
  buffer_free(&text->text);
  memory_free(text->segments);
  *text = (ChatText){0};
}

/* ---- writing segments ---- */

/* A rendering on its way. */
typedef struct Writer {
  const ChatTemplate *chat;
  ChatText *out;
  Error *error;
  int message;   /* being written; -1 outside */
  bool unlearnt; /* its turn is kept out of the loss */
} Writer;

static bool put_bytes(Writer *writer, const char *bytes, size_t count, bool loss) {
  ChatText *out = writer->out;
  if (count == 0) return true;
  loss = loss && !writer->unlearnt;
  size_t begin = out->text.size;
  if (!buffer_append(&out->text, bytes, count, writer->error)) return false;
  ChatSegment *last = out->segment_count > 0 ? &out->segments[out->segment_count - 1] : NULL;
  if (last && last->message == writer->message && last->loss == loss) {
    last->end = out->text.size;
    return true;
  }
  if (out->segment_count == out->segment_capacity) {
    size_t capacity = out->segment_capacity * 2 + 16;
    ChatSegment *segments = memory_resize(out->segments, capacity * sizeof *segments);
    if (!segments) return error_out_of_memory(writer->error, "conversation", capacity * sizeof *segments);
    out->segments = segments;
    out->segment_capacity = capacity;
  }
  out->segments[out->segment_count++] = (ChatSegment){begin, out->text.size, writer->message, loss};
  return true;
}

static bool put(Writer *writer, const char *text, bool loss) {
  return put_bytes(writer, text, strlen(text), loss);
}

/* A token's text, as it must stand in the rendering to be read as that token. */
static bool put_token(Writer *writer, int id, bool loss) {
  return put(writer, tokenizer_token(writer->chat->tokenizer, id), loss);
}

/* Python's str.strip(): white space and the four separators U+001C .. U+001F. */
static bool strips(uint32_t c) {
  return char_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

/* Narrows the bytes to what is left without white space at both ends. Ill-formed text is stripped of ASCII only. */
static void strip(const char **text, size_t *bytes) {
  size_t skip, begin = 0, end = *bytes;
  bool valid = utf8_valid_prefix(*text, *bytes, &skip) == *bytes;
  while (begin < end) {
    size_t at = begin;
    uint32_t c = valid ? utf8_next(*text, &at) : (unsigned char)(*text)[at++];
    if (!strips(c) || (!valid && c >= 0x80)) break;
    begin = at;
  }
  while (end > begin) {
    size_t previous = valid ? utf8_previous(*text, end) : end - 1, at = previous;
    uint32_t c = valid ? utf8_next(*text, &at) : (unsigned char)(*text)[previous];
    if (!strips(c) || (!valid && c >= 0x80)) break;
    end = previous;
  }
  *text += begin;
  *bytes = end - begin;
}

/* A message's text; an Alpaca input follows it after an empty line. */
static bool put_text(Writer *writer, const ChatMessage *message) {
  const char *text = message->text, *input = message->input;
  size_t bytes = message->bytes, input_bytes = message->input_bytes;
  bool loss = message->role == CHAT_ASSISTANT;
  if (!input || input_bytes == 0) {
    if (writer->chat->trim) strip(&text, &bytes);
    return put_bytes(writer, text, bytes, loss);
  }
  Buffer joined = {0};
  bool done = buffer_append(&joined, text, bytes, writer->error) &&
              buffer_text(&joined, "\n\n", writer->error) &&
              buffer_append(&joined, input, input_bytes, writer->error);
  text = joined.data;
  bytes = joined.size;
  if (done && writer->chat->trim) strip(&text, &bytes);
  done = done && put_bytes(writer, text, bytes, loss);
  buffer_free(&joined);
  return done;
}

static const char *role_name(ChatRole role) {
  static const char *const names[] = {"system", "user", "assistant", "tool", "other"};
  return names[role];
}

static bool is_loss(const ChatMessage *message) {
  return message->role == CHAT_ASSISTANT;
}

/* ---- families: each writes message i, and then what stands before an answer ---- */

static bool plain_message(Writer *writer, const ChatMessage *messages, size_t i) {
  return put_text(writer, &messages[i]) &&
         (!is_loss(&messages[i]) || put_token(writer, writer->chat->end_id, true));
}

static bool chatml_turn(Writer *writer, const char *role) {
  return put(writer, "<|im_start|>", false) && put(writer, role, false) && put(writer, "\n", false);
}

static bool chatml_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  const char *system = writer->chat->default_system;
  if (i == 0 && system && message->role != CHAT_SYSTEM) {
    writer->message = -1;
    if (!chatml_turn(writer, "system") || !put(writer, system, false) || !put(writer, "<|im_end|>\n", false))
      return false;
    writer->message = 0;
  }
  return chatml_turn(writer, role_name(message->role)) && put_text(writer, message) &&
         put(writer, "<|im_end|>", is_loss(message)) && put(writer, "\n", false);
}

static bool chatml_answer(Writer *writer) {
  return chatml_turn(writer, "assistant");
}

static const char alpaca_preamble[] =
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.";
static const char alpaca_input_preamble[] =
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a "
    "response that appropriately completes the request.";

static bool alpaca_answer(Writer *writer) {
  return put(writer, "### Response:\n", false);
}

static bool alpaca_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  bool input = message->input && message->input_bytes > 0;
  const char *preamble = writer->chat->default_system;
  if (message->role == CHAT_SYSTEM) return put_text(writer, message) && put(writer, "\n\n", false);
  if (i == 0 && preamble) {
    bool standard = input && strcmp(preamble, alpaca_preamble) == 0;
    if (!put(writer, standard ? alpaca_input_preamble : preamble, false) || !put(writer, "\n\n", false))
      return false;
  }
  if (message->role == CHAT_ASSISTANT)
    return alpaca_answer(writer) && put_text(writer, message) &&
           put_token(writer, writer->chat->end_id, true);
  ChatMessage instruction = *message;
  instruction.input = NULL;
  if (!put(writer, "### Instruction:\n", false) || !put_text(writer, &instruction) ||
      !put(writer, "\n\n", false))
    return false;
  return !input ||
         (put(writer, "### Input:\n", false) &&
          put_bytes(writer, message->input, message->input_bytes, false) && put(writer, "\n\n", false));
}

static const char vicuna_preamble[] =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, "
    "and polite answers to the user's questions.";

static bool vicuna_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  const char *preamble = writer->chat->default_system;
  if (message->role == CHAT_SYSTEM) return put_text(writer, message) && put(writer, " ", false);
  if (i == 0 && preamble && (!put(writer, preamble, false) || !put(writer, " ", false))) return false;
  if (message->role == CHAT_USER)
    return put(writer, "USER: ", false) && put_text(writer, message) && put(writer, " ", false);
  return put(writer, "ASSISTANT:", false) && put(writer, " ", true) && put_text(writer, message) &&
         put_token(writer, writer->chat->end_id, true);
}

static bool vicuna_answer(Writer *writer) {
  return put(writer, "ASSISTANT:", false);
}

static bool zephyr_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  return put(writer, "<|", false) && put(writer, role_name(message->role), false) &&
         put(writer, "|>\n", false) && put_text(writer, message) &&
         put_token(writer, writer->chat->end_id, is_loss(message)) && put(writer, "\n", false);
}

static bool zephyr_answer(Writer *writer) {
  return put(writer, "<|assistant|>\n", false);
}

static bool llama2_system(Writer *writer, const ChatMessage *system, const ChatMessage *user) {
  Buffer joined = {0};
  Error *error = writer->error;
  bool done = buffer_text(&joined, "<<SYS>>\n", error) &&
              buffer_append(&joined, system->text, system->bytes, error) &&
              buffer_text(&joined, "\n<</SYS>>\n\n", error) &&
              buffer_append(&joined, user->text, user->bytes, error);
  ChatMessage both = *user;
  both.text = joined.data;
  both.bytes = joined.size;
  done = done && put_text(writer, &both);
  buffer_free(&joined);
  return done;
}

static bool llama2_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  bool system = messages[0].role == CHAT_SYSTEM;
  if (i == 0 && system) return true; /* written inside the first user turn */
  size_t turn = i - system;
  if (message->role != (turn % 2 == 0 ? CHAT_USER : CHAT_ASSISTANT))
    return error_set(
        writer->error, ERROR_DATA,
        "message %zu: the llama2 template takes an optional system message, then user and assistant in "
        "turn, and this one is %s",
        i + 1, role_name(message->role));
  if (message->role == CHAT_ASSISTANT)
    return put(writer, " ", true) && put_text(writer, message) && put(writer, " ", true) &&
           put_token(writer, tokenizer_eos(writer->chat->tokenizer), true);
  if (!put_token(writer, tokenizer_bos(writer->chat->tokenizer), false) || !put(writer, "[INST] ", false))
    return false;
  bool done = turn == 0 && system ? llama2_system(writer, &messages[0], message) : put_text(writer, message);
  return done && put(writer, " [/INST]", false);
}

static bool llama3_turn(Writer *writer, const char *role) {
  return put(writer, "<|start_header_id|>", false) && put(writer, role, false) &&
         put(writer, "<|end_header_id|>\n\n", false);
}

static bool llama3_message(Writer *writer, const ChatMessage *messages, size_t i) {
  const ChatMessage *message = &messages[i];
  const char *dates = writer->chat->date_line;
  if (i == 0 && dates) {
    bool system = message->role == CHAT_SYSTEM;
    if (!system) writer->message = -1;
    if (!llama3_turn(writer, "system") || !put(writer, dates, false)) return false;
    if (system) return put_text(writer, message) && put(writer, "<|eot_id|>", false);
    if (!put(writer, "<|eot_id|>", false)) return false;
    writer->message = 0;
  }
  return llama3_turn(writer, role_name(message->role)) && put_text(writer, message) &&
         put(writer, "<|eot_id|>", is_loss(message));
}

static bool llama3_answer(Writer *writer) {
  return llama3_turn(writer, "assistant");
}

static bool nothing(Writer *writer) {
  (void)writer;
  return true;
}

static const struct {
  bool (*message)(Writer *writer, const ChatMessage *messages, size_t i);
  bool (*answer)(Writer *writer);
} renderers[CHAT_FAMILY_COUNT] = {
    [CHAT_PLAIN] = {plain_message, nothing},         [CHAT_CHATML] = {chatml_message, chatml_answer},
    [CHAT_ALPACA] = {alpaca_message, alpaca_answer}, [CHAT_VICUNA] = {vicuna_message, vicuna_answer},
    [CHAT_ZEPHYR] = {zephyr_message, zephyr_answer}, [CHAT_LLAMA2] = {llama2_message, nothing},
    [CHAT_LLAMA3] = {llama3_message, llama3_answer}};

bool chat_render(const ChatTemplate *chat, const ChatMessage *messages, size_t count, bool generation_prompt,
                 ChatText *out, Error *error) {
  Writer writer = {.chat = chat, .out = out, .error = error, .message = -1};
  out->text.size = out->segment_count = 0;
  if (count == 0) return error_set(error, ERROR_DATA, "a conversation without messages");
  for (size_t i = 1; i < count; i++)
    if (messages[i].role == CHAT_SYSTEM && (chat->family == CHAT_ALPACA || chat->family == CHAT_VICUNA))
      return error_set(error, ERROR_DATA, "message %zu: a system message must come first", i + 1);
  if (chat->leading_bos && !put_token(&writer, tokenizer_bos(chat->tokenizer), false)) return false;
  for (size_t i = 0; i < count; i++) {
    writer.message = (int)i;
    writer.unlearnt = messages[i].unlearnt;
    if (!renderers[chat->family].message(&writer, messages, i)) return false;
  }
  writer.message = -1;
  writer.unlearnt = false;
  return !generation_prompt || renderers[chat->family].answer(&writer);
}

/* ---- ids ---- */

static bool append_loss(const ChatText *text, const TokenSpans *spans, IntArray *loss, Error *error) {
  size_t segment = 0;
  for (size_t i = 0; i < spans->size; i++) {
    TokenSpan span = spans->data[i];
    while (segment < text->segment_count && text->segments[segment].end <= span.begin) segment++;
    int in_loss = 0;
    for (size_t k = segment; k < text->segment_count && text->segments[k].begin < span.end; k++)
      if (text->segments[k].loss && text->segments[k].end > span.begin) in_loss = 1;
    if (!int_array_push(loss, in_loss, error)) return false;
  }
  return true;
}

bool chat_encode(const ChatTemplate *chat, const ChatMessage *messages, size_t count, bool generation_prompt,
                 IntArray *ids, IntArray *loss, Error *error) {
  ChatText text = {0};
  TokenSpans spans = {0};
  bool done = chat_render(chat, messages, count, generation_prompt, &text, error);
  if (done && chat->bos_in_front)
    done = int_array_push(ids, tokenizer_bos(chat->tokenizer), error) &&
           (!loss || int_array_push(loss, 0, error));
  done = done && tokenizer_encode_spans(chat->tokenizer, text.text.data ? text.text.data : "", text.text.size,
                                        false, ids, loss ? &spans : NULL, error);
  if (done && loss) done = append_loss(&text, &spans, loss, error);
  chat_text_free(&text);
  token_spans_free(&spans);
  return done;
}

/* ---- choosing ---- */

/* The preambles that a family has by itself. */
const char *chat_default_preamble(ChatFamily family) {
  return family == CHAT_ALPACA ? alpaca_preamble : family == CHAT_VICUNA ? vicuna_preamble : NULL;
}
