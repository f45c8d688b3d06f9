/* Signals that stop a run: noted, answered at once on standard error, and looked at by the stage between its updates. */
#include "train/run.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The variables that outlive a call: what comes to the whole process has no other place. */
static atomic_int stop_signal;
static atomic_bool hangup_ignored; /* nohup: the run goes on without its terminal */
static atomic_bool is_quiet;       /* another rank says it */
static const char *_Atomic waits_for;
static _Atomic int64_t saved_step;

static const char usual_wait[] = "the update at hand";

static const struct StopSignal {
  int number;
  ErrorCode code;
  const char *name;
} signals[] = {{SIGINT, ERROR_SIGINT, NULL}, /* who pressed Ctrl-C knows no name of it */
               {SIGTERM, ERROR_SIGTERM, "SIGTERM"},
               {SIGHUP, ERROR_SIGHUP, "SIGHUP"},
               {SIGUSR1, ERROR_SIGUSR1, "SIGUSR1"}};
enum { SIGNALS = sizeof signals / sizeof *signals };

static const struct StopSignal *stop_signal_of(int number) {
  int i = 0;
  while (i + 1 < SIGNALS && signals[i].number != number) i++;
  return &signals[i];
}

static sigset_t stop_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < SIGNALS; i++) {
    if (signals[i].number != SIGHUP || !atomic_load(&hangup_ignored)) sigaddset(&set, signals[i].number);
  }
  return set;
}

/* Written past the log, which is another thread's; a progress bar that stands on the line is cleared. */
static void say_what_happens(int number) {
  char text[400], second[160] = "";
  const char *name = stop_signal_of(number)->name;
  const int64_t step = atomic_load(&saved_step);
  if (number != SIGUSR1) {
    const int size = snprintf(second, sizeof second, "; a second signal ends the program at once and loses ");
    char *lost = second + size;
    const size_t room = sizeof second - (size_t)size;
    if (step >= 0) snprintf(lost, room, "what came after update %" PRId64, step);
    if (step < 0) snprintf(lost, room, "what was done so far");
  }
  const int size = snprintf(text, sizeof text, "%s%s: waiting for %s, then saving%s\n",
                            isatty(STDERR_FILENO) ? "\r\033[K" : "", name ? name : "interrupted",
                            atomic_load(&waits_for), second);
  if (write(STDERR_FILENO, text, (size_t)size) < 0) return; /* nobody reads it any more */
}

/* Who starts a program, and who ends all of a group, may both pass the same signal on. */
static bool is_the_same(int before, int number, double *noted) {
  const double now = time_monotonic(), passed = now - *noted;
  *noted = now;
  return number == before && passed < 1;
}

/* SIGUSR1 announces that the machine will be taken away; it may come more than once, and what takes the machine sends
 * another signal (Slurm: SIGUSR1 some time before the limit, SIGTERM at it). So it is never the one signal too many. */
static bool ends_at_once(int before, int number) {
  return before != 0 && before != SIGUSR1 && number != SIGUSR1;
}

/* A thread of its own takes the signals, and all others block them. A handler would run on the stack of the thread that
 * the kernel happens to choose, and matrix kernels of oneDNN keep other things than the stack in the stack pointer: the
 * signal frame would be written into the middle of the heap. */
static void *wait_for_signals(void *unused) {
  (void)unused;
  const sigset_t set = stop_signals();
  double noted = -INFINITY;
  for (;;) {
    int number;
    if (sigwait(&set, &number) != 0) continue;
    const int before = atomic_load(&stop_signal);
    if (is_the_same(before, number, &noted)) continue;
    if (!ends_at_once(before, number)) {
      if (before == 0 || number != SIGUSR1) atomic_store(&stop_signal, number);
      if (before == 0 && !atomic_load(&is_quiet)) say_what_happens(number);
      continue;
    }
    signal(number, SIG_DFL); /* the second one ends the process, as if nobody had waited */
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return NULL;
  }
}

bool run_signals_install(bool quiet, Error *error) {
  static atomic_bool installed;
  atomic_store(&stop_signal, 0);
  atomic_store(&is_quiet, quiet);
  atomic_store(&waits_for, usual_wait);
  atomic_store(&saved_step, -1);
  if (atomic_exchange(&installed, true)) return true;
  struct sigaction hangup;
  atomic_store(&hangup_ignored, sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN);
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t thread;
  const int failure = pthread_create(&thread, NULL, wait_for_signals, NULL);
  if (failure) return error_set(error, ERROR_DEVICE, "cannot start a thread: %s", strerror(failure));
  pthread_detach(thread);
  return true;
}

int run_stop_signal(void) {
  return atomic_load(&stop_signal);
}

void run_signals_wait_for(const char *what) {
  atomic_store(&waits_for, what ? what : usual_wait);
}

void run_signals_saved(int64_t step) {
  atomic_store(&saved_step, step);
}

bool run_goes_on(const Run *run, Error *error) {
  int64_t number = run_stop_signal();
  comm_all_reduce(&run->comm, COMM_MAX, DTYPE_I64, &number, 1);
  return number == 0 || run_interrupted_error(run, (int)number, error);
}

bool run_interrupted_error(const Run *run, int number, Error *error) {
  const struct StopSignal *stop = stop_signal_of(number);
  char saved[400] = "";
  if (run->last_checkpoint)
    snprintf(saved, sizeof saved, "update %" PRId64 " is saved in %s; ", run->saved, run->last_checkpoint);
  return error_set(error, stop->code, "interrupted%s%s; %s%s", stop->name ? " by " : "",
                   stop->name ? stop->name : "", saved,
                   run->config->resume
                       ? "the same command goes on from here"
                       : "the same command starts over: without run.resume false it goes on from here");
}

void run_interrupted_saved(const Run *run, Error *error) {
  int i = 0;
  while (i + 1 < SIGNALS && signals[i].code != error->code) i++;
  *error = (Error){0};
  run_interrupted_error(run, signals[i].number, error);
}
