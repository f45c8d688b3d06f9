#include "compute/comm.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tried in this order. A launcher is there when both its variables are. */
static const struct Launcher {
  const char *name, *rank, *size, *local;
  bool mpi; /* its ranks can be joined by MPI */
} launchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", true},
    {"srun", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", true},
    {"mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", true},
    {"the environment", "RANK", "WORLD_SIZE", "LOCAL_RANK", false},
    /* A batch script has SLURM_PROCID and SLURM_NTASKS too, but only a step has this size. */
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", false},
};
enum { LAUNCHERS = sizeof launchers / sizeof *launchers, BY_HAND = 3 };

static bool read_number(const char *variable, int least, int most, int *out, Error *error) {
  const char *text = getenv(variable);
  char *end;
  const long value = strtol(text, &end, 10);
  if (end == text || *end || value < least || value > most) {
    char range[32] = "on";
    if (most < INT_MAX) snprintf(range, sizeof range, "to %d", most);
    return error_set(error, ERROR_USAGE,
                     "environment variable %s: expected a whole number from %d %s, found '%s'", variable,
                     least, range, text);
  }
  *out = (int)value;
  return true;
}

static bool is_there(const struct Launcher *launcher) {
  return getenv(launcher->rank) && getenv(launcher->size);
}

static bool read_ranks(const struct Launcher *launcher, CommLaunch *launch, Error *error) {
  *launch = (CommLaunch){
      .launcher = launcher->name, .variable = launcher->size, .mpi = launcher->mpi, .local_rank = -1};
  if (!read_number(launcher->size, 1, INT_MAX, &launch->size, error) ||
      !read_number(launcher->rank, 0, INT_MAX, &launch->rank, error) ||
      (getenv(launcher->local) && !read_number(launcher->local, 0, INT_MAX, &launch->local_rank, error))) {
    return false;
  }
  if (launch->rank < launch->size) return true;
  return error_set(error, ERROR_USAGE, "environment variables: %s is %d, but %s is %d", launcher->rank,
                   launch->rank, launcher->size, launch->size);
}

/* RANK and WORLD_SIZE are there together or not at all. */
static bool check_halves(Error *error) {
  const char *const names[] = {launchers[BY_HAND].rank, launchers[BY_HAND].size};
  for (int i = 0; i < 2; i++) {
    if (!getenv(names[i]) || getenv(names[1 - i])) continue;
    return error_set(error, ERROR_USAGE,
                     "environment variables: %s is there, but %s is not: set both, or neither", names[i],
                     names[1 - i]);
  }
  return true;
}

/* Where rank 0 is to be found, if the environment says it. */
static bool read_place(CommLaunch *launch, Error *error) {
  const char *const address = getenv("MASTER_ADDR"), *const port = getenv("MASTER_PORT");
  const bool needed = strcmp(launch->variable, launchers[BY_HAND].size) == 0;
  if (!address || !*address || !port) {
    return !needed ||
           error_set(error, ERROR_USAGE,
                     "environment variables: RANK and WORLD_SIZE ask for %d ranks, but %s is not there: the "
                     "others do not know where to find rank 0",
                     launch->size, !address || !*address ? "MASTER_ADDR" : "MASTER_PORT");
  }
  launch->address = address;
  if (!read_number("MASTER_PORT", 1, 65534, &launch->port, error)) return false;
  /* torchrun's agent then listens at MASTER_PORT itself. */
  const char *agent = getenv("TORCHELASTIC_USE_AGENT_STORE");
  launch->port += agent && strcmp(agent, "True") == 0;
  return true;
}

/* Who started ranks by a launcher and has these variables too has to mean the same ranks by both. */
static bool check_agreement(const CommLaunch *launch, const struct Launcher *one, Error *error) {
  const struct Launcher *hand = &launchers[BY_HAND];
  CommLaunch found;
  if (!launch->mpi || !is_there(hand)) return true;
  if (!read_ranks(hand, &found, error)) return false;
  if (found.size == 1 || (found.size == launch->size && found.rank == launch->rank)) return true;
  return error_set(
      error, ERROR_USAGE,
      "environment variables: %s and %s say rank %d of %d, but %s and %s say rank %d of %d: unset those that "
      "are not meant",
      one->rank, one->size, launch->rank, launch->size, hand->rank, hand->size, found.rank, found.size);
}

/* The first that asks for several ranks, or the first that is there. torchrun may be started by one of the others, once a host. */
static const struct Launcher *find_launcher(CommLaunch *launch, Error *error) {
  const bool by_torchrun = getenv("TORCHELASTIC_RUN_ID") != NULL;
  const struct Launcher *first = NULL;
  for (int i = by_torchrun ? BY_HAND : 0; i < LAUNCHERS; i++) {
    CommLaunch found;
    if (!is_there(&launchers[i])) continue;
    if (!read_ranks(&launchers[i], &found, error)) return NULL;
    if (first && found.size == 1) continue;
    first = &launchers[i];
    *launch = found;
    if (found.size > 1) break;
  }
  if (first == &launchers[BY_HAND] && by_torchrun) launch->launcher = "torchrun";
  return first;
}

bool comm_launch(CommLaunch *launch, Error *error) {
  *launch = (CommLaunch){.size = 1, .local_rank = -1, .speaks = true};
  if (!check_halves(error)) return false;
  const struct Launcher *launcher = find_launcher(launch, error);
  if (error->code) return false;
  if (launch->size > 1 && !(check_agreement(launch, launcher, error) && read_place(launch, error)))
    return false;
  launch->watched = getenv("DROVER_LAUNCH") != NULL;
  launch->speaks = launch->rank == 0 || (launch->address && !launch->mpi && launch->local_rank <= 0);
  return true;
}

bool comm_one_rank(const CommLaunch *launch, const char *program, Error *error) {
  if (launch->size == 1) return true;
  return error_set(error, ERROR_USAGE, "%s runs on one rank, but %s asks for %d (%s)", program,
                   launch->launcher, launch->size, launch->variable);
}
