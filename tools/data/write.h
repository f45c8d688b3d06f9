/* The second reading: the lines of the files, as they were, to where they belong. */
#ifndef TOOLS_DATA_WRITE_H
#define TOOLS_DATA_WRITE_H

#include "tools/data/survey.h"

/* Writes config.out, config.eval_out and config.removed, those of them that are asked for. Each is there when all are whole, or
 * not at all. A removed record becomes a line {"reason", "file", "line", "like": {"file", "line"}?, "record"}. ERROR_DATA for a file
 * that has changed since it was surveyed. */
NODISCARD bool write_records(const Survey *survey, Error *error);

#endif
