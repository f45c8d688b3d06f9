/* What a survey found, for a person and as JSON. */
#ifndef TOOLS_DATA_REPORT_H
#define TOOLS_DATA_REPORT_H

#include "tools/data/survey.h"

NODISCARD bool report_text(const Survey *survey, Buffer *out, Error *error);
/* A new object; NULL: ERROR_MEMORY. */
json_t *report_json(const Survey *survey, Error *error);

/* -- shared by both ------------------------------------------------------------------------------------- */

/* The distributions that have values, at most four; returns how many. */
typedef struct NamedLengths {
  const char *name; /* "prompt characters" */
  const Lengths *lengths;
} NamedLengths;
size_t report_lengths(const Statistics *statistics, NamedLengths out[4]);

/* The numbers of the `top` most frequent n-grams, without those that only continue one that is more frequent; returns how many. */
size_t report_grams(const Frequent *grams, size_t top, size_t *out);

/* Evaluation records by the share of their n-grams that occur: any, at least half, all. */
typedef struct OverlapCounts {
  uint64_t any, half, all;
} OverlapCounts;
OverlapCounts report_overlap(const Overlap *overlap);
/* The numbers of the `top` evaluation records with the largest share, of those with any, in `out`; returns how many. */
size_t report_overlapping(const Overlap *overlap, size_t top, size_t *out);

#endif
