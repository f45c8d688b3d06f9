/* Inside scoring/ only: how a reward model reads an answer that another model wrote.
 *
 * Where its tokens are the policy's and it was trained on the same rendering of conversations, it reads the ids that were sampled. Else
 * (`needed`) the answer's text is put behind the messages of its prompt and rendered and tokenised as the reward model's own training
 * did, up to the mark that ends the answer, or where it did not end, up to its last token. */
#ifndef SCORING_READING_H
#define SCORING_READING_H

#include "scoring/scoring.h"

typedef struct Reading {
  bool needed;
  TextTools tools; /* of the reward model, where needed */
  ChatReading chat;
  Conversation talk;
} Reading;

/* template: "auto", or what the user says that it was trained with. The tokenizer of setting->text is there. ERROR_MODEL when the answer
 * has to be read again and there is no template to do it by. */
NODISCARD bool reading_open(Reading *reading, const ModelPlace *model, const char *template,
                            const ScoringSetting *setting, Error *error);
void reading_close(Reading *reading);
/* Whether another model, over the same base as the one that it was opened for, reads answers in the same way: ERROR_MODEL. */
NODISCARD bool reading_serves(const Reading *reading, const ModelPlace *first, const ModelPlace *other,
                              const char *template, const ScoringSetting *setting, Error *error);

/* Appends the ids of an answer whose text is `said`, `limit` of them at most: the earliest of the prompt are left out then, and
 * *shortened is set. */
NODISCARD bool reading_encode(Reading *reading, const Answer *answer, const Buffer *said, int64_t limit,
                              IntArray *ids, bool *shortened, Error *error);

#endif
