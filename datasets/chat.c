/* Choosing the chat template of a model; reading conversations by it: chat_read.c. */
#include "datasets/chat.h"

#include "base/digest.h"
#include "base/json.h"
#include "datasets/chat_families.h"

#include <stdlib.h>
#include <string.h>

const char *chat_role_name(const ChatMessage *message) {
  static const char *const names[] = {"system", "user", "assistant", "tool"};
  return message->role == CHAT_OTHER ? message->role_name : names[message->role];
}

/* ---- Finding the text ------------------------------------------------------------------------------ */

/* What a name stands for. */
typedef struct Choice {
  const ChatFamily *family; /* built in; NULL: the texts below */
  const char *text, *tools_text;
  Buffer file; /* owns `text` where it is a file's */
} Choice;

/* "; it has: default, tool_use" */
static void own_names(const Tokenizer *tokenizer, char *out, size_t size) {
  size_t used = 0;
  const char *name;
  *out = '\0';
  for (size_t i = 0; (name = tokenizer_chat_template_name(tokenizer, i)) && used < size; i++) {
    used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "; the model's own: ", name);
  }
}

static bool choose_own(const Tokenizer *tokenizer, Choice *choice, Error *error) {
  choice->text = tokenizer_chat_template(tokenizer, "default");
  choice->tools_text = tokenizer_chat_template(tokenizer, "tool_use");
  if (choice->text) return true;
  char own[256];
  own_names(tokenizer, own, sizeof own);
  return error_set(error, ERROR_MODEL, "%s: the model has no%s chat template; name one (known: %s%s)",
                   tokenizer_directory(tokenizer), *own ? " default" : "", chat_family_list, own);
}

static bool is_file_name(const char *name) {
  const char *dot = strrchr(name, '.');
  return (dot && strcmp(dot, ".jinja") == 0) || strchr(name, '/');
}

static bool choose_named(const Tokenizer *tokenizer, const char *name, Choice *choice, Error *error) {
  choice->family = chat_family(name);
  if (choice->family) return true;
  choice->text = tokenizer_chat_template(tokenizer, name);
  if (choice->text) return true;
  if (is_file_name(name)) {
    if (!json_file_text(name, json_limit_config, &choice->file, error) ||
        !buffer_append(&choice->file, "", 0, error)) {
      return false;
    }
    choice->text = choice->file.data;
    return true;
  }
  char own[256];
  own_names(tokenizer, own, sizeof own);
  return error_set(error, ERROR_USAGE, "unknown chat template \"%.60s\" (known: %s%s, and files *.jinja)",
                   name, chat_family_list, own);
}

/* ---- What a built-in one needs of the tokenizer ----------------------------------------------------- */

/* A text is read as one token only if it is an added token. */
static bool check_family(const Tokenizer *tokenizer, const ChatFamily *family, Error *error) {
  const char *directory = tokenizer_directory(tokenizer);
  for (size_t i = 0; i < 3 && family->marks[i]; i++) {
    if (tokenizer_is_added(tokenizer, tokenizer_id(tokenizer, family->marks[i]))) continue;
    return error_set(error, ERROR_MODEL, "%s: chat template %s needs the token %s, which the tokenizer lacks",
                     directory, family->name, family->marks[i]);
  }
  const bool eos = !family->needs_eos || tokenizer_is_added(tokenizer, tokenizer_eos(tokenizer));
  const bool bos = !family->needs_bos || tokenizer_is_added(tokenizer, tokenizer_bos(tokenizer));
  return (eos && bos) ||
         error_set(error, ERROR_MODEL, "%s: chat template %s needs %s token, and the tokenizer has none",
                   directory, family->name, eos ? "a BOS" : "an EOS");
}

/* ---- The mark that ends an answer ------------------------------------------------------------------- */

/* By trying: the last token of what the assistant says in a short conversation. Templates that refuse it, and those that end turns by no special
 * token, leave EOS. */
static bool find_end(ChatTemplate *chat, Error *error) {
  static ChatMessage turns[] = {{.role = CHAT_USER, .text = "Hello", .bytes = 5},
                                {.role = CHAT_ASSISTANT, .text = "Yes", .bytes = 3}};
  const Conversation talk = {.items = turns, .count = 2};
  ChatReading reading = {0};
  Error why = {0};
  chat->end_id = tokenizer_eos(chat->tokenizer);
  bool ok = true;
  if (chat_read(chat, &talk, 2, CHAT_LAST_TURN, 0, &reading, &why)) {
    size_t last = reading.loss.size;
    while (last > 0 && !reading.loss.data[last - 1]) last--;
    if (last > 0 && reading.found.without_end < 0) chat->end_id = reading.ids.data[last - 1];
  } else if (why.code == ERROR_MEMORY) {
    ok = error_set(error, why.code, "%s", why.message);
  }
  chat_reading_free(&reading);
  return ok &&
         (chat->end_id >= 0 ||
          error_set(error, ERROR_MODEL,
                    "%s: the chat template ends an answer by no special token, and the tokenizer has no EOS: "
                    "nothing would tell a model to stop",
                    tokenizer_directory(chat->tokenizer)));
}

/* ---- Opening ---------------------------------------------------------------------------------------- */

static void digest_string(Digest *digest, const char *text) {
  digest_add(digest, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* The special tokens are part of the tokenizer's own digest. */
static bool make_digest(ChatTemplate *chat, const Choice *choice, Error *error) {
  Digest *digest = digest_open(error);
  char *args = chat->args ? json_dumps(chat->args, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
  const bool ok = digest && (args || !chat->args || error_out_of_memory(error, "template arguments", 0));
  if (ok) {
    digest_string(digest, choice->family ? choice->family->jinja : choice->text);
    digest_string(digest, choice->tools_text);
    digest_string(digest, args);
    digest_add(digest, &chat->now, sizeof chat->now);
    digest_add(digest, &chat->bos_in_front, sizeof chat->bos_in_front);
    digest_text(digest, chat->digest);
  }
  free(args); /* jansson's */
  digest_close(digest);
  return ok;
}

static bool parse(ChatTemplate *chat, const char *name, const Choice *choice, Error *error) {
  const char *text = choice->family ? choice->family->jinja : choice->text;
  const bool own = !choice->family && !choice->file.data;
  char *place = own ? memory_format("%s: chat template%s%s", tokenizer_directory(chat->tokenizer),
                                    *name ? " " : "", name)
                    : memory_copy_string(name);
  chat->name = own && !*name ? memory_copy_string("the model's own") : memory_copy_string(name);
  chat->built_in = choice->family != NULL;
  chat->source = *name ? memory_copy_string(text) : NULL;
  bool ok = (place && chat->name && (chat->source || !*name)) ||
            error_out_of_memory(error, "chat template", strlen(text));
  if (ok) chat->usual = template_parse(text, strlen(text), place, error);
  ok = ok && chat->usual;
  if (ok && choice->tools_text) {
    chat->with_tools =
        template_parse(choice->tools_text, strlen(choice->tools_text), "chat template tool_use", error);
    ok = chat->with_tools != NULL;
  }
  memory_free(place);
  return ok;
}

static bool open(ChatTemplate *chat, const ChatOptions *options, Choice *choice, Error *error) {
  const char *name = options->name && strcmp(options->name, "auto") != 0 ? options->name : "";
  if (!(*name ? choose_named(chat->tokenizer, name, choice, error)
              : choose_own(chat->tokenizer, choice, error)) ||
      (choice->family && !check_family(chat->tokenizer, choice->family, error)) ||
      !parse(chat, name, choice, error)) {
    return false;
  }
  chat->bos_in_front = choice->family && choice->family->plain_text && tokenizer_adds_bos(chat->tokenizer);
  return make_digest(chat, choice, error) && find_end(chat, error);
}

bool chat_template_init(ChatTemplate *chat, const Tokenizer *tokenizer, const ChatOptions *options,
                        Error *error) {
  *chat = (ChatTemplate){.tokenizer = tokenizer, .now = options->now};
  Choice choice = {0};
  chat->args = options->args ? json_deep_copy(options->args) : NULL;
  bool ok = chat->args || !options->args || error_out_of_memory(error, "template arguments", 0);
  ok = ok && open(chat, options, &choice, error);
  buffer_free(&choice.file);
  if (!ok) chat_template_free(chat);
  return ok;
}

void chat_template_free(ChatTemplate *chat) {
  memory_free(chat->name);
  memory_free(chat->source);
  template_free(chat->usual);
  template_free(chat->with_tools);
  json_decref(chat->args);
  *chat = (ChatTemplate){0};
}
