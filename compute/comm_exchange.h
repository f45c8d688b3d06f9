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
  int64_t *even;   /* [size + 1]: slices of values that have none of their own */
  unsigned char *workspace;
  int64_t collectives; /* begun so far */
  int64_t sent;        /* bytes */
  double timeout;
  bool threads; /* a thread may take turns with the one that joined */
  struct CommMpi *mpi;
  struct CommQueue *queue; /* comm_queue.c; NULL before the first collective beside the computing */
} CommWorld;

/* MPI and who is there; fills rank, size and world->mpi. */
NODISCARD bool exchange_open(Comm *comm, const CommLaunch *launch, Error *error);
void exchange_close(Comm *comm);
/* Carries out world->parts, own part included, and clears them. `what` names the collective. */
void exchange_run(const Comm *comm, const char *what);
NORETURN void exchange_abort(const Comm *comm, ErrorCode code, const char *message);

/* -- beside the computing (comm_queue.c) -- */

/* One that was started: what comm_carry_out is given. */
typedef enum CommKind { COMM_ALL_REDUCE, COMM_REDUCE_SCATTER, COMM_ALL_GATHER, COMM_BROADCAST } CommKind;
typedef struct CommJob {
  CommKind kind;
  CommReduction reduction;
  DType dtype;
  void *values;
  size_t size;       /* bytes of an element */
  int64_t count;     /* elements, where there are no slices */
  const int64_t *at; /* slices, or NULL */
  int root;
} CommJob;

/* Carries it out, here and now. */
void comm_carry_out(const Comm *comm, const CommJob *job);
/* Hands it to the thread, which is started for the first one; waits where too many are on their way. */
CommTicket queue_start(const Comm *comm, const CommJob *job);
void queue_wait(const Comm *comm, CommTicket ticket);
/* Returns when nothing is on its way. */
void queue_drain(const Comm *comm);
/* Ends the thread, which has nothing left to do. */
void queue_close(CommWorld *world);

#endif
