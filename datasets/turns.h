/* Inside datasets/ only: the values of a record that are turns of a conversation.
 *
 * A message is {"role", "content"}, {"from", "value"} or {"from", "content"}. Under "from", human is the user, gpt the assistant and
 * observation a tool. A role that is none of system, user, assistant and tool is kept by its name: the template knows whether there is
 * such a one. Content is a string; null, or missing, where the message calls tools; or a list of parts, whose texts are put together
 * within the record. All errors are ERROR_DATA "FILE:LINE: key 'messages[2].role': ...". */
#ifndef DATASETS_TURNS_H
#define DATASETS_TURNS_H

#include "datasets/record.h"

/* "expected EXPECTED, found a number", or "key '...' is missing, expected EXPECTED". Always false. */
bool fail_type(RecordPlace place, const char *key, const char *expected, const json_t *found, Error *error);
bool fail_text(RecordPlace place, const char *key, const char *message, Error *error);

/* An optional string: NULL when missing or null. */
NODISCARD bool get_optional(const json_t *root, const char *key, RecordPlace place, const char **text,
                            size_t *bytes, Error *error);
/* An optional number: *there = false when missing or null. Finite as a float. */
NODISCARD bool get_number(const json_t *value, const char *key, RecordPlace place, bool *there,
                          double *number, Error *error);

NODISCARD bool push_string(Conversation *talk, ChatRole role, const json_t *value, const char *key,
                           RecordPlace place, Error *error);
/* A list of at least one message. `key` is where it stands, for errors. */
NODISCARD bool push_list(Conversation *talk, json_t *list, const char *key, RecordPlace place,
                         KeyNames *passed, Error *error);
/* A string (a turn of `role`), one message, or a list of messages. */
NODISCARD bool push_any(Conversation *talk, json_t *value, const char *key, ChatRole role, RecordPlace place,
                        KeyNames *passed, Error *error);
/* What is asked: the same, where a string "\n\nHuman: ...\n\nAssistant:" is a transcript. */
NODISCARD bool push_prompt(Conversation *talk, json_t *value, const char *key, RecordPlace place,
                           KeyNames *passed, Error *error);

/* "\n\nHuman: ...\n\nAssistant: ..." of the Anthropic HH files; each text loses its first space. */
bool is_transcript(const json_t *value);
NODISCARD bool push_transcript(Conversation *talk, const json_t *value, Error *error);

#endif
