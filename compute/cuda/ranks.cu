/* The ranks of a run that computes on cards: one card each, NCCL between them, and a thread that sees whether what they have begun
 * ends. */
#include "compute/cuda/ranks.cuh"

#include <ctime>

extern "C" {
#include "base/log.h"
#include "base/memory.h"
#include "compute/collective_table.h"
}

enum { LOOK = 5 /* ms between two looks at what is on its way */ };

/* -- looking after them --------------------------------------------------------------------------------- */

NORETURN static void give_up(const CommCards *ranks, int64_t number, const char *what, const char *failure) {
  Error error = {};
  if (failure) {
    error_set(&error, ERROR_DEVICE,
              "collective %lld of cards (%s) failed: NCCL says %s; NCCL_DEBUG=WARN tells more",
              (long long)number, what, failure);
  } else {
    error_set(
        &error, ERROR_DEVICE,
        "collective %lld of cards (%s) has not ended within %.0f s: another rank is dead, hangs or went "
        "another way (NCCL does not say which); all ranks end here",
        (long long)number, what, ranks->comm.world->timeout);
  }
  comm_abandon(&ranks->comm, &error);
}

static bool is_over(cudaEvent_t event, const char *what) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) return false;
  device_check(status, what);
  return true;
}

static bool is_closing(CommCards *ranks) {
  pthread_mutex_lock(&ranks->lock);
  const bool closing = ranks->closing;
  pthread_mutex_unlock(&ranks->lock);
  return closing;
}

/* Returns when it is done, or nobody wants to know any more; its time runs from when its turn has come. */
static void look_after(CommCards *ranks, int64_t number) {
  const RanksJob *job = &ranks->jobs[number % RANKS_JOBS];
  const timespec pause = {0, LOOK * 1000000};
  double begun = 0;
  while (!is_over(job->done, job->what) && !is_closing(ranks)) {
    const char *failure = comm_nccl_failure(ranks->nccl);
    const double now = time_monotonic();
    if (begun == 0 && is_over(job->begun, job->what)) begun = now;
    if (failure || (begun > 0 && now - begun > ranks->comm.world->timeout)) {
      give_up(ranks, number, job->what, failure);
    }
    nanosleep(&pause, NULL);
  }
}

static void *watch(void *context) {
  CommCards *ranks = (CommCards *)context;
  device_check(cudaSetDevice(ranks->ordinal), "cudaSetDevice");
  pthread_mutex_lock(&ranks->lock);
  while (true) {
    while (ranks->started == ranks->seen && !ranks->closing) pthread_cond_wait(&ranks->changed, &ranks->lock);
    if (ranks->closing) break;
    pthread_mutex_unlock(&ranks->lock);
    look_after(ranks, ranks->seen + 1); /* nobody else writes it */
    pthread_mutex_lock(&ranks->lock);
    ranks->seen++;
    pthread_cond_broadcast(&ranks->changed);
  }
  pthread_mutex_unlock(&ranks->lock);
  return NULL;
}

/* -- opening -------------------------------------------------------------------------------------------- */

typedef struct CardAddress {
  char text[32]; /* on the bus */
} CardAddress;

/* NCCL has no two ranks on one card. The same on all ranks. */
static bool check_cards(const Compute *c, CardAddress *cards, Error *error) {
  const Comm *comm = &c->comm;
  CardAddress own = {};
  device_check(cudaDeviceGetPCIBusId(own.text, sizeof own.text, c->device->ordinal), "cudaDeviceGetPCIBusId");
  comm_all_gather(comm, &own, cards, sizeof own);
  for (int r = 1; r < comm->size; r++) {
    for (int q = 0; q < r; q++) {
      const char *host = comm->world->hosts[r];
      if (strcmp(cards[q].text, cards[r].text) != 0 || strcmp(comm->world->hosts[q], host) != 0) continue;
      return error_set(
          error, ERROR_USAGE,
          "ranks %d and %d have the same card (%s on %s), and each needs one of its own: start as "
          "many ranks on a host as it has cards, or compute with device.backend cpu",
          q, r, cards[r].text, host);
    }
  }
  return true;
}

static bool have_cards_of_their_own(const Compute *c, Error *error) {
  CardAddress *cards = (CardAddress *)memory_zeroed((size_t)c->comm.size, sizeof(CardAddress));
  if (!cards) return error_out_of_memory(error, "cards of ranks", (size_t)c->comm.size * sizeof(CardAddress));
  const bool ok = check_cards(c, cards, error);
  memory_free(cards);
  return ok;
}

static bool allocate(CommCards *ranks, Error *error) {
  const size_t size = (size_t)ranks->comm.size;
  ranks->parts = (CommPart *)memory_zeroed(size, sizeof(CommPart));
  ranks->send = (float **)memory_zeroed(size, sizeof(float *));
  ranks->sent = (int64_t *)memory_zeroed(size, sizeof(int64_t));
  ranks->even = (int64_t *)memory_zeroed(size + 1, sizeof(int64_t));
  return (ranks->parts && ranks->send && ranks->sent && ranks->even) ||
         error_out_of_memory(error, "collectives of cards", size * sizeof(CommPart));
}

static cudaError_t make_queue(const Compute *c, CommCards *ranks) {
  /* Before the operations: they have enough to do, and the other ranks wait. */
  cudaError_t status = cudaStreamCreateWithPriority(&ranks->stream, cudaStreamNonBlocking, -1);
  ranks->device = *c->device;
  ranks->device.stream = ranks->stream;
  ranks->beside = *c;
  ranks->beside.device = &ranks->device;
  if (status == cudaSuccess) status = cudaMalloc(&ranks->workspace, RANKS_WORKSPACE);
  for (int i = 0; status == cudaSuccess && i < RANKS_JOBS; i++) {
    status = cudaEventCreateWithFlags(&ranks->jobs[i].begun, cudaEventDisableTiming);
    if (status == cudaSuccess) {
      status = cudaEventCreateWithFlags(&ranks->jobs[i].done, cudaEventDisableTiming);
    }
  }
  return status;
}

static bool make_watch(CommCards *ranks, Error *error) {
  pthread_mutex_init(&ranks->lock, NULL);
  pthread_cond_init(&ranks->changed, NULL);
  ranks->watched = pthread_create(&ranks->thread, NULL, watch, ranks) == 0;
  return ranks->watched || error_set(error, ERROR_DEVICE, "CUDA: no thread for the collectives of ranks");
}

/* NCCL connects two ranks when they first have to do with each other, and takes memory for it. */
static cudaError_t meet(Compute *c) {
  enum { COUNT = 1024 };
  void *memory = NULL;
  cudaError_t status = cudaMalloc(&memory, COUNT * sizeof(float));
  if (status != cudaSuccess) return status;
  const Tensor values = tensor_1d(memory, DTYPE_F32, COUNT);
  cuda_fill(c, values, 1);
  cuda_all_reduce(c, values);
  for (int r = 0; r < c->comm.size; r++) cuda_broadcast(c, r, values);
  status = cudaStreamSynchronize(c->comm.world->cards->stream);
  cudaFree(memory);
  return status;
}

static bool join(Compute *c, Error *error) {
  CommCards *ranks = c->comm.world->cards;
  if (!allocate(ranks, error) || !comm_nccl_open(&ranks->nccl, &ranks->comm, error)) return false;
  cudaError_t status = make_queue(c, ranks);
  if (status == cudaSuccess && !make_watch(ranks, error)) return false;
  if (status == cudaSuccess) status = meet(c);
  return status == cudaSuccess ||
         error_set(error, ERROR_DEVICE, "CUDA: the ranks cannot be joined: %s", cudaGetErrorString(status));
}

static bool cuda_ranks_open(Compute *c, Error *error) {
  Device *d = c->device;
  size_t before = 0, after = 0, total = 0;
  if (!have_cards_of_their_own(c, error)) return false;
  CommCards *ranks = c->comm.world->cards = (CommCards *)memory_zeroed(1, sizeof(CommCards));
  if (!ranks) return error_out_of_memory(error, "collectives of cards", sizeof(CommCards));
  ranks->comm = c->comm;
  ranks->ordinal = d->ordinal;
  device_check(cudaMemGetInfo(&before, &total), "cudaMemGetInfo");
  if (!join(c, error)) return false; /* cuda_close frees what there is */
  device_check(cudaMemGetInfo(&after, &total), "cudaMemGetInfo");
  d->memory.overhead += before > after ? before - after : 0;
  d->memory.free = after;
  d->memory.used = d->memory.overhead;
  return true;
}

/* Also of what was opened in part. A rank that has failed closes alone: what is on its way then is given up, and not waited for. */
void cuda_ranks_close(Compute *c) {
  CommCards *ranks = c->comm.world ? c->comm.world->cards : NULL;
  if (!ranks) return;
  if (ranks->watched) {
    pthread_mutex_lock(&ranks->lock);
    ranks->closing = true;
    pthread_cond_broadcast(&ranks->changed);
    pthread_mutex_unlock(&ranks->lock);
    pthread_join(ranks->thread, NULL);
    pthread_mutex_destroy(&ranks->lock);
    pthread_cond_destroy(&ranks->changed);
  }
  comm_nccl_close(ranks->nccl);
  for (int i = 0; i < RANKS_JOBS; i++) {
    if (ranks->jobs[i].begun) device_check(cudaEventDestroy(ranks->jobs[i].begun), "cudaEventDestroy");
    if (ranks->jobs[i].done) device_check(cudaEventDestroy(ranks->jobs[i].done), "cudaEventDestroy");
  }
  if (ranks->workspace) device_check(cudaFree(ranks->workspace), "cudaFree");
  if (ranks->stream) device_check(cudaStreamDestroy(ranks->stream), "cudaStreamDestroy");
  memory_free(ranks->parts);
  memory_free(ranks->send);
  memory_free(ranks->sent);
  memory_free(ranks->even);
  memory_free(ranks);
  c->comm.world->cards = NULL;
}

int cuda_ranks_below(const Comm *comm) {
  int below = 0;
  for (int r = 0; r < comm->rank; r++) {
    below += strcmp(comm->world->hosts[r], comm->world->hosts[comm->rank]) == 0;
  }
  return below;
}

static const CollectiveTable table = {.open = cuda_ranks_open,
                                      .all_reduce = cuda_all_reduce,
                                      .reduce_scatter = cuda_reduce_scatter,
                                      .all_gather = cuda_all_gather,
                                      .broadcast = cuda_broadcast,
                                      .wait = cuda_collective_wait};
extern const CollectiveTable *const collectives_cuda = &table;
