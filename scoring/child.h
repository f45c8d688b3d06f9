/* Inside scoring/ only: a program that is given lines and answers with lines, for a long time.
 *
 * It runs in a process group of its own, so that a signal from the terminal does not reach it, with pipes for its three streams and with nothing
 * else of ours open. Nothing here waits unless it is told to. However the program ends, its group ends with it; and if this process is
 * killed, the kernel kills the program (PR_SET_PDEATHSIG), and what that has started sees the end of its input. */
#ifndef SCORING_CHILD_H
#define SCORING_CHILD_H

#include "base/memory.h"

#include <stdint.h>
#include <sys/types.h>

enum { CHILD_LONGEST_LINE = 1 << 20 }; /* bytes of what it answers */

typedef struct ChildStream {
  int fd; /* -1: closed */
  Buffer bytes;
  size_t taken; /* of them */
} ChildStream;

typedef struct Child {
  pid_t pid; /* 0: there is none */
  ChildStream in, out, err;
  bool broken; /* it does not read any more */
  bool still;  /* it was told to stand still */
} Child;

/* argv: NULL-terminated; the program is looked for in PATH. ERROR_USAGE when it cannot be started. */
NODISCARD bool child_start(Child *child, char *const argv[], Error *error);
/* Whether there is a program of this name that may be run: ERROR_USAGE. */
NODISCARD bool child_check(const char *program, Error *error);

/* Puts bytes behind those that wait to be written. */
NODISCARD bool child_send(Child *child, const char *bytes, size_t count, Error *error);
/* Writes and reads what can be; waits for something to happen up to so many seconds. The only errors are of memory. */
NODISCARD bool child_exchange(Child *child, double seconds, Error *error);
/* The next whole line of a stream, without its end; borrowed until the next exchange. Where there is none yet, more than `most` bytes
 * without an end are taken for one. False: there is none. */
bool child_line(ChildStream *stream, size_t most, const char **line, size_t *bytes);
/* What stands behind the last whole line. */
const char *child_rest(const ChildStream *stream, size_t *bytes);
/* It has closed its output, or does not read: there is nothing more to come. */
bool child_is_over(const Child *child);

/* It and what it has started stand still, and use no processor, until they are told to go on, or ended. */
void child_pause(Child *child);
void child_go_on(Child *child);

/* Ends it: closes its input, waits `patience` seconds for it to end by itself, then asks, then kills. Returns its status (waitpid),
 * or -1 when there is none. What it said last can still be taken, until it is freed. */
int child_end(Child *child, double patience);
void child_free(Child *child); /* of one that has ended, or was never started */
/* "exit code 1", "killed by signal 9 (Killed)". */
void child_status_text(int status, char *out, size_t size);

#endif
