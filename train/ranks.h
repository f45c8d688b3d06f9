/* What the ranks of a run (compute/comm.h) settle with each other about settings, data and messages. With one rank all of it is done
 * already. */
#ifndef TRAIN_RANKS_H
#define TRAIN_RANKS_H

#include "base/option.h"
#include "compute/comm.h"
#include "datasets/dataset.h"

/* Of the resolved configuration (JSON) of each rank: without a launcher each is started by a command of its own, and ranks with other
 * options would make other models of one run. ERROR_USAGE on the rank that differs from rank 0, with the option and both values;
 * threads and memory are each rank's own affair. */
NODISCARD bool ranks_check_settings(const Comm *comm, const char *settings, Error *error);

/* What comes through a pipe comes once: ERROR_USAGE for one among the sources `name` ("data.train") with many ranks. */
NODISCARD bool ranks_check_sources(const char *name, const OptionSources *sources, const Comm *comm,
                                   Error *error);

/* Opens data on the first rank, which puts what it tokenises into the cache, then on the others, which find it there. */
typedef bool RanksOpen(void *context, Error *error);
NODISCARD bool ranks_open_data(const Comm *comm, RanksOpen *open, void *context, Error *error);
/* ERROR_DATA unless all ranks have read the same; a zeroed data set is one too. */
NODISCARD bool ranks_check_data(const Comm *comm, const Dataset *data, Error *error);

/* Whether it is well with all ranks; else all have the error of the first with which it is not. */
NODISCARD bool ranks_agree(const Comm *comm, bool ok, Error *error);
/* The largest of the ranks' numbers. */
int ranks_most(const Comm *comm, int number);
/* Of many ranks the text of the first that has one, on all: text[size] or "". */
NODISCARD bool ranks_first_text(const Comm *comm, char *text, size_t size, Error *error);

#endif
