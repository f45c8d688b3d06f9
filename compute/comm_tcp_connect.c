/* A connection between each two ranks: those to rank 0 are there since the ranks met, of two others the higher one comes to the lower. */
#include "base/log.h"
#include "base/memory.h"
#include "compute/comm_tcp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What a rank says when it comes. */
typedef struct Greeting {
  uint64_t key;
  uint32_t rank, unused;
} Greeting;

static bool come_to(Tcp *tcp, const Rendezvous *r, int other, int port, double deadline, Error *error) {
  SocketAddress address = r->ranks[other].address;
  const Greeting greeting = {.key = r->key, .rank = (uint32_t)r->rank};
  char where[SOCKET_TEXT];
  socket_set_port(&address, port);
  const int fd = socket_connect(&address, deadline);
  if (fd >= 0) tcp->peers[other].fd = fd;
  if (fd >= 0 && socket_write(fd, &greeting, sizeof greeting, deadline)) return true;
  return error_set(
      error, ERROR_DEVICE,
      "rank %d on %s cannot reach rank %d on %s at %s: %s (ranks have to reach each other at ports that the "
      "system chooses)",
      r->rank, r->ranks[r->rank].host, other, r->ranks[other].host, socket_text(&address, where),
      strerror(errno));
}

/* Takes one that comes in, unless it is nobody of this run. */
static int receive_one(Tcp *tcp, const Rendezvous *r, int listener) {
  enum { PATIENCE = 5 /* s */ };
  Greeting greeting;
  const int fd = socket_accept(listener);
  if (fd < 0) return 0;
  if (socket_read(fd, &greeting, sizeof greeting, time_monotonic() + PATIENCE) && greeting.key == r->key &&
      greeting.rank < (uint32_t)r->size && (int)greeting.rank > r->rank && tcp->peers[greeting.rank].fd < 0) {
    tcp->peers[greeting.rank].fd = fd;
    return 1;
  }
  close(fd);
  return 0;
}

static bool receive_higher(Tcp *tcp, const Rendezvous *r, int listener, double deadline, Error *error) {
  for (int missing = r->size - 1 - r->rank; missing > 0;) {
    if (socket_wait(listener, false, time_monotonic() + 0.1)) missing -= receive_one(tcp, r, listener);
    if (socket_wait(r->connections[0], false, 0)) { /* it says nothing at this point */
      return error_set(error, ERROR_DEVICE, "rank 0 on %s has ended while the ranks met", r->ranks[0].host);
    }
    if (missing > 0 && time_monotonic() > deadline) {
      int first = r->rank + 1;
      while (tcp->peers[first].fd >= 0) first++;
      return error_set(error, ERROR_DEVICE, "rank %d on %s has not come to rank %d on %s", first,
                       r->ranks[first].host, r->rank, r->ranks[r->rank].host);
    }
  }
  return true;
}

static bool connect_others(Tcp *tcp, Rendezvous *r, int listener, int *ports, const CommJoin *join,
                           Error *error) {
  const double deadline = time_monotonic() + join->seconds;
  int own = 0;
  if (listener >= 0) {
    const SocketAddress address = socket_own(listener);
    own = socket_port(&address);
  }
  if (!rendezvous_gather(r, &own, ports, sizeof own, join->seconds, error)) return false;
  for (int other = 1; other < r->rank; other++) {
    if (!come_to(tcp, r, other, ports[other], deadline, error)) return false;
  }
  return r->rank == 0 || receive_higher(tcp, r, listener, deadline, error);
}

bool tcp_connect_all(Tcp *tcp, Rendezvous *r, const CommJoin *join, Error *error) {
  int listener = -1, *ports = memory_zeroed((size_t)r->size, sizeof *ports);
  char *all = memory_zeroed((size_t)r->size, 1);
  bool ok = (ports && all) || error_out_of_memory(error, "ports of ranks", (size_t)r->size * sizeof *ports);
  ok = ok && (r->rank == 0 || (listener = rendezvous_listen(r, error)) >= 0);
  ok = ok && connect_others(tcp, r, listener, ports, join, error) &&
       rendezvous_gather(r, "", all, 1, join->seconds, error); /* whoever could not connect has ended */
  if (listener >= 0) close(listener);
  for (int i = 0; ok && i < r->size; i++) {
    if (r->connections[i] < 0) continue;
    tcp->peers[i].fd = r->connections[i];
    r->connections[i] = -1;
  }
  memory_free(ports);
  memory_free(all);
  return ok;
}
