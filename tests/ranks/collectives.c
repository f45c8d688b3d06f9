/* Collectives among the ranks that a launcher started: every rank knows what all of them give, so each computes what has
 * to come out by itself and compares bits.
 *
 *   collectives                 all cases
 *   collectives WHAT RANK       one rank goes wrong where the others wait for it (faults.sh looks at what comes of it):
 *                               hangs, is_killed, fails, sends_less, goes_another_way, is_ahead; and
 *                               fails_beside: while a collective is on its way that the others have not come to */
#include "compute/collective.h"
#include "compute/ops.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t counts[] = {0, 1, 7, 1000, 4097, COMM_PIECE / 4 + 13, COMM_PIECE / 2 + 5};
enum { COUNTS = sizeof counts / sizeof *counts };

static void expect(const Comm *comm, bool condition, const char *what, int64_t count) {
  if (condition) return;
  Error error = {0};
  (void)error_set(&error, ERROR_DATA, "%s of %lld elements is wrong", what, (long long)count);
  fprintf(stderr, "rank %d: %s\n", comm->rank, error.message);
  comm_abandon(comm, &error);
}

static void *new_array(int64_t count, size_t size) {
  void *out = calloc((size_t)count + 1, size);
  if (!out) abort();
  return out;
}

/* Element i of rank r: sizes so different that the order of a sum is seen in its last bits. */
static double element(int r, int64_t i) {
  const uint32_t bits = ((uint32_t)i + 977u * (uint32_t)r) * 2654435761u;
  return ldexp((double)(bits ^ bits >> 15) - 0x1p31, (int)((i + 5 * r) % 12) - 31);
}

static void put(DType dtype, void *values, int64_t at, double value) {
  if (dtype == DTYPE_F32) ((float *)values)[at] = (float)value;
  if (dtype == DTYPE_F64) ((double *)values)[at] = value / 3;
  if (dtype == DTYPE_I64) ((int64_t *)values)[at] = (int64_t)(value * 0x1p40);
}

static void join(DType dtype, CommReduction reduction, void *out, int64_t at, const void *other) {
  if (dtype == DTYPE_F32) {
    float *to = (float *)out + at, from = *(const float *)other;
    *to = reduction == COMM_SUM ? *to + from : fmaxf(*to, from);
  } else if (dtype == DTYPE_F64) {
    double *to = (double *)out + at, from = *(const double *)other;
    *to = reduction == COMM_SUM ? *to + from : fmax(*to, from);
  } else {
    int64_t *to = (int64_t *)out + at, from = *(const int64_t *)other;
    *to = reduction == COMM_SUM ? *to + from : from > *to ? from : *to;
  }
}

/* The reduction of elements first .. first+count, ranks in order or from the last to the first. */
static void reduce(const Comm *comm, DType dtype, CommReduction reduction, void *out, int64_t first,
                   int64_t count, bool backwards) {
  for (int64_t i = 0; i < count; i++) {
    for (int step = 0; step < comm->size; step++) {
      const int r = backwards ? comm->size - 1 - step : step;
      _Alignas(8) unsigned char value[8] = {0};
      put(dtype, value, 0, element(r, first + i));
      if (step == 0) {
        put(dtype, out, i, element(r, first + i));
      } else {
        join(dtype, reduction, out, i, value);
      }
    }
  }
}

static void reductions_are_in_rank_order(const Comm *comm) {
  static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_I64};
  for (int k = 0; k < 3 * 2 * COUNTS; k++) {
    const DType dtype = dtypes[k % 3];
    const CommReduction reduction = k / 3 % 2 ? COMM_MAX : COMM_SUM;
    const int64_t count = counts[k / 6];
    const size_t size = dtype_size(dtype);
    void *values = new_array(count, size), *expected = new_array(count, size);
    for (int64_t i = 0; i < count; i++) put(dtype, values, i, element(comm->rank, i));
    reduce(comm, dtype, reduction, expected, 0, count, false);
    comm_all_reduce(comm, reduction, dtype, values, count);
    expect(comm, memcmp(values, expected, (size_t)count * size) == 0, "all-reduce", count);
    if (comm->size > 2 && count > 100 && reduction == COMM_SUM && dtype != DTYPE_I64) {
      reduce(comm, dtype, reduction, expected, 0, count, true);
      expect(comm, memcmp(values, expected, (size_t)count * size) != 0, "the other order", count);
    }
    free(values);
    free(expected);
  }
}

static void reduce_scatter_is_the_row_of_a_reduction(const Comm *comm) {
  for (int k = 0; k < 2 * COUNTS; k++) {
    const int64_t count = counts[k / 2] / comm->size + counts[k / 2] % 2;
    const bool in_place = k % 2;
    float *values = new_array(count * comm->size, sizeof *values),
          *expected = new_array(count, sizeof *expected);
    float *out = in_place ? values + comm->rank * count : new_array(count, sizeof *out);
    for (int64_t i = 0; i < count * comm->size; i++) put(DTYPE_F32, values, i, element(comm->rank, i));
    reduce(comm, DTYPE_F32, COMM_SUM, expected, comm->rank * count, count, false);
    comm_reduce_scatter(comm, COMM_SUM, DTYPE_F32, values, out, count);
    expect(comm, memcmp(out, expected, (size_t)count * sizeof *out) == 0, "reduce-scatter", count);
    if (!in_place) free(out);
    free(values);
    free(expected);
  }
}

static void a_maximum_with_nan_is_nan(const Comm *comm) {
  for (int r = 0; r < comm->size; r++) {
    float value = comm->rank == r ? NAN : (float)comm->rank;
    comm_all_reduce(comm, COMM_MAX, DTYPE_F32, &value, 1);
    expect(comm, isnan(value), "a maximum with NaN", 1);
  }
}

static void agreeing_is_having_one_value(const Comm *comm) {
  const int64_t values[] = {0, -1, 7, INT64_MIN, INT64_MAX};
  for (int i = 0; i < 5; i++) {
    expect(comm, comm_agree(comm, values[i]), "one value", 1);
    for (int r = 0; r < comm->size && comm->size > 1; r++) {
      expect(comm, !comm_agree(comm, comm->rank == r ? values[i] ^ 1 : values[i]), "two values", 1);
    }
  }
}

static void neighbours_are_counted(const Comm *comm) { /* mpirun.sh binds none to a core */
  expect(comm, comm->neighbours == comm->size && comm->sharing == comm->size, "ranks of a host", 1);
}

/* Byte i of what rank `from` has for rank `to`. */
static unsigned char byte(int from, int to, int64_t i) {
  return (unsigned char)(31 * from + 7 * to + i + i / 255);
}

static void bytes_arrive(const Comm *comm) {
  for (int k = 0; k < COUNTS; k++) {
    const int64_t count = 3 * counts[k]; /* up to more than one message */
    unsigned char *all = new_array(count * comm->size, 1);
    for (int64_t i = 0; i < count; i++) all[comm->rank * count + i] = byte(comm->rank, 0, i);
    comm_all_gather(comm, all + comm->rank * count, all, (size_t)count);
    for (int64_t i = 0; i < count * comm->size; i++) {
      expect(comm, all[i] == byte((int)(i / count), 0, i % count), "all-gather", count);
    }
    for (int root = 0; root < comm->size; root++) {
      for (int64_t i = 0; i < count; i++) all[i] = byte(comm->rank, 1, i);
      comm_broadcast(comm, root, all, (size_t)count);
      for (int64_t i = 0; i < count; i++) expect(comm, all[i] == byte(root, 1, i), "broadcast", count);
    }
    free(all);
  }
}

/* Rank a has this many for rank b: none for some, more than one message for others. */
static int64_t share(int a, int b) {
  return a == b ? 5 : (a + b) % 3 == 0 ? 0 : (a + 2 * b) % 4 == 1 ? COMM_PIECE + 11 * a + b : 100 * a + b;
}

static void all_to_all_sends_what_sizes_say(const Comm *comm) {
  int64_t *sent = new_array(comm->size, sizeof *sent), *received = new_array(comm->size, sizeof *received);
  int64_t *eight = new_array(comm->size, sizeof *eight), out = 0, in = 0;
  for (int r = 0; r < comm->size; r++) {
    sent[r] = share(comm->rank, r);
    eight[r] = sizeof *sent;
    out += sent[r];
  }
  comm_all_to_all(comm, sent, eight, received, eight);
  for (int r = 0; r < comm->size; r++) {
    expect(comm, received[r] == share(r, comm->rank), "all-to-all", received[r]);
    in += received[r];
  }
  unsigned char *send = new_array(out, 1), *receive = new_array(in, 1), *at = send;
  for (int r = 0; r < comm->size; r++) {
    for (int64_t i = 0; i < sent[r]; i++) *at++ = byte(comm->rank, r, i);
  }
  comm_all_to_all(comm, send, sent, receive, received);
  at = receive;
  for (int r = 0; r < comm->size; r++) {
    for (int64_t i = 0; i < received[r]; i++) {
      expect(comm, *at++ == byte(r, comm->rank, i), "all-to-all", received[r]);
    }
  }
  free(sent);
  free(received);
  free(eight);
  free(send);
  free(receive);
}

/* Slices of `count` elements that are not equal: none for every third rank. */
static void uneven(const Comm *comm, int64_t count, int64_t *at) {
  for (int r = 0; r < comm->size; r++) at[r + 1] = r % 3 == 1 ? at[r] : count * (r + 1) / (comm->size + 1);
  at[comm->size] = count;
}

/* Of each kind several at once. */
enum { KINDS = 4, TIMES = 3, ALL = KINDS * TIMES };
typedef enum Kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST } Kind;

static Collective started(Compute *compute, int i, Tensor values, Tensor apart, const int64_t *at) {
  const Comm *comm = &compute->comm;
  const Tensor own = tensor_rows(values, at[comm->rank], tensor_count(apart));
  switch ((Kind)(i % KINDS)) {
    case ALL_REDUCE:
      return collective_all_reduce(compute, values);
    case REDUCE_SCATTER:
      return collective_reduce_scatter(compute, values, at);
    case ALL_GATHER:
      if (i < KINDS) return collective_all_gather(compute, own, values, at);
      op_fill(compute, own, 0);
      return collective_all_gather(compute, apart, values, at);
    default:
      return collective_broadcast(compute, i % comm->size, values);
  }
}

static void expect_done(const Comm *comm, int i, const float *values, const float *sum, const int64_t *at) {
  const int64_t count = at[comm->size], first = at[comm->rank], own = at[comm->rank + 1] - first;
  const Kind kind = (Kind)(i % KINDS);
  float before = 0;
  if (kind == ALL_REDUCE)
    expect(comm, !memcmp(values, sum, (size_t)count * sizeof *sum), "all-reduce", count);
  if (kind == REDUCE_SCATTER) {
    expect(comm, !memcmp(values + first, sum + first, (size_t)own * sizeof *sum), "reduce-scatter", count);
    if (first > 0) put(DTYPE_F32, &before, 0, element(comm->rank, first - 1));
    expect(comm, first == 0 || values[first - 1] == before, "the slice before", count);
  }
  for (int64_t j = 0, r = 0; kind >= ALL_GATHER && j < count; j++) {
    float sent;
    while (j >= at[r + 1]) r++;
    put(DTYPE_F32, &sent, 0, element(kind == ALL_GATHER ? (int)r : i % comm->size, j));
    expect(comm, values[j] == sent, kind == ALL_GATHER ? "all-gather" : "broadcast", count);
  }
}

/* What is called in between comes after them. */
static void started_ones_have_the_same_bits(const Comm *comm) {
  Compute compute;
  Error error = {0};
  if (!compute_open(&compute, DEVICE_CPU, 1, &error)) comm_abandon(comm, &error);
  compute.comm = *comm;
  for (int k = 1; k < COUNTS; k++) {
    const int64_t count = counts[k];
    int64_t *at = new_array(comm->size + 1, sizeof *at);
    uneven(comm, count, at);
    const int64_t own = at[comm->rank + 1] - at[comm->rank];
    float *values[ALL], *sum = new_array(count, sizeof *sum), *apart = new_array(own, sizeof *apart);
    Collective handles[ALL];
    reduce(comm, DTYPE_F32, COMM_SUM, sum, 0, count, false);
    for (int64_t j = 0; j < own; j++) put(DTYPE_F32, apart, j, element(comm->rank, at[comm->rank] + j));
    for (int i = 0; i < ALL; i++) {
      values[i] = new_array(count, sizeof *sum);
      for (int64_t j = 0; j < count; j++) put(DTYPE_F32, values[i], j, element(comm->rank, j));
      handles[i] =
          started(&compute, i, tensor_1d(values[i], DTYPE_F32, count), tensor_1d(apart, DTYPE_F32, own), at);
      if (i == ALL / 2) comm_barrier(comm);
    }
    collective_wait(&compute, handles[1]);
    collective_wait(&compute, handles[ALL - 1]);
    for (int i = 0; i < ALL; i++) {
      expect_done(comm, i, values[i], sum, at);
      free(values[i]);
    }
    free(apart);
    free(sum);
    free(at);
  }
  compute_close(&compute);
}

/* Whoever has passed the barrier finds the files that all ranks made before it. */
static void nobody_passes_a_barrier_alone(const Comm *comm) {
  char folder[] = P_tmpdir "/drover-ranks-XXXXXX", path[128];
  if (comm->rank == 0 && !mkdtemp(folder)) abort();
  comm_broadcast(comm, 0, folder, sizeof folder);
  usleep(30000u * (unsigned)comm->rank);
  snprintf(path, sizeof path, "%s/%d", folder, comm->rank);
  FILE *file = fopen(path, "w");
  expect(comm, file != NULL, "a file", 1);
  fclose(file);
  comm_barrier(comm);
  for (int r = 0; r < comm->size; r++) {
    snprintf(path, sizeof path, "%s/%d", folder, r);
    expect(comm, access(path, F_OK) == 0, "a barrier", 1);
  }
  comm_barrier(comm);
  snprintf(path, sizeof path, "%s/%d", folder, comm->rank);
  unlink(path);
  comm_barrier(comm);
  if (comm->rank == 0) rmdir(folder);
}

static void go_wrong(Comm *comm, const char *what, int rank) {
  double values[2] = {1, 2};
  Error error = {0};
  comm_sum(comm, values, 2);
  if (comm->rank == rank || rank < 0) {
    if (strcmp(what, "hangs") == 0) pause();
    if (strcmp(what, "is_killed") == 0) raise(SIGKILL);
    if (strcmp(what, "sends_less") == 0) comm_sum(comm, values, 1);
    if (strcmp(what, "goes_another_way") == 0) comm_barrier(comm);
    if (strcmp(what, "is_ahead") == 0) { /* by one in which nobody gets anything of it */
      int64_t *none = new_array(comm->size, sizeof *none);
      comm_all_to_all(comm, values, none, values, none);
      free(none);
    }
    if (strcmp(what, "fails") == 0) {
      (void)error_set(&error, ERROR_DATA, "line 7 of train.jsonl is no JSON");
      comm_abandon(comm, &error);
    }
    if (strcmp(what, "fails_beside") == 0) {
      (void)comm_start_all_reduce(comm, COMM_SUM, DTYPE_F64, values, 2);
      usleep(200000);
      (void)error_set(&error, ERROR_DATA, "line 7 of train.jsonl is no JSON");
      comm_abandon(comm, &error);
    }
  }
  if (strcmp(what, "fails_beside") == 0) sleep(30);
  for (int i = 0; i < 3; i++) comm_wait(comm, comm_start_all_reduce(comm, COMM_SUM, DTYPE_F64, values, 2));
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(const Comm *comm);
  } cases[] = {
      {"reductions_are_in_rank_order", reductions_are_in_rank_order},
      {"reduce_scatter_is_the_row_of_a_reduction", reduce_scatter_is_the_row_of_a_reduction},
      {"a_maximum_with_nan_is_nan", a_maximum_with_nan_is_nan},
      {"agreeing_is_having_one_value", agreeing_is_having_one_value},
      {"neighbours_are_counted", neighbours_are_counted},
      {"bytes_arrive", bytes_arrive},
      {"all_to_all_sends_what_sizes_say", all_to_all_sends_what_sizes_say},
      {"started_ones_have_the_same_bits", started_ones_have_the_same_bits},
      {"nobody_passes_a_barrier_alone", nobody_passes_a_barrier_alone},
  };
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  const CommJoin join = {.seconds = argc == 3 ? 4 : 60};
  if (!comm_launch(&launch, &error) || !comm_open(&comm, &launch, &join, &error)) {
    fprintf(stderr, "error: %s\n", error.message);
    return (int)error.code;
  }
  if (argc == 3) {
    go_wrong(&comm, argv[1], atoi(argv[2]));
  } else {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      cases[i].run(&comm);
      if (comm.rank == 0) printf("[       OK ] %s, %d ranks\n", cases[i].name, comm.size);
    }
  }
  comm_close(&comm);
  return 0;
}
