/* RUN/answers.jsonl: every answer that was sampled with its score, a line for each prompt, in the order of the prompts.
 *
 *   {"answers": [{"text": "...", "score": 1.25, "finished": "eos", "tokens": 31}, ...]}
 *
 * It only grows. What a killed run wrote behind its last checkpoint is cut off when it goes on. */
#ifndef TOOLS_SAMPLE_JOURNAL_H
#define TOOLS_SAMPLE_JOURNAL_H

#include "datasets/lines.h"
#include "tools/sample/choose.h"

#include <stdio.h>

#define JOURNAL_FILE "answers.jsonl"

typedef struct Journal {
  char *path;
  FILE *stream;
  int64_t bytes; /* whole lines */
} Journal;

/* Goes on behind the first `bytes`; 0 begins. ERROR_FILE when there are fewer. path is taken over, a new string or NULL. */
NODISCARD bool journal_open_take(Journal *journal, char *path, int64_t bytes, Error *error);
void journal_close(Journal *journal);

/* Adds the answers to the next prompt, and, on the disk, all that was added. */
NODISCARD bool journal_add(Journal *journal, const SampledAnswer *answers, int64_t count, Error *error);
NODISCARD bool journal_sync(Journal *journal, Error *error);

/* The answers to the next prompt, read again; their texts are borrowed from *line, a new reference. ERROR_FILE when they are not there. */
NODISCARD bool journal_next(LineReader *reader, SampledAnswer *answers, int64_t count, json_t **line,
                            Error *error);

#endif
