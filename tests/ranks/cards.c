/*   cards            all cases
 *   cards hangs      the last rank does, where the others wait for its card; is_killed likewise
 *
 * Collectives of tensors on the cards of ranks that a launcher started have, to the bit, what those of the host have
 * (collectives.c): each kind, of few elements and of many, several on their way at once, with slices of one length and of many.
 *
 * Exits with 77 where there are not as many cards as ranks. */
#include "compute/collective.h"
#include "compute/ops.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KINDS = 4, TIMES = 3, ALL = KINDS * TIMES };
static const int64_t counts[] = {1, 7, 4096, 100003, 9 << 20}; /* the last one goes in pieces */

static void expect(const Comm *comm, bool condition, const char *what, int64_t count) {
  if (condition) return;
  Error error = {0};
  (void)error_set(&error, ERROR_DATA, "%s of %lld elements is wrong", what, (long long)count);
  comm_abandon(comm, &error);
}

static void *new_array(int64_t count, size_t size) {
  void *out = calloc((size_t)count + 1, size);
  if (!out) abort();
  return out;
}

/* Sizes so different that the order of a sum is seen in its last bits. */
static float element(int r, int64_t i, int which) {
  const uint32_t bits = ((uint32_t)i + 977u * (uint32_t)r + 31u * (uint32_t)which) * 2654435761u;
  return (float)ldexp((double)(bits ^ bits >> 15) - 0x1p31, (int)((i + 5 * r) % 12) - 31);
}

/* Slices that are not equal: none for every third rank. */
static void uneven(const Comm *comm, int64_t count, int64_t *at) {
  for (int r = 0; r < comm->size; r++) at[r + 1] = r % 3 == 1 ? at[r] : count * (r + 1) / (comm->size + 1);
  at[comm->size] = count;
}

static Collective start(Compute *compute, int which, Tensor values, const int64_t *at) {
  switch (which % KINDS) {
    case 0:
      return collective_all_reduce(compute, values);
    case 1:
      return collective_reduce_scatter(compute, values, at);
    case 2:
      return collective_all_gather(
          compute,
          tensor_rows(values, at[compute->comm.rank], at[compute->comm.rank + 1] - at[compute->comm.rank]),
          values, at);
    default:
      return collective_broadcast(compute, which % compute->comm.size, values);
  }
}

/* What the host makes of it, in place. */
static void expected(const Comm *comm, int which, float *values, int64_t count, const int64_t *at) {
  const size_t bytes = (size_t)count * sizeof *values;
  if (which % KINDS < 2) comm_all_reduce(comm, COMM_SUM, DTYPE_F32, values, count);
  if (which % KINDS == 3) comm_broadcast(comm, which % comm->size, values, bytes);
  for (int r = 0; r < comm->size && which % KINDS == 2; r++) {
    for (int64_t i = at[r]; i < at[r + 1]; i++) values[i] = element(r, i, which);
  }
}

static void compare(Compute *compute, int which, Tensor found, const int64_t *at) {
  static const char *const names[KINDS] = {"all-reduce", "reduce-scatter", "all-gather", "broadcast"};
  const Comm *comm = &compute->comm;
  const int64_t count = tensor_count(found);
  float *have = new_array(count, sizeof *have), *want = new_array(count, sizeof *want);
  for (int64_t i = 0; i < count; i++) want[i] = element(comm->rank, i, which);
  compute_download(compute, have, found); /* waits for the card, before the host waits for others */
  expected(comm, which, want, count, at);
  const int64_t first = which % KINDS == 1 ? at[comm->rank] : 0;
  const int64_t end = which % KINDS == 1 ? at[comm->rank + 1] : count;
  expect(comm, memcmp(have + first, want + first, (size_t)(end - first) * sizeof *have) == 0,
         names[which % KINDS], count);
  free(have);
  free(want);
}

/* Operations write the values just before, and read the result just after. */
static void run(Compute *compute, int64_t count, int collectives) {
  Arena arena;
  Error error = {0};
  Tensor given[ALL], values[ALL], result[ALL];
  Collective started[ALL];
  const size_t bytes = (size_t)count * sizeof(float) + 4096;
  float *host = new_array(count, sizeof *host);
  int64_t *at = new_array(compute->comm.size + 1, sizeof *at);
  uneven(&compute->comm, count, at);
  if (!compute_arena(compute, &arena, "collectives", 3 * (size_t)collectives * bytes, &error)) {
    comm_abandon(&compute->comm, &error);
  }
  for (int k = 0; k < collectives; k++) {
    given[k] = tensor_new_1d(&arena, DTYPE_F32, count);
    values[k] = tensor_new_1d(&arena, DTYPE_F32, count);
    result[k] = tensor_new_1d(&arena, DTYPE_F32, count);
    for (int64_t i = 0; i < count; i++) host[i] = element(compute->comm.rank, i, k);
    compute_upload(compute, given[k], host);
  }
  for (int k = 0; k < collectives; k++) {
    op_axpby(compute, values[k], given[k], 1, 0);
    started[k] = start(compute, k, values[k], at);
  }
  for (int k = 0; k < collectives; k++) {
    collective_wait(compute, started[k]);
    op_axpby(compute, result[k], values[k], 1, 0);
  }
  for (int k = 0; k < collectives; k++) compare(compute, k, result[k], at);
  compute_arena_free(compute, &arena);
  free(host);
  free(at);
}

/* The others have nothing but their cards to notice it by. */
static void go_wrong(Compute *compute, const char *what) {
  if (compute->comm.rank == compute->comm.size - 1) {
    if (strcmp(what, "hangs") == 0) pause();
    raise(SIGKILL);
  }
  run(compute, 7, 1);
}

int main(int argc, char **argv) {
  CommLaunch launch;
  Comm comm;
  Compute compute;
  Error error = {0};
  const CommJoin join = {.seconds = argc > 1 ? 3 : 60};
  if (!comm_launch(&launch, &error) || !comm_open(&comm, &launch, &join, &error)) {
    fprintf(stderr, "error: %s\n", error.message);
    return (int)error.code;
  }
  if (!compute_open_rank(&compute, DEVICE_CUDA, 1, &comm, &error)) {
    if (comm.rank == 0) fprintf(stderr, "%s\n", error.message);
    comm_close(&comm);
    return 77;
  }
  if (argc > 1) go_wrong(&compute, argv[1]);
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    const bool large = counts[i] > 1 << 20;
    if (large && comm.size > 2) continue; /* an emulated card takes its time */
    run(&compute, counts[i], large ? 2 : ALL);
    if (comm.rank == 0) printf("[       OK ] %lld elements, %d ranks\n", (long long)counts[i], comm.size);
  }
  compute_close(&compute);
  comm_close(&comm);
  return 0;
}
