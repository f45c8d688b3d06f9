/* For datasets/ and tools: one JSON record in any format -> messages or text. */
#ifndef DATASETS_RECORD_H
#define DATASETS_RECORD_H

#include "datasets/dataset.h"

#include <jansson.h>

/* One answer of a ranking. */
typedef struct RankedAnswer {
  Conversation talk; /* whole: what was asked, then this answer as its last turn, an assistant's */
  double
      score; /* more is better, equal is a tie; of a record that has only an order: minus the rank (-1 is the best) */
} RankedAnswer;

/* All text is borrowed from the JSON record. A Record is reused from line to line. */
typedef struct Record {
  Conversation talk; /* the dialogue; the chosen one of a preference; what comes before a prompt's answer */
  Conversation rejected; /* preferences */
  RankedAnswer *answers; /* FORMAT_RANKING: at least two, as they stand in the record; perhaps all tied */
  size_t answer_count, answer_capacity;
  bool ordered; /* the scores are ranks: their distances mean nothing */
  PairLabels
      labels; /* FORMAT_SAFE_PAIR: talk and rejected are the sides by the verdict that data.pair_label names */
  const char *text; /* FORMAT_TEXT */
  size_t text_bytes;
  const char *reference; /* DATASET_PROMPT: the record's own, or the answer taken off; NULL when none */
  size_t reference_bytes;
  char reference_number[40]; /* its text, where the record's own is a number */
  bool desirable;            /* FORMAT_UNPAIRED: its label */
  double margin;
  bool scored; /* FORMAT_PREFERENCE: the sides have scores, the chosen one's no less than the other's */
  double chosen_score, rejected_score;
  bool nothing;    /* there is no conversation in it: to be counted and left out */
  bool by_safety;  /* set by the caller, for all records: data.pair_label is safer */
  KeyNames passed; /* keys that were passed over, of all records so far */
} Record;

void record_free(Record *record);

/* Where a record stands, for messages. */
typedef struct RecordPlace {
  const char *file;
  uint64_t line;
  const struct Columns *columns; /* the user's names of keys (datasets/columns.h); NULL: the format's */
} RecordPlace;

/* The format that the keys show (datasets/formats.c). ERROR_DATA naming the keys found and the formats known, that the kind
 * does not take the format, or that the keys fit several formats that the kind takes. */
NODISCARD bool record_detect(const json_t *root, DatasetKind kind, RecordPlace place, DatasetFormat *format,
                             Error *error);
/* The same, and the kind that such records are made for. */
NODISCARD bool record_detect_kind(const json_t *root, RecordPlace place, DatasetFormat *format,
                                  DatasetKind *kind, Error *error);
/* The kind that records of a format are made for. */
DatasetKind record_kind(DatasetFormat format);
bool dataset_kind_takes(DatasetKind kind, DatasetFormat format);
const char *dataset_kind_name(DatasetKind kind);

/* Fills the record. Values within `root` may be replaced by what they stand for: a message's list of parts by its text, tools in a
 * string by the list. ERROR_DATA naming file, line, key, what was expected and what was found. */
NODISCARD bool record_parse(Record *record, json_t *root, DatasetKind kind, DatasetFormat format,
                            RecordPlace place, Error *error);

#endif
