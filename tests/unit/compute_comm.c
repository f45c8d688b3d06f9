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
                                        "PMIX_RANK",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_STEP_NUM_TASKS"};

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

static void launchers_are_told_by_their_variables(void **state) {
  (void)state;
  static const struct {
    const char *text, *launcher;
    int rank, size;
    bool reached;
  } cases[] = {
      {"", NULL, 0, 1, true},
      {"OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4", "mpirun", 2, 4, true},
      {"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", "mpirun", 0, 1, true},
      {"PMIX_RANK=1 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1", "srun", 1, 2, true},
      {"PMI_RANK=1 PMI_SIZE=2", "mpiexec", 1, 2, true},
      {"RANK=3 WORLD_SIZE=8", "torchrun", 3, 8, false},
      {"SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2", "srun", 1, 2, false},
      /* mpirun inside a step of one process, or of a job that torch's variables are set for */
      {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", "mpirun", 1, 2,
       true},
      {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 RANK=0 WORLD_SIZE=9", "mpirun", 1, 2, true},
      /* no launchers: a batch script, and variables that others use too */
      {"SLURM_PROCID=0 SLURM_NTASKS=4", NULL, 0, 1, true},
      {"WORLD_SIZE=4", NULL, 0, 1, true},
      {"RANK=high", NULL, 0, 1, true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    environment(cases[i].text);
    CommLaunch launch;
    Error error = {0};
    assert_true(comm_launch(&launch, &error));
    assert_int_equal(launch.rank, cases[i].rank);
    assert_int_equal(launch.size, cases[i].size);
    assert_int_equal(!launch.instead, cases[i].reached);
    assert_int_equal(!launch.launcher, !cases[i].launcher);
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

static void a_launcher_without_mpi_is_refused_by_name(void **state) {
  (void)state;
  environment("RANK=1 WORLD_SIZE=2");
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  assert_true(comm_launch(&launch, &error));
  assert_false(comm_open(&comm, &launch, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "torchrun asks for 2 ranks (WORLD_SIZE): "));
  assert_int_equal(comm.size, 1);
}

static void one_rank_is_the_identity(void **state) {
  (void)state;
  environment("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1");
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  assert_true(comm_launch(&launch, &error));
  assert_true(comm_open(&comm, &launch, &error));
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
      cmocka_unit_test(a_launcher_without_mpi_is_refused_by_name),
      cmocka_unit_test(one_rank_is_the_identity),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
