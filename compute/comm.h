/* Collectives over the ranks of a run: processes with one memory each, which a launcher has started, or somebody by variables of the
 * environment.
 *
 * Without either there is one rank, every collective is the identity, and MPI is never initialised. Callers are
 * written for many: all ranks call the same collectives in the same order with the same counts.
 *
 * Order of sums. MPI does not promise that a reduction of the same values gives the same bits twice: MPI_Reduce may take
 * another algorithm for another length or another placement of the ranks (MPI 3.1, 5.9.1: it is "strongly recommended",
 * and no more). So none of MPI's reductions is used. The values themselves are exchanged, and each element is summed
 * where it belongs, as ((x0 + x1) + x2) + ... in the order of ranks and in its own type: the same values on the same
 * number of ranks give the same bits on every rank, whatever the length, the nodes or the library. Another number of
 * ranks is another order.
 *
 * Memory is the host's (where tensors of the CPU backend lie too). Each rank sends to each other one directly, which is
 * meant for tens of ranks; large arrays go in pieces through a buffer of COMM_PIECE bytes.
 *
 * A collective does not return an error, for there is nothing to go on with: when a rank that is waited for has sent
 * nothing for the timeout, or MPI or a connection reports a fault, the rank that notices says on standard error which one, on which host,
 * in which collective, and ends all ranks with exit code 7 (ERROR_DEVICE). Where the launcher sees that a process is
 * dead, it ends the others by itself, sooner: drover launch and mpirun name rank and signal and exit with 128 + signal. */
#ifndef COMPUTE_COMM_H
#define COMPUTE_COMM_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/log.h"

#include <stdint.h>

enum { COMM_PIECE = 4 << 20 };

/* What the environment says of who started this process. */
typedef struct CommLaunch {
  int rank, size;       /* 0 of 1 where nobody is found */
  int local_rank;       /* among those of its host; -1: not said */
  const char *launcher; /* "mpirun", static; NULL: none */
  const char *variable; /* the one that gives the size, static */
  bool mpi;             /* its ranks find each other by MPI */
  const char
      *address; /* where rank 0 is to be found otherwise (MASTER_ADDR), of the environment; NULL: not said */
  int port;
  bool watched; /* drover launch ends the others when one ends, and says so */
  bool speaks;  /* says an error that all find: rank 0, or the first of a host with a terminal of its own */
} CommLaunch;

/* Reads the variables of mpirun, of srun with and without --mpi=pmix, of MPICH's mpiexec, and those that torchrun sets and anybody can:
 * RANK and WORLD_SIZE, with MASTER_ADDR and MASTER_PORT where rank 0 is to be found, and perhaps LOCAL_RANK. ERROR_USAGE for values
 * that are no numbers, do not fit each other, or are there by halves. */
NODISCARD bool comm_launch(CommLaunch *launch, Error *error);
/* For a program that has one rank: ERROR_USAGE, naming both, when a launcher asks for more. */
NODISCARD bool comm_one_rank(const CommLaunch *launch, const char *program, Error *error);

typedef struct Comm {
  int rank;
  int size;
  int neighbours;          /* ranks on this host, this one included */
  int sharing;             /* of these, the ones that may run on the same cores */
  struct CommWorld *world; /* NULL: one rank, which needs nobody; or others are imagined */
} Comm;

Comm comm_single(void);
/* The first of so many ranks of this host, of which the others are not there: for a plan of what one of them needs. Collectives are the
 * identity. */
Comm comm_imagined(int size);
/* Whether this build has MPI. */
bool comm_has_mpi(void);

/* How ranks are waited for. */
typedef struct CommJoin {
  double seconds;       /* for others to come, and later in a collective */
  int (*stopped)(void); /* the signal that ends the waiting for others to come, 0: none came; may be NULL */
  Log *log;             /* who is waited for; NULL: says nothing */
} CommJoin;

/* Joins the other ranks, once in a process; comm_single where there is one. Through MPI where the launcher has it and this build
 * too, otherwise over sockets, where the environment says where rank 0 is (compute/rendezvous.h). ERROR_USAGE where neither can be or the
 * ranks do not belong together, ERROR_DEVICE where they do not find each other. */
NODISCARD bool comm_open(Comm *comm, const CommLaunch *launch, const CommJoin *join, Error *error);
/* Waits for all ranks, and leaves. */
void comm_close(Comm *comm);
/* A rank that cannot go on ends all: says the error with rank and host, and exits with its code. What ranks find wrong
 * together (a configuration) only one of them says: those above 0 first wait two seconds to be ended by rank 0. */
NORETURN void comm_abandon(const Comm *comm, const Error *error);

typedef enum CommReduction { COMM_SUM, COMM_MAX } CommReduction; /* the maximum with a NaN is NaN */

/* Element by element over all ranks, in place, the result on every rank. DTYPE_F32, DTYPE_F64, DTYPE_I64. */
void comm_all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values, int64_t count);
/* values is [size][count]; out [count] is the reduction of row `rank`, and may be that row of values. */
void comm_reduce_scatter(const Comm *comm, CommReduction reduction, DType dtype, const void *values,
                         void *out, int64_t count);
/* all is [size][bytes]; own is this rank's row, and may lie there. */
void comm_all_gather(const Comm *comm, const void *own, void *all, size_t bytes);
/* From rank `root` to all. */
void comm_broadcast(const Comm *comm, int root, void *values, size_t bytes);
/* Sends sent[r] bytes to each rank r and receives received[r] from it; the parts lie end to end in the order of ranks.
 * Both sides know the sizes: where they do not, they first exchange 8 bytes each. */
void comm_all_to_all(const Comm *comm, const void *send, const int64_t *sent, void *receive,
                     const int64_t *received);
void comm_barrier(const Comm *comm);
/* Whether all ranks have the same value. */
NODISCARD bool comm_agree(const Comm *comm, int64_t value);

/* Sums `count` host doubles over all ranks, in rank order, in place. */
void comm_sum(const Comm *comm, double *values, int64_t count);

/* -- beside the computing ---------------------------------------------------------------------------------
 *
 * comm_start_... begins a collective, which goes on while the caller computes; comm_wait returns when it is done, and so
 * are those that were begun before it. A thread of the world's own carries them out in the order of calls, and the
 * collectives above wait until it has nothing left to do. From start to wait nobody may touch the values, and `at` must
 * stay. The timeout is that of each collective when its turn has come. Bits are those of the collectives above. Where the
 * MPI serves one thread only, comm_start_... returns when all is done.
 *
 * at [size+1]: the slice of rank r is elements at[r] to at[r+1]-1 of the values, the first at 0. Slices need not be equal, and
 * may be empty. */
typedef struct CommTicket {
  int64_t number; /* 0: of nothing, which is not waited for */
} CommTicket;

CommTicket comm_start_all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values,
                                 int64_t count);
/* This rank's slice becomes that of the reduction; the others are as they were. */
CommTicket comm_start_reduce_scatter(const Comm *comm, CommReduction reduction, DType dtype, void *values,
                                     const int64_t *at);
/* Every slice becomes that of its rank: this one's is `own`, which may lie there. Elements of `size` bytes. */
CommTicket comm_start_all_gather(const Comm *comm, const void *own, void *values, size_t size,
                                 const int64_t *at);
CommTicket comm_start_broadcast(const Comm *comm, int root, void *values, size_t bytes);
void comm_wait(const Comm *comm, CommTicket ticket);
/* Bytes that this rank has sent to others so far. */
int64_t comm_sent(const Comm *comm);

#endif
