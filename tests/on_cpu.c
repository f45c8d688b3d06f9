/* on_cpu [also] PATH COMMAND [ARGUMENT...]: runs the command with the processor's code path of that name (DROVER_CPU), on
 * the CPU backend. Exits with 77, for a skipped test, where this machine has no such path, and where it takes that path by
 * itself, for then the command alone has shown the same; with `also` it runs then too, for a command that does less alone. */
#include "compute/compute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

/* The name of the device that the command alone takes; empty without one. Asked in another process, and before a path is
 * named: oneDNN keeps what it was told first. */
static void own_name(char *name, size_t size) {
  int channel[2];
  name[0] = 0;
  if (pipe(channel) != 0) return;
  const pid_t child = fork();
  if (child == 0) {
    Compute compute;
    Error error = {0};
    if (compute_open(&compute, DEVICE_AUTO, 1, &error))
      dprintf(channel[1], "%s", compute_device_name(&compute));
    _exit(0);
  }
  close(channel[1]);
  const ssize_t length = read(channel[0], name, size - 1);
  name[length > 0 ? length : 0] = 0;
  close(channel[0]);
  if (child > 0) waitpid(child, NULL, 0);
}

int main(int count, char **arguments) {
  const bool also = count > 1 && strcmp(arguments[1], "also") == 0;
  if (also) {
    arguments++;
    count--;
  }
  if (count < 3) {
    fprintf(stderr, "usage: on_cpu [also] PATH COMMAND [ARGUMENT...]\n");
    return ERROR_USAGE;
  }
  char own[256];
  own_name(own, sizeof own);
  setenv("DROVER_CPU", arguments[1], 1);
  setenv("DROVER_TEST_BACKEND", "cpu", 1);
  Compute compute;
  Error error = {0};
  if (!compute_open(&compute, DEVICE_CPU, 1, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return error.code == ERROR_DEVICE ? SKIPPED : (int)error.code;
  }
  const bool shown = !also && strcmp(compute_device_name(&compute), own) == 0;
  compute_close(&compute);
  if (shown) {
    fprintf(stderr, "%s is what is taken here by itself\n", arguments[1]);
    return SKIPPED;
  }
  execvp(arguments[2], arguments + 2);
  perror(arguments[2]);
  return ERROR_FILE;
}
