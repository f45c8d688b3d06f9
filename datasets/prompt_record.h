/* For tools: the prompt of a record in any format, as a record of its own to put answers beside.
 *
 *   {"prompt": ..., "tools"?: ..., further keys of the record}
 *
 * The prompt is a string where the record has one question as a string, else a list of messages; so read again, as a prompt or with an
 * answer beside it, it renders to the same text. (An Alpaca record's "input" is put behind its instruction with an empty line between, as every
 * template but alpaca sees it.) What the assistant said in earlier turns has "train": false, so that the answer alone is learnt.
 *
 * Left out are the keys by which some format is known or read, but prompt and tools, and those that weigh a record: what is put beside the prompt
 * decides what the new record is. All other keys are kept. */
#ifndef DATASETS_PROMPT_RECORD_H
#define DATASETS_PROMPT_RECORD_H

#include "datasets/record.h"

/* root: the record, of which record_parse has made `record` as DATASET_PROMPT. A new reference, or NULL with ERROR_MEMORY. */
NODISCARD json_t *prompt_record(const json_t *root, const Record *record, DatasetFormat format, Error *error);

/* An answer as it stands beside the prompt of such a record: a string beside a string, else a list of one message. A new reference, or NULL:
 * no memory, or the text is not UTF-8. */
json_t *prompt_record_answer(const json_t *made, const char *text, size_t bytes);

#endif
