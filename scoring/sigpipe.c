#include "scoring/sigpipe.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

static sigset_t only_sigpipe(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

void sigpipe_block(Sigpipe *state) {
  const sigset_t set = only_sigpipe();
  sigset_t pending;
  sigpending(&pending);
  state->pending = sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, &state->before);
}

void sigpipe_restore(const Sigpipe *state) {
  const sigset_t set = only_sigpipe();
  const int reason = errno;
  if (!state->pending) (void)sigtimedwait(&set, NULL, &(struct timespec){0}); /* one that came meanwhile */
  pthread_sigmask(SIG_SETMASK, &state->before, NULL);
  errno = reason;
}
