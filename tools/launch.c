/* drover launch -n N STAGE ...: the same stage on several ranks of this machine. */
#include "base/log.h"
#include "base/memory.h"
#include "compute/comm.h"
#include "tools/launch/mpirun.h"
#include "tools/launch/ranks.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "launch: a stage on several ranks of this machine\n"
    "\n"
    "usage: drover launch -n N [OPTION ...] STAGE [--KEY VALUE ...]\n"
    "\n"
    "example\n"
    "  drover launch -n 2 sft --model.path my-model --data.train sft.jsonl \\\n"
    "    --run.dir runs/sft\n"
    "\n"
    "  -n N, --ranks N  how many\n"
    "  --no-bind        ranks may run on all cores, not each on its share of them\n"
    "  --mpirun         by Open MPI's mpirun, which has to be here; not bound\n"
    "  --dry-run        print the commands instead of carrying them out\n"
    "\n"
    "Each rank has its share of the cores, or of the processor time that a\n"
    "container allows, as threads; OMP_NUM_THREADS, if it is set, or\n"
    "--device.threads go before. Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP let the stage\n"
    "save; the exit code is that of the stage. Several machines: docs/ranks.md.\n";

typedef struct Request {
  int ranks; /* 0: not given */
  bool free, mpirun, dry, help;
  char **command; /* the stage and what follows; NULL: none */
} Request;

static bool read_count(const char *text, int *out, Error *error) {
  enum { MOST = 4096 };
  char *end;
  const long value = text ? strtol(text, &end, 10) : 0;
  if (!text || end == text || *end || value < 1 || value > MOST) {
    return error_set(error, ERROR_USAGE, "-n: expected a number of ranks from 1 to %d, found '%s'", MOST,
                     text ? text : "nothing");
  }
  *out = (int)value;
  return true;
}

/* One option; *taken is how many words it has. */
static bool read_option(char **words, Request *request, int *taken, Error *error) {
  const char *word = words[0];
  *taken = 1;
  if (strcmp(word, "-n") == 0 || strcmp(word, "--ranks") == 0) {
    *taken = 2;
    return read_count(words[1], &request->ranks, error);
  }
  if (strncmp(word, "-n", 2) == 0) return read_count(word + 2, &request->ranks, error);
  if (strncmp(word, "--ranks=", 8) == 0) return read_count(word + 8, &request->ranks, error);
  if (strcmp(word, "--no-bind") == 0) return request->free = true;
  if (strcmp(word, "--mpirun") == 0) return request->mpirun = true;
  if (strcmp(word, "--dry-run") == 0) return request->dry = true;
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return request->help = true;
  return error_set(
      error, ERROR_USAGE,
      "unknown option '%s' before the stage; usage: drover launch -n N [OPTION ...] STAGE [--KEY VALUE ...]",
      word);
}

static bool read_request(int argc, char **argv, Request *request, Error *error) {
  int i = 1, taken;
  for (; i < argc && argv[i][0] == '-'; i += taken) {
    if (!read_option(&argv[i], request, &taken, error)) return false;
  }
  if (request->help) return true;
  if (request->ranks == 0) return error_set(error, ERROR_USAGE, "-n is missing: how many ranks");
  if (i >= argc) return error_set(error, ERROR_USAGE, "no stage is named: sft, reward, dpo or ppo");
  request->command = &argv[i];
  return true;
}

/* A name is that of a program beside this one; path[PATH_MAX] takes its place. */
static bool find_stage(char **command, char *path, Error *error) {
  const char *name = command[0];
  const ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
  char *slash = size > 0 ? memrchr(path, '/', (size_t)size) : NULL;
  if (!slash) return error_set(error, ERROR_FILE, "cannot find out where this program lies");
  slash[1] = '\0';
  const size_t used = strchr(name, '/') ? 0 : strlen(path);
  if (strlen(name) >= PATH_MAX - used)
    return error_set(error, ERROR_USAGE, "no program has a name of that length");
  memcpy(path + used, name, strlen(name) + 1);
  if (access(path, X_OK) == 0) {
    command[0] = path;
    return true;
  }
  path[used] = '\0';
  return error_set(error, ERROR_USAGE, "no program '%s'%s%s (sft, reward, dpo and ppo are stages)", name,
                   used ? " in " : "", path);
}

/* What the ranks get of this machine, in one line. */
static void say_plan(const RankPlan *plan, Log *log) {
  const Cores *cores = plan->cores;
  char quota[64] = "";
  if (cores->quota < cores->count) snprintf(quota, sizeof quota, " (time for %.3g of them)", cores->quota);
  if (plan->ranks > cores->count) {
    log_warning(log, "%d ranks on %d core%s%s take turns: that is slower than %d ranks", plan->ranks,
                cores->count, cores->count == 1 ? "" : "s", quota, cores->count);
  } else if (plan->threads > 0) {
    log_info(log, "%d ranks on %d cores%s: %d thread%s each%s", plan->ranks, cores->count, quota,
             plan->threads, plan->threads == 1 ? "" : "s", plan->bound ? ", each on cores of its own" : "");
  }
}

static bool run(int argc, char **argv, int *code, Log *log, Error *error) {
  Request request = {0};
  CommLaunch launch;
  Cores cores;
  char path[PATH_MAX];
  if (!read_request(argc, argv, &request, error)) return false;
  if (request.help) {
    fputs(usage, stdout);
    return true;
  }
  if (strcmp(request.command[0], "run") == 0) {
    return error_set(error, ERROR_USAGE,
                     "a pipeline starts the ranks of each stage itself: drover run PIPELINE --launcher "
                     "'drover launch -n %d'",
                     request.ranks);
  }
  if (!comm_launch(&launch, error) || !comm_one_rank(&launch, "launch", error) ||
      !find_stage(request.command, path, error) || !cores_read(&cores, "", error)) {
    return false;
  }
  const RankPlan plan = {.ranks = request.ranks,
                         .threads = getenv("OMP_NUM_THREADS") ? 0 : cores_threads(&cores, request.ranks),
                         .bound = !request.free && request.ranks <= cores.count,
                         .cores = &cores,
                         .command = request.command};
  if (request.mpirun) return mpirun_run(&plan, request.dry, error);
  if (request.dry) {
    ranks_print(&plan, stdout);
    return true;
  }
  say_plan(&plan, log);
  return ranks_run(&plan, code, error);
}

int main(int argc, char **argv) {
  Log log;
  Error error = {0};
  int code = 0;
  log_init(&log, stderr, LOG_INFO);
  if (run(argc, argv, &code, &log, &error)) return code;
  log_error(&log, "%s", error.message);
  return (int)error.code;
}
