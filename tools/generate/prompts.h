/* What `generate` answers: a text or ids from the command line, or the records of a file, as token ids. */
#ifndef TOOLS_GENERATE_PROMPTS_H
#define TOOLS_GENERATE_PROMPTS_H

#include "train/data.h"

typedef struct PromptsAsked {
  const char *text, *file, *ids; /* one of them */
  const char *system;            /* a turn before each conversation, with chat; or NULL */
  bool chat;
} PromptsAsked;

typedef struct Prompt {
  json_t *record; /* what the answer's line starts from; owned */
  IntArray ids;
  uint64_t line; /* in the file; else 0 */
} Prompt;

typedef struct Prompts {
  PromptsAsked asked;
  const TextTools *text;
  Log *log;
  Prompt *items;
  size_t count, capacity;
} Prompts;

/* text: without a tokenizer only ids can be read. Strings, text and log are borrowed. ERROR_DATA with file and line for a record that is no prompt. prompts_free after a failure, too. */
NODISCARD bool prompts_read(Prompts *prompts, const PromptsAsked *asked, const TextTools *text, Log *log,
                            Error *error);
int64_t prompts_longest(const Prompts *prompts); /* tokens */
/* ERROR_DATA for the first that has `limit` tokens or more. */
NODISCARD bool prompts_fit(const Prompts *prompts, int64_t limit, Error *error);
void prompts_free(Prompts *prompts);

#endif
