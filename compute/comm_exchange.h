/* What collectives are made of: each rank sends some bytes to each other one and gets some. With MPI in comm_mpi.c; a
 * build without it has comm_without_mpi.c, which never opens a world. */
#ifndef COMPUTE_COMM_EXCHANGE_H
#define COMPUTE_COMM_EXCHANGE_H

#include "compute/comm.h"

#include <stddef.h>

/* To and from one rank. */
typedef struct CommPart {
  const unsigned char *send;
  unsigned char *receive;
  size_t sent, received; /* bytes */
} CommPart;

typedef struct CommWorld {
  CommPart *parts; /* [size]; all zero between collectives */
  unsigned char *workspace;
  int64_t collectives; /* begun so far */
  double timeout;
  struct CommMpi *mpi;
} CommWorld;

/* MPI and who is there; fills rank, size and world->mpi. */
NODISCARD bool exchange_open(Comm *comm, const CommLaunch *launch, Error *error);
void exchange_close(Comm *comm);
/* Carries out world->parts, own part included, and clears them. `what` names the collective. */
void exchange_run(const Comm *comm, const char *what);
NORETURN void exchange_abort(const Comm *comm, ErrorCode code, const char *message);

#endif
