#include "tools/launch/mpirun.h"

#include "base/memory.h"
#include "compute/comm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* mpirun's own rules: root has to say twice that it means it; processes of a container may not read each other's memory. */
static const struct {
  const char *name, *value;
  bool of_root;
} variables[] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1", true},
                 {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", true},
                 {"OMPI_MCA_btl_vader_single_copy_mechanism", "none", false}};
enum { VARIABLES = sizeof variables / sizeof *variables };

static bool carry_out(char **words, int threads, bool print, Error *error) {
  const bool root = geteuid() == 0;
  for (int i = 0; i < VARIABLES; i++) {
    if (variables[i].of_root && !root) continue;
    if (print) printf("%s=%s ", variables[i].name, variables[i].value);
    setenv(variables[i].name, variables[i].value, 1);
  }
  char text[16];
  snprintf(text, sizeof text, "%d", threads);
  if (threads > 0 && print) printf("OMP_NUM_THREADS=%s", text);
  if (threads > 0) setenv("OMP_NUM_THREADS", text, 1);
  if (print) {
    command_print(words, stdout);
    fputc('\n', stdout);
    return true;
  }
  execvp(words[0], words);
  return error_set(error, ERROR_FILE, "mpirun: %s; without --mpirun the ranks need none", strerror(errno));
}

bool mpirun_run(const RankPlan *plan, bool print, Error *error) {
  if (!comm_has_mpi()) {
    return error_set(error, ERROR_USAGE, "--mpirun: this build has no MPI; without it the ranks need none");
  }
  char ranks[16];
  snprintf(ranks, sizeof ranks, "%d", plan->ranks);
  /* Cores are not bound: Open MPI counts those that a container does not have, and 5.0.7 takes no program of its own for each rank. */
  char *const before[] = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks};
  enum { BEFORE = sizeof before / sizeof *before };
  size_t length = 0;
  while (plan->command[length]) length++;
  char **words = memory_alloc((BEFORE + length + 1) * sizeof *words);
  if (!words) return error_out_of_memory(error, "command", length * sizeof *words);
  memcpy(words, before, sizeof before);
  memcpy(words + BEFORE, plan->command, (length + 1) * sizeof *words);
  const bool ok = carry_out(words, plan->threads, print, error);
  memory_free(words);
  return ok;
}
