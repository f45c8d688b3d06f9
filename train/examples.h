/* What a run learns from, shown before it does: the first examples exactly as the model reads them. */
#ifndef TRAIN_EXAMPLES_H
#define TRAIN_EXAMPLES_H

#include "train/data.h"
#include "train/runlog.h"

/* Says the first example of the data set, called `name` ("data.train"), long ones without their middle. */
NODISCARD bool examples_say(const char *name, const Dataset *dataset, const TextTools *text, Log *log,
                            Error *error);

/* Stores the first few in the run log, whole. */
NODISCARD bool examples_keep(const char *name, const Dataset *dataset, const TextTools *text, RunLog *log,
                             Error *error);

#endif
