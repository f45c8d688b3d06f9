/* Collectives beside the computing: a thread that carries them out one after the other, in the order in which they were
 * started. It is the only one in MPI while it has something to do; what is left to it is also what the caller's own
 * collectives wait for. */
#include "base/memory.h"
#include "compute/comm_exchange.h"

#include <pthread.h>

enum { WAITING = 256 }; /* a model has fewer blocks */

struct CommQueue {
  Comm comm;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  CommJob jobs[WAITING]; /* job k at k % WAITING, from 1 on */
  int64_t started, done; /* numbers of the last ones */
  bool closing;
};

static void *carry_out_all(void *context) {
  struct CommQueue *queue = context;
  pthread_mutex_lock(&queue->lock);
  while (true) {
    while (queue->started == queue->done && !queue->closing) pthread_cond_wait(&queue->changed, &queue->lock);
    if (queue->started == queue->done) break;
    const CommJob job = queue->jobs[(queue->done + 1) % WAITING];
    pthread_mutex_unlock(&queue->lock);
    comm_carry_out(&queue->comm, &job);
    pthread_mutex_lock(&queue->lock);
    queue->done++;
    pthread_cond_broadcast(&queue->changed);
  }
  pthread_mutex_unlock(&queue->lock);
  return NULL;
}

/* NULL where there is no memory or no thread: then collectives are carried out where they are started. */
static struct CommQueue *queue_open(const Comm *comm) {
  struct CommQueue *queue = memory_zeroed(1, sizeof *queue);
  if (!queue) return NULL;
  queue->comm = *comm;
  pthread_mutex_init(&queue->lock, NULL);
  pthread_cond_init(&queue->changed, NULL);
  if (pthread_create(&queue->thread, NULL, carry_out_all, queue) == 0) return queue;
  memory_free(queue);
  return NULL;
}

CommTicket queue_start(const Comm *comm, const CommJob *job) {
  CommWorld *world = comm->world;
  if (world->threads && !world->queue) world->queue = queue_open(comm);
  struct CommQueue *queue = world->queue;
  if (!queue) {
    world->threads = false;
    comm_carry_out(comm, job);
    return (CommTicket){0};
  }
  pthread_mutex_lock(&queue->lock);
  while (queue->started - queue->done == WAITING) pthread_cond_wait(&queue->changed, &queue->lock);
  const CommTicket ticket = {++queue->started};
  queue->jobs[ticket.number % WAITING] = *job;
  pthread_cond_broadcast(&queue->changed);
  pthread_mutex_unlock(&queue->lock);
  return ticket;
}

void queue_wait(const Comm *comm, CommTicket ticket) {
  struct CommQueue *queue = comm->world->queue;
  if (!queue) return;
  pthread_mutex_lock(&queue->lock);
  ASSERT(ticket.number <= queue->started);
  while (queue->done < ticket.number) pthread_cond_wait(&queue->changed, &queue->lock);
  pthread_mutex_unlock(&queue->lock);
}

void queue_drain(const Comm *comm) {
  const struct CommQueue *queue = comm->world->queue;
  if (queue) queue_wait(comm, (CommTicket){queue->started}); /* nobody else starts any */
}

void queue_close(CommWorld *world) {
  struct CommQueue *queue = world->queue;
  if (!queue) return;
  pthread_mutex_lock(&queue->lock);
  queue->closing = true;
  pthread_cond_broadcast(&queue->changed);
  pthread_mutex_unlock(&queue->lock);
  pthread_join(queue->thread, NULL);
  pthread_mutex_destroy(&queue->lock);
  pthread_cond_destroy(&queue->changed);
  memory_free(queue);
  world->queue = NULL;
}
