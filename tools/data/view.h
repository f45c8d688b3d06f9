/* A record's text as the parts of this tool look at it: the part that is compared, folded, and its words. */
#ifndef TOOLS_DATA_VIEW_H
#define TOOLS_DATA_VIEW_H

#include "base/digest.h"
#include "tools/data/record_text.h"
#include "tools/data/words.h"

/* Which text of a record is compared. Where it has no prompt, the answer is, and the other way round. */
typedef enum TextChoice { TEXT_ALL, TEXT_PROMPT, TEXT_ANSWER } TextChoice;
extern const char *const text_choice_names[]; /* "all", "prompt", "answer", NULL */

typedef struct View {
  TextChoice choice;
  Folding folding; /* of what makes an exact duplicate */
  Folder folder;
  Buffer prompt, body; /* folded: the prompt (of a raw text: the text), and what is compared */
  Words words;         /* of the body */
  size_t prompt_words; /* how many of them are the prompt's */
  Buffer key;
} View;

NODISCARD bool view_init(View *view, TextChoice choice, Folding folding, Error *error);
void view_free(View *view);
/* Replaces what is there. */
NODISCARD bool view_make(View *view, const RecordText *text, Error *error);
/* The digest by which exact duplicates are known: of the chosen text, and of the system text unless the answer alone is chosen. */
NODISCARD bool view_digest(View *view, const RecordText *text, Hash128 *digest, Error *error);

#endif
