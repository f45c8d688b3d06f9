#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const variables[] = {"OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "PMIX_RANK",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "MPI_LOCALRANKID",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "LOCAL_RANK",
                                        "MASTER_ADDR",
                                        "MASTER_PORT",
                                        "TORCHELASTIC_RUN_ID",
                                        "TORCHELASTIC_USE_AGENT_STORE",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_LOCALID",
                                        "SLURM_STEP_NUM_TASKS",
                                        "DROVER_LAUNCH"};

/* "NAME=value NAME=value": the only variables of launchers that there are. */
static void environment(const char *text) {
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
  char copy[256], *rest = copy;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *word; (word = strsep(&rest, " "));) {
    char *value = strchr(word, '=');
    if (!value) continue;
    *value = '\0';
    setenv(word, value + 1, 1);
  }
}

#define OMPI(rank, size) "OMPI_COMM_WORLD_RANK=" #rank " OMPI_COMM_WORLD_SIZE=" #size
#define HAND(rank, size) "RANK=" #rank " WORLD_SIZE=" #size " MASTER_ADDR=a.b MASTER_PORT=29500"
#define STEP(rank, size) "SLURM_PROCID=" #rank " SLURM_STEP_NUM_TASKS=" #size

static void launchers_are_told_by_their_variables(void **state) {
  (void)state;
  static const struct {
    const char *text, *launcher;
    int rank, size;
    bool mpi;
    int port, local;
    bool speaks;
  } cases[] = {
      {"", NULL, 0, 1, false, 0, -1, true},
      {OMPI(2, 4), "mpirun", 2, 4, true, 0, -1, false},
      {OMPI(0, 4) " OMPI_COMM_WORLD_LOCAL_RANK=0", "mpirun", 0, 4, true, 0, 0, true},
      {OMPI(0, 1), "mpirun", 0, 1, true, 0, -1, true},
      {"PMIX_RANK=1 " STEP(1, 2), "srun", 1, 2, true, 0, -1, false},
      {"PMI_RANK=1 PMI_SIZE=2", "mpiexec", 1, 2, true, 0, -1, false},
      {STEP(1, 2), "srun", 1, 2, false, 0, -1, false},
      {STEP(1, 2) " SLURM_LOCALID=0 MASTER_ADDR=a.b MASTER_PORT=29500", "srun", 1, 2, false, 29500, 0, true},
      {HAND(3, 8), "the environment", 3, 8, false, 29500, -1, true},
      {HAND(3, 8) " LOCAL_RANK=1", "the environment", 3, 8, false, 29500, 1, false},
      {HAND(3, 8) " LOCAL_RANK=0 TORCHELASTIC_RUN_ID=x TORCHELASTIC_USE_AGENT_STORE=True", "torchrun", 3, 8,
       false, 29501, 0, true},
      {HAND(3, 8) " TORCHELASTIC_RUN_ID=x TORCHELASTIC_USE_AGENT_STORE=False", "torchrun", 3, 8, false, 29500,
       -1, true},
      {"RANK=0 WORLD_SIZE=1", "the environment", 0, 1, false, 0, -1, true},
      /* two that mean the same; or one of which asks for one rank: a step of one process, a pod of one */
      {OMPI(1, 2) " " HAND(1, 2), "mpirun", 1, 2, true, 29500, -1, false},
      {OMPI(1, 2) " " STEP(0, 1), "mpirun", 1, 2, true, 0, -1, false},
      {OMPI(1, 2) " RANK=0 WORLD_SIZE=1", "mpirun", 1, 2, true, 0, -1, false},
      {OMPI(0, 1) " " HAND(1, 2), "the environment", 1, 2, false, 29500, -1, true},
      /* mpirun starts its daemons, and srun torchrun, as steps of one process a host */
      {OMPI(9, 16) " " STEP(1, 2), "mpirun", 9, 16, true, 0, -1, false},
      {"PMIX_RANK=1 " STEP(1, 2) " " HAND(9, 16) " TORCHELASTIC_RUN_ID=x", "torchrun", 9, 16, false, 29500,
       -1, true},
      {HAND(9, 16) " " STEP(1, 2), "the environment", 9, 16, false, 29500, -1, true},
      /* no launchers: a batch script, and addresses */
      {"SLURM_PROCID=0 SLURM_NTASKS=4", NULL, 0, 1, false, 0, -1, true},
      {"MASTER_ADDR=a.b MASTER_PORT=29500", NULL, 0, 1, false, 0, -1, true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    environment(cases[i].text);
    CommLaunch launch;
    Error error = {0};
    assert_true(comm_launch(&launch, &error));
    assert_int_equal(launch.rank, cases[i].rank);
    assert_int_equal(launch.size, cases[i].size);
    assert_int_equal(launch.mpi, cases[i].mpi);
    assert_int_equal(launch.port, cases[i].port);
    assert_int_equal(launch.local_rank, cases[i].local);
    assert_int_equal(launch.speaks, cases[i].speaks);
    assert_int_equal(!launch.launcher, !cases[i].launcher);
    if (launch.port) assert_string_equal(launch.address, "a.b");
    if (launch.launcher) assert_string_equal(launch.launcher, cases[i].launcher);
    assert_int_equal(comm_one_rank(&launch, "sft", &error), cases[i].size == 1);
    assert_int_equal(error.code, cases[i].size == 1 ? ERROR_NONE : ERROR_USAGE);
  }
}

static void what_is_no_rank_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } cases[] = {
      {"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=two",
       "environment variable OMPI_COMM_WORLD_SIZE: expected a whole number from 1 on, found 'two'"},
      {"RANK=-1 WORLD_SIZE=2", "environment variable RANK: expected a whole number from 0 on, found '-1'"},
      {"RANK=0 WORLD_SIZE=0",
       "environment variable WORLD_SIZE: expected a whole number from 1 on, found '0'"},
      {"RANK=2 WORLD_SIZE=2", "environment variables: RANK is 2, but WORLD_SIZE is 2"},
      {"WORLD_SIZE=4", "environment variables: WORLD_SIZE is there, but RANK is not: set both, or neither"},
      {"RANK=high", "environment variables: RANK is there, but WORLD_SIZE is not: set both, or neither"},
      {"RANK=0 WORLD_SIZE=2 MASTER_PORT=29500",
       "environment variables: RANK and WORLD_SIZE ask for 2 ranks, but MASTER_ADDR is not there: the others "
       "do "
       "not know where to find rank 0"},
      {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a.b",
       "environment variables: RANK and WORLD_SIZE ask for 2 ranks, but MASTER_PORT is not there: the others "
       "do "
       "not know where to find rank 0"},
      {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a.b MASTER_PORT=65535",
       "environment variable MASTER_PORT: expected a whole number from 1 to 65534, found '65535'"},
      {HAND(0, 2) " LOCAL_RANK=x",
       "environment variable LOCAL_RANK: expected a whole number from 0 on, found 'x'"},
      {OMPI(1, 2) " " HAND(0, 9),
       "environment variables: OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE say rank 1 of 2, but RANK and "
       "WORLD_SIZE say rank 0 of 9: unset those that are not meant"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    environment(cases[i].text);
    CommLaunch launch;
    Error error = {0};
    assert_false(comm_launch(&launch, &error));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_string_equal(error.message, cases[i].message);
  }
}

static void processes_that_cannot_meet_are_refused(void **state) {
  (void)state;
  environment(STEP(1, 2));
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  assert_true(comm_launch(&launch, &error));
  assert_false(comm_open(&comm, &launch, &(CommJoin){.seconds = 1}, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_string_equal(
      error.message,
      "srun asks for 2 ranks (SLURM_STEP_NUM_TASKS), but its processes cannot find each other: set "
      "MASTER_ADDR and MASTER_PORT, or start them with srun --mpi=pmix");
  assert_int_equal(comm.size, 1);
}

static void one_rank_is_the_identity(void **state) {
  (void)state;
  environment("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1");
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  assert_true(comm_launch(&launch, &error));
  assert_true(comm_open(&comm, &launch, &(CommJoin){.seconds = 1}, &error));
  assert_null(comm.world); /* nobody has asked MPI for anything */
  float values[] = {1.5f, -2}, out[2] = {0};
  comm_all_reduce(&comm, COMM_MAX, DTYPE_F32, values, 2);
  comm_broadcast(&comm, 0, values, sizeof values);
  comm_barrier(&comm);
  assert_true(values[0] == 1.5f && values[1] == -2);
  comm_reduce_scatter(&comm, COMM_SUM, DTYPE_F32, values, out, 2);
  assert_memory_equal(out, values, sizeof out);
  comm_all_gather(&comm, &values[1], out, sizeof *out);
  assert_true(out[0] == -2);
  const int64_t bytes = sizeof out;
  comm_all_to_all(&comm, values, &bytes, out, &bytes);
  assert_memory_equal(out, values, sizeof out);
  comm_close(&comm);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(launchers_are_told_by_their_variables),
      cmocka_unit_test(what_is_no_rank_is_refused),
      cmocka_unit_test(processes_that_cannot_meet_are_refused),
      cmocka_unit_test(one_rank_is_the_identity),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
