/* on_cpu PATH COMMAND [ARGUMENT...]: runs the command with the processor's code path of that name (DROVER_CPU), on
 * the CPU backend. Exits with 77, for a skipped test, where this machine has no such path. */
#include "compute/compute.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SKIPPED = 77 };

int main(int count, char **arguments) {
  if (count < 3) {
    fprintf(stderr, "usage: on_cpu PATH COMMAND [ARGUMENT...]\n");
    return ERROR_USAGE;
  }
  setenv("DROVER_CPU", arguments[1], 1);
  setenv("DROVER_TEST_BACKEND", "cpu", 1);
  Compute compute;
  Error error = {0};
  if (!compute_open(&compute, DEVICE_CPU, 1, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return error.code == ERROR_DEVICE ? SKIPPED : (int)error.code;
  }
  compute_close(&compute);
  execv(arguments[2], arguments + 2);
  perror(arguments[2]);
  return ERROR_FILE;
}
