/* Inside datasets/ only: finding or making the cache of one source. */
#ifndef DATASETS_BUILD_H
#define DATASETS_BUILD_H

#include "datasets/dataset.h"

/* Fills format, counts, map and offsets of a source whose path is set. *reused: the cache was there. */
NODISCARD bool source_open(DatasetSource *source, const DatasetOptions *options, bool *reused, Error *error);

#endif
