#include "base/log.h"
#include "base/memory.h"
#include "compute/comm_exchange.h"

#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A message is counted in int. Tags are the number of the collective, so that ranks that went different ways do not
 * take each other's bytes; 32767 is the least that every MPI has. */
enum { MESSAGE = COMM_PIECE, TAGS = 32768, POLLS = 2000, NAMED = 4, GRACE = 5 /* s */ };

struct CommMpi {
  MPI_Comm comm;
  pthread_mutex_t
      lock; /* of whoever is in MPI: the thread of comm_queue.c may be when another one gives up; recursive */
  MPI_Request *requests; /* [2 * size]: receives, then sends */
  MPI_Status *statuses;
  int *peers;   /* of each request */
  int *lengths; /* bytes of each */
  int receives, count;
  char (*hosts)[MPI_MAX_PROCESSOR_NAME]; /* [size] */
};

void exchange_abort(const Comm *comm, ErrorCode code, const char *message) {
  struct CommMpi *mpi = comm->world->mpi;
  /* Often rank 0 has found the same: then it ends this one. */
  if (comm->rank > 0) nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
  fprintf(stderr, "error: rank %d on %s: %s\n", comm->rank, mpi->hosts[comm->rank], message);
  fflush(stderr);
  pthread_mutex_lock(&mpi->lock);
  MPI_Abort(mpi->comm, (int)code);
  _exit((int)code);
}

static bool is_done(const struct CommMpi *mpi, int request) {
  int done = 0;
  MPI_Request_get_status(mpi->requests[request], &done, MPI_STATUS_IGNORE);
  return done;
}

/* "rank 1 on HOST, rank 2 on HOST and 5 more": of requests `from` to `to` those that are not done. */
static int name_missing(const struct CommMpi *mpi, int from, int to, char *out, size_t size) {
  int missing = 0;
  size_t used = 0;
  for (int i = from; i < to; i++) {
    if (is_done(mpi, i) || ++missing > NAMED) continue;
    used += (size_t)snprintf(out + used, size - used, "%srank %d on %.100s", missing > 1 ? ", " : "",
                             mpi->peers[i], mpi->hosts[mpi->peers[i]]);
  }
  if (missing > NAMED) snprintf(out + used, size - used, " and %d more", missing - NAMED);
  return missing;
}

NORETURN static void give_up(const Comm *comm, const char *what) {
  const struct CommMpi *mpi = comm->world->mpi;
  char names[640], text[1024];
  /* Who has not sent is who is not there; a rank may send and then not take what is sent to it. */
  const bool silent = name_missing(mpi, 0, mpi->receives, names, sizeof names) > 0;
  if (!silent) name_missing(mpi, mpi->receives, mpi->count, names, sizeof names);
  snprintf(text, sizeof text,
           "%s in collective %lld (%s) for %.0f s from %s, which is dead, hangs or went another way; all "
           "ranks end here",
           silent ? "heard nothing" : "nothing was taken", (long long)comm->world->collectives, what,
           comm->world->timeout, names);
  exchange_abort(comm, ERROR_DEVICE, text);
}

/* Whether a rank below this one has sent, and so waits for the same ones. */
static bool lower_waits(const Comm *comm) {
  const struct CommMpi *mpi = comm->world->mpi;
  for (int i = 0; i < mpi->receives; i++) {
    if (mpi->peers[i] < comm->rank && is_done(mpi, i)) return true;
  }
  return false;
}

static void check(const Comm *comm, const char *what, int peer, int status) {
  if (status == MPI_SUCCESS) return;
  char reason[MPI_MAX_ERROR_STRING] = "", text[1024];
  int length;
  MPI_Error_string(status, reason, &length);
  snprintf(text, sizeof text, "collective %lld (%s) with rank %d on %.100s failed: %.500s",
           (long long)comm->world->collectives, what, peer, comm->world->mpi->hosts[peer], reason);
  exchange_abort(comm, ERROR_DEVICE, text);
}

/* Of the bytes that are left, how many go in the next message with rank r, the next request; 0: none. */
static int next_message(struct CommMpi *mpi, int r, size_t *left) {
  const int bytes = *left < MESSAGE ? (int)*left : MESSAGE;
  if (bytes == 0) return 0;
  *left -= (size_t)bytes;
  mpi->peers[mpi->count] = r;
  mpi->lengths[mpi->count] = bytes;
  return bytes;
}

/* Starts the next message of each part; false when all is sent and received. Each rank begins beside itself, so that not
 * all send to one at first. */
static bool post(const Comm *comm, const char *what) {
  struct CommMpi *mpi = comm->world->mpi;
  const int tag = (int)(comm->world->collectives % TAGS);
  mpi->count = 0;
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + comm->size - step) % comm->size;
    CommPart *part = &comm->world->parts[r];
    const int bytes = next_message(mpi, r, &part->received);
    if (bytes == 0) continue;
    MPI_Request *request = &mpi->requests[mpi->count++];
    check(comm, what, r, MPI_Irecv(part->receive, bytes, MPI_BYTE, r, tag, mpi->comm, request));
    part->receive += bytes;
  }
  mpi->receives = mpi->count;
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + step) % comm->size;
    CommPart *part = &comm->world->parts[r];
    const int bytes = next_message(mpi, r, &part->sent);
    if (bytes == 0) continue;
    MPI_Request *request = &mpi->requests[mpi->count++];
    check(comm, what, r, MPI_Isend(part->send, bytes, MPI_BYTE, r, tag, mpi->comm, request));
    part->send += bytes;
    comm->world->sent += bytes;
  }
  return mpi->count > 0;
}

/* The first of those that wait too long says so; the others leave it the time to. Polls for a while and then sleeps
 * between polls: ranks may share cores with those they wait for. */
static void wait_all(const Comm *comm, const char *what) {
  struct CommMpi *mpi = comm->world->mpi;
  const double deadline = time_monotonic() + comm->world->timeout;
  for (int polls = 0;; polls++) {
    int done = 0;
    const int status = MPI_Testall(mpi->count, mpi->requests, &done, mpi->statuses);
    if (status == MPI_ERR_IN_STATUS) {
      for (int i = 0; i < mpi->count; i++) {
        if (mpi->statuses[i].MPI_ERROR != MPI_ERR_PENDING) {
          check(comm, what, mpi->peers[i], mpi->statuses[i].MPI_ERROR);
        }
      }
    }
    check(comm, what, mpi->peers[0], status);
    if (done) return;
    if (polls < POLLS) continue;
    const double late = time_monotonic() - deadline;
    if (late > 0 && late > (lower_waits(comm) ? GRACE : 0)) give_up(comm, what);
    pthread_mutex_unlock(&mpi->lock);
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    pthread_mutex_lock(&mpi->lock);
  }
}

/* A message that is too long MPI refuses, one that is too short it takes. */
static void check_lengths(const Comm *comm, const char *what) {
  struct CommMpi *mpi = comm->world->mpi;
  for (int i = 0; i < mpi->receives; i++) {
    const int peer = mpi->peers[i];
    int found;
    MPI_Get_count(&mpi->statuses[i], MPI_BYTE, &found);
    if (found == mpi->lengths[i]) continue;
    char text[512];
    snprintf(text, sizeof text, "collective %lld (%s): rank %d on %.100s sent %d bytes, expected are %d",
             (long long)comm->world->collectives, what, peer, mpi->hosts[peer], found, mpi->lengths[i]);
    exchange_abort(comm, ERROR_DEVICE, text);
  }
}

void exchange_run(const Comm *comm, const char *what) {
  CommWorld *world = comm->world;
  world->collectives++;
  const CommPart *own = &world->parts[comm->rank];
  ASSERT(own->sent == own->received);
  if (own->sent && own->receive != own->send) memmove(own->receive, own->send, own->sent);
  world->parts[comm->rank] = (CommPart){0};
  pthread_mutex_lock(&world->mpi->lock);
  while (post(comm, what)) {
    wait_all(comm, what);
    check_lengths(comm, what);
  }
  pthread_mutex_unlock(&world->mpi->lock);
  memset(world->parts, 0, (size_t)comm->size * sizeof *world->parts);
}

static bool allocate(struct CommMpi *mpi, int size, Error *error) {
  const size_t ranks = (size_t)size;
  pthread_mutexattr_t recursive;
  pthread_mutexattr_init(&recursive);
  pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&mpi->lock, &recursive);
  pthread_mutexattr_destroy(&recursive);
  mpi->requests = memory_zeroed(2 * ranks, sizeof *mpi->requests);
  mpi->statuses = memory_zeroed(2 * ranks, sizeof *mpi->statuses);
  mpi->peers = memory_zeroed(2 * ranks, sizeof *mpi->peers);
  mpi->lengths = memory_zeroed(2 * ranks, sizeof *mpi->lengths);
  mpi->hosts = memory_zeroed(ranks, sizeof *mpi->hosts);
  if (mpi->requests && mpi->statuses && mpi->peers && mpi->lengths && mpi->hosts) return true;
  return error_out_of_memory(error, "messages of ranks", ranks * sizeof *mpi->hosts);
}

static void mpi_free(struct CommMpi *mpi) {
  pthread_mutex_destroy(&mpi->lock);
  memory_free(mpi->requests);
  memory_free(mpi->statuses);
  memory_free(mpi->peers);
  memory_free(mpi->lengths);
  memory_free(mpi->hosts);
  memory_free(mpi);
}

/* Who shares this host and its cores. Where the system does not tell which cores a rank has, it may have any. */
static bool find_neighbours(Comm *comm, Error *error) {
  const struct CommMpi *mpi = comm->world->mpi;
  cpu_set_t own, *sets = memory_zeroed((size_t)comm->size, sizeof own);
  if (!sets) return error_out_of_memory(error, "cores of ranks", (size_t)comm->size * sizeof own);
  if (sched_getaffinity(0, sizeof own, &own) != 0) memset(&own, 0xff, sizeof own);
  comm_all_gather(comm, &own, sets, sizeof own);
  comm->neighbours = comm->sharing = 0;
  for (int r = 0; r < comm->size; r++) {
    if (strcmp(mpi->hosts[r], mpi->hosts[comm->rank]) != 0) continue;
    cpu_set_t both;
    CPU_AND(&both, &sets[r], &own);
    comm->neighbours++;
    comm->sharing += CPU_COUNT(&both) > 0;
  }
  memory_free(sets);
  return true;
}

static bool join(Comm *comm, const CommLaunch *launch, Error *error) {
  struct CommMpi *mpi = comm->world->mpi;
  MPI_Comm_dup(MPI_COMM_WORLD, &mpi->comm);
  MPI_Comm_set_errhandler(mpi->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(mpi->comm, &comm->rank);
  MPI_Comm_size(mpi->comm, &comm->size);
  if (comm->size != launch->size) {
    return error_set(
        error, ERROR_USAGE,
        "%s asks for %d ranks (%s), MPI finds %d: it is the launcher of another MPI than the one "
        "this build has",
        launch->launcher, launch->size, launch->variable, comm->size);
  }
  int length;
  MPI_Get_processor_name(mpi->hosts[comm->rank], &length);
  comm_all_gather(comm, mpi->hosts[comm->rank], mpi->hosts, sizeof *mpi->hosts);
  return find_neighbours(comm, error);
}

bool exchange_open(Comm *comm, const CommLaunch *launch, Error *error) {
  int before = 0, level;
  MPI_Initialized(&before);
  ASSERT(!before);
  struct CommMpi *mpi = memory_zeroed(1, sizeof *mpi);
  if (!mpi) return error_out_of_memory(error, "messages of ranks", sizeof *mpi);
  if (!allocate(mpi, launch->size, error)) {
    mpi_free(mpi);
    return false;
  }
  MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level); /* ends the program where it fails */
  comm->world->mpi = mpi;
  comm->world->threads = level >= MPI_THREAD_SERIALIZED;
  if (join(comm, launch, error)) return true;
  exchange_close(comm);
  return false;
}

void exchange_close(Comm *comm) {
  MPI_Comm_free(&comm->world->mpi->comm);
  MPI_Finalize();
  mpi_free(comm->world->mpi);
  comm->world->mpi = NULL;
}
