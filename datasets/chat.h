/* Chat templates: a conversation -> the text a model was trained on, and which of it the model itself says.
 *
 * Families, by name: plain, chatml, alpaca, vicuna, zephyr, llama2, llama3. A
 * template is chosen by name, or recognised from the model's own chat_template by the expressions that are
 * characteristic of a family; a template that is not recognised is an error, never a guess. Variants of a
 * family that its template text shows (a default system turn as in Qwen2.5 and SmolLM2-Instruct, a leading
 * BOS, Llama-3.1's date lines) are followed.
 *
 * Renderings (u user, a assistant, s system, ⏎ newline; [..] goes into the loss):
 *   plain    u[a EOS]u[a EOS]                       texts end to end, nothing between them
 *   chatml   <|im_start|>system⏎s<|im_end|>⏎<|im_start|>user⏎u<|im_end|>⏎<|im_start|>assistant⏎[a<|im_end|>]⏎
 *   alpaca   preamble⏎⏎### Instruction:⏎u⏎⏎### Input:⏎i⏎⏎### Response:⏎[a EOS]   (s replaces the preamble)
 *   vicuna   preamble USER: u ASSISTANT:[ a EOS]USER: u ASSISTANT:[ a EOS]        (s replaces the preamble)
 *   zephyr   <|system|>⏎s EOS⏎<|user|>⏎u EOS⏎<|assistant|>⏎[a EOS]⏎
 *   llama2   BOS[INST] <<SYS>>⏎s⏎<</SYS>>⏎⏎u [/INST][ a EOS]BOS[INST] ...        (texts stripped; users and
 *                                                                               assistants take turns)
 *   llama3   BOS<|start_header_id|>role<|end_header_id|>⏎⏎u<|eot_id|>...⏎⏎[a<|eot_id|>]   (texts stripped)
 * EOS, BOS stand without the spaces shown. The mark that ends an assistant turn is in the loss: that is how a
 * model learns to stop.
 *
 * Ids are those of the whole rendered text encoded at once without adding special tokens, as Transformers'
 * apply_chat_template(tokenize=True) gives them, so BOS comes once, from the rendering. plain, alpaca and
 * vicuna are text conventions without BOS of their own: there, BOS goes in front if the tokenizer puts it in
 * front of any text. A token that holds at least one byte of a loss part is in the loss. */
#ifndef DATASETS_CHAT_H
#define DATASETS_CHAT_H

#include "base/error.h"
#include "base/memory.h"
#include "tokenizer/tokenizer.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

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

typedef enum ChatFamily {
  CHAT_PLAIN,
  CHAT_CHATML,
  CHAT_ALPACA,
  CHAT_VICUNA,
  CHAT_ZEPHYR,
  CHAT_LLAMA2,
  CHAT_LLAMA3,
  CHAT_FAMILY_COUNT
} ChatFamily;

typedef struct ChatTemplate {
  ChatFamily family;
  const Tokenizer *tokenizer; /* borrowed */
  bool leading_bos;           /* the rendering begins with the BOS token */
  bool bos_in_front;          /* the rendering has no BOS, but the tokenizer puts it in front of any text */
  bool trim;                  /* texts are stripped of white space at both ends */
  char *default_system;       /* chatml: system turn when the first message is none; alpaca, vicuna: preamble;
                                 NULL: nothing; owned */
  char *date_line; /* llama3: the date lines before the system text (Llama-3.1); NULL: none; owned */
  int end_id;      /* the token that ends an assistant turn; generation stops at it */
} ChatTemplate;

/* The names that chat_template_init knows, NULL-terminated (for option tables and messages). */
extern const char *const chat_family_names[];
bool chat_family_parse(const char *name, ChatFamily *family); /* false when unknown */

/* name: a family, or NULL, "" or "auto" for the one that the model's own template shows. ERROR_MODEL when it
 * shows none (with the known names), ERROR_USAGE for an unknown name, ERROR_MODEL when the tokenizer lacks
 * the tokens the family needs (<|im_end|> ...). */
NODISCARD bool chat_template_init(ChatTemplate *chat, const Tokenizer *tokenizer, const char *name,
                                  Error *error);
void chat_template_free(ChatTemplate *chat);

/* A stretch of the rendered text, in order, covering all of it. */
typedef struct ChatSegment {
  size_t begin, end; /* bytes */
  int message;       /* index of the message it belongs to; -1 for what stands outside messages */
  bool loss;         /* said by the assistant, its end mark included */
} ChatSegment;

typedef struct ChatText {
  Buffer text;
  ChatSegment *segments;
  size_t segment_count, segment_capacity;
} ChatText;

void chat_text_free(ChatText *text);

/* Renders the messages. generation_prompt: also the marks after which the assistant would answer.
 * ERROR_DATA when a conversation does not fit the family (Llama-2: turns must alternate, ...). */
NODISCARD bool chat_render(const ChatTemplate *chat, const ChatMessage *messages, size_t count,
                           bool generation_prompt, ChatText *out, Error *error);

/* Appends the ids of the rendered conversation and, when loss is not NULL, one 0 or 1 per id. */
NODISCARD bool chat_encode(const ChatTemplate *chat, const ChatMessage *messages, size_t count,
                           bool generation_prompt, IntArray *ids, IntArray *loss, Error *error);

#endif
