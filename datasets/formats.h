/* Inside datasets/ only: which keys a format has, and which formats the keys of a record fit.
 *
 * A record fits a format when it has all keys that the format needs. A format whose needed keys are all read by another one that fits,
 * and that needs more, is no reading of its own: {"prompt", "completion"} is no list of prompts. */
#ifndef DATASETS_FORMATS_H
#define DATASETS_FORMATS_H

#include "datasets/record.h"

enum { FORMAT_MOST_KEYS = 48 };

/* Whether the format reads the key of a record; FORMAT_AUTO: whether any does. */
bool format_has_key(DatasetFormat format, const char *key);
/* All of them (FORMAT_AUTO: those of all formats), each once; returns how many. */
size_t format_all_keys(DatasetFormat format, const char *keys[FORMAT_MOST_KEYS]);

#endif
