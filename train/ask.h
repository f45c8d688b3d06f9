/* Asking the other programs of the project, which lie beside this one: what they say is what they would say to a user. */
#ifndef TRAIN_ASK_H
#define TRAIN_ASK_H

#include "base/json.h"

/* What a program said; zeroed is empty. */
typedef struct Answer {
  Buffer out, log;          /* standard output and error */
  int status;               /* its exit code */
  double processor_seconds; /* of all its threads */
  size_t peak_bytes;        /* its largest resident set */
} Answer;

/* Runs the program NAME. `arguments` end with NULL and leave out the program's name. ERROR_FILE when it cannot be run. */
NODISCARD bool ask(Answer *answer, const char *name, const char *const *arguments, Error *error);
/* What it refused with, as this program's own error. Always returns false. */
bool answer_refused(const Answer *answer, Error *error);
/* Its standard output as JSON, a new reference; ERROR_FILE when it is none, its own error when it refused. */
NODISCARD bool ask_json(json_t **value, const char *name, const char *const *arguments, Error *error);
void answer_free(Answer *answer);

#endif
