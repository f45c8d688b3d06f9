/* Ranks of this machine by Open MPI's mpirun. */
#ifndef TOOLS_LAUNCH_MPIRUN_H
#define TOOLS_LAUNCH_MPIRUN_H

#include "tools/launch/ranks.h"

/* Becomes mpirun, which starts and ends the ranks in its own way, and so does not return; or prints the command. */
NODISCARD bool mpirun_run(const RankPlan *plan, bool print, Error *error);

#endif
