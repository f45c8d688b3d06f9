/* What of a record is compared and counted: the texts of its turns, whatever its format.
 *
 * The answer is what the assistant says last, the prompt every turn before it. A preference, a ranking, a pair has what all its
 * sides begin with as its prompt, and everything else, side by side, as its answer. A raw text is an answer without a prompt. System
 * texts and tools stand apart: they are part of what an exact duplicate is, but one that many records share would make them
 * all look alike. Turns are joined by a newline. Thinking and calls of tools are part of their turn. */
#ifndef TOOLS_DATA_RECORD_TEXT_H
#define TOOLS_DATA_RECORD_TEXT_H

#include "datasets/record.h"

typedef struct RecordText {
  Buffer system, prompt, answer;
  bool answered;     /* there is an assistant's turn at the end */
  bool empty_answer; /* and one of them says nothing */
  bool nothing;      /* there is no conversation in the record (a tree without an answer) */
} RecordText;

/* Replaces what is there. */
NODISCARD bool record_text(RecordText *text, const Record *record, DatasetFormat format, Error *error);
void record_text_free(RecordText *text);

#endif
