/* The units of all records in a file, to be read again by number.
 *
 * The file lies beside `place` as a draft (base/draft.h) and is removed by spool_close, or after a kill by the next draft there. Its
 * size is 4 bytes per unit; in memory there are 8 bytes per record. */
#ifndef TOOLS_DATA_SPOOL_H
#define TOOLS_DATA_SPOOL_H

#include "base/file.h"

typedef struct Spool {
  Draft draft;
  FILE *stream;
  uint64_t *ends; /* units up to the end of each record */
  size_t count, capacity;
  FileMap map;
} Spool;

NODISCARD bool spool_open(Spool *spool, const char *place, Error *error);
NODISCARD bool spool_add(Spool *spool, const uint32_t *units, size_t count, Error *error);
/* Ends the adding; then records can be read. */
NODISCARD bool spool_finish(Spool *spool, Error *error);
const uint32_t *spool_units(const Spool *spool, size_t record, size_t *count);
void spool_close(Spool *spool); /* fine for a zeroed one */

#endif
