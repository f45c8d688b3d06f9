#include "compute/comm_tcp.h"

#include "base/memory.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  POLLS = 50,     /* some microseconds each */
  MOST = 1 << 20, /* bytes of one call, so that all connections have their turn */
  MOMENT = 10,    /* ms of a pause */
  LATER = 5       /* s after the timeout of the collective, which names more */
};

static Tcp *tcp_of(const Comm *comm) {
  return comm->world->link;
}

/* -- messages ------------------------------------------------------------------------------------------- */

static void set_timeouts(const Comm *comm) {
  Tcp *tcp = tcp_of(comm);
  if (tcp->timeout == comm->world->timeout) return;
  tcp->timeout = comm->world->timeout;
  for (int r = 0; r < comm->size; r++) {
    if (r != comm->rank) socket_set_timeout(tcp->peers[r].fd, tcp->timeout + LATER);
  }
}

static TcpStream stream(const Comm *comm, size_t bytes) {
  const TcpHeader header = {.kind = TCP_DATA, .number = comm->world->collectives, .bytes = bytes};
  return (TcpStream){.header = header, .header_left = sizeof header, .left = bytes, .busy = true};
}

/* A part is one frame. */
static void tcp_start(const Comm *comm, const char *what) {
  (void)what;
  CommWorld *world = comm->world;
  set_timeouts(comm);
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + comm->size - step) % comm->size;
    CommPart *part = &world->parts[r];
    if (part->received == 0) continue;
    TcpPeer *peer = &tcp_of(comm)->peers[r];
    exchange_note(world, r, part->received, true);
    peer->in = stream(comm, part->received);
    peer->to = part->receive;
    part->received = 0;
  }
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + step) % comm->size;
    CommPart *part = &world->parts[r];
    if (part->sent == 0) continue;
    TcpPeer *peer = &tcp_of(comm)->peers[r];
    exchange_note(world, r, part->sent, false);
    peer->out = stream(comm, part->sent);
    peer->from = part->send;
    part->sent = 0;
  }
}

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

static bool is_later(ssize_t moved) {
  return moved < 0 && (errno == EAGAIN || errno == EINTR);
}

/* False when there is no room for more. */
static bool send_some(TcpPeer *peer) {
  TcpStream *out = &peer->out;
  unsigned char *header = (unsigned char *)&out->header + sizeof out->header - out->header_left;
  struct iovec pieces[2] = {{header, out->header_left},
                            {(void *)(uintptr_t)peer->from, least(out->left, MOST)}};
  const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
  const ssize_t moved = sendmsg(peer->fd, &message, MSG_NOSIGNAL);
  if (moved < 0) return false;
  const size_t of_header = least((size_t)moved, out->header_left), rest = (size_t)moved - of_header;
  out->header_left -= of_header;
  out->left -= rest;
  peer->from += rest;
  out->busy = out->header_left + out->left > 0;
  return true;
}

/* What comes must be what is waited for. */
static void check_header(const Comm *comm, int r, TcpStream *in, const char *what) {
  const CommWorld *world = comm->world;
  const TcpHeader *header = &in->header;
  const size_t expected = in->left;
  in->left = header->bytes; /* the next frame begins behind what comes */
  if (header->kind == TCP_END) tcp_follow(comm, r, header);
  if (header->kind != TCP_DATA) {
    exchange_abort(comm, ERROR_DEVICE, "collective %lld (%s): what rank %d on %s sends is no message",
                   (long long)world->collectives, what, r, world->hosts[r]);
  }
  if (header->number != world->collectives) {
    exchange_abort(comm, ERROR_DEVICE,
                   "in collective %lld (%s) rank %d on %s is in collective %lld: it went another way",
                   (long long)world->collectives, what, r, world->hosts[r], (long long)header->number);
  }
  if (header->bytes != expected) {
    exchange_abort(
        comm, ERROR_DEVICE, "collective %lld (%s): rank %d on %s sent %llu bytes, expected are %zu",
        (long long)world->collectives, what, r, world->hosts[r], (unsigned long long)header->bytes, expected);
  }
}

/* Reads header or bytes; 0: the other side has closed. */
static ssize_t receive_some(TcpPeer *peer) {
  TcpStream *in = &peer->in;
  if (in->header_left > 0) {
    unsigned char *header = (unsigned char *)&in->header + sizeof in->header - in->header_left;
    const ssize_t moved = recv(peer->fd, header, in->header_left, 0);
    if (moved > 0) in->header_left -= (size_t)moved;
    return moved;
  }
  const ssize_t moved = recv(peer->fd, peer->to, least(in->left, MOST), 0);
  if (moved > 0) {
    peer->to += moved;
    in->left -= (size_t)moved;
    in->busy = in->left > 0;
  }
  return moved;
}

static void receive(const Comm *comm, int r, const char *what) {
  TcpPeer *peer = &tcp_of(comm)->peers[r];
  const bool begins = peer->in.header_left > 0;
  const ssize_t moved = receive_some(peer);
  if (moved == 0) errno = 0;
  if (moved <= 0 && !is_later(moved)) tcp_lost(comm, r, what);
  if (begins && peer->in.header_left == 0) check_header(comm, r, &peer->in, what);
}

/* Where nothing can be sent any more there may still be something to read, the last words among it. */
static void move(const Comm *comm, int r, const char *what) {
  TcpPeer *peer = &tcp_of(comm)->peers[r];
  if (peer->out.busy && !peer->broken && !send_some(peer) && !is_later(-1)) peer->broken = errno;
  if (peer->in.busy) receive(comm, r, what);
  if (!peer->broken || peer->in.busy) return;
  errno = peer->broken;
  tcp_lost(comm, r, what);
}

static bool is_busy(const TcpPeer *peer) {
  return peer->in.busy || peer->out.busy;
}

static bool tcp_test(const Comm *comm, const char *what) {
  const Tcp *tcp = tcp_of(comm);
  bool busy = false;
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + step) % comm->size;
    if (!is_busy(&tcp->peers[r])) continue;
    move(comm, r, what);
    busy |= is_busy(&tcp->peers[r]);
  }
  return !busy;
}

static bool tcp_is_done(const Comm *comm, int message) {
  const TcpPeer *peer = &tcp_of(comm)->peers[comm->world->messages[message].peer];
  return message < comm->world->receives ? !peer->in.busy : !peer->out.busy;
}

static void tcp_pause(const Comm *comm) {
  const Tcp *tcp = tcp_of(comm);
  nfds_t count = 0;
  for (int r = 0; r < comm->size; r++) {
    const TcpPeer *peer = &tcp->peers[r];
    const short events = (short)((peer->in.busy ? POLLIN : 0) | (peer->out.busy ? POLLOUT : 0));
    if (events) tcp->polled[count++] = (struct pollfd){.fd = peer->fd, .events = events};
  }
  if (poll(tcp->polled, count, MOMENT) == 0) tcp_look_for_ends(comm);
}

/* -- joining -------------------------------------------------------------------------------------------- */

static void tcp_close(Comm *comm) {
  Tcp *tcp = tcp_of(comm);
  for (int r = 0; tcp->peers && r < comm->size; r++) {
    if (tcp->peers[r].fd >= 0) close(tcp->peers[r].fd);
  }
  memory_free(tcp->peers);
  memory_free(tcp->polled);
  memory_free(tcp);
}

static const CommTransport transport = {.start = tcp_start,
                                        .test = tcp_test,
                                        .is_done = tcp_is_done,
                                        .pause = tcp_pause,
                                        .polls = POLLS,
                                        .defer = tcp_defer,
                                        .end = tcp_end,
                                        .close = tcp_close};

static bool allocate(Tcp *tcp, int size, Error *error) {
  const size_t ranks = (size_t)size;
  tcp->peers = memory_zeroed(ranks, sizeof *tcp->peers);
  tcp->polled = memory_zeroed(ranks, sizeof *tcp->polled);
  if (!tcp->peers || !tcp->polled) return error_out_of_memory(error, "ranks", ranks * sizeof *tcp->peers);
  for (int r = 0; r < size; r++) tcp->peers[r].fd = -1;
  return true;
}

static bool meet(Comm *comm, Tcp *tcp, const CommLaunch *launch, const CommJoin *join, Error *error) {
  Rendezvous rendezvous;
  if (!rendezvous_open(&rendezvous, launch, join, error)) return false;
  const bool ok = tcp_connect_all(tcp, &rendezvous, join, error);
  for (int r = 0; r < launch->size; r++) {
    snprintf(comm->world->hosts[r], COMM_HOST, "%s", rendezvous.ranks[r].host);
  }
  if (ok && join->log && launch->rank > 0) {
    log_info(join->log, "rank %d of %d on %s: rank 0 on %s says how it goes", launch->rank, launch->size,
             rendezvous.ranks[launch->rank].host, rendezvous.ranks[0].host);
  }
  rendezvous_close(&rendezvous);
  return ok;
}

bool comm_tcp_open(Comm *comm, const CommLaunch *launch, const CommJoin *join, Error *error) {
  Tcp *tcp = memory_zeroed(1, sizeof *tcp);
  if (!tcp) return error_out_of_memory(error, "ranks", sizeof *tcp);
  comm->rank = launch->rank;
  comm->size = launch->size;
  tcp->watched = launch->watched;
  comm->world->link = tcp;
  comm->world->transport = &transport;
  comm->world->threads = true;
  return allocate(tcp, launch->size, error) && meet(comm, tcp, launch, join, error);
}
