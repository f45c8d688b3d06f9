/* How a rank tells the others that it ends, and what it does when it hears that of another, or loses it. */
#include "base/log.h"
#include "compute/comm_tcp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1200, SKIPPED = 1 << 16, WATCHED = 3 /* s */ };

static TcpPeer *peers_of(const Comm *comm) {
  return ((Tcp *)comm->world->link)->peers;
}

static bool on_host_of(const Comm *comm, int a, int b) {
  return strcmp(comm->world->hosts[a], comm->world->hosts[b]) == 0;
}

/* Whether this is the rank that says on its host what another host's has said there. */
static bool speaks(const Comm *comm, int origin) {
  for (int r = 0; r < comm->size; r++) {
    if (on_host_of(comm, r, comm->rank) && (r < comm->rank || r == origin)) return false;
  }
  return true;
}

void tcp_follow(const Comm *comm, int origin, const TcpHeader *header) {
  char text[TEXT] = "";
  const size_t bytes = header->bytes < sizeof text ? (size_t)header->bytes : sizeof text - 1;
  if (!socket_read(peers_of(comm)[origin].fd, text, bytes, time_monotonic() + 1)) text[0] = '\0';
  if (speaks(comm, origin)) {
    Log log;
    log_init(&log, stderr, LOG_ERROR);
    log_error(&log, "rank %d on %s: %s; rank %d on %s ends with it", origin, comm->world->hosts[origin], text,
              comm->rank, comm->world->hosts[comm->rank]);
  }
  fflush(stderr);
  _exit((int)header->code);
}

/* What comes next from a rank, when it stands between two frames. */
static void look_at(const Comm *comm, int r) {
  TcpPeer *peer = &peers_of(comm)[r];
  TcpHeader header;
  if (peer->in.busy && peer->in.header_left < sizeof header) return;
  if (recv(peer->fd, &header, sizeof header, MSG_PEEK) != sizeof header || header.kind != TCP_END) return;
  if (recv(peer->fd, &header, sizeof header, 0) == sizeof header) tcp_follow(comm, r, &header);
}

void tcp_look_for_ends(const Comm *comm) {
  for (int r = 0; r < comm->size; r++) {
    if (r != comm->rank) look_at(comm, r);
  }
}

/* Reads on until the last frame of a rank, if that has come: what stands before it nobody needs any more. */
static void skip_to_end(const Comm *comm, int r) {
  static unsigned char rest[SKIPPED];
  TcpPeer *peer = &peers_of(comm)[r];
  TcpStream *in = &peer->in;
  for (ssize_t moved = 1; moved > 0;) {
    if (in->header_left == 0 && in->left == 0) in->header_left = sizeof in->header;
    if (in->header_left > 0) {
      moved = recv(peer->fd, (unsigned char *)(&in->header + 1) - in->header_left, in->header_left, 0);
      if (moved > 0) in->header_left -= (size_t)moved;
      if (in->header_left > 0) continue;
      if (in->header.kind == TCP_END) tcp_follow(comm, r, &in->header);
      in->left = in->header.bytes;
    } else {
      moved = recv(peer->fd, rest, in->left < SKIPPED ? in->left : SKIPPED, 0);
      if (moved > 0) in->left -= (size_t)moved;
    }
  }
}

static void skip_to_ends(const Comm *comm) {
  for (int r = 0; r < comm->size; r++) {
    if (r != comm->rank) skip_to_end(comm, r);
  }
}

/* The lowest rank that has found something speaks first. Nothing else is done over the connections from now on. */
void tcp_defer(const Comm *comm) {
  const double until = time_monotonic() + 1 + 0.5 * (comm->rank < 8 ? comm->rank : 8);
  pthread_mutex_lock(&comm->world->lock);
  while (time_monotonic() < until) {
    skip_to_ends(comm);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  }
}

void tcp_lost(const Comm *comm, int r, const char *what) {
  const int number = errno;
  const CommWorld *world = comm->world;
  skip_to_ends(comm); /* its last words may still lie there */
  if (((Tcp *)world->link)->watched)
    nanosleep(&(struct timespec){.tv_sec = WATCHED}, NULL); /* and is ended */
  exchange_abort(
      comm, ERROR_DEVICE, "in collective %lld (%s) rank %d on %s is lost: %s", (long long)world->collectives,
      what, r, world->hosts[r],
      number == 0 || number == ECONNRESET || number == EPIPE ? "its process has ended" : strerror(number));
}

/* The frame that is on its way must end before another one begins. */
static bool finish_frame(TcpPeer *peer, double deadline) {
  TcpStream *out = &peer->out;
  const unsigned char *header = (const unsigned char *)&out->header + sizeof out->header - out->header_left;
  if (!out->busy || out->header_left == sizeof out->header) return true;
  return socket_write(peer->fd, header, out->header_left, deadline) &&
         socket_write(peer->fd, peer->from, out->left, deadline);
}

/* Sends the last words and waits until they are taken: closing a connection with bytes that nobody has read could lose them. */
void tcp_end(const Comm *comm, ErrorCode code, const char *message) {
  const TcpHeader header = {.kind = TCP_END, .code = (uint32_t)code, .bytes = strlen(message)};
  TcpPeer *peers = peers_of(comm);
  const double deadline = time_monotonic() + 1;
  for (int r = 0; r < comm->size; r++) {
    if (r == comm->rank) continue;
    if (finish_frame(&peers[r], deadline) && socket_write(peers[r].fd, &header, sizeof header, deadline) &&
        socket_write(peers[r].fd, message, header.bytes, deadline)) {
      shutdown(peers[r].fd, SHUT_WR);
    } else {
      close(peers[r].fd);
      peers[r].fd = -1;
    }
  }
  static unsigned char rest[1 << 16];
  for (int r = 0; r < comm->size; r++) {
    while (r != comm->rank && peers[r].fd >= 0 && socket_wait(peers[r].fd, false, deadline) &&
           recv(peers[r].fd, rest, sizeof rest, 0) > 0) {
    }
  }
}
