/* Putting a finished directory in its place. */
#ifndef TRAIN_REPLACE_H
#define TRAIN_REPLACE_H

#include "base/error.h"

/* Syncs `ready` and renames it to `place`, in exchange for what may stand there, which is then removed. Both lie
 * in the same directory. ERROR_FILE. */
NODISCARD bool directory_replace(const char *ready, const char *place, Error *error);

#endif
