#include "compute/rendezvous.h"

#include "base/log.h"
#include "base/memory.h"
#include "compute/rendezvous_protocol.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* -- what all need -------------------------------------------------------------------------------------- */

bool rendezvous_stopped(const CommJoin *join, Error *error) {
  const int number = join->stopped ? join->stopped() : 0;
  if (number) error_set(error, (ErrorCode)(128 + number), "interrupted while ranks were waited for");
  return number;
}

const char rendezvous_magic[8] = "drover\1";

RendezvousHello rendezvous_hello(const Rendezvous *r) {
  RendezvousHello out = {.protocol = RENDEZVOUS_PROTOCOL,
                         .size = (uint32_t)r->size,
                         .rank = (uint32_t)r->rank,
                         .process = (uint32_t)getpid()};
  memcpy(out.magic, rendezvous_magic, sizeof out.magic);
  memcpy(out.host, r->ranks[r->rank].host, sizeof out.host);
  snprintf(out.version, sizeof out.version, "%s", DROVER_VERSION);
  return out;
}

static bool allocate(Rendezvous *r, const CommLaunch *launch, Error *error) {
  const size_t size = (size_t)launch->size;
  *r = (Rendezvous){.rank = launch->rank, .size = launch->size};
  r->ranks = memory_zeroed(size, sizeof *r->ranks);
  r->connections = memory_alloc(size * sizeof *r->connections);
  if (!r->ranks || !r->connections) return error_out_of_memory(error, "ranks", size * sizeof *r->ranks);
  for (int i = 0; i < r->size; i++) r->connections[i] = -1;
  if (gethostname(r->ranks[r->rank].host, RENDEZVOUS_HOST - 1) != 0) r->ranks[r->rank].host[0] = '?';
  return true;
}

void rendezvous_close(Rendezvous *r) {
  for (int i = 0; r->connections && i < r->size; i++) {
    if (r->connections[i] >= 0) close(r->connections[i]);
  }
  memory_free(r->ranks);
  memory_free(r->connections);
  *r = (Rendezvous){0};
}

/* -- a rank that comes to rank 0 ------------------------------------------------------------------------ */

/* What came of one attempt. */
typedef enum Answer { ADMITTED, AGAIN, REFUSED } Answer;

typedef struct Visit {
  Rendezvous *r;
  const CommLaunch *launch;
  const CommJoin *join;
  double deadline;
  char cause[160]; /* why it has not come to anything so far */
} Visit;

static Answer not_yet(Visit *visit, const char *cause, const char *where) {
  snprintf(visit->cause, sizeof visit->cause, "%.70s%s%.80s", where, *where ? ": " : "", cause);
  return AGAIN;
}

/* The address that rank 0 saw a rank come from, as this rank can use it. */
static SocketAddress address_from(const RendezvousEntry *entry, int fd) {
  const SocketAddress first = socket_peer(fd);
  if (!entry->address.size) return first; /* it came from the host of rank 0 */
  SocketAddress out = entry->address;
  socket_set_zone(&out, fd);
  return out;
}

static Answer read_table(Visit *visit, int fd, Error *error) {
  Rendezvous *r = visit->r;
  r->local = true;
  for (int i = 0; i < r->size; i++) {
    RendezvousEntry entry;
    if (!socket_read(fd, &entry, sizeof entry, visit->deadline)) {
      error_set(error, ERROR_DEVICE, "rank 0 has ended while it told who is where: %s", strerror(errno));
      return REFUSED;
    }
    if (entry.address.size) r->local = false;
    if (i == r->rank) continue;
    memcpy(r->ranks[i].host, entry.host, sizeof entry.host);
    r->ranks[i].host[RENDEZVOUS_HOST - 1] = '\0';
    r->ranks[i].address = address_from(&entry, fd);
  }
  r->connections[0] = fd;
  return ADMITTED;
}

/* Waits for what rank 0 says, which it does when all are there. */
static Answer hear(Visit *visit, int fd, const char *where, Error *error) {
  RendezvousVerdict verdict;
  while (!socket_wait(fd, false, time_monotonic() + 0.1)) {
    if (rendezvous_stopped(visit->join, error)) return REFUSED;
    if (time_monotonic() > visit->deadline) return not_yet(visit, "other ranks have not come", where);
  }
  if (!socket_read(fd, &verdict, sizeof verdict, visit->deadline))
    return not_yet(visit, strerror(errno), where);
  verdict.text[sizeof verdict.text - 1] = '\0';
  if (memcmp(verdict.magic, rendezvous_magic, sizeof verdict.magic) != 0) {
    error_set(error, ERROR_USAGE, "what listens at %s (MASTER_ADDR, MASTER_PORT) is no rank of Drover",
              where);
    return REFUSED;
  }
  if (verdict.code != ERROR_NONE) {
    error_set(error, (ErrorCode)verdict.code, "%s", verdict.text);
    return REFUSED;
  }
  visit->r->key = verdict.key;
  return read_table(visit, fd, error);
}

static Answer try_address(Visit *visit, const SocketAddress *address, Error *error) {
  enum { PATIENCE = 3 /* s, for one of several addresses */ };
  char where[SOCKET_TEXT];
  socket_text(address, where);
  const double soon = time_monotonic() + PATIENCE;
  const int fd = socket_connect(address, soon < visit->deadline ? soon : visit->deadline);
  if (fd < 0) return not_yet(visit, strerror(errno), where);
  const RendezvousHello hello = rendezvous_hello(visit->r);
  Answer answer = not_yet(visit, "the connection was closed", where);
  if (socket_write(fd, &hello, sizeof hello, visit->deadline)) answer = hear(visit, fd, where, error);
  if (answer != ADMITTED) close(fd);
  return answer;
}

static Answer try_all(Visit *visit, Error *error) {
  SocketAddress addresses[SOCKET_NAMES];
  const char *why;
  bool later;
  const int count = socket_resolve(visit->launch->address, visit->launch->port, addresses, &why, &later);
  if (count == 0 && !later) {
    error_set(error, ERROR_USAGE, "MASTER_ADDR '%s' cannot be resolved: %s", visit->launch->address, why);
    return REFUSED;
  }
  Answer answer = not_yet(visit, why, "it cannot be resolved");
  for (int i = 0; i < count && answer == AGAIN; i++) answer = try_address(visit, &addresses[i], error);
  return answer;
}

static bool visit_rank_0(Rendezvous *r, const CommLaunch *launch, const CommJoin *join, Error *error) {
  Visit visit = {.r = r, .launch = launch, .join = join, .deadline = time_monotonic() + join->seconds};
  double talk = time_monotonic() + RENDEZVOUS_QUIET;
  for (long pause = 10; time_monotonic() < visit.deadline && !rendezvous_stopped(join, error);) {
    const Answer answer = try_all(&visit, error);
    if (answer != AGAIN) return answer == ADMITTED;
    if (join->log && time_monotonic() > talk) {
      log_info(join->log, "rank %d waits for rank 0 at %s, port %d (%s)", r->rank, launch->address,
               launch->port, visit.cause);
      talk = visit.deadline;
    }
    nanosleep(&(struct timespec){.tv_nsec = pause * 1000000}, NULL);
    if (pause < 640) pause *= 2;
  }
  return error_set(
      error, ERROR_DEVICE,
      "rank %d on %s has not met rank 0 at %s, port %d (MASTER_ADDR, MASTER_PORT), in %.0f s: %s", r->rank,
      r->ranks[r->rank].host, launch->address, launch->port, join->seconds, visit.cause);
}

bool rendezvous_open(Rendezvous *r, const CommLaunch *launch, const CommJoin *join, Error *error) {
  if (allocate(r, launch, error) &&
      (r->rank == 0 ? rendezvous_receive(r, launch, join, error) : visit_rank_0(r, launch, join, error))) {
    return true;
  }
  rendezvous_close(r);
  return false;
}

/* -- afterwards ----------------------------------------------------------------------------------------- */

int rendezvous_listen(const Rendezvous *r, Error *error) {
  ASSERT(r->rank > 0);
  /* Who came from the host of rank 0 is looked for where rank 0 is found: by ranks of this host at the address that it used itself, by
   * those of other hosts at one that it may not know. */
  const SocketAddress first = socket_peer(r->connections[0]);
  SocketAddress own = socket_is_loopback(&first) ? first : socket_own(r->connections[0]);
  socket_set_port(&own, 0);
  const int fd = socket_is_loopback(&own) && !r->local ? socket_listen_everywhere(0) : socket_listen(&own);
  if (fd < 0) error_set(error, ERROR_DEVICE, "rank %d cannot listen: %s", r->rank, strerror(errno));
  return fd;
}

static bool lost(const Rendezvous *r, int i, Error *error) {
  return error_set(error, ERROR_DEVICE, "rank %d on %s is lost while the ranks met: %s", i, r->ranks[i].host,
                   errno == ETIMEDOUT ? "it has been silent for too long" : strerror(errno));
}

/* Of rank 0: what has come of the bytes of each rank; one that ends is noticed whichever is waited for. */
static bool hear_all(Rendezvous *r, unsigned char *all, size_t bytes, double deadline, size_t *got,
                     Error *error) {
  int missing = r->size - 1;
  while (missing > 0) {
    for (int i = 1; i < r->size; i++) {
      if (got[i] == bytes) continue;
      const ssize_t moved = recv(r->connections[i], all + (size_t)i * bytes + got[i], bytes - got[i], 0);
      if (moved == 0) errno = ECONNRESET;
      if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR)) return lost(r, i, error);
      if (moved > 0) got[i] += (size_t)moved;
      missing -= got[i] == bytes;
      errno = ETIMEDOUT;
      if (got[i] < bytes && time_monotonic() > deadline) return lost(r, i, error);
    }
    if (missing > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return true;
}

static bool gather_at_0(Rendezvous *r, const void *own, unsigned char *all, size_t bytes, double deadline,
                        Error *error) {
  size_t *got = memory_zeroed((size_t)r->size, sizeof *got);
  if (!got) return error_out_of_memory(error, "ranks", (size_t)r->size * sizeof *got);
  memmove(all, own, bytes);
  bool ok = hear_all(r, all, bytes, deadline, got, error);
  for (int i = 1; ok && i < r->size; i++) {
    ok = socket_write(r->connections[i], all, (size_t)r->size * bytes, deadline) || lost(r, i, error);
  }
  memory_free(got);
  return ok;
}

bool rendezvous_gather(Rendezvous *r, const void *own, void *all, size_t bytes, double seconds,
                       Error *error) {
  const double deadline = time_monotonic() + seconds;
  if (r->rank == 0) return gather_at_0(r, own, all, bytes, deadline, error);
  return (socket_write(r->connections[0], own, bytes, deadline) &&
          socket_read(r->connections[0], all, (size_t)r->size * bytes, deadline)) ||
         lost(r, 0, error);
}
