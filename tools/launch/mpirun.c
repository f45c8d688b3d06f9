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

typedef struct Words {
  char **items; /* with room for all */
  size_t count;
} Words;

static void add(Words *words, const char *word) {
  words->items[words->count++] = (char *)(uintptr_t)word; /* execvp changes none */
}

static void add_command(Words *words, const RankPlan *plan) {
  for (char **word = plan->command; *word; word++) add(words, *word);
}

/* taskset binds what mpirun does not: its own options count cores that a container does not have. */
static void add_ranks(Words *words, const RankPlan *plan, const char *ranks, char (*cpus)[CORES_TEXT]) {
  if (!plan->bound) {
    add(words, "-n");
    add(words, ranks);
    add_command(words, plan);
    return;
  }
  for (int r = 0; r < plan->ranks; r++) {
    static const char *const before[] = {"-n", "1", "taskset", "-c"};
    cpu_set_t set;
    cores_share(plan->cores, plan->ranks, r, &set);
    if (r > 0) add(words, ":");
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) add(words, before[i]);
    add(words, cores_text(&set, cpus[r]));
    add_command(words, plan);
  }
}

static bool carry_out(const RankPlan *plan, Words *words, bool print, Error *error) {
  const bool root = geteuid() == 0;
  for (int i = 0; i < VARIABLES; i++) {
    if (variables[i].of_root && !root) continue;
    if (print) printf("%s=%s ", variables[i].name, variables[i].value);
    setenv(variables[i].name, variables[i].value, 1);
  }
  char threads[16];
  snprintf(threads, sizeof threads, "%d", plan->threads);
  if (plan->threads > 0 && print) printf("OMP_NUM_THREADS=%s", threads);
  if (plan->threads > 0) setenv("OMP_NUM_THREADS", threads, 1);
  if (print) {
    command_print(words->items, stdout);
    fputc('\n', stdout);
    return true;
  }
  execvp(words->items[0], words->items);
  return error_set(error, ERROR_FILE, "mpirun: %s; without --mpirun the ranks need none", strerror(errno));
}

bool mpirun_run(const RankPlan *plan, bool print, Error *error) {
  if (!comm_has_mpi()) {
    return error_set(error, ERROR_USAGE, "--mpirun: this build has no MPI; without it the ranks need none");
  }
  size_t length = 0;
  while (plan->command[length]) length++;
  Words words = {memory_zeroed(8 + (size_t)plan->ranks * (length + 6), sizeof *words.items), 0};
  char(*cpus)[CORES_TEXT] = memory_zeroed((size_t)plan->ranks, sizeof *cpus), ranks[16];
  bool ok =
      (words.items && cpus) || error_out_of_memory(error, "command", (size_t)plan->ranks * sizeof *cpus);
  if (ok) {
    snprintf(ranks, sizeof ranks, "%d", plan->ranks);
    add(&words, "mpirun");
    add(&words, "--oversubscribe");
    add(&words, "--bind-to");
    add(&words, "none");
    add_ranks(&words, plan, ranks, cpus);
    ok = carry_out(plan, &words, print, error);
  }
  memory_free(words.items);
  memory_free(cpus);
  return ok;
}
