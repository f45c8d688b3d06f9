#include "compute/comm.h"

#include "base/memory.h"
#include "compute/comm_exchange.h"

#include <math.h>
#include <string.h>

/* Up to so many bytes of all ranks together are sent to each of them and reduced there: one exchange instead of two. */
enum { SMALL = 16 << 10 };

Comm comm_single(void) {
  return (Comm){.rank = 0, .size = 1, .neighbours = 1, .sharing = 1};
}

Comm comm_imagined(int size) {
  return (Comm){.rank = 0, .size = size, .neighbours = size, .sharing = size};
}

static void world_free(Comm *comm) {
  exchange_close(comm);
  memory_free(comm->world->parts);
  memory_free(comm->world->even);
  memory_free(comm->world->workspace);
  memory_free(comm->world);
  *comm = comm_single();
}

bool comm_open(Comm *comm, const CommLaunch *launch, const CommJoin *join, Error *error) {
  *comm = comm_single();
  if (launch->size == 1) return true;
  CommWorld *world = memory_zeroed(1, sizeof *world);
  if (!world) return error_out_of_memory(error, "ranks", sizeof *world);
  world->timeout = join->seconds;
  world->parts = memory_zeroed((size_t)launch->size, sizeof *world->parts);
  world->even = memory_zeroed((size_t)launch->size + 1, sizeof *world->even);
  /* Slices of a piece differ by an element. */
  const size_t bytes = COMM_PIECE + sizeof(double) * (size_t)launch->size;
  world->workspace = memory_alloc(bytes);
  comm->world = world;
  if (world->parts && world->even && world->workspace) {
    if (exchange_open(comm, launch, join, error)) return true;
  } else {
    error_out_of_memory(error, "pieces of collectives", bytes);
  }
  world_free(comm);
  return false;
}

void comm_close(Comm *comm) {
  if (comm->world) {
    comm_barrier(comm);
    queue_close(comm->world);
    world_free(comm);
  }
  *comm = comm_single();
}

void comm_abandon(const Comm *comm, const Error *error) {
  exchange_abort(comm, error->code, "%s", error->message);
}

/* -- reductions ----------------------------------------------------------------------------------------- */

static float max_f32(float a, float b) {
  return isnan(a) || a >= b ? a : b;
}

static double max_f64(double a, double b) {
  return isnan(a) || a >= b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b) {
  return a >= b ? a : b;
}

#define REDUCE(type, sum, max)                                         \
  do {                                                                 \
    type *restrict to = out;                                           \
    const type *restrict from = values;                                \
    if (reduction == COMM_SUM) {                                       \
      for (int64_t i = 0; i < count; i++) to[i] = sum(to[i], from[i]); \
    } else {                                                           \
      for (int64_t i = 0; i < count; i++) to[i] = max(to[i], from[i]); \
    }                                                                  \
  } while (0)
#define SUM(a, b) ((a) + (b))
/* Counters wrap around, on every rank alike. */
#define SUM_I64(a, b) (int64_t)((uint64_t)(a) + (uint64_t)(b))

static void reduce(CommReduction reduction, DType dtype, void *restrict out, const void *restrict values,
                   int64_t count) {
  switch (dtype) {
    case DTYPE_F32:
      REDUCE(float, SUM, max_f32);
      break;
    case DTYPE_F64:
      REDUCE(double, SUM, max_f64);
      break;
    case DTYPE_I64:
      REDUCE(int64_t, SUM_I64, max_i64);
      break;
    default:
      ASSERT(!"a dtype that is reduced");
  }
}

/* out[count] = the rows of all ranks, in order: `own` is this one's, which may be out, the others lie in the workspace. Some at a
 * time, so that each element comes from memory once and goes there once. */
static void reduce_rows(const Comm *comm, CommReduction reduction, DType dtype, void *out, const void *own,
                        int64_t count) {
  enum { SOME = 1024 };
  const size_t size = dtype_size(dtype);
  for (int64_t at = 0; at < count; at += SOME) {
    union {
      float f32[SOME];
      double f64[SOME];
      int64_t i64[SOME];
    } reduced;
    const int64_t n = count - at < SOME ? count - at : SOME;
    for (int r = 0; r < comm->size; r++) {
      const unsigned char *row = r == comm->rank ? own : comm->world->workspace + (size_t)(r * count) * size;
      row += (size_t)at * size;
      if (r == 0) {
        memcpy(&reduced, row, (size_t)n * size);
      } else {
        reduce(reduction, dtype, &reduced, row, n);
      }
    }
    memcpy((unsigned char *)out + (size_t)at * size, &reduced, (size_t)n * size);
  }
}

/* What all send to all is short: one exchange. */
static void all_reduce_small(const Comm *comm, CommReduction reduction, DType dtype, void *values,
                             int64_t count) {
  const size_t bytes = (size_t)count * dtype_size(dtype);
  for (int r = 0; r < comm->size; r++) {
    if (r == comm->rank) continue;
    comm->world->parts[r] = (CommPart){.send = values,
                                       .sent = bytes,
                                       .receive = comm->world->workspace + (size_t)r * bytes,
                                       .received = bytes};
  }
  exchange_run(comm, "all-reduce");
  reduce_rows(comm, reduction, dtype, values, values, count);
}

static int64_t longest(const Comm *comm, const int64_t *at) {
  int64_t most = 0;
  for (int r = 0; r < comm->size; r++) {
    if (at[r + 1] - at[r] > most) most = at[r + 1] - at[r];
  }
  return most;
}

static int64_t piece_of(int64_t length, int64_t first, int64_t piece) {
  const int64_t left = length - first;
  return left < 0 ? 0 : left < piece ? left : piece;
}

/* Each rank reduces its own slice, piece by piece, to `out`. */
static void reduce_slices(const Comm *comm, CommReduction reduction, DType dtype, const void *values,
                          void *out, const int64_t *at, const char *what) {
  const size_t size = dtype_size(dtype);
  const int64_t room = COMM_PIECE / (int64_t)size / comm->size, piece = room > 0 ? room : 1;
  const int64_t most = longest(comm, at), first = at[comm->rank], length = at[comm->rank + 1] - first;
  const unsigned char *const all = values;
  for (int64_t done = 0; done < most; done += piece) {
    const int64_t n = piece_of(length, done, piece);
    const size_t bytes = (size_t)n * size;
    for (int r = 0; r < comm->size; r++) {
      if (r == comm->rank) continue;
      comm->world->parts[r] = (CommPart){.send = all + (size_t)(at[r] + done) * size,
                                         .sent = (size_t)piece_of(at[r + 1] - at[r], done, piece) * size,
                                         .receive = comm->world->workspace + (size_t)r * bytes,
                                         .received = bytes};
    }
    exchange_run(comm, what);
    reduce_rows(comm, reduction, dtype, (unsigned char *)out + (size_t)done * size,
                all + (size_t)(first + done) * size, n);
  }
}

static void gather_slices(const Comm *comm, const void *own, void *values, size_t size, const int64_t *at,
                          const char *what) {
  unsigned char *const all = values;
  for (int r = 0; r < comm->size; r++) {
    comm->world->parts[r] = (CommPart){.send = own,
                                       .sent = (size_t)(at[comm->rank + 1] - at[comm->rank]) * size,
                                       .receive = all + (size_t)at[r] * size,
                                       .received = (size_t)(at[r + 1] - at[r]) * size};
  }
  exchange_run(comm, what);
}

/* Slices of elements [count] that are as equal as can be. */
static const int64_t *even_slices(const Comm *comm, int64_t count) {
  for (int r = 0; r <= comm->size; r++) comm->world->even[r] = count * r / comm->size;
  return comm->world->even;
}

static void all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values, int64_t count) {
  static const char *const what = "all-reduce";
  const size_t size = dtype_size(dtype);
  if ((size_t)count * size * (size_t)comm->size <= SMALL) {
    all_reduce_small(comm, reduction, dtype, values, count);
    return;
  }
  const int64_t *at = even_slices(comm, count);
  unsigned char *own = (unsigned char *)values + (size_t)at[comm->rank] * size;
  reduce_slices(comm, reduction, dtype, values, own, at, what);
  gather_slices(comm, own, values, size, at, what);
}

void comm_all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values, int64_t count) {
  if (!comm->world || count == 0) return;
  queue_drain(comm);
  all_reduce(comm, reduction, dtype, values, count);
}

void comm_sum(const Comm *comm, double *values, int64_t count) {
  comm_all_reduce(comm, COMM_SUM, DTYPE_F64, values, count);
}

void comm_reduce_scatter(const Comm *comm, CommReduction reduction, DType dtype, const void *values,
                         void *out, int64_t count) {
  const size_t size = dtype_size(dtype);
  if (!comm->world) {
    memmove(out, values, (size_t)count * size);
    return;
  }
  queue_drain(comm);
  reduce_slices(comm, reduction, dtype, values, out, even_slices(comm, count * comm->size), "reduce-scatter");
}

/* -- what is only moved --------------------------------------------------------------------------------- */

void comm_all_gather(const Comm *comm, const void *own, void *all, size_t bytes) {
  if (!comm->world) {
    memmove(all, own, bytes);
    return;
  }
  queue_drain(comm);
  for (int r = 0; r < comm->size; r++) {
    comm->world->parts[r] = (CommPart){
        .send = own, .sent = bytes, .receive = (unsigned char *)all + (size_t)r * bytes, .received = bytes};
  }
  exchange_run(comm, "all-gather");
}

static void broadcast(const Comm *comm, int root, void *values, size_t bytes) {
  for (int r = 0; r < comm->size && comm->rank == root; r++) {
    if (r != root) comm->world->parts[r] = (CommPart){.send = values, .sent = bytes};
  }
  if (comm->rank != root) {
    comm->world->parts[root] = (CommPart){.receive = values, .received = bytes};
  }
  exchange_run(comm, "broadcast");
}

void comm_broadcast(const Comm *comm, int root, void *values, size_t bytes) {
  if (!comm->world) return;
  queue_drain(comm);
  broadcast(comm, root, values, bytes);
}

void comm_all_to_all(const Comm *comm, const void *send, const int64_t *sent, void *receive,
                     const int64_t *received) {
  if (!comm->world) {
    ASSERT(*sent == *received);
    memmove(receive, send, (size_t)*sent);
    return;
  }
  queue_drain(comm);
  const unsigned char *from = send;
  unsigned char *to = receive;
  for (int r = 0; r < comm->size; r++) {
    comm->world->parts[r] =
        (CommPart){.send = from, .sent = (size_t)sent[r], .receive = to, .received = (size_t)received[r]};
    from += sent[r];
    to += received[r];
  }
  exchange_run(comm, "all-to-all");
}

void comm_barrier(const Comm *comm) {
  if (!comm->world) return;
  comm_all_gather(comm, &(char){0}, comm->world->workspace, 1);
}

bool comm_agree(const Comm *comm, int64_t value) {
  int64_t ends[2] = {value, ~value}; /* the complement falls where the value rises */
  comm_all_reduce(comm, COMM_MAX, DTYPE_I64, ends, 2);
  return ends[0] == ~ends[1];
}

/* -- beside the computing ------------------------------------------------------------------------------- */

void comm_carry_out(const Comm *comm, const CommJob *job) {
  switch (job->kind) {
    case COMM_ALL_REDUCE:
      all_reduce(comm, job->reduction, job->dtype, job->values, job->count);
      break;
    case COMM_REDUCE_SCATTER:
      reduce_slices(comm, job->reduction, job->dtype, job->values,
                    (unsigned char *)job->values + (size_t)job->at[comm->rank] * job->size, job->at,
                    "reduce-scatter");
      break;
    case COMM_ALL_GATHER:
      gather_slices(comm, job->own, job->values, job->size, job->at, "all-gather");
      break;
    case COMM_BROADCAST:
      broadcast(comm, job->root, job->values, job->size);
      break;
  }
}

static CommTicket start(const Comm *comm, CommJob job) {
  return comm->world ? queue_start(comm, &job) : (CommTicket){0};
}

CommTicket comm_start_all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values,
                                 int64_t count) {
  return start(
      comm,
      (CommJob){
          .kind = COMM_ALL_REDUCE, .reduction = reduction, .dtype = dtype, .values = values, .count = count});
}

CommTicket comm_start_reduce_scatter(const Comm *comm, CommReduction reduction, DType dtype, void *values,
                                     const int64_t *at) {
  return start(comm, (CommJob){.kind = COMM_REDUCE_SCATTER,
                               .reduction = reduction,
                               .dtype = dtype,
                               .values = values,
                               .size = dtype_size(dtype),
                               .at = at});
}

CommTicket comm_start_all_gather(const Comm *comm, const void *own, void *values, size_t size,
                                 const int64_t *at) {
  return start(comm,
               (CommJob){.kind = COMM_ALL_GATHER, .values = values, .own = own, .size = size, .at = at});
}

CommTicket comm_start_broadcast(const Comm *comm, int root, void *values, size_t bytes) {
  return start(comm, (CommJob){.kind = COMM_BROADCAST, .values = values, .size = bytes, .root = root});
}

void comm_wait(const Comm *comm, CommTicket ticket) {
  if (comm->world && ticket.number > 0) queue_wait(comm, ticket);
}

int64_t comm_sent(const Comm *comm) {
  if (!comm->world) return 0;
  queue_drain(comm);
  return comm->world->sent;
}
