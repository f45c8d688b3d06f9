/* For datasets/, train/ and tools: from what the user names to files that can be read again and again.
 *
 * A directory stands for its files named *.jsonl or *.json, also with .gz or .zst behind, in the order of their names; each gets
 * the directory's weight, which is a number of passes and so means the same. Its other files are reported as passed over, and
 * subdirectories too. A pipe, or standard input ("-"), is kept in the cache directory (datasets/stream.h). Files stay what they
 * are, so that what was resolved may be resolved again. */
#ifndef DATASETS_SOURCES_H
#define DATASETS_SOURCES_H

#include "base/log.h"
#include "base/option.h"

/* `name` is for messages ("data.train"), log may be NULL. ERROR_FILE for what is not there, with what was probably meant, a directory without data and an empty pipe. */
NODISCARD bool sources_resolve(OptionSources *out, const OptionSources *asked, const char *name,
                               const char *cache_dir, Log *log, Error *error);
void sources_free(OptionSources *sources); /* of what was resolved; fine for a zeroed one */

#endif
