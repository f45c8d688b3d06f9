#include "base/memory.h"
#include "compute/comm_exchange.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A message is counted in int. Tags are the number of the collective, so that ranks that went different ways do not
 * take each other's bytes; 32767 is the least that every MPI has. */
enum { MESSAGE = COMM_PIECE, TAGS = 32768, POLLS = 2000 };

typedef struct Mpi {
  MPI_Comm comm;
  MPI_Request *requests; /* [2 * size]: of world->messages */
  MPI_Status *statuses;
} Mpi;

static Mpi *mpi_of(const Comm *comm) {
  return comm->world->link;
}

static void mpi_defer(const Comm *comm) {
  (void)comm;
  nanosleep(&(struct timespec){.tv_sec = 2}, NULL); /* the launcher ends this one */
}

static void mpi_end(const Comm *comm, ErrorCode code, const char *message) {
  (void)message;
  MPI_Abort(mpi_of(comm)->comm, (int)code);
}

static bool mpi_is_done(const Comm *comm, int message) {
  int done = 0;
  MPI_Request_get_status(mpi_of(comm)->requests[message], &done, MPI_STATUS_IGNORE);
  return done;
}

static void check(const Comm *comm, const char *what, int peer, int status) {
  if (status == MPI_SUCCESS) return;
  char reason[MPI_MAX_ERROR_STRING] = "";
  int length;
  MPI_Error_string(status, reason, &length);
  exchange_abort(comm, ERROR_DEVICE, "collective %lld (%s) with rank %d on %.100s failed: %.500s",
                 (long long)comm->world->collectives, what, peer, comm->world->hosts[peer], reason);
}

/* Of the bytes that are left, how many go in the next message. */
static int next_message(size_t *left) {
  const int bytes = *left < MESSAGE ? (int)*left : MESSAGE;
  *left -= (size_t)bytes;
  return bytes;
}

/* Each rank begins beside itself, so that not all send to one at first. */
static void mpi_start(const Comm *comm, const char *what) {
  CommWorld *world = comm->world;
  Mpi *mpi = mpi_of(comm);
  const int tag = (int)(world->collectives % TAGS);
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + comm->size - step) % comm->size;
    CommPart *part = &world->parts[r];
    if (part->received == 0) continue;
    const int bytes = next_message(&part->received);
    check(comm, what, r,
          MPI_Irecv(part->receive, bytes, MPI_BYTE, r, tag, mpi->comm, &mpi->requests[world->count]));
    exchange_note(world, r, (size_t)bytes, true);
    part->receive += bytes;
  }
  for (int step = 1; step < comm->size; step++) {
    const int r = (comm->rank + step) % comm->size;
    CommPart *part = &world->parts[r];
    if (part->sent == 0) continue;
    const int bytes = next_message(&part->sent);
    check(comm, what, r,
          MPI_Isend(part->send, bytes, MPI_BYTE, r, tag, mpi->comm, &mpi->requests[world->count]));
    exchange_note(world, r, (size_t)bytes, false);
    part->send += bytes;
  }
}

/* A message that is too long MPI refuses, one that is too short it takes. */
static void check_lengths(const Comm *comm, const char *what) {
  const CommWorld *world = comm->world;
  for (int i = 0; i < world->receives; i++) {
    const CommMessage *message = &world->messages[i];
    int found;
    MPI_Get_count(&mpi_of(comm)->statuses[i], MPI_BYTE, &found);
    if ((size_t)found == message->bytes) continue;
    exchange_abort(comm, ERROR_DEVICE, "collective %lld (%s): rank %d on %s sent %d bytes, expected are %zu",
                   (long long)world->collectives, what, message->peer, world->hosts[message->peer], found,
                   message->bytes);
  }
}

static bool mpi_test(const Comm *comm, const char *what) {
  const CommWorld *world = comm->world;
  Mpi *mpi = mpi_of(comm);
  int done = 0;
  const int status = MPI_Testall(world->count, mpi->requests, &done, mpi->statuses);
  if (status == MPI_ERR_IN_STATUS) {
    for (int i = 0; i < world->count; i++) {
      if (mpi->statuses[i].MPI_ERROR != MPI_ERR_PENDING) {
        check(comm, what, world->messages[i].peer, mpi->statuses[i].MPI_ERROR);
      }
    }
  }
  check(comm, what, world->messages[0].peer, status);
  if (done) check_lengths(comm, what);
  return done;
}

static void mpi_pause(const Comm *comm) {
  (void)comm;
  nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void mpi_close(Comm *comm) {
  Mpi *mpi = mpi_of(comm);
  MPI_Comm_free(&mpi->comm);
  MPI_Finalize();
  memory_free(mpi->requests);
  memory_free(mpi->statuses);
  memory_free(mpi);
}

static const CommTransport transport = {.start = mpi_start,
                                        .test = mpi_test,
                                        .is_done = mpi_is_done,
                                        .pause = mpi_pause,
                                        .polls = POLLS,
                                        .defer = mpi_defer,
                                        .end = mpi_end,
                                        .close = mpi_close,
                                        .overhead = (size_t)7 << 20};

static bool join(Comm *comm, const CommLaunch *launch, Error *error) {
  MPI_Comm_set_errhandler(mpi_of(comm)->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(mpi_of(comm)->comm, &comm->rank);
  MPI_Comm_size(mpi_of(comm)->comm, &comm->size);
  if (comm->size != launch->size) {
    return error_set(
        error, ERROR_USAGE,
        "%s asks for %d ranks (%s), MPI finds %d: it is the launcher of another MPI than the one "
        "this build has",
        launch->launcher, launch->size, launch->variable, comm->size);
  }
  char host[MPI_MAX_PROCESSOR_NAME];
  int length;
  MPI_Get_processor_name(host, &length);
  snprintf(comm->world->hosts[comm->rank], COMM_HOST, "%.*s", COMM_HOST - 1, host);
  comm_all_gather(comm, comm->world->hosts[comm->rank], comm->world->hosts, COMM_HOST);
  return true;
}

bool comm_mpi_open(Comm *comm, const CommLaunch *launch, Error *error) {
  int before = 0, level;
  MPI_Initialized(&before);
  ASSERT(!before);
  const size_t ranks = (size_t)launch->size;
  Mpi *mpi = memory_zeroed(1, sizeof *mpi);
  if (!mpi) return error_out_of_memory(error, "messages of ranks", sizeof *mpi);
  comm->world->link = mpi;
  mpi->requests = memory_zeroed(2 * ranks, sizeof *mpi->requests);
  mpi->statuses = memory_zeroed(2 * ranks, sizeof *mpi->statuses);
  MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level); /* ends the program where it fails */
  comm->world->threads = level >= MPI_THREAD_SERIALIZED;
  comm->world->transport = &transport;
  MPI_Comm_dup(MPI_COMM_WORLD, &mpi->comm);
  if (mpi->requests && mpi->statuses) return join(comm, launch, error);
  return error_out_of_memory(error, "messages of ranks", 2 * ranks * sizeof *mpi->statuses);
}

bool comm_has_mpi(void) {
  return true;
}
