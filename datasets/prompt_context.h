/* Inside datasets/ only: what stands behind the ids of a prompt, for those that judge answers to it (scoring/), as one JSON object:
 *
 *   {"messages": [{"role", "content", ...}, ...],   what is asked, with the keys that messages carry to the chat template
 *    "tools": [...],                                where the record has any
 *    "record": {...}}                               the record's other keys, as they are: those that its format does not read */
#ifndef DATASETS_PROMPT_CONTEXT_H
#define DATASETS_PROMPT_CONTEXT_H

#include "datasets/record.h"

/* Replaces what is in `out`. root: the record as it was parsed into `record`. */
NODISCARD bool prompt_context_write(const Record *record, const json_t *root, DatasetFormat format,
                                    Buffer *out, Error *error);

#endif
