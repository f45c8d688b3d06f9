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

bool comm_open(Comm *comm, const CommLaunch *launch, Error *error) {
  *comm = comm_single();
  if (launch->size == 1) return true;
  if (launch->instead) {
    return error_set(error, ERROR_USAGE, "%s asks for %d ranks (%s): %s", launch->launcher, launch->size,
                     launch->variable, launch->instead);
  }
  CommWorld *world = memory_zeroed(1, sizeof *world);
  if (!world) return error_out_of_memory(error, "ranks", sizeof *world);
  world->timeout = COMM_TIMEOUT;
  world->parts = memory_zeroed((size_t)launch->size, sizeof *world->parts);
  /* Slices of a piece differ by an element. */
  const size_t bytes = COMM_PIECE + sizeof(double) * (size_t)launch->size;
  world->workspace = memory_alloc(bytes);
  comm->world = world;
  if (world->parts && world->workspace) {
    if (exchange_open(comm, launch, error)) return true;
  } else {
    error_out_of_memory(error, "pieces of collectives", bytes);
  }
  comm_close(comm);
  return false;
}

void comm_close(Comm *comm) {
  CommWorld *world = comm->world;
  if (world) {
    if (world->mpi) {
      comm_barrier(comm);
      exchange_close(comm);
    }
    memory_free(world->parts);
    memory_free(world->workspace);
    memory_free(world);
  }
  *comm = comm_single();
}

void comm_set_timeout(Comm *comm, double seconds) {
  if (comm->world) comm->world->timeout = seconds;
}

void comm_abandon(const Comm *comm, const Error *error) {
  exchange_abort(comm, error->code, error->message);
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
    type *to = out;                                                    \
    const type *from = values;                                         \
    if (reduction == COMM_SUM) {                                       \
      for (int64_t i = 0; i < count; i++) to[i] = sum(to[i], from[i]); \
    } else {                                                           \
      for (int64_t i = 0; i < count; i++) to[i] = max(to[i], from[i]); \
    }                                                                  \
  } while (0)
#define SUM(a, b) ((a) + (b))
/* Counters wrap around, on every rank alike. */
#define SUM_I64(a, b) (int64_t)((uint64_t)(a) + (uint64_t)(b))

static void reduce(CommReduction reduction, DType dtype, void *out, const void *values, int64_t count) {
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

/* out[count] = rows 0 to size-1 of the workspace, in that order. */
static void reduce_rows(const Comm *comm, CommReduction reduction, DType dtype, void *out, int64_t count) {
  const size_t bytes = (size_t)count * dtype_size(dtype);
  memcpy(out, comm->world->workspace, bytes);
  for (int r = 1; r < comm->size; r++) {
    reduce(reduction, dtype, out, comm->world->workspace + (size_t)r * bytes, count);
  }
}

/* Where the slice of rank r begins, of `count` elements. */
static int64_t slice(const Comm *comm, int64_t count, int r) {
  return count * r / comm->size;
}

/* Each rank reduces its own slice of the piece and sends it to all. */
static void all_reduce_piece(const Comm *comm, CommReduction reduction, DType dtype, unsigned char *values,
                             int64_t count) {
  const size_t size = dtype_size(dtype);
  CommPart *parts = comm->world->parts;
  const int64_t first = slice(comm, count, comm->rank);
  const int64_t own = slice(comm, count, comm->rank + 1) - first;
  unsigned char *const mine = values + (size_t)first * size;
  for (int r = 0; r < comm->size; r++) {
    const int64_t from = slice(comm, count, r), to = slice(comm, count, r + 1);
    parts[r] = (CommPart){.send = values + (size_t)from * size,
                          .sent = (size_t)(to - from) * size,
                          .receive = comm->world->workspace + (size_t)(r * own) * size,
                          .received = (size_t)own * size};
  }
  exchange_run(comm, "all-reduce");
  reduce_rows(comm, reduction, dtype, mine, own);
  for (int r = 0; r < comm->size; r++) {
    const int64_t from = slice(comm, count, r), to = slice(comm, count, r + 1);
    parts[r] = (CommPart){.send = mine,
                          .sent = (size_t)own * size,
                          .receive = values + (size_t)from * size,
                          .received = (size_t)(to - from) * size};
  }
  exchange_run(comm, "all-reduce");
}

void comm_all_reduce(const Comm *comm, CommReduction reduction, DType dtype, void *values, int64_t count) {
  if (!comm->world || count == 0) return;
  const size_t size = dtype_size(dtype), bytes = (size_t)count * size;
  if (bytes * (size_t)comm->size <= SMALL) {
    for (int r = 0; r < comm->size; r++) {
      comm->world->parts[r] = (CommPart){.send = values,
                                         .sent = bytes,
                                         .receive = comm->world->workspace + (size_t)r * bytes,
                                         .received = bytes};
    }
    exchange_run(comm, "all-reduce");
    reduce_rows(comm, reduction, dtype, values, count);
    return;
  }
  const int64_t piece = COMM_PIECE / (int64_t)size;
  for (int64_t at = 0; at < count; at += piece) {
    all_reduce_piece(comm, reduction, dtype, (unsigned char *)values + (size_t)at * size,
                     count - at < piece ? count - at : piece);
  }
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
  const int64_t whole = COMM_PIECE / (int64_t)size / comm->size, piece = whole > 0 ? whole : 1;
  for (int64_t at = 0; at < count; at += piece) {
    const int64_t n = count - at < piece ? count - at : piece;
    const size_t bytes = (size_t)n * size;
    for (int r = 0; r < comm->size; r++) {
      comm->world->parts[r] =
          (CommPart){.send = (const unsigned char *)values + (size_t)(r * count + at) * size,
                     .sent = bytes,
                     .receive = comm->world->workspace + (size_t)r * bytes,
                     .received = bytes};
    }
    exchange_run(comm, "reduce-scatter");
    reduce_rows(comm, reduction, dtype, (unsigned char *)out + (size_t)at * size, n);
  }
}

/* -- what is only moved --------------------------------------------------------------------------------- */

void comm_all_gather(const Comm *comm, const void *own, void *all, size_t bytes) {
  if (!comm->world) {
    memmove(all, own, bytes);
    return;
  }
  for (int r = 0; r < comm->size; r++) {
    comm->world->parts[r] = (CommPart){
        .send = own, .sent = bytes, .receive = (unsigned char *)all + (size_t)r * bytes, .received = bytes};
  }
  exchange_run(comm, "all-gather");
}

void comm_broadcast(const Comm *comm, int root, void *values, size_t bytes) {
  if (!comm->world) return;
  for (int r = 0; r < comm->size && comm->rank == root; r++) {
    comm->world->parts[r] = (CommPart){.send = values, .sent = r == root ? 0 : bytes};
  }
  if (comm->rank != root) {
    comm->world->parts[root] = (CommPart){.receive = values, .received = bytes};
  }
  exchange_run(comm, "broadcast");
}

void comm_all_to_all(const Comm *comm, const void *send, const int64_t *sent, void *receive,
                     const int64_t *received) {
  if (!comm->world) {
    ASSERT(*sent == *received);
    memmove(receive, send, (size_t)*sent);
    return;
  }
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
