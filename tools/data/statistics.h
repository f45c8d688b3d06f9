/* What the texts of records are like: lengths, scripts, what is said again and again. */
#ifndef TOOLS_DATA_STATISTICS_H
#define TOOLS_DATA_STATISTICS_H

#include "tokenizer/tokenizer.h"
#include "tools/data/frequent.h"
#include "tools/data/lengths.h"
#include "tools/data/record_text.h"
#include "tools/data/scripts.h"
#include "tools/data/words.h"

typedef struct Statistics {
  Lengths prompt_characters, answer_characters; /* of records that have one */
  Lengths words, tokens;                        /* of prompt and answer together */
  ScriptTally scripts;                          /* characters */
  uint64_t records_of[SCRIPT_COUNT];            /* records by their main script */
  Frequent grams, prompts, answers;             /* n-grams of words; first sentences */
  uint64_t records, without_answer, empty_answers, empty_prompts;
  const Tokenizer *tokenizer; /* borrowed; NULL: tokens are not counted */
  int n;
  IntArray ids;
} Statistics;

NODISCARD bool statistics_init(Statistics *statistics, const Tokenizer *tokenizer, int n, Error *error);
void statistics_free(Statistics *statistics);
/* `words` are those of `folded`, which is the prompt and the answer. */
NODISCARD bool statistics_add(Statistics *statistics, const RecordText *text, const char *folded,
                              const Words *words, Error *error);
void statistics_finish(Statistics *statistics);

#endif
