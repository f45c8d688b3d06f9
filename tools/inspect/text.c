/* inspect tokens, decode, chat; and what all commands share. */
#include "tools/inspect/inspect.h"

#include "datasets/lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* -- shared --------------------------------------------------------------------------------------------- */

bool inspect_ids(const char *text, IntArray *ids, Error *error) {
  if (!text)
    return error_set(error, ERROR_USAGE, "--ids is missing: expected numbers with commas, like 1,2,3");
  const char *at = text;
  for (;;) {
    char *end;
    long value = strtol(at, &end, 10);
    if (end == at || value < 0 || value > INT32_MAX || (*end && *end != ',')) {
      return error_set(error, ERROR_USAGE, "--ids: expected numbers with commas, like 1,2,3; found '%.60s'",
                       at);
    }
    if (!int_array_push(ids, (int)value, error)) return false;
    if (!*end) return true;
    at = end + 1;
  }
}

bool inspect_text_open(const InspectConfig *config, TextTools *text, Log *log, Error *error) {
  const DataConfig data = {.chat = config->chat};
  const ModelConfig model = {
      .path = config->model, .adapter = config->adapter, .tokenizer = config->tokenizer};
  return text_tools_open(text, &model, &data, log, error);
}

bool json_ids(Buffer *out, const int *ids, size_t count, Error *error) {
  bool ok = buffer_text(out, "[", error);
  for (size_t i = 0; ok && i < count; i++) ok = buffer_format(out, error, "%s%d", i ? "," : "", ids[i]);
  return ok && buffer_text(out, "]", error);
}

bool json_number(Buffer *out, double value, Error *error) {
  return isfinite(value) ? buffer_format(out, error, "%.9g", value) : buffer_text(out, "null", error);
}

/* The text of --text; without it, all of standard input. */
static bool given_text(const InspectConfig *config, Buffer *out, Error *error) {
  if (config->text) return buffer_text(out, config->text, error);
  char piece[4096];
  size_t count;
  if (!buffer_append(out, "", 0, error)) return false;
  while ((count = fread(piece, 1, sizeof piece, stdin)) > 0) {
    if (!buffer_append(out, piece, count, error)) return false;
  }
  return true;
}

/* One line per token: id, text as a JSON string, and a mark when it is in the loss. */
static bool token_lines(const Tokenizer *tokenizer, const IntArray *ids, const IntArray *loss, Buffer *out,
                        Error *error) {
  Buffer piece = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < ids->size; i++) {
    buffer_clear(&piece);
    ok = buffer_append(&piece, "", 0, error) &&
         tokenizer_decode(tokenizer, &ids->data[i], 1, false, &piece, error) &&
         buffer_format(out, error, "%s%s%7d  ", i ? "\n" : "", loss && loss->data[i] ? "* " : "  ",
                       ids->data[i]) &&
         result_string(out, piece.data, error);
  }
  buffer_free(&piece);
  return ok;
}

/* -- tokens --------------------------------------------------------------------------------------------- */

static bool token_names(const Tokenizer *tokenizer, const IntArray *ids, Buffer *json, Error *error) {
  bool ok = buffer_text(json, "[", error);
  for (size_t i = 0; ok && i < ids->size; i++) {
    const char *token = tokenizer_token(tokenizer, ids->data[i]);
    ok = (i == 0 || buffer_text(json, ",", error)) && result_string(json, token ? token : "", error);
  }
  return ok && buffer_text(json, "]", error);
}

static bool run_tokens(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  Tokenizer *tokenizer = tokenizer_open(config->model, error);
  if (!tokenizer) return false;
  if (tokenizer_note(tokenizer)) log_warning(call->log, "%s", tokenizer_note(tokenizer));
  Buffer text = {0};
  IntArray ids = {0};
  bool ok = given_text(config, &text, error) &&
            tokenizer_encode(tokenizer, text.data, text.size, config->special, &ids, error) &&
            token_lines(tokenizer, &ids, NULL, &result->text, error) &&
            buffer_text(&result->json, "{\"ids\":", error) &&
            json_ids(&result->json, ids.data, ids.size, error) &&
            buffer_text(&result->json, ",\"tokens\":", error) &&
            token_names(tokenizer, &ids, &result->json, error) && buffer_text(&result->json, "}", error);
  int_array_free(&ids);
  buffer_free(&text);
  tokenizer_free(tokenizer);
  return ok;
}

static const Option tokens_options[] = {
    ROW_MODEL, ROW_TOKENIZER,
    ROW_STRING("text", InspectConfig, text, NULL, "the text; standard input when not given"),
    ROW_BOOL("special", InspectConfig, special, "true",
             "with what the tokenizer adds to any text (BOS ...)")};

const Program inspect_tokens = {"inspect tokens",      "text to token ids",   tokens_options,
                                COUNT(tokens_options), sizeof(InspectConfig), .run = run_tokens};

/* -- decode --------------------------------------------------------------------------------------------- */

static bool run_decode(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  Tokenizer *tokenizer = tokenizer_open(config->model, error);
  if (!tokenizer) return false;
  IntArray ids = {0};
  bool ok = inspect_ids(config->ids, &ids, error) && buffer_append(&result->text, "", 0, error) &&
            tokenizer_decode(tokenizer, ids.data, ids.size, config->skip_special, &result->text, error) &&
            buffer_text(&result->json, "{\"text\":", error) &&
            result_string(&result->json, result->text.data, error) && buffer_text(&result->json, "}", error);
  int_array_free(&ids);
  tokenizer_free(tokenizer);
  return ok;
}

static const Option decode_options[] = {
    ROW_MODEL, ROW_TOKENIZER, ROW_STRING_REQUIRED("ids", InspectConfig, ids, "token ids, like 1,2,3"),
    ROW_BOOL("skip-special", InspectConfig, skip_special, "false", "leave out special tokens")};

const Program inspect_decode = {"inspect decode",      "token ids to text",   decode_options,
                                COUNT(decode_options), sizeof(InspectConfig), .run = run_decode};

/* -- chat ----------------------------------------------------------------------------------------------- */

typedef struct Talk {
  Conversation turns;
  json_t *root, *tools; /* own the texts */
} Talk;

static void talk_free(Talk *talk) {
  conversation_free(&talk->turns);
  json_decref(talk->root);
  json_decref(talk->tools);
}

static bool read_list(const char *option, const char *text, json_t **list, Error *error) {
  json_error_t broken;
  *list = json_loads(text, 0, &broken);
  if (!*list) {
    return error_set(error, ERROR_USAGE, "%s: broken JSON at %d: %s", option, broken.column, broken.text);
  }
  return json_array_size(*list) > 0 ||
         error_set(error, ERROR_USAGE, "%s: expected a list, not empty", option);
}

static bool given_talk(const InspectConfig *config, Talk *talk, Error *error) {
  if (config->tools && !read_list("--tools", config->tools, &talk->tools, error)) return false;
  talk->turns.tools = talk->tools;
  if (config->messages) {
    Error why = {0};
    return read_list("--messages", config->messages, &talk->root, error) &&
           (conversation_add_json(&talk->turns, talk->root, &why) ||
            error_set(error, ERROR_USAGE, "--messages: %s", why.message));
  }
  if (!config->prompt) return error_set(error, ERROR_USAGE, "expected --messages JSON or --prompt TEXT");
  const ChatMessage only = {.role = CHAT_USER, .text = config->prompt, .bytes = strlen(config->prompt)};
  return conversation_push(&talk->turns, only, error);
}

/* What a user should hear of, as in the reports of data sets. */
static void tell_findings(const ChatFindings *found, Log *log) {
  if (found->left_out >= 0) {
    log_warning(log, "message %d: the template leaves out its text, or its calls of tools",
                found->left_out + 1);
  }
  if (found->changed >= 0) {
    log_warning(log, "message %d: the template gives another text", found->changed + 1);
  }
  if (found->without_end >= 0) {
    log_warning(log, "message %d: the template puts no end mark after it", found->without_end + 1);
  }
  if (found->apart) {
    log_warning(
        log,
        "the template changes earlier turns when others follow: in training each turn is an example of its "
        "own; here only the last one is marked");
  }
}

static bool chat_result(const ProgramCall *call, const TextTools *text, const Talk *talk,
                        ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  const Conversation *turns = &talk->turns;
  const ChatTemplate *chat = &text->chat;
  const bool asks = turns->items[turns->count - 1].role != CHAT_ASSISTANT;
  ChatReading reading = {0};
  Buffer *json = &result->json, *lines = &result->text;
  bool ok = chat_read(chat, turns, turns->count,
                      asks && config->generation_prompt ? CHAT_ASK : CHAT_EVERY_TURN, 0, &reading, error);
  if (ok) tell_findings(&reading.found, call->log);
  if (ok && reading.found.apart && !asks) {
    ok = chat_read(chat, turns, turns->count, CHAT_LAST_TURN, 0, &reading, error);
  }
  ok = ok && text_tools_check_ids(text, "the conversation", &reading.ids, error) &&
       buffer_format(lines, error, "template %s; tokens in the loss are marked *\n\n%s\n\n", chat->name,
                     reading.text.text.data) &&
       token_lines(text->tokenizer, &reading.ids, &reading.loss, lines, error);
  ok = ok && buffer_text(json, "{\"template\":", error) && result_string(json, chat->name, error) &&
       buffer_text(json, ",\"text\":", error) && result_string(json, reading.text.text.data, error) &&
       buffer_text(json, ",\"ids\":", error) && json_ids(json, reading.ids.data, reading.ids.size, error) &&
       buffer_text(json, ",\"loss\":", error) &&
       json_ids(json, reading.loss.data, reading.loss.size, error) && buffer_text(json, "}", error);
  chat_reading_free(&reading);
  return ok;
}

static bool run_chat(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  TextTools text;
  Talk talk = {0};
  if (!inspect_text_open(config, &text, call->log, error)) return false;
  bool ok = text.has_chat || error_set(error, text.chat_error.code, "%s", text.chat_error.message);
  ok = ok && given_talk(config, &talk, error) && chat_result(call, &text, &talk, result, error);
  talk_free(&talk);
  text_tools_close(&text);
  return ok;
}

static const Option chat_options[] = {
    ROW_MODEL,
    ROW_ADAPTER,
    ROW_TOKENIZER,
    ROWS_CHAT,
    ROW_STRING("prompt", InspectConfig, prompt, NULL, "one user turn"),
    ROW_STRING("messages", InspectConfig, messages, NULL, "JSON list of {\"role\", \"content\"}"),
    ROW_STRING("tools", InspectConfig, tools, NULL, "JSON list of the tools that the assistant may call"),
    ROW_BOOL("generation-prompt", InspectConfig, generation_prompt, "true",
             "with the marks after which the assistant answers, when the last turn is not the assistant's")};

const Program inspect_chat = {
    "inspect chat",        "a conversation as the template renders it, its ids and loss mask",
    chat_options,          COUNT(chat_options),
    sizeof(InspectConfig), .run = run_chat};
