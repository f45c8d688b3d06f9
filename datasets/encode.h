/* Inside datasets/ only: one record -> tokenised examples in the cache, with masks, limits and counts. */
#ifndef DATASETS_ENCODE_H
#define DATASETS_ENCODE_H

#include "datasets/cache.h"
#include "datasets/record.h"

/* Ids of one conversation or text with a mask of the same length. Reused from record to record. */
typedef struct Encoded {
  IntArray ids;
  IntArray loss;
} Encoded;

typedef struct Encoder {
  const DatasetOptions *options; /* borrowed */
  CachePart part;                /* what came of the records; whoever writes it empties it */
  DatasetCounts counts;
  Encoded first;
  Encoded answers[MOST_ANSWERS]; /* of a preference */
  IntArray ids;                  /* of a preference, as the cache has them */
  Buffer mask;                   /* loss as bytes */
  Buffer record;                 /* of a prompt, as the cache has it */
  ChatReading reading;           /* the last conversation */
} Encoder;

/* Adds what the record, parsed from `root`, gives to the cache and to the counts. ERROR_DATA when it does not fit the template, or
 * is too long with TRUNCATION_ERROR. */
NODISCARD bool encoder_add(Encoder *encoder, const Record *record, const json_t *root, DatasetFormat format,
                           RecordPlace place, Error *error);
void encoder_free(Encoder *encoder);

/* -- what the files of the encoder share ---------------------------------------------------------------- */

/* A preference (datasets/preference.c). */
NODISCARD bool encoder_add_preference(Encoder *encoder, const Record *record, DatasetFormat format,
                                      RecordPlace place, Error *error);

/* One answer, or those of a pair one by one. */
NODISCARD bool encoder_add_unpaired(Encoder *encoder, const Record *record, DatasetFormat format,
                                    RecordPlace place, Error *error);

/* The first `count` messages, their ids without a second BOS. What the template did to them is added to *found. */
NODISCARD bool encoder_talk(Encoder *encoder, const Conversation *talk, size_t count, ChatUse use,
                            RecordPlace place, Encoded *out, ChatFindings *found, Error *error);
void dataset_note(DatasetNote *note, RecordPlace place);
/* Counts what was found in a record, each kind once, and a record without anything to learn. */
void encoder_note(Encoder *encoder, const ChatFindings *found, RecordPlace place);
void encoder_note_no_loss(Encoder *encoder, uint64_t line);
/* Whether an assistant's turn that is learnt has no text: its end mark would be all of it. */
bool conversation_empty_answer(const Conversation *talk);

/* What becomes of a sequence of so many tokens by data.truncation; FAILED fills the error. */
typedef enum Verdict { FITS, CUT_IT, SKIP_IT, FAILED } Verdict;
Verdict encoder_verdict(const Encoder *encoder, size_t tokens, RecordPlace place, Error *error);

/* Writes an example to the cache and counts it. */
NODISCARD bool encoder_put(Encoder *encoder, const CacheItem *item, Error *error);

#endif
