/* Inside datasets/ only: a conversation being read, and its ids. */
#ifndef DATASETS_CHAT_PARTS_H
#define DATASETS_CHAT_PARTS_H

#include "datasets/chat.h"

typedef struct Reading {
  const ChatTemplate *chat;
  const Template *template; /* that takes this conversation */
  const Conversation *talk;
  ChatReading *out;
  Error *error;
} Reading;

/* Keys of a message whose strings the assistant says; NULL-terminated. */
extern const char *const chat_said_keys[];

/* Before the first rendering: texts and calls that the template gets in another form than the record has them. */
NODISCARD bool chat_prepare(Reading *r);
/* The calls of tools as the template gets them; NULL when the message has none. */
const json_t *chat_calls_of(const Reading *r, size_t message);
/* The first `count` messages into `out`. */
NODISCARD bool chat_render(Reading *r, size_t count, bool generation_prompt, TemplateText *out, Error *error);

/* A text may begin with the BOS that tokenizer or template put in front as well: one is left. loss may be empty. */
void chat_drop_double_bos(const Tokenizer *tokenizer, IntArray *ids, IntArray *loss);
/* Cuts the earliest ids but for a leading BOS. */
void chat_cut_front(const Tokenizer *tokenizer, IntArray *ids, IntArray *loss, size_t count);
/* Cuts off what follows the last loss token. */
void chat_trim(IntArray *ids, IntArray *loss);

#endif
