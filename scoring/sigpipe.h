/* Inside scoring/ only: writing to a pipe or connection that the other side has closed is an error there, not a signal that ends us. */
#ifndef SCORING_SIGPIPE_H
#define SCORING_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

typedef struct Sigpipe {
  sigset_t before;
  bool pending;
} Sigpipe;

/* Around what may write; for this thread alone. */
void sigpipe_block(Sigpipe *state);
void sigpipe_restore(const Sigpipe *state);

#endif
