/* Inside datasets/ only: the formats that have a file of their own. Each fills a record that record_parse has emptied. */
#ifndef DATASETS_RECORD_FORMATS_H
#define DATASETS_RECORD_FORMATS_H

#include "datasets/turns.h"

/* record_pairs.c */
NODISCARD bool parse_preference(Record *record, json_t *root, RecordPlace place, Error *error);
NODISCARD bool parse_ranking(Record *record, json_t *root, DatasetKind kind, RecordPlace place, Error *error);
NODISCARD bool parse_safe_pair(Record *record, json_t *root, RecordPlace place, Error *error);

/* record_tree.c: the best path of an Open-Assistant tree, from the prompt to the last assistant's message on it. At each fork the
 * reply of the lowest rank is taken, one without a rank after those that have one, the first of equals. Replies that were deleted, or
 * refused by review ("review_result": false), are not there. record->nothing when no assistant answers. */
NODISCARD bool parse_tree(Record *record, const json_t *root, RecordPlace place, Error *error);

#endif
