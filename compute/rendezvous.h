/* Where ranks that no launcher of MPI has connected find each other: rank 0 listens at MASTER_ADDR:MASTER_PORT, the others come and say
 * who they are, and each goes on with a connection to rank 0, a key that the run alone knows, and the table of who is where.
 * What is said over these connections next is the caller's affair: the ports of comm_tcp.c, an id of NCCL.
 *
 * What cannot be a run is refused on every rank with the same words: another number of ranks, two with one number, another
 * version of Drover. Waiting is bounded by CommJoin and ends with a signal. Who comes without knowing the protocol is sent
 * away. There is no secret: the network is trusted, as MPI, NCCL and torchrun do. */
#ifndef COMPUTE_RENDEZVOUS_H
#define COMPUTE_RENDEZVOUS_H

#include "compute/comm.h"
#include "compute/socket.h"

enum { RENDEZVOUS_HOST = 64 };

typedef struct RendezvousRank {
  char host[RENDEZVOUS_HOST];
  SocketAddress
      address; /* under which this rank reaches it; its port is the caller's affair. None for this rank */
} RendezvousRank;

typedef struct Rendezvous {
  int rank, size;
  uint64_t key;          /* not 0 */
  bool local;            /* all are on the host of rank 0 */
  RendezvousRank *ranks; /* [size] */
  int *
      connections; /* [size]: of rank 0 to each other one, of another to rank 0; -1. Who takes one over puts -1 there */
} Rendezvous;

/* Meets the other ranks of launch->size > 1. ERROR_USAGE for what was started wrongly, ERROR_DEVICE where somebody does not come or cannot
 * be reached, or the error of the signal that came. */
NODISCARD bool rendezvous_open(Rendezvous *rendezvous, const CommLaunch *launch, const CommJoin *join,
                               Error *error);
/* Of a rank above 0: listens, on a free port, where the other ranks look for this one: a descriptor, or -1. */
int rendezvous_listen(const Rendezvous *rendezvous, Error *error);
/* all [size][bytes] are the `own` bytes of every rank. A rank that ends is an error on the others. */
NODISCARD bool rendezvous_gather(Rendezvous *rendezvous, const void *own, void *all, size_t bytes,
                                 double seconds, Error *error);
/* Closes the connections that are still there. */
void rendezvous_close(Rendezvous *rendezvous);

#endif
