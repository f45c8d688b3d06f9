/* The first reading: what every record is like, and what becomes of it.
 *
 * In memory there are, per record, a RecordNote, what exact.h and near.h say, and nothing of its text. */
#ifndef TOOLS_DATA_SURVEY_H
#define TOOLS_DATA_SURVEY_H

#include "base/log.h"
#include "tools/data/inputs.h"
#include "tools/data/exact.h"
#include "tools/data/near.h"
#include "tools/data/overlap.h"
#include "tools/data/statistics.h"
#include "tools/data/view.h"

/* In the order in which they are decided: what is left out for one reason is no duplicate of anything. */
typedef enum Fate {
  FATE_KEPT,
  FATE_BROKEN,  /* no record, or one that no stage would take */
  FATE_EMPTY,   /* nothing is answered */
  FATE_OVERLAP, /* it has n-grams of an evaluation file */
  FATE_EXACT,   /* an earlier record has the same text */
  FATE_NEAR,    /* it resembles an earlier one */
  FATE_COUNT
} Fate;
extern const char *const fate_names[FATE_COUNT];

typedef struct RecordNote {
  uint64_t prompt; /* hash of the folded prompt; with split-near, of the first one that it resembles */
  uint64_t line;
  uint32_t first; /* of duplicates: the record that is kept */
  uint8_t fate;
  bool eval;
} RecordNote;

typedef struct FileNote {
  const char *path, *name; /* to read, to show; borrowed */
  DatasetFormat format;
  uint32_t begin, end; /* its records */
  uint64_t bytes;
  uint64_t fates[FATE_COUNT];
  uint64_t eval; /* of the kept ones */
  KeyNames passed;
} FileNote;

typedef struct Survey {
  const DataConfig *config; /* borrowed */
  const Inputs *inputs;
  Log *log;
  FileNote *files;
  size_t file_count;
  RecordNote *notes;
  uint32_t count, capacity;
  View view;
  ExactSet exact;
  Near near, prompts; /* of the compared texts; of the prompts for the split */
  UnitArray units;    /* scratch */
  Overlap overlap;
  Statistics statistics;
  uint64_t broken_told;
} Survey;

/* The tokenizer may be NULL. What is given is borrowed as long as the survey is used. */
NODISCARD bool survey_run(Survey *survey, const DataConfig *config, const Inputs *inputs,
                          const Tokenizer *tokenizer, Log *log, Error *error);
void survey_free(Survey *survey);
/* The file that the record is of. */
const FileNote *survey_file(const Survey *survey, uint32_t record);
/* All files together; without a name. */
FileNote survey_total(const Survey *survey);

#endif
