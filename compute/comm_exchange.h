/* What collectives are made of: each rank sends some bytes to each other one and gets some. comm_exchange.c says what and waits for it,
 * names who is waited for too long, and ends the run; a transport moves the bytes: MPI (comm_mpi.c, or comm_without_mpi.c where there
 * is none) or sockets (comm_tcp.c). */
#ifndef COMPUTE_COMM_EXCHANGE_H
#define COMPUTE_COMM_EXCHANGE_H

#include "compute/comm.h"

#include <pthread.h>
#include <stddef.h>

enum { COMM_HOST = 128 };

/* To and from one rank. */
typedef struct CommPart {
  const unsigned char *send;
  unsigned char *receive;
  size_t sent, received; /* bytes */
} CommPart;

/* One that is on its way. */
typedef struct CommMessage {
  int peer;
  size_t bytes;
} CommMessage;

/* How messages get to other ranks. `what` names the collective. Faults of the transport do not come back: they end the run
 * (exchange_abort). One thread at a time, that which has world->lock. */
typedef struct CommTransport {
  /* Starts the next message of each part, takes its bytes off the part, and notes it (exchange_note): what is received first, then what
   * is sent. None is left to start when it notes nothing. */
  void (*start)(const Comm *comm, const char *what);
  /* Moves bytes; whether all messages that were started are done. */
  bool (*test)(const Comm *comm, const char *what);
  bool (*is_done)(const Comm *comm, int message);
  /* Waits for a moment, without the lock, while nothing moves. */
  void (*pause)(const Comm *comm);
  int polls; /* so many tests before the first pause */
  /* Gives another rank, which may have found the same, time to end this one; for ranks above 0, and without the lock. */
  void (*defer)(const Comm *comm);
  /* Ends the others, and this process. */
  void (*end)(const Comm *comm, ErrorCode code, const char *message);
  void (*close)(Comm *comm);
  size_t overhead; /* bytes that its library holds in a rank beside the heap: measured (docs/ranks.md) */
} CommTransport;

typedef struct CommWorld {
  CommPart *parts; /* [size]; all zero between collectives */
  int64_t *even;   /* [size + 1]: slices of values that have none of their own */
  unsigned char *workspace;
  int64_t collectives; /* begun so far */
  int64_t sent;        /* bytes */
  double timeout;
  bool threads; /* a thread may take turns with the one that joined */
  pthread_mutex_t
      lock; /* of whoever uses the transport: the thread of comm_queue.c may when another one gives up; recursive */
  char (*hosts)[COMM_HOST]; /* [size] */
  CommMessage *messages;    /* [2 * size]: of which the first `receives` are received */
  int receives, count;
  const CommTransport *transport; /* NULL: not joined */
  void *link;                     /* its own */
  struct CommQueue *queue;        /* comm_queue.c; NULL before the first collective beside the computing */
  struct CommCards *cards;        /* compute/cuda/ranks.cu; NULL where tensors lie in the host's memory */
} CommWorld;

/* Each joins the ranks of the launcher: fills rank and size of comm, hosts, transport and link. */
NODISCARD bool comm_mpi_open(Comm *comm, const CommLaunch *launch, Error *error);
NODISCARD bool comm_tcp_open(Comm *comm, const CommLaunch *launch, const CommJoin *join, Error *error);

/* That of the transport, for a plan; 0 where there is one rank, or others are imagined. */
size_t exchange_overhead(const Comm *comm);

void exchange_note(CommWorld *world, int peer, size_t bytes, bool received);

/* Joins, and finds out who is where. */
NODISCARD bool exchange_open(Comm *comm, const CommLaunch *launch, const CommJoin *join, Error *error);
void exchange_close(Comm *comm);
/* Carries out world->parts, own part included, and clears them. `what` names the collective. */
void exchange_run(const Comm *comm, const char *what);
NORETURN void exchange_abort(const Comm *comm, ErrorCode code, const char *format, ...) PRINTF_LIKE(3, 4);

/* -- beside the computing (comm_queue.c) -- */

/* One that was started: what comm_carry_out is given. */
typedef enum CommKind { COMM_ALL_REDUCE, COMM_REDUCE_SCATTER, COMM_ALL_GATHER, COMM_BROADCAST } CommKind;
typedef struct CommJob {
  CommKind kind;
  CommReduction reduction;
  DType dtype;
  void *values;
  const void *own;   /* of COMM_ALL_GATHER */
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
