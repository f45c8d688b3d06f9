/* Inside scoring/ only: what a judge outside answers: a number, or {"score": 0.5, "parts": {"tone": 1, "length": -0.5}, "id": 17}. */
#ifndef SCORING_VERDICT_H
#define SCORING_VERDICT_H

#include "scoring/source.h"

typedef struct Verdict {
  double score;
  bool has_id;
  int64_t id;
  struct {
    char name[41];
    double value;
  } parts[SCORING_MOST_PARTS];
  int part_count;
} Verdict;

/* ERROR_DATA that shows what was read and says what was expected. White space around it is fine, and so are further keys. */
NODISCARD bool verdict_read(Verdict *verdict, const char *text, size_t bytes, Error *error);
/* Takes it down as that of the answer in the slot, and keeps it in the run log. */
NODISCARD bool verdict_note(const Verdict *verdict, Source *source, int64_t slot, Error *error);
/* The same with what the run log has kept for its question, if there is any: then *found. */
NODISCARD bool verdict_recall(Source *source, int64_t slot, bool *found, Error *error);

/* Text of others as it may stand in a message: short, its control characters spelled. */
void shown_text(const char *text, size_t bytes, char out[200]);

#endif
