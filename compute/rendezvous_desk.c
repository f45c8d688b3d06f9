#include "base/log.h"
#include "base/memory.h"
#include "compute/rendezvous_protocol.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
  CALLERS = 64,  /* connections that have not said who they are */
  PATIENCE = 10, /* s for saying so */
  NAMED = 8
};

typedef struct Caller {
  int fd;
  double since;
  size_t got;
  RendezvousHello hello;
} Caller;

typedef struct Desk {
  Rendezvous *r;
  int listener;
  char place[SOCKET_TEXT + 16];
  Caller callers[CALLERS];
  int calling;
  RendezvousHello *joined; /* [size], of those with a connection */
  int missing;
} Desk;

/* -- listening ------------------------------------------------------------------------------------------ */

/* Whether it is one of this host's. */
static bool is_own(SocketAddress address) {
  socket_set_port(&address, 0);
  const int fd = socket_listen(&address);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

/* A number is taken at its word. A name may mean another address on this host than on others (Debian's /etc/hosts has the host's own as
 * 127.0.1.1), so that behind a name rank 0 listens everywhere. */
static int listen_at(const CommLaunch *launch, const SocketAddress *address) {
  const bool at_it = socket_is_number(launch->address) || strcmp(launch->address, "localhost") == 0;
  return at_it ? socket_listen(address) : socket_listen_everywhere(launch->port);
}

static bool open_desk(Desk *desk, const CommLaunch *launch, Error *error) {
  SocketAddress addresses[SOCKET_NAMES];
  const char *why;
  bool later;
  const int count = socket_resolve(launch->address, launch->port, addresses, &why, &later);
  if (count == 0) {
    return error_set(error, ERROR_USAGE, "MASTER_ADDR '%s' cannot be resolved: %s", launch->address, why);
  }
  int own = 0;
  while (own < count && !is_own(addresses[own])) own++;
  if (own == count) {
    return error_set(error, ERROR_USAGE,
                     "rank 0 is on %s, and MASTER_ADDR '%s' is no address of this host: RANK 0 belongs where "
                     "MASTER_ADDR is (0.0.0.0: whichever address others know it by)",
                     desk->r->ranks[0].host, launch->address);
  }
  desk->listener = listen_at(launch, &addresses[own]);
  if (desk->listener >= 0) return true;
  return error_set(error, errno == EADDRINUSE ? ERROR_USAGE : ERROR_DEVICE,
                   "rank 0 cannot listen at %s, port %d (MASTER_ADDR, MASTER_PORT): %s", launch->address,
                   launch->port, errno == EADDRINUSE ? "another program has that port" : strerror(errno));
}

/* -- who calls ------------------------------------------------------------------------------------------ */

static void dismiss(Desk *desk, int i) {
  close(desk->callers[i].fd);
  desk->callers[i] = desk->callers[--desk->calling];
}

static void accept_callers(Desk *desk) {
  int fd;
  while ((fd = socket_accept(desk->listener)) >= 0) {
    if (desk->calling == CALLERS) dismiss(desk, 0);
    desk->callers[desk->calling++] = (Caller){.fd = fd, .since = time_monotonic()};
  }
}

/* ERROR_USAGE where it can be no rank of this run. */
static bool fits(const Desk *desk, const RendezvousHello *hello, Error *error) {
  const Rendezvous *r = desk->r;
  const RendezvousHello own = rendezvous_hello(r);
  if (hello->protocol != own.protocol || strcmp(hello->version, own.version) != 0) {
    return error_set(
        error, ERROR_USAGE,
        "rank 0 on %s is Drover %s, and from %s comes another version: all ranks need the same program",
        own.host, own.version, desk->place);
  }
  if (hello->size != own.size) {
    return error_set(error, ERROR_USAGE,
                     "rank %u on %s is one of %u ranks, and rank 0 on %s one of %u (WORLD_SIZE)", hello->rank,
                     hello->host, hello->size, own.host, own.size);
  }
  if (hello->rank >= own.size) {
    return error_set(error, ERROR_USAGE, "process %u on %s says that it is rank %u of %u", hello->process,
                     hello->host, hello->rank, own.size);
  }
  const RendezvousHello *other = hello->rank == 0 ? &own : &desk->joined[hello->rank];
  if (hello->rank > 0 && r->connections[hello->rank] < 0) return true;
  return error_set(error, ERROR_USAGE, "rank %u is there twice (RANK): process %u on %s and process %u on %s",
                   hello->rank, other->process, other->host, hello->process, hello->host);
}

/* Reads what caller i has to say; true when it is through with it, and gone from the list. */
static bool hear(Desk *desk, int i, Error *error) {
  Caller *caller = &desk->callers[i];
  RendezvousHello *hello = &caller->hello;
  const ssize_t moved = recv(caller->fd, (char *)hello + caller->got, sizeof *hello - caller->got, 0);
  if (moved > 0) caller->got += (size_t)moved;
  const bool is_stranger =
      caller->got >= sizeof hello->magic && memcmp(hello->magic, rendezvous_magic, sizeof hello->magic) != 0;
  if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR) || is_stranger ||
      (caller->got < sizeof *hello && time_monotonic() > caller->since + PATIENCE)) {
    dismiss(desk, i);
    return true;
  }
  if (caller->got < sizeof *hello && hello->protocol == RENDEZVOUS_PROTOCOL) return false;
  if (caller->got < sizeof hello->magic + sizeof hello->protocol) return false;
  hello->version[sizeof hello->version - 1] = hello->host[sizeof hello->host - 1] = '\0';
  const SocketAddress from = socket_peer(caller->fd);
  socket_text(&from, desk->place);
  if (!fits(desk, hello, error)) return false; /* it is told so with the others */
  desk->r->connections[hello->rank] = caller->fd;
  desk->joined[hello->rank] = *hello;
  desk->missing--;
  desk->callers[i] = desk->callers[--desk->calling];
  return true;
}

/* Who has gone again, be it to come back. */
static void notice_leavers(Desk *desk, Log *log) {
  Rendezvous *r = desk->r;
  for (int i = 1; i < r->size; i++) {
    char byte;
    if (r->connections[i] < 0) continue;
    const ssize_t moved = recv(r->connections[i], &byte, 1, MSG_PEEK);
    if (moved > 0 || (moved < 0 && (errno == EAGAIN || errno == EINTR))) continue;
    if (log) log_info(log, "rank %d on %s has gone again", i, desk->joined[i].host);
    close(r->connections[i]);
    r->connections[i] = -1;
    desk->missing++;
  }
}

/* -- the verdict ---------------------------------------------------------------------------------------- */

/* "1, 3 and 5 more" */
static const char *name_missing(const Desk *desk, char *out, size_t size) {
  size_t used = 0;
  int named = 0;
  for (int i = 1; i < desk->r->size; i++) {
    if (desk->r->connections[i] >= 0 || ++named > NAMED) continue;
    used += (size_t)snprintf(out + used, size - used, "%s%d", named > 1 ? ", " : "", i);
  }
  if (named > NAMED) snprintf(out + used, size - used, " and %d more", named - NAMED);
  return out;
}

/* Nobody waits for one that does not take it. */
static void tell(int fd, const RendezvousVerdict *verdict) {
  if (!socket_write(fd, verdict, sizeof *verdict, time_monotonic() + 1)) return;
}

static void tell_all(const Desk *desk, const Error *error) {
  RendezvousVerdict verdict = {.code = error->code};
  memcpy(verdict.magic, rendezvous_magic, sizeof verdict.magic);
  snprintf(verdict.text, sizeof verdict.text, "%.*s", (int)sizeof verdict.text - 1, error->message);
  for (int i = 0; i < desk->calling; i++) tell(desk->callers[i].fd, &verdict);
  for (int i = 1; i < desk->r->size; i++) {
    if (desk->r->connections[i] >= 0) tell(desk->r->connections[i], &verdict);
  }
}

static bool wait_for_all(Desk *desk, const CommLaunch *launch, const CommJoin *join, Error *error) {
  const double begun = time_monotonic();
  double talk = begun + RENDEZVOUS_QUIET;
  char missing[128];
  while (desk->missing > 0) {
    if (rendezvous_stopped(join, error)) return false;
    if (time_monotonic() > begun + join->seconds) {
      return error_set(error, ERROR_DEVICE,
                       "of %d ranks not all have come to rank 0 on %s at %s, port %d, in %.0f s; missing: %s",
                       launch->size, desk->r->ranks[0].host, launch->address, launch->port, join->seconds,
                       name_missing(desk, missing, sizeof missing));
    }
    if (join->log && time_monotonic() > talk) {
      log_info(join->log, "rank 0 waits at %s, port %d, for %d more of %d ranks: %s", launch->address,
               launch->port, desk->missing, launch->size, name_missing(desk, missing, sizeof missing));
      talk = begun + 2 * join->seconds; /* once */
    }
    (void)socket_wait(desk->listener, false, time_monotonic() + 0.01);
    accept_callers(desk);
    notice_leavers(desk, join->log);
    for (int i = 0; i < desk->calling;) {
      if (!hear(desk, i, error)) {
        if (error->code) return false;
        i++;
      }
    }
  }
  return true;
}

/* Tells all that they are all there, and who is where. */
static bool admit_all(Desk *desk, const CommJoin *join, Error *error) {
  Rendezvous *r = desk->r;
  RendezvousVerdict verdict = {.code = ERROR_NONE};
  RendezvousEntry *table = memory_zeroed((size_t)r->size, sizeof *table);
  if (!table) return error_out_of_memory(error, "ranks", (size_t)r->size * sizeof *table);
  memcpy(verdict.magic, rendezvous_magic, sizeof verdict.magic);
  while (verdict.key == 0) {
    if (getrandom(&verdict.key, sizeof verdict.key, 0) < 0) verdict.key = (uint64_t)getpid();
  }
  r->key = verdict.key;
  r->local = true;
  memcpy(table[0].host, r->ranks[0].host, RENDEZVOUS_HOST);
  for (int i = 1; i < r->size; i++) {
    r->ranks[i].address = socket_peer(r->connections[i]);
    memcpy(r->ranks[i].host, desk->joined[i].host, RENDEZVOUS_HOST);
    memcpy(table[i].host, desk->joined[i].host, RENDEZVOUS_HOST);
    if (socket_is_loopback(&r->ranks[i].address)) continue;
    table[i].address = r->ranks[i].address;
    r->local = false;
  }
  bool ok = true;
  const double deadline = time_monotonic() + join->seconds;
  for (int i = 1; ok && i < r->size; i++) {
    ok = (socket_write(r->connections[i], &verdict, sizeof verdict, deadline) &&
          socket_write(r->connections[i], table, (size_t)r->size * sizeof *table, deadline)) ||
         error_set(error, ERROR_DEVICE, "rank %d on %s is lost while the ranks met: %s", i, r->ranks[i].host,
                   strerror(errno));
  }
  memory_free(table);
  return ok;
}

bool rendezvous_receive(Rendezvous *r, const CommLaunch *launch, const CommJoin *join, Error *error) {
  Desk *desk = memory_zeroed(1, sizeof *desk);
  if (!desk) return error_out_of_memory(error, "ranks", sizeof *desk);
  *desk = (Desk){.r = r, .listener = -1, .missing = r->size - 1};
  desk->joined = memory_zeroed((size_t)r->size, sizeof *desk->joined);
  bool ok = desk->joined || error_out_of_memory(error, "ranks", (size_t)r->size * sizeof *desk->joined);
  ok = ok && open_desk(desk, launch, error);
  if (ok) {
    ok = wait_for_all(desk, launch, join, error) && admit_all(desk, join, error);
    if (!ok) tell_all(desk, error);
  }
  while (desk->calling > 0) dismiss(desk, 0);
  if (desk->listener >= 0) close(desk->listener);
  memory_free(desk->joined);
  memory_free(desk);
  return ok;
}
