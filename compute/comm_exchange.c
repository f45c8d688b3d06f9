#include "compute/comm_exchange.h"

#include "base/log.h"
#include "base/memory.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAMED = 4, GRACE = 5 /* s */ };

/* -- what ends a run ------------------------------------------------------------------------------------ */

void exchange_abort(const Comm *comm, ErrorCode code, const char *format, ...) {
  CommWorld *world = comm->world;
  char text[1200];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  if (comm->rank > 0) world->transport->defer(comm);
  Log log; /* that of the program is another thread's */
  log_init(&log, stderr, LOG_ERROR);
  log_error(&log, "rank %d on %s: %s", comm->rank, world->hosts[comm->rank], text);
  fflush(stderr);
  pthread_mutex_lock(&world->lock);
  world->transport->end(comm, code, text);
  _exit((int)code);
}

/* "rank 1 on HOST, rank 2 on HOST and 5 more": of messages `from` to `to` those that are not done. */
static int name_missing(const Comm *comm, int from, int to, char *out, size_t size) {
  const CommWorld *world = comm->world;
  int missing = 0;
  size_t used = 0;
  for (int i = from; i < to; i++) {
    if (world->transport->is_done(comm, i) || ++missing > NAMED) continue;
    const int peer = world->messages[i].peer;
    used += (size_t)snprintf(out + used, size - used, "%srank %d on %.100s", missing > 1 ? ", " : "", peer,
                             world->hosts[peer]);
  }
  if (missing > NAMED) snprintf(out + used, size - used, " and %d more", missing - NAMED);
  return missing;
}

NORETURN static void give_up(const Comm *comm, const char *what) {
  const CommWorld *world = comm->world;
  char names[640];
  /* Who has not sent is who is not there; a rank may send and then not take what is sent to it. */
  const bool silent = name_missing(comm, 0, world->receives, names, sizeof names) > 0;
  if (!silent) name_missing(comm, world->receives, world->count, names, sizeof names);
  exchange_abort(
      comm, ERROR_DEVICE,
      "%s in collective %lld (%s) for %.0f s from %s, which is dead, cut off, hangs or went another way; "
      "all ranks end here",
      silent ? "heard nothing" : "nothing was taken", (long long)world->collectives, what, world->timeout,
      names);
}

/* -- an exchange ---------------------------------------------------------------------------------------- */

void exchange_note(CommWorld *world, int peer, size_t bytes, bool received) {
  world->messages[world->count++] = (CommMessage){peer, bytes};
  if (received) world->receives = world->count;
  if (!received) world->sent += (int64_t)bytes;
}

/* Whether a rank below this one has sent, and so waits for the same ones. */
static bool lower_waits(const Comm *comm) {
  const CommWorld *world = comm->world;
  for (int i = 0; i < world->receives; i++) {
    if (world->messages[i].peer < comm->rank && world->transport->is_done(comm, i)) return true;
  }
  return false;
}

/* The first of those that wait too long says so; the others leave it the time to. Tests for a while and then pauses between
 * tests: ranks may share cores with those they wait for. */
static void wait_all(const Comm *comm, const char *what) {
  CommWorld *world = comm->world;
  const double deadline = time_monotonic() + world->timeout;
  for (int polls = 0; !world->transport->test(comm, what); polls++) {
    if (polls < world->transport->polls) continue;
    const double late = time_monotonic() - deadline;
    if (late > 0 && late > (lower_waits(comm) ? GRACE : 0)) give_up(comm, what);
    pthread_mutex_unlock(&world->lock);
    world->transport->pause(comm);
    pthread_mutex_lock(&world->lock);
  }
}

void exchange_run(const Comm *comm, const char *what) {
  CommWorld *world = comm->world;
  world->collectives++;
  const CommPart *own = &world->parts[comm->rank];
  ASSERT(own->sent == own->received);
  if (own->sent && own->receive != own->send) memmove(own->receive, own->send, own->sent);
  world->parts[comm->rank] = (CommPart){0};
  pthread_mutex_lock(&world->lock);
  while (true) {
    world->count = world->receives = 0;
    world->transport->start(comm, what);
    if (world->count == 0) break;
    wait_all(comm, what);
  }
  pthread_mutex_unlock(&world->lock);
  memset(world->parts, 0, (size_t)comm->size * sizeof *world->parts);
}

/* -- joining -------------------------------------------------------------------------------------------- */

/* Who shares this host and its cores. Where the system does not tell which cores a rank has, it may have any. */
static bool find_neighbours(Comm *comm, Error *error) {
  const CommWorld *world = comm->world;
  cpu_set_t own, *sets = memory_zeroed((size_t)comm->size, sizeof own);
  if (!sets) return error_out_of_memory(error, "cores of ranks", (size_t)comm->size * sizeof own);
  if (sched_getaffinity(0, sizeof own, &own) != 0) memset(&own, 0xff, sizeof own);
  comm_all_gather(comm, &own, sets, sizeof own);
  comm->neighbours = comm->sharing = 0;
  for (int r = 0; r < comm->size; r++) {
    if (strcmp(world->hosts[r], world->hosts[comm->rank]) != 0) continue;
    cpu_set_t both;
    CPU_AND(&both, &sets[r], &own);
    comm->neighbours++;
    comm->sharing += CPU_COUNT(&both) > 0;
  }
  memory_free(sets);
  return true;
}

static bool allocate(CommWorld *world, int size, Error *error) {
  const size_t ranks = (size_t)size;
  pthread_mutexattr_t recursive;
  pthread_mutexattr_init(&recursive);
  pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&world->lock, &recursive);
  pthread_mutexattr_destroy(&recursive);
  world->messages = memory_zeroed(2 * ranks, sizeof *world->messages);
  world->hosts = memory_zeroed(ranks, sizeof *world->hosts);
  if (world->messages && world->hosts) return true;
  return error_out_of_memory(error, "messages of ranks", ranks * sizeof *world->hosts);
}

/* The launcher's own MPI where this build has it; addresses in the environment serve any launcher. */
static bool join(Comm *comm, const CommLaunch *launch, const CommJoin *how, Error *error) {
  if (launch->mpi && comm_has_mpi()) return comm_mpi_open(comm, launch, error);
  if (launch->address) return comm_tcp_open(comm, launch, how, error);
  return error_set(error, ERROR_USAGE,
                   "%s asks for %d ranks (%s), but %s: set MASTER_ADDR and MASTER_PORT, or %s",
                   launch->launcher, launch->size, launch->variable,
                   launch->mpi ? "this build has no MPI" : "its processes cannot find each other",
                   launch->mpi ? "install libopenmpi-dev and openmpi-bin, configure and build again"
                               : "start them with srun --mpi=pmix");
}

bool exchange_open(Comm *comm, const CommLaunch *launch, const CommJoin *how, Error *error) {
  if (!allocate(comm->world, launch->size, error) || !join(comm, launch, how, error)) return false;
  return find_neighbours(comm, error);
}

size_t exchange_overhead(const Comm *comm) {
  return comm->world ? comm->world->transport->overhead : 0;
}

void exchange_close(Comm *comm) {
  CommWorld *world = comm->world;
  if (world->transport) world->transport->close(comm);
  world->transport = NULL;
  memory_free(world->messages);
  memory_free(world->hosts);
  pthread_mutex_destroy(&world->lock);
}
