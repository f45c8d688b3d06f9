/* Inside datasets/ only: the built-in chat templates, for models that have none.
 *
 * Renderings (u user, a assistant, s system, ⏎ newline; [..] is what the assistant says):
 *   plain    u[a EOS]u[a EOS]                       texts end to end, nothing between them
 *   chatml   <|im_start|>system⏎s<|im_end|>⏎<|im_start|>user⏎u<|im_end|>⏎<|im_start|>assistant⏎[a<|im_end|>]⏎
 *   alpaca   preamble⏎⏎### Instruction:⏎u⏎⏎### Input:⏎i⏎⏎### Response:⏎[a EOS]   (s replaces the preamble)
 *   vicuna   preamble USER: u ASSISTANT:[ a EOS]USER: u ASSISTANT:[ a EOS]        (s replaces the preamble)
 *   zephyr   <|system|>⏎s EOS⏎<|user|>⏎u EOS⏎<|assistant|>⏎[a EOS]⏎
 *   llama2   BOS[INST] <<SYS>>⏎s⏎<</SYS>>⏎⏎u [/INST][ a EOS]BOS[INST] ...        (texts stripped; users and
 *                                                                               assistants take turns)
 *   llama3   BOS<|start_header_id|>role<|end_header_id|>⏎⏎u<|eot_id|>...⏎⏎[a<|eot_id|>]   (texts stripped)
 * EOS, BOS stand without the spaces shown. */
#ifndef DATASETS_CHAT_FAMILIES_H
#define DATASETS_CHAT_FAMILIES_H

#include <stdbool.h>

typedef struct ChatFamily {
  const char *name, *jinja;
  bool plain_text;      /* a convention of text, without BOS of its own */
  const char *marks[3]; /* the tokens it cannot do without; NULL-terminated */
  bool needs_bos, needs_eos;
} ChatFamily;

/* NULL when there is none of this name. */
const ChatFamily *chat_family(const char *name);
/* "plain, chatml, ..." */
extern const char chat_family_list[];

#endif
