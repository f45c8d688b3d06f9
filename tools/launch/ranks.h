/* Ranks of this machine: started together, watched, ended together. They find each other by the variables that compute/comm.h
 * reads and talk over sockets of the loopback. */
#ifndef TOOLS_LAUNCH_RANKS_H
#define TOOLS_LAUNCH_RANKS_H

#include "base/cores.h"

#include <stdio.h>

typedef struct RankPlan {
  int ranks;
  int threads; /* of each; 0: as the environment has it */
  bool bound;  /* each to its share of the cores */
  const Cores *cores;
  char **command; /* ends with NULL; the first word is the path of the program */
} RankPlan;

/* " WORD WORD ...", quoted for a shell. */
void command_print(char *const *command, FILE *out);
/* Prints, as a script for a shell, what ranks_run does. */
void ranks_print(const RankPlan *plan, FILE *out);
/* Starts the ranks and waits for all. Signals that stop a run are passed on to them, except those from the terminal, which they have
 * already. The code is the one with which a rank failed first, 128 + signal for one that was killed, or 0; the others are then
 * given some seconds and killed. When nobody else can have said why, it is said on standard error. */
NODISCARD bool ranks_run(const RankPlan *plan, int *code, Error *error);

#endif
