/* Conversations: the text that a chat template makes of them, its ids, and which of it the assistant says.
 *
 * The template is the model's own (Jinja, template/template.h), one of another name that the model brings, a file, or one of the built-in
 * ones for models that have none (chat_families.h). It is given what Transformers' apply_chat_template gives: messages, tools,
 * add_generation_prompt, the special tokens by name, and the caller's own arguments. The model's "tool_use" template takes the conversations that have
 * tools, where there is one.
 *
 * Ids are those of the whole rendered text encoded at once without adding special tokens, as apply_chat_template(tokenize=True) gives them, so
 * BOS comes once, from the rendering. plain, alpaca and vicuna are conventions of text without a BOS of their own: there, BOS goes in front if
 * the tokenizer puts it in front of any text.
 *
 * What the assistant says in a turn is what generation would have to write: it begins where the rendering of the turns before it, with the generation
 * prompt, ends, or, where that is no beginning of the text, at the first byte of the message; it ends with the last special token
 * that the turn's own rendering adds after the message's last byte (<|im_end|>, EOS ...): that is how a model learns to stop. A template with
 * {% generation %} blocks says it itself; the end mark right behind a block is taken in. Nothing is searched for in the text: a rendering
 * knows which of its bytes came from which message. A token that holds at least one byte of what the assistant says is in the loss.
 *
 * Some templates render a turn otherwise once others follow (Qwen3 and DeepSeek-R1 take the thinking out of earlier turns). The whole conversation is
 * then not what generation saw at each turn, `apart` says so, and each turn has to be read as the last of its own. */
#ifndef DATASETS_CHAT_H
#define DATASETS_CHAT_H

#include "base/error.h"
#include "base/memory.h"
#include "template/template.h"
#include "tokenizer/tokenizer.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Conversations --------------------------------------------------------------------------------- */

typedef enum ChatRole { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL, CHAT_OTHER } ChatRole;

/* All of it is borrowed. */
typedef struct ChatMessage {
  ChatRole role;
  const char
      *role_name;   /* of CHAT_OTHER, as the record has it: the template knows whether there is such a role */
  const char *text; /* UTF-8; NULL where the message has none (it only calls tools) */
  size_t bytes;
  const char
      *input; /* an Alpaca record's "input" beside its instruction (user turns only); NULL when none. */
  size_t input_bytes; /* Templates other than alpaca see it after the text, with an empty line between. */
  const json_t
      *extra;    /* the record's own message: its keys beside role and content go to the template as they are
                          (reasoning_content, tool_calls, tool_call_id, name ...); NULL when none */
  bool unlearnt; /* an assistant turn that is kept out of the loss, its end mark too */
} ChatMessage;

typedef struct Conversation {
  ChatMessage *items; /* owned by whoever fills it */
  size_t count, capacity;
  const json_t *tools; /* what the assistant may call, in OpenAI's form: a list; borrowed; NULL when none */
} Conversation;

/* A role's name in records and templates ("system", "user", "assistant", "tool", or the message's own). */
const char *chat_role_name(const ChatMessage *message);

/* Appends the messages of a JSON list, [{"role", "content", ...}, ...], which must outlive the conversation. ERROR_DATA naming the entry and the
 * key. */
NODISCARD bool conversation_add_json(Conversation *talk, const json_t *messages, Error *error);
/* A message as a record has it: {"role", "content", ...}: an input behind its text with an empty line between, as every template but alpaca
 * sees it; and its further keys, but those that weigh it. A new reference; NULL when memory is out. */
NODISCARD json_t *chat_message_json(const ChatMessage *message);
NODISCARD bool conversation_push(Conversation *talk, ChatMessage message, Error *error);
void conversation_free(Conversation *talk);

/* ---- Templates ------------------------------------------------------------------------------------- */

typedef struct ChatOptions {
  const char *
      name; /* NULL, "" or "auto": the model's own; the name of a built-in one, of one of the model's, or of a file (*.jinja) */
  const json_t
      *args;   /* an object: further variables of the template (enable_thinking ...); borrowed; NULL: none */
  int64_t now; /* what strftime_now tells, in seconds since 1970, UTC */
} ChatOptions;

typedef struct ChatTemplate {
  const Tokenizer *tokenizer; /* borrowed */
  char *source;               /* its text, where it is not the model's own default one; owned; NULL: it is */
  bool built_in;
  char *name;                   /* for reports: "chatml", "the model's own", a file; owned */
  Template *usual, *with_tools; /* owned; with_tools is NULL where `usual` takes them too */
  json_t *args;                 /* owned; NULL: none */
  int64_t now;
  bool bos_in_front; /* the rendering has no BOS, but the tokenizer puts it in front of any text */
  int end_id;        /* the token that ends an assistant turn; generation stops at it */
  char digest[33];   /* of all that decides what it renders */
} ChatTemplate;

/* ERROR_MODEL when the model has no template and none is named (with the known names), when it is broken or uses what the interpreter does not have, or
 * when it ends an answer by no special token and the tokenizer has no EOS either; ERROR_USAGE for an unknown name. */
NODISCARD bool chat_template_init(ChatTemplate *chat, const Tokenizer *tokenizer, const ChatOptions *options,
                                  Error *error);
void chat_template_free(ChatTemplate *chat);

/* ---- Reading --------------------------------------------------------------------------------------- */

typedef enum ChatUse {
  CHAT_ASK,        /* the conversation with the generation prompt; nothing is learnt */
  CHAT_EVERY_TURN, /* every assistant turn that is not `unlearnt` */
  CHAT_LAST_TURN   /* the last message, which must be the assistant's, `unlearnt` or not */
} ChatUse;

/* What a user should hear of. Numbers of messages, from 0; -1: none. */
typedef struct ChatFindings {
  int left_out; /* the first message whose text, or calls of tools, the rendering lacks */
  int changed; /* the first assistant turn that is learnt with another text than the record's, white space aside */
  int without_end; /* the first assistant turn that is learnt without an end mark */
  bool apart;      /* CHAT_EVERY_TURN: turns have to be read one by one (above); loss is all 0 */
  bool beyond;     /* CHAT_EVERY_TURN: a turn that is learnt begins after `limit`, and is not in the loss */
} ChatFindings;

#define CHAT_FOUND_NOTHING ((ChatFindings){-1, -1, -1, false, false})

/* Reused from one conversation to the next; zero-initialised. */
typedef struct ChatReading {
  TemplateText text;
  IntArray ids, loss; /* loss: 0 or 1 per id */
  ChatFindings found;
  /* working space */
  TokenSpans spans;
  IntArray owners; /* of the origins of `text`: message, or -1 */
  TemplateText part;
  ValueHeap *heap;
  Buffer joined;
  json_t *parsed;
} ChatReading;

void chat_reading_free(ChatReading *reading);

/* Reads the first `count` messages of the conversation. Turns that begin after the id number `limit` are not looked at (0: all are), so that a
 * conversation that is cut there costs no more. ERROR_DATA in the template's own words when it refuses the conversation, and for tools that it does not read. */
NODISCARD bool chat_read(const ChatTemplate *chat, const Conversation *talk, size_t count, ChatUse use,
                         size_t limit, ChatReading *reading, Error *error);

/* What training makes of a conversation whose last turn is an answer: reading->ids, without a second BOS, up to the mark that ends it;
 * or, where it has not ended, up to its last token. *shortened: there were more than `limit`, and the earliest are left out, but for a leading
 * BOS. */
NODISCARD bool chat_read_answered(const ChatTemplate *chat, const Conversation *talk, bool ended,
                                  size_t limit, ChatReading *reading, bool *shortened, Error *error);

#endif
