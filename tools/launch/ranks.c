#include "tools/launch/ranks.h"

#include "base/log.h"
#include "base/memory.h"
#include "compute/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE = 10 /* s that ranks have to end after another one */ };

typedef struct Ranks {
  const RankPlan *plan;
  pid_t *processes; /* [ranks]; 0: has ended */
  int running;
  int first, code; /* who failed first, and how; -1, 0 */
  bool first_was_killed;
  bool last_killed_0; /* rank 0, which would have said why, was killed with the others */
  double deadline;
} Ranks;

/* -- starting ------------------------------------------------------------------------------------------- */

static void set_number(const char *name, long value) {
  char text[32];
  snprintf(text, sizeof text, "%ld", value);
  setenv(name, text, 1);
}

static void set_variables(const RankPlan *plan, int rank, int port) {
  static const char *const foreign[] = {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"};
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) unsetenv(foreign[i]);
  set_number("RANK", rank);
  set_number("WORLD_SIZE", plan->ranks);
  set_number("LOCAL_RANK", rank);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  set_number("MASTER_PORT", port);
  set_number("DROVER_LAUNCH", getppid());
  if (plan->threads > 0) set_number("OMP_NUM_THREADS", plan->threads);
}

NORETURN static void become_rank(const RankPlan *plan, int rank, int port, pid_t parent,
                                 const sigset_t *signals) {
  cpu_set_t set;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(128 + SIGTERM);
  if (plan->bound) {
    cores_share(plan->cores, plan->ranks, rank, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* where it is not allowed the rank runs all the same */
  }
  const int nothing = open("/dev/null", O_RDONLY); /* only one could read what comes in */
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  if (nothing > STDIN_FILENO) close(nothing);
  set_variables(plan, rank, port);
  sigprocmask(SIG_SETMASK, signals, NULL);
  execv(plan->command[0], plan->command);
  fprintf(stderr, "error: %s: %s\n", plan->command[0], strerror(errno));
  _exit(ERROR_FILE);
}

static bool start_all(Ranks *ranks, int port, const sigset_t *signals, Error *error) {
  const pid_t own = getpid();
  fflush(NULL);
  for (int r = 0; r < ranks->plan->ranks; r++) {
    const pid_t process = fork();
    if (process == 0) become_rank(ranks->plan, r, port, own, signals);
    if (process < 0) return error_set(error, ERROR_DEVICE, "cannot start rank %d: %s", r, strerror(errno));
    ranks->processes[r] = process;
    ranks->running++;
  }
  return true;
}

/* -- watching ------------------------------------------------------------------------------------------- */

static void send_all(const Ranks *ranks, int number) {
  for (int r = 0; r < ranks->plan->ranks; r++) {
    if (ranks->processes[r] > 0) kill(ranks->processes[r], number);
  }
}

static void kill_all(Ranks *ranks) {
  ranks->last_killed_0 = ranks->processes[0] > 0;
  send_all(ranks, SIGKILL);
  ranks->deadline = INFINITY;
}

static void note_end(Ranks *ranks, int rank, int status) {
  const bool killed = WIFSIGNALED(status);
  const int code = killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  ranks->processes[rank] = 0;
  ranks->running--;
  if (code == 0 || ranks->code) return;
  ranks->code = code;
  ranks->first = rank;
  ranks->first_was_killed = killed;
  ranks->deadline = time_monotonic() + GRACE;
  if (killed) kill_all(ranks); /* they can only find out that it is gone */
}

static void reap(Ranks *ranks) {
  int status;
  for (pid_t process; (process = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (int r = 0; r < ranks->plan->ranks; r++) {
      if (ranks->processes[r] == process) note_end(ranks, r, status);
    }
  }
}

static sigset_t watched_signals(void) {
  sigset_t set;
  struct sigaction hangup;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGCHLD);
  if (sigaction(SIGHUP, NULL, &hangup) != 0 || hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  return set;
}

static void watch(Ranks *ranks, const sigset_t *signals) {
  while (ranks->running > 0) {
    siginfo_t info;
    const int number = sigtimedwait(signals, &info, &(struct timespec){.tv_nsec = 200000000});
    if (number > 0 && number != SIGCHLD && info.si_code != SI_KERNEL) send_all(ranks, number);
    reap(ranks);
    if (time_monotonic() > ranks->deadline) kill_all(ranks);
  }
}

/* A rank that fails says why itself, or rank 0 does; one that is killed cannot. */
static void say(const Ranks *ranks) {
  if (ranks->first_was_killed) {
    const int number = ranks->code - 128;
    fprintf(stderr, "error: rank %d was ended by signal %d (%s), and all ranks with it%s\n", ranks->first,
            number, strsignal(number),
            number == SIGKILL ? "; the system kills what takes too much memory (dmesg)" : "");
  } else if (ranks->code && ranks->first > 0 && ranks->last_killed_0) {
    fprintf(stderr, "error: rank %d ended with exit code %d, and the others did not end with it\n",
            ranks->first, ranks->code);
  }
}

bool ranks_run(const RankPlan *plan, int *code, Error *error) {
  Ranks ranks = {.plan = plan, .first = -1, .deadline = INFINITY};
  ranks.processes = memory_zeroed((size_t)plan->ranks, sizeof *ranks.processes);
  if (!ranks.processes) return error_out_of_memory(error, "ranks", (size_t)plan->ranks * sizeof(pid_t));
  sigset_t before;
  const sigset_t signals = watched_signals();
  sigprocmask(SIG_BLOCK, &signals, &before);
  int port;
  const int reserved = socket_reserve(&port);
  bool ok = reserved >= 0 || error_set(error, ERROR_DEVICE, "no free port on 127.0.0.1: %s", strerror(errno));
  ok = ok && start_all(&ranks, port, &before, error);
  if (!ok) kill_all(&ranks);
  watch(&ranks, &signals);
  if (reserved >= 0) close(reserved);
  if (ok) say(&ranks);
  *code = ranks.code;
  sigprocmask(SIG_SETMASK, &before, NULL);
  memory_free(ranks.processes);
  return ok;
}

/* -- printing ------------------------------------------------------------------------------------------- */

static void print_word(const char *word, FILE *out) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (*word && word[strspn(word, plain)] == '\0') {
    fputs(word, out);
    return;
  }
  fputc('\'', out);
  for (; *word; word++) {
    if (*word == '\'') {
      fputs("'\\''", out);
    } else {
      fputc(*word, out);
    }
  }
  fputc('\'', out);
}

void command_print(char *const *command, FILE *out) {
  for (; *command; command++) {
    fputc(' ', out);
    print_word(*command, out);
  }
}

void ranks_print(const RankPlan *plan, FILE *out) {
  cpu_set_t set;
  char cpus[CORES_TEXT];
  fprintf(out, "export WORLD_SIZE=%d MASTER_ADDR=127.0.0.1 MASTER_PORT=29500",
          plan->ranks); /* any that is free */
  if (plan->threads > 0) fprintf(out, " OMP_NUM_THREADS=%d", plan->threads);
  fputc('\n', out);
  for (int r = 0; r < plan->ranks; r++) {
    fprintf(out, "RANK=%d LOCAL_RANK=%d", r, r);
    if (plan->bound) {
      cores_share(plan->cores, plan->ranks, r, &set);
      fprintf(out, " taskset -c %s", cores_text(&set, cpus));
    }
    command_print(plan->command, out);
    fputs(" </dev/null &\n", out);
  }
  fputs("wait\n", out);
}
