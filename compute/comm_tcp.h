/* The transport over sockets: a connection between each two ranks, over which frames go in the order of collectives.
 *
 * A frame is a header and the bytes that one rank has for another in one collective. All ranks call the same collectives in the same
 * order, so that a frame is always the one that is waited for, or the ranks went different ways. A rank that ends sends a last
 * frame with its exit code and its words; one that ends without it has closed its connection. */
#ifndef COMPUTE_COMM_TCP_H
#define COMPUTE_COMM_TCP_H

#include "compute/comm_exchange.h"
#include "compute/rendezvous.h"

enum { TCP_DATA = 0x64726f76, TCP_END = 0x656e6421 };

typedef struct TcpHeader {
  uint32_t kind;
  uint32_t code;  /* of TCP_END */
  int64_t number; /* of the collective */
  uint64_t bytes; /* that follow; of TCP_END the text */
} TcpHeader;

/* One direction of a connection in the collective at hand. */
typedef struct TcpStream {
  TcpHeader header;
  size_t header_left; /* bytes */
  size_t left;        /* of the frame */
  bool busy;          /* not done */
} TcpStream;

typedef struct TcpPeer {
  int fd;     /* -1: this rank */
  int broken; /* errno of a connection that takes nothing more, or 0 */
  TcpStream in, out;
  unsigned char *to;
  const unsigned char *from;
} TcpPeer;

typedef struct Tcp {
  TcpPeer *peers;        /* [size] */
  struct pollfd *polled; /* [size] */
  bool watched;          /* CommLaunch */
  double timeout;        /* that the connections have */
} Tcp;

/* Connects each rank with each other one. */
NODISCARD bool tcp_connect_all(Tcp *tcp, Rendezvous *rendezvous, const CommJoin *join, Error *error);

/* -- the end of a rank (comm_tcp_end.c) -- */

/* Looks whether another rank has ended; then ends this one in the same way, and says so once a host. Of connections on which a frame is
 * awaited only what comes next is looked at. */
void tcp_look_for_ends(const Comm *comm);
/* The same for a rank whose last frame has this header. */
NORETURN void tcp_follow(const Comm *comm, int origin, const TcpHeader *header);
/* The connection to that rank broke, which is errno: ends this rank. */
NORETURN void tcp_lost(const Comm *comm, int peer, const char *what);
void tcp_defer(const Comm *comm);
void tcp_end(const Comm *comm, ErrorCode code, const char *message);

#endif
