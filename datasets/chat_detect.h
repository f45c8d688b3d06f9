/* Recognising a chat family in the text of a Jinja template, without running it.
 *
 * The template is brought into a canonical spelling (white space outside literals dropped, one kind of quote,
 * message.content as message['content'], adjacent outputs joined) in which the expressions that make a family
 * what it is are looked for as they stand. */
#ifndef TOKENIZER_CHAT_DETECT_H
#define TOKENIZER_CHAT_DETECT_H

#include "datasets/chat.h"

/* Appends the canonical spelling. */
NODISCARD bool chat_canonical(const char *jinja, Buffer *out, Error *error);

/* Sets *found and, when it is true, the family and its variants (leading_bos, trim, default_system, date_line). */
NODISCARD bool chat_detect(const char *jinja, ChatTemplate *chat, bool *found, Error *error);

/* What a family puts in front when it is chosen by name; NULL: nothing. */
const char *chat_default_preamble(ChatFamily family);

#endif
