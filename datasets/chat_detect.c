#include "datasets/chat_detect.h"

#include <stdio.h>
#include <string.h>

/* ---- canonical spelling ---- */

/* Appends the literal that begins with the quote at `at`, in single quotes, newlines as \n; returns where it ends. */
static const char *put_literal(const char *at, Buffer *out, bool *done, Error *error) {
  char quote = *at++;
  *done = *done && buffer_text(out, "'", error);
  for (; *at && *at != quote; at++) {
    char pair[2] = {*at, at[0] == '\\' ? at[1] : 0};
    if (*at == '\n')
      *done = *done && buffer_text(out, "\\n", error);
    else if (pair[1] == '\'' || pair[1] == '"') /* an escaped quote stands for itself */
      *done = *done && buffer_append(out, &pair[1], 1, error);
    else
      *done = *done && buffer_append(out, pair, pair[1] ? 2 : 1, error);
    if (pair[1]) at++;
  }
  *done = *done && buffer_text(out, "'", error);
  return *at ? at + 1 : at;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Appends what is between the tag's delimiters; returns the place after the closing one. */
static const char *put_tag(const char *at, const char *close, Buffer *out, bool *done, Error *error) {
  while (*at && strncmp(at, close, 2) != 0) {
    if (is_blank(*at) || (*at == '-' && strncmp(at + 1, close, 2) == 0)) {
      at++;
    } else if (*at == '\'' || *at == '"') {
      at = put_literal(at, out, done, error);
    } else if (strncmp(at, ".content", 8) == 0 || strncmp(at, ".role", 5) == 0) {
      bool content = at[1] == 'c';
      *done = *done && buffer_text(out, content ? "['content']" : "['role']", error);
      at += content ? 8 : 5;
    } else if (strncmp(at, ".strip()", 8) == 0) {
      *done = *done && buffer_text(out, "|trim", error);
      at += 8;
    } else {
      *done = *done && buffer_append(out, at++, 1, error);
    }
  }
  return *at ? at + 2 : at;
}

static bool ends_with(const Buffer *text, const char *end) {
  size_t count = strlen(end);
  return text->size >= count && memcmp(text->data + text->size - count, end, count) == 0;
}

/* Replaces every `from` by the shorter `to`. */
static void replace_shorter(Buffer *text, const char *from, const char *to) {
  size_t used = 0, from_bytes = strlen(from), to_bytes = strlen(to);
  for (size_t at = 0; at < text->size;) {
    if (text->size - at >= from_bytes && memcmp(text->data + at, from, from_bytes) == 0) {
      memcpy(text->data + used, to, to_bytes);
      used += to_bytes;
      at += from_bytes;
    } else {
      text->data[used++] = text->data[at++];
    }
  }
  text->size = used;
  if (text->data) text->data[used] = 0;
}

bool chat_canonical(const char *jinja, Buffer *out, Error *error) {
  bool done = true;
  for (const char *at = jinja; *at && done;) {
    if (at[0] != '{' || (at[1] != '{' && at[1] != '%' && at[1] != '#')) {
      if (!is_blank(*at)) done = buffer_append(out, at, 1, error);
      at++;
      continue;
    }
    char kind = at[1];
    at += 2;
    if (*at == '-') at++;
    if (kind == '#') {
      const char *end = strstr(at, "#}");
      at = end ? end + 2 : at + strlen(at);
    } else if (kind == '{') {
      if (ends_with(out, "}}")) { /* two outputs in a row are one */
        out->size -= 2;
        done = buffer_text(out, "+", error);
      } else {
        done = buffer_text(out, "{{", error);
      }
      at = put_tag(at, "}}", out, &done, error);
      done = done && buffer_text(out, "}}", error);
    } else {
      done = buffer_text(out, "{%", error);
      at = put_tag(at, "%}", out, &done, error);
      done = done && buffer_text(out, "%}", error);
    }
  }
  replace_shorter(out, "'+'", ""); /* adjacent literals are one */
  return done;
}

/* ---- marks ---- */

static bool keep(char **out, const char *bytes, size_t count, Error *error) {
  *out = memory_format("%.*s", (int)count, bytes);
  return *out || error_out_of_memory(error, "chat template", count);
}

/* The text between two marks, when it is plain literal text. */
static bool literal_between(const char *text, const char *begin, const char *end, char **out, Error *error) {
  for (const char *at = text; (at = strstr(at, begin));) {
    at += strlen(begin);
    const char *stop = strstr(at, end);
    if (!stop) return true;
    size_t count = (size_t)(stop - at);
    if (count > 0 && !memchr(at, '\'', count) && !memchr(at, '\\', count)) return keep(out, at, count, error);
  }
  return true;
}

#define CHATML_TURN "'<|im_start|>'+message['role']+'\\n'+message['content']"
#define LLAMA3_TURN \
  "'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'"

static bool has(const char *text, const char *mark) {
  return strstr(text, mark) != NULL;
}

static bool detect_chatml(const char *text, ChatTemplate *chat, bool *found, Error *error) {
  bool plain = has(text, CHATML_TURN "+'<|im_end|>\\n'"),
       trimmed = has(text, CHATML_TURN "|trim+'<|im_end|>\\n'");
  if (plain == trimmed || has(text, "<think>")) return true;
  *found = true;
  chat->family = CHAT_CHATML;
  chat->trim = trimmed;
  return literal_between(text, "'<|im_start|>system\\n", "<|im_end|>", &chat->default_system, error);
}

static bool detect_llama3(const char *text, ChatTemplate *chat, bool *found, Error *error) {
  if (!has(text, LLAMA3_TURN)) return true;
  *found = true;
  chat->family = CHAT_LLAMA3;
  chat->trim = true;
  static const char cutting[] = "Cutting Knowledge Date: December 2023\n",
                    today[] = "Today Date: 26 Jul 2024\n\n";
  if (!has(text, "Cutting Knowledge Date: December 2023\\n")) return true;
  *found = has(text, "Today Date: '+date_string+'\\n\\n");
  chat->date_line = memory_format("%s%s", cutting, today);
  return chat->date_line || error_out_of_memory(error, "chat template", sizeof cutting);
}

static bool detect_llama2(const char *text) {
  return has(text, "'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+") &&
         has(text, "bos_token+'[INST] '+content|trim+' [/INST]'") &&
         has(text, "' '+content|trim+' '+eos_token");
}

static bool detect_zephyr(const char *text) {
  return has(text, "{{'<|user|>\\n'+message['content']+eos_token}}") &&
         has(text, "{{'<|system|>\\n'+message['content']+eos_token}}") &&
         has(text, "{{'<|assistant|>\\n'+message['content']+eos_token}}");
}

static bool detect_preamble(const char *text, const char *user, const char *assistant, ChatFamily family,
                            ChatTemplate *chat, bool *found, Error *error) {
  if (!has(text, user) || !has(text, assistant)) return true;
  *found = true;
  chat->family = family;
  const char *preamble = chat_default_preamble(family);
  return !has(text, preamble) || keep(&chat->default_system, preamble, strlen(preamble), error);
}

bool chat_detect(const char *jinja, ChatTemplate *chat, bool *found, Error *error) {
  Buffer canonical = {0};
  *found = false;
  bool done = chat_canonical(jinja, &canonical, error);
  const char *text = canonical.data ? canonical.data : "";
  done = done && detect_chatml(text, chat, found, error);
  if (done && !*found) done = detect_llama3(text, chat, found, error);
  if (done && !*found && (detect_llama2(text) || detect_zephyr(text))) {
    *found = true;
    chat->family = detect_llama2(text) ? CHAT_LLAMA2 : CHAT_ZEPHYR;
    chat->trim = chat->family == CHAT_LLAMA2;
  }
  if (done && !*found)
    done =
        detect_preamble(text, "'### Instruction:\\n'+message['content']+'\\n\\n'",
                        "'### Response:\\n'+message['content']+eos_token", CHAT_ALPACA, chat, found, error);
  if (done && !*found)
    done = detect_preamble(text, "'USER: '+message['content']+' '",
                           "'ASSISTANT: '+message['content']+eos_token", CHAT_VICUNA, chat, found, error);
  chat->leading_bos = *found && chat->family != CHAT_LLAMA2 && has(text, "bos_token");
  buffer_free(&canonical);
  return done;
}

/* ---- choosing ---- */

/* ": choose plain, chatml, ..." */
static bool fail_with_names(Error *error, ErrorCode code, const char *format, const char *subject) {
  char names[128] = "";
  for (size_t i = 0; chat_family_names[i]; i++) {
    if (i > 0) strcat(names, ", ");
    strcat(names, chat_family_names[i]);
  }
  char message[512];
  snprintf(message, sizeof message, format, subject);
  return error_set(error, code, "%s (known: %s)", message, names);
}

/* A text is read as one token only if it is an added token. */
static bool need_token(const Tokenizer *tokenizer, ChatFamily family, const char *text, Error *error) {
  if (tokenizer_is_added(tokenizer, tokenizer_id(tokenizer, text))) return true;
  return error_set(error, ERROR_MODEL, "%s: chat template %s needs the token %s, which the tokenizer lacks",
                   tokenizer_directory(tokenizer), chat_family_names[family], text);
}

static bool need_special(const Tokenizer *tokenizer, ChatFamily family, int id, const char *what,
                         Error *error) {
  if (tokenizer_is_added(tokenizer, id)) return true;
  return error_set(error, ERROR_MODEL, "%s: chat template %s needs %s token, and the tokenizer has none",
                   tokenizer_directory(tokenizer), chat_family_names[family], what);
}

static bool find_end(ChatTemplate *chat, Error *error) {
  const Tokenizer *tokenizer = chat->tokenizer;
  static const char *const marks[CHAT_FAMILY_COUNT][3] = {
      [CHAT_CHATML] = {"<|im_start|>", "<|im_end|>", NULL},
      [CHAT_LLAMA3] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}};
  const char *last = NULL;
  for (size_t i = 0; i < 3 && marks[chat->family][i]; i++) {
    last = marks[chat->family][i];
    if (!need_token(tokenizer, chat->family, last, error)) return false;
  }
  chat->end_id = last ? tokenizer_id(tokenizer, last) : tokenizer_eos(tokenizer);
  if (!last && !need_special(tokenizer, chat->family, chat->end_id, "an EOS", error)) return false;
  bool bos = chat->leading_bos || chat->family == CHAT_LLAMA2;
  return !bos || need_special(tokenizer, chat->family, tokenizer_bos(tokenizer), "a BOS", error);
}

/* The family by name; where the model's own template is of that family, as the model has it. */
static bool choose_named(ChatTemplate *chat, const char *name, const char *own, Error *error) {
  ChatFamily family;
  bool found = false;
  if (!chat_family_parse(name, &family))
    return fail_with_names(error, ERROR_USAGE, "unknown chat template \"%.60s\"", name);
  if (own && !chat_detect(own, chat, &found, error)) return false;
  if (found && chat->family == family) return true;
  const Tokenizer *tokenizer = chat->tokenizer;
  chat_template_free(chat);
  *chat = (ChatTemplate){.family = family,
                         .tokenizer = tokenizer,
                         .leading_bos = family == CHAT_LLAMA3,
                         .trim = family == CHAT_LLAMA2 || family == CHAT_LLAMA3};
  const char *preamble = chat_default_preamble(family);
  return !preamble || keep(&chat->default_system, preamble, strlen(preamble), error);
}

static bool choose_own(ChatTemplate *chat, const char *own, Error *error) {
  const char *directory = tokenizer_directory(chat->tokenizer);
  bool found;
  if (!own)
    return fail_with_names(error, ERROR_MODEL, "%s: the model has no chat template; name one", directory);
  if (!chat_detect(own, chat, &found, error)) return false;
  return found || fail_with_names(error, ERROR_MODEL,
                                  "%s: the model's chat template is of no known family; name one if it fits",
                                  directory);
}

bool chat_template_init(ChatTemplate *chat, const Tokenizer *tokenizer, const char *name, Error *error) {
  *chat = (ChatTemplate){.tokenizer = tokenizer};
  const char *own = tokenizer_chat_template(tokenizer);
  bool named = name && *name && strcmp(name, "auto") != 0;
  if ((named ? choose_named(chat, name, own, error) : choose_own(chat, own, error)) &&
      find_end(chat, error)) {
    bool text_family =
        chat->family == CHAT_PLAIN || chat->family == CHAT_ALPACA || chat->family == CHAT_VICUNA;
    chat->bos_in_front = text_family && !chat->leading_bos && tokenizer_adds_bos(tokenizer);
    return true;
  }
  chat_template_free(chat);
  return false;
}

void chat_template_free(ChatTemplate *chat) {
  memory_free(chat->default_system);
  memory_free(chat->date_line);
  *chat = (ChatTemplate){0};
}
