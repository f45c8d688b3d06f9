#include "compute/comm.h"

#include <limits.h>
#include <stdlib.h>

/* Tried in this order. A launcher is there when both its variables are. */
static const struct {
  const char *launcher, *rank, *size, *instead;
} launchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL},
    {"srun", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", NULL},
    {"mpiexec", "PMI_RANK", "PMI_SIZE", NULL},
    {"torchrun", "RANK", "WORLD_SIZE",
     "ranks on CPUs find each other through MPI: start them with mpirun -n N or srun --mpi=pmix"},
    /* A batch script has SLURM_PROCID and SLURM_NTASKS too, but only a step has this size. */
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
     "its processes cannot find each other: start them with srun --mpi=pmix"},
};

static bool read_number(const char *variable, int least, int *out, Error *error) {
  const char *text = getenv(variable);
  char *end;
  const long value = strtol(text, &end, 10);
  if (end == text || *end || value < least || value > INT_MAX) {
    return error_set(error, ERROR_USAGE,
                     "environment variable %s: expected a whole number from %d on, found '%s'", variable,
                     least, text);
  }
  *out = (int)value;
  return true;
}

bool comm_launch(CommLaunch *launch, Error *error) {
  *launch = (CommLaunch){.size = 1};
  for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
    const char *rank = launchers[i].rank, *size = launchers[i].size;
    if (!getenv(rank) || !getenv(size)) continue;
    launch->launcher = launchers[i].launcher;
    launch->variable = size;
    launch->instead = launchers[i].instead;
    if (!read_number(size, 1, &launch->size, error) || !read_number(rank, 0, &launch->rank, error)) {
      return false;
    }
    if (launch->rank < launch->size) return true;
    return error_set(error, ERROR_USAGE, "environment variables: %s is %d, but %s is %d", rank, launch->rank,
                     size, launch->size);
  }
  return true;
}

bool comm_one_rank(const CommLaunch *launch, const char *program, Error *error) {
  if (launch->size == 1) return true;
  return error_set(error, ERROR_USAGE, "%s runs on one rank, but %s asks for %d (%s)", program,
                   launch->launcher, launch->size, launch->variable);
}
