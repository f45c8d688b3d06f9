/* The cores that this process may use, and each rank's share of them. */
#ifndef BASE_CORES_H
#define BASE_CORES_H

#include "base/error.h"

#include <sched.h>

typedef struct Cores {
  int cpus
      [CPU_SETSIZE]; /* numbers of the system; those of one node of memory, and of one core, are neighbours */
  int count;
  double quota; /* cores whose time the control group allows; INFINITY without a limit */
} Cores;

/* root: "" or, in tests, where a copy of /proc and /sys lies. */
NODISCARD bool cores_read(Cores *cores, const char *root, Error *error);
/* Threads of each of `ranks`: its share of cores or of their time, at least 1. */
int cores_threads(const Cores *cores, int ranks);
/* The cores of one rank of no more ranks than cores. */
void cores_share(const Cores *cores, int ranks, int rank, cpu_set_t *out);
/* "0-3,8", as taskset has it. */
enum { CORES_TEXT = 4096 };
const char *cores_text(const cpu_set_t *set, char out[CORES_TEXT]);

#endif
