#include "scoring/child.h"

#include "base/log.h"
#include "scoring/sigpipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* -- starting --------------------------------------------------------------------------------------------- */

static bool is_program(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

bool child_check(const char *program, Error *error) {
  if (strchr(program, '/')) {
    if (is_program(program)) return true;
    if (access(program, F_OK) != 0) return error_set(error, ERROR_USAGE, "there is no %s", program);
    return error_set(error, ERROR_USAGE, "%s is no program that may be run (chmod +x)", program);
  }
  const char *path = getenv("PATH");
  for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
    const size_t length = strcspn(at, ":");
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%.*s/%s", (int)length, at, program);
    if (is_program(full)) return true;
    at += length + (at[length] == ':');
  }
  const char *hint = strchr(program, ' ')         ? ": a command is a list, [\"python3\", \"judge.py\"]"
                     : access(program, F_OK) == 0 ? ": for the one here write ./ before it"
                                                  : "";
  return error_set(error, ERROR_USAGE, "there is no program '%s' in PATH%s", program, hint);
}

/* The child's half, which shares the parent's memory until it runs another program: nothing but system calls. Returns errno. */
static int become(char *const argv[], const int pipes[3][2]) {
  sigset_t none;
  sigemptyset(&none);
  if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || dup2(pipes[0][0], STDIN_FILENO) < 0 ||
      dup2(pipes[1][1], STDOUT_FILENO) < 0 || dup2(pipes[2][1], STDERR_FILENO) < 0 ||
      close_range(3, ~0U, 0) != 0 || sigprocmask(SIG_SETMASK, &none, NULL) != 0) {
    return errno;
  }
  execvp(argv[0], argv);
  return errno;
}

/* Without a copy of this process's page tables, which may be of hundreds of gigabytes. */
static pid_t spawn(char *const argv[], const int pipes[3][2], int *failure) {
  volatile int reason = 0; /* written by the child in our memory */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler runs in the child */
  const pid_t pid = vfork();
  if (pid == 0) {
    reason = become(argv, pipes);
    _exit(127);
  }
  *failure = pid < 0 ? errno : reason;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return pid;
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static bool open_pipes(int pipes[3][2], Error *error) {
  for (int i = 0; i < 3; i++) {
    if (pipe2(pipes[i], O_CLOEXEC) != 0)
      return error_set(error, ERROR_DEVICE, "cannot make a pipe: %s", strerror(errno));
  }
  return true;
}

bool child_start(Child *child, char *const argv[], Error *error) {
  int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, failure = 0;
  *child = (Child){.in.fd = -1, .out.fd = -1, .err.fd = -1};
  bool ok = open_pipes(pipes, error);
  const pid_t pid = ok ? spawn(argv, pipes, &failure) : -1;
  if (pid > 0 && failure) (void)waitpid(pid, NULL, 0);
  if (ok && failure) ok = error_set(error, ERROR_USAGE, "cannot run %s: %s", argv[0], strerror(failure));
  close_fd(&pipes[0][0]);
  close_fd(&pipes[1][1]);
  close_fd(&pipes[2][1]);
  if (ok) {
    int *const ends[] = {&child->in.fd, &child->out.fd, &child->err.fd};
    for (int i = 0; i < 3; i++) {
      *ends[i] = pipes[i][i > 0 ? 0 : 1];
      fcntl(*ends[i], F_SETFL, O_NONBLOCK);
    }
    child->pid = pid;
  } else {
    close_fd(&pipes[0][1]);
    close_fd(&pipes[1][0]);
    close_fd(&pipes[2][0]);
  }
  return ok;
}

/* -- exchange --------------------------------------------------------------------------------------------- */

bool child_send(Child *child, const char *bytes, size_t count, Error *error) {
  return buffer_append(&child->in.bytes, bytes, count, error);
}

/* Bytes that were taken go, so that a stream needs no more room than what is in it. */
static void forget(ChildStream *stream) {
  Buffer *bytes = &stream->bytes;
  if (stream->taken == 0) return;
  memmove(bytes->data, bytes->data + stream->taken, bytes->size - stream->taken);
  bytes->size -= stream->taken;
  stream->taken = 0;
}

static void write_some(Child *child) {
  ChildStream *in = &child->in;
  Sigpipe sigpipe;
  sigpipe_block(&sigpipe);
  while (in->fd >= 0 && in->taken < in->bytes.size) {
    const ssize_t done = write(in->fd, in->bytes.data + in->taken, in->bytes.size - in->taken);
    if (done > 0) {
      in->taken += (size_t)done;
    } else if (errno != EINTR) {
      if (errno != EAGAIN) child->broken = true;
      break;
    }
  }
  sigpipe_restore(&sigpipe);
  forget(in);
}

static bool read_some(ChildStream *stream, Error *error) {
  char bytes[1 << 16];
  forget(stream);
  /* A stream that is not taken from is left to wait in its pipe. */
  while (stream->fd >= 0 && stream->bytes.size <= CHILD_LONGEST_LINE) {
    const ssize_t done = read(stream->fd, bytes, sizeof bytes);
    if (done > 0) {
      if (!buffer_append(&stream->bytes, bytes, (size_t)done, error)) return false;
    } else if (done == 0 || (errno != EINTR && errno != EAGAIN)) {
      close_fd(&stream->fd);
    } else if (errno == EAGAIN) {
      break;
    }
  }
  return true;
}

bool child_exchange(Child *child, double seconds, Error *error) {
  const bool waiting = child->in.taken < child->in.bytes.size && !child->broken;
  struct pollfd set[] = {{.fd = waiting ? child->in.fd : -1, .events = POLLOUT},
                         {.fd = child->out.fd, .events = POLLIN},
                         {.fd = child->err.fd, .events = POLLIN}};
  if (poll(set, 3, (int)(1000 * seconds)) < 0) return true; /* a signal: the caller looks */
  if (waiting) write_some(child);
  return read_some(&child->out, error) && read_some(&child->err, error);
}

bool child_line(ChildStream *stream, size_t most, const char **line, size_t *bytes) {
  size_t left;
  const char *begin = child_rest(stream, &left), *end = left ? memchr(begin, '\n', left) : NULL;
  if (!end && left <= most) return false;
  *line = begin;
  *bytes = end ? (size_t)(end - begin) : left;
  stream->taken += *bytes + (end != NULL);
  if (*bytes > 0 && begin[*bytes - 1] == '\r') --*bytes;
  return true;
}

const char *child_rest(const ChildStream *stream, size_t *bytes) {
  *bytes = stream->bytes.size - stream->taken;
  return *bytes ? stream->bytes.data + stream->taken : "";
}

bool child_is_over(const Child *child) {
  return child->broken || child->out.fd < 0;
}

/* -- standing still --------------------------------------------------------------------------------------- */

void child_pause(Child *child) {
  if (child->pid > 0) child->still = kill(-child->pid, SIGSTOP) == 0;
}

void child_go_on(Child *child) {
  if (child->still) (void)kill(-child->pid, SIGCONT);
  child->still = false;
}

/* -- ending ----------------------------------------------------------------------------------------------- */

/* Whether the program itself has ended within so many seconds; it stays to be waited for, and its number its own. What it says
 * meanwhile is read, or it could not go on. */
static bool ends_within(Child *child, double seconds) {
  const double until = time_monotonic() + seconds;
  Error ignored = {0};
  for (;;) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT | WNOHANG) != 0 || info.si_pid) return true;
    if (time_monotonic() >= until) return false;
    (void)!child_exchange(child, 0, &ignored);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
}

int child_end(Child *child, double patience) {
  int status = -1;
  Error ignored = {0};
  if (child->pid == 0) return -1;
  close_fd(&child->in.fd);
  child_go_on(child); /* or it could not end by itself */
  if (!ends_within(child, patience)) {
    (void)kill(-child->pid, SIGTERM);
    if (!ends_within(child, 2)) (void)kill(-child->pid, SIGKILL);
  }
  (void)ends_within(child, 1);
  (void)kill(-child->pid, SIGKILL); /* what it has started and left behind */
  (void)waitpid(child->pid, &status, 0);
  (void)!child_exchange(child, 0, &ignored);
  close_fd(&child->out.fd);
  close_fd(&child->err.fd);
  child->pid = 0;
  return status;
}

void child_free(Child *child) {
  ASSERT(child->pid == 0);
  buffer_free(&child->in.bytes);
  buffer_free(&child->out.bytes);
  buffer_free(&child->err.bytes);
  *child = (Child){0};
}

void child_status_text(int status, char *out, size_t size) {
  if (status < 0) {
    snprintf(out, size, "status unknown");
  } else if (WIFSIGNALED(status)) {
    snprintf(out, size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    snprintf(out, size, "exit code %d", WEXITSTATUS(status));
  }
}
