/* Inside datasets/ only: which keys of a record mean something.
 *
 * A format reads some keys. Of the others, those that would change what is learnt (tools, history, images ...) are refused by
 * name when they say something: null, false, "", [] and {} say nothing. What is left (ids, sources, scores) is passed
 * over, and the names are kept for the report. */
#ifndef DATASETS_FIELDS_H
#define DATASETS_FIELDS_H

#include "datasets/record.h"

/* Whether a value says something: null, false, "", [] and {} do not, nor what is not there. */
bool fields_say(const json_t *value);
/* Whether the key of a record leaves it out of training, or weighs it: label, weight, train. */
bool fields_weigh(const char *key);
/* Adds the name of a key that is passed over. */
void fields_pass(KeyNames *passed, const char *prefix, const char *key);

/* ERROR_DATA naming file, line and key, and what to do, for a key of the record that the format does not honour. Adds the names of keys
 * that are passed over to `passed`. */
NODISCARD bool fields_check_record(const json_t *root, DatasetKind kind, DatasetFormat format,
                                   RecordPlace place, KeyNames *passed, Error *error);

/* The same for one message, whose own keys are `role` and `content`; `path` ("messages[2]") is for errors.
 * *carried: it has keys that go to the template with it (tool_calls, reasoning_content, name ...).
 * *learnt = false when "weight": 0 or "train": false keep what the assistant says here out of the loss. */
NODISCARD bool fields_check_message(const json_t *message, const char *role, const char *content,
                                    const char *path, RecordPlace place, KeyNames *passed, bool *learnt,
                                    bool *carried, Error *error);

#endif
