/* What ranks say when they meet (rendezvous.c, and rendezvous_desk.c for rank 0). The first two members of a hello and the whole of a
 * verdict are the same in every version, so that each can tell the other that they do not fit. */
#ifndef COMPUTE_RENDEZVOUS_PROTOCOL_H
#define COMPUTE_RENDEZVOUS_PROTOCOL_H

#include "compute/rendezvous.h"

enum {
  RENDEZVOUS_PROTOCOL = 1,
  RENDEZVOUS_QUIET = 5 /* s, until who waits says so */
};

extern const char rendezvous_magic[8];

/* From each rank to rank 0. */
typedef struct RendezvousHello {
  char magic[8];
  uint32_t protocol;
  uint32_t size, rank, process;
  char version[32], host[RENDEZVOUS_HOST];
} RendezvousHello;

/* From rank 0 to each, when all are there or when it is known that they cannot be. */
typedef struct RendezvousVerdict {
  char magic[8];
  uint32_t code, unused; /* an ErrorCode */
  uint64_t key;
  char text[1000]; /* of the error */
} RendezvousVerdict;

/* One for each rank after a verdict without an error. */
typedef struct RendezvousEntry {
  char host[RENDEZVOUS_HOST];
  SocketAddress
      address; /* as rank 0 sees it; none: it is on the host of rank 0, and is found where rank 0 is found */
} RendezvousEntry;

RendezvousHello rendezvous_hello(const Rendezvous *rendezvous);
/* Whether a signal came, which is then the error. */
bool rendezvous_stopped(const CommJoin *join, Error *error);
/* Of rank 0: receives the others. */
NODISCARD bool rendezvous_receive(Rendezvous *rendezvous, const CommLaunch *launch, const CommJoin *join,
                                  Error *error);

#endif
