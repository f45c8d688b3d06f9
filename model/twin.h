/* Whether a directory that bitsandbytes has quantised was made from another one, in 16 or 32 bits. */
#ifndef MODEL_TWIN_H
#define MODEL_TWIN_H

#include "base/error.h"

/* How the weights in a directory are stored: *kind is that of its quantised ones, static ("NF4", "INT8", "Q4_K"), NULL where none is. */
NODISCARD bool weights_kind(const char *directory, const char **kind, Error *error);

/* *twins: one of the two is quantised by bitsandbytes, the other is not, and quantising that one gives the codes of the first: of each tensor
 * up to 64 blocks (int8: rows) are tried, and of the codes 1 of 50 (int8: of 12) may be another, since codes that were made of a copy in bf16
 * of 32 bits differ so. What is not quantised has to be equal but for such rounding. Names may lack the base prefix in one of them. ERROR_MODEL and
 * ERROR_FILE as on loading. */
NODISCARD bool weights_are_twins(const char *a, const char *b, bool *twins, Error *error);

#endif
