/* For datasets/, train/ and tools: data that come through a pipe, kept in a file.
 *
 * A data set is read more than once: for its digest, for its examples, again when its cache was damaged. A pipe gives its content
 * once, so it is written as it comes to DIRECTORY/stdin-DIGEST (pipe-DIGEST), and read from there. The same content has the same
 * name: a run that is resumed with the same pipe finds its tokenised data. */
#ifndef DATASETS_STREAM_H
#define DATASETS_STREAM_H

#include "base/error.h"

#include <stdint.h>

/* "-", and any path that is neither a regular file nor a directory. */
bool is_stream(const char *path);

/* Reads it to its end. A new path in *file, the caller's; *bytes is what came. ERROR_FILE, also for a terminal and for devices. */
NODISCARD bool stream_keep(const char *path, const char *directory, char **file, uint64_t *bytes,
                           Error *error);

#endif
